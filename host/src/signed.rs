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
    let proof = proof.as_ref().map(proof_of).transpose()?.unwrap_or_default();
    Ok(Signed { terms, proof, signature: SshSignature::from_armor(&armored)? })
}

fn proof_of(asked: &api::Proof) -> Result<Proof, InvalidId> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::ids::{Fingerprint, Nonce};

    fn signed(target: Target, path: Vec<Digest>) -> Signed {
        let terms = Terms { target, not_before_s: Some(5), expires_s: 9, nonce: Nonce::new([3; 32]) };
        let index = u32::from(!path.is_empty());
        let signature = SshSignature::try_from(b"SSHSIG and so on".to_vec()).unwrap();
        Signed { terms, proof: Proof { index, path }, signature }
    }

    #[test]
    fn a_signature_comes_back_as_it_was_taken() {
        let root = Digest::new([1; 32]);
        let alone = signed(Target::Guest(Fingerprint::new(root)), Vec::new());
        let many = signed(Target::Guests { root, count: 2 }, vec![Digest::new([2; 32])]);
        for signed in [alone, many] {
            assert_eq!(read(shown(&signed)).unwrap(), signed);
            let text = serde_json::to_string(&signed).unwrap();
            assert_eq!(serde_json::from_str::<Signed>(&text).unwrap(), signed, "in the data base");
        }
    }

    #[test]
    fn what_is_no_signature_is_refused_by_its_form() {
        let good = shown(&signed(Target::Guest(Fingerprint::new(Digest::new([1; 32]))), Vec::new()));
        let long = api::Proof { index: 0, path: vec!["11".repeat(32); 21] };
        let wrong = [
            Signature { armored: String::new(), ..good.clone() },
            Signature {
                armored: "-----BEGIN SSH SIGNATURE-----\n?\n-----END SSH SIGNATURE-----".into(),
                ..good.clone()
            },
            Signature { nonce: "11".into(), ..good.clone() },
            Signature { proof: Some(long), ..good.clone() },
            Signature { target: api::Target::Guest { fingerprint: "SHA256:short".into() }, ..good },
        ];
        for wrong in wrong {
            assert!(read(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}
