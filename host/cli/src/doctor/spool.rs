//! The spool directories of the guests that the manager knows: there, and open to nobody by mistake.

use super::finding::Finding;
use super::manager::Manager;
use super::surroundings::Surroundings;
use doorbell_client::api::guest::Guest;
use std::os::unix::fs::MetadataExt as _;

pub(super) fn look(here: &Surroundings, manager: &Manager) -> Vec<Finding> {
    manager.guests.iter().filter_map(|guest| spool(here, guest)).collect()
}

fn spool(here: &Surroundings, guest: &Guest) -> Option<Finding> {
    let home = guest.spool.as_ref()?;
    let what = format!("{} spool", guest.name);
    let rooms = [format!("{home}/inbox"), format!("{home}/outbox")];
    if let Some(missing) = rooms.iter().find(|room| !here.stat(room).is_ok_and(|it| it.is_dir())) {
        return Some(Finding::problem(
            what,
            format!("{missing} is not there, or no directory: nothing is taken from this spool"),
            "see why in doorbelld's log; it makes its directories by itself within half a minute",
        ));
    }
    let mode = |path: &str| here.stat(path).map_or(0, |it| it.mode() & 0o7777);
    if mode(home) & 0o022 != 0 {
        let found =
            format!("{home} has mode {:04o}: others may write where only the manager may", mode(home));
        return Some(Finding::problem(what, found, format!("`chmod 0711 {home}`")));
    }
    let [inbox, _] = &rooms;
    let open = mode(inbox);
    if open & 0o002 != 0 {
        let found = format!("{inbox} has mode {open:04o}: everybody may write there, so nothing is taken");
        return Some(Finding::problem(what, found, format!("`chmod o-w {inbox}`")));
    }
    let writers = here.stat(inbox).map_or_else(
        |_| String::new(),
        |it| {
            let group = if open & 0o020 == 0 { String::new() } else { format!(" and gid {}", it.gid()) };
            format!(", for uid {}{group}", it.uid())
        },
    );
    Some(Finding::ok(what, format!("{inbox}, mode {open:04o}{writers}")))
}
