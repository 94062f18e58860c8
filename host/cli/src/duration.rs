//! Lengths of time as people type them: `500ms`, `30s`, `10m`, `1h30m`.

use jiff::SignedDuration;
use std::time::Duration;

/// Reads a length of time that is longer than nothing and shorter than a century.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a length of time such as 500ms, 30s, 10m or 1h30m";
    let read: SignedDuration = text.parse().map_err(|_| EXPECTED.to_owned())?;
    let duration = Duration::try_from(read).map_err(|_| EXPECTED.to_owned())?;
    if duration < Duration::from_millis(1) || duration > MAX {
        return Err(format!("{EXPECTED}, from 1ms to 876000h"));
    }
    Ok(duration)
}

/// Milliseconds of a length of time.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A length of time as one would type it.
pub(crate) fn show(ms: u64) -> String {
    let duration = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    format!("{duration:#}")
}

/// A century: anything longer is a slip of the finger.
const MAX: Duration = Duration::from_secs(876_000 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_people_type_them() {
        for (text, ms_expected) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1ms", 1),
        ] {
            assert_eq!(parse(text).map(ms), Ok(ms_expected), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_nothing_and_the_past_are_refused() {
        for text in ["30", "", "0s", "-5s", "5s ago", "ten", "100us", "900000h", "1d"] {
            assert!(parse(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for text in ["500ms", "30s", "1h30m", "1m1s"] {
            let read = parse(text).map(ms).expect("a length");
            assert_eq!(parse(&show(read)).map(ms), Ok(read));
        }
    }
}
