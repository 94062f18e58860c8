//! What `policy check` prints and how it ends.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn told(text: &str, mode: u32, own: bool) -> (u8, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let which = if own { Which::Own(Some(&path)) } else { Which::Any(&path) };
    let mut out = Vec::new();
    let status = report(which, &mut out).unwrap();
    (status, String::from_utf8(out).unwrap())
}

const OPEN: &str = "[[rule]]\neffect = \"require-signature\"\nactions = [\"put\"]\n\
                    [[rule]]\neffect = \"allow\"\nactions = [\"run\"]\ntext = \"anything\"\nlimits = { memory = \"1M\" }\n";

#[test]
fn the_rules_are_printed_and_what_is_open_fails() {
    let (status, text) = told(OPEN, 0o644, true);
    assert_eq!(status, EXIT_OPEN_POLICY);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "rule 1: require-signature put",
            "rule 2: allow run, at most memory 1048576 bytes (anything)",
            "default: deny"
        ]
    );
    assert!(lines[3].starts_with("fails: without a signature, rule 2: anything: allows run"), "{text}");
}

#[test]
fn a_sound_policy_passes() {
    let (status, text) = told("default = \"require-signature\"\n", 0o644, true);
    assert_eq!(status, 0, "{text}");
    assert_eq!(told("", 0o644, true), (0, "default: deny\n".to_owned()));
}

#[test]
fn a_broken_policy_is_told_in_one_line() {
    let (status, text) = told("default = \"x\x1b\"\n", 0o644, true);
    assert_eq!((status, text.lines().count()), (EXIT_BROKEN_POLICY, 1), "{text}");
    assert!(text.starts_with("broken, so nothing is allowed: ") && text.contains("line 1: "), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    let (status, text) = told("", 0o666, true);
    assert_eq!(status, EXIT_BROKEN_POLICY);
    assert!(text.contains("mode 666"), "{text}");
}

#[test]
fn a_file_of_somebody_is_looked_at_and_told_of() {
    let (status, text) = told("", 0o666, false);
    assert_eq!(status, 0);
    assert!(
        text.contains("note: in its place the agent would not use it: ") && text.contains("mode 666"),
        "{text}"
    );
    let mut out = Vec::new();
    assert_eq!(report(Which::Any(Path::new("/nowhere/policy")), &mut out).unwrap(), EXIT_BROKEN_POLICY);
    assert_eq!(report(Which::Own(Some(Path::new("/nowhere/policy"))), &mut out).unwrap(), EXIT_BROKEN_POLICY);
}
