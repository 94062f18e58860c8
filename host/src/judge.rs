//! Whether a guest has proved its key, and what the manager then says.
//!
//! Called by a session with the hello of its peer. Trusts the place where the guest was met (the kernel's
//! CID or the socket's path) to say which guest it claims to be, and only the signature to say that it is.

use crate::manager::Manager;
use crate::store::{Door, GuestRow, StoreError, Verdict, fingerprint};
use doorbell_wire::error::Reason;
use doorbell_wire::handshake::transcript;
use doorbell_wire::ids::{Nonce, SessionToken};
use doorbell_wire::message::{Greeting, Hello};

/// What came of a hello.
#[derive(Debug)]
pub enum Judgement {
    /// Welcome, with this token.
    Welcome(SessionToken),
    /// Not; the peer is told the reason, the log the text.
    Refuse(Reason, String),
}

/// Judges a hello.
///
/// # Errors
/// [`StoreError`] when the store cannot say; the session ends and the guest comes back.
pub async fn judge(
    manager: &Manager,
    guest: &GuestRow,
    (door, met_at): (Door, &str),
    greeting: &Greeting,
    hello: &Hello,
) -> Result<Judgement, StoreError> {
    if !is_proved(greeting, hello) {
        let text = format!("its signature does not match the key {}", fingerprint(&hello.claims.public_key));
        manager.session_refused(Some(&guest.name), met_at, &text).await;
        return Ok(Judgement::Refuse(Reason::NOT_PROVED, text));
    }
    let token = SessionToken::new(random()?);
    let name = &guest.name;
    let clock = manager.registry.clock(guest.id);
    Ok(match manager.store.admit(guest.id, &hello.claims, token, door, met_at, clock).await? {
        Verdict::Welcome => Judgement::Welcome(token),
        Verdict::NotApproved => {
            manager.store.pend_key(guest.id, hello.claims.public_key, met_at).await?;
            let key = fingerprint(&hello.claims.public_key);
            let text = format!(
                "its key {key} is not approved; compare it with the guest's console, then: doorbell guest approve {name}"
            );
            Judgement::Refuse(Reason::NOT_APPROVED, text)
        }
        Verdict::WrongKey => {
            manager.store.pend_key(guest.id, hello.claims.public_key, met_at).await?;
            let key = fingerprint(&hello.claims.public_key);
            let text = format!(
                "it proved the key {key}, which is not this guest's; if the guest was reinstalled: doorbell guest approve {name}"
            );
            Judgement::Refuse(Reason::NOT_PROVED, text)
        }
        Verdict::Rejected => {
            let key = fingerprint(&hello.claims.public_key);
            let text = format!(
                "its key {key} was rejected; if it is to be let in after all: doorbell guest approve {name} --fingerprint {key}"
            );
            Judgement::Refuse(Reason::REJECTED, text)
        }
        Verdict::Fenced => {
            // A session that is dead, as that of a rewound guest is, shows it only when it is written to.
            manager.registry.ring_channel(guest.id);
            let text = format!(
                "its session token is stale, or it has forgotten what it told: it is a copy or was rewound; if this is the one to keep: doorbell guest approve {name}"
            );
            Judgement::Refuse(Reason::FENCED, text)
        }
    })
}

/// Fresh bytes for a greeting.
///
/// # Errors
/// [`StoreError::Internal`] when the kernel gives none.
pub fn nonce() -> Result<Nonce, StoreError> {
    random().map(Nonce::new)
}

/// Whether a hello answers this greeting with the key that it claims.
pub(crate) fn is_proved(greeting: &Greeting, hello: &Hello) -> bool {
    let Ok(bytes) = transcript(greeting, &hello.claims) else { return false };
    let signature = ed25519_dalek::Signature::from_bytes(hello.proof.as_bytes());
    // Strict: one key, one signature; no small-order keys that match everything.
    ed25519_dalek::VerifyingKey::from_bytes(hello.claims.public_key.as_bytes())
        .is_ok_and(|key| key.verify_strict(&bytes, &signature).is_ok())
}

/// Random bytes from the kernel.
///
/// # Errors
/// [`StoreError::Internal`] when the kernel gives none.
pub fn random<const LEN: usize>() -> Result<[u8; LEN], StoreError> {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes)
        .map_err(|source| StoreError::internal("asking the kernel for random bytes", source))?;
    Ok(bytes)
}
