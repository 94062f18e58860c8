//! Receipts in the store: a request gets its final state, its receipt and its audit record in one transaction.
//!
//! Called when a guest acknowledges, and by the rest of the store when the manager itself closes a request.
//! Trusts a guest about its own requests only; a second word on a closed one changes nothing.

use super::requests::maybe;
use super::stages::put;
use super::writer::Work;
use super::{RequestRow, Store, StoreError};
use crate::output::{OutputKept, Outputs};
use crate::receipt::{Judged, closed, judge, seal};
use crate::request::{Happening, next, word};
use crate::trace::Stamp;
use doorbell_api::receipt::{Amended, Receipt};
use doorbell_api::request::State;
use doorbell_api::trace::Station;
use doorbell_wire::ids::GuestId;
use doorbell_wire::message::Offsets;
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, Rebooted};
use rusqlite::params;

impl Store {
    /// Keeps what a guest says came of a request, of whose output `kept` is on the disk, with the stations
    /// that were not kept yet. Doing it twice is doing it once. `None` when the request is not this guest's.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn store_receipt(
        &self,
        guest: GuestId,
        ack: Acknowledgement,
        kept: OutputKept,
        stamps: Vec<Stamp>,
    ) -> Result<Option<RequestRow>, StoreError> {
        self.write(move |work| acknowledge(work, guest, &ack, kept, &stamps)).await
    }
}

/// How the manager closes a request.
#[derive(Debug)]
pub(super) struct Closing<'a> {
    /// What happened to it.
    pub(super) happening: Happening,
    /// What the audit trail calls it.
    pub(super) event: &'static str,
    /// Who decided it.
    pub(super) by: &'a str,
}

/// Closes a request without a word of its guest. One that does not move by that stays as it is.
pub(super) fn close(
    work: &mut Work<'_>,
    row: RequestRow,
    why: &Closing<'_>,
    detail: &str,
) -> Result<RequestRow, StoreError> {
    let Some(state) = next(row.state, why.happening) else { return Ok(row) };
    // Once begun, a request is never said to have come to nothing.
    let begun = row.starts > 0 && !matches!(state, State::Interrupted | State::Unconfirmed);
    let (state, detail) = if begun {
        (State::Interrupted, format!("{detail}, but it had started before, and how far it came is not known"))
    } else {
        (state, detail.to_owned())
    };
    let kept = Outputs::open(work.state_dir)?
        .sync_now(row.id)
        .map_err(|error| StoreError::io("keep output", error))?;
    settle(work, row, state, closed(&detail, kept), why, None)
}

fn acknowledge(
    work: &mut Work<'_>,
    guest: GuestId,
    ack: &Acknowledgement,
    kept: OutputKept,
    stamps: &[Stamp],
) -> Result<Option<RequestRow>, StoreError> {
    let known = super::guest_rows::by_id(work.conn, guest)?;
    let by = format!("guest {}", known.name);
    let Some(row) = maybe(work.conn, ack.request)?.filter(|row| row.guest_id == guest) else {
        let detail = "it acknowledged a request that is not its own";
        work.audit(&by, "receipt-refused", Some(known.name.as_str()), Some(ack.request), detail)?;
        return Ok(None);
    };
    if row.state == State::Unapproved {
        // It has never been offered: no word of a guest is about it.
        return Ok(Some(row));
    }
    let said =
        serde_json::to_string(ack).map_err(|error| StoreError::internal("write what a guest said", error))?;
    if row.state.is_final() && row.state != State::Unconfirmed {
        late(work, &row, &by, &said)?;
        return Ok(Some(row));
    }
    if let (Outcome::Continues(step), false) = (&ack.outcome, row.state.is_final()) {
        return continues(work, row, &by, ack, step.get(), kept).map(Some);
    }
    let judged = never_undone(&row, judge(&row.action, ack, kept));
    let why = Closing { happening: Happening::Acknowledged(judged.state), event: "receipt-stored", by: &by };
    let Some(state) = next(row.state, why.happening) else { return Ok(Some(row)) };
    for stamp in stamps {
        put(work.conn, row.id, stamp)?;
    }
    let boot_id = known.agent.map(|agent| agent.boot_id);
    let receipt = Receipt { boot_id, ..judged.receipt };
    settle(work, row, state, receipt, &why, Some(&said)).map(Some)
}

/// What had begun at an earlier offer is not said to have come to nothing because it did not begin at this one.
fn never_undone(row: &RequestRow, judged: Judged) -> Judged {
    let nothing = matches!(
        judged.state,
        State::Refused | State::NotReceived | State::NotVerified | State::NotStarted | State::Expired
    );
    let of_this_offer = u32::from(matches!(row.state, State::Started | State::Unconfirmed));
    if !nothing || row.starts <= of_this_offer {
        return judged;
    }
    let told = judged.receipt.detail.map(|text| format!(": {text}")).unwrap_or_default();
    let detail = format!(
        "it had started before, and how far it came is not known; offered again it was {}{told}",
        word(judged.state)
    );
    Judged { state: State::Interrupted, receipt: Receipt { detail: Some(detail), ..judged.receipt } }
}

/// The program asked for a reboot and the guest has rebooted: the request waits for its next step.
fn continues(
    work: &mut Work<'_>,
    row: RequestRow,
    by: &str,
    ack: &Acknowledgement,
    step: u8,
    kept: OutputKept,
) -> Result<RequestRow, StoreError> {
    if step <= row.step {
        // It was told before, and the guest does not know: nothing counts twice.
        let detail = format!("step {step}, again");
        return super::offers::step(work, row, Happening::Continues, by, "request-continues", &detail);
    }
    let boots = boots(ack);
    let Offsets { stdout, stderr } = Offsets { stdout: kept.stdout.len, stderr: kept.stderr.len };
    work.conn
        .prepare_cached("UPDATE requests SET step = ?2, stdout_base = ?3, stderr_base = ?4 WHERE id = ?1")?
        .execute(params![row.id.as_bytes(), step, stdout, stderr])?;
    let row = RequestRow { step, output_base: Offsets { stdout, stderr }, ..row };
    super::offers::step(
        work,
        row,
        Happening::Continues,
        by,
        "request-continues",
        &format!("step {step}{boots}"),
    )
}

fn boots(ack: &Acknowledgement) -> String {
    match &ack.evidence {
        Evidence::Rebooted(Rebooted { before, after }) => format!(", boot {before} became {after}"),
        Evidence::None
        | Evidence::Links(_)
        | Evidence::LinkChange(_)
        | Evidence::File(_)
        | Evidence::Verdict(_) => String::new(),
    }
}

/// Writes audit record, receipt and state. The record seals the receipt, the receipt names the record.
fn settle(
    work: &mut Work<'_>,
    row: RequestRow,
    state: State,
    receipt: Receipt,
    why: &Closing<'_>,
    said: Option<&str>,
) -> Result<RequestRow, StoreError> {
    let written = |error| StoreError::internal("write the receipt", error);
    let amended = row.receipt.as_ref().map(serde_json::to_string).transpose().map_err(written)?;
    let amends = row.receipt.as_ref().map(|before| Amended {
        state: row.state,
        stored_at_ms: before.stored_at_ms,
        audit_hash: before.audit_hash.clone(),
    });
    let mut receipt = Receipt { stored_at_ms: work.now, amends, ..receipt };
    let seal = seal(&receipt).map_err(written)?;
    let told = receipt.detail.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    let code = receipt.exit_code.map(|code| format!(" with status {code}")).unwrap_or_default();
    let signal = receipt.signal.map(|signal| format!(" by signal {signal}")).unwrap_or_default();
    let before = if amended.is_some() { ", amends unconfirmed" } else { "" };
    let detail = format!("{}{code}{signal}{before}{told}{SEAL}{seal}", word(state));
    let record = work.audit(why.by, why.event, Some(row.guest.as_str()), Some(row.id), detail)?;
    receipt.audit_hash = record.hash;
    let text = serde_json::to_string(&receipt).map_err(written)?;
    work.conn
        .prepare_cached(
            "INSERT INTO receipts (request, receipt, audit_number, acknowledgement) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (request) DO UPDATE SET receipt = ?2, audit_number = ?3, acknowledgement = ?4, amended = ?5",
        )?
        .execute(params![row.id.as_bytes(), text, record.number, said, amended])?;
    work.conn
        .prepare_cached("UPDATE requests SET state = ?2, ended_at_ms = ?3, output_bytes = ?4 WHERE id = ?1")?
        .execute(params![row.id.as_bytes(), word(state), work.now, output_bytes(&receipt)])?;
    work.when_durable(row.id, Station::Stored);
    Ok(RequestRow { state, receipt: Some(receipt), ..row })
}

/// What of a request lies on the disk from its end on.
const fn output_bytes(receipt: &Receipt) -> u64 {
    receipt.stdout.bytes.saturating_add(receipt.stderr.bytes)
}

/// A word on a request that has its receipt. The same word is a repetition; another one is kept, once, and told.
fn late(work: &mut Work<'_>, row: &RequestRow, by: &str, said: &str) -> Result<(), StoreError> {
    let fresh = work
        .conn
        .prepare_cached(
            "UPDATE receipts SET late = ?2 WHERE request = ?1 AND late IS NULL AND acknowledgement IS NOT ?2",
        )?
        .execute(params![row.id.as_bytes(), said])?;
    if fresh > 0 {
        let detail =
            format!("another word on a request that is {} stays beside its receipt", word(row.state));
        work.audit(by, "receipt-late", Some(row.guest.as_str()), Some(row.id), detail)?;
    }
    Ok(())
}

/// What stands in an audit record in front of the seal of the receipt beside it.
pub(super) const SEAL: &str = "; receipt sha256:";
