//! Every way in which a program can end, or fail to begin, is a result of its own: in the command's exit status,
//! in `--json`, and in the receipt, with what it took and printed. In an initramfs and in Debian 13.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_tests::lab::{Lab, System};
use doorbell_tests::misfit::{for_another_machine, misfit, sum};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn each_end_of_a_program_is_a_result_of_its_own_in_an_initramfs() {
    results(System::Initramfs);
}

#[test]
fn each_end_of_a_program_is_a_result_of_its_own_on_debian_13() {
    results(System::Debian13);
}

fn results(system: System) {
    let lab = Lab::boot(system);
    let _ = lab.look(SETUP);
    every_end_is_told_apart(&lab);
    what_a_program_took_is_in_its_receipt(&lab);
    a_program_runs_as_its_user(&lab);
    a_users_program_stays_that_users(&lab);
    lab.daemon.assert_audit_intact();
}

/// One way to end.
struct End<'a> {
    name: &'static str,
    /// What stands behind `run web-3`.
    words: Vec<&'a str>,
    code: i32,
    state: &'static str,
    /// Fields of the receipt, one by one; null where there must be none.
    receipt: Value,
}

fn every_end_is_told_apart(lab: &Lab) {
    let bad_interpreter = lab.place.file("bad-interpreter", b"#!/no/such/interpreter\n");
    let foreign = lab.place.file("foreign", &for_another_machine());
    let text = lab.place.file("text", b"neither ELF nor script\n");
    let mut seen = BTreeSet::new();
    let ran = ends_of_what_ran();
    let not_started = ends_of_what_did_not_start(&bad_interpreter, &foreign, &text);
    let count = ran.len() + not_started.len();
    for end in ran.into_iter().chain(not_started) {
        seen.insert(has_this_end(lab, &end));
    }
    assert_eq!(seen.len(), count, "two ends look the same: {seen:?}");
}

fn ends_of_what_ran() -> Vec<End<'static>> {
    let misfit = misfit().to_str().unwrap();
    vec![
        End {
            name: "exit 0",
            words: vec!["--", "true"],
            code: 0,
            state: "succeeded",
            receipt: json!({"exit_code": 0, "signal": null, "oom": false}),
        },
        End {
            name: "exit 7",
            words: vec!["--", "sh", "-c", "exit 7"],
            code: 7,
            state: "failed",
            receipt: json!({"exit_code": 7, "signal": null, "oom": false}),
        },
        End {
            name: "exit 139, which no signal made",
            words: vec!["--", "sh", "-c", "exit 139"],
            code: 139,
            state: "failed",
            receipt: json!({"exit_code": 139, "signal": null, "oom": false}),
        },
        End {
            name: "SIGSEGV",
            words: vec!["--program", misfit, "--", "segv"],
            code: 139,
            state: "killed",
            receipt: json!({"exit_code": null, "signal": 11, "oom": false}),
        },
        End {
            name: "SIGKILL",
            words: vec!["--", "sh", "-c", "kill -KILL $$"],
            code: 137,
            state: "killed",
            receipt: json!({"exit_code": null, "signal": 9, "oom": false}),
        },
        End {
            name: "out of memory",
            words: vec!["--memory", "32M", "--program", misfit, "--", "eat", "100"],
            code: 137,
            state: "killed",
            receipt: json!({"exit_code": null, "signal": 9, "oom": true}),
        },
        End {
            name: "timed out",
            words: vec!["--timeout", "300ms", "--", "sleep", "600"],
            code: 123,
            state: "timed-out",
            receipt: json!({"start_fault": null, "oom": false}),
        },
    ]
}

fn ends_of_what_did_not_start<'a>(
    bad_interpreter: &'a Path,
    foreign: &'a Path,
    text: &'a Path,
) -> Vec<End<'a>> {
    let not = |name, words: &[&'a str], fault: &str, errno: Value| End {
        name,
        words: words.to_vec(),
        code: 121,
        state: "not-started",
        receipt: json!({"start_fault": fault, "errno": errno, "exit_code": null, "signal": null, "oom": null}),
    };
    let [bad_interpreter, foreign, text] =
        [bad_interpreter, foreign, text].map(|path| path.to_str().unwrap());
    vec![
        not("not found in PATH", &["--", "no-such-program"], "not-found", json!(ENOENT)),
        not("not executable", &["--", "/run/lab/plain"], "not-executable", json!(EACCES)),
        not("bad interpreter", &["--program", bad_interpreter], "bad-interpreter", json!(ENOENT)),
        not(
            "wrong architecture",
            &["--program", foreign, "--", "segv"],
            "wrong-architecture",
            json!(ENOEXEC),
        ),
        not("no program", &["--program", text], "not-a-program", json!(ENOEXEC)),
        not("mounted noexec", &["--", "/run/lab/noexec/script"], "no-exec-mount", json!(EACCES)),
        not("no such user", &["--user", "nobody-knows", "--", "true"], "no-user", json!(ENOENT)),
        not("no such directory", &["--cwd", "/no/where", "--", "true"], "no-directory", json!(ENOENT)),
    ]
}

/// Runs it; checks exit status, words, `--json` and the receipt that is read again. Gives what tells it apart.
fn has_this_end(lab: &Lab, end: &End<'_>) -> String {
    let name = end.name;
    let words = [&["--json", "run", "web-3"], &end.words[..]].concat();
    let ended = lab.doorbell().run(&words);
    assert_eq!(ended.code, Some(end.code), "{name}: {}{}", ended.stdout, ended.stderr);
    let request = ended.json();
    assert_eq!(
        (&request["state"], &request["exit_status"]),
        (&end.state.into(), &end.code.into()),
        "{name}: {request}"
    );
    let receipt = &request["receipt"];
    for (field, wanted) in end.receipt.as_object().unwrap() {
        let found = if field == "oom" { &receipt["usage"]["oom_killed"] } else { &receipt[field] };
        assert_eq!(found, wanted, "{name}: {field} in {receipt}");
    }
    // What did not start has no times of a run, and what ran has them.
    let started = end.state != "not-started";
    assert_eq!(
        (receipt["ran"].is_object(), receipt["usage"].is_object()),
        (started, started),
        "{name}: {receipt}"
    );
    let again = lab.doorbell().run(&["--json", "request", "show", request["id"].as_str().unwrap()]).expect(0);
    assert_eq!(again.json()["receipt"], *receipt, "{name}: it reads otherwise the second time");
    let usage = &receipt["usage"]["oom_killed"];
    let fault = &receipt["start_fault"];
    format!("{} {} {} {usage} {fault}", end.state, receipt["exit_code"], receipt["signal"])
}

fn what_a_program_took_is_in_its_receipt(lab: &Lab) {
    let request = receipt_of(lab, &["--program", misfit().to_str().unwrap(), "--", "burn", "400"]);
    let (usage, ran) = (&request["usage"], &request["ran"]);
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number in {request}"));
    let cpu = number(&usage["cpu_user_us"]) + number(&usage["cpu_system_us"]);
    let took = number(&ran["exited_us"]) - number(&ran["started_us"]);
    assert!(took >= 400_000, "it ran for 400 ms at least, and {took} µs are told");
    // It shares its one processor with the agent and the kernel, so only part of the time was its own.
    assert!((100_000..=took + 50_000).contains(&cpu), "{cpu} µs of processor time in {took} µs");
    assert!(number(&ran["ended_us"]) >= number(&ran["exited_us"]));
    assert!(ran["first_output_us"].is_null(), "it printed nothing: {ran}");

    let request = receipt_of(lab, &["--program", misfit().to_str().unwrap(), "--", "eat", "24"]);
    let peak = number(&request["usage"]["memory_peak"]);
    assert!((24 << 20..64 << 20).contains(&peak), "{peak} bytes at most, of which it used 24 MiB");

    let script = "printf 'out\\0\\377'; printf err >&2; (sleep 0.2; echo later) & exit 3";
    let receipt = receipt_of(lab, &["--", "sh", "-c", script]);
    let total = |stream: &str, bytes: &[u8]| {
        let sum = sum(bytes);
        let wanted =
            json!({"bytes": sum.len, "lost": 0, "truncated": false, "sha256": sum.sha256, "intact": true});
        assert_eq!(receipt[stream], wanted);
    };
    total("stdout", b"out\0\xfflater\n");
    total("stderr", b"err");
    let time = |name: &str| receipt["ran"][name].as_u64().unwrap();
    assert!(
        time("started_us") <= time("first_output_us")
            && time("first_output_us") <= time("exited_us") + 1_000_000
    );
    assert!(
        time("ended_us") >= time("exited_us") + 100_000,
        "what it had started printed later: {}",
        receipt["ran"]
    );
}

fn receipt_of(lab: &Lab, words: &[&str]) -> Value {
    let _ = lab.run(words).ended();
    let mut list = lab.doorbell().run(&["--json", "request", "ls", "--limit", "1"]).expect(0).json();
    list["requests"][0]["receipt"].take()
}

fn a_program_runs_as_its_user(lab: &Lab) {
    let show = ["--", "sh", "-c", "id -u; id -g; umask"];
    let as_user = |user: &[&str]| lab.run(&[user, &show[..]].concat()).ended().expect(0).stdout;
    let root = as_user(&[]);
    assert_eq!(root.lines().collect::<Vec<_>>(), ["0", "0", "0022"]);
    let nobody = as_user(&["--user", "nobody"]);
    assert_eq!(nobody.lines().collect::<Vec<_>>(), ["65534", "65534", "0022"]);
    // A program that travelled is in a directory of the agent's that nobody else may enter; it runs all the same.
    let misfit = misfit().to_str().unwrap();
    let _ = lab.run(&["--user", "nobody", "--program", misfit, "--", "exit", "5"]).ended().expect(5);
}

fn a_users_program_stays_that_users(lab: &Lab) {
    let no_new_privs = |how: &[&str]| {
        let show = ["--", "grep", "NoNewPrivs", "/proc/self/status"];
        lab.run(&[how, &show[..]].concat()).ended().expect(0).stdout
    };
    assert_eq!(no_new_privs(&["--user", "nobody"]), "NoNewPrivs:\t1\n");
    assert_eq!(no_new_privs(&["--user", "nobody", "--new-privileges"]), "NoNewPrivs:\t0\n");
    assert_eq!(no_new_privs(&[]), "NoNewPrivs:\t0\n");
}

const SETUP: &str = "mkdir -p /run/lab/noexec && mount -t tmpfs -o noexec tmpfs /run/lab/noexec && \
    printf '#!/bin/sh\\nexit 0\\n' >/run/lab/plain && cp /run/lab/plain /run/lab/noexec/script && \
    chmod 644 /run/lab/plain && chmod 755 /run/lab/noexec/script";
const ENOENT: i32 = 2;
const ENOEXEC: i32 = 8;
const EACCES: i32 = 13;
