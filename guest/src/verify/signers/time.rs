//! Times in a file of allowed signers.
//!
//! Called for the options of a line. Only UTC is read.

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, then `Z`: seconds since the Unix epoch.
pub(super) fn time(text: &str) -> Result<u64, &'static str> {
    let digits =
        text.strip_suffix(['Z', 'z']).ok_or("a time without Z means another moment in each time zone")?;
    let wrong = "a time is not YYYYMMDD[HHMM[SS]]Z";
    if ![8, 12, 14].contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong);
    }
    let part = |from: usize, len: usize| {
        digits
            .get(from..from.saturating_add(len))
            .map_or(Ok(0), |part| part.parse::<u64>().map_err(|_| wrong))
    };
    let (year, month, day) = (part(0, 4)?, part(4, 2)?, part(6, 2)?);
    let (hour, minute, second) = (part(8, 2)?, part(10, 2)?, part(12, 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return Err(wrong),
    };
    if year < 1970 || !(1..=longest).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return Err(wrong);
    }
    // Years begin in March here, so that a leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Ok(days * 86_400 + hour * 3_600 + minute * 60 + second)
}
