//! A trail in a file: one record a line, then one line with the signed head. Read as strictly as it is written, so that
//! no byte of it can be another one.
//!
//! Written by the command line from what a manager says, read by it from files of anywhere.

use crate::chain::{Head, Verifier};
use crate::head;
use doorbell_api::audit::{AuditCheck, AuditRecord, SignedHead};
use doorbell_wire::text::json;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read as _};

/// The last line of an export.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The record behind which the export begins.
    pub since: u64,
    /// The head with which it ends.
    pub head: SignedHead,
}

/// A record as a line, harmless to a terminal that it is printed to.
///
/// # Errors
/// When it cannot be put into JSON, which none of our types is.
pub fn line<T: Serialize>(value: &T) -> io::Result<String> {
    Ok(json(&serde_json::to_string(value)?).into_owned() + "\n")
}

/// What was kept of a trail: an export, or a head alone.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The head, as it was signed.
    pub head: SignedHead,
    /// What a check of the export found; of a head alone, of its signature.
    pub check: AuditCheck,
    pub(crate) since: u64,
    // The hash of the record that it begins behind, where that is told.
    pub(crate) anchor: Option<[u8; 32]>,
    pub(crate) hashes: Vec<[u8; 32]>,
}

/// Reads an export, a signed head in JSON, or a log with a head in it.
///
/// # Errors
/// One line that says what the file is not.
pub fn read(mut from: impl BufRead) -> Result<Kept, String> {
    let mut first = String::new();
    let cannot = |error: io::Error| format!("it cannot be read: {error}");
    from.read_line(&mut first).map_err(cannot)?;
    if let Ok(head) = serde_json::from_str(&first) {
        return Ok(alone(head));
    }
    if first.starts_with(RECORD) || first.starts_with(END) {
        return export(first, from);
    }
    let mut rest = String::new();
    from.take(LOG_LEN_MAX).read_to_string(&mut rest).map_err(cannot)?;
    let text = first + &rest;
    let head = serde_json::from_str(&text).ok().or_else(|| head::find(&text));
    head.map(alone).ok_or_else(|| "it is neither an export, nor a signed head, nor a log with one".to_owned())
}

/// An export whose records have begun.
struct Begun {
    // The record before the first, and what that says of its hash.
    since: u64,
    anchor: [u8; 32],
    verifier: Verifier,
}

fn alone(head: SignedHead) -> Kept {
    let opened = head::open(&head);
    let hashes = opened.as_ref().ok().filter(|head| head.number > 0).map(|head| head.hash);
    let check =
        AuditCheck { intact: opened.is_ok(), records: 0, head: head.hash.clone(), broken: opened.err() };
    let since = head.number.saturating_sub(1);
    Kept { head, check, since, anchor: None, hashes: hashes.into_iter().collect() }
}

fn export(first: String, mut from: impl BufRead) -> Result<Kept, String> {
    let (mut line, mut number) = (first, 1_u64);
    let (mut hashes, mut begun) = (Vec::new(), None);
    loop {
        let damaged =
            |what: &dyn std::fmt::Display| format!("the export is damaged in line {number}: {what}");
        if line.is_empty() {
            return Err("the export ends without a head: its end was cut off".to_owned());
        }
        if line.starts_with(END) {
            let end: End = exact(&line).map_err(|error| damaged(&error))?;
            let mut behind = [0; 1];
            if !matches!(from.read(&mut behind), Ok(0)) {
                return Err(damaged(&"something stands behind the head"));
            }
            return ended(end, begun, hashes);
        }
        let record: AuditRecord = exact(&line).map_err(|error| damaged(&error))?;
        let begun = begun.get_or_insert_with(|| {
            let since = record.number.saturating_sub(1);
            let mut anchor = [0; 32];
            let _ = hex::decode_to_slice(&record.previous, &mut anchor);
            Begun { since, anchor, verifier: Verifier::behind(Head { number: since, hash: anchor }) }
        });
        begun.verifier.check(&record);
        hashes.push(crate::chain::hash_of(&record));
        line.clear();
        number = number.saturating_add(1);
        from.read_line(&mut line).map_err(|error| format!("it cannot be read: {error}"))?;
    }
}

fn ended(end: End, begun: Option<Begun>, hashes: Vec<[u8; 32]>) -> Result<Kept, String> {
    let End { since, head } = end;
    let opened = head::open(&head)?;
    let empty = || Begun { since: opened.number, anchor: opened.hash, verifier: Verifier::behind(opened) };
    let Begun { since: begins, anchor, verifier } = begun.unwrap_or_else(empty);
    if begins != since {
        return Err(format!(
            "the export begins behind record {begins}, it says behind record {since}: records are missing"
        ));
    }
    if since == 0 && anchor != [0; 32] {
        return Err("record 1 of the export continues another record: it was altered".to_owned());
    }
    let check = AuditCheck { records: hashes.len() as u64, ..verifier.finish(Some(opened)) };
    Ok(Kept { head, check, since, anchor: Some(anchor), hashes })
}

/// A value from a line that is exactly what would be written for it; once, nothing beyond JSON's own was escaped.
fn exact<T: Serialize + for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let value: T = serde_json::from_str(text).map_err(|error| said(&error))?;
    let bare = serde_json::to_string(&value).map_err(|error| said(&error))?;
    if line(&value).map_err(|error| said(&error))? == text || text.strip_suffix('\n') == Some(&bare) {
        return Ok(value);
    }
    Err("it is not as it was written".to_owned())
}

const RECORD: &str = "{\"number\":";
const END: &str = "{\"since\":";
/// Bytes of a log that are looked through.
const LOG_LEN_MAX: u64 = 256 * 1024 * 1024;
