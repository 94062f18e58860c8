//! The manager: its socket, its answer, its versions, its state directory.

use super::finding::Finding;
use super::surroundings::Surroundings;
use crate::failure::describe;
use doorbell_client::api::guest::Guest;
use doorbell_client::api::info::Info;
use doorbell_client::{Client, ClientError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What the manager says of itself, where it answers.
#[derive(Debug)]
pub(super) struct Manager {
    pub(super) socket: PathBuf,
    pub(super) info: Result<Info, ClientError>,
    pub(super) guests: Vec<Guest>,
}

impl Manager {
    pub(super) async fn ask(client: &Client) -> Self {
        let info = client.info().await;
        // Where this fails after the first call worked, the daemon went away in between: then it has no guests.
        let guests = if info.is_ok() { client.guests().await.unwrap_or_default() } else { Vec::new() };
        Self { socket: client.socket().to_path_buf(), info, guests }
    }
}

pub(super) fn look(here: &Surroundings, manager: &Manager) -> Vec<Finding> {
    match &manager.info {
        Ok(info) => vec![
            reached(manager, info),
            version(info),
            vsock(here, info),
            state_dir(here, Path::new(&info.state_dir)),
            disk(info),
        ],
        Err(error) => vec![Finding::problem("doorbelld", "does not answer", describe(error))],
    }
}

fn reached(manager: &Manager, info: &Info) -> Finding {
    let socket = manager.socket.display();
    let connected = format!("{} of {} guests connected", info.connected, info.guests);
    Finding::ok("doorbelld", format!("pid {} answers on {socket}; {connected}", info.pid))
}

fn version(info: &Info) -> Finding {
    let ours = env!("CARGO_PKG_VERSION");
    let found =
        format!("doorbelld {}, protocol {} to {}", info.version, info.protocol_min, info.protocol_max);
    if info.version == ours {
        return Finding::ok("version", found);
    }
    Finding::warning("version", format!("{found}; this doorbell is {ours}"), "install both from one release")
}

fn vsock(here: &Surroundings, info: &Info) -> Finding {
    let listens = info.vsock.starts_with("listening");
    if !listens && here.exists("/dev/vhost-vsock") {
        let advice =
            "set `vsock = \"auto\"` in doorbelld's configuration, or restart it if the device came later";
        return Finding::warning("vsock", info.vsock.clone(), advice);
    }
    Finding::ok("vsock", info.vsock.clone())
}

fn state_dir(here: &Surroundings, dir: &Path) -> Finding {
    const WHAT: &str = "state directory";
    let shown = dir.display();
    let Ok(metadata) = here.stat(dir) else {
        return Finding::ok(WHAT, format!("{shown}, which uid {} cannot look into", here.uid));
    };
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let found = format!("{shown} has mode {mode:04o}: others can look into it");
        return Finding::problem(
            WHAT,
            found,
            format!("`chmod 0700 {shown}`, and give new keys to guests if it was so for long"),
        );
    }
    Finding::ok(WHAT, format!("{shown}, mode {mode:04o}, owner {}", metadata.uid()))
}

fn disk(info: &Info) -> Finding {
    let Some(refused) = &info.disk else {
        return Finding::ok("disk", "takes what the manager writes".to_owned());
    };
    let advice = "free some space or repair the disk of the state directory: the manager goes on by itself";
    Finding::problem("disk", refused.clone(), advice)
}
