//! How a state directory is taken into use: its rights, its lock, the data base and its form.
//!
//! Called by `Store::open` only. Trusts nothing it has not looked at, and says what to do about it.

use super::StoreError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// Makes the state directory where there is none, and locks it for this daemon.
pub(super) fn claim(state_dir: &Path) -> Result<Flock<File>, StoreError> {
    let shown = state_dir.display();
    let unusable = |error| {
        StoreError::invalid(format!(
            "state directory {shown} cannot be used: {error}: make it usable, or give another one with --state-dir"
        ))
    };
    crate::disk::private_dir(state_dir).map_err(unusable)?;
    check_rights(state_dir)?;
    let path = state_dir.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(unusable)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // Who finds it taken is told less then; a full disk keeps nobody from starting.
            if let Err(error) = sign(&mut lock) {
                tracing::warn!(%error, "the lock of the state directory does not say who has it");
            }
            Ok(lock)
        }
        Err((file, Errno::EWOULDBLOCK)) => Err(StoreError::InUse { message: in_use(state_dir, file) }),
        Err((_, errno)) => Err(StoreError::internal(format!("lock the state directory {shown}"), errno)),
    }
}

/// A restore that was cut off has left a part of the state, which must not be taken for the whole.
pub(super) fn check_whole(state_dir: &Path) -> Result<(), StoreError> {
    if !state_dir.join(RESTORING).exists() {
        return Ok(());
    }
    Err(StoreError::invalid(format!(
        "state directory {} has a part of a backup in it, whose restore was cut off: empty the directory and restore \
         the backup again",
        state_dir.display()
    )))
}

/// The writing and the reading connection, of a data base in the form this code knows.
pub(super) fn connections(state_dir: &Path) -> Result<(Connection, Connection), StoreError> {
    let path = state_dir.join(FILE);
    // Made here, for SQLite makes it with whatever the umask leaves; its log gets the mode of this one.
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    made.map_err(|error| StoreError::io(format!("make {}", path.display()), error))?;
    let mut writing = Connection::open(&path)?;
    prepare(&writing)?;
    migrate(&mut writing)?;
    begin_log_anew(&writing)?;
    if crate::planted::is("G1") {
        writing.execute("UPDATE requests SET state = 'expired' WHERE state IN ('queued', 'offered')", [])?;
    }
    crate::disk::sync_dir(state_dir).map_err(|error| StoreError::io("keep the data base's name", error))?;
    Ok((writing, reading(state_dir)?))
}

/// A connection that cannot write.
pub(super) fn reading(state_dir: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(state_dir.join(FILE), flags)?;
    conn.busy_timeout(BUSY)?;
    Ok(conn)
}

fn check_rights(state_dir: &Path) -> Result<(), StoreError> {
    let shown = state_dir.display();
    let dir = state_dir
        .metadata()
        .map_err(|error| StoreError::io(format!("look at the state directory {shown}"), error))?;
    let (mode, owner, own) = (dir.mode() & 0o777, dir.uid(), geteuid().as_raw());
    if owner != own {
        return Err(StoreError::invalid(format!(
            "state directory {shown} belongs to uid {owner}, expected uid {own}, who runs this daemon: \
             `chown {own} {shown}`, or give another one with --state-dir"
        )));
    }
    if mode & 0o077 != 0 {
        return Err(StoreError::invalid(format!(
            "state directory {shown} has mode {mode:04o}, so that others can enter it, expected 0700: \
             `chmod 0700 {shown}`, or give another one with --state-dir"
        )));
    }
    FILES.iter().try_for_each(|name| check_file(&state_dir.join(name)))
}

/// A file that others may read or write was copied here by somebody who did not look; what it says may be known, or made
/// up.
fn check_file(path: &Path) -> Result<(), StoreError> {
    let shown = path.display();
    let mode = match path.symlink_metadata() {
        Ok(found) => found.mode() & 0o7777,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io(format!("look at {shown}"), error)),
    };
    if mode & 0o077 != 0 {
        return Err(StoreError::invalid(format!(
            "{shown} has mode {mode:04o}, so that others can open it, expected 0600: `chmod 0600 {shown}` once you know \
             who could"
        )));
    }
    Ok(())
}

/// Leaves our process id for whoever finds the lock taken.
fn sign(lock: &mut Flock<File>) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(&mut **lock, "{}", std::process::id())
}

fn in_use(state_dir: &Path, mut file: File) -> String {
    let mut pid = String::new();
    let who = match file.read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("the daemon with pid {}", pid.trim().escape_default()),
        Ok(_) | Err(_) => "another daemon".into(),
    };
    format!(
        "state directory {} is in use by {who}: stop that one, or give another directory with --state-dir",
        state_dir.display()
    )
}

/// Sets what durability rests on, and reads it back: a pragma that is not understood is no error in SQLite.
pub(super) fn prepare(conn: &Connection) -> Result<(), StoreError> {
    conn.busy_timeout(BUSY)?;
    for (pragma, value, expected) in PRAGMAS {
        // Some pragmas answer when they are set and some do not.
        match conn.pragma_update_and_check(None, pragma, value, |_| Ok(())) {
            Ok(()) | Err(rusqlite::Error::QueryReturnedNoRows) => {}
            Err(error) => return Err(error.into()),
        }
        let got: rusqlite::types::Value = conn.pragma_query_value(None, pragma, |row| row.get(0))?;
        let got = match got {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Null
            | rusqlite::types::Value::Real(_)
            | rusqlite::types::Value::Blob(_) => String::new(),
        };
        if got != *expected {
            return Err(StoreError::invalid(format!(
                "the data base has {pragma} {got:?}, expected {expected:?}: \
                 put the state directory on a local file system with locks and shared memory"
            )));
        }
    }
    Ok(())
}

/// Writes the whole log back, and cuts it. What was read back from it may lie in the kernel's memory alone, where a
/// sync has failed: nothing is to be appended to that. A full disk is no such case, and keeps nobody from reading.
fn begin_log_anew(conn: &Connection) -> Result<(), StoreError> {
    let written = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    match written.map_err(StoreError::from) {
        Err(StoreError::NoSpace { .. }) => {
            tracing::warn!("the disk is full: the data base's log is not written back");
            Ok(())
        }
        result => result,
    }
}

/// A transaction that changes nothing and is written all the same: SQLite leaves out an update to what is there, and
/// writes a cookie in any case.
pub(super) fn touch(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "user_version", FORM)
}

fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    let form = form_of(conn)?;
    match form {
        0 => take_form(conn, &[SCHEMA, ACCESS, APPROVALS, IDENTITY]),
        3 => take_form(conn, &[FROM_3, FROM_4, ACCESS, APPROVALS, IDENTITY]),
        4 => take_form(conn, &[FROM_4, ACCESS, APPROVALS, IDENTITY]),
        5 => take_form(conn, &[ACCESS, APPROVALS, IDENTITY]),
        6 => take_form(conn, &[APPROVALS, IDENTITY]),
        7 => take_form(conn, &[IDENTITY]),
        _ => check_form(form),
    }
}

/// All of a new form or nothing.
fn take_form(conn: &mut Connection, parts: &[&str]) -> Result<(), StoreError> {
    // A table that is made anew is away for a moment; what refers to it is looked at before it counts.
    conn.pragma_update(None, "foreign_keys", "OFF")?;
    let taken = take_parts(conn, parts);
    conn.pragma_update(None, "foreign_keys", "ON")?;
    taken
}

fn take_parts(conn: &mut Connection, parts: &[&str]) -> Result<(), StoreError> {
    let transaction = conn.transaction()?;
    parts.iter().try_for_each(|part| transaction.execute_batch(part))?;
    if transaction.prepare("PRAGMA foreign_key_check")?.exists([])? {
        return Err(StoreError::damaged("data base", "rows of it refer to rows that are not there"));
    }
    transaction.pragma_update(None, "user_version", FORM)?;
    Ok(transaction.commit()?)
}

fn form_of(conn: &Connection) -> Result<usize, StoreError> {
    Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn check_form(form: usize) -> Result<(), StoreError> {
    match form {
        FORM => Ok(()),
        older if older < FORM => Err(StoreError::invalid(format!(
            "the data base has form {older}, which no release wrote and this daemon does not read: \
             start the daemon that wrote it, or give an empty directory with --state-dir"
        ))),
        newer => Err(StoreError::invalid(format!(
            "the data base has form {newer}, this daemon knows form {FORM}: start the newer daemon that wrote it"
        ))),
    }
}

/// Refuses a data base of another form without touching it.
pub(super) fn check_form_of(conn: &Connection) -> Result<(), StoreError> {
    check_form(form_of(conn)?)
}

/// Brings the data base of a backup, which nobody has open, into the form that this code knows; refuses one that
/// cannot be, without touching it.
pub(super) fn migrate_copy(dir: &Path) -> Result<(), StoreError> {
    let found = form_of(&reading(dir)?)?;
    if check_form(found).is_ok() {
        return Ok(());
    }
    migrate(&mut Connection::open(dir.join(FILE))?)
}

pub(super) const FILE: &str = "doorbell.sqlite";
/// What lies beside each other in the state directory: nobody else may open any of them.
const FILES: &[&str] = &["lock", FILE, "doorbell.sqlite-wal", "doorbell.sqlite-shm", crate::signer::FILE];
/// Where a restore puts everything until it is whole.
pub(super) const RESTORING: &str = "restoring";
/// Nobody else writes; this bounds the wait for our own reader's locks.
const BUSY: Duration = Duration::from_secs(5);
/// The form of the data base that this code reads and writes.
const FORM: usize = 8;
const SCHEMA: &str = include_str!("schema.sql");
/// What form 5 has not: tenants, and who is let in.
const ACCESS: &str = include_str!("access.sql");
/// What form 6 has not: requests that wait for a second person.
const APPROVALS: &str = include_str!("approvals.sql");
/// What form 7 has not: which keys are let in.
const IDENTITY: &str = include_str!("identity.sql");
/// What form 4 has not.
const FROM_4: &str = "ALTER TABLE requests ADD COLUMN signed TEXT CHECK (json_valid(signed));";
/// What form 3 has not.
const FROM_3: &str = "
    ALTER TABLE requests ADD COLUMN ticket TEXT;
    ALTER TABLE audit ADD COLUMN reason TEXT;
    ALTER TABLE audit ADD COLUMN ticket TEXT;
    CREATE TABLE audit_signed (
        only            INTEGER PRIMARY KEY CHECK (only = 1),
        number          INTEGER NOT NULL,
        hash            BLOB NOT NULL CHECK (length(hash) = 32),
        at_ms           INTEGER NOT NULL,
        key             BLOB NOT NULL CHECK (length(key) = 32),
        signature       BLOB NOT NULL CHECK (length(signature) = 64)
    ) STRICT;
";
/// Pragma, what it is set to, what it reads back as.
const PRAGMAS: &[(&str, &str, &str)] = &[
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", "2"),
    ("foreign_keys", "ON", "1"),
    ("trusted_schema", "OFF", "0"),
    // Pages in the log before it is written back: at the default of 1000 a busy store writes back all the time.
    ("wal_autocheckpoint", "4096", "4096"),
    // A log that a long reading made large is cut again, so that it does not keep the disk.
    ("journal_size_limit", "67108864", "67108864"),
];
