//! The scene: a manager, a guest and the channel between them, and the hand that breaks each of them.
//!
//! Set once for many seeds. Faults reach the guest by its reset line, its power and [`Port`], never by the channel.

use super::full::Disk;
use super::port::Port;
use super::schedule::{Fault, Schedule, Step};
use super::work::Job;
use crate::daemon::Daemon;
use crate::guest::{Guest, Machine};
use crate::image::Image;
use crate::lab::GUEST;
use crate::place::Place;
use crate::proxy::{Proxy, Verdict};
use crate::skip::tell;
use crate::wait::{comes_within, on, within};
use doorbell_api::guest::{GuestChange, Presence};
use doorbell_client::Client;
use std::time::Duration;

/// Everything that can break.
#[derive(Debug)]
pub struct Scene {
    /// The client that submits; it lives through the manager's restarts.
    pub client: Client,
    /// The way into the guest.
    pub port: Port,
    /// The channel.
    pub proxy: Proxy,
    /// The guest.
    pub guest: Guest,
    /// The manager.
    pub daemon: Daemon,
    /// How often the guest's kernel has come up since its power came, when it is there.
    boots: usize,
    /// The manager's disk, where this user may mount one.
    disk: Option<Disk>,
    /// Last: it goes when nothing uses it.
    pub place: Place,
}

impl Scene {
    /// Boots the guest on fresh disks, and has it approved by a fresh manager.
    #[must_use]
    pub fn set() -> Self {
        let place = Place::new();
        let disk = Disk::make(&place, "state");
        if let Err(errno) = disk {
            tell(&format!("skipped: a full disk of the manager: no tmpfs can be mounted here: {errno}"));
        }
        let daemon = Daemon::start(&place);
        let machine = Machine {
            image: Image::Faults,
            disk_mib: Some(STATE_MIB),
            second_disk_mib: Some(EFFECTS_MIB),
            port: true,
            ..Machine::default()
        };
        let (proxy, guest) = Proxy::between_machine(&daemon, &place, GUEST, &machine);
        let (client, mut port) = (daemon.client(), Port::at(&guest.port()));
        port.run(&format!(
            "[ -e {GIVEN} ] || head -c 200000 /dev/urandom >{GIVEN}; mkdir -p /effects/put; sync"
        ));
        Self { client, port, proxy, guest, daemon, boots: 1, disk: disk.ok(), place }
    }

    /// Plays the steps; what was submitted is not waited for.
    #[must_use]
    pub fn play(&mut self, schedule: &Schedule) -> Vec<Job> {
        let change = GuestChange { concurrency: Some(schedule.concurrency), ..GuestChange::default() };
        on("the change of the guest", self.client.guest(GUEST).change(&change)).expect("a changed guest");
        let mut jobs = Vec::new();
        for (number, step) in (0_u8..).zip(&schedule.steps) {
            match *step {
                Step::Submit(kind) => jobs.push(Job::begin(&self.client, schedule.seed, number, kind)),
                Step::Fault(frames, fault) => {
                    let from = self.proxy.passed();
                    comes_within(FRAMES_IN, || self.proxy.passed() >= from + u64::from(frames));
                    self.inject(fault);
                }
            }
        }
        jobs
    }

    /// Puts everything right that an operator, an init or a machine would.
    pub fn heal(&mut self) {
        self.proxy.disarm();
        for fault in [Fault::ManagerDiskFreed, Fault::ManagerBack, Fault::PowerOn, Fault::GuestDiskFreed] {
            self.inject(fault);
        }
        within(PATIENCE, "the guest's session", || {
            (self.daemon.presence(GUEST)? == Presence::Connected).then_some(())
        });
    }

    fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::ManagerKilled => self.restart_manager(),
            Fault::ManagerGone => self.kill_manager(),
            Fault::ManagerBack => self.start_manager(),
            Fault::AgentKilled => self.in_guest(&kill_all("doorbell-agent")),
            Fault::SupervisorsKilled => self.in_guest(&kill_all("doorbell-run")),
            Fault::GuestReset if self.guest.is_on() => {
                self.boots = self.guest.boots() + 1;
                self.guest.reset();
            }
            Fault::PowerOff if self.guest.is_on() => self.guest.power_off(),
            Fault::PowerOn if !self.guest.is_on() => {
                self.boots = 1;
                self.guest.power_on();
            }
            Fault::GuestReset | Fault::PowerOff | Fault::PowerOn => {}
            Fault::Cut => self.proxy.cut(),
            Fault::Torn(frames) => self.tear(frames),
            Fault::GuestDiskFull => self.in_guest(FILL),
            Fault::GuestDiskFreed => self.in_guest(FREE),
            Fault::ManagerDiskFull => self.disk.iter().for_each(Disk::fill),
            Fault::ManagerDiskFreed => self.disk.iter().for_each(Disk::free),
            Fault::ClockAhead => self.in_guest(&clock("+")),
            Fault::ClockBack => self.in_guest(&clock("-")),
        }
    }

    fn restart_manager(&mut self) {
        self.kill_manager();
        self.start_manager();
    }

    fn kill_manager(&mut self) {
        if self.daemon.is_running() {
            self.daemon.kill();
        }
    }

    /// On a full disk it may refuse to start; it is tried again when there is room.
    fn start_manager(&mut self) {
        if !self.daemon.is_running() && !self.daemon.try_restart() {
            tell("  the manager does not start");
        }
    }

    fn in_guest(&mut self, script: &str) {
        // There is nothing to kill in a machine that is off.
        if self.guest.is_on() {
            // A guest that is going down takes a question along and gives no answer.
            within(PATIENCE, "the guest's boot", || (self.guest.boots() >= self.boots).then_some(()));
            self.port.run(script);
        }
    }

    fn tear(&self, frames: u8) {
        let mut left = frames;
        self.proxy.arm(move |_| {
            let verdict = if left == 0 { Verdict::Tear } else { Verdict::Pass };
            left = left.saturating_sub(1);
            verdict
        });
    }
}

/// By the name that the kernel has of a process: what runs a program has the agent's file and another name.
fn kill_all(name: &str) -> String {
    format!(
        "for each in /proc/[0-9]*; do read name 2>/dev/null <$each/comm || continue; \
         [ \"$name\" != {name} ] || kill -KILL ${{each#/proc/}} 2>/dev/null; done"
    )
}

fn clock(sign: &str) -> String {
    format!("date -s @$(($(date +%s) {sign} 115200)) >/dev/null")
}

/// A file of the guest's that requests get.
pub const GIVEN: &str = "/effects/given";
/// Room for the largest output many times over, and full in no time.
const STATE_MIB: u64 = 48;
const EFFECTS_MIB: u64 = 48;
/// Every block, and the rest of the last one.
const FILL: &str = "cd /var/lib/doorbell-agent; for size in 1M 64k 4k 512; do \
     dd if=/dev/zero bs=$size >>filler 2>/dev/null; done; cd /";
const FREE: &str = "rm -f /var/lib/doorbell-agent/filler; sync";
/// How long frames may take to come by: none come where all has ended.
const FRAMES_IN: Duration = Duration::from_millis(400);
/// A guest that starts on a machine that is busy with others takes its time.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);
