//! Numbers of bytes as people type and read them: `64M`, `1.5 GiB`. A letter means a power of 1024.

use std::fmt::Write as _;

/// Reads a number of bytes, more than none.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a number of bytes such as 4096, 512K, 64M or 2G";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_uppercase();
    let unit = unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(EXPECTED.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| EXPECTED.to_owned())?;
    let bytes = number.checked_mul(1 << power).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| format!("{EXPECTED}, more than 0 and below 16 million T"))
}

/// A number of bytes with one decimal, where that is not the number itself.
pub(crate) fn show(bytes: u64) -> String {
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit).unwrap_or((1, "bytes"));
    let whole = bytes.checked_div(unit).unwrap_or(bytes);
    let rest = bytes.checked_rem(unit).unwrap_or(0);
    // Cut, never rounded up: a peak below its limit must not read as the limit.
    let tenth = u128::from(rest).saturating_mul(10).checked_div(u128::from(unit)).unwrap_or(0);
    let mut text = whole.to_string();
    if rest > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, ".{tenth}");
    }
    format!("{text} {name}")
}

const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_type_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("512K", 512 << 10),
            ("64M", 64 << 20),
            ("2g", 2 << 30),
            ("1MiB", 1 << 20),
            ("8 kB", 8 << 10),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "M", "-1", "1.5M", "64X", "99999999999T", "1 0"] {
            assert!(parse(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn a_size_is_shown_shorter_and_never_larger() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (32 << 20, "32 MiB"),
            ((32 << 20) - 1, "31.9 MiB"),
            (3 << 29, "1.5 GiB"),
        ] {
            assert_eq!(show(bytes), text);
        }
    }
}
