//! What a name in an inbox means. Pure.
//!
//! Asked by the intake about every entry; a name is whatever a writer chose, bytes that need not be text.

use sha2::{Digest as _, Sha256};

/// What is done with an entry of an inbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Nothing: it is hidden, or marked as not finished.
    PassedOver,
    /// Nothing by itself: a program that requests beside it name.
    Companion,
    /// It is run, and its entries in the outbox have this stem.
    Program(String),
    /// It is read as a request, and its entries in the outbox have this stem.
    Request(String),
}

/// What is done with the entry of this name, or why that is not known.
pub(super) fn kind(name: &[u8]) -> Result<Kind, String> {
    let unfinished = UNFINISHED.iter().any(|end| name.ends_with(end));
    if name.starts_with(b".") || unfinished {
        return Ok(Kind::PassedOver);
    }
    let text = std::str::from_utf8(name).map_err(|_| refused(name))?;
    let (stem, extension) =
        text.split_once('.').map_or((text, None), |(stem, extension)| (stem, Some(extension)));
    if !is_stem(stem) {
        return Err(refused(name));
    }
    match extension {
        None | Some("run") => Ok(Kind::Program(stem.to_owned())),
        Some("json") => Ok(Kind::Request(stem.to_owned())),
        Some(COMPANION) => Ok(Kind::Companion),
        Some(_) => Err(refused(name)),
    }
}

/// What a refusal is called in the outbox: after the entry, where its name is plain, else after its digest.
pub(super) fn label(name: &[u8]) -> String {
    match (kind(name), std::str::from_utf8(name)) {
        (Ok(Kind::Program(stem) | Kind::Request(stem)), _) => stem,
        (_, Ok(text)) if is_label(text) => text.to_owned(),
        _ => {
            let digest = hex::encode(Sha256::digest(name));
            format!("name-{}", digest.get(..16).unwrap_or_default())
        }
    }
}

/// A name as people can read it, whatever it is.
pub(super) fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

/// What the request is called of which an outbox has this entry.
pub(super) fn stem_of(entry: &str) -> Option<&str> {
    [RECEIPT, STDOUT, STDERR].iter().find_map(|end| entry.strip_suffix(end))
}

/// What the refusal is called of which an outbox has this entry.
pub(super) fn label_of(entry: &str) -> Option<&str> {
    [REFUSAL, REFUSED].iter().find_map(|end| entry.strip_suffix(end))
}

fn is_stem(stem: &str) -> bool {
    (1..=STEM_LEN_MAX).contains(&stem.len())
        && stem.bytes().all(|sign| sign.is_ascii_alphanumeric() || sign == b'-' || sign == b'_')
        && !stem.starts_with('-')
}

fn is_label(text: &str) -> bool {
    let is_plain = |sign: u8| sign.is_ascii_alphanumeric() || matches!(sign, b'-' | b'_' | b'.');
    text.len() <= LABEL_LEN_MAX && !text.starts_with('-') && text.bytes().all(is_plain)
}

fn refused(name: &[u8]) -> String {
    format!(
        "the name {:?} is not valid: expected 1 to {STEM_LEN_MAX} of a-z, A-Z, 0-9, '-' and '_', with nothing, .run, .json or .{COMPANION} behind",
        shown(name)
    )
}

/// The extension of programs that only requests beside them start.
pub(super) const COMPANION: &str = "program";
/// What an outbox has of each request, behind its stem.
pub(super) const RECEIPT: &str = ".receipt.json";
pub(super) const STDOUT: &str = ".stdout";
pub(super) const STDERR: &str = ".stderr";
/// What it has of each refusal, behind its label: why, and what was refused.
pub(super) const REFUSAL: &str = ".refused.json";
pub(super) const REFUSED: &str = ".refused";
/// What editors and copying programs put behind the name of a file that is not finished.
const UNFINISHED: [&[u8]; 3] = [b".part", b".tmp", b"~"];
/// Leaves room in a name of 255 bytes for what is put behind it.
const STEM_LEN_MAX: usize = 64;
const LABEL_LEN_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_done_with_an_entry() {
        let program = |stem: &str| Ok(Kind::Program(stem.into()));
        for (name, stem) in [("fix", "fix"), ("fix.run", "fix"), ("Fix_2-b", "Fix_2-b"), ("0", "0")] {
            assert_eq!(kind(name.as_bytes()), program(stem), "{name}");
        }
        assert_eq!(kind(b"fix.json"), Ok(Kind::Request("fix".into())));
        assert_eq!(kind(b"fix.program"), Ok(Kind::Companion));
        let longest = "x".repeat(64);
        assert_eq!(kind(longest.as_bytes()), program(&longest));
    }

    #[test]
    fn hidden_and_unfinished_names_are_passed_over() {
        for name in [".x", ".", "..", ".x.swp", "x.part", "x.run.part", "x.tmp", "x~", "x.json~"] {
            assert_eq!(kind(name.as_bytes()), Ok(Kind::PassedOver), "{name}");
        }
        assert_eq!(kind(b".\xff"), Ok(Kind::PassedOver));
    }

    #[test]
    fn any_other_name_is_refused_in_one_line() {
        let long = "x".repeat(65);
        let names: [&[u8]; 13] = [
            b"a b",
            b"-x",
            b"x.sh",
            b"x.run.json",
            b"x.",
            b"\xff",
            b"x\n",
            "\u{e9}".as_bytes(),
            b"a/b",
            long.as_bytes(),
            b"x.JSON",
            b"a\0b",
            b"x;rm",
        ];
        for name in names {
            let line = kind(name).unwrap_err();
            assert!(line.starts_with("the name \"") && !line.contains('\n') && line.is_ascii(), "{line}");
        }
    }

    #[test]
    fn a_refusal_has_a_name_that_is_safe_and_its_own() {
        assert_eq!(label(b"fix.run"), "fix");
        assert_eq!(label(b"fix.sh"), "fix.sh");
        assert!(label(b"../x").starts_with("name-"));
        assert_ne!(label(b"a b"), label(b"a  b"));
        for name in [&b"a b"[..], b"\xff", b"x\n", &[b'x'; 255]] {
            let label = label(name);
            assert!(is_label(&label), "{label}");
        }
    }

    #[test]
    fn entries_of_an_outbox_tell_their_stem() {
        assert_eq!(stem_of("fix.2.receipt.json"), Some("fix.2"));
        assert_eq!(stem_of("fix.stdout"), Some("fix"));
        assert_eq!((stem_of("notes"), label_of("notes")), (None, None));
        assert_eq!((stem_of("fix.refused.json"), label_of("fix.refused.json")), (None, Some("fix")));
        assert_eq!(label_of("x.sh.refused"), Some("x.sh"));
    }
}
