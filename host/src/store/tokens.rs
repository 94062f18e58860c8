//! The session tokens of a guest, as hashes: a chain for the channel, and one for its share.
//!
//! Used by `sessions`. The chains are apart because a hello waits in a share for as long as it takes: a connection made
//! meanwhile must not make it stale.

use super::StoreError;
use super::writer::Work;
use doorbell_wire::ids::GuestId;
use rusqlite::{OptionalExtension as _, params};

/// Where a guest says hello.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// On a connection.
    Channel,
    /// In a shared directory.
    Share,
}

/// What the guest has to present at one door.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub(super) current: Option<[u8; 32]>,
    pub(super) next: Option<[u8; 32]>,
    pub(super) issued: bool,
}

impl Tokens {
    pub(super) fn read(work: &Work<'_>, guest: GuestId, door: Door) -> Result<Self, StoreError> {
        let sql = match door {
            Door::Channel => "SELECT token_current, token_next, token_issued FROM guests WHERE id = ?1",
            Door::Share => "SELECT current, next, 1 FROM share_tokens WHERE guest = ?1",
        };
        let read = work.conn.prepare_cached(sql)?.query_row([guest.as_bytes()], |row| {
            Ok(Self { current: row.get(0)?, next: row.get(1)?, issued: row.get(2)? })
        });
        Ok(read.optional()?.unwrap_or_default())
    }

    /// What counts as current after a hello that presents `presented`; `None` when that is stale.
    ///
    /// The one given last is fine, and so is the one before: the guest went down between the welcome and its
    /// own write. Before any was given, whatever the guest has left from earlier is where it starts.
    pub(super) fn accept(&self, presented: Option<[u8; 32]>) -> Option<Option<[u8; 32]>> {
        let unconfirmed = self.next.is_some() && presented == self.next;
        (!self.issued || unconfirmed || presented == self.current).then_some(presented)
    }

    /// Keeps what the guest presented, and what it was given.
    pub(super) fn issue(
        work: &Work<'_>,
        guest: GuestId,
        door: Door,
        current: Option<[u8; 32]>,
        next: [u8; 32],
    ) -> Result<(), StoreError> {
        let sql = match door {
            Door::Channel => {
                "UPDATE guests SET token_current = ?2, token_next = ?3, token_issued = 1 WHERE id = ?1"
            }
            Door::Share => {
                "INSERT INTO share_tokens (guest, current, next) VALUES (?1, ?2, ?3)
                 ON CONFLICT (guest) DO UPDATE SET current = ?2, next = ?3"
            }
        };
        work.conn.prepare_cached(sql)?.execute(params![guest.as_bytes(), current, next])?;
        Ok(())
    }

    /// Only the one that was given last is good from here on.
    pub(super) fn confirm(
        work: &Work<'_>,
        guest: GuestId,
        door: Door,
        token: [u8; 32],
    ) -> Result<(), StoreError> {
        let sql = match door {
            Door::Channel => "UPDATE guests SET token_current = ?2, token_next = NULL WHERE id = ?1",
            Door::Share => "UPDATE share_tokens SET current = ?2, next = NULL WHERE guest = ?1",
        };
        work.conn.prepare_cached(sql)?.execute(params![guest.as_bytes(), token])?;
        Ok(())
    }

    /// Forgets those of the share; those of the channel go with the guest's row.
    pub(super) fn forget(work: &Work<'_>, guest: GuestId) -> Result<(), StoreError> {
        work.conn.prepare_cached("DELETE FROM share_tokens WHERE guest = ?1")?.execute([guest.as_bytes()])?;
        Ok(())
    }
}
