//! Hardware addresses of links.
//!
//! Used through [`crate::ids`]; read from six bytes or from the usual text.

use super::InvalidId;
use super::bytes::parse_hex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The hardware address of a link.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "MacForm", into = "MacForm")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Takes the bytes as they are.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 6] {
        &self.0
    }
}

impl FromStr for MacAddress {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let refused = || InvalidId::new("MAC address", text, "six bytes as in 52:54:00:12:34:56");
        let digits: String = text.split(':').collect();
        let separators = text.len().saturating_sub(digits.len());
        if separators != 5 || !text.split(':').all(|part| part.len() == 2) {
            return Err(refused());
        }
        parse_hex::<6>(&digits.to_ascii_lowercase()).map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Serialize, Deserialize)]
struct MacForm([u8; 6]);

impl From<MacForm> for MacAddress {
    fn from(form: MacForm) -> Self {
        Self(form.0)
    }
}

impl From<MacAddress> for MacForm {
    fn from(mac: MacAddress) -> Self {
        Self(mac.0)
    }
}
