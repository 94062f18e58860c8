//! Users and groups of the guest, from `/etc/passwd` and `/etc/group`.
//!
//! Called by supervisors and by `apply::put`. The agent is one static file, so there is no name service behind
//! it: who is only in a directory service is given by number.

use nix::libc::{gid_t, uid_t};
use std::fs::File;
use std::io::Read;

/// A user that a program can run as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Its number.
    pub uid: uid_t,
    /// The number of its first group.
    pub gid: gid_t,
    /// The numbers of all its groups, the first one included.
    pub groups: Vec<gid_t>,
    /// Its home directory.
    pub home: String,
    /// Its shell.
    pub shell: String,
}

/// An owner as `chown` has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// The user, if one was named.
    pub uid: Option<uid_t>,
    /// The group, if one was named.
    pub gid: Option<gid_t>,
}

/// The user with this name or number. A number without a name is a user with a group of the same number.
#[must_use]
pub fn user(text: &str) -> Option<User> {
    user_in(text, &read("/etc/passwd"), &read("/etc/group"))
}

/// The owner that `user`, `user:group` or `:group` means, each by name or number.
#[must_use]
pub fn owner(text: &str) -> Option<Owner> {
    owner_in(text, &read("/etc/passwd"), &read("/etc/group"))
}

fn user_in(text: &str, passwd: &str, group: &str) -> Option<User> {
    let Some(fields) = entry(passwd, text) else {
        let uid = number(text)?;
        return Some(User {
            name: None,
            uid,
            gid: uid,
            groups: vec![uid],
            home: "/".into(),
            shell: SHELL.into(),
        });
    };
    let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
    let (uid, gid) = (number(uid)?, number(gid)?);
    let or = |value: &str, other: &str| if value.is_empty() { other.to_owned() } else { value.to_owned() };
    let mut groups = vec![gid];
    groups.extend(
        lines(group).filter(|fields| is_member(fields, name)).filter_map(|fields| number(fields.get(2)?)),
    );
    groups.dedup();
    Some(User {
        name: Some((*name).to_owned()),
        uid,
        gid,
        groups,
        home: or(home, "/"),
        shell: or(shell, SHELL),
    })
}

fn owner_in(text: &str, passwd: &str, group: &str) -> Option<Owner> {
    let (user, of) = text.split_once(':').map_or((text, None), |(user, of)| (user, Some(of)));
    if user.is_empty() && of.is_none_or(str::is_empty) {
        return None;
    }
    let uid = if user.is_empty() { None } else { Some(number_of(user, passwd)?) };
    let gid = of.map(|name| number_of(name, group)).map_or(Some(None), |gid| gid.map(Some))?;
    Some(Owner { uid, gid })
}

/// The third field of the entry with this name; a number is itself.
fn number_of(text: &str, table: &str) -> Option<u32> {
    let named = lines(table).find(|fields| fields.first() == Some(&text));
    named.and_then(|fields| number(fields.get(2)?)).or_else(|| number(text))
}

/// The entry with this name, or else with this number.
fn entry<'a>(table: &'a str, text: &str) -> Option<Vec<&'a str>> {
    let named = lines(table).find(|fields| fields.first() == Some(&text));
    named.or_else(|| {
        let wanted = number(text)?;
        lines(table).find(|fields| fields.get(2).and_then(|field| number(field)) == Some(wanted))
    })
}

fn is_member(group: &[&str], name: &str) -> bool {
    group.get(3).is_some_and(|members| members.split(',').any(|member| member == name))
}

fn lines(table: &str) -> impl Iterator<Item = Vec<&str>> {
    table.lines().map(|line| line.split(':').collect())
}

/// A plain decimal number; `u32::MAX` means "no change" to the kernel and is nobody.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&number| digits && number != u32::MAX)
}

fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(TABLE_LEN_MAX).read_to_end(&mut bytes));
    // A name that is no text belongs to nobody who can be asked for.
    if read.is_ok() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() }
}

const SHELL: &str = "/bin/sh";
/// More than any local table has; a directory service has its own ways.
const TABLE_LEN_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                          broken\n\
                          alice:x:1000:100:Alice,,,:/home/alice:/bin/zsh\n\
                          bare:x:7:7:::\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:alice\nadm:x:4:bob,alice\nwheel:x:10:alicex\n";

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_its_groups() {
        let alice = user_in("alice", PASSWD, GROUP).unwrap();
        assert_eq!((alice.uid, alice.gid, alice.groups.as_slice()), (1000, 100, [100, 4].as_slice()));
        assert_eq!((alice.home.as_str(), alice.shell.as_str()), ("/home/alice", "/bin/zsh"));
        assert_eq!(user_in("1000", PASSWD, GROUP).unwrap(), alice);
        let bare = user_in("bare", PASSWD, GROUP).unwrap();
        assert_eq!((bare.home.as_str(), bare.shell.as_str()), ("/", "/bin/sh"));
    }

    #[test]
    fn a_number_without_a_name_is_a_user_and_a_name_without_an_entry_is_none() {
        let number = user_in("4242", PASSWD, GROUP).unwrap();
        assert_eq!((number.name, number.uid, number.gid), (None, 4242, 4242));
        assert_eq!(number.groups, [4242]);
        for nobody in ["", "bob", "broken", "-1", "+5", "4294967295", "99999999999"] {
            assert_eq!(user_in(nobody, PASSWD, GROUP), None, "{nobody:?}");
        }
    }

    #[test]
    fn owners_are_read_as_chown_reads_them() {
        let owner = |text| owner_in(text, PASSWD, GROUP).map(|owner| (owner.uid, owner.gid));
        assert_eq!(owner("alice"), Some((Some(1000), None)));
        assert_eq!(owner("alice:adm"), Some((Some(1000), Some(4))));
        assert_eq!(owner(":users"), Some((None, Some(100))));
        assert_eq!(owner("5:6"), Some((Some(5), Some(6))));
        for wrong in ["", ":", "bob", "alice:", "alice:bob", "alice:adm:x"] {
            assert_eq!(owner(wrong), None, "{wrong:?}");
        }
    }
}
