//! The sockets of the guests that the manager knows: there, sockets, and open to whoever needs them.

use super::finding::Finding;
use super::manager::Manager;
use super::surroundings::Surroundings;
use doorbell_client::api::guest::Guest;
use std::os::unix::fs::FileTypeExt as _;

pub(super) fn look(here: &Surroundings, manager: &Manager) -> Vec<Finding> {
    manager.guests.iter().flat_map(|guest| hybrid(here, guest).into_iter().chain(qmp(here, guest))).collect()
}

/// The manager's end is the one with the port behind it; the guest's VMM connects to it.
fn hybrid(here: &Surroundings, guest: &Guest) -> Option<Finding> {
    let base = guest.hybrid_socket.as_ref()?;
    let path = format!("{base}_{}", doorbell_client::MANAGER_PORT);
    let what = format!("{} hybrid socket", guest.name);
    Some(match kind(here, &path) {
        Kind::Socket => Finding::ok(what, path),
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
