//! The real manager: `doorbelld` with its state and socket in the test's directory.
//!
//! Started by tests. It can be killed and started again on the same state; what it is asked goes through the SDK.

use crate::build::program;
use crate::guest::{Guest, Machine};
use crate::place::Place;
use crate::process::{Process, kib_of, read};
use crate::wait::{PATIENCE, comes_within, on, until};
use doorbell_api::guest::{Approval, NewGuest, Presence};
use doorbell_api::request::{Action, NewRequest, ProgramRef, Request, Run};
use doorbell_client::{Client, Stream};
use futures_util::StreamExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The manager, running or not.
#[derive(Debug)]
pub struct Daemon {
    state: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    under: Vec<String>,
    program: Option<PathBuf>,
    config: Option<PathBuf>,
    process: Option<Process>,
}

impl Daemon {
    /// Starts a manager with a fresh state.
    #[must_use]
    pub fn start(place: &Place) -> Self {
        let mut daemon = Self::idle(place);
        daemon.restart();
        daemon
    }

    /// Starts a manager with a fresh state under another program, which is to become the manager.
    #[must_use]
    pub fn start_under(place: &Place, words: &[&str]) -> Self {
        let mut daemon = Self::idle(place);
        daemon.set_under(words);
        daemon.restart();
        daemon
    }

    /// The program under which it is started from now on, which is to become the manager; none where empty.
    pub fn set_under(&mut self, words: &[&str]) {
        self.under = words.iter().map(|&word| word.to_owned()).collect();
    }

    /// Starts another build of the manager with a fresh state.
    #[must_use]
    pub fn start_other(place: &Place, program: PathBuf) -> Self {
        let mut daemon = Self::idle(place);
        daemon.program = Some(program);
        daemon.restart();
        daemon
    }

    /// Starts a manager with a fresh state and this configuration.
    #[must_use]
    pub fn start_with(place: &Place, config: &str) -> Self {
        let mut daemon = Self::idle(place);
        daemon.config = Some(place.file("doorbelld.toml", config.as_bytes()));
        daemon.restart();
        daemon
    }

    /// Has it use another state directory from its next start on.
    pub fn move_to(&mut self, state: &Path) {
        assert!(self.process.is_none(), "the manager runs");
        state.clone_into(&mut self.state);
    }

    /// A manager that does not run yet.
    #[must_use]
    pub fn idle(place: &Place) -> Self {
        let (state, socket, log) = (place.join("state"), place.join("d.sock"), place.join("doorbelld.log"));
        Self { state, socket, log, under: Vec::new(), program: None, config: None, process: None }
    }

    /// Starts it, again on the same state, and waits until it answers.
    pub fn restart(&mut self) {
        self.launch();
        self.await_listening();
    }

    /// The same, where it may not be able to; whether it runs.
    pub fn try_restart(&mut self) -> bool {
        self.launch();
        let process = self.process.as_ref().expect("a manager that was started");
        let listens = || UnixStream::connect(&self.socket).is_ok();
        let decided = comes_within(PATIENCE, || process.has_ended() || listens());
        assert!(decided, "the manager neither listens nor ends: {}", self.log());
        if process.has_ended() {
            self.process = None;
        }
        self.process.is_some()
    }

    /// Whether it runs.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Starts it and does not wait.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "the manager runs already");
        let manager = self.program.clone().unwrap_or_else(|| program("doorbelld"));
        let words = self.under.iter().map(PathBuf::from).chain([manager]).chain(self.arguments());
        let words: Vec<PathBuf> = words.collect();
        let evidence = vec![self.log.clone()];
        let process =
            Process::start("doorbelld", &words[0], &words[1..], &self.log, evidence, &["panicked at"]);
        self.process = Some(process);
    }

    /// Waits until its socket accepts.
    pub fn await_listening(&self) {
        until("the manager's socket", || UnixStream::connect(&self.socket).ok().map(drop));
    }

    /// The command line it is started with.
    #[must_use]
    pub fn arguments(&self) -> Vec<PathBuf> {
        let config = self.config.iter().flat_map(|file| [PathBuf::from("--config"), file.clone()]);
        let rest: [PathBuf; 6] = [
            "--state-dir".into(),
            self.state.clone(),
            "--socket".into(),
            self.socket.clone(),
            "--log".into(),
            LOG.into(),
        ];
        config.chain(rest).collect()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.process.take().expect("a running manager").kill();
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        let status = self.process.take().expect("a running manager").stop();
        assert!(status.success(), "doorbelld stopped with {status}");
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("a running manager").id()
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The socket of its API.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// All it has logged, over its restarts.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Waits until what it logs from byte `from` on holds a text.
    pub fn await_log(&self, from: usize, text: &str) {
        until(&format!("{text:?} in the manager's log"), || {
            self.log().get(from..).is_some_and(|log| log.contains(text)).then_some(())
        });
    }

    /// KiB of memory it has resident.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        kib_of(self.id(), "VmRSS:").expect("a running manager")
    }

    /// Descriptors that it has open.
    #[must_use]
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("a running manager").count()
    }

    /// A client of its API. Made anew: a connection of before a restart is of no use.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::at(&self.socket).expect("a client")
    }

    /// Adds a guest that is met at a hybrid socket.
    pub fn add(&self, name: &str, socket: &Path, public_key: Option<String>) {
        let new = NewGuest {
            name: name.into(),
            hybrid_socket: Some(socket.display().to_string()),
            public_key,
            ..NewGuest::default()
        };
        on("the manager to add a guest", self.client().add_guest(&new)).expect("a guest is added");
    }

    /// Boots a guest, has the operator compare and approve its key, and waits for its session.
    #[must_use]
    pub fn boot(&self, place: &Place, name: &str, machine: &Machine) -> Guest {
        self.add(name, &Guest::socket_of(place, name), None);
        let guest = Guest::boot(place, name, machine);
        self.approve(&guest);
        guest
    }

    /// Approves the key that the guest's console shows, and waits for its session.
    pub fn approve(&self, guest: &Guest) {
        self.approve_key(guest);
        self.await_presence(guest.name(), Presence::Connected);
    }

    /// Approves the key that the guest's console shows.
    pub fn approve_key(&self, guest: &Guest) {
        let client = self.client();
        until("the guest's key to wait for approval", || {
            let pending = on("the pending keys", client.pending()).expect("pending keys");
            pending.iter().any(|key| key.guest == guest.name()).then_some(())
        });
        let approval = Approval { fingerprint: Some(guest.fingerprint()) };
        on("the approval", client.guest(guest.name()).approve(&approval)).expect("an approval");
    }

    /// Waits until the guest's presence is as wanted.
    pub fn await_presence(&self, name: &str, wanted: Presence) {
        until(&format!("guest {name} to be {wanted:?}"), || (self.presence(name)? == wanted).then_some(()));
    }

    /// The guest's presence, while the manager answers.
    #[must_use]
    pub fn presence(&self, name: &str) -> Option<Presence> {
        on("the guest", self.client().guest(name).show()).ok().map(|guest| guest.presence)
    }

    /// Submits a request.
    #[must_use]
    pub fn submit(&self, guest: &str, action: Action) -> Request {
        self.submit_as(guest, new_request(action))
    }

    /// Submits a request with limits of its own.
    #[must_use]
    pub fn submit_as(&self, guest: &str, new: NewRequest) -> Request {
        on("the request to be accepted", self.client().submit(guest, new)).expect("an accepted request")
    }

    /// Uploads a program.
    #[must_use]
    pub fn upload(&self, name: &str, bytes: Vec<u8>) -> ProgramRef {
        let len = bytes.len() as u64;
        let body = futures_util::stream::iter([Ok(bytes.into())]);
        let program = on("the upload", self.client().put_program(len, body)).expect("an uploaded program");
        ProgramRef { digest: program.digest, name: name.into() }
    }

    /// The request as it stands.
    #[must_use]
    pub fn request(&self, id: &str) -> Request {
        on("the request", self.client().request(id)).expect("a request")
    }

    /// The request once it is final.
    #[must_use]
    pub fn finished(&self, id: &str) -> Request {
        let client = self.client();
        let wait = client.wait(id, Some(Duration::from_secs(85)));
        let request = on(&format!("the end of request {id}"), wait).expect("a request");
        assert!(request.state.is_final(), "request {id} is still {:?}", request.state);
        request
    }

    /// Output of a request that the manager has, from an offset on.
    #[must_use]
    pub fn output(&self, id: &str, stream: Stream, offset: u64) -> Vec<u8> {
        on("the output", async {
            let mut pieces = std::pin::pin!(self.client().output(id, stream, offset, false));
            let mut bytes = Vec::new();
            while let Some(piece) = pieces.next().await {
                bytes.extend_from_slice(&piece.expect("output"));
            }
            bytes
        })
    }

    /// Runs a shell script in a guest to its end; gives the request and its standard output.
    #[must_use]
    pub fn run_sh(&self, guest: &str, script: &str) -> (Request, String) {
        let id = self.submit(guest, sh(script)).id;
        let request = self.finished(&id);
        let output = self.output(&id, Stream::Stdout, 0);
        (request, String::from_utf8_lossy(&output).into_owned())
    }

    /// Checks that the whole audit trail is intact.
    pub fn assert_audit_intact(&self) {
        let check = on("the check of the audit trail", self.client().audit_check()).expect("a check");
        assert!(check.intact, "the audit trail is broken: {:?}", check.broken);
        assert!(check.records > 0, "the audit trail is empty");
    }
}

/// A request without limits of its own.
#[must_use]
pub fn new_request(action: Action) -> NewRequest {
    NewRequest::of(action)
}

/// A command of the guest with its arguments.
#[must_use]
pub fn command(words: &[&str]) -> Action {
    let (command, args) = words.split_first().expect("a command");
    let args = args.iter().map(|&word| word.to_owned()).collect();
    Action::Run(Run { command: Some((*command).to_owned()), args, ..Run::default() })
}

/// A shell script that the guest has no file of.
#[must_use]
pub fn sh(script: &str) -> Action {
    command(&["sh", "-c", script])
}

/// A program that was uploaded.
#[must_use]
pub fn uploaded(program: ProgramRef) -> Action {
    Action::Run(Run { program: Some(program), ..Run::default() })
}

const LOG: &str = "info,doorbelld=debug";
