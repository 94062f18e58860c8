//! What counts as root's and what does not, a case each.

use super::super::tests::rules;
use super::*;

/// What is open where something else is by signature.
fn open(more: &str) -> Vec<String> {
    let signed = "[[rule]]\neffect = \"require-signature\"\nactions = [\"run-reboot\"]\n";
    let found = check(&rules(&format!("{signed}{more}")));
    assert_eq!(found.fails(), !found.open.is_empty());
    found.open
}

fn allow(actions: &str, more: &str) -> String {
    format!("[[rule]]\neffect = \"allow\"\nactions = {actions}\n{more}\n")
}

#[test]
fn what_amounts_to_root_without_a_signature_is_found() {
    let digest = "ab".repeat(32);
    for (actions, more) in [
        ("[\"run\"]", String::new()),
        ("[\"*\"]", "command = [\"systemctl\", \"restart\", \"*\"]".into()),
        ("[\"run\"]", "command = [\"apt-get\", \"**\"]".into()),
        ("[\"run\"]", "command = [\"sh\"]\ninput = true".into()),
        ("[\"run\"]", "command = [\"true\"]\nenv = [\"LD_PRELOAD\"]".into()),
        ("[\"run\"]", "command = [\"make\"]\ncwd = [\"/srv/**\"]".into()),
        ("[\"run\"]", "program = [\"*\"]\nargs = [\"x\"]".into()),
        ("[\"run\"]", format!("program = [\"{digest}\"]")),
        ("[\"run\"]", "user = [\"*\"]".into()),
        ("[\"run\"]", "user = [\"nobody\", \"0\"]".into()),
        ("[\"run\"]", "run-as = \"root\"".into()),
        ("[\"put\"]", "path = [\"/srv/**\"]".into()),
        ("[\"put\"]", String::new()),
        ("[\"get\"]", String::new()),
        ("[\"get\"]", "path = [\"/var/log/x\", \"/etc/**\"]".into()),
        ("[\"get\"]", "path = [\"/*/x\"]".into()),
    ] {
        let found = open(&allow(actions, &more));
        assert!(!found.is_empty(), "{actions} {more}");
        assert!(found.iter().all(|line| line.starts_with("rule 2: ")), "{found:?}");
    }
    assert!(
        check(&rules("default = \"allow\"\n[[rule]]\neffect = \"require-signature\"\nactions = [\"run\"]\n"))
            .fails()
    );
}

#[test]
fn what_does_not_amount_to_root_is_not() {
    let digest = "ab".repeat(32);
    for (actions, more) in [
        ("[\"run\"]", "command = [\"systemctl\", \"restart\", \"nginx\"]".to_owned()),
        ("[\"run\"]", format!("program = [\"{digest}\"]\nargs = [\"status\"]")),
        ("[\"run\"]", "run-as = \"4242\"".into()),
        ("[\"run\"]", "user = [\"4242\", \"nobody\"]".into()),
        ("[\"get\"]", "path = [\"/var/log/**\", \"/srv/www\"]".into()),
        ("[\"link-*\"]", String::new()),
    ] {
        let found = open(&allow(actions, &more));
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn what_a_rule_in_front_decides_about_is_not_open() {
    let closed = "[[rule]]\neffect = \"require-signature\"\nactions = [\"run*\", \"put\", \"get\"]\n";
    let found = check(&rules(&format!("default = \"allow\"\n{closed}{}", allow("[\"run\"]", ""))));
    assert!(!found.fails(), "{found:?}");
    assert!(
        found.notes.iter().any(|note| note.starts_with("rule 2: ") && note.contains("never reached")),
        "{found:?}"
    );
    let half = "[[rule]]\neffect = \"require-signature\"\nactions = [\"run\"]\ncommand = [\"sh\", \"**\"]\n";
    assert!(check(&rules(&format!("{half}{}", allow("[\"run\"]", "")))).fails());
}

#[test]
fn without_a_demand_nothing_is_contradicted() {
    let found = check(&rules(&allow("[\"run\"]", "")));
    assert!(!found.fails() && !found.open.is_empty(), "{found:?}");
}

#[test]
fn a_list_by_signature_is_told_of() {
    let found = check(&rules("default = \"require-signature\"\n"));
    assert!(found.notes.iter().any(|note| note.contains("link-list")) && !found.fails(), "{found:?}");
}
