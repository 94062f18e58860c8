//! How long and how much is kept: ages such as `90d` and sizes such as `32G`, as the configuration has them.
//!
//! Read by `config`; `retention` goes by what comes of them. Each says in its error what would have been right.

use serde::{Deserialize, Serialize};
use std::fmt;

/// For how long something is kept.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Age(Bound);

/// How many bytes of something are kept.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(Bound);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bound {
    /// As many milliseconds or bytes.
    At(u64),
    /// Nothing is ever removed for it.
    None,
    /// What holds when nothing is said.
    Default,
}

impl Age {
    /// So many days.
    #[must_use]
    pub const fn days(days: u64) -> Self {
        Self(Bound::At(days.saturating_mul(DAY_MS)))
    }

    /// Milliseconds; `None` is for ever.
    #[must_use]
    pub const fn ms(self) -> Option<u64> {
        self.0.get()
    }

    /// This, or `default` where the file left it to that.
    #[must_use]
    pub const fn or(self, default: Self) -> Self {
        if matches!(self.0, Bound::Default) { default } else { self }
    }
}

impl Size {
    /// So many GiB.
    #[must_use]
    pub const fn gib(gib: u64) -> Self {
        Self(Bound::At(gib.saturating_mul(1 << 30)))
    }

    /// Bytes; `None` is without a bound.
    #[must_use]
    pub const fn bytes(self) -> Option<u64> {
        self.0.get()
    }

    /// This, or `default` where the file left it to that.
    #[must_use]
    pub const fn or(self, default: Self) -> Self {
        if matches!(self.0, Bound::Default) { default } else { self }
    }
}

impl Bound {
    const fn get(self) -> Option<u64> {
        match self {
            Self::At(value) => Some(value),
            Self::None | Self::Default => None,
        }
    }

    fn read(text: &str, units: &[(&str, u64)], expected: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not valid: expected {expected}, \"0\" for the default or \"forever\"");
        match text {
            "0" => return Ok(Self::Default),
            FOREVER => return Ok(Self::None),
            _ => {}
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
        // Behind a signed number no clock and no disk ever comes.
        let value = value.filter(|value| *value > 0 && i64::try_from(*value).is_ok());
        value.map(Self::At).ok_or_else(wrong)
    }

    fn show(self, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self {
            Self::None => return f.write_str(FOREVER),
            Self::Default => return f.write_str("0"),
            Self::At(value) => value,
        };
        let whole = |(_, factor): &&(&str, u64)| value.checked_rem(*factor) == Some(0);
        let (unit, factor) = units.iter().find(whole).copied().unwrap_or(("", 1));
        write!(f, "{}{unit}", value.checked_div(factor).unwrap_or(value))
    }
}

impl TryFrom<String> for Age {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Bound::read(&text, &AGES, "a length of time such as \"12h\" or \"90d\"").map(Self)
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Bound::read(&text, &SIZES, "a number of bytes such as \"512M\" or \"32G\"").map(Self)
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(&AGES, f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(&SIZES, f)
    }
}

impl From<Age> for String {
    fn from(age: Age) -> Self {
        age.to_string()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

const FOREVER: &str = "forever";
const DAY_MS: u64 = 86_400_000;
/// Largest first, so that a value is shown in the largest unit that it is a whole number of.
const AGES: [(&str, u64); 6] =
    [("y", 365 * DAY_MS), ("d", DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZES: [(&str, u64); 5] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("", 1)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown_as_it_is_typed() {
        for text in ["90d", "5y", "36h", "45s", "1500ms", "forever", "0"] {
            assert_eq!(Age::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for text in ["32G", "1T", "1536K", "1000", "forever", "0"] {
            assert_eq!(Size::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        assert_eq!(Age::try_from("2d".to_owned()).unwrap(), Age::days(2));
        assert_eq!(Age::days(2).ms(), Some(172_800_000));
        assert_eq!(Size::gib(1).bytes(), Some(1 << 30));
    }

    #[test]
    fn what_is_no_age_and_no_size_is_refused_with_what_would_be() {
        for text in ["", "90", "d", "-1d", "1.5d", "0d", "90 d", "1w", "9999999999999y"] {
            let error = Age::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains("expected a length of time such as"), "{error}");
        }
        for text in ["", "G", "-1", "1X", "0G", "32GiB", "99999999999T"] {
            let error = Size::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains("expected a number of bytes such as"), "{error}");
        }
    }

    #[test]
    fn what_the_file_leaves_open_is_the_default() {
        let open = Age::try_from("0".to_owned()).unwrap();
        assert_eq!(open.or(Age::days(3)), Age::days(3));
        let forever = Age::try_from("forever".to_owned()).unwrap();
        assert_eq!(forever.or(Age::days(3)).ms(), None);
    }
}
