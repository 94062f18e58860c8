//! Programs that run as somebody else.

use super::*;
use crate::supervise::users;
use std::fs::Permissions;

const IDENTITY: &str = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME $SHELL; cat /etc/shadow";

#[test]
fn a_program_runs_as_its_user_with_its_groups_and_without_roots() {
    for name in ["nobody", "65534"] {
        let mut parts = parts("/bin/sh", &["-c", IDENTITY]);
        parts.user = Some(name.parse().unwrap());
        let mut supervised = Rig::new().start(order(parts));
        assert!(matches!(end(&mut supervised).outcome, Outcome::Failed(_)), "nobody reads the shadow file");
        let user = users::user("nobody").unwrap();
        let group = user.gid;
        let about = format!("{} nobody nobody {}", user.home, user.shell);
        assert_eq!(text(&supervised), format!("65534\n{group}\n{group}\n{about}\n"));
    }
}

#[test]
fn what_a_request_says_goes_before_what_a_user_has() {
    let mut parts = parts("/bin/sh", &["-c", "echo $HOME $USER"]);
    parts.user = Some("nobody".parse().unwrap());
    parts.env = vec![("HOME".into(), "/elsewhere".into())];
    let mut supervised = Rig::new().start(order(parts));
    end(&mut supervised);
    assert_eq!(text(&supervised), "/elsewhere nobody\n");
}

#[test]
fn a_number_without_a_name_is_a_user_too() {
    let mut parts = parts("/bin/sh", &["-c", "id -u; id -g; id -G; echo $HOME-$USER-"]);
    parts.user = Some("4242".parse().unwrap());
    let mut supervised = Rig::new().start(order(parts));
    end(&mut supervised);
    assert_eq!(text(&supervised), "4242\n4242\n4242\n/--\n");
}

#[test]
fn a_directory_that_its_user_cannot_enter_is_named() {
    let rig = Rig::new();
    let mut parts = parts("/bin/true", &[]);
    parts.user = Some("nobody".parse().unwrap());
    let own = rig.run().join(REQUEST.to_string());
    parts.cwd = Some(own.to_str().unwrap().to_owned().try_into().unwrap());
    let fault = not_started(StartFault::NoDirectory, nix::libc::EACCES);
    assert_eq!(end(&mut rig.start(order(parts))).outcome, fault);
}

/// What a set-user-ID copy of `id`, started by this user, says of whom it acts for; and the kernel's own word.
fn acts_for(user: Option<&str>, new_privileges: bool) -> String {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let id = dir.path().join("id");
    std::fs::copy("/usr/bin/id", &id).unwrap();
    open(dir.path(), 0o755);
    open(&id, 0o4755);
    let script = format!("{} -u; grep NoNewPrivs /proc/self/status", id.display());
    let mut parts = parts("/bin/sh", &["-c", &script]);
    parts.user = user.map(|user| user.parse().unwrap());
    parts.new_privileges = new_privileges;
    let mut supervised = Rig::new().start(order(parts));
    assert_eq!(end(&mut supervised).outcome, Outcome::Succeeded);
    text(&supervised)
}

#[test]
fn a_users_program_becomes_no_more_than_its_user_unless_asked() {
    assert_eq!(acts_for(Some("nobody"), false), "65534\nNoNewPrivs:\t1\n");
    assert_eq!(acts_for(Some("nobody"), true), "0\nNoNewPrivs:\t0\n");
}

#[test]
fn roots_program_can_start_what_becomes_somebody_else() {
    assert_eq!(acts_for(None, false), "0\nNoNewPrivs:\t0\n");
    assert_eq!(acts_for(Some("root"), false), "0\nNoNewPrivs:\t0\n");
}

/// A program that came over the channel and is to run as nobody, who cannot enter the directory it lies in.
fn verified(bytes: &[u8]) -> (crate::fetch::tests::Guest, Order) {
    let guest = crate::fetch::tests::Guest::new();
    let action = crate::verify::tests::run(bytes);
    let mut staging = guest.begin(action.clone()).unwrap();
    staging.add(bytes).unwrap();
    let Ok(crate::verify::Verified::Program(program)) = crate::verify::verify(staging.finish().unwrap())
    else {
        panic!("not verified")
    };
    let doorbell_wire::message::action::Action::Run(run) = action else { panic!() };
    let mut prepared = Prepared::new(&run, Some(program)).unwrap();
    prepared.user = Some("nobody".into());
    let (limits, input) = (Limits::default(), Input::None);
    (guest, Order { request: REQUEST, job: Job::Program(prepared), limits, input, timeout_ms: None })
}

#[test]
fn a_script_that_came_over_the_channel_runs_as_its_user() {
    let rig = Rig::new();
    let (_guest, order) = verified(b"#!/bin/sh\nid -u\n");
    let mut supervised = rig.start(order);
    assert_eq!(end(&mut supervised).outcome, Outcome::Succeeded);
    assert_eq!(text(&supervised), "65534\n");
}

#[test]
fn a_binary_that_came_over_the_channel_runs_as_its_user_with_three_descriptors() {
    let (_guest, mut order) = verified(&std::fs::read("/bin/ls").unwrap());
    if let Job::Program(prepared) = &mut order.job {
        prepared.args.push("/proc/self/fd".into());
    }
    let rig = Rig::new();
    let mut supervised = rig.start(order);
    assert_eq!(end(&mut supervised).outcome, Outcome::Succeeded);
    // The last is the directory itself, which ls reads.
    assert_eq!(text(&supervised), "0\n1\n2\n3\n");
}
