//! A manager by hand: it listens where a real guest's agent dials, and says what the test wants.
//!
//! Used by tests of the agent. It checks nothing, for the agent is what is tested.

use crate::line::{Heard, Line};
use crate::wait::until;
use doorbell_wire::ids::{Nonce, SessionToken};
use doorbell_wire::ids::{RequestId, Sequence};
use doorbell_wire::limits::{VERSION_CURRENT, VERSION_MIN};
use doorbell_wire::message::action::{Action, Command, Executable, Input, Limits, Run, RunParts};
use doorbell_wire::message::{FromGuest, FromHost, Greeting, Offer, Welcome};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// The manager's end of a guest's hybrid socket.
#[derive(Debug)]
pub struct Rogue(UnixListener);

impl Rogue {
    /// Listens at the guest's door.
    #[must_use]
    pub fn listen(door: &Path) -> Self {
        let listener = UnixListener::bind(door).expect("the guest's door");
        listener.set_nonblocking(true).expect("a listener that does not block");
        Self(listener)
    }

    /// The agent's next connection.
    #[must_use]
    pub fn accept(&self) -> Line {
        let (stream, _) = until("the agent to connect", || self.0.accept().ok());
        stream.set_nonblocking(false).expect("a stream that blocks");
        Line::new(stream)
    }

    /// The agent's next connection, greeted and welcomed, up to its first pull. One that it has given up while
    /// nobody was there to greet it is passed over.
    #[must_use]
    pub fn welcome(&self) -> Line {
        let mut line = until("the agent to introduce itself", || {
            let mut line = self.accept();
            line.order(&FromHost::Greeting(greeting()));
            let Heard::Frame(frame) = line.hear() else { return None };
            let said = FromGuest::from_frame(&frame).expect("a frame of the agent's");
            matches!(said, FromGuest::Hello(_)).then_some(line)
        });
        line.order(&FromHost::Welcome(Welcome {
            token: SessionToken::new([4; 32]),
            host_time_ms: 0,
            proof: None,
        }));
        let FromGuest::Pull = line.hear_guest() else { panic!("the agent does not pull") };
        line
    }
}

/// A greeting without a fault.
#[must_use]
pub fn greeting() -> Greeting {
    Greeting {
        version_min: VERSION_MIN,
        version_max: VERSION_CURRENT,
        nonce: Nonce::new([5; 32]),
        host_time_ms: 0,
    }
}

/// An offer to run a shell script.
#[must_use]
pub fn offer(number: u8, script: &str) -> Offer {
    let executable = Executable::InGuest(Command::try_from("sh".to_owned()).expect("a command"));
    let args = vec!["-c".to_owned(), script.to_owned()];
    let parts = RunParts {
        executable,
        args,
        env: Vec::new(),
        cwd: None,
        user: None,
        input: Input::None,
        limits: Limits::default(),
        new_privileges: false,
    };
    let run = Run::try_from(parts).expect("a start that fits");
    Offer {
        request: RequestId::new([number; 16]),
        sequence: Some(Sequence::try_from(u64::from(number)).expect("a sequence")),
        floor: 0,
        action: Action::Run(run),
        timeout_ms: None,
        idempotent: false,
        signed: None,
    }
}
