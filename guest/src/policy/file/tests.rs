//! What is read as a policy, and what is refused as none.

use super::*;

fn broken(text: &str) -> String {
    Rules::read(text.as_bytes()).unwrap_err()
}

const RULE: &str = "[[rule]]\neffect = \"allow\"\n";

#[test]
fn every_word_of_a_rule_is_read() {
    let digest = "ab".repeat(32);
    let text = format!(
        "default = \"require-signature\"\n{RULE}actions = [\"run\", \"put\", \"link-*\"]\ntext = \"as it is\"\n\
         command = [\"a\", \"*\", \"**\"]\nprogram = [\"{digest}\"]\nargs = [\"**\"]\nuser = [\"bob\"]\nenv = [\"LC_*\"]\n\
         cwd = [\"/srv\"]\ninput = true\npath = [\"/srv/**\"]\nlink = [\"eth*\"]\nrun-as = \"bob\"\n\
         limits = {{ memory = \"1G\", processes = 5, cpu = 150, timeout = \"2m\" }}\n"
    );
    let rules = Rules::read(text.as_bytes()).unwrap();
    assert_eq!(rules.default, Effect::RequireSignature);
    let [rule] = rules.rules.as_slice() else { panic!("{rules:?}") };
    let caps = Caps {
        memory_max: Some(1 << 30),
        processes_max: Some(5),
        cpu_percent_max: Some(150),
        timeout_ms: Some(120_000),
    };
    assert_eq!((rule.number, rule.caps, rule.run_as.as_deref()), (1, caps, Some("bob")));
    let as_written = format!(
        "allow run, put, link-*, command [\"a\", \"*\", \"**\"], args [\"**\"], program [\"{digest}\"], user [\"bob\"], \
         env [\"LC_*\"], link [\"eth*\"], cwd [\"/srv\"], path [\"/srv/**\"], input, run-as \"bob\""
    );
    assert_eq!(rule.as_written(), as_written);
    assert_eq!(rule.own_text(), "rule 1: as it is");
}

#[test]
fn what_is_not_understood_whole_is_broken_and_told_where() {
    for (text, words) in [
        ("default = \"maybe\"\n", "line 1: "),
        ("\n\n[[rules]]\n", "line 3: unknown field `rules`"),
        (
            "[[rule]]\neffect = \"allow\"\nactions = [\"run\"]\nusers = [\"x\"]\n",
            "line 4: unknown field `users`",
        ),
        ("[[rule]]\neffect = \"allow\"\n", "missing field `actions`"),
        ("[[rule]]\nactions = [\"run\"]\n", "missing field `effect`"),
        (
            "[[rule]]\neffect = \"allow\"\nactions = [\"run\"]\nlimits = { disk = 1 }\n",
            "unknown field `disk`",
        ),
        ("default = \"deny\"\ndefault = \"allow\"\n", "line 2: "),
        ("default = \"deny\n", "line 1: "),
    ] {
        assert!(broken(text).contains(words), "{words:?} is not in {:?}", broken(text));
    }
    assert!(Rules::read(b"\xff").unwrap_err().contains("UTF-8"));
}

#[test]
fn a_rule_about_nothing_is_broken() {
    for (more, words) in [
        ("actions = []", "actions: an empty list"),
        ("actions = [\"reboot\"]", "\"reboot\" is none of run, run-reboot, put"),
        ("actions = [\"put\"]\ncommand = [\"x\"]", "command: that is for run"),
        ("actions = [\"put\"]\nrun-as = \"bob\"", "run-as: that is for run"),
        ("actions = [\"put\"]\nlimits = { timeout = \"1s\" }", "limits: that is for run"),
        ("actions = [\"run\"]\npath = [\"/x\"]", "path: that is for put and get"),
        ("actions = [\"run\"]\nlink = [\"x\"]", "link: that is for link-up"),
        ("actions = [\"run\"]\nargs = [\"x\"]", "args: that is for a program"),
        ("actions = [\"run\"]\ncommand = []", "command: it has no words"),
        ("actions = [\"run\"]\ncommand = [\"**\", \"x\"]", "command: "),
        ("actions = [\"get\"]\npath = [\"etc\"]", "path: \"etc\": a path begins with /"),
        ("actions = [\"run\"]\nprogram = [\"ab\"]", "program: \"ab\" is neither"),
        ("actions = [\"run\"]\nlimits = { memory = \"0\" }", "limits: memory: \"0\" is no number"),
        ("actions = [\"run\"]\nlimits = { memory = \"1T\" }", "limits: memory: \"1T\" is no number"),
        ("actions = [\"run\"]\nlimits = { memory = \"99999999999999G\" }", "is no number"),
        ("actions = [\"run\"]\nlimits = { timeout = \"5\" }", "is no number above 0 with one of ms, s, m, h"),
        ("actions = [\"run\"]\nlimits = { cpu = 0 }", "a limit of 0"),
        ("actions = [\"run\"]\nlimits = { processes = -1 }", "invalid value"),
        ("actions = [\"run\"]\nrun-as = \"\"", "run-as: a user has"),
        ("actions = [\"run\"]\ntext = \"\"", "text: "),
        ("actions = [\"run\"]\ntext = \"a\\u001bb\"", "text: "),
    ] {
        let text = format!("{RULE}{more}\n");
        assert!(broken(&text).contains(words), "{words:?} is not in {:?}", broken(&text));
    }
    let denies = "[[rule]]\neffect = \"deny\"\nactions = [\"run\"]\nrun-as = \"bob\"\n";
    assert!(broken(denies).contains("it denies"));
}

#[test]
fn a_file_as_deep_as_it_is_long_is_refused() {
    let deep = format!("default = {}1", "[".repeat(100_000));
    assert!(Rules::read(deep.as_bytes()).is_err());
}
