//! Names, paths and short texts: what a peer may write and a person reads.
//!
//! Used through [`crate::ids`]. Each type's check is the one place that says what is allowed.

use super::InvalidId;
use crate::limits::{LINK_NAME_LEN_MAX, NAME_LEN_MAX, PATH_LEN_MAX, TEXT_LEN_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $check;
                if valid(&text) { Ok(Self(text)) } else { Err(InvalidId::new($what, &text, $expected)) }
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// What an operator calls a guest: shaped like a host name, so that it is safe in paths, tables and URLs.
    GuestName, "guest name",
    "1 to 63 of a-z, 0-9, '-' and '.', starting and ending with a letter or digit",
    |text| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        text.len() <= NAME_LEN_MAX
            && text.starts_with(plain)
            && text.ends_with(plain)
            && text.chars().all(|c| plain(c) || c == '-' || c == '.')
    }
}
text_id! {
    /// The name of a network interface as the kernel accepts it.
    LinkName, "link name",
    "1 to 15 bytes without '/', ':', white space or control characters, and not '.' or '..'",
    |text| {
        (1..=LINK_NAME_LEN_MAX).contains(&text.len())
            && text != "."
            && text != ".."
            && !text.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
    }
}
text_id! {
    /// A short text for people: a version, the text of a rule.
    ShortText, "text", "at most 256 bytes without control characters",
    |text| text.len() <= TEXT_LEN_MAX && !text.chars().any(char::is_control)
}
impl ShortText {
    /// The front of a text, as far as it is short; what controls a terminal is left out.
    #[must_use]
    pub fn front(text: &str) -> Self {
        let mut front = String::new();
        for sign in text.chars().filter(|sign| !sign.is_control()) {
            if front.len().saturating_add(sign.len_utf8()) > TEXT_LEN_MAX {
                break;
            }
            front.push(sign);
        }
        Self(front)
    }
}
text_id! {
    /// An absolute path in the guest.
    GuestPath, "path", "an absolute path of at most 4095 bytes without NUL",
    |text| text.starts_with('/') && text.len() <= PATH_LEN_MAX && !text.contains('\0')
}
