//! What the spool promises, one test for each promise. This file has what the tests share.

mod crashes;
mod outcomes;
mod places;
mod refusals;
mod taking;

use super::*;
use crate::config::Config;
use crate::store::{AddGuest, Place, RequestFilter, RequestRow};
use doorbell_api::request::State;
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals};
use intake::Pass;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A manager with a spool and one guest, and no task: a test makes each pass itself.
struct Bench {
    dir: tempfile::TempDir,
    manager: Arc<Manager>,
    guest: GuestRow,
    inbox: Inbox,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manager = Arc::new(Manager::open(config(dir.path()), String::new()).unwrap());
        let guest = add(&manager, "web-3", 7).await;
        Self { dir, manager, guest, inbox: Inbox::default() }
    }

    /// As after a crash: everything in memory is forgotten.
    fn restarted(self) -> Self {
        let Self { dir, manager, guest, .. } = self;
        drop(Arc::into_inner(manager).expect("the only one"));
        let manager = Arc::new(Manager::open(config(dir.path()), String::new()).unwrap());
        Self { dir, manager, guest, inbox: Inbox::default() }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("spool/web-3")
    }

    fn inbox(&self, name: &str) -> PathBuf {
        self.home().join("inbox").join(name)
    }

    fn outbox(&self, name: &str) -> PathBuf {
        self.home().join("outbox").join(name)
    }

    /// Puts a file into the inbox as one should: beside it, then moved.
    fn put(&mut self, name: &str, bytes: impl AsRef<[u8]>) {
        let fresh = self.dir.path().join("fresh");
        fs::write(&fresh, bytes).unwrap();
        fs::rename(fresh, self.inbox(name)).unwrap();
        self.moved_in(name);
    }

    /// What inotify would tell.
    fn moved_in(&mut self, name: &str) {
        self.inbox.moved.insert(name.as_bytes().to_vec());
    }

    fn owner(&self) -> Owner {
        let Some(spool) = &self.manager.spool else { panic!("no spool") };
        let rooms = Arc::new(spool.rooms(&self.guest.name, self.guest.id).unwrap());
        Owner { id: self.guest.id, name: self.guest.name.clone(), rooms }
    }

    async fn try_pass(&mut self) -> Result<Pass, Trouble> {
        let owner = self.owner();
        intake::pass(&self.manager, &owner, &mut self.inbox).await
    }

    async fn pass(&mut self) -> Pass {
        self.try_pass().await.unwrap()
    }

    async fn deliver(&self) -> Result<bool, Trouble> {
        deliver::pass(&self.manager, &self.owner()).await
    }

    /// All requests, oldest first.
    async fn requests(&self) -> Vec<RequestRow> {
        let filter = RequestFilter { guest: None, open: false, limit: 1000 };
        let mut rows = self.manager.store.requests(filter).await.unwrap().0;
        rows.reverse();
        rows
    }

    async fn end(&self, request: &RequestRow) {
        let output = OutputTotals::default();
        let ack = Acknowledgement {
            request: request.id,
            outcome: Outcome::Succeeded,
            evidence: Evidence::None,
            output,
            ran: None,
        };
        let kept = self.manager.outputs.finish(request.id, output).await.unwrap();
        let row = self.manager.store.store_receipt(self.guest.id, ack, kept, Vec::new()).await.unwrap();
        assert_eq!(row.unwrap().state, State::Succeeded);
    }

    fn names(&self, room: &str) -> Vec<String> {
        names(&self.home().join(room))
    }

    /// Why something was refused.
    fn refusal(&self, label: &str) -> String {
        let text = fs::read_to_string(self.outbox(&format!("{label}.refused.json"))).unwrap();
        let told: Value = serde_json::from_str(&text).unwrap();
        let line = told["refused"].as_str().unwrap().to_owned();
        assert!(!line.contains('\n'), "{line}");
        line
    }
}

fn config(dir: &Path) -> Config {
    Config { state_dir: dir.join("state"), spool_dir: Some(dir.join("spool")), ..Config::default() }
}

async fn add(manager: &Manager, name: &str, cid: u32) -> GuestRow {
    let add = AddGuest {
        name: name.parse().unwrap(),
        place: Place::Cid(cid.try_into().unwrap()),
        qmp: None,
        key: None,
        concurrency: None,
        share: None,
        trigger: None,
        set_clock: false,
        tenant: None,
        enrolment: None,
        trust_first_key: false,
    };
    let row = manager.store.add_guest(&crate::actor::Actor::Manager, add).await.unwrap();
    Spool::make(manager, &row).await.unwrap();
    row
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const SCRIPT: &str = "#!/bin/sh\necho hello\n";
