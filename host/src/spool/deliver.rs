//! Receipts on their way into an outbox, with what their programs printed.
//!
//! Called by the spool's task whenever a request of a guest may have ended, and at start. Puts out what the store says
//! is not out yet, so neither a missed word nor a crash leaves one behind; doing it twice leaves the same files.

use super::intake::{Owner, Trouble};
use super::names::{RECEIPT, STDERR, STDOUT};
use super::outbox::{self, Contents};
use super::place::Rooms;
use crate::manager::Manager;
use crate::output::Outputs;
use crate::store::Undelivered;
use doorbell_api::request::State;
use doorbell_wire::ids::RequestId;
use doorbell_wire::limits::OUTPUT_LEN_DEFAULT;
use doorbell_wire::message::Stream;
use std::io::{self, Read as _};
use std::sync::Arc;

/// Puts out the receipts of a guest; says whether there are more.
pub(super) async fn pass(manager: &Manager, owner: &Owner) -> Result<bool, Trouble> {
    let store = &manager.store;
    let receipts = store.spool_undelivered(owner.id, AT_ONCE).await.map_err(|error| error.whole())?;
    if receipts.is_empty() {
        return Ok(false);
    }
    let more = receipts.len() == AT_ONCE;
    let (rooms, outputs) = (Arc::clone(&owner.rooms), manager.outputs.clone());
    let putting = move || Ok::<_, io::Error>(put_all(&rooms, &outputs, &receipts));
    let (put, trouble) = crate::disk::blocking(putting).await.map_err(|error| error.to_string())?;
    if !put.is_empty() {
        store.spool_delivered(put).await.map_err(|error| error.whole())?;
    }
    trouble.map_or(Ok(more), Err)
}

/// Puts out as many as there is room for: those that are out, and why not all are.
fn put_all(
    rooms: &Rooms,
    outputs: &Outputs,
    receipts: &[Undelivered],
) -> (Vec<(RequestId, State)>, Option<Trouble>) {
    let mut contents = match Contents::of(rooms) {
        Ok(contents) => contents,
        Err(error) => return (Vec::new(), Some(format!("an outbox cannot be read: {error}"))),
    };
    let (mut done, mut trouble) = (Vec::new(), None);
    for receipt in receipts {
        if let Some(full) = contents.full() {
            trouble = Some(full);
            break;
        }
        match put(rooms, outputs, receipt) {
            Ok(bytes) => {
                contents.add(ENTRIES, bytes);
                done.push((receipt.row.id, receipt.row.state));
            }
            Err(error) => {
                trouble = Some(format!("the receipt {} cannot be put into the outbox: {error}", receipt.stem))
            }
        }
    }
    match rustix::fs::fsync(&rooms.outbox) {
        Ok(()) => (done, trouble),
        Err(errno) => (Vec::new(), Some(format!("an outbox cannot be made to last: {errno}"))),
    }
}

/// The receipt last: where it is, all is.
fn put(rooms: &Rooms, outputs: &Outputs, receipt: &Undelivered) -> io::Result<u64> {
    let Undelivered { row, stem } = receipt;
    let mut bytes = 0_u64;
    for (stream, end) in [(Stream::Stdout, STDOUT), (Stream::Stderr, STDERR)] {
        let name = format!("{stem}{end}");
        let len = match outputs.open_now(row.id, stream)? {
            Some(file) => outbox::put(rooms, &name, file.take(OUTPUT_LEN_DEFAULT))?,
            None => outbox::put(rooms, &name, io::empty())?,
        };
        bytes = bytes.saturating_add(len);
    }
    let mut text = serde_json::to_vec_pretty(&row.to_api())?;
    text.push(b'\n');
    let len = outbox::put(rooms, &format!("{stem}{RECEIPT}"), text.as_slice())?;
    Ok(bytes.saturating_add(len))
}

/// Receipts that are put out before it is noted that they are.
const AT_ONCE: usize = 32;
/// Entries of one receipt.
const ENTRIES: usize = 3;
