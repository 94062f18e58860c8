//! Whether a guest has proved its key, and what the manager then says.
//!
//! Called by a session with the hello of its peer. Trusts the place where the guest was met (the kernel's
//! CID or the socket's path) to say which guest it claims to be, and only the signature to say that it is.

use crate::manager::Manager;
use crate::store::{Door, Enrolled, GuestRow, StoreError, Verdict, fingerprint};
use doorbell_wire::error::Reason;
use doorbell_wire::handshake::{enrolment_transcript, transcript};
use doorbell_wire::ids::{Nonce, PublicKey, SessionToken, Signature};
use doorbell_wire::message::{Greeting, Hello};
use tracing::info;

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
    if let Some(refused) = enrol(manager, guest, met_at, greeting, hello).await? {
        return Ok(refused);
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

/// Has the claimed key taken for the guest's, where a one-time token is shown; why not, where that is refused. Whoever was
/// refused waits for the operator.
async fn enrol(
    manager: &Manager,
    guest: &GuestRow,
    met_at: &str,
    greeting: &Greeting,
    hello: &Hello,
) -> Result<Option<Judgement>, StoreError> {
    let Some(enrolment) = &hello.enrolment else { return Ok(None) };
    let (name, key) = (&guest.name, hello.claims.public_key);
    let said = enrolment_transcript(greeting, &hello.claims).ok();
    let why = if said.is_some_and(|said| is_signed(&said, &enrolment.token, &enrolment.proof)) {
        match manager.store.enrol(guest.id, key, enrolment.token, met_at).await? {
            Enrolled::Nothing => return Ok(None),
            Enrolled::Taken => {
                info!(guest = %name, key = fingerprint(&key), "its key was taken by a one-time token");
                return Ok(None);
            }
            Enrolled::Refused(why) => {
                manager.store.pend_key(guest.id, key, met_at).await?;
                why
            }
        }
    } else {
        let why = "it shows a one-time token that it does not hold".to_owned();
        manager.session_refused(Some(name), met_at, &why).await;
        why
    };
    let text = format!(
        "its one-time token was not taken: {why}; another one: doorbell guest enrol {name} --out FILE, or compare its key {} and approve that",
        fingerprint(&key)
    );
    Ok(Some(Judgement::Refuse(Reason::NOT_ENROLLED, text)))
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
    let said = transcript(greeting, &hello.claims);
    said.is_ok_and(|said| is_signed(&said, &hello.claims.public_key, &hello.proof))
}

/// Strict: one key, one signature; no small-order keys that match everything.
fn is_signed(bytes: &[u8], key: &PublicKey, signature: &Signature) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    ed25519_dalek::VerifyingKey::from_bytes(key.as_bytes())
        .is_ok_and(|key| key.verify_strict(bytes, &signature).is_ok())
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
