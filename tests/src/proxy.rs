//! Stands between a guest's vsock device and the manager, passes every frame on, and at one frame of the
//! test's choice stops or bends the channel: so a test meets a station exactly, and not by time.
//!
//! Used by tests of crashes and of damaged bytes. It knows frames and no meaning.

use crate::daemon::Daemon;
use crate::guest::{Guest, Machine, door};
use crate::line::bytes;
use crate::place::Place;
use crate::wait::until;
use doorbell_wire::frame::{Deframer, Frame};
use doorbell_wire::message::Kind;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is done with a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It stays here, and so does all that follows it in its direction, until the connection is cut.
    Hold,
    /// It goes on, and what follows it stays.
    HoldNext,
    /// It goes on with one bit changed, once.
    FlipOneBit,
    /// Half of it goes on, and then its connection is cut.
    Tear,
}

type Rule = Box<dyn FnMut(&Frame) -> Verdict + Send>;

/// The proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    door: PathBuf,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    reached: bool,
    last: Option<Kind>,
    passed: u64,
    ended: bool,
    // Cutting counts up: whoever belongs to an older count is cut.
    cuts: u64,
    streams: Vec<UnixStream>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Proxy {
    /// Adds a guest to the manager, boots it with a proxy between the two, and has it approved.
    #[must_use]
    pub fn between(daemon: &Daemon, place: &Place, name: &str) -> (Self, Guest) {
        Self::between_machine(daemon, place, name, &Machine::default())
    }

    /// The same, with a guest that is not like most.
    #[must_use]
    pub fn between_machine(daemon: &Daemon, place: &Place, name: &str, machine: &Machine) -> (Self, Guest) {
        let behind = place.join("behind");
        daemon.add(name, &behind, None);
        let proxy = Self::start(&door(&Guest::socket_of(place, name)), &door(&behind));
        let guest = Guest::boot(place, name, machine);
        daemon.approve(&guest);
        (proxy, guest)
    }

    /// Listens at `door` and passes on to `manager`.
    #[must_use]
    pub fn start(door: &Path, manager: &Path) -> Self {
        let listener = UnixListener::bind(door).expect("the proxy's socket");
        let shared = Arc::new(Shared::default());
        let (there, manager) = (Arc::clone(&shared), manager.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if there.lock().ended {
                    return;
                }
                there.join(&stream, &manager);
            }
        });
        Self { shared, door: door.to_owned() }
    }

    /// Sets what is done with each frame from here on. The first verdict but [`Verdict::Pass`] is the last.
    pub fn arm(&self, rule: impl FnMut(&Frame) -> Verdict + Send + 'static) {
        let mut state = self.shared.lock();
        state.reached = false;
        state.rule = Some(Box::new(rule));
    }

    /// Waits until the rule has met its frame.
    pub fn await_reached(&self, what: &str) {
        until(what, || self.has_reached().then_some(()));
    }

    /// Whether the rule has met its frame.
    #[must_use]
    pub fn has_reached(&self) -> bool {
        self.shared.lock().reached
    }

    /// Takes the rule back.
    pub fn disarm(&self) {
        self.shared.lock().rule = None;
    }

    /// How many frames have come by, heartbeats apart.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.lock().passed
    }

    /// Waits until the last frame that went by says that no request waits.
    pub fn await_quiet(&self) {
        until("the guest to be told that nothing waits", || {
            (self.shared.lock().last == Some(Kind::Nothing)).then_some(())
        });
    }

    /// Cuts every connection, held or not, and lets new ones pass.
    pub fn cut(&self) {
        let mut state = self.shared.lock();
        state.rule = None;
        state.last = None;
        state.cuts += 1;
        for stream in state.streams.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.cut();
        let _ = UnixStream::connect(&self.door);
        let _ = std::fs::remove_file(&self.door);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the guest's connection with one to the manager; without a manager the guest's is closed at once.
    fn join(self: &Arc<Self>, guest: &UnixStream, manager: &Path) {
        let Ok(manager) = UnixStream::connect(manager) else { return };
        let cuts = {
            let mut state = self.lock();
            state
                .streams
                .extend([guest.try_clone().expect("a socket"), manager.try_clone().expect("a socket")]);
            state.cuts
        };
        for (from, to) in [(guest, &manager), (&manager, guest)] {
            let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                shared.pass(&from, &to, cuts);
                // One end gone is both gone: the device behind the guest's end loses data at a half-close.
                let _ = from.shutdown(std::net::Shutdown::Both);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    }

    fn pass(&self, mut from: &UnixStream, mut to: &UnixStream, cuts: u64) -> Option<()> {
        let mut deframer = Deframer::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut buffer).ok().filter(|&count| count > 0)?;
            let mut rest = &buffer[..count];
            while let Some(frame) = deframer.next(&mut rest).ok()? {
                let verdict = self.judge(&frame);
                if verdict != Verdict::Hold {
                    to.write_all(&bent(&frame, verdict)).ok()?;
                }
                if verdict != Verdict::Pass {
                    self.lock().reached = true;
                }
                if verdict == Verdict::Tear {
                    return None;
                }
                if matches!(verdict, Verdict::Hold | Verdict::HoldNext) {
                    return self.await_cut(cuts);
                }
            }
        }
    }

    fn judge(&self, frame: &Frame) -> Verdict {
        let mut state = self.lock();
        let verdict = state.rule.as_mut().map_or(Verdict::Pass, |rule| rule(frame));
        if verdict != Verdict::Pass {
            state.rule = None;
        }
        if !matches!(frame.kind, Kind::Ping | Kind::Pong) {
            state.last = Some(frame.kind);
            state.passed += 1;
        }
        verdict
    }

    fn await_cut(&self, cuts: u64) -> Option<()> {
        let state = self.lock();
        let _cut = self
            .changed
            .wait_while(state, |state| state.cuts == cuts)
            .unwrap_or_else(PoisonError::into_inner);
        None
    }
}

fn bent(frame: &Frame, verdict: Verdict) -> Vec<u8> {
    let mut bytes = bytes(frame);
    match verdict {
        Verdict::FlipOneBit => *bytes.last_mut().expect("a frame has bytes") ^= 0x10,
        Verdict::Tear => bytes.truncate(bytes.len() / 2),
        Verdict::Pass | Verdict::Hold | Verdict::HoldNext => {}
    }
    bytes
}
