//! From an acknowledgement to a stored receipt.
//!
//! Called by the session's drain. A receipt is stored beside the session, which goes on with what else the
//! guest has in hand: a long output is read back, and the disk takes its time.

use super::{End, Hand, Session, Stored};
use crate::access::TenantName;
use crate::manager::Manager;
use crate::session::hand::Held;
use crate::time::unix_us;
use crate::trace::Stamp;
use doorbell_api::trace::Station;
use doorbell_wire::ids::{GuestId, RequestId};
use doorbell_wire::message::outcome::Acknowledgement;
use doorbell_wire::session::host::Host;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinError;
use tracing::{Instrument as _, debug, warn};

/// What a guest said of a request that is over, and is not in the store.
#[derive(Debug)]
pub(super) struct Unstored {
    pub(super) ack: Acknowledgement,
    pub(super) stamps: Vec<Stamp>,
    /// Whether its ways are counted.
    pub(super) counts: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Session<S> {
    pub(super) fn store(&mut self, session: Host, ack: Acknowledgement) -> Result<Host, End> {
        let request = ack.request;
        match self.hands.remove(&request) {
            Some(Hand::Request(held)) => {
                let (counts, stamps) = (!held.over, self.last_stamps(held, &ack));
                self.store_when_due(Unstored { ack, stamps, counts });
                return Ok(session);
            }
            Some(Hand::Query(query)) => {
                if query.answer.send(ack).is_err() {
                    debug!("nobody waits for the answer to this query any longer");
                }
            }
            Some(Hand::Stranger) | None => warn!(%request, "the outcome of an unknown request was dropped"),
        }
        Ok(session.noted(request)?)
    }

    pub(super) async fn stored(
        &mut self,
        session: Host,
        stored: Result<Stored, JoinError>,
    ) -> Result<Host, End> {
        let (unstored, row) =
            stored.map_err(|error| End::Fault(format!("a receipt was not stored: {error}")))?;
        let request = unstored.ack.request;
        let Some(row) = self.or_later(row.map_err(End::from))? else {
            self.stalled.add_receipt(*unstored);
            return Ok(session);
        };
        match row {
            Some(row) => self.manager.moved(&row).await,
            None => warn!(%request, "the outcome of an unknown request was dropped"),
        }
        Ok(session.noted(request)?)
    }

    /// Stores a receipt, behind all that waits of its request.
    pub(super) fn store_when_due(&mut self, unstored: Unstored) {
        if self.stalled.holds(unstored.ack.request) {
            self.stalled.add_receipt(unstored);
        } else {
            let stored = store_receipt(Arc::clone(&self.manager), self.guest.id, unstored);
            self.storing.spawn(stored.in_current_span());
        }
    }

    /// The stations that the store does not have yet. Times of another run of the guest's kernel mean nothing
    /// on this one's clock.
    fn last_stamps(&self, held: Held, ack: &Acknowledgement) -> Vec<Stamp> {
        let now = unix_us();
        let Held { mut stamps, fresh, .. } = held;
        let clock = self.clock.filter(|clock| fresh || self.boot_before == Some(clock.boot));
        if let Some(ran) = ack.ran.filter(|_| fresh) {
            self.told(ran.ended_us);
        }
        if let Some((clock, ran)) = clock.zip(ack.ran) {
            let first = ran.first_output_us.map(|us| clock.stamp(Station::FirstOutput, us));
            let exited = Some(clock.stamp(Station::Exited, ran.exited_us));
            stamps.extend(first.into_iter().chain(exited).filter(|stamp| is_past(stamp, now)));
        }
        stamps.push(Stamp::host(Station::Acknowledged, now));
        stamps
    }
}

/// What a guest tells of the future is no station.
fn is_past(stamp: &Stamp, now: u64) -> bool {
    let error = stamp.guest.map_or(0, |guest| guest.error_us);
    stamp.at_us <= now.saturating_add(error)
}

async fn store_receipt(manager: Arc<Manager>, guest: GuestId, unstored: Unstored) -> Stored {
    let request = unstored.ack.request;
    let stored = async {
        let kept = manager.outputs.finish(request, unstored.ack.output).await?;
        let (ack, stamps) = (unstored.ack.clone(), unstored.stamps.clone());
        manager.store.store_receipt(guest, ack, kept, stamps).await
    };
    let row = stored.await;
    if unstored.counts
        && let Ok(Some(row)) = &row
    {
        tokio::spawn(count(manager, request, row.tenant.clone()));
    }
    (Box::new(unstored), row)
}

/// Counts the ways of a request that is over, behind everybody's back.
async fn count(manager: Arc<Manager>, request: RequestId, tenant: Option<TenantName>) {
    match manager.store.trace(request).await {
        Ok(trace) => manager.histograms.count(tenant.as_ref(), &trace.passed),
        Err(error) => {
            warn!(%request, error = error.whole(), "the stations of a request could not be counted")
        }
    }
}
