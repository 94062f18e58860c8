//! Texts of others, shown without their power: what moves a cursor, ends a line or turns the reading direction stands
//! escaped.
//!
//! Called by whatever shows a text to people: both logs, the command line, the trail's export. Trusts no text.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Whether a sign is not to reach a terminal as it is: a control character, or one that has no width or changes the
/// direction, so that a text is not what it looks like.
#[must_use]
pub const fn is_harmful(sign: char) -> bool {
    matches!(sign, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A value whose text is escaped as it is written: `\u{1b}`, `\n`.
#[derive(Clone, Copy)]
pub struct Plain<T>(pub T);

impl<T: fmt::Display> fmt::Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

impl<T: fmt::Debug> fmt::Debug for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{:?}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(is_harmful) {
            let last = piece.chars().next_back().filter(|&sign| is_harmful(sign));
            let front = piece.len().saturating_sub(last.map_or(0, char::len_utf8));
            self.0.write_str(piece.get(..front).unwrap_or_default())?;
            last.map_or(Ok(()), |sign| write!(self.0, "{}", sign.escape_default()))?;
        }
        Ok(())
    }
}

/// A JSON document that is the same to whoever reads it as JSON, and harmless to a terminal. The control characters
/// of ASCII are left alone: JSON has them escaped in texts, and between values they are the layout.
#[must_use]
pub fn json(document: &str) -> Cow<'_, str> {
    let harmful = |sign| sign >= '\x7f' && is_harmful(sign);
    if !document.contains(harmful) {
        return Cow::Borrowed(document);
    }
    let mut text = String::with_capacity(document.len());
    for sign in document.chars() {
        if harmful(sign) {
            // All of them are of one UTF-16 unit; a text takes what is written to it.
            let _ = write!(text, "\\u{:04x}", u32::from(sign));
        } else {
            text.push(sign);
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\x1b[2J\x1b]52;c;eA==\x07\u{9b}31m\u{202e}b\u{2066}\n\0\x7fü<script>";

    #[test]
    fn what_commands_a_terminal_is_escaped_and_all_else_is_left() {
        let plain = Plain(HOSTILE).to_string();
        assert_eq!(
            plain,
            "a\\u{1b}[2J\\u{1b}]52;c;eA==\\u{7}\\u{9b}31m\\u{202e}b\\u{2066}\\n\\u{0}\\u{7f}ü<script>"
        );
        assert_eq!(format!("{:?}", Plain(format_args!("{HOSTILE}"))), plain);
        assert_eq!(Plain("grün\u{e9}").to_string(), "grün\u{e9}");
    }

    #[test]
    fn every_control_character_and_every_sign_of_direction_is_harmful() {
        let all = (0..=0x3000).filter_map(char::from_u32);
        let missed: Vec<char> = all.filter(|sign| sign.is_control() && !is_harmful(*sign)).collect();
        assert_eq!(missed, Vec::<char>::new());
        for sign in ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}') {
            assert!(is_harmful(sign), "{sign:?}");
        }
    }

    #[test]
    fn a_json_document_is_harmless_and_says_the_same() {
        let document = serde_json::to_string_pretty(&[HOSTILE]).unwrap();
        let shown = json(&document);
        assert!(!shown.contains(|sign| sign != '\n' && is_harmful(sign)), "{shown}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [HOSTILE]);
        assert_eq!(json("{\n}"), "{\n}");
    }
}
