//! A manager and one guest, as most suites of running programs want them, and the ways to look into that guest.
//!
//! Used by suites whose tests share a guest. What looks is itself an urgent request, so that it sees what runs
//! meanwhile; it trusts the guest's own tools.

use crate::command::Doorbell;
use crate::daemon::{Daemon, new_request, sh};
use crate::guest::{Guest, Machine};
use crate::image::Image;
use crate::place::Place;
use crate::wait::{on, until, within};
use doorbell_api::guest::GuestChange;
use doorbell_api::request::{Action, NewRequest, Request, State};
use doorbell_client::Stream;
use std::time::Duration;

/// The guest's name.
pub const GUEST: &str = "web-3";

/// What the guest is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum System {
    /// Busybox alone, whose init starts the agent again.
    Initramfs,
    /// A distribution with systemd, and the agent's own unit in it.
    Debian13,
}

impl System {
    fn machine(self) -> Machine {
        match self {
            Self::Initramfs => Machine::default(),
            Self::Debian13 => Machine { image: Image::Debian13, ..Machine::default() },
        }
    }
}

/// Both, and the directory they are in.
#[derive(Debug)]
pub struct Lab {
    /// The guest.
    pub guest: Guest,
    /// The manager.
    pub daemon: Daemon,
    /// Last: it goes when nothing uses it.
    pub place: Place,
}

/// What is left of a request in the guest's cgroups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Members {
    /// It has no cgroup.
    NoCgroup,
    /// It has one, with nothing in it or below it.
    Empty,
    /// It has one with so many processes in it.
    Some(usize),
}

impl Lab {
    /// Starts both and has them meet.
    #[must_use]
    pub fn boot(system: System) -> Self {
        let place = Place::new();
        let daemon = Daemon::start(&place);
        let guest = daemon.boot(&place, GUEST, &system.machine());
        Self { guest, daemon, place }
    }

    /// The same with a manager that has a configuration.
    #[must_use]
    pub fn boot_with(system: System, config: &str) -> Self {
        let place = Place::new();
        let daemon = Daemon::start_with(&place, config);
        let guest = daemon.boot(&place, GUEST, &system.machine());
        Self { guest, daemon, place }
    }

    /// The command line.
    #[must_use]
    pub fn doorbell(&self) -> Doorbell<'_> {
        Doorbell::new(&self.place, self.daemon.socket())
    }

    /// `doorbell run` in the guest with these words behind it, begun.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> crate::command::Running {
        self.doorbell().begin(&[&["run", GUEST], words].concat())
    }

    /// Submits an action; gives the request's id.
    #[must_use]
    pub fn submit(&self, action: Action) -> String {
        self.daemon.submit(GUEST, action).id
    }

    /// Submits an urgent action; gives the request's id.
    #[must_use]
    pub fn submit_urgent(&self, action: Action) -> String {
        self.daemon.submit_as(GUEST, NewRequest { urgent: true, ..new_request(action) }).id
    }

    /// Runs a script in the guest beside all else; it must succeed. Gives its output.
    #[track_caller]
    pub fn look(&self, script: &str) -> String {
        let request = self.daemon.finished(&self.submit_urgent(sh(script)));
        let output = self.output(&request.id);
        assert_eq!(request.state, State::Succeeded, "{script}: {output}{:?}", request.receipt);
        output
    }

    /// How many ordinary requests the guest takes at once from now on.
    pub fn set_concurrency(&self, concurrency: u8) {
        let change = GuestChange { concurrency: Some(concurrency), ..GuestChange::default() };
        on("the change of the guest", self.daemon.client().guest(GUEST).change(&change))
            .expect("a changed guest");
    }

    /// A request's standard output as the manager has it.
    #[must_use]
    pub fn output(&self, id: &str) -> String {
        String::from_utf8_lossy(&self.daemon.output(id, Stream::Stdout, 0)).into_owned()
    }

    /// Waits until a request's standard output holds a text.
    pub fn await_output(&self, id: &str, text: &str) {
        until(&format!("{text:?} in the output of request {id}"), || {
            let output = self.output(id);
            assert!(
                output.contains(text)
                    || !self.daemon.request(id).state.is_final()
                    || self.output(id).contains(text),
                "request {id} ended without {text:?}: {output}{:?}",
                self.daemon.request(id)
            );
            output.contains(text).then_some(())
        });
    }

    /// Waits until a request that runs has more standard output than it has now.
    pub fn await_more_output(&self, id: &str) {
        let before = self.output(id).len();
        until(&format!("more output of request {id}"), || {
            let request = self.daemon.request(id);
            assert!(
                !request.state.is_final(),
                "request {id} is over: {:?} {:?}",
                request.state,
                request.receipt
            );
            (self.output(id).len() > before).then_some(())
        });
    }

    /// Waits until a request is in a state on its way.
    pub fn await_state(&self, id: &str, state: State) {
        until(&format!("request {id} to be {state:?}"), || {
            let now = self.daemon.request(id);
            assert!(
                !now.state.is_final() || now.state == state,
                "request {id} is {:?}: {:?}",
                now.state,
                now.receipt
            );
            (now.state == state).then_some(())
        });
    }

    /// The request once it is final, where that takes longer than most.
    #[must_use]
    pub fn finished_within(&self, limit: Duration, id: &str) -> Request {
        within(limit, &format!("the end of request {id}"), || {
            let request = self.daemon.request(id);
            request.state.is_final().then_some(request)
        })
    }

    /// The agent's process in the guest: the parent of the supervisor of whatever looks.
    #[must_use]
    pub fn agent(&self) -> u32 {
        let text = self.look(&format!("{AGENT_PID} && echo $agent"));
        text.trim().parse().unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }

    /// What is left of a request in the guest's cgroups.
    #[must_use]
    pub fn members(&self, id: &str) -> Members {
        let text = self.look(&format!(
            "for each in $(find /sys/fs/cgroup -type d -name 'doorbell-{id}'); do \
             echo cgroup; grep '^populated' \"$each/cgroup.events\"; \
             find \"$each\" -name cgroup.procs -exec cat {{}} +; done"
        ));
        let mut lines = text.lines();
        match (lines.next(), lines.next()) {
            (None, _) => Members::NoCgroup,
            (Some("cgroup"), Some("populated 0")) => Members::Empty,
            (Some("cgroup"), Some("populated 1")) => Members::Some(lines.count()),
            _ => panic!("a cgroup of request {id} that cannot be read: {text:?}"),
        }
    }

    /// How many processes of the guest have this number as an argument.
    #[must_use]
    pub fn processes_with(&self, number: u32) -> usize {
        // The brackets keep what looks from finding itself.
        let (front, last) = (number / 10, number % 10);
        let text = self.look(&format!(
            "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c '^{front}[{last}]$' || true"
        ));
        text.trim().parse().unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }
}

/// An id for a request of this test, so that it is known beforehand.
#[must_use]
pub fn fresh_id(number: u8) -> String {
    format!("{:030x}{number:02x}", std::process::id())
}

/// A line of shell that waits until the test opens this gate; it says `up` when it waits.
#[must_use]
pub fn gate(name: &str) -> String {
    format!("mkfifo /run/gate-{name}; echo up; read go </run/gate-{name}; rm /run/gate-{name}")
}

impl Lab {
    /// Opens a gate that a program has said it waits at.
    pub fn open_gate(&self, name: &str) {
        let _ = self.look(&format!("echo go >/run/gate-{name}"));
    }
}

/// Lines of shell that find the agent. A program's parent is its supervisor, and that one's the agent.
pub const AGENT_PID: &str = "agent=$(awk '$1 == \"PPid:\" { print $2 }' /proc/$PPID/status); \
     [ \"$agent\" -gt 1 ] && grep -q doorbell-agent /proc/$agent/comm";
