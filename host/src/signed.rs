//! A request's signature between the API's words and the channel's types.
//!
//! Called by the API on the way in and by the store's rows on the way out. Checks its form and nothing else: whether
//! it is good is the guest's to say, which trusts nobody here with that.

use doorbell_api::signature::{self as api, Signature};
use doorbell_wire::ids::{Digest, InvalidId};
use doorbell_wire::limits::PROOF_LEN_MAX;
use doorbell_wire::message::{Proof, Signed, SshSignature, Target, Terms};

/// Checks the form of a signature.
///
/// # Errors
/// [`InvalidId`] for what is not of its form.
pub fn read(asked: Signature) -> Result<Signed, InvalidId> {
    let Signature { target, proof, not_before_s, expires_s, nonce, armored } = asked;
    let target = match target {
        api::Target::Guest { fingerprint } => Target::Guest(fingerprint.parse()?),
        api::Target::Guests { root, count } => Target::Guests { root: root.parse()?, count },
    };
    let terms = Terms { target, not_before_s, expires_s, nonce: nonce.parse()? };
    let proof = proof.map(proof_of).transpose()?.unwrap_or_default();
    Ok(Signed { terms, proof, signature: SshSignature::from_armor(&armored)? })
}

fn proof_of(asked: api::Proof) -> Result<Proof, InvalidId> {
    if asked.path.len() > PROOF_LEN_MAX {
        let got = format!("{} steps", asked.path.len());
        return Err(InvalidId { what: "proof", got, expected: "at most 20 steps" });
    }
    let path = asked.path.iter().map(|node| node.parse()).collect::<Result<Vec<Digest>, _>>()?;
    Ok(Proof { index: asked.index, path })
}

/// A signature as the API shows it.
#[must_use]
pub fn shown(signed: &Signed) -> Signature {
    let Signed { terms: Terms { target, not_before_s, expires_s, nonce }, proof, signature } = signed;
    let (target, proof) = match target {
        Target::Guest(guest) => (api::Target::Guest { fingerprint: guest.to_string() }, None),
        Target::Guests { root, count } => {
            let path = proof.path.iter().map(Digest::to_string).collect();
            let proof = api::Proof { index: proof.index, path };
            (api::Target::Guests { root: root.to_string(), count: *count }, Some(proof))
        }
    };
    Signature {
        target,
        proof,
        not_before_s: *not_before_s,
        expires_s: *expires_s,
        nonce: nonce.to_string(),
        armored: signature.to_armor(),
    }
}
