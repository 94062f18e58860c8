//! The agent's own files, which no action has as its target: policy, allowed signers, state directory, binary, unit.
//!
//! Asked by `policy` in front of every rule, also where there is no policy. What a program does that runs as root is not
//! seen here: it can do anything. Compared are paths as the guest resolves them, and what they lead to by device and
//! number, so that a link, another mount or a second name of a file makes no difference.

use super::asked::{Asked, Place, Start, What};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The agent's own files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OwnFiles {
    /// With all in it, which is nobody else's to read.
    state: PathBuf,
    files: Vec<PathBuf>,
}

impl OwnFiles {
    /// Those of an agent with this state directory and these files beside it.
    #[must_use]
    pub fn new(state: &Path, files: &[&Path]) -> Self {
        let units = UNITS.iter().map(PathBuf::from);
        let binary = std::env::current_exe().ok();
        let files = files.iter().map(|file| file.to_path_buf()).chain(binary).chain(units);
        Self { state: state.to_owned(), files: files.collect() }
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, file: &Path) -> Self {
        self.files.push(file.to_owned());
        self
    }

    /// The first of them that this would have as its target.
    #[must_use]
    pub fn target_of(&self, asked: &Asked) -> Option<PathBuf> {
        match &asked.what {
            What::Path(place) if asked.action == "get" => self.read_by(place),
            What::Path(place) => self.replaced_by(place),
            What::Start(Start { file, cwd, .. }) => {
                let file = file.as_deref().and_then(|file| self.held_by(file));
                file.or_else(|| cwd.as_ref().and_then(|cwd| self.held_by(&cwd.real)))
            }
            What::Link(_) | What::Nothing => None,
        }
    }

    /// What is put takes the place of all that is beneath it.
    fn replaced_by(&self, place: &Place) -> Option<PathBuf> {
        let beneath = |own: &&PathBuf| is_beneath(own, &place.real) || is_beneath(own, &place.given);
        self.held_by(&place.real).or_else(|| self.all().find(beneath).cloned())
    }

    /// Of a tree that is read, the state directory counts: the others are no secrets.
    fn read_by(&self, place: &Place) -> Option<PathBuf> {
        let beneath = is_beneath(&self.state, &place.real) || is_beneath(&self.state, &place.given);
        self.held_by(&place.real).or_else(|| beneath.then(|| self.state.clone()))
    }

    /// The one that a path is, or lies in.
    fn held_by(&self, path: &str) -> Option<PathBuf> {
        let numbers: Vec<_> = self.all().filter_map(|own| Some((own, number(own)?))).collect();
        for ancestor in Path::new(path).ancestors() {
            if let Some(own) = self.all().find(|own| own.as_path() == ancestor || real(own) == ancestor) {
                return Some(own.clone());
            }
            let found = number(ancestor);
            if let Some((own, _)) = numbers.iter().find(|(_, number)| Some(*number) == found) {
                return Some((*own).clone());
            }
        }
        None
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.state).chain(&self.files)
    }
}

fn is_beneath(own: &Path, path: &str) -> bool {
    own.starts_with(path) || real(own).starts_with(path)
}

fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Device and number of what is there, a link at the end not followed: it is a name of its own.
fn number(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Where a unit of the agent can be; with `.d` beside it what is added to one.
const UNITS: [&str; 8] = [
    "/etc/systemd/system/doorbell-agent.service",
    "/etc/systemd/system/doorbell-agent.service.d",
    "/run/systemd/system/doorbell-agent.service",
    "/run/systemd/system/doorbell-agent.service.d",
    "/usr/lib/systemd/system/doorbell-agent.service",
    "/usr/lib/systemd/system/doorbell-agent.service.d",
    "/lib/systemd/system/doorbell-agent.service",
    "/usr/local/lib/systemd/system/doorbell-agent.service",
];

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::ids::Digest;
    use doorbell_wire::message::action::{Action, Form, Get, Payload, Put};
    use std::os::unix::fs::symlink;

    struct Guest {
        dir: tempfile::TempDir,
        own: OwnFiles,
    }

    impl Guest {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("lib/state/programs")).unwrap();
            std::fs::create_dir_all(dir.path().join("etc/agent")).unwrap();
            std::fs::write(dir.path().join("lib/state/key"), "secret").unwrap();
            std::fs::write(dir.path().join("etc/agent/policy.toml"), "").unwrap();
            let policy = dir.path().join("etc/agent/policy.toml");
            let own = OwnFiles::new(&dir.path().join("lib/state"), &[&policy]);
            Self { dir, own }
        }

        fn path(&self, name: &str) -> String {
            self.dir.path().join(name).to_str().unwrap().to_owned()
        }

        fn put(&self, path: &str) -> bool {
            let payload = Payload::new(Digest::new([0; 32]), 0).unwrap();
            let path = path.parse().unwrap();
            let put = Put { path, payload, form: Form::File, mode: None, owner: None, replace: true };
            self.own.target_of(&Asked::of(&Action::Put(put))).is_some()
        }

        fn get(&self, path: &str) -> bool {
            self.own.target_of(&Asked::of(&Action::Get(Get { path: path.parse().unwrap() }))).is_some()
        }
    }

    #[test]
    fn its_own_files_and_all_around_them_are_no_place_for_a_put() {
        let guest = Guest::new();
        for own in [
            "lib/state",
            "lib/state/key",
            "lib/state/new",
            "lib/state/programs/x",
            "lib",
            "etc/agent/policy.toml",
            "etc/agent",
            "etc/../lib/./state/key",
        ] {
            assert!(guest.put(&guest.path(own)), "{own}");
        }
        assert!(guest.put(std::env::current_exe().unwrap().to_str().unwrap()));
        assert!(guest.put("/usr/lib/systemd/system/doorbell-agent.service"));
        assert!(guest.put("/etc/systemd/system/doorbell-agent.service.d/x.conf"));
        for other in ["lib/state2", "lib/other", "etc/agent/notes", "new"] {
            assert!(!guest.put(&guest.path(other)), "{other}");
        }
    }

    #[test]
    fn its_state_is_not_read_and_what_is_no_secret_is_read_as_part_of_a_tree_alone() {
        let guest = Guest::new();
        for own in ["lib/state", "lib/state/key", "lib", "etc/agent/policy.toml"] {
            assert!(guest.get(&guest.path(own)), "{own}");
        }
        assert!(guest.get("/"));
        assert!(!guest.get(&guest.path("etc")) && !guest.get(&guest.path("etc/agent")));
    }

    #[test]
    fn a_link_and_a_second_name_make_no_difference() {
        let guest = Guest::new();
        symlink(guest.path("lib/state"), guest.path("door")).unwrap();
        std::fs::hard_link(guest.path("lib/state/key"), guest.path("copy")).unwrap();
        std::fs::hard_link(guest.path("etc/agent/policy.toml"), guest.path("other")).unwrap();
        assert!(guest.put(&guest.path("door/key")) && guest.get(&guest.path("door/key")));
        assert!(guest.put(&guest.path("other")) && guest.get(&guest.path("other")));
        assert!(!guest.put(&guest.path("door")), "the link itself is nobody's");
    }
}
