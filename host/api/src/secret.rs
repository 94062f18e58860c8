//! A text that opens something: wiped when it is dropped, and never printed by accident.
//!
//! Held by whoever makes, sends or reads a token. What copies it on its way (a socket's buffer, an HTTP library) is
//! outside of its reach.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// A secret text. It has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone, ToSchema)]
#[schema(value_type = String)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Only an answer that gives the secret away for good has one in it.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed_wherever_it_is_held() {
        let held = Some(vec![Secret::from("dbt_0123_4567".to_owned())]);
        let shown = format!("{held:?} {held:#?}");
        assert!(shown.contains("Secret") && !shown.contains("4567"), "{shown}");
    }
}
