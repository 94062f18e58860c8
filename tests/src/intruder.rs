//! A guest that means harm: it knows its own key, dials as its agent would, and then says what a test wants.
//!
//! Used by suites that break rules and by the benchmark of an honest guest beside it.

use crate::honest::Identity;
use crate::line::{Heard, Line};
use crate::wait::until;
use doorbell_wire::error::Reason;
use doorbell_wire::message::{FromGuest, FromHost, Greeting};
use std::path::PathBuf;

/// The guest.
#[derive(Clone, Debug)]
pub struct Intruder {
    /// The manager's end of its hybrid socket.
    pub door: PathBuf,
    /// Who it is.
    pub identity: Identity,
}

impl Intruder {
    /// Dials and takes the greeting; dials again while its own place is crowded.
    #[must_use]
    pub fn meet(&self) -> (Line, Greeting) {
        until("the manager to greet", || {
            let mut line = Line::dial(&self.door);
            let Heard::Frame(frame) = line.hear() else { return None };
            let said = FromHost::from_frame(&frame).expect("a frame of the manager's");
            if let FromHost::Greeting(greeting) = said {
                return Some((line, greeting));
            }
            assert_eq!(said, FromHost::HostBye(Reason::OVERLOADED));
            None
        })
    }

    /// A proved session.
    pub fn prove(&mut self) -> Line {
        let (mut line, greeting) = self.meet();
        line.say(&FromGuest::Hello(Box::new(self.identity.hello(&greeting))));
        let FromHost::Welcome(welcome) = line.hear_host() else { panic!("the intruder is not welcome") };
        self.identity.token = Some(welcome.token);
        line
    }

    /// A proved session, up to the answer to its pull.
    pub fn enter(&mut self) -> (Line, FromHost) {
        let mut line = self.prove();
        line.say(&FromGuest::Pull);
        let answer = line.hear_host();
        if let FromHost::Offer(offer) = &answer {
            self.identity.remember(offer);
        }
        (line, answer)
    }
}
