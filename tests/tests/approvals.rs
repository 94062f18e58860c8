//! A second person: what one has asked for waits for another one, through the real manager, over its crashes, by whichever
//! way it came; and goes to its guest only then.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use doorbell_api::request::{NewRequest, Request, State};
use doorbell_tests::command::{Doorbell, Ended, begin};
use doorbell_tests::daemon::{Daemon, command, new_request};
use doorbell_tests::guest::door;
use doorbell_tests::honest::{Honest, Identity};
use doorbell_tests::line::Line;
use doorbell_tests::place::Place;
use doorbell_tests::wait::{PATIENCE, on, until};
use doorbell_wire::message::{Capabilities, FromGuest, FromHost, Offer};
use std::path::PathBuf;
use std::process::Command;

const GUEST: &str = "web-3";

/// A manager that wants a second person for programs, and a guest.
struct Office {
    daemon: Daemon,
    guest: Identity,
    door: PathBuf,
    honest: Option<Honest>,
    place: Place,
}

impl Office {
    fn new() -> Self {
        let place = Place::new();
        let spool = place.join("spool");
        let config = format!("second-person = [\"run\"]\nspool-dir = {spool:?}\n");
        let daemon = Daemon::start_with(&place, &config);
        let guest = Identity::fresh();
        daemon.add(GUEST, &place.join(GUEST), Some(guest.public_key()));
        Self { daemon, guest, door: door(&place.join(GUEST)), honest: None, place }
    }

    /// With a guest that does at once what it gets.
    fn served() -> Self {
        let mut office = Self::new();
        office.honest = Some(Honest::start(&office.door, office.guest.clone()));
        office
    }

    fn run(&self, words: &[&str]) -> Ended {
        Doorbell::new(&self.place, self.daemon.socket()).run(words)
    }

    /// A token in a file, and what shows it.
    fn token(&self, file: &str, name: &str, more: &[&str]) -> PathBuf {
        let out = self.place.join(file);
        let mut words = vec!["token", "add", name, "--out", out.to_str().unwrap()];
        words.extend(more);
        let _ = self.run(&words).expect(0);
        out
    }

    fn operator(&self, name: &str) -> PathBuf {
        self.token(name, name, &["--role", "operator"])
    }

    fn as_token(&self, token: &std::path::Path, words: &[&str]) -> Ended {
        let mut all = vec!["--token-file", token.to_str().unwrap()];
        all.extend(words);
        self.run(&all)
    }

    fn asked(&self) -> Request {
        let request = self.daemon.submit(GUEST, command(&["true"]));
        assert_eq!(request.state, State::Unapproved);
        request
    }

    fn is_unapproved(&self, id: &str) {
        let request = self.daemon.request(id);
        assert_eq!((request.state, request.offers), (State::Unapproved, 0));
    }

    fn trail(&self, event: &str) -> Vec<doorbell_api::audit::AuditRecord> {
        let records = on("the trail", self.daemon.client().audit(0, 1000)).unwrap();
        records.into_iter().filter(|record| record.event == event).collect()
    }

    /// A session of the guest's, up to its first pull's answer.
    fn offered(&mut self, capabilities: Capabilities) -> Option<Box<Offer>> {
        let mut line = Line::dial(&self.door);
        let FromHost::Greeting(greeting) = line.hear_host() else { panic!("no greeting") };
        let mut claims = self.guest.claims(doorbell_wire::handshake::choose_version(&greeting).unwrap());
        claims.capabilities = capabilities;
        line.say(&FromGuest::Hello(Box::new(self.guest.prove(&greeting, claims))));
        let FromHost::Welcome(welcome) = line.hear_host() else { panic!("not welcome") };
        self.guest.token = Some(welcome.token);
        line.say(&FromGuest::Pull);
        let answer = line.hear_host();
        if answer == FromHost::Nothing {
            return None;
        }
        let FromHost::Offer(offer) = answer else { panic!("{answer:?} is no answer to a pull") };
        Some(offer)
    }
}

#[test]
fn a_request_runs_only_when_a_second_person_has_approved_it() {
    let office = Office::served();
    let bob = office.operator("bob");
    let here = Doorbell::new(&office.place, office.daemon.socket());
    let mut watch = here.begin(&["watch"]);
    let run = here.begin(&["run", GUEST, "--", "true"]);
    let id = until("the request", || {
        let open = office.run(&["--json", "request", "ls", "--open"]).expect(0).json();
        Some(open.pointer("/requests/0/id")?.as_str()?.to_owned())
    });
    // What needs no second person goes by.
    let link = office.daemon.submit(GUEST, link_up());
    assert!(office.daemon.finished(&link.id).state.is_final());
    office.is_unapproved(&id);
    let listed = office.run(&["request", "ls"]).expect(0).stdout;
    assert!(
        listed.lines().any(|line| line.starts_with(&id[..12]) && line.contains("unapproved")),
        "{listed}"
    );
    let shown = office.run(&["request", "show", &id]).expect(0).stdout;
    assert!(shown.contains("the approval of a second person"), "{shown}");

    office.run(&["request", "approve", &id]).refused(2, &["the same person", "request cancel"]);
    office.is_unapproved(&id);
    let said = office.as_token(&bob, &["--reason", "looks good", "request", "approve", &id]).expect(0).stdout;
    assert!(said.contains("asked for by uid 0") && said.contains("is queued"), "{said}");
    let ended = run.ended().expect(0);
    assert!(
        ended.stderr.is_empty() || ended.stderr.contains("waiting for a second person"),
        "{}",
        ended.stderr
    );
    let request = office.daemon.request(&id);
    assert!(request.approved_by.as_deref().unwrap().starts_with("token bob ("), "{request:?}");
    let approved = office.trail("request-approved");
    assert_eq!(approved.len(), 1);
    assert!(approved.iter().all(|record| {
        record.actor.starts_with("token bob (")
            && record.request.as_deref() == Some(id.as_str())
            && record.reason.as_deref() == Some("looks good")
    }));
    assert_eq!(office.trail("call-refused").len(), 1, "who tried alone is in the trail");
    watch.await_stdout(PATIENCE, "the way of the request", |text| {
        let states = ["unapproved", "queued", "offered", "succeeded"];
        let mut rest = text;
        states.iter().all(|state| {
            let at = rest.find(&format!("request {}  {state}", &id[..12]));
            at.map(|at| rest = &rest[at..]).is_some()
        })
    });
    office.daemon.assert_audit_intact();
}

#[test]
fn whoever_waits_is_told_for_what() {
    let office = Office::new();
    let bob = office.operator("bob");
    let run = Doorbell::new(&office.place, office.daemon.socket()).begin(&["run", GUEST, "--", "true"]);
    let id = until("the line that says so", || {
        let said = run.stderr();
        let (_, rest) = said.split_once("waiting for a second person: `doorbell request approve ")?;
        Some(rest.get(..32)?.to_owned())
    });
    let _ = office.as_token(&bob, &["--reason", "not today", "request", "refuse", &id]).expect(0);
    let ended = run.ended().expect(123);
    assert!(ended.stderr.contains("did not approve it: not today"), "{}", ended.stderr);
    let request = office.daemon.request(&id);
    assert_eq!((request.state, request.offers), (State::Cancelled, 0));
    assert_eq!(office.trail("request-disapproved").len(), 1);
    office.as_token(&bob, &["request", "approve", &id]).refused(2, &["does not wait for a second person"]);
}

#[test]
fn one_person_stays_one_whichever_token_it_shows() {
    let office = Office::served();
    let first = office.token("1", "carol", &["--role", "operator"]);
    let second = office.token("2", "carol", &["--role", "admin"]);
    let asked = office.as_token(&first, &["run", "--detach", GUEST, "--", "true"]).expect(0).stdout;
    let id = asked.trim();
    for token in [&first, &second] {
        for word in ["approve", "refuse"] {
            office.as_token(token, &["request", word, id]).refused(2, &["the same person"]);
        }
    }
    office.is_unapproved(id);
    let _ = office.run(&["request", "approve", id]).expect(0);
    assert_eq!(office.daemon.finished(id).state, State::Succeeded);
}

#[test]
fn a_second_person_needs_the_right_to_it() {
    let office = Office::new();
    let _ = office.run(&["tenant", "add", "acme"]).expect(0);
    let _ = office.run(&["tenant", "add", "other"]).expect(0);
    let _ = office.run(&["guest", "set", GUEST, "--tenant", "acme"]).expect(0);
    let id = office.asked().id;
    let viewer = office.token("v", "viewer", &["--role", "viewer", "--tenant", "acme"]);
    let limited =
        office.token("l", "limited", &["--role", "admin", "--tenant", "acme", "--action", "link-down"]);
    let other = office.token("o", "other", &["--role", "admin", "--tenant", "other"]);
    let right = office.token("r", "right", &["--role", "operator", "--tenant", "acme", "--action", "run"]);
    for word in ["approve", "refuse"] {
        for (token, why) in [
            (&viewer, "it needs operator"),
            (&limited, "limited to other actions than run"),
            (&other, "there is no request"),
        ] {
            let ended = office.as_token(token, &["request", word, &id]);
            assert_ne!(ended.code, Some(0));
            assert!(ended.stderr.contains(why), "{why:?} is not in {}", ended.stderr);
        }
    }
    office.is_unapproved(&id);
    let _ = office.as_token(&right, &["request", "approve", &id]).expect(0);
    assert_eq!(office.daemon.request(&id).state, State::Queued);
}

#[test]
fn an_expiry_runs_while_nobody_approves() {
    let office = Office::served();
    let new = NewRequest { expires_in_ms: Some(1), ..new_request(command(&["true"])) };
    let id = office.daemon.submit_as(GUEST, new).id;
    let ended = office.daemon.finished(&id);
    assert_eq!((ended.state, ended.offers), (State::Expired, 0));
    let bob = office.operator("bob");
    office.as_token(&bob, &["request", "approve", &id]).refused(2, &["it is expired"]);
}

#[test]
fn a_manager_that_is_killed_before_and_behind_an_approval_loses_neither() {
    let mut office = Office::new();
    let bob = office.operator("bob");
    let (yes, no) = (office.asked().id, office.asked().id);
    office.daemon.kill();
    office.daemon.restart();
    office.is_unapproved(&yes);
    let _ = office.as_token(&bob, &["request", "approve", &yes]).expect(0);
    office.daemon.kill();
    office.daemon.restart();
    let _honest = Honest::start(&office.door, office.guest.clone());
    assert_eq!(office.daemon.finished(&yes).state, State::Succeeded);
    office.is_unapproved(&no);
    let ended = office.daemon.request(&yes);
    assert!(ended.approved_by.is_some_and(|who| who.starts_with("token bob (")));
    office.daemon.assert_audit_intact();
}

#[test]
fn what_is_put_into_the_spool_waits_too() {
    let office = Office::served();
    let outbox = office.place.join("spool").join(GUEST).join("outbox");
    let inbox = office.place.join("spool").join(GUEST).join("inbox");
    until("the inbox", || inbox.is_dir().then_some(()));
    std::fs::write(inbox.join(".fix"), "#!/bin/sh\n").unwrap();
    std::fs::rename(inbox.join(".fix"), inbox.join("fix")).unwrap();
    let id = until("the request", || {
        let open = office.run(&["--json", "request", "ls", "--open"]).expect(0).json();
        Some(open.pointer("/requests/0/id")?.as_str()?.to_owned())
    });
    office.is_unapproved(&id);
    // The file is root's, and so is the caller.
    office.run(&["request", "approve", &id]).refused(2, &["by spool", "the same person"]);
    let bob = office.operator("bob");
    let _ = office.as_token(&bob, &["request", "approve", &id]).expect(0);
    until("the receipt", || outbox.join("fix.receipt.json").exists().then_some(()));
    assert_eq!(office.daemon.request(&id).state, State::Succeeded);
}

#[test]
fn a_signature_is_no_approval_and_an_approval_no_signature() {
    let mut office = Office::new();
    let bob = office.operator("bob");
    let (key, bundle) = (office.place.join("key"), office.place.join("signed"));
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    let _ = begin(&office.place, &mut keygen).ended().expect(0);
    let (key, bundle) = (key.to_str().unwrap(), bundle.to_str().unwrap());
    let _ = office.run(&["sign", "--key", key, "--out", bundle, "--guest", GUEST, "--", "true"]).expect(0);
    let said = office.run(&["run", "--detach", GUEST, "--signed", bundle]).expect(0).stdout;
    let id = said.trim().to_owned();
    office.is_unapproved(&id);
    let all = Capabilities::RUN.with(Capabilities::SIGNED);
    assert!(office.offered(all).is_none(), "a signature lets nothing go on");
    let _ = office.as_token(&bob, &["request", "approve", &id]).expect(0);
    let offer = office.offered(all).expect("an offer");
    assert_eq!(offer.request.to_string(), id);
    assert!(offer.signed.is_some(), "the guest judges the signature all the same");
}

fn link_up() -> doorbell_api::request::Action {
    doorbell_api::request::Action::LinkUp(doorbell_api::request::Link { link: "eth0".into() })
}
