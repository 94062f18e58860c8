//! Proved keys and session tokens: who may have a session.
//!
//! Called by a guest's session when the signature in its hello was verified.
//! Trusts that the bearer holds the key; whether it is the guest, a copy of it or a rewound one is decided here.

use super::guest_rows::by_id;
use super::guests::fingerprint;
use super::keys::{is_rejected, trust_first};
use super::places::check_key_free;
use super::rewound::{ClockTold, contradiction};
use super::tokens::{Door, Tokens};
use super::writer::Work;
use super::{GuestRow, Store, StoreError, Verdict};
use doorbell_api::guest::{AgentInfo, CopyMet};
use doorbell_wire::ids::{GuestId, PublicKey, SessionToken};
use doorbell_wire::message::{Capabilities, Claims};
use rusqlite::params;
use sha2::{Digest as _, Sha256};

impl Store {
    /// Whether the bearer of a proved key may have a session. On a welcome, `fresh` is what it has to
    /// present next time, on the disk before this returns. `clock` is the latest time that it has told of.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn admit(
        &self,
        guest: GuestId,
        claims: &Claims,
        fresh: SessionToken,
        door: Door,
        met_at: &str,
        clock: Option<ClockTold>,
    ) -> Result<Verdict, StoreError> {
        let (claims, met_at) = (claims.clone(), met_at.to_owned());
        self.write(move |work| admit(work, guest, &claims, &fresh, (door, &met_at), clock)).await
    }

    /// Notes what the agent of an open session says of its polls; `None` is that it keeps its connection.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn polls(&self, guest: GuestId, every_ms: Option<u32>) -> Result<(), StoreError> {
        self.write(move |work| {
            let Some(agent) = by_id(work.conn, guest)?.agent else { return Ok(()) };
            let agent = AgentInfo { polls_every_ms: every_ms, ..agent };
            let text = serde_json::to_string(&agent)
                .map_err(|error| StoreError::internal("write what the agent said", error))?;
            work.conn
                .prepare_cached("UPDATE guests SET agent = ?2 WHERE id = ?1")?
                .execute(params![guest.as_bytes(), text])?;
            Ok(())
        })
        .await
    }

    /// The guest has the token of its welcome on its disk: the one before is worth nothing from here on.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a later welcome or an approval replaced the token: this session is over.
    pub async fn confirm(&self, guest: GuestId, door: Door, token: SessionToken) -> Result<(), StoreError> {
        self.write(move |work| confirm(work, guest, door, &token)).await
    }

    /// When the guest was last heard of.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn seen(&self, guest: GuestId, at_ms: u64) -> Result<(), StoreError> {
        self.write(move |work| {
            work.conn
                .prepare_cached(
                    "UPDATE guests SET last_seen_ms = max(ifnull(last_seen_ms, 0), ?2) WHERE id = ?1",
                )?
                .execute(params![guest.as_bytes(), at_ms])?;
            by_id(work.conn, guest).map(drop)
        })
        .await
    }
}

fn admit(
    work: &mut Work<'_>,
    guest: GuestId,
    claims: &Claims,
    fresh: &SessionToken,
    (door, met_at): (Door, &str),
    clock: Option<ClockTold>,
) -> Result<Verdict, StoreError> {
    let row = trusting(work, by_id(work.conn, guest)?, claims, door, met_at)?;
    let verdict = match row.key {
        known if known != Some(claims.public_key) && is_rejected(work, guest, &claims.public_key)? => {
            Verdict::Rejected
        }
        None => Verdict::NotApproved,
        Some(key) if key != claims.public_key => Verdict::WrongKey,
        Some(_) => {
            let tokens = Tokens::read(work, guest, door)?;
            let Some(current) = tokens.accept(claims.token.as_ref().map(hash)) else {
                let what = if claims.token.is_some() { "a stale session token" } else { "no session token" };
                return fence(work, &row, claims, met_at, what);
            };
            // Behind an approval it starts where it is; and a hello in a share may be older than what it told since.
            if door == Door::Channel
                && tokens.issued
                && let Some(what) = contradiction(work, guest, claims, clock)?
            {
                return fence(work, &row, claims, met_at, &what);
            }
            Tokens::issue(work, guest, door, current, hash(fresh))?;
            return welcome(work, &row, claims);
        }
    };
    refuse(work, &row, &claims.public_key, verdict)
}

/// A guest that is to trust its first key has it from here on, if it is met where the kernel says who calls.
fn trusting(
    work: &mut Work<'_>,
    row: GuestRow,
    claims: &Claims,
    door: Door,
    met_at: &str,
) -> Result<GuestRow, StoreError> {
    let key = &claims.public_key;
    let is_first = row.trusts_first_key && row.key.is_none() && door == Door::Channel;
    if !is_first || is_rejected(work, row.id, key)? || check_key_free(work.conn, row.id, key).is_err() {
        return Ok(row);
    }
    trust_first(work, &row, key, met_at)?;
    by_id(work.conn, row.id)
}

fn welcome(work: &mut Work<'_>, guest: &GuestRow, claims: &Claims) -> Result<Verdict, StoreError> {
    let agent = AgentInfo {
        version: claims.agent.to_string(),
        protocol: claims.version,
        boot_id: claims.boot_id.to_string(),
        capabilities: capabilities(claims.capabilities),
        polls_every_ms: None,
    };
    let agent = serde_json::to_string(&agent)
        .map_err(|error| StoreError::internal("write what the agent said", error))?;
    // A store that was restored from a backup goes on above what the guest has done since.
    let sequence = claims.sequence_max.saturating_add(1).min(i64::MAX as u64);
    let given: u64 = work
        .conn
        .prepare_cached("SELECT next_sequence - 1 FROM guests WHERE id = ?1")?
        .query_row([guest.id.as_bytes()], |row| row.get(0))?;
    let unknown = if claims.sequence_max > given {
        tracing::warn!(
            guest = %guest.name, given, told = claims.sequence_max,
            "the guest knows of more requests than this manager has given it: this state directory was restored from \
             a backup, or the guest's journal was damaged; what waits below is refused by the guest"
        );
        format!(", more than the {given} that it was given")
    } else {
        String::new()
    };
    work.conn
        .prepare_cached(
            "UPDATE guests SET refused_key = NULL, agent = ?2, last_seen_ms = ?3,
             next_sequence = max(next_sequence, ?4) WHERE id = ?1",
        )?
        .execute(params![guest.id.as_bytes(), agent, work.now, sequence])?;
    let detail = format!(
        "agent {:?}, protocol {}, boot {}, sequences up to {}{unknown}",
        claims.agent.as_str(),
        claims.version,
        claims.boot_id,
        claims.sequence_max
    );
    work.audit(
        &format!("guest {}", guest.name),
        "session-admitted",
        Some(guest.name.as_str()),
        None,
        detail,
    )?;
    Ok(Verdict::Welcome)
}

/// The bearer of a stale token, or of a good one in a guest that was rewound, is turned away and remembered; whoever has
/// the newest one is the guest. It is in the trail once, however often it comes back.
fn fence(
    work: &mut Work<'_>,
    guest: &GuestRow,
    claims: &Claims,
    met_at: &str,
    what: &str,
) -> Result<Verdict, StoreError> {
    let copy = CopyMet {
        boot_id: claims.boot_id.to_string(),
        met_at: met_at.to_owned(),
        seen_at_ms: work.now,
        reason: format!("{what}: a copy of the guest, or one that was rewound"),
    };
    let known = guest.copy.as_ref().is_some_and(|known| {
        (&known.boot_id, &known.met_at, &known.reason) == (&copy.boot_id, &copy.met_at, &copy.reason)
    });
    let text = serde_json::to_string(&copy)
        .map_err(|error| StoreError::internal("write what was met of a copy", error))?;
    work.conn
        .prepare_cached("UPDATE guests SET copy = ?2 WHERE id = ?1")?
        .execute(params![guest.id.as_bytes(), text])?;
    if known {
        return Ok(Verdict::Fenced);
    }
    let detail = format!(
        "{what}; key {}, boot {}, met at {met_at}: a copy of the guest, or one that was rewound",
        fingerprint(&claims.public_key),
        claims.boot_id
    );
    work.refuse("session-fenced", guest.name.as_str(), detail)?;
    Ok(Verdict::Fenced)
}

/// A refusal is in the trail once for each key, however often its bearer comes back with it.
fn refuse(
    work: &mut Work<'_>,
    guest: &GuestRow,
    key: &PublicKey,
    verdict: Verdict,
) -> Result<Verdict, StoreError> {
    let why = match verdict {
        Verdict::NotApproved => "no key is approved",
        Verdict::WrongKey => "it is not the approved key",
        Verdict::Rejected => "the operator has rejected it",
        Verdict::Fenced | Verdict::Welcome => return Ok(verdict),
    };
    let fresh = work
        .conn
        .prepare_cached("UPDATE guests SET refused_key = ?2 WHERE id = ?1 AND refused_key IS NOT ?2")?
        .execute(params![guest.id.as_bytes(), key.as_bytes()])?;
    if fresh > 0 {
        let detail = format!("key {}: {why}", fingerprint(key));
        work.refuse("session-refused", guest.name.as_str(), detail)?;
    }
    Ok(verdict)
}

fn confirm(work: &mut Work<'_>, guest: GuestId, door: Door, token: &SessionToken) -> Result<(), StoreError> {
    let row = by_id(work.conn, guest)?;
    let tokens = Tokens::read(work, guest, door)?;
    let token = hash(token);
    if tokens.current == Some(token) {
        return Ok(());
    }
    if tokens.next != Some(token) {
        return Err(StoreError::conflict(format!(
            "the session token of guest {} was replaced: this session is over",
            row.name
        )));
    }
    Tokens::confirm(work, guest, door, token)
}

fn hash(token: &SessionToken) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn capabilities(set: Capabilities) -> Vec<String> {
    let known = Capabilities::NAMES.iter().filter(|(bit, _)| set.contains(*bit));
    known.map(|(_, name)| (*name).to_owned()).collect()
}
