//! The stations of requests in the store: written with what happens anyway, read for a trace.
//!
//! A station that is "on the disk" is known only after the commit: its stamp waits in memory and goes along
//! with the next transaction, so that no trace costs a sync of its own. Called by the rest of the store.

use super::requests::by_id;
use super::{Store, StoreError};
use crate::time::unix_us;
use crate::trace::{GuestTime, Stamp, from_number, number};
use doorbell_api::trace::{Passed, Station, Trace};
use doorbell_wire::ids::RequestId;
use rusqlite::{Connection, Row, params};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

impl Store {
    /// The stations of a request in the order of their times.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn trace(&self, request: RequestId) -> Result<Trace, StoreError> {
        // Read before the data base: a stamp is then here, or committed there already.
        let late = self.inner.late.waiting();
        self.read(move |conn| {
            by_id(conn, request)?;
            let mut stamps = stamps_of(conn, request)?;
            for (_, stamp) in late.into_iter().filter(|(of, _)| *of == request) {
                stamps.retain(|known| known.station != stamp.station);
                stamps.push(stamp);
            }
            Ok(shown(stamps))
        })
        .await
    }
}

/// Stamps of committed transactions that the next one takes along.
#[derive(Clone, Debug, Default)]
pub(super) struct Late(Arc<Mutex<Vec<(RequestId, Stamp)>>>);

impl Late {
    /// All of them.
    pub(super) fn waiting(&self) -> Vec<(RequestId, Stamp)> {
        self.lock().clone()
    }

    /// The first `taken` are on the disk, or never will be; `fresh` has just been committed.
    pub(super) fn turn_over(&self, taken: usize, fresh: &[(RequestId, Station)]) {
        let now = unix_us();
        let mut waiting = self.lock();
        let taken = taken.min(waiting.len());
        waiting.drain(..taken);
        waiting.extend(fresh.iter().map(|(request, station)| (*request, Stamp::host(*station, now))));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(RequestId, Stamp)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a station; a later time of the same one takes its place.
pub(super) fn put(conn: &Connection, request: RequestId, stamp: &Stamp) -> rusqlite::Result<()> {
    let guest = stamp.guest;
    conn.prepare_cached(
        "INSERT OR REPLACE INTO stages (request, station, at_us, guest_us, error_us) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        request.as_bytes(),
        number(stamp.station),
        stamp.at_us,
        guest.map(|guest| guest.us),
        guest.map(|guest| guest.error_us)
    ])
    .map(drop)
}

/// Forgets what an earlier start had passed.
pub(super) fn begin_again(conn: &Connection, request: RequestId) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM stages WHERE request = ?1 AND station >= ?2")?
        .execute(params![request.as_bytes(), number(Station::Rung)])
        .map(drop)
}

fn stamps_of(conn: &Connection, request: RequestId) -> Result<Vec<Stamp>, StoreError> {
    let sql = "SELECT station, at_us, guest_us, error_us FROM stages WHERE request = ?1";
    conn.prepare_cached(sql)?.query_and_then([request.as_bytes()], read_stamp)?.collect()
}

fn read_stamp(row: &Row<'_>) -> Result<Stamp, StoreError> {
    let station: u8 = row.get(0)?;
    let station = from_number(station)
        .ok_or_else(|| StoreError::damaged("station of a request", station.to_string()))?;
    let guest: Option<(u64, u64)> = row.get::<_, Option<u64>>(2)?.zip(row.get(3)?);
    let guest = guest.map(|(us, error_us)| GuestTime { us, error_us });
    Ok(Stamp { station, at_us: row.get(1)?, guest })
}

fn shown(mut stamps: Vec<Stamp>) -> Trace {
    stamps.sort_by_key(|stamp| (stamp.at_us, number(stamp.station)));
    let clock_error_us = stamps.iter().filter_map(|stamp| stamp.guest).map(|guest| guest.error_us).max();
    let show = |Stamp { station, at_us, guest }: Stamp| {
        let guest_us = guest.map(|guest| guest.us);
        Passed { station, at_us, guest_us }
    };
    Trace { passed: stamps.into_iter().map(show).collect(), clock_error_us }
}
