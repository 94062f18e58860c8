//! From what lies in an inbox to a request as the API takes it, and to the name it has for ever.
//!
//! Called by the intake with bytes that have been read whole. Trusts nothing in them: what comes out goes through the
//! same checks as a body of the API.

use super::entry::Same;
use doorbell_api::request::NewRequest;
use doorbell_wire::ids::{Digest, GuestId, RequestId};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A request that was read from a file.
#[derive(Debug)]
pub(super) enum Asked {
    /// As it is to be accepted.
    Whole(Box<NewRequest>),
    /// With a program that lies beside it.
    Beside {
        /// The request without its program.
        request: Value,
        /// The program.
        program: Companion,
    },
}

/// A program that a request names by its file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Companion {
    /// The file's name.
    pub(super) file: String,
    /// Its digest, where the request will have no other.
    pub(super) digest: Option<Digest>,
    /// What people call it; the file's name when absent.
    name: Option<String>,
}

/// A program alone: run without arguments.
pub(super) fn plain(digest: Digest, name: &str) -> Result<NewRequest, String> {
    let program = json!({"digest": digest.to_string(), "name": name});
    strict(json!({"action": {"type": "run", "program": program}}))
}

/// Reads a request.
pub(super) fn read(bytes: &[u8]) -> Result<Asked, String> {
    let invalid = |error: serde_json::Error| format!("it is no request: {error}");
    let mut request: Value = serde_json::from_slice(bytes).map_err(invalid)?;
    if request.get("id").is_some() {
        return Err("it has an id: leave it out, what comes through the spool is named by its file".into());
    }
    let program = request.pointer_mut("/action/program").filter(|program| program.get("file").is_some());
    let Some(program) = program else {
        return serde_json::from_slice(bytes).map(|whole| Asked::Whole(Box::new(whole))).map_err(invalid);
    };
    let program = Companion::deserialize(program.take()).map_err(invalid)?;
    Ok(Asked::Beside { request, program })
}

/// Completes a request with the program that lay beside it.
pub(super) fn with_program(
    mut request: Value,
    program: &Companion,
    digest: Digest,
) -> Result<NewRequest, String> {
    if let Some(expected) = program.digest.filter(|expected| *expected != digest) {
        return Err(format!("its program {} has digest {digest}, expected {expected}", program.file));
    }
    let name = program.name.as_ref().unwrap_or(&program.file);
    if let Some(place) = request.pointer_mut("/action/program") {
        *place = json!({"digest": digest.to_string(), "name": name});
    }
    strict(request)
}

/// The ids that a file may have as a request, in their order: the same file has the same ones after any crash, and
/// one that is put there when it is gone has the next.
pub(super) fn ids(guest: GuestId, file: Same, content: &[u8; 32]) -> Vec<RequestId> {
    let id = |number: u8| {
        let mut sum = Sha256::new();
        sum.update(b"doorbell spool 1\0");
        sum.update(guest.as_bytes());
        sum.update(file.inode.to_be_bytes());
        sum.update(file.made.0.to_be_bytes());
        sum.update(file.made.1.to_be_bytes());
        sum.update(content);
        sum.update([number]);
        let mut id = [0; 16];
        id.iter_mut().zip(sum.finalize()).for_each(|(to, from)| *to = from);
        RequestId::new(id)
    };
    (0..IDS).map(id).collect()
}

fn strict(request: Value) -> Result<NewRequest, String> {
    serde_json::from_value(request).map_err(|error| format!("it is no request: {error}"))
}

/// How often a file that looks the same in everything may be put there and taken.
const IDS: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_api::request::Action;

    const DIGEST: Digest = Digest::new([7; 32]);

    fn refusal(text: &str) -> String {
        let line = read(text.as_bytes()).unwrap_err();
        assert!(!line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn a_request_is_read_as_strictly_as_the_api_does() {
        let whole = read(br#"{"action": {"type": "link-down", "link": "eth0"}, "urgent": true}"#).unwrap();
        assert!(matches!(whole, Asked::Whole(new) if new.urgent));
        assert!(
            refusal(r#"{"action": {"type": "link-down", "link": "eth0"}, "urgnt": 1}"#)
                .contains("unknown field `urgnt`")
        );
        let twice =
            r#"{"action": {"type": "link-down", "link": "a"}, "action": {"type": "link-up", "link": "a"}}"#;
        assert!(refusal(twice).contains("duplicate field"));
        assert!(refusal("{").starts_with("it is no request: "));
        assert!(refusal("[]").starts_with("it is no request: "));
        assert!(refusal(r#"{"id": "00", "action": {}}"#).starts_with("it has an id"));
        assert!(refusal(&"[".repeat(10_000)).contains("recursion limit"));
    }

    #[test]
    fn a_program_beside_a_request_is_named_by_its_file_and_held_to_its_digest() {
        let text = |more: &str| {
            format!(
                r#"{{"action": {{"type": "run", "args": ["-v"], "program": {{"file": "fix.program"{more}}}}}}}"#
            )
        };
        let completed = |more: &str| match read(text(more).as_bytes()).unwrap() {
            Asked::Beside { request, program } => with_program(request, &program, DIGEST),
            Asked::Whole(new) => panic!("{new:?}"),
        };
        let Action::Run(run) = completed("").unwrap().action else { panic!("no run") };
        let program = run.program.unwrap();
        assert_eq!((program.digest, program.name.as_str()), (DIGEST.to_string(), "fix.program"));
        assert_eq!(run.args, ["-v"]);
        let Action::Run(run) = completed(r#", "name": "fix""#).unwrap().action else { panic!("no run") };
        assert_eq!(run.program.unwrap().name, "fix");
        assert!(completed(&format!(r#", "digest": "{DIGEST}""#)).is_ok());
        let other = completed(&format!(r#", "digest": "{}""#, Digest::new([8; 32]))).unwrap_err();
        assert!(other.contains("expected 0808"), "{other}");
        assert!(refusal(&text(r#", "sum": 1"#)).contains("unknown field `sum`"));
    }

    #[test]
    fn a_file_has_the_same_ids_again_and_no_two_files_share_one() {
        let guest = GuestId::new([1; 16]);
        let same = Same { inode: 5, made: (6, 7) };
        let first = ids(guest, same, &[9; 32]);
        assert_eq!(first, ids(guest, same, &[9; 32]));
        let others = [
            ids(GuestId::new([2; 16]), same, &[9; 32]),
            ids(guest, Same { inode: 6, ..same }, &[9; 32]),
            ids(guest, Same { made: (6, 8), ..same }, &[9; 32]),
            ids(guest, same, &[8; 32]),
        ];
        let all: std::collections::BTreeSet<_> = others.iter().flatten().chain(&first).collect();
        assert_eq!(all.len(), 5 * usize::from(IDS));
    }
}
