//! Why somebody asks for something: a reason in words, and the ticket it belongs to.
//!
//! Read by the API from a call's headers or body, kept by the store in each record of the audit trail that the
//! call leads to. Trusts nothing of the texts: they are bounded, and have no control characters.

use crate::config::Config;
use crate::store::StoreError;
use doorbell_wire::ids::ShortText;

/// Why something was asked for, as far as whoever asked said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cause {
    /// In words.
    pub reason: Option<ShortText>,
    /// Where it is written down.
    pub ticket: Option<ShortText>,
}

impl Cause {
    /// Checks both texts. An empty one says nothing.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a text that is too long or has control characters.
    pub fn told(reason: Option<&str>, ticket: Option<&str>) -> Result<Self, StoreError> {
        Ok(Self { reason: checked("reason", reason)?, ticket: checked("ticket", ticket)? })
    }

    /// This, and what `other` says where this does not.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { reason: self.reason.or(other.reason), ticket: self.ticket.or(other.ticket) }
    }

    /// This, where it says as much as the configuration demands.
    ///
    /// # Errors
    /// [`StoreError::Invalid`].
    pub fn demanded(self, config: &Config) -> Result<Self, StoreError> {
        if config.require_reason && self.reason.is_none() {
            return Err(StoreError::invalid(
                "this manager takes no change without a reason (require-reason in its configuration): say why with --reason",
            ));
        }
        Ok(self)
    }
}

fn checked(what: &str, text: Option<&str>) -> Result<Option<ShortText>, StoreError> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    text.map(|text| {
        ShortText::try_from(text.to_owned())
            .map_err(|error| StoreError::invalid(format!("the {what}: {error}")))
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_bounded_and_has_no_control_characters() {
        let told = Cause::told(Some("  a patch, naïvely "), Some("OPS-1")).unwrap();
        assert_eq!(told.reason.as_ref().unwrap().as_str(), "a patch, naïvely");
        assert_eq!(told.ticket.as_ref().unwrap().as_str(), "OPS-1");
        assert_eq!(Cause::told(Some(""), Some("  ")).unwrap(), Cause::default());
        assert!(Cause::told(Some(&"r".repeat(256)), None).is_ok());
        for bad in ["r".repeat(257), "a\nb".into(), "a\u{1b}[31mb".into()] {
            for (reason, ticket, what) in [(Some(&*bad), None, "reason"), (None, Some(&*bad), "ticket")] {
                let line = Cause::told(reason, ticket).unwrap_err().to_string();
                assert!(line.starts_with(&format!("the {what}: ")) && !line.contains('\n'), "{line:?}");
            }
        }
    }

    #[test]
    fn what_is_said_nearer_goes_before_what_is_said_around_it() {
        let near = Cause::told(Some("near"), None).unwrap();
        let around = Cause::told(Some("around"), Some("OPS-1")).unwrap();
        assert_eq!(near.or(around), Cause::told(Some("near"), Some("OPS-1")).unwrap());
    }

    #[test]
    fn a_reason_is_demanded_where_the_configuration_says_so() {
        let demanding = Config { require_reason: true, ..Config::default() };
        assert!(Cause::default().demanded(&Config::default()).is_ok());
        let ticket_alone = Cause::told(None, Some("OPS-1")).unwrap();
        let line = ticket_alone.demanded(&demanding).unwrap_err().to_string();
        assert!(line.contains("--reason"), "{line}");
        assert!(Cause::told(Some("a patch"), None).unwrap().demanded(&demanding).is_ok());
    }
}
