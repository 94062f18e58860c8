//! What a policy says of what is asked for, from its text on.

use super::asked::{Place, Start, What};
use super::*;
use doorbell_wire::ids::{Digest, LinkName, RequestId, Sequence};
use doorbell_wire::message::action::{
    Executable, Form, Get, Input, Limits, LinkSelector, LinkSet, Payload, Program, Put,
};
use std::os::unix::fs::PermissionsExt as _;

pub(super) fn rules(text: &str) -> Rules {
    Rules::read(text.as_bytes()).unwrap()
}

pub(super) fn parts(words: &[&str]) -> RunParts {
    let (command, args) = words.split_first().unwrap();
    RunParts {
        executable: Executable::InGuest((*command).to_owned().try_into().unwrap()),
        args: args.iter().map(|word| (*word).to_owned()).collect(),
        env: Vec::new(),
        cwd: None,
        user: None,
        input: Input::None,
        limits: Limits::default(),
        new_privileges: false,
    }
}

pub(super) fn run(words: &[&str]) -> Action {
    Action::Run(Run::try_from(parts(words)).unwrap())
}

pub(super) fn put(path: &str) -> Action {
    let payload = Payload::new(Digest::new([0; 32]), 0).unwrap();
    let path = path.parse().unwrap();
    Action::Put(Put { path, payload, form: Form::File, mode: None, owner: None, replace: true })
}

fn get(path: &str) -> Action {
    Action::Get(Get { path: path.parse().unwrap() })
}

fn link_down(name: &str) -> Action {
    let link = LinkSelector::Name(name.parse::<LinkName>().unwrap());
    Action::LinkSet(LinkSet { link, up: false })
}

fn program(digest: u8, args: &[&str]) -> Action {
    let program = Program::new(Digest::new([digest; 32]), 1, "true".parse().unwrap()).unwrap();
    let words: Vec<&str> = std::iter::once("x").chain(args.iter().copied()).collect();
    Action::Run(
        Run::try_from(RunParts { executable: Executable::Program(program), ..parts(&words) }).unwrap(),
    )
}

fn without_file() -> Policy {
    Policy::new(None, false, OwnFiles::default())
}

/// What the text says: the rule, and how it ends.
fn said(text: &str, action: &Action) -> Result<Ruling, String> {
    without_file().decide(&rules(text), &Asked::of(action)).map_err(|rule| rule.to_string())
}

fn allows(text: &str, action: &Action) -> bool {
    said(text, action).is_ok()
}

/// A file that the agent would use.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("policy.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    (dir, path)
}

const ALLOW: &str = "[[rule]]\neffect = \"allow\"\nactions = [\"run\"]\n";

#[test]
fn the_first_rule_that_fits_decides_and_the_default_denies() {
    let text = "[[rule]]\neffect = \"deny\"\nactions = [\"run\"]\ncommand = [\"rm\", \"**\"]\ntext = \"nothing is removed\"\n\
                [[rule]]\neffect = \"allow\"\nactions = [\"run\", \"link-*\"]\n";
    assert_eq!(said(text, &run(&["rm", "x"])), Err("rule 1: nothing is removed".into()));
    assert_eq!(said(text, &run(&["ls"])).unwrap().rule.as_str(), "rule 2: allow run, link-*");
    assert!(allows(text, &link_down("eth0")) && allows(text, &Action::LinkList));
    assert_eq!(said(text, &get("/etc/motd")), Err("no rule fits, and the default is deny".into()));
    let text = format!("default = \"allow\"\n{text}");
    assert_eq!(
        said(&text, &get("/etc/motd")).unwrap().rule.as_str(),
        "no rule fits, and the default is allow"
    );
    assert_eq!(said("", &run(&["ls"])), Err("no rule fits, and the default is deny".into()));
}

#[test]
fn a_rule_that_demands_a_signature_joins_with_the_agents_demand() {
    let text = "default = \"allow\"\n[[rule]]\neffect = \"require-signature\"\nactions = [\"put\"]\n";
    let demand = |signed, action: &Action| {
        let policy = Policy::new(None, signed, OwnFiles::default());
        policy.decide(&rules(text), &Asked::of(action)).unwrap().demand
    };
    assert_eq!(demand(false, &put("/srv/x")), Demand::Rule);
    assert_eq!(demand(true, &put("/srv/x")), Demand::Rule);
    assert_eq!(demand(false, &run(&["ls"])), Demand::None);
    assert_eq!(demand(true, &run(&["ls"])), Demand::Agent);
}

#[test]
fn a_command_that_is_allowed_gets_nothing_that_its_rule_does_not_name() {
    let named = format!("{ALLOW}command = [\"systemctl\", \"status\", \"*\"]\n");
    let with = |change: &dyn Fn(&mut RunParts)| {
        let mut parts = parts(&["systemctl", "status", "nginx"]);
        change(&mut parts);
        Action::Run(Run::try_from(parts).unwrap())
    };
    let plain = with(&|_| {});
    let path = with(&|parts| parts.env = vec![("PATH".into(), "/tmp".into())]);
    let cwd = with(&|parts| parts.cwd = Some("/tmp".parse().unwrap()));
    let input = with(&|parts| parts.input = Input::Stream);
    assert!(allows(&named, &plain));
    for other in [&path, &cwd, &input] {
        assert!(!allows(&named, other), "{other:?}");
        assert!(allows(ALLOW, other), "who allows any command allows what is around it");
    }
    assert!(allows(&format!("{named}env = [\"PATH\", \"LC_*\"]\n"), &path));
    assert!(!allows(&format!("{named}env = [\"LC_*\"]\n"), &path));
    assert!(allows(&format!("{named}cwd = [\"/tmp/**\"]\n"), &cwd));
    assert!(allows(&format!("{named}input = true\n"), &input));
    assert!(!allows(&format!("{ALLOW}input = false\n"), &input));
}

#[test]
fn who_may_run_things_as_a_user_may_not_become_another_one() {
    let as_user = |new_privileges| {
        let parts = RunParts { user: Some("4242".parse().unwrap()), new_privileges, ..parts(&["id"]) };
        Action::Run(Run::try_from(parts).unwrap())
    };
    let rule = format!("{ALLOW}user = [\"4242\"]\n");
    assert!(allows(&rule, &as_user(false)) && !allows(&rule, &as_user(true)));
    assert!(allows(ALLOW, &as_user(true)), "who may do anything may do that");
}

#[test]
fn a_program_is_known_by_its_digest_and_never_by_its_name() {
    let named = format!("{ALLOW}command = [\"true\"]\n");
    assert!(allows(&named, &run(&["true"])) && !allows(&named, &program(1, &[])), "its name is true");
    let digest = Digest::new([1; 32]);
    let known = format!("{ALLOW}program = [\"{digest}\"]\nargs = [\"status\"]\n");
    assert!(allows(&known, &program(1, &["status"])));
    assert!(!allows(&known, &program(2, &["status"])) && !allows(&known, &program(1, &["stop"])));
    assert!(!allows(&known, &run(&["true", "status"])));
    assert!(allows(&format!("{ALLOW}program = [\"*\"]\n"), &program(2, &["x", "y"])));
}

#[test]
fn a_rule_that_denies_is_about_every_name_of_a_thing() {
    let deny =
        |more: &str| format!("default = \"allow\"\n[[rule]]\neffect = \"deny\"\nactions = [\"*\"]\n{more}\n");
    let rm = deny("command = [\"rm\", \"**\"]");
    assert!(
        !allows(&rm, &run(&["rm"]))
            && !allows(&rm, &run(&["/bin/rm", "x"]))
            && !allows(&rm, &run(&["../bin/rm"]))
    );
    assert!(allows(&rm, &run(&["rmdir"])));
    let root = deny("user = [\"root\"]");
    let as_user = |user: &str| {
        Action::Run(Run::try_from(RunParts { user: Some(user.parse().unwrap()), ..parts(&["id"]) }).unwrap())
    };
    assert!(
        !allows(&root, &run(&["id"])) && !allows(&root, &as_user("0")) && allows(&root, &as_user("4242"))
    );
    let shadow = deny("path = [\"/etc/shadow\"]");
    assert!(
        !allows(&shadow, &get("/etc/shadow"))
            && !allows(&shadow, &get("/etc"))
            && !allows(&shadow, &get("/"))
    );
    assert!(!allows(&shadow, &get("/etc/./../etc/shadow")) && allows(&shadow, &get("/etc/motd")));
    let env = deny("env = [\"LD_*\"]");
    let preload = RunParts {
        env: vec![("A".into(), String::new()), ("LD_PRELOAD".into(), "x".into())],
        ..parts(&["id"])
    };
    assert!(!allows(&env, &Action::Run(Run::try_from(preload).unwrap())) && allows(&env, &run(&["id"])));
    let eth0 = deny("link = [\"eth0\"]");
    let both =
        Asked { action: "link-down", what: What::Link(vec!["52:54:00:00:00:01".into(), "eth0".into()]) };
    assert!(without_file().decide(&rules(&eth0), &both).is_err(), "by its address");
    assert!(!allows(&eth0, &link_down("eth0")) && allows(&eth0, &link_down("eth1")));
}

#[test]
fn a_path_that_is_allowed_is_the_one_that_it_leads_to() {
    let text = "[[rule]]\neffect = \"allow\"\nactions = [\"put\"]\npath = [\"/srv/**\"]\n";
    let asked = |given: &str, real: &str| {
        let place = Place { given: given.into(), real: real.into() };
        without_file().decide(&rules(text), &Asked { action: "put", what: What::Path(place) }).is_ok()
    };
    assert!(asked("/srv/x", "/srv/x") && asked("/link/x", "/srv/x"));
    assert!(!asked("/srv/link/x", "/etc/x"));
}

#[test]
fn what_begins_is_the_user_and_within_the_limits_of_the_rule() {
    let text = format!(
        "{ALLOW}run-as = \"nobody\"\nlimits = {{ memory = \"64M\", processes = 8, cpu = 50, timeout = \"30s\" }}\n"
    );
    let offer = |limits: Limits, timeout_ms| Offer {
        request: RequestId::new([1; 16]),
        sequence: Some(Sequence::try_from(1).unwrap()),
        floor: 0,
        action: Action::Run(
            Run::try_from(RunParts {
                limits,
                new_privileges: true,
                user: Some("root".parse().unwrap()),
                ..parts(&["id"])
            })
            .unwrap(),
        ),
        timeout_ms,
        idempotent: false,
        signed: None,
    };
    let bound = |offer: &Offer| {
        let ruling = said(&text, &offer.action).unwrap();
        let bound = ruling.bound(offer).unwrap();
        let parts = bound.action.run().unwrap().parts().clone();
        assert_eq!((parts.user.unwrap().as_str(), parts.new_privileges), ("nobody", false));
        (parts.limits.memory_max, parts.limits.processes_max, parts.limits.cpu_percent_max, bound.timeout_ms)
    };
    assert_eq!(bound(&offer(Limits::default(), None)), (Some(64 << 20), Some(8), Some(50), Some(30_000)));
    let less = Limits {
        memory_max: Some(1 << 20),
        processes_max: Some(99),
        cpu_percent_max: None,
        ..Limits::default()
    };
    assert_eq!(bound(&offer(less, Some(5))), (Some(1 << 20), Some(8), Some(50), Some(5)));
}

#[test]
fn a_file_that_cannot_be_used_allows_nothing_and_says_why() {
    let policy = |path: &Path| Policy::new(Some(path), false, OwnFiles::default());
    let refused = |path: &Path| policy(path).rule_on(&run(&["id"])).unwrap_err().to_string();
    let (_dir, path) = file("default = \"allow\"\n");
    assert!(policy(&path).rule_on(&run(&["id"])).is_ok() && !policy(&path).demands());
    std::fs::write(&path, "default = \"allow\"\nrules = 1\n").unwrap();
    let why = refused(&path);
    assert!(
        why.starts_with("the policy is broken, so nothing is allowed: ") && why.contains("line 2: "),
        "{why}"
    );
    assert!(policy(&path).demands(), "what cannot be read may have demanded it");
    assert!(policy(&path).rule_on(&Action::LinkList).is_err());
    std::fs::write(&path, "default = \"allow\"\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(refused(&path).contains("mode 666"), "{}", refused(&path));
    std::fs::remove_file(&path).unwrap();
    assert!(refused(&path).contains("cannot be opened"), "one that was named has to be there");
}

#[test]
fn a_rule_that_is_written_counts_at_once() {
    let (_dir, path) = file("default = \"allow\"\n");
    let policy = Policy::new(Some(&path), false, OwnFiles::default());
    assert!(policy.rule_on(&run(&["id"])).is_ok());
    std::fs::write(&path, "default = \"deny\"\n").unwrap();
    assert!(policy.rule_on(&run(&["id"])).is_err());
}

#[test]
fn the_agents_own_files_are_refused_whatever_the_rules_say() {
    let (dir, path) = file("default = \"allow\"\n");
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let policy = Policy::new(Some(&path), false, OwnFiles::new(&state, &[]));
    let text = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let in_state = RunParts { cwd: Some(text("state").parse().unwrap()), ..parts(&["id"]) };
    for action in [
        put(&text("policy.toml")),
        get(&text("policy.toml")),
        put(&text("state/key")),
        get(&text("state")),
        run(&[&text("state/programs/x")]),
        Action::Run(Run::try_from(in_state).unwrap()),
    ] {
        let why = policy.rule_on(&action).unwrap_err().to_string();
        assert!(why.starts_with("the agent's own files are no target of a request: "), "{why}");
    }
    assert!(policy.rule_on(&put(&text("other"))).is_ok());
}

#[test]
fn a_start_is_seen_with_all_that_a_rule_looks_at() {
    let cwd = Some("/usr/./bin".parse().unwrap());
    let parts =
        RunParts { cwd, user: Some("0".parse().unwrap()), input: Input::Stream, ..parts(&["./id", "-u"]) };
    let asked = Asked::of(&Action::Run(Run::try_from(parts).unwrap()));
    let What::Start(Start { program, words, file, users, cwd, input, .. }) = asked.what else { panic!() };
    assert_eq!((program, words, input), (None, vec!["./id".into(), "-u".into()], true));
    assert_eq!(file.unwrap().rsplit('/').next(), Some("id"));
    assert!(users.contains(&"root".to_owned()));
    assert_eq!(cwd.unwrap().given, "/usr/bin");
}
