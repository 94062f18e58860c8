//! Patterns of a policy: for one word, for the words of a command, for a path.
//!
//! Used by `rule`. Three signs and no more: `*` is any text within one word or one name of a path, also none; `**` as the
//! last word or name is any further ones, also none; `\` takes the meaning from a `*` or a `\` behind it. A pattern
//! fits a whole word, never a part. What a fit costs is bounded by the length of the pattern times that of the text.

/// A pattern for one word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Word {
    signs: Vec<Sign>,
    text: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sign {
    Is(u8),
    Any,
}

/// A pattern for a list of words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Words {
    front: Vec<Word>,
    further: bool,
}

/// A pattern for an absolute path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathPattern {
    names: Words,
    text: String,
}

impl Word {
    /// Reads one.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(text: &str) -> Result<Self, String> {
        let (mut signs, mut escaped) = (Vec::new(), false);
        for byte in text.bytes() {
            match byte {
                b'*' | b'\\' if escaped => signs.push(Sign::Is(byte)),
                _ if escaped => return Err(format!(r"{text:?}: behind \ stands * or \ and nothing else")),
                b'*' if signs.last() == Some(&Sign::Any) => {
                    return Err(format!("{text:?}: ** stands alone, as the last one"));
                }
                b'*' => signs.push(Sign::Any),
                b'\\' => {}
                _ => signs.push(Sign::Is(byte)),
            }
            escaped = byte == b'\\' && !escaped;
        }
        if escaped {
            return Err(format!(r"{text:?}: nothing stands behind its last \"));
        }
        Ok(Self { signs, text: text.to_owned() })
    }

    /// Whether it fits all of a text.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        fits(&self.signs, text.as_bytes()).0
    }

    /// The one text that it fits, if it is one.
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        let bytes: Option<Vec<u8>> = self.signs.iter().map(|sign| sign.byte()).collect();
        bytes.and_then(|bytes| String::from_utf8(bytes).ok())
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Sign {
    const fn byte(self) -> Option<u8> {
        match self {
            Self::Is(byte) => Some(byte),
            Self::Any => None,
        }
    }
}

impl Words {
    /// Reads a list of patterns, the last of which can be `**`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read<T: AsRef<str>>(texts: &[T]) -> Result<Self, String> {
        let (front, further) = match texts.split_last() {
            Some((last, front)) if last.as_ref() == "**" => (front, true),
            _ => (texts, false),
        };
        let front = front.iter().map(|text| Word::read(text.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { front, further })
    }

    /// Whether it fits these words: each its own, and as many.
    #[must_use]
    pub fn fits<T: AsRef<str>>(&self, words: &[T]) -> bool {
        let as_many =
            if self.further { words.len() >= self.front.len() } else { words.len() == self.front.len() };
        as_many && self.front.iter().zip(words).all(|(pattern, word)| pattern.fits(word.as_ref()))
    }

    /// The pattern of the first word.
    #[must_use]
    pub fn first(&self) -> Option<&Word> {
        self.front.first()
    }

    /// Whether it fits one list of words and no other.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.further && self.front.iter().all(|word| word.literal().is_some())
    }

    /// The words as they were written.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.front.iter().map(Word::as_str).chain(self.further.then_some("**"))
    }
}

impl PathPattern {
    /// Reads one: an absolute path, with no name that is empty, `.` or `..`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or_else(|| format!("{text:?}: a path begins with /"))?;
        let names: Vec<&str> = if rest.is_empty() { Vec::new() } else { rest.split('/').collect() };
        if names.iter().any(|name| matches!(*name, "" | "." | "..")) {
            return Err(format!("{text:?}: a path has no name that is empty, . or .., and no / at its end"));
        }
        Ok(Self { names: Words::read(&names)?, text: text.to_owned() })
    }

    /// Whether it fits this absolute path.
    #[must_use]
    pub fn fits(&self, path: &str) -> bool {
        self.names.fits(&names(path))
    }

    /// Whether it fits this path or something beneath it: whoever has a tree has what is in it.
    #[must_use]
    pub fn meets(&self, path: &str) -> bool {
        let names = names(path);
        let front = self.names.front.iter().zip(&names).all(|(pattern, name)| pattern.fits(name));
        front && (names.len() <= self.names.front.len() || self.names.further)
    }

    /// The names at its front that are no patterns.
    #[must_use]
    pub fn literal_front(&self) -> Vec<String> {
        self.names.front.iter().map_while(Word::literal).collect()
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn names(path: &str) -> Vec<&str> {
    path.split('/').filter(|name| !name.is_empty()).collect()
}

/// Whether a pattern fits all of a text, and in how many steps. Goes back to the last `*` only.
fn fits(pattern: &[Sign], text: &[u8]) -> (bool, usize) {
    let (mut at, mut read, mut star, mut steps) = (0_usize, 0_usize, None, 0_usize);
    while let Some(byte) = text.get(read) {
        steps = steps.saturating_add(1);
        match (pattern.get(at), star) {
            (Some(Sign::Any), _) => {
                star = Some((at, read));
                at = at.saturating_add(1);
            }
            (Some(Sign::Is(sign)), _) if sign == byte => {
                at = at.saturating_add(1);
                read = read.saturating_add(1);
            }
            (_, Some((star_at, from))) => {
                let from: usize = from;
                star = Some((star_at, from.saturating_add(1)));
                at = star_at.saturating_add(1);
                read = from.saturating_add(1);
            }
            (_, None) => return (false, steps),
        }
    }
    let rest = pattern.get(at..).unwrap_or_default();
    (rest.iter().all(|sign| *sign == Sign::Any), steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(pattern: &str, text: &str) -> bool {
        Word::read(pattern).unwrap().fits(text)
    }

    #[test]
    fn a_star_is_any_text_within_one_word() {
        for (pattern, text) in [
            ("", ""),
            ("a", "a"),
            ("*", ""),
            ("*", "a b"),
            ("a*c", "ac"),
            ("a*c", "abcbc"),
            ("*.service", "nginx.service"),
            ("a*b*c", "a-bb-c"),
            (r"\*", "*"),
            (r"a\\*", r"a\b"),
            ("é*", "été"),
        ] {
            assert!(word(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", "ab"),
            ("a", "A"),
            ("a*c", "abcd"),
            ("*.service", "nginx.service.d"),
            (r"\*", "a"),
            ("a*b*c", "acb"),
        ] {
            assert!(!word(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in ["**", "a**", r"\", r"a\", r"\n", r"*\"] {
            assert!(Word::read(wrong).is_err(), "{wrong}");
        }
        assert!(Words::read(&["**", "a"]).is_err());
        for wrong in ["", "etc", "//", "/etc/", "/etc/..", "/./etc", "/**/x", "/etc//x"] {
            assert!(PathPattern::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_stars_are_any_further_words_and_none_is_any() {
        let words = Words::read(&["systemctl", "restart", "**"]).unwrap();
        assert!(words.fits(&["systemctl", "restart"]) && words.fits(&["systemctl", "restart", "a", "b"]));
        assert!(!words.fits(&["systemctl"]) && !words.fits(&["systemctl", "stop"]));
        let words = Words::read(&["true"]).unwrap();
        assert!(words.fits(&["true"]) && !words.fits(&["true", ""]));
        assert!(Words::read(&["**"]).unwrap().fits::<&str>(&[]));
        assert!(words.is_literal() && !Words::read(&["true", "**"]).unwrap().is_literal());
    }

    #[test]
    fn a_path_is_fitted_name_by_name() {
        let fits = |pattern, path| PathPattern::read(pattern).unwrap().fits(path);
        assert!(fits("/srv/**", "/srv/a/b") && fits("/srv/**", "/srv") && fits("/home/*/x", "/home/ann/x"));
        assert!(!fits("/srv/**", "/srvx") && !fits("/home/*/x", "/home/a/b/x") && !fits("/srv/*", "/srv"));
        assert!(fits("/", "/") && fits("/**", "/etc/shadow"));
    }

    #[test]
    fn a_tree_meets_what_is_in_it() {
        let meets = |pattern, path| PathPattern::read(pattern).unwrap().meets(path);
        assert!(
            meets("/etc/shadow", "/") && meets("/etc/shadow", "/etc") && meets("/etc/shadow", "/etc/shadow")
        );
        assert!(meets("/etc/**", "/etc/a/b") && meets("/home/*/x", "/home/ann"));
        assert!(!meets("/etc/shadow", "/etc/shadow/x") && !meets("/etc/shadow", "/srv"));
    }

    #[test]
    fn a_pattern_costs_no_more_than_its_length_times_that_of_the_text() {
        let pattern = Word::read(&format!("{}b", "*a".repeat(200))).unwrap();
        let text = "a".repeat(2_000);
        let (found, steps) = fits(&pattern.signs, text.as_bytes());
        assert!(!found);
        assert!(steps <= pattern.signs.len() * text.len(), "{steps} steps");
    }

    proptest! {
        #[test]
        fn a_pattern_fits_as_all_ways_of_reading_it_say(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let Ok(word) = Word::read(&pattern) else { return Ok(()) };
            prop_assert_eq!(word.fits(&text), by_all_ways(pattern.as_bytes(), text.as_bytes()));
            let (_, steps) = fits(&word.signs, text.as_bytes());
            prop_assert!(steps <= (pattern.len() + 1) * (text.len() + 1));
        }
    }

    fn by_all_ways(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| by_all_ways(rest, &text[at..])),
            Some((sign, rest)) => {
                text.split_first().is_some_and(|(byte, behind)| byte == sign && by_all_ways(rest, behind))
            }
        }
    }
}
