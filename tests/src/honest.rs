//! A guest without a machine: it keeps every rule, through the agent's own half of the session.
//!
//! Started by tests as the neighbour that must be served whatever others do, and as the stock of identities
//! for guests that break one rule and keep all others.

use crate::line::{Heard, Line};
use crate::wait::comes_within;
use doorbell_wire::handshake::{choose_version, transcript};
use doorbell_wire::ids::{BootId, Nonce, PublicKey, SessionToken, ShortText, Signature, Tick};
use doorbell_wire::message::action::Action;
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals};
use doorbell_wire::message::{Capabilities, Claims, FromHost, Greeting, Hello, Offer, Progress, Stage};
use doorbell_wire::session::guest::{Guest, Owed};
use ed25519_dalek::{Signer as _, SigningKey};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A guest's key and what it remembers between sessions.
#[derive(Clone, Debug)]
pub struct Identity {
    key: SigningKey,
    /// The token of its last welcome.
    pub token: Option<SessionToken>,
    sequence_max: u64,
}

impl Identity {
    /// A new one.
    #[must_use]
    pub fn fresh() -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("random bytes");
        Self { key: SigningKey::from_bytes(&seed), token: None, sequence_max: 0 }
    }

    /// Its public key, as `guest add` takes it.
    #[must_use]
    pub fn public_key(&self) -> String {
        hex::encode(self.key.verifying_key().to_bytes())
    }

    /// What it claims; change what is to be wrong, then [`Identity::prove`] it.
    #[must_use]
    pub fn claims(&self, version: u16) -> Claims {
        Claims {
            version,
            nonce: Nonce::new([7; 32]),
            public_key: PublicKey::new(self.key.verifying_key().to_bytes()),
            boot_id: BootId::new([9; 16]),
            generation: None,
            token: self.token,
            capabilities: Capabilities::RUN.with(Capabilities::LINK),
            agent: ShortText::try_from("scripted".to_owned()).expect("a short text"),
            sequence_max: self.sequence_max,
            clock_us: 0,
        }
    }

    /// Remembers, as a journal does, that this request was here.
    pub fn remember(&mut self, offer: &Offer) {
        self.sequence_max = self.sequence_max.max(offer.sequence.map_or(0, u64::from));
    }

    /// Signs claims over a greeting.
    #[must_use]
    pub fn prove(&self, greeting: &Greeting, claims: Claims) -> Hello {
        let said = transcript(greeting, &claims).expect("claims that fit");
        Hello { claims, proof: Signature::new(self.key.sign(&said).to_bytes()), enrolment: None }
    }

    /// The key's signature over these bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        Signature::new(self.key.sign(bytes).to_bytes())
    }

    /// The answer of an honest guest to a greeting.
    #[must_use]
    pub fn hello(&self, greeting: &Greeting) -> Hello {
        let version = choose_version(greeting).expect("a common version");
        self.prove(greeting, self.claims(version))
    }
}

/// An honest guest that serves in a thread of its own until it is dropped.
#[derive(Debug)]
pub struct Honest {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Honest {
    /// Connects to the manager's end of a hybrid socket and stays, over as many sessions as it takes.
    #[must_use]
    pub fn start(door: &Path, identity: Identity) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut worker =
            Worker { door: door.to_owned(), identity, stop: Arc::clone(&stop), began: Instant::now() };
        let thread = std::thread::spawn(move || worker.run());
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    door: PathBuf,
    identity: Identity,
    stop: Arc<AtomicBool>,
    began: Instant,
}

impl Worker {
    fn run(&mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(stream) = UnixStream::connect(&self.door) else {
                comes_within(RETRY_IN, || self.stop.load(Ordering::Relaxed));
                continue;
            };
            self.serve(&mut Line::new(stream));
        }
    }

    /// One session to its end.
    fn serve(&mut self, line: &mut Line) -> Option<()> {
        let mut session = Guest::connected(self.now());
        while !self.stop.load(Ordering::Relaxed) {
            session = self.drain(session, line)?;
            session = match line.try_hear() {
                Some(Heard::Frame(frame)) => {
                    session.receive(self.now(), FromHost::from_frame(&frame).ok()?).ok()?
                }
                Some(Heard::Closed) => return None,
                None => session.expire(self.now()).ok()?,
            };
        }
        None
    }

    fn drain(&mut self, mut session: Guest, line: &mut Line) -> Option<Guest> {
        loop {
            session = match session.poll() {
                Owed::Wait(_) => return Some(session),
                Owed::Send(message) => line.say(&message).then_some(session)?,
                Owed::Introduce(greeting) => session.introduce(self.identity.hello(&greeting)).ok()?,
                Owed::Welcomed(welcome) => {
                    self.identity.token = Some(welcome.token);
                    session.pull().ok()?
                }
                Owed::Offered(offer) => {
                    self.identity.remember(&offer);
                    apply(session, &offer, line)?
                }
                Owed::Pushed(push) => {
                    self.identity.remember(&push.offer);
                    apply(session, &push.offer, line)?
                }
                Owed::Clock(_)
                | Owed::Attached(..)
                | Owed::Stage(_)
                | Owed::Input(_)
                | Owed::InputEnd(_)
                | Owed::Resize(_)
                | Owed::Spooled(_)
                | Owed::Cancel(_)
                | Owed::Forget(_) => session,
            };
        }
    }

    fn now(&self) -> Tick {
        Tick(u64::try_from(self.began.elapsed().as_millis()).expect("a short test"))
    }
}

/// It does everything at once and always succeeds; a query's answer has no links in it.
fn apply(session: Guest, offer: &Offer, line: &mut Line) -> Option<Guest> {
    let mut session = session.apply(offer.request).ok()?;
    if matches!(offer.action, Action::Run(_)) {
        session =
            session.progress(Progress { request: offer.request, stage: Stage::Started, at_us: 1 }).ok()?;
        while let Owed::Send(message) = session.poll() {
            line.say(&message);
        }
    }
    session.acknowledge(succeeded(offer)).ok()
}

/// The acknowledgement of a request that went well.
#[must_use]
pub fn succeeded(offer: &Offer) -> Acknowledgement {
    Acknowledgement {
        request: offer.request,
        outcome: Outcome::Succeeded,
        evidence: Evidence::None,
        output: OutputTotals::default(),
        ran: None,
    }
}

const RETRY_IN: Duration = Duration::from_millis(100);
