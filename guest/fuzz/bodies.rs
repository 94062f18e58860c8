//! What the fuzz targets do with their bytes: functions that end in assertions.
//!
//! Called by the targets under a nightly compiler, and by `tests/corpus.rs` on the committed corpora with any.

use base64ct::{Base64, Encoding as _};
use doorbell_agent::policy::Policy;
use doorbell_agent::policy::asked::{Asked, Place, Start, What};
use doorbell_agent::policy::check::check;
use doorbell_agent::policy::file::{ACTIONS, Rules};
use doorbell_agent::policy::own_files::OwnFiles;
use doorbell_agent::policy::rule::Effect;
use doorbell_agent::verify::signers::Signers;
use doorbell_agent::verify::sshsig::SshSig;
use doorbell_wire::ids::Fingerprint;
use doorbell_wire::manifest::NAMESPACE;
use doorbell_wire::message::SshSignature;

/// Any bytes as a signature: no panic, read at this length alone, and good for one text at most. Any text as its
/// armour: what is read from it is written as what reads the same.
pub fn sshsig(data: &[u8]) {
    if let Ok(signature) = SshSig::read(data) {
        assert!(
            data.len() > signature.key().len() + signature.namespace().len(),
            "parts longer than the whole"
        );
        assert_eq!(signature.fingerprint(), Fingerprint::of_blob(signature.key()));
        let good = TEXTS.iter().filter(|text| signature.is_over(text) == Ok(true)).count();
        assert!(good <= 1, "one signature is over {good} texts");
        let shorter = data.split_last().map_or(data, |(_, rest)| rest);
        assert!(SshSig::read(shorter).is_err(), "its last byte counts for nothing");
        assert!(SshSig::read(&[data, b"x"].concat()).is_err(), "a byte behind its end counts for nothing");
    }
    let armour = std::str::from_utf8(data).ok().and_then(|text| SshSignature::from_armor(text).ok());
    if let Some(signature) = armour {
        assert_eq!(SshSignature::from_armor(&signature.to_armor()), Ok(signature));
    }
}

/// Any bytes as a file of allowed signers: no panic, each line counts by itself, and what is commented out lets
/// nobody in.
pub fn allowed_signers(data: &[u8]) {
    let whole = Signers::read(data);
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let refused: Vec<usize> = whole.refused.iter().map(|(line, _)| *line).collect();
    assert!(refused.is_sorted_by(|one, next| one < next), "lines out of order: {refused:?}");
    assert!(refused.iter().all(|line| (1..=lines.len()).contains(line)), "{refused:?} of {}", lines.len());
    let alone: Vec<Signers> = lines.iter().map(|line| Signers::read(line)).collect();
    let silent =
        Signers::read(&lines.iter().map(|line| [b"#", *line].concat()).collect::<Vec<_>>().join(&b'\n'));
    for key in keys(data) {
        for now_s in MOMENTS {
            let found = whole.find(&key, NAMESPACE, now_s);
            let by_a_line = alone.iter().any(|line| line.find(&key, NAMESPACE, now_s).is_ok());
            assert_eq!(found.is_ok(), by_a_line, "{found:?}: lines change each other");
            assert!(silent.find(&key, NAMESPACE, now_s).is_err(), "a comment lets somebody in");
            if let Ok(signer) = found {
                assert_eq!(signer.key, Fingerprint::of_blob(&key));
                assert!(!signer.principals.is_empty(), "nobody is let in");
                let _ = signer.is("ann@example.com");
            }
        }
    }
}

/// Any bytes as a policy: no panic, the first rule that fits decides and the default where none does, what denies is never
/// allowed, and what is wrong with it is told in one line.
pub fn policy(data: &[u8]) {
    let rules = match Rules::read(data) {
        Ok(rules) => rules,
        Err(why) => return assert!(!why.is_empty() && !why.contains('\n'), "{why:?}"),
    };
    let policy = Policy::new(None, false, OwnFiles::default());
    for asked in asked() {
        let first = rules.rules.iter().find(|rule| rule.fits(&asked));
        let effect = first.map_or(rules.default, |rule| rule.effect);
        let decided = policy.decide(&rules, &asked);
        assert_eq!(decided.is_err(), effect == Effect::Deny, "{asked:?}");
        assert!(first.is_none_or(|rule| rule.is_about(asked.action)), "{asked:?}");
    }
    let found = check(&rules);
    assert_eq!(found.demands, rules.demand());
    assert!(found.open.iter().chain(&found.notes).all(|line| !line.contains('\n')), "{found:?}");
    if rules.default == Effect::Deny && rules.rules.iter().all(|rule| rule.effect != Effect::Allow) {
        assert!(!found.fails(), "{found:?}");
    }
}

/// Something of each action.
fn asked() -> impl Iterator<Item = Asked> {
    let place = Place { given: "/srv/link/x".into(), real: "/etc/x".into() };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let start = Start {
        program: None,
        words: words(&["/bin/sh", "-c", "*"]),
        file: Some("/usr/bin/sh".into()),
        users: words(&["0", "root"]),
        env: words(&["PATH"]),
        cwd: Some(place.clone()),
        input: true,
        new_privileges: true,
    };
    let sent = Start { program: Some("ab".repeat(32)), words: words(&["x"]), file: None, ..start.clone() };
    ACTIONS.into_iter().flat_map(move |action| {
        let whats = match action {
            "run" | "run-reboot" => vec![What::Start(start.clone()), What::Start(sent.clone())],
            "put" | "get" => vec![What::Path(place.clone())],
            "link-list" => vec![What::Nothing],
            _ => vec![What::Link(words(&["52:54:00:12:34:56", "eth0"]))],
        };
        whats.into_iter().map(move |what| Asked { action, what })
    })
}

/// What stands in the file as a key, whole.
fn keys(data: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let words = data.split(|byte| byte.is_ascii_whitespace()).filter(|word| word.starts_with(b"AAAA"));
    words
        .take(KEYS_MAX)
        .filter_map(|digits| std::str::from_utf8(digits).ok())
        .filter_map(|digits| Base64::decode_vec(digits).ok())
}

/// The text that the vectors are over, and others.
const TEXTS: [&[u8]; 3] = [include_bytes!("../src/verify/vectors/text"), b"doorbell-request 1\n", b""];
/// The first moment, one within the corpus's bounds, and the last.
const MOMENTS: [u64; 3] = [0, 1_798_113_600, u64::MAX];
const KEYS_MAX: usize = 8;
