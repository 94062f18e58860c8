//! Names of users and groups, for those who read an archive with other programs.
//!
//! Called by `pack`. Reads `/etc/passwd` and `/etc/group` alone: a static binary has no name service. A name is
//! an ornament here; owners go by number.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Names by number.
#[derive(Debug, Default)]
pub(crate) struct Names {
    users: Vec<(u32, Vec<u8>)>,
    groups: Vec<(u32, Vec<u8>)>,
}

impl Names {
    pub(crate) fn read() -> Self {
        Self { users: list(Path::new("/etc/passwd")), groups: list(Path::new("/etc/group")) }
    }

    pub(crate) fn user(&self, number: u32) -> Vec<u8> {
        find(&self.users, number)
    }

    pub(crate) fn group(&self, number: u32) -> Vec<u8> {
        find(&self.groups, number)
    }
}

fn find(list: &[(u32, Vec<u8>)], number: u32) -> Vec<u8> {
    list.iter().find(|(other, _)| *other == number).map(|(_, name)| name.clone()).unwrap_or_default()
}

/// Both files begin with `name:password:number`.
fn list(path: &Path) -> Vec<(u32, Vec<u8>)> {
    let mut bytes = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(LIST_LEN_MAX).read_to_end(&mut bytes));
    if opened.is_err() {
        return Vec::new();
    }
    let entry = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next()?.to_vec();
        let number = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
        Some((number, name))
    };
    bytes.split(|&byte| byte == b'\n').filter_map(entry).collect()
}

/// Bytes of a list of users that are looked at.
const LIST_LEN_MAX: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        std::fs::write(&path, "root:x:0:0::/:/bin/sh\n\nbroken\ntoor:x:0:0::/:\nanna:x:7:\n").unwrap();
        let users = list(&path);
        assert_eq!((find(&users, 0), find(&users, 7)), (b"root".to_vec(), b"anna".to_vec()));
        assert_eq!((find(&users, 8), list(Path::new("/nowhere"))), (Vec::new(), Vec::new()));
    }
}
