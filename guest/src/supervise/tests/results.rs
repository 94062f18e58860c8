//! How programs end, and why some do not start: each told apart.

use super::*;
use nix::libc;
use std::num::NonZeroU8;

fn outcome(order: Order) -> Outcome {
    end(&mut Rig::new().start(order)).outcome
}

fn of_shell(script: &str) -> Outcome {
    end(&mut Rig::new().shell(script)).outcome
}

fn of_file(rig: &Rig, path: &Path) -> Outcome {
    end(&mut rig.start(order(parts(path.to_str().unwrap(), &[])))).outcome
}

#[test]
fn exit_codes_and_signals_are_what_they_were() {
    assert_eq!(of_shell("exit 0"), Outcome::Succeeded);
    assert_eq!(of_shell("exit 7"), Outcome::Failed(NonZeroU8::new(7).unwrap()));
    assert_eq!(of_shell("exit 255"), Outcome::Failed(NonZeroU8::MAX));
    for signal in [libc::SIGSEGV, libc::SIGKILL, libc::SIGTERM, libc::SIGPIPE, 34] {
        let expected = Outcome::Killed(u8::try_from(signal).unwrap().try_into().unwrap());
        assert_eq!(of_shell(&format!("kill -{signal} $$")), expected, "{signal}");
    }
}

#[test]
fn what_ran_has_times_in_order_and_what_it_took() {
    let mut supervised = Rig::new().shell("echo x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
    let before = crate::clock::now_us();
    let ran = end(&mut supervised).ran.unwrap();
    assert!(ran.started_us <= before + 1_000_000);
    assert!(ran.started_us <= ran.first_output_us.unwrap() && ran.first_output_us.unwrap() <= ran.exited_us);
    assert!(ran.exited_us <= ran.ended_us && ran.ended_us <= crate::clock::now_us());
    let usage = ran.usage.unwrap();
    assert!(usage.cpu_user_us + usage.cpu_system_us > 0 && usage.memory_peak.unwrap() > 100_000);
    assert!(!usage.oom_killed);
}

#[test]
fn a_program_that_is_not_there_or_not_to_be_executed_is_told_apart() {
    let rig = Rig::new();
    let missing = not_started(StartFault::NotFound, libc::ENOENT);
    assert_eq!(outcome(order(parts("no-such-command", &[]))), missing);
    assert_eq!(outcome(order(parts("/no/such/file", &[]))), missing);
    assert_eq!(outcome(order(parts("/etc/passwd/x", &[]))), not_started(StartFault::NotFound, libc::ENOTDIR));
    let plain = rig.file("plain", b"#!/bin/sh\n", 0o644);
    assert_eq!(of_file(&rig, &plain), not_started(StartFault::NotExecutable, libc::EACCES));
    assert_eq!(of_file(&rig, Path::new("/etc")), not_started(StartFault::NotExecutable, libc::EACCES));
}

#[test]
fn a_missing_interpreter_is_not_a_missing_program() {
    let rig = Rig::new();
    let script = rig.file("script", b"#!/no/such/interpreter\n", 0o755);
    assert_eq!(of_file(&rig, &script), not_started(StartFault::BadInterpreter, libc::ENOENT));
    let plain = rig.file("plain", b"", 0o644);
    let script = rig.file("other", format!("#!{}\n", plain.display()).as_bytes(), 0o755);
    assert_eq!(of_file(&rig, &script), not_started(StartFault::BadInterpreter, libc::EACCES));
    // The dynamic linker of a program that is complete but for it.
    let mut shell = std::fs::read("/bin/sh").unwrap();
    let linker = b"/lib64/ld-linux-x86-64.so.2";
    let at = shell.windows(linker.len()).position(|bytes| bytes == linker).unwrap();
    shell[at + 1] = b'X';
    let shell = rig.file("shell", &shell, 0o755);
    assert_eq!(of_file(&rig, &shell), not_started(StartFault::BadInterpreter, libc::ENOENT));
}

#[test]
fn a_file_of_another_kind_or_machine_is_not_started() {
    let rig = Rig::new();
    let words = rig.file("words", b"just words\n", 0o755);
    assert_eq!(of_file(&rig, &words), not_started(StartFault::NotAProgram, libc::ENOEXEC));
    let empty = rig.file("empty", b"", 0o755);
    assert_eq!(of_file(&rig, &empty), not_started(StartFault::NotAProgram, libc::ENOEXEC));
    let mut shell = std::fs::read("/bin/sh").unwrap();
    shell[18] = 183;
    let foreign = rig.file("aarch64", &shell, 0o755);
    assert_eq!(of_file(&rig, &foreign), not_started(StartFault::WrongArchitecture, libc::ENOEXEC));
}

#[test]
fn a_mount_without_execution_is_named() {
    let rig = Rig::new();
    let dir = rig.path().join("mount");
    std::fs::create_dir(&dir).unwrap();
    let flags = nix::mount::MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("none"), &dir, Some("tmpfs"), flags, None::<&str>).unwrap();
    std::fs::copy("/bin/true", dir.join("true")).unwrap();
    let outcome = of_file(&rig, &dir.join("true"));
    nix::mount::umount(&dir).unwrap();
    assert_eq!(outcome, not_started(StartFault::NoExecMount, libc::EACCES));
}

#[test]
fn a_directory_or_a_user_that_is_not_there_is_named() {
    let mut nowhere = parts("/bin/true", &[]);
    nowhere.cwd = Some("/no/such/directory".to_owned().try_into().unwrap());
    assert_eq!(outcome(order(nowhere)), not_started(StartFault::NoDirectory, libc::ENOENT));
    let mut nobody = parts("/bin/true", &[]);
    nobody.user = Some("no-such-user".parse().unwrap());
    assert_eq!(outcome(order(nobody)), not_started(StartFault::NoUser, libc::ENOENT));
    let mut long = parts("/bin/true", &[]);
    long.user = Some("4294967295".parse().unwrap());
    assert_eq!(outcome(order(long)), not_started(StartFault::NoUser, libc::ENOENT));
}

#[test]
fn what_did_not_start_has_no_times_and_no_output() {
    let over = end(&mut Rig::new().start(order(parts("/no/such/file", &[]))));
    assert_eq!(over.ran, None);
    assert_eq!(over.output, Default::default());
}

#[test]
fn a_program_is_given_an_ordinary_world() {
    let mut parts = parts("/bin/sh", &["-c", SCRIPT]);
    parts.cwd = Some("/usr".to_owned().try_into().unwrap());
    parts.env = vec![("A".into(), "b c".into())];
    let mut supervised = Rig::new().start(order(parts));
    assert_eq!(end(&mut supervised).outcome, Outcome::Succeeded, "{}", text(&supervised));
    let text = text(&supervised);
    let mut lines = text.lines();
    let descriptors: Vec<_> = lines.by_ref().take(3).collect();
    assert_eq!(descriptors, ["0", "1", "2"], "{text}");
    assert_eq!(lines.next(), Some("/usr 0022"));
    assert_eq!(lines.next(), Some("leads its session"));
    assert_eq!(lines.next(), Some("0"), "nobody spares it when memory is short");
    let masks: Vec<_> = lines.by_ref().take(2).collect();
    assert_eq!(masks, ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]);
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let request = "DOORBELL_REQUEST=07070707070707070707070707070707";
    let env: Vec<_> = lines.collect();
    assert_eq!(env, [path, "A=b c", request]);
}

const SCRIPT: &str = r#"
ls /proc/$$/fd
echo $PWD $(umask)
read -r _ _ _ _ pgrp session _ < /proc/$$/stat; [ $session = $$ ] && [ $pgrp = $$ ] && echo leads its session
cat /proc/self/oom_score_adj
grep -E 'SigBlk|SigIgn' /proc/self/status
tr '\0' '\n' < /proc/$$/environ
"#;

#[test]
fn a_program_that_came_over_the_channel_is_started_by_its_own_name() {
    let rig = Rig::new();
    let guest = crate::fetch::tests::Guest::new();
    let script = b"#!/bin/sh\necho $0 $#\n";
    let mut staging = guest.begin(crate::verify::tests::run(script)).unwrap();
    staging.add(script).unwrap();
    let Ok(crate::verify::Verified::Program(program)) = crate::verify::verify(staging.finish().unwrap())
    else {
        panic!("not verified")
    };
    let doorbell_wire::message::action::Action::Run(run) = crate::verify::tests::run(script) else {
        panic!()
    };
    let place = program.path().to_owned();
    let job = Job::Program(Prepared::new(&run, Some(program)).unwrap());
    let (limits, input) = (Limits::default(), Input::None);
    let mut supervised = rig.start(Order { request: REQUEST, job, limits, input, timeout_ms: None });
    assert!(!place.exists(), "it has moved into the request's directory");
    assert_eq!(end(&mut supervised).outcome, Outcome::Succeeded);
    let path = rig.run().join(REQUEST.to_string()).join("program");
    assert_eq!(text(&supervised), format!("{} 0\n", path.display()));
    supervised.taken();
    supervised.remove();
    assert_eq!(std::fs::read_dir(rig.run()).unwrap().count(), 0);
}
