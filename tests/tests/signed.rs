//! Signed requests in real guests that demand them: what was signed runs, also by plain `ssh-keygen` and for two guests
//! at once; what was not, or was altered, repeated, meant for another, or signed by a key that was taken out, does not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use doorbell_api::request::{NewRequest, Request, State};
use doorbell_tests::command::{Doorbell, begin};
use doorbell_tests::daemon::{Daemon, new_request, sh};
use doorbell_tests::guest::{Guest, Machine};
use doorbell_tests::lab::{AGENT_PID, GUEST, Lab};
use doorbell_tests::place::Place;
use doorbell_tests::wait::{on, until};
use std::path::PathBuf;
use std::process::Command;

const SECOND: &str = "web-4";
const SIGNERS: &str = "/run/signers/allowed";

/// Two guests that demand signatures of one key, and that key.
struct Yard {
    lab: Lab,
    _second: Guest,
    key: PathBuf,
}

#[test]
fn an_unsigned_or_altered_request_never_runs_where_a_signature_is_demanded() {
    let yard = Yard::new();
    yard.what_was_signed_runs();
    yard.what_was_not_signed_does_not();
    yard.what_was_altered_does_not();
    yard.what_was_begun_does_not_begin_again();
    yard.what_is_for_another_guest_does_not();
    yard.what_is_for_both_runs_in_both();
    yard.what_plain_ssh_keygen_signed_runs();
    yard.what_a_key_signed_that_was_taken_out_does_not();
    yard.lab.daemon.assert_audit_intact();
}

impl Yard {
    fn new() -> Self {
        let place = Place::new();
        let key = place.join("key");
        keygen(&place, &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
        let daemon = Daemon::start(&place);
        let append = format!("doorbell.agent_args=--allowed-signers,{SIGNERS}");
        let machine = Machine { append, ..Machine::default() };
        let guest = daemon.boot(&place, GUEST, &machine);
        let second = daemon.boot(&place, SECOND, &machine);
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        for name in [GUEST, SECOND] {
            demand_signatures(&daemon, name, public.trim());
        }
        Self { lab: Lab { guest, daemon, place }, _second: second, key }
    }

    fn doorbell(&self) -> Doorbell<'_> {
        self.lab.doorbell()
    }

    /// Signs a script for these guests; gives the file.
    fn signed(&self, file: &str, guests: &[&str], script: &str) -> PathBuf {
        let out = self.lab.place.join(file);
        let mut words = vec!["sign", "--key", self.key.to_str().unwrap(), "--out", out.to_str().unwrap()];
        guests.iter().for_each(|guest| words.extend(["--guest", guest]));
        words.extend(["--", "sh", "-c", script]);
        let text = self.doorbell().run(&words).expect(0).stdout;
        assert!(text.starts_with("doorbell-request 1\naction: run\ncommand: \"sh\"\n"), "{text}");
        out
    }

    fn run(&self, guest: &str, file: &std::path::Path) -> doorbell_tests::command::Ended {
        self.doorbell().run(&["run", guest, "--signed", file.to_str().unwrap()])
    }

    #[track_caller]
    fn refused(&self, guest: &str, new: NewRequest, words: &str) -> Request {
        let ended = self.lab.daemon.finished(&self.lab.daemon.submit_as(guest, new).id);
        let detail = ended.receipt.clone().unwrap().detail.unwrap_or_default();
        assert_eq!((ended.state, ended.starts), (State::Refused, 0), "{detail}");
        assert!(detail.contains(words), "{words:?} is not in {detail:?}");
        ended
    }

    fn what_was_signed_runs(&self) {
        let file = self.signed("runs", &[GUEST], "echo signed; exit 3");
        let ended = self.run(GUEST, &file).expect(3);
        assert_eq!(ended.stdout, "signed\n");
    }

    fn what_was_not_signed_does_not(&self) {
        let _ = self.refused(GUEST, new_request(sh("touch /run/began")), "this guest demands a signature");
        self.nothing_began();
    }

    fn what_was_altered_does_not(&self) {
        let file = self.signed("altered", &[GUEST], "true");
        let good = request_in(&file);
        let altered = "altered on its way";
        let _ = self.refused(GUEST, NewRequest { action: sh("touch /run/began"), ..good.clone() }, altered);
        let _ = self.refused(GUEST, NewRequest { timeout_ms: Some(1), ..good.clone() }, altered);
        let _ = self.refused(GUEST, NewRequest { idempotent: true, ..good.clone() }, altered);
        let mut longer = good.clone();
        longer.signature.as_mut().unwrap().expires_s += 1;
        let _ = self.refused(GUEST, longer, altered);
        // The very same, as it was signed.
        let ended = self.lab.daemon.finished(&self.lab.daemon.submit_as(GUEST, good).id);
        assert_eq!(ended.state, State::Succeeded, "{:?}", ended.receipt);
        self.nothing_began();
    }

    fn what_was_begun_does_not_begin_again(&self) {
        let file = self.signed("again", &[GUEST], "echo once >>/run/once; cat /run/once");
        let first = self.lab.daemon.finished(&self.lab.daemon.submit_as(GUEST, request_in(&file)).id);
        assert_eq!(first.state, State::Succeeded, "{:?}", first.receipt);
        let _ = self.refused(GUEST, request_in(&file), &format!("begun before, as request {}", first.id));
        let same = NewRequest { id: Some(first.id.clone()), ..request_in(&file) };
        assert_eq!(self.lab.daemon.submit_as(GUEST, same).state, State::Succeeded, "its own name is its own");
        assert_eq!(self.lab.output(&first.id), "once\n");
    }

    fn what_is_for_another_guest_does_not(&self) {
        let file = self.signed("another", &[SECOND], "touch /run/began");
        let _ = self.refused(GUEST, request_in(&file), "for other guests");
        self.nothing_began();
    }

    fn what_is_for_both_runs_in_both(&self) {
        let file = self.signed("both", &[GUEST, SECOND], "hostname");
        for guest in [GUEST, SECOND] {
            assert_eq!(self.run(guest, &file).expect(0).stdout, format!("{guest}\n"));
        }
        // Without its proof a guest is none of them.
        let file = self.signed("unproved", &[GUEST, SECOND], "touch /run/began");
        let _ = self.refused(GUEST, request_in(&file), "for other guests");
    }

    fn what_plain_ssh_keygen_signed_runs(&self) {
        let (out, text) = (self.lab.place.join("plain"), self.lab.place.join("text"));
        let (out, text) = (out.to_str().unwrap(), text.to_str().unwrap());
        let program = self.lab.place.file("fix.sh", b"#!/bin/sh\necho \"fixed $1\"\n");
        let program = program.to_str().unwrap();
        let words =
            ["sign", "--guest", GUEST, "--manifest", text, "--out", out, "--program", program, "--", "it"];
        let _ = self.doorbell().run(&words).expect(0);
        let key = self.key.to_str().unwrap();
        keygen(&self.lab.place, &["-q", "-Y", "sign", "-n", "doorbell-request", "-f", key, text]);
        self.doorbell()
            .run(&["run", GUEST, "--signed", out])
            .refused(2, &["was not signed yet", "--signature"]);
        let signature = format!("{text}.sig");
        let words = ["run", GUEST, "--signed", out, "--signature", &signature, "--program", program];
        assert_eq!(self.doorbell().run(&words).expect(0).stdout, "fixed it\n");
    }

    fn what_a_key_signed_that_was_taken_out_does_not(&self) {
        let late = self.signed("late", &[GUEST], "touch /run/began");
        let last = self.signed("last", &[GUEST], &format!("echo '# nobody' >{SIGNERS}"));
        let _ = self.run(GUEST, &last).expect(0);
        let _ = self.refused(GUEST, request_in(&late), "is not among the guest's allowed signers");
    }

    fn nothing_began(&self) {
        let file = self.signed(&format!("look-{}", std::process::id()), &[GUEST], "test ! -e /run/began");
        let _ = self.run(GUEST, &file).expect(0);
    }
}

/// The request of a bundle, for whoever sends it without the command line.
fn request_in(file: &std::path::Path) -> NewRequest {
    let bundle: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    serde_json::from_value(bundle.get("request").unwrap().clone()).unwrap()
}

/// Tells a guest whom it is to trust, and has its agent start again with the demand.
fn demand_signatures(daemon: &Daemon, name: &str, public: &str) {
    let (request, output) = daemon.run_sh(
        name,
        &format!(
            "mkdir -p -m 755 /run/signers && echo 'ann namespaces=\"doorbell-request\" {public}' >{SIGNERS} && \
             chmod 644 {SIGNERS} && sed -i 's|doorbell-agent \"|doorbell-agent --require-signature \"|' /etc/doorbell/agent"
        ),
    );
    assert_eq!(request.state, State::Succeeded, "{output}{:?}", request.receipt);
    let _ = daemon.submit(name, sh(&format!("{AGENT_PID} && kill -KILL $agent")));
    until("an agent that demands signatures", || {
        let shown = on("the guest", daemon.client().guest(name).show()).ok()?;
        let can = shown.agent?.capabilities;
        // It does not let the manager set its clock.
        (!can.iter().any(|can| can == "clock") && can.iter().any(|can| can == "signed")).then_some(())
    });
}

fn keygen(place: &Place, words: &[&str]) {
    let _ = begin(place, Command::new("ssh-keygen").args(words)).ended().expect(0);
}
