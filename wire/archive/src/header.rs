//! The 512 bytes in front of each entry, both ways.
//!
//! Called by `pack` and `read`. Trusts nothing it reads: every number is checked, and a checksum that does not
//! fit ends the archive.

use crate::error::UnpackError;

/// Bytes of a header, and what contents are padded to.
pub(crate) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    HardLink,
    Device,
    Other,
}

/// What comes in front of an entry and speaks of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Extension {
    Pax,
    PaxGlobal,
    GnuName,
    GnuLink,
}

/// What a header says, before long names and large numbers from extensions are put in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Fields {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) flag: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: u64,
    pub(crate) user: Vec<u8>,
    pub(crate) group: Vec<u8>,
}

/// Where a field stands.
#[derive(Clone, Copy)]
struct Field {
    at: usize,
    len: usize,
}

const NAME: Field = Field { at: 0, len: 100 };
const MODE: Field = Field { at: 100, len: 8 };
const UID: Field = Field { at: 108, len: 8 };
const GID: Field = Field { at: 116, len: 8 };
const SIZE: Field = Field { at: 124, len: 12 };
const MTIME: Field = Field { at: 136, len: 12 };
const CHECKSUM: Field = Field { at: 148, len: 8 };
const FLAG: Field = Field { at: 156, len: 1 };
const LINK: Field = Field { at: 157, len: 100 };
const MAGIC: Field = Field { at: 257, len: 8 };
const USER: Field = Field { at: 265, len: 32 };
const GROUP: Field = Field { at: 297, len: 32 };
const PREFIX: Field = Field { at: 345, len: 155 };

/// Bytes of a name that a header holds itself.
pub(crate) const NAME_MAX: usize = NAME.len;
/// The largest size that a header holds itself: 8 GiB less one.
pub(crate) const SIZE_MAX: u64 = 0o777_7777_7777;
/// The largest number of a user or group that a header holds itself.
pub(crate) const ID_MAX: u32 = 0o777_7777;

/// Type flags that this project writes.
pub(crate) mod flag {
    pub(crate) const FILE: u8 = b'0';
    pub(crate) const LINK: u8 = b'2';
    pub(crate) const DIRECTORY: u8 = b'5';
    pub(crate) const PAX: u8 = b'x';
}

impl Fields {
    pub(crate) fn kind(&self) -> Kind {
        match self.flag {
            // Before there was a flag for directories, a name told of one by its end.
            0 if self.name.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Link,
            b'3' | b'4' | b'6' => Kind::Device,
            b'5' => Kind::Directory,
            _ => Kind::Other,
        }
    }

    pub(crate) const fn extension(&self) -> Option<Extension> {
        match self.flag {
            b'x' => Some(Extension::Pax),
            b'g' => Some(Extension::PaxGlobal),
            b'L' => Some(Extension::GnuName),
            b'K' => Some(Extension::GnuLink),
            _ => None,
        }
    }

    /// The header; what does not fit its field is cut, an extension in front holds the whole.
    pub(crate) fn to_block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block, NAME, &self.name);
        put_octal(&mut block, MODE, u64::from(self.mode & 0o7777));
        put_octal(&mut block, UID, u64::from(self.uid));
        put_octal(&mut block, GID, u64::from(self.gid));
        put_octal(&mut block, SIZE, self.size);
        put_octal(&mut block, MTIME, self.mtime);
        put(&mut block, CHECKSUM, b"        ");
        put(&mut block, FLAG, &[self.flag]);
        put(&mut block, LINK, &self.link);
        put(&mut block, MAGIC, b"ustar\x0000");
        put(&mut block, USER, text(&self.user));
        put(&mut block, GROUP, text(&self.group));
        let sum = sum(&block);
        put(&mut block, CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        block
    }

    /// Reads a header.
    pub(crate) fn from_block(block: &[u8; BLOCK]) -> Result<Self, UnpackError> {
        let found =
            number(get(block, CHECKSUM)).ok_or(UnpackError::Malformed("a header without a checksum"))?;
        if found != sum(block) {
            return Err(UnpackError::Malformed("a header whose checksum does not fit"));
        }
        let mut name = cut(get(block, NAME)).to_vec();
        let prefix = cut(get(block, PREFIX));
        if get(block, MAGIC).starts_with(b"ustar\0") && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let small = |field, what| {
            let found = number(get(block, field)).and_then(|found| u32::try_from(found).ok());
            found.ok_or(UnpackError::Malformed(what))
        };
        Ok(Self {
            name,
            link: cut(get(block, LINK)).to_vec(),
            flag: get(block, FLAG).first().copied().unwrap_or_default(),
            mode: small(MODE, "a mode that is no number")?,
            uid: small(UID, "an owner that is no number")?,
            gid: small(GID, "a group that is no number")?,
            size: number(get(block, SIZE)).ok_or(UnpackError::Malformed("a size that is no number"))?,
            // Times before 1970 are no number here, and no harm.
            mtime: number(get(block, MTIME)).unwrap_or_default(),
            user: cut(get(block, USER)).to_vec(),
            group: cut(get(block, GROUP)).to_vec(),
        })
    }
}

/// A user's name that leaves room for the field's final NUL; a longer one is left out.
fn text(name: &[u8]) -> &[u8] {
    if name.len() < USER.len { name } else { b"" }
}

fn put(block: &mut [u8; BLOCK], field: Field, bytes: &[u8]) {
    let place = block.get_mut(field.at..).unwrap_or_default().iter_mut().take(field.len);
    place.zip(bytes).for_each(|(place, byte)| *place = *byte);
}

/// A number that is too large for its field is 0 there.
fn put_octal(block: &mut [u8; BLOCK], field: Field, number: u64) {
    let digits = field.len.saturating_sub(1);
    let text = format!("{number:0digits$o}");
    put(block, field, if text.len() > digits { b"0" } else { text.as_bytes() });
}

fn get(block: &[u8; BLOCK], field: Field) -> &[u8] {
    block.get(field.at..field.at.saturating_add(field.len)).unwrap_or_default()
}

/// Up to the first NUL.
pub(crate) fn cut(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn number(bytes: &[u8]) -> Option<u64> {
    match bytes.split_first()? {
        // Large numbers as GNU has them: the rest of the field is the number itself.
        (&first @ 0x80..=0xbf, rest) => rest.iter().try_fold(u64::from(first & 0x3f), |sum, &byte| {
            Some(sum.checked_mul(256)?.saturating_add(u64::from(byte)))
        }),
        (0xc0.., _) => None,
        _ => octal(bytes),
    }
}

fn octal(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(cut(bytes)).ok()?.trim_matches(' ');
    if text.is_empty() {
        return Some(0);
    }
    // A sign is not a digit.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| u64::from_str_radix(text, 8).ok())?
}

fn sum(block: &[u8; BLOCK]) -> u64 {
    let inside = CHECKSUM.at..CHECKSUM.at.saturating_add(CHECKSUM.len);
    let byte = |(at, &byte): (usize, &u8)| u64::from(if inside.contains(&at) { b' ' } else { byte });
    block.iter().enumerate().map(byte).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields {
            name: b"top/a".to_vec(),
            link: b"b".to_vec(),
            flag: flag::FILE,
            mode: 0o4755,
            uid: ID_MAX,
            gid: 1000,
            size: SIZE_MAX,
            mtime: 1_700_000_000,
            user: b"anna".to_vec(),
            group: b"staff".to_vec(),
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let fields = fields();
        assert_eq!(Fields::from_block(&fields.to_block()).unwrap(), fields);
    }

    #[test]
    fn one_flipped_bit_anywhere_is_seen() {
        let block = fields().to_block();
        for at in 0..BLOCK {
            let mut bent = block;
            bent[at] ^= 1;
            // Only what stands behind the end of the checksum itself is covered by nothing.
            let covered = at != 155;
            assert_eq!(Fields::from_block(&bent).is_err(), covered, "byte {at}");
        }
    }

    #[test]
    fn numbers_in_both_notations() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(8 << 30));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b"\x80\x01\0\0\0\0\0\0\0\0\0\0"), None, "2^80");
        for wrong in
            [b"+0000644".as_slice(), b"-0000644", b"0000648\0", b"0x1\0", b"77777777777777777777777777"]
        {
            assert_eq!(number(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_name_in_two_parts_is_put_together_for_ustar_only() {
        let mut block = fields().to_block();
        put(&mut block, PREFIX, b"front");
        let seal = |block: &mut [u8; BLOCK]| {
            let sum = sum(block);
            put(block, CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        };
        seal(&mut block);
        assert_eq!(Fields::from_block(&block).unwrap().name, b"front/top/a");
        put(&mut block, MAGIC, b"ustar  \0");
        seal(&mut block);
        assert_eq!(Fields::from_block(&block).unwrap().name, b"top/a");
    }
}
