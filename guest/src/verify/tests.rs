//! The gate: what passes it is what was named, and nothing is left of what does not.

pub(crate) mod keys;

use super::*;
use crate::fetch::tests::Guest;
use doorbell_wire::message::action::{Action, Executable, Form, Program, Run, RunParts};
use sha2::{Digest as _, Sha256};

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

/// The start of a program that comes over the channel.
pub(crate) fn run(bytes: &[u8]) -> Action {
    let program = Program::new(digest(bytes), bytes.len() as u64, "tool".parse().unwrap()).unwrap();
    let parts = RunParts {
        executable: Executable::Program(program),
        args: Vec::new(),
        env: Vec::new(),
        cwd: None,
        user: None,
        input: Default::default(),
        limits: Default::default(),
        new_privileges: false,
    };
    Action::Run(Run::try_from(parts).unwrap())
}

fn staged(guest: &Guest, action: Action, bytes: &[u8]) -> Staged {
    let mut staging = guest.begin(action).unwrap();
    bytes.chunks(7).for_each(|piece| staging.add(piece).unwrap());
    assert!(staging.is_whole());
    staging.finish().unwrap()
}

#[test]
fn the_named_bytes_become_an_executable_of_root_alone() {
    let guest = Guest::new();
    let bytes = b"#!/bin/sh\nexit 0\n";
    let Verified::Program(program) = verify(staged(&guest, run(bytes), bytes)).unwrap() else {
        panic!("no program")
    };
    assert_eq!(std::fs::read(program.path()).unwrap(), bytes);
    let mode = program.path().metadata().unwrap().permissions().mode();
    assert_eq!((mode & 0o777, program.name().as_str()), (0o700, "tool"));
    drop(program);
    assert_eq!(std::fs::read_dir(guest.state.programs()).unwrap().count(), 0);
}

#[test]
fn a_flipped_bit_is_refused_and_both_digests_are_named() {
    let guest = Guest::new();
    for action in [run(b"good bytes"), Action::Put(guest.put("motd", Form::File, b"good bytes"))] {
        let Err(Outcome::NotVerified(refusal)) = verify(staged(&guest, action, b"gooe bytes")) else {
            panic!("a flipped bit was accepted");
        };
        assert_eq!(refusal, NotVerified { expected: digest(b"good bytes"), got: digest(b"gooe bytes") });
        assert_eq!(std::fs::read_dir(guest.state.programs()).unwrap().count(), 0);
        assert_eq!(guest.names(), [] as [&str; 0]);
    }
}

#[test]
fn another_file_under_the_same_name_is_not_opened() {
    let guest = Guest::new();
    let put = guest.put("motd", Form::File, b"good");
    let Verified::File(file) = verify(staged(&guest, Action::Put(put), b"good")).unwrap() else {
        panic!("no file")
    };
    file.open().unwrap();
    std::fs::write(file.path(), "longer").unwrap();
    assert!(file.open().is_err(), "a file of another length");
    std::fs::rename(file.path(), guest.path("aside")).unwrap();
    std::fs::write(file.path(), "evil").unwrap();
    assert_eq!(file.open().unwrap_err().raw_os_error(), Some(nix::libc::ESTALE));
    std::fs::remove_file(file.path()).unwrap();
    std::os::unix::fs::symlink("aside", file.path()).unwrap();
    assert!(file.open().is_err(), "a link");
}
