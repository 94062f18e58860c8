//! Output inside a JSON document: the beginning of it, as text where it is text.
//!
//! Called by `follow` under `--json`. A document is read whole by whoever reads it, so it has a bound.

use base64ct::{Base64, Encoding as _};
use serde::Serialize;

/// What a stream gave, as far as it was kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    bytes: Vec<u8>,
    seen: u64,
}

/// The same as the document shows it: `text` where the bytes are UTF-8, else `base64`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// Bytes that came and are not shown.
    left_out: u64,
}

impl Kept {
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.seen = self.seen.saturating_add(piece.len() as u64);
        let room = KEPT_MAX.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    pub(crate) fn show(&self) -> Shown<'_> {
        let shown = self.whole_letters();
        let (text, base64) = text_or_base64(shown);
        Shown { text, base64, left_out: self.seen.saturating_sub(shown.len() as u64) }
    }

    /// Without the part of a letter that the bound has cut through.
    fn whole_letters(&self) -> &[u8] {
        let is_cut = self.seen > self.bytes.len() as u64;
        match std::str::from_utf8(&self.bytes) {
            Err(error) if is_cut && error.error_len().is_none() => {
                self.bytes.get(..error.valid_up_to()).unwrap_or_default()
            }
            Ok(_) | Err(_) => &self.bytes,
        }
    }
}

/// Bytes as JSON can have them.
pub(crate) fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    let text = std::str::from_utf8(bytes).ok();
    (text, text.is_none().then(|| Base64::encode_string(bytes)))
}

/// Bytes of each stream in a document; `request output` has all of them.
pub(crate) const KEPT_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_text_or_base64_and_says_what_it_leaves_out() {
        let json = |kept: &Kept| serde_json::to_value(kept.show()).expect("json");
        let mut kept = Kept::default();
        assert_eq!(json(&kept), serde_json::json!({ "text": "", "left_out": 0 }));
        kept.add("grün\n".as_bytes());
        assert_eq!(json(&kept), serde_json::json!({ "text": "grün\n", "left_out": 0 }));
        kept.add(&[0xff]);
        assert_eq!(json(&kept), serde_json::json!({ "base64": "Z3LDvG4K/w==", "left_out": 0 }));
    }

    #[test]
    fn the_bound_does_not_cut_a_letter() {
        let mut kept = Kept::default();
        kept.add(&vec![b'a'; KEPT_MAX - 1]);
        kept.add("ü".as_bytes());
        kept.add(b"more");
        let shown = kept.show();
        assert_eq!(shown.text.map(str::len), Some(KEPT_MAX - 1));
        assert_eq!(shown.left_out, 6);
    }
}
