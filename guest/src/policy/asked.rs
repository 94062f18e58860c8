//! What is asked for, as a policy looks at it: users by all their names, paths as the guest resolves them, links by
//! name and address.
//!
//! Made by `policy` from an action that was checked; read by `rule` and `own_files`. This is where the disk, the table of
//! users and the kernel's links are looked at, so that a rule is compared and nothing else.

use crate::apply::link;
use crate::supervise::users;
use doorbell_wire::message::action::{Action, Executable, LinkSelector, LinkSet, Run, RunReboot};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    /// The action's name.
    pub action: &'static str,
    /// What it is about.
    pub what: What,
}

/// What an action is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// A program that is started.
    Start(Start),
    /// A path that is written or read.
    Path(Place),
    /// A link, by its name and its address.
    Link(Vec<String>),
    /// Nothing that a rule could look at.
    Nothing,
}

/// A program that is started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Start {
    /// The digest of one that comes with the request.
    pub program: Option<String>,
    /// All words of a command of the guest; those behind the name of a program.
    pub words: Vec<String>,
    /// The file of a command that is named by its path, as the guest resolves it.
    pub file: Option<String>,
    /// All names of the user it runs as.
    pub users: Vec<String>,
    /// The names of the variables that come with the request.
    pub env: Vec<String>,
    /// Where it starts, if the request says so.
    pub cwd: Option<Place>,
    /// Whether it reads what the manager sends.
    pub input: bool,
    /// Whether it may become more than its user.
    pub new_privileges: bool,
}

/// A path, twice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// As it was given, without `.`, `..` and empty names.
    pub given: String,
    /// As the guest resolves it.
    pub real: String,
}

impl Asked {
    /// What this action asks for.
    #[must_use]
    pub fn of(action: &Action) -> Self {
        let what = match action {
            Action::Run(run) | Action::RunReboot(RunReboot { run, .. }) => What::Start(start(run)),
            Action::Put(put) => What::Path(named(put.path.as_str())),
            Action::Get(get) => What::Path(named(get.path.as_str())),
            Action::LinkSet(LinkSet { link, .. }) => What::Link(names_of(link)),
            Action::LinkList | Action::Can(_) => What::Nothing,
        };
        Self { action: action.name(), what }
    }
}

fn start(run: &Run) -> Start {
    let parts = run.parts();
    let cwd = parts.cwd.as_ref().map(|cwd| entered(cwd.as_str()));
    let (program, command) = match &parts.executable {
        Executable::Program(program) => (Some(program.digest.to_string()), None),
        Executable::InGuest(command) => (None, Some(command.as_str().to_owned())),
    };
    let file = command.as_ref().filter(|command| command.contains('/')).map(|command| {
        let from = cwd.as_ref().map_or("/", |cwd| &cwd.given);
        entered(&Path::new(from).join(command).to_string_lossy()).real
    });
    Start {
        program,
        words: command.into_iter().chain(parts.args.iter().cloned()).collect(),
        file,
        users: users_of(parts.user.as_ref().map_or(ROOT, |user| user.as_str())),
        env: parts.env.iter().map(|(name, _)| name.clone()).collect(),
        cwd,
        input: parts.input != doorbell_wire::message::action::Input::None,
        new_privileges: parts.new_privileges,
    }
}

/// The name and the number of a user; whoever has the number 0 is root under any name.
#[must_use]
pub fn users_of(text: &str) -> Vec<String> {
    let mut names = vec![text.to_owned()];
    if let Some(user) = users::user(text) {
        names.extend(user.name);
        names.push(user.uid.to_string());
        names.extend((user.uid == 0).then(|| ROOT.to_owned()));
    }
    names.sort();
    names.dedup();
    names
}

/// A link that is there is known by its name and by its address, whichever it was named by.
fn names_of(selector: &LinkSelector) -> Vec<String> {
    let mut names = vec![selector.to_string()];
    let links = link::list();
    for link in links.iter().flat_map(|links| links.list()) {
        let (name, mac) = (link.name.to_string(), link.mac.map(|mac| mac.to_string()));
        if names.first() == Some(&name) || names.first() == mac.as_ref() {
            names.push(name);
            names.extend(mac);
        }
    }
    names
}

/// A path whose last name is what is put or read: a link there is not followed.
fn named(path: &str) -> Place {
    let plain = plain(Path::new(path));
    let real = match (Path::new(path).parent(), Path::new(path).file_name()) {
        (Some(directory), Some(name)) => {
            std::fs::canonicalize(directory).map(|directory| directory.join(name))
        }
        _ => std::fs::canonicalize(path),
    };
    place(&plain, real.unwrap_or_else(|_| plain.clone()))
}

/// A path that is followed to its end.
fn entered(path: &str) -> Place {
    let plain = plain(Path::new(path));
    place(&plain, std::fs::canonicalize(path).unwrap_or_else(|_| plain.clone()))
}

fn place(given: &Path, real: PathBuf) -> Place {
    let text = |path: OsString| path.to_string_lossy().into_owned();
    Place { given: text(given.as_os_str().to_owned()), real: text(real.into_os_string()) }
}

/// The path without what means nothing in it, and one name less for each `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

pub(super) const ROOT: &str = "root";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_seen_as_it_was_given_and_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("etc")).unwrap();
        std::os::unix::fs::symlink("etc", real.join("link")).unwrap();
        let text = |path: &str| real.join(path).to_str().unwrap().to_owned();
        let seen = named(&format!("{}/./x", text("link")));
        assert_eq!(seen, Place { given: text("link/x"), real: text("etc/x") });
        assert_eq!(
            named(&text("link")).real,
            text("link"),
            "the last name is what is put, also if it is a link"
        );
        assert_eq!(entered(&text("link")).real, text("etc"));
        assert_eq!(named(&text("none/../etc/x")).real, text("etc/x"));
    }

    #[test]
    fn root_is_root_by_name_and_number() {
        assert!(users_of("0").contains(&ROOT.to_owned()));
        assert!(users_of("root").contains(&"0".to_owned()));
        assert_eq!(users_of("4242"), ["4242"]);
        assert_eq!(users_of("nobody-at-all"), ["nobody-at-all"]);
    }
}
