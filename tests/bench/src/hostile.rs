//! An honest guest's latency beside a hostile one, the manager's memory, and what it keeps open when that is over.
//!
//! Called by `main`. Both guests are played by this process over hybrid sockets, so that nothing of a machine is in
//! the figures but the manager; it is told in the documents what that leaves out.

mod attacks;

use crate::api::{Api, command};
use crate::children::Running;
use crate::report::Report;
use crate::samples::{Kind, Rows};
use anyhow::{Context as _, Result, ensure};
use attacks::{ATTACKS, Attack, Neighbour};
use doorbell_tests::guest::door;
use doorbell_tests::honest::{Honest, Identity};
use doorbell_tests::intruder::Intruder;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The manager with its honest guest and the one that is not.
struct Manor {
    api: Arc<Api>,
    manager: Running,
    intruder: Intruder,
    _honest: Honest,
}

/// Each attack in turn, between two times of quiet.
pub(crate) fn run(bin: &Path, directory: &Path, quick: bool) -> Result<Report> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(FILES).max(soft), hard)?;
    let mut manor = Manor::start(bin, directory)?;
    let mut rows = Rows::default();
    let count = if quick { QUICK } else { FULL };
    manor.quiet(&mut Rows::default(), WARM)?;
    for attack in ATTACKS {
        manor.beside(attack, &mut rows, count)?;
    }
    Ok(Report::of_manager("hostile", quick, rows))
}

impl Manor {
    fn start(bin: &Path, directory: &Path) -> Result<Self> {
        let socket = directory.join("d.sock");
        let arguments = ["--state-dir".into(), directory.join("state"), "--socket".into(), socket.clone()];
        let mut manager =
            Running::start(&bin.join("doorbelld"), &arguments, &directory.join("doorbelld.log"))?;
        let api = Api::at(&socket)?;
        manager.until("the manager answers", || api.get("info").ok())?;
        let add = |name: &str| {
            let (base, identity) = (directory.join(name), Identity::fresh());
            let guest = json!({ "name": name, "hybrid_socket": base, "public_key": identity.public_key() });
            api.post("guests", &guest).map(|_| (door(&base), identity))
        };
        let (honest, identity) = add(HONEST)?;
        let honest = Honest::start(&honest, identity);
        let (door, identity) = add(HOSTILE)?;
        let intruder = Intruder { door, identity };
        let connected =
            || (api.get(&format!("guests/{HONEST}")).ok()?["presence"] == "connected").then_some(());
        manager.until("the honest guest is connected", connected)?;
        Ok(Self { api: Arc::new(api), manager, intruder, _honest: honest })
    }

    /// Quiet, then the attack, and the way back: what it opened has to be closed again.
    fn beside(&mut self, attack: &Attack, rows: &mut Rows, count: u32) -> Result<()> {
        let before = open_files(self.manager.id())?;
        self.quiet(rows, count)?;
        let stop = Arc::new(AtomicBool::new(false));
        let neighbour = Neighbour {
            intruder: self.intruder.clone(),
            api: Arc::clone(&self.api),
            stop: Arc::clone(&stop),
        };
        let attacker = std::thread::spawn(attack.begin(neighbour));
        let times = self.while_it_lasts(count);
        let (files, resident) = (open_files(self.manager.id())?, self.manager.resident_kib()?);
        ensure!(!attacker.is_finished(), "the attack {:?} ended by itself", attack.what);
        stop.store(true, Ordering::Relaxed);
        let (intruder, done) = attacker.join().ok().with_context(|| format!("{} broke", attack.what))?;
        self.intruder = intruder;
        rows.add_times(Kind::Doorbell, attack.id, &format!("beside {}", attack.what), &times?);
        let what = format!("{}, by {}", attack.counts, attack.what);
        rows.add(Kind::Doorbell, &format!("{}-done", attack.id), &what, "1", [done as f64]);
        let what = format!("manager's memory at the end of {}", attack.what);
        rows.add(Kind::Doorbell, &format!("{}-resident", attack.id), &what, "KiB", [resident]);
        let what = format!("manager's descriptors at the end of {}", attack.what);
        rows.add(Kind::Doorbell, &format!("{}-files", attack.id), &what, "1", [files as f64]);
        self.closes_again(attack, before)
    }

    /// The honest guest's requests for as long as that many take, and for two seconds at least: the attack has to
    /// have reached what it aims at.
    fn while_it_lasts(&self, count: u32) -> Result<Vec<Duration>> {
        let end = Instant::now() + AT_LEAST;
        let mut times = Vec::new();
        while times.len() < count as usize || Instant::now() < end {
            times.push(self.one()?);
        }
        Ok(times)
    }

    fn quiet(&self, rows: &mut Rows, count: u32) -> Result<()> {
        let times = (0..count).map(|_| self.one()).collect::<Result<Vec<_>>>()?;
        rows.add_times(Kind::Doorbell, QUIET, "in quiet, command to receipt at the API", &times);
        Ok(())
    }

    fn one(&self) -> Result<Duration> {
        let start = Instant::now();
        let id = self.api.submit(HONEST, &command(&["true"]))?;
        self.api.finished(&id)?;
        Ok(start.elapsed())
    }

    fn closes_again(&mut self, attack: &Attack, before: usize) -> Result<()> {
        // The API's own connections come and go.
        let process = self.manager.id();
        let closed = || open_files(process).ok().filter(|now| *now <= before + API_FILES).map(drop);
        self.manager.until(&format!("the descriptors of {} are closed", attack.what), closed)
    }
}

fn open_files(process: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// The row that all others are held against.
pub(crate) const QUIET: &str = "quiet";
const HONEST: &str = "honest";
const HOSTILE: &str = "hostile";
const WARM: u32 = 50;
const FULL: u32 = 500;
const QUICK: u32 = 100;
const AT_LEAST: Duration = Duration::from_secs(2);
/// For ten thousand connections of our own.
const FILES: u64 = 12_000;
const API_FILES: usize = 4;
