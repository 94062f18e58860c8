//! What is typed under `--pty`, on its way to the program: all of it, but for the way out, `~.` at the start of a line.
//!
//! Called by `feed`. As ssh has it, so that fingers know it: `~~` at the start of a line is one `~`.

/// How to get out, for the help.
pub(crate) const HOW: &str = "`~.` at the start of a line (`~~` is one `~`)";

/// Where in a line we are.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Keys {
    LineStart,
    /// Behind a `~` at the start of a line, which is held back.
    Tilde,
    InLine,
}

/// What came of some keys.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Typed {
    /// What the program gets.
    pub(crate) bytes: Vec<u8>,
    /// Whether the user wants out.
    pub(crate) leave: bool,
}

impl Keys {
    pub(crate) fn pass(&mut self, typed: &[u8]) -> Typed {
        let mut bytes = Vec::with_capacity(typed.len());
        for &key in typed {
            match (&self, key) {
                (Self::Tilde, b'.') => return Typed { bytes, leave: true },
                (Self::LineStart, b'~') => {
                    *self = Self::Tilde;
                    continue;
                }
                // The one that was held back is the one that is meant.
                (Self::Tilde, b'~') => {}
                (Self::Tilde, _) => bytes.push(b'~'),
                (Self::LineStart | Self::InLine, _) => {}
            }
            bytes.push(key);
            *self = if matches!(key, b'\r' | b'\n') { Self::LineStart } else { Self::InLine };
        }
        Typed { bytes, leave: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(pieces: &[&str]) -> (String, bool) {
        let mut keys = Keys::LineStart;
        let mut all = Vec::new();
        for piece in pieces {
            let Typed { bytes, leave } = keys.pass(piece.as_bytes());
            all.extend(bytes);
            if leave {
                return (String::from_utf8(all).expect("text"), true);
            }
        }
        (String::from_utf8(all).expect("text"), false)
    }

    #[test]
    fn only_a_tilde_and_a_dot_at_the_start_of_a_line_lead_out() {
        for (pieces, passed, leave) in [
            (&["~."][..], "", true),
            (&["ls\r~", "."], "ls\r", true),
            (&["a~."], "a~.", false),
            (&["~~."], "~.", false),
            (&["~", "x."], "~x.", false),
            (&["~\r~."], "~\r", true),
            (&["~/bin\r"], "~/bin\r", false),
            (&["\u{3}\u{1a}\u{1d}"], "\u{3}\u{1a}\u{1d}", false),
        ] {
            assert_eq!(typed(pieces), (passed.to_owned(), leave), "{pieces:?}");
        }
    }
}
