//! Monitors played by hand on real Unix sockets: good, late, hostile, slow and vanishing ones.

use super::*;
use crate::actor::Actor;
use crate::config::Config;
use crate::events::Owned;
use crate::store::{AcceptRequest, AddGuest, ChangeGuest, Door, Place};
use doorbell_api::event::Change;
use doorbell_api::guest::Presence;
use doorbell_api::request::{OnDisconnect, State};
use doorbell_wire::ids::RequestId;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;

struct Bench {
    manager: Arc<Manager>,
    guest: GuestRow,
    dir: tempfile::TempDir,
}

impl Bench {
    /// A manager with one guest whose monitor is to be at a socket that is not there yet.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: dir.path().join("state"), ..Config::default() };
        let manager = Arc::new(Manager::open(config, String::new()).unwrap());
        let guest = add(&manager, "web-3", 7, &dir.path().join("qmp")).await;
        Self { manager, guest, dir }
    }

    fn monitor(&self) -> UnixListener {
        UnixListener::bind(self.dir.path().join("qmp")).unwrap()
    }

    /// Waits until this is known of the guest.
    async fn until(&self, state: PowerState, status: &str) -> Power {
        let mut power = self.manager.powers.watch(self.guest.id).unwrap();
        let reached = power.wait_for(|power| power.state == state && power.status == status);
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        *reached.unwrap_or_else(|_| panic!("{:?}", self.manager.powers.of(self.guest.id))).unwrap()
    }

    async fn request(&self) -> RequestId {
        let run = json!({"Run": {"executable": {"InGuest": "true"}, "args": [], "env": [], "input": "None",
            "limits": {"output_len_max": 0}}});
        let new = AcceptRequest {
            id: None,
            action: serde_json::from_value(run).unwrap(),
            timeout_ms: None,
            expires_in_ms: None,
            idempotent: false,
            urgent: false,
            on_disconnect: OnDisconnect::Keep,
            reason: None,
            ticket: None,
            signed: None,
            confirm_within_ms: None,
            source: None,
            awaits_program: false,
        };
        self.manager.store.accept(&Actor::Manager, &self.guest.name, new).await.unwrap().1.id
    }

    async fn shown(&self, request: RequestId) -> State {
        self.manager.shown(&self.manager.store.request(request).await.unwrap()).state
    }

    async fn presence(&self) -> Presence {
        self.manager.presence(&self.manager.store.guest(&self.guest.name).await.unwrap())
    }
}

async fn add(manager: &Arc<Manager>, name: &str, cid: u32, qmp: &Path) -> GuestRow {
    let add = AddGuest {
        name: name.parse().unwrap(),
        place: Place::Cid(cid.try_into().unwrap()),
        qmp: Some(qmp.to_owned()),
        key: None,
        concurrency: None,
        share: None,
        trigger: None,
        set_clock: false,
        tenant: None,
        enrolment: None,
        trust_first_key: false,
    };
    let guest = manager.store.add_guest(&Actor::Manager, add).await.unwrap();
    follow(manager, &guest).await;
    guest
}

/// One connection of the manager's to a monitor.
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    async fn met(listener: &UnixListener) -> Self {
        let (stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("a client").unwrap();
        Self(BufReader::new(stream))
    }

    /// Takes the manager on, and says how the machine is.
    async fn greeted(listener: &UnixListener, running: bool, status: &str) -> Self {
        let mut monitor = Self::met(listener).await;
        monitor.say(GREETING).await;
        monitor.answer("qmp_capabilities", "{}").await;
        monitor.tell_status(running, status).await;
        monitor
    }

    async fn say(&mut self, line: &str) {
        // A manager that has hung up is told by what it does next.
        let _ = self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).await;
    }

    async fn answer(&mut self, command: &str, answer: &str) {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await;
        read.expect("a command").unwrap();
        let asked: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(asked["execute"], command);
        self.say(&format!("{{\"return\": {answer}, \"id\": {}}}", asked["id"])).await;
    }

    async fn tell_status(&mut self, running: bool, status: &str) {
        self.answer("query-status", &format!("{{\"running\": {running}, \"status\": \"{status}\"}}")).await;
    }

    async fn hear_the_end(&mut self) {
        let mut rest = Vec::new();
        let hung_up = self.0.read_to_end(&mut rest);
        let _ = tokio::time::timeout(PATIENCE, hung_up).await.expect("the manager hangs up");
    }

    async fn event(&mut self, event: &str, running: bool, status: &str) {
        self.say(&format!(
            "{{\"event\": \"{event}\", \"timestamp\": {{\"seconds\": 1, \"microseconds\": 2}}}}"
        ))
        .await;
        self.tell_status(running, status).await;
    }
}

async fn heard(events: &mut broadcast::Receiver<Owned>) -> Change {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event").unwrap().event.change
}

#[tokio::test]
async fn requests_of_a_guest_that_stands_still_are_held_until_it_goes_on() {
    let bench = Bench::new().await;
    let listener = bench.monitor();
    let mut monitor = Monitor::greeted(&listener, true, "running").await;
    bench.until(PowerState::Running, "running").await;
    let request = bench.request().await;
    let mut events = bench.manager.events.subscribe();
    monitor.event("STOP", false, "paused").await;
    let paused = bench.until(PowerState::Paused, "paused").await;
    assert_eq!((paused.stops, paused.downs), (1, 0));
    let detail = |text: &str| Some(text.to_owned());
    let change = |state| Change::Request { id: request.to_string(), state };
    assert_eq!(
        heard(&mut events).await,
        Change::Presence { presence: Presence::Paused, detail: detail("paused") }
    );
    assert_eq!(heard(&mut events).await, change(State::Held));
    assert_eq!(bench.shown(request).await, State::Held);
    assert_eq!(bench.presence().await, Presence::Paused);
    assert_eq!(bench.manager.store.request(request).await.unwrap().state, State::Queued, "as it is stored");
    monitor.event("RESUME", true, "running").await;
    let running = bench.until(PowerState::Running, "running").await;
    assert!(running.since_ms >= paused.since_ms);
    assert_eq!(
        heard(&mut events).await,
        Change::Presence { presence: Presence::Never, detail: detail("running") }
    );
    assert_eq!(heard(&mut events).await, change(State::Queued));
    assert_eq!(bench.shown(request).await, State::Queued);
}

#[tokio::test]
async fn every_way_to_stand_still_and_to_end_is_told() {
    let bench = Bench::new().await;
    let listener = bench.monitor();
    let mut monitor = Monitor::greeted(&listener, false, "prelaunch").await;
    bench.until(PowerState::Paused, "prelaunch").await;
    monitor.event("RESUME", true, "running").await;
    monitor.event("SUSPEND", false, "suspended").await;
    bench.until(PowerState::Paused, "suspended").await;
    monitor.event("WAKEUP", true, "running").await;
    monitor.event("STOP", false, "io-error").await;
    bench.until(PowerState::Paused, "io-error").await;
    monitor.event("MIGRATION", false, "postmigrate").await;
    bench.until(PowerState::Paused, "postmigrate").await;
    monitor.event("RESUME", true, "running").await;
    monitor.event("RESET", true, "running").await;
    let mut power = bench.manager.powers.watch(bench.guest.id).unwrap();
    power.wait_for(|power| power.downs == 1).await.unwrap();
    monitor.event("POWERDOWN", true, "running").await;
    monitor.event("SHUTDOWN", false, "shutdown").await;
    let off = bench.until(PowerState::Off, "shutdown").await;
    assert_eq!((off.downs, off.stops), (2, 3));
    assert_eq!(bench.presence().await, Presence::Off);
}

#[tokio::test]
async fn a_monitor_that_vanishes_is_a_machine_that_is_off_and_one_that_comes_is_met() {
    let bench = Bench::new().await;
    bench.until(PowerState::Unknown, "its QMP socket is not there").await;
    assert_eq!(bench.presence().await, Presence::Never, "a socket that is not there says nothing");
    let request = bench.request().await;
    let listener = bench.monitor();
    drop(Monitor::greeted(&listener, true, "running").await);
    let off = bench.until(PowerState::Off, "QEMU has ended").await;
    assert_eq!((off.downs, bench.shown(request).await), (1, State::Held));
    drop(Monitor::greeted(&listener, true, "running").await);
    drop(listener);
    bench.until(PowerState::Off, "no QEMU listens at its QMP socket").await;
    std::fs::remove_file(bench.dir.path().join("qmp")).unwrap();
    bench.until(PowerState::Off, "its QMP socket is gone").await;
    let listener = bench.monitor();
    let _monitor = Monitor::greeted(&listener, true, "running").await;
    bench.until(PowerState::Running, "running").await;
    assert_eq!(bench.shown(request).await, State::Queued);
}

#[tokio::test]
async fn an_agent_that_is_met_is_not_off_whatever_became_of_the_socket() {
    let bench = Bench::new().await;
    let listener = bench.monitor();
    drop(Monitor::greeted(&listener, true, "running").await);
    drop(listener);
    bench.until(PowerState::Off, "no QEMU listens at its QMP socket").await;
    let downs = bench.manager.powers.of(bench.guest.id).unwrap().downs;
    bench.manager.registry.enter(bench.guest.id, Door::Channel, Arc::default());
    met(&bench.manager, bench.guest.id, &bench.guest.name).await;
    assert_eq!(bench.presence().await, Presence::Connected);
    let later = bench.until(PowerState::Unknown, "no QEMU listens at its QMP socket").await;
    assert_eq!(later.downs, downs, "what the next try finds ends no session");
}

#[tokio::test]
async fn a_hostile_monitor_costs_its_own_guest_what_is_known_and_its_neighbour_nothing() {
    let bench = Bench::new().await;
    let place = bench.dir.path().join("neighbour");
    let neighbours = UnixListener::bind(&place).unwrap();
    let neighbour = add(&bench.manager, "web-4", 8, &place).await;
    let mut honest = Monitor::greeted(&neighbours, true, "running").await;
    let listener = bench.monitor();
    let attacks: [&str; 4] = [
        "QEMU 7.2.22 monitor - type 'help' for more information",
        &"x".repeat(200_000),
        "{\"event\": \"RESET\"}",
        "{\"QMP\": {}}\n{\"event\": \"RESET\"}\n{\"return\": {}, \"id\": 77}",
    ];
    for attack in attacks {
        bench.manager.powers.change(bench.guest.id, Report::Lost("before the attack"), false);
        let mut monitor = Monitor::met(&listener).await;
        monitor.say(attack).await;
        bench.until(PowerState::Unknown, "its QMP socket cannot be used").await;
        monitor.hear_the_end().await;
    }
    assert_eq!(bench.manager.powers.of(bench.guest.id).unwrap().downs, 0, "no attack ends a session");
    honest.event("STOP", false, "paused").await;
    let mut power = bench.manager.powers.watch(neighbour.id).unwrap();
    let stopped = power.wait_for(|power| power.state == PowerState::Paused);
    tokio::time::timeout(PATIENCE, stopped).await.expect("the neighbour is followed").unwrap();
}

#[tokio::test]
async fn a_monitor_that_is_stuck_is_given_up_and_tried_again() {
    let bench = Bench::new().await;
    bench.request().await;
    let mut events = bench.manager.events.subscribe();
    let listener = bench.monitor();
    let monitor = Monitor::greeted(&listener, false, "paused").await;
    // With the second event the store has said its last word, for which no time may pass below.
    let mut told = async || drop((events.recv().await.unwrap(), events.recv().await.unwrap()));
    told().await;
    // It says nothing any longer: half a minute until it is asked, and ten seconds for its answer.
    tokio::time::pause();
    bench.until_virtual(PowerState::Unknown, "its QEMU does not answer").await;
    told().await;
    let busy = Monitor::met(&listener).await;
    bench.until_virtual(PowerState::Unknown, "its QMP socket cannot be used").await;
    assert_eq!(bench.manager.powers.of(bench.guest.id).unwrap().downs, 0, "silence ends no session");
    drop((monitor, busy));
    tokio::time::resume();
    let _monitor = Monitor::greeted(&listener, true, "running").await;
    bench.until(PowerState::Running, "running").await;
}

#[tokio::test]
async fn a_monitor_that_is_taken_away_from_a_guest_is_let_go_of() {
    let bench = Bench::new().await;
    let listener = bench.monitor();
    let mut monitor = Monitor::greeted(&listener, false, "paused").await;
    bench.until(PowerState::Paused, "paused").await;
    let request = bench.request().await;
    let mut power = bench.manager.powers.watch(bench.guest.id).unwrap();
    let change = ChangeGuest { qmp: Some(None), ..ChangeGuest::default() };
    let row = bench.manager.store.change_guest(&Actor::Manager, &bench.guest.name, change).await.unwrap();
    follow(&bench.manager, &row).await;
    assert_eq!(bench.manager.powers.of(bench.guest.id), None);
    assert_eq!(power.wait_for(|power| power.state == PowerState::Unknown).await.unwrap().stops, 1);
    assert_eq!(bench.shown(request).await, State::Queued);
    monitor.hear_the_end().await;
}

impl Bench {
    /// The same with time that passes by itself when nothing else happens.
    async fn until_virtual(&self, state: PowerState, status: &str) {
        let mut power = self.manager.powers.watch(self.guest.id).unwrap();
        let reached = power.wait_for(|power| power.state == state && power.status == status);
        let reached = tokio::time::timeout(Duration::from_secs(600), reached).await;
        reached.unwrap_or_else(|_| panic!("{status}: {:?}", self.manager.powers.of(self.guest.id))).unwrap();
    }
}

const GREETING: &str =
    r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}"#;
const PATIENCE: Duration = Duration::from_secs(20);
