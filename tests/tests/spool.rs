//! A file in an inbox becomes a request by its presence, once; its receipt and its output lie in the outbox: with a
//! real guest, with many files at once, and with the manager killed wherever it may be.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_api::request::{Request, State};
use doorbell_client::RequestFilter;
use doorbell_tests::daemon::Daemon;
use doorbell_tests::guest::Machine;
use doorbell_tests::lab::{GUEST, Lab};
use doorbell_tests::place::Place;
use doorbell_tests::skip::{skipped, tell};
use doorbell_tests::wait::{comes_within, on, until};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A manager's spool and the guest it is for.
struct Spool(PathBuf);

impl Spool {
    fn config(place: &Place) -> String {
        format!("spool-dir = {:?}\nvsock = \"off\"\n", place.join("spool"))
    }

    fn of(place: &Place) -> Self {
        Self(place.join("spool").join(GUEST))
    }

    /// Puts a file there as one should: under a name that is passed over, then moved.
    fn put(&self, name: &str, content: &str) {
        let inbox = self.0.join("inbox");
        let hidden = inbox.join(format!(".{name}"));
        fs::write(&hidden, content).unwrap();
        fs::rename(hidden, inbox.join(name)).unwrap();
    }

    fn waiting(&self) -> usize {
        names(&self.0.join("inbox")).len()
    }

    fn receipts(&self) -> usize {
        names(&self.0.join("outbox")).iter().filter(|name| name.ends_with(".receipt.json")).count()
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join("outbox").join(name)).ok()
    }

    /// The receipt of a file, once it is there.
    fn receipt(&self, stem: &str) -> Request {
        let text = until(&format!("the receipt of {stem}"), || self.read(&format!("{stem}.receipt.json")));
        serde_json::from_str(&text).unwrap()
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn what_lies_in_an_inbox_runs_once_and_its_receipt_lies_in_the_outbox() {
    let place = Place::new();
    let daemon = Daemon::start_with(&place, &Spool::config(&place));
    let guest = daemon.boot(&place, GUEST, &Machine::default());
    let spool = Spool::of(&place);
    let mut lab = Lab { guest, daemon, place };
    a_program_and_a_request_are_enough(&lab, &spool);
    two_hundred_at_once_run_once_each_while_the_manager_is_killed(&mut lab, &spool);
    lab.daemon.assert_audit_intact();
}

fn a_program_and_a_request_are_enough(lab: &Lab, spool: &Spool) {
    spool.put("moved", "#!/bin/sh\necho out; echo err >&2; exit 3\n");
    let receipt = spool.receipt("moved");
    assert_eq!(receipt.state, State::Failed);
    assert_eq!(receipt.receipt.unwrap().exit_code, Some(3));
    assert!(receipt.asked_by.ends_with(" by spool"), "{}", receipt.asked_by);
    assert_eq!(spool.read("moved.stdout").unwrap(), "out\n");
    assert_eq!(spool.read("moved.stderr").unwrap(), "err\n");

    // Written in place, in pieces: it is not taken before it is left alone.
    let inbox = spool.0.join("inbox");
    fs::write(inbox.join("written"), "#!/bin/sh\necho first\n").unwrap();
    fs::write(inbox.join("written"), "#!/bin/sh\necho first\necho second\n").unwrap();
    assert_eq!(spool.receipt("written").state, State::Succeeded);
    assert_eq!(spool.read("written.stdout").unwrap(), "first\nsecond\n");

    spool.put("tool.program", "#!/bin/sh\necho \"$@\" $SIGN\n");
    let run = r#"{"type": "run", "program": {"file": "tool.program"}, "args": ["a", "b c"], "env": [{"name": "SIGN", "value": "!"}]}"#;
    spool.put("asked.json", &format!(r#"{{"action": {run}, "reason": "to see"}}"#));
    let receipt = spool.receipt("asked");
    assert_eq!((receipt.state, receipt.reason.as_deref()), (State::Succeeded, Some("to see")));
    assert_eq!(spool.read("asked.stdout").unwrap(), "a b c !\n");

    symlink("/etc/hostname", inbox.join("link")).unwrap();
    let why = until("the refusal of a link", || spool.read("link.refused.json"));
    assert!(why.contains("it is a symbolic link"), "{why}");
    assert_eq!(names(&inbox), ["tool.program"]);
    let shown = lab.doorbell().run(&["guest", "show", GUEST]).expect(0).stdout;
    assert!(shown.contains(spool.0.to_str().unwrap()), "{shown}");
}

fn two_hundred_at_once_run_once_each_while_the_manager_is_killed(lab: &mut Lab, spool: &Spool) {
    lab.set_concurrency(8);
    let (already, lying) = (spool.receipts(), spool.waiting());
    for number in 0..MANY {
        spool.put(
            &format!("n{number}"),
            &format!("#!/bin/sh\necho {number} | tee -a /var/lib/doorbell-agent/spooled\n"),
        );
    }
    let mut deaths = 0;
    for number in 1..=KILLS {
        // At first while files are taken, later while receipts come.
        let taken = || spool.waiting() <= lying + MANY - MANY * number / (KILLS + 1) * 2;
        let come = || spool.receipts() >= already + MANY * number / (KILLS + 1);
        until("the next moment to kill the manager", || {
            (come() || (number * 2 <= KILLS && taken())).then_some(())
        });
        lab.daemon.kill();
        lab.daemon.restart();
        deaths += 1;
    }
    until("all receipts", || (spool.receipts() == already + MANY).then_some(()));
    assert_eq!(spool.waiting(), lying);
    for number in 0..MANY {
        assert_eq!(spool.receipt(&format!("n{number}")).state, State::Succeeded);
        assert_eq!(spool.read(&format!("n{number}.stdout")).unwrap(), format!("{number}\n"));
    }
    let ran = lab.look("sort -n /var/lib/doorbell-agent/spooled");
    let once: String = (0..MANY).map(|number| format!("{number}\n")).collect();
    assert_eq!(ran, once, "each ran once");
    tell(&format!("{MANY} files, the manager killed {deaths} times"));
}

/// No guest is needed: a request that expires at once has its receipt a moment later.
#[test]
fn a_manager_that_is_killed_at_any_step_of_the_taking_takes_each_file_once() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return skipped("there is no strace to slow the manager's steps");
    }
    let threads = [0, 1, 2].map(|phase| std::thread::spawn(move || killed_at_moments(phase)));
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Each move and each sync is slowed, so that a kill at any moment is one between two of them.
fn killed_at_moments(phase: u32) {
    let place = Place::new();
    let mut daemon = Daemon::start_with(&place, &Spool::config(&place));
    daemon.add(GUEST, &place.join("h"), None);
    daemon.stop();
    let spool = Spool::of(&place);
    let delays = format!("inject={SLOWED}:delay_enter={}", DELAY.as_micros());
    let trace = format!("trace={SLOWED}");
    daemon.set_under(&[
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &delays,
    ]);
    let (mut taken, mut put_out) = (0, 0);
    let mut lying = 0;
    for number in 0..DEATHS {
        spool.put(&format!("n{number}.json"), EXPIRES);
        lying += 1;
        daemon.restart();
        // The moment is what is waited for; nothing ends it sooner.
        assert!(!comes_within(FIRST + DELAY * (phase + 3 * number), || false));
        daemon.kill();
        taken += usize::from(spool.waiting() < lying);
        lying = spool.waiting();
        put_out = spool.receipts();
    }
    daemon.set_under(&[]);
    daemon.restart();
    let files = usize::try_from(DEATHS).unwrap();
    until("all receipts", || (spool.receipts() == files).then_some(()));
    until("the last file to go", || (spool.waiting() == 0).then_some(()));
    let filter = RequestFilter { limit: Some(1000), ..RequestFilter::default() };
    let requests = on("the requests", daemon.client().requests(&filter)).unwrap().requests;
    assert_eq!(requests.len(), files, "one request for each file");
    for number in 0..DEATHS {
        assert_eq!(spool.receipt(&format!("n{number}")).state, State::Expired);
    }
    daemon.assert_audit_intact();
    tell(&format!(
        "killed {files} times, {taken} of them after a removal; {put_out} receipts were out before the last"
    ));
}

const MANY: usize = 200;
const KILLS: usize = 6;
const EXPIRES: &str = r#"{"action": {"type": "link-up", "link": "eth0"}, "expires_in_ms": 1}"#;
/// The calls that move files and make things last.
const SLOWED: &str = "renameat,renameat2,unlinkat,fsync,fdatasync";
const DELAY: Duration = Duration::from_millis(40);
/// What lies there before the manager starts is left alone for a second.
const FIRST: Duration = Duration::from_millis(900);
const DEATHS: u32 = 9;
