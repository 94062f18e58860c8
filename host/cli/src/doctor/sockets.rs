//! The sockets of the guests that the manager knows: there, sockets, and open to whoever needs them.

use super::finding::Finding;
use super::manager::Manager;
use super::surroundings::Surroundings;
use doorbell_client::api::guest::Guest;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

pub(super) fn look(here: &Surroundings, manager: &Manager) -> Vec<Finding> {
    manager.guests.iter().flat_map(|guest| hybrid(here, guest).into_iter().chain(qmp(here, guest))).collect()
}

/// The manager's end is the one with the port behind it; the guest's VMM connects to it.
fn hybrid(here: &Surroundings, guest: &Guest) -> Option<Finding> {
    let base = guest.hybrid_socket.as_ref()?;
    let path = format!("{base}_{}", doorbell_client::MANAGER_PORT);
    let what = format!("{} hybrid socket", guest.name);
    Some(match kind(here, &path) {
        Kind::Socket => match others_write(here, &path) {
            None => Finding::ok(what, path),
            Some((dir, mode)) => Finding::problem(
                what,
                format!(
                    "{dir} has mode {mode:04o}: whoever can make files there can listen in the manager's place while that is down"
                ),
                format!("`chmod go-w {dir}`, and have the guest pin its manager: `doorbell manager key`"),
            ),
        },
        Kind::Other => Finding::problem(
            what,
            format!("{path} is no socket"),
            format!("remove {path}: doorbelld makes its socket by itself then"),
        ),
        Kind::Absent => Finding::problem(
            what,
            format!("{path} is not there: the guest has nobody to dial"),
            "see that its directory exists and doorbelld may write there: it makes the socket by itself then",
        ),
    })
}

fn qmp(here: &Surroundings, guest: &Guest) -> Option<Finding> {
    let path = guest.qmp.as_ref()?;
    let what = format!("{} qmp socket", guest.name);
    Some(match kind(here, path) {
        Kind::Socket if here.may_use(path) => Finding::ok(what, path),
        Kind::Socket => Finding::warning(
            what,
            format!("{path} is closed to uid {}", here.uid),
            "nothing to do when doorbelld runs as another user that may; else change its owner",
        ),
        Kind::Other => Finding::problem(
            what,
            format!("{path} is no socket"),
            format!("`doorbell guest set {} --qmp PATH`", guest.name),
        ),
        Kind::Absent => Finding::warning(
            what,
            format!("{path} is not there"),
            format!(
                "start the guest with `-qmp unix:{path},server,wait=off`, or `doorbell guest set {} --qmp PATH`",
                guest.name
            ),
        ),
    })
}

/// The directory of a path, where others than its owner can make files in it; a sticky bit only keeps them from removing.
fn others_write(here: &Surroundings, path: &str) -> Option<(String, u32)> {
    let dir = Path::new(path).parent()?;
    let mode = here.stat(dir).ok()?.mode() & 0o7777;
    (mode & 0o022 != 0).then(|| (dir.display().to_string(), mode))
}

fn kind(here: &Surroundings, path: &str) -> Kind {
    match here.stat(path) {
        Ok(metadata) if metadata.file_type().is_socket() => Kind::Socket,
        Ok(_) => Kind::Other,
        Err(_) => Kind::Absent,
    }
}

enum Kind {
    Socket,
    Other,
    Absent,
}
