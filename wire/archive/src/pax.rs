//! Extended records: names and numbers that do not fit a header.
//!
//! Called by `pack`, which writes them, and `read`, which puts them into the entry behind. A value may hold any
//! byte, line ends too: its length is what counts.

use crate::error::UnpackError;
use crate::header::cut;

/// What the records in front of an entry say of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Records {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mtime: Option<u64>,
    /// The contents are a map of a sparse file, which only its writer's program reads.
    pub(crate) is_map: bool,
}

impl Records {
    /// Reads the records of one extension; later ones win.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<(), UnpackError> {
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(MALFORMED)?;
            self.set(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        let number = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        let small = || number().and_then(|number| u32::try_from(number).ok());
        match key {
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.link = Some(name(value)?),
            b"size" => self.size = Some(number().ok_or(MALFORMED)?),
            b"uid" => self.uid = Some(small().ok_or(MALFORMED)?),
            b"gid" => self.gid = Some(small().ok_or(MALFORMED)?),
            // Parts of seconds are cut; times before 1970 are no number here, and no harm.
            b"mtime" => {
                let whole = value.split(|&byte| byte == b'.').next().unwrap_or_default();
                self.mtime = std::str::from_utf8(whole).ok().and_then(|text| text.parse().ok());
            }
            key if key.starts_with(b"GNU.sparse.") => self.is_map = true,
            _ => {}
        }
        Ok(())
    }
}

/// Appends a record: its own length in decimal, a blank, `key=value`, a line end.
pub(crate) fn write(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len().saturating_add(value.len()).saturating_add(3);
    let mut len = rest;
    // The length counts its own digits: another digit may make it longer once more, and then it stands.
    for _ in 0..3 {
        len = rest.saturating_add(len.to_string().len());
    }
    records.extend_from_slice(format!("{len} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// A name with a NUL in it is two names to two readers.
fn name(value: &[u8]) -> Result<Vec<u8>, UnpackError> {
    if cut(value).len() == value.len() { Ok(value.to_vec()) } else { Err(MALFORMED) }
}

/// Key and value of the first record, and what is behind it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|&byte| byte == b' ')?;
    let digits = std::str::from_utf8(bytes.get(..blank)?).ok()?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let len: usize = digits.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(len)?;
    let record = record.get(blank.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((record.get(..equals)?, record.get(equals.checked_add(1)?..)?, rest))
}

const MALFORMED: UnpackError = UnpackError::Malformed("an extended header that cannot be read");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written_whatever_is_in_them() {
        for len in 0..300 {
            let path = vec![b'\n'; len];
            let mut bytes = Vec::new();
            write(&mut bytes, "path", &path);
            write(&mut bytes, "size", b"17");
            let mut records = Records::default();
            records.read(&bytes).unwrap();
            assert_eq!((records.path, records.size), (Some(path), Some(17)), "{len}");
        }
    }

    #[test]
    fn records_that_do_not_add_up_are_refused() {
        for wrong in [
            "5 a=b\n",
            "7 a=b\n",
            "6 a=b",
            "+6 a=b\n",
            " a=b\n",
            "6 abc\n",
            "0 \n",
            "2 ",
            "10 size=-1\n",
            "9 size=x\n",
            "99999999999999999999999 a=b\n",
            "10 path=a\0\n",
        ] {
            assert!(Records::default().read(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        let mut records = Records::default();
        records.read(b"6 a=b\n19 mtime=1700.0625\n22 GNU.sparse.major=1\n").unwrap();
        assert_eq!(records, Records { mtime: Some(1700), is_map: true, ..Records::default() });
    }
}
