//! The policy of a real guest's owner: what it allows is done, as the user and within the limits that it says, what it denies
//! or demands a signature of is refused with the rule's own text, a broken one lets nothing begin, and the agent's own
//! files are no target, with a policy or without.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step is a failed test"
)]

use doorbell_api::request::State;
use doorbell_tests::command::{Doorbell, begin};
use doorbell_tests::daemon::{Daemon, sh};
use doorbell_tests::faults::port::Port;
use doorbell_tests::guest::Machine;
use doorbell_tests::image::Image;
use doorbell_tests::lab::{GUEST, Lab};
use doorbell_tests::place::Place;
use doorbell_tests::wait::on;
use std::path::PathBuf;
use std::process::Command;

/// A guest, a way into it that no policy is asked about, and a key whose signatures it takes.
struct Yard {
    lab: Lab,
    port: Port,
    key: PathBuf,
}

#[test]
fn a_guest_does_what_its_owner_allows_and_nothing_else() {
    let mut yard = Yard::new();
    yard.its_own_files_are_no_target();
    yard.what_is_denied_is_refused_with_the_rules_text();
    yard.what_needs_a_signature_begins_with_one_alone();
    yard.what_is_allowed_runs_as_its_rule_says();
    yard.a_broken_policy_lets_nothing_begin_and_says_so();
    yard.lab.daemon.assert_audit_intact();
}

impl Yard {
    fn new() -> Self {
        let place = Place::new();
        let key = place.join("key");
        let words = ["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()];
        let _ = begin(&place, Command::new("ssh-keygen").args(words)).ended().expect(0);
        let daemon = Daemon::start(&place);
        let machine =
            Machine { image: Image::Faults, second_disk_mib: Some(8), port: true, ..Machine::default() };
        let guest = daemon.boot(&place, GUEST, &machine);
        let mut port = Port::at(&guest.port());
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        port.run(&format!(
            "mkdir -p -m 755 {DIRECTORY} && echo 'ann {}' >{DIRECTORY}/allowed_signers && chmod 644 {DIRECTORY}/*",
            public.trim()
        ));
        Self { lab: Lab { guest, daemon, place }, port, key }
    }

    fn doorbell(&self) -> Doorbell<'_> {
        self.lab.doorbell()
    }

    /// Puts a policy in its place; gives what the agent's own check says of it.
    fn policy(&mut self, text: &str) -> String {
        let script = format!(
            "cat >{DIRECTORY}/policy.toml <<'END'\n{text}\nEND\nchmod 644 {DIRECTORY}/policy.toml\n\
             /sbin/doorbell-agent policy check; echo status $?"
        );
        self.port.run(&script)
    }

    /// A command of a guest is refused, and it, the receipt and the audit trail say by what.
    #[track_caller]
    fn refused(&self, words: &[&str], rule: &str) {
        let run: Vec<&str> = ["run", GUEST, "--"].into_iter().chain(words.iter().copied()).collect();
        let ended = self.doorbell().run(&run).expect(122);
        assert!(ended.stderr.contains(rule), "{rule:?} is not in {:?}", ended.stderr);
        let request = self.lab.daemon.finished(&self.lab.submit(sh_of(words)));
        let detail = request.receipt.clone().unwrap().detail.unwrap_or_default();
        assert_eq!((request.state, request.starts), (State::Refused, 0), "{detail}");
        assert!(detail.contains(rule), "{rule:?} is not in {detail:?}");
        let can: Vec<&str> =
            ["--json", "can", GUEST, "--"].into_iter().chain(words.iter().copied()).collect();
        let said = self.doorbell().run(&can).expect(122).json();
        assert_eq!((&said["allowed"], &said["detail"]), (&false.into(), &detail.into()), "{said}");
    }

    /// A guest says that it would begin something, and by which rule.
    #[track_caller]
    fn can(&self, words: &[&str], effect: &str, rule: &str) {
        let can: Vec<&str> = ["--json", "can", GUEST].into_iter().chain(words.iter().copied()).collect();
        let said = self.doorbell().run(&can).expect(0).json();
        assert_eq!((&said["allowed"], &said["effect"]), (&true.into(), &effect.into()), "{said}");
        assert!(said["rule"].as_str().unwrap().contains(rule), "{said}");
    }

    fn its_own_files_are_no_target(&self) {
        let file = self.lab.place.file("file", b"x\n");
        let file = file.to_str().unwrap();
        let (into, words) = (self.lab.place.join("into"), "the agent's own files are no target");
        for own in [
            "/var/lib/doorbell-agent/key",
            "/var/lib/doorbell-agent/new",
            "/sbin/doorbell-agent",
            "/etc/doorbell-agent/policy.toml",
            "/etc/doorbell-agent/allowed_signers",
        ] {
            let at = format!("{GUEST}:{own}");
            let put = self.doorbell().run(&["push", file, &at]).expect(122);
            assert!(put.stderr.contains(words), "{own}: {}", put.stderr);
            let get = self.doorbell().run(&["pull", &at, into.to_str().unwrap()]).expect(122);
            assert!(get.stderr.contains(words), "{own}: {}", get.stderr);
            assert!(!into.exists(), "{own} was read");
        }
        self.refused(&["/sbin/doorbell-agent", "--version"], words);
        let _ = self.doorbell().run(&["push", file, &format!("{GUEST}:/run/other")]).expect(0);
        assert_eq!(self.lab.look("cat /run/other"), "x\n");
        self.can(&["--", "id"], "allow", "there is no policy");
    }

    fn what_is_denied_is_refused_with_the_rules_text(&mut self) {
        let told = self.policy(
            "default = \"allow\"\n[[rule]]\neffect = \"deny\"\nactions = [\"run\"]\ncommand = [\"touch\", \"**\"]\n\
             text = \"nothing is touched by day\"\n[[rule]]\neffect = \"deny\"\nactions = [\"put\", \"link-*\"]",
        );
        assert!(told.contains("rule 1: deny run") && told.ends_with("status 0\n"), "{told}");
        self.refused(&["touch", "/run/began"], "rule 1: nothing is touched by day");
        self.refused(&["/bin/touch", "/run/began"], "rule 1: nothing is touched by day");
        let file = self.lab.place.file("file", b"x\n");
        let put = ["push", file.to_str().unwrap(), &format!("{GUEST}:/run/began")];
        assert!(self.doorbell().run(&put).expect(122).stderr.contains("rule 2: deny put, link-*"));
        let down = self.doorbell().run(&["link", GUEST, "down", "eth0"]).expect(122);
        assert!(down.stderr.contains("rule 2: deny put, link-*"), "{}", down.stderr);
        let list = self.doorbell().run(&["link", GUEST, "ls"]);
        assert!(list.code != Some(0) && list.stderr.contains("rule 2: deny"), "{list:?}");
        assert_eq!(self.lab.look("ls /run/began 2>/dev/null; cat /sys/class/net/eth0/carrier"), "1\n");
        let trail = on("the audit trail", self.lab.daemon.client().audit(0, 1000)).unwrap();
        let told = "refused: the guest's policy refuses it: rule 1: nothing is touched by day";
        assert!(trail.iter().any(|record| record.detail.contains(told)), "{trail:?}");
    }

    fn what_needs_a_signature_begins_with_one_alone(&mut self) {
        let told = self.policy(
            "[[rule]]\neffect = \"require-signature\"\nactions = [\"run\"]\ncommand = [\"sh\", \"**\"]\ntext = \"shells by word\"\n\
             [[rule]]\neffect = \"allow\"\nactions = [\"run\"]",
        );
        assert!(
            told.contains("fails: without a signature, rule 2") && told.ends_with("status 6\n"),
            "{told}"
        );
        self.refused(
            &["sh", "-c", "touch /run/began"],
            "there is none (doorbell sign): rule 1: shells by word",
        );
        let out = self.lab.place.join("signed");
        let (out, key) = (out.to_str().unwrap(), self.key.to_str().unwrap());
        let script = "test ! -e /run/began && echo signed";
        let words = ["sign", "--guest", GUEST, "--key", key, "--out", out, "--", "sh", "-c", script];
        let _ = self.doorbell().run(&words).expect(0);
        self.can(&["--signed", out], "require-signature", "rule 1: shells by word");
        let run = self.doorbell().run(&["run", GUEST, "--signed", out]).expect(0);
        assert_eq!(run.stdout, "signed\n");
        let plain = self.doorbell().run(&["run", GUEST, "--", "echo", "plain"]).expect(0);
        assert_eq!(plain.stdout, "plain\n");
    }

    fn what_is_allowed_runs_as_its_rule_says(&mut self) {
        let _ = self.policy(
            "[[rule]]\neffect = \"allow\"\nactions = [\"run\"]\ncommand = [\"sh\", \"-c\", \"**\"]\nrun-as = \"nobody\"\n\
             limits = { processes = 9, timeout = \"2s\" }",
        );
        let shown = "id -u; cat /sys/fs/cgroup$(sed 's/^0:://' /proc/self/cgroup)/pids.max";
        let run = self.doorbell().run(&[
            "run",
            GUEST,
            "--user",
            "root",
            "--processes",
            "30",
            "--",
            "sh",
            "-c",
            shown,
        ]);
        assert_eq!(run.expect(0).stdout, "65534\n9\n");
        let said =
            self.doorbell().run(&["can", GUEST, "--user", "root", "--", "sh", "-c", shown]).expect(0).stdout;
        assert!(said.contains("nobody") && said.contains("rule 1: allow run"), "{said}");
        let _ = self.doorbell().run(&["can", GUEST, "--link-down", "eth0"]).expect(122);
        let ended = self.lab.daemon.finished(&self.lab.submit(sh("exec sleep 600")));
        assert_eq!(ended.state, State::TimedOut, "{:?}", ended.receipt);
        self.refused(&["id"], "no rule fits, and the default is deny");
        let words = ["run", GUEST, "--env", "PATH=/tmp", "--", "sh", "-c", "true"];
        let ended = self.doorbell().run(&words).expect(122);
        assert!(ended.stderr.contains("no rule fits"), "{}", ended.stderr);
    }

    fn a_broken_policy_lets_nothing_begin_and_says_so(&mut self) {
        let told = self.policy("default = \"allow\"\nallow = [\"run\"]");
        assert!(
            told.starts_with("broken, so nothing is allowed: ") && told.ends_with("status 5\n"),
            "{told}"
        );
        let words = "the policy is broken, so nothing is allowed: /etc/doorbell-agent/policy.toml: line 2: unknown field";
        self.refused(&["true"], words);
        assert!(self.lab.guest.console().contains("the policy is broken, so nothing is allowed"));
        let told = self.policy("default = \"allow\"");
        assert!(told.ends_with("status 0\n"), "{told}");
        let _ = self.doorbell().run(&["run", GUEST, "--", "true"]).expect(0);
        self.port.run(&format!("chmod 666 {DIRECTORY}/policy.toml"));
        self.refused(&["true"], "has mode 666");
        self.port.run(&format!("rm {DIRECTORY}/policy.toml"));
        let _ = self.doorbell().run(&["run", GUEST, "--", "true"]).expect(0);
    }
}

fn sh_of(words: &[&str]) -> doorbell_api::request::Action {
    doorbell_tests::daemon::command(words)
}

/// Where policy and allowed signers stand.
const DIRECTORY: &str = "/etc/doorbell-agent";
