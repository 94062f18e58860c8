//! Output comes live, whole and as often as it is wanted, and costs nobody memory: not the manager, not the agent,
//! not the client. What does not fit is counted, and what was kept is told by its digest.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_api::receipt::OutputTotal;
use doorbell_api::request::{Action, Limits, ProgramRef, Run, State};
use doorbell_client::Stream;
use doorbell_tests::daemon::sh;
use doorbell_tests::lab::{AGENT_PID, GUEST, Lab, System, fresh_id, gate};
use doorbell_tests::misfit::{self, Sum, sum, sum_of_file, sum_of_flood};
use doorbell_tests::process::kib_of;
use doorbell_tests::skip::tell;
use doorbell_tests::wait::{PATIENCE, on, until, within};
use nix::sys::signal::Signal;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn output_is_live_whole_and_can_be_read_again() {
    let lab = Lab::boot(System::Initramfs);
    let misfit = lab.daemon.upload("misfit", misfit::bytes());
    the_first_line_comes_before_the_program_ends(&lab);
    input_goes_through_a_program_byte_for_byte(&lab);
    any_part_is_read_again(&lab, &misfit);
    two_outputs_at_once_are_both_whole(&lab, &misfit);
    a_reader_that_stands_still_holds_up_nobody(&lab, &misfit);
    lab.daemon.assert_audit_intact();
}

/// By order: the program goes on only after its first lines were seen here.
fn the_first_line_comes_before_the_program_ends(lab: &Lab) {
    let script = "echo out; echo err >&2; read word; echo \"got $word\"";
    let (mut running, mut stdin) =
        lab.doorbell().begin_fed(&["run", GUEST, "--stdin", "--", "sh", "-c", script]);
    running.await_stdout(PATIENCE, "the first line", |text| text == "out\n");
    writeln!(stdin, "go").unwrap();
    drop(stdin);
    let ended = running.ended().expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\ngot go\n", "err\n"));

    // The same where the program waits for something in the guest and not for its input.
    let id = lab.submit(sh(&format!("{}; echo last", gate("live"))));
    lab.await_output(&id, "up\n");
    assert_eq!(lab.daemon.request(&id).state, State::Started);
    lab.open_gate("live");
    assert_eq!(lab.daemon.finished(&id).state, State::Succeeded);
    assert_eq!(lab.output(&id), "up\nlast\n");
}

/// All values of a byte, and more of them than any window or spool buffer holds.
fn input_goes_through_a_program_byte_for_byte(lab: &Lab) {
    let bytes: Vec<u8> =
        (0..10_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let (mut running, mut stdin) = lab.doorbell().begin_fed(&["run", GUEST, "--stdin", "--", "cat"]);
    let writer = {
        let bytes = bytes.clone();
        std::thread::spawn(move || stdin.write_all(&bytes))
    };
    assert_eq!(running.code_within(PATIENCE), Some(0));
    writer.join().unwrap().unwrap();
    assert_eq!(sum_of_file(running.stdout_file()), sum(&bytes));

    let (running, stdin) = lab.doorbell().begin_fed(&["run", GUEST, "--stdin", "--", "wc", "-c"]);
    drop(stdin);
    assert_eq!(running.ended().expect(0).stdout.trim(), "0", "no input is an end at once");
    // A program that does not read its input ends all the same.
    let (mut running, mut stdin) = lab.doorbell().begin_fed(&["run", GUEST, "--stdin", "--", "true"]);
    let _ = stdin.write_all(&bytes[..1 << 20]);
    assert_eq!(running.code_within(PATIENCE), Some(0));
}

fn any_part_is_read_again(lab: &Lab, misfit: &ProgramRef) {
    let id = lab.submit(flood(misfit, 4, None));
    let request = lab.daemon.finished(&id);
    assert_eq!(request.state, State::Succeeded, "{:?}", request.receipt);
    let whole = lab.daemon.output(&id, Stream::Stdout, 0);
    assert_eq!(sum(&whole), sum_of_flood(4));
    for offset in [0, 1, 4095, 65_536, 1_000_003, (4 << 20) - 1, 4 << 20] {
        let from = usize::try_from(offset).unwrap();
        for _ in 0..2 {
            assert!(lab.daemon.output(&id, Stream::Stdout, offset) == whole[from..], "from byte {offset}");
        }
    }
    let tail = lab.doorbell().begin(&["request", "output", &id, "--offset", "4194000", "--follow"]);
    assert_eq!(tail.ended().expect(0).stdout.as_bytes(), &whole[4_194_000..]);
}

fn two_outputs_at_once_are_both_whole(lab: &Lab, misfit: &ProgramRef) {
    lab.set_concurrency(2);
    let ids = [24, 24].map(|mib| lab.submit(flood(misfit, mib, None)));
    // Both are in the middle of it at the same time.
    until("both to print", || {
        let lens = ids.each_ref().map(|id| lab.daemon.request(id).state);
        (lens == [State::Started, State::Started]).then_some(())
    });
    for id in &ids {
        let request = lab.daemon.finished(id);
        assert_eq!(request.state, State::Succeeded, "{:?}", request.receipt);
        assert_eq!(total(&lab.daemon.output(id, Stream::Stdout, 0)), request.receipt.unwrap().stdout);
    }
    let times = ids.each_ref().map(|id| lab.daemon.request(id).receipt.unwrap().ran.unwrap());
    assert!(times[1].started_us < times[0].ended_us, "they ran one after the other");
    lab.set_concurrency(1);
}

/// What is whole and intact.
fn total(bytes: &[u8]) -> OutputTotal {
    let Sum { len, sha256 } = sum(bytes);
    assert_eq!(Sum { len, sha256: sha256.clone() }, sum_of_flood(len >> 20));
    OutputTotal { bytes: len, lost: 0, truncated: false, sha256: Some(sha256), intact: Some(true) }
}

fn a_reader_that_stands_still_holds_up_nobody(lab: &Lab, misfit: &ProgramRef) {
    let id = fresh_id(1);
    let file = misfit::misfit().to_str().unwrap();
    let mut slow = lab.run(&["--id", &id, "--program", file, "--", "flood", "32"]);
    until("its first bytes", || (len_of(slow.stdout_file()) > 0).then_some(()));
    slow.signal(Signal::SIGSTOP);
    // Neither its own program nor the next one waits for it.
    let request = lab.daemon.finished(&id);
    assert_eq!(request.state, State::Succeeded, "{:?}", request.receipt);
    let next = lab.daemon.finished(&lab.submit(flood(misfit, 8, None)));
    assert_eq!(next.state, State::Succeeded, "{:?}", next.receipt);
    let taken = len_of(slow.stdout_file());
    assert!(taken < 32 << 20, "it was not in the middle of its output when it stopped");
    slow.signal(Signal::SIGCONT);
    assert_eq!(slow.code_within(PATIENCE), Some(0));
    assert_eq!(sum_of_file(slow.stdout_file()), sum_of_flood(32));
}

#[test]
fn a_gibibyte_of_output_leaves_all_three_flat_and_a_cancel_is_served_meanwhile() {
    let lab = Lab::boot(System::Initramfs);
    let id = fresh_id(2);
    // A short one first: what the three take once is no growth.
    let misfit = lab.daemon.upload("misfit", misfit::bytes());
    let _ = lab.daemon.finished(&lab.submit(flood(&misfit, 1, None)));
    let (manager, agent) = (peak_kib(lab.daemon.id()).unwrap(), agents_kib(&lab));
    let start = Instant::now();
    let file = misfit::misfit().to_str().unwrap();
    let words = ["--id", &id, "--output-max", "1025M", "--program", file, "--", "flood", "1024"];
    let mut client = lab.run(&words);
    until("its first bytes", || (len_of(client.stdout_file()) > 1 << 20).then_some(()));
    let client_before = peak_kib(client.id()).unwrap();

    a_cancel_is_served(&lab);
    assert_eq!(lab.daemon.request(&id).state, State::Started, "the cancel waited for the output");

    // Read for as long as they run: a process that is gone tells nothing.
    let (mut client_after, mut agent_after) = (client_before, None);
    let request = within(LONG, "the end of the flood", || {
        client_after = peak_kib(client.id()).unwrap_or(client_after);
        if agent_after.is_none() && len_of(client.stdout_file()) > 700 << 20 {
            agent_after = Some(agents_kib(&lab));
        }
        let request = lab.daemon.request(&id);
        request.state.is_final().then_some(request)
    });
    assert_eq!(request.state, State::Succeeded, "{:?}", request.receipt);
    tell(&format!("a GiB of output took {:?}", start.elapsed()));
    let total = request.receipt.unwrap().stdout;
    let wanted = sum_of_flood(1024);
    assert_eq!((total.bytes, total.lost, total.truncated, total.intact), (1 << 30, 0, false, Some(true)));
    assert_eq!(total.sha256.as_deref(), Some(wanted.sha256.as_str()));
    assert_eq!(client.code_within(LONG), Some(0));
    assert_eq!(sum_of_file(client.stdout_file()), wanted);

    let grown = [
        ("the manager", peak_kib(lab.daemon.id()).unwrap().saturating_sub(manager)),
        ("the agent", agent_after.unwrap().saturating_sub(agent)),
        ("the client", client_after.saturating_sub(client_before)),
    ];
    tell(&format!("KiB grown over a GiB of output: {grown:?}"));
    for (who, kib) in grown {
        assert!(kib < GROWTH_KIB, "{who} grew by {kib} KiB");
    }
}

/// Of another request, beside the flood.
fn a_cancel_is_served(lab: &Lab) {
    let other = lab.submit_urgent(sh("echo up; sleep 600"));
    lab.await_output(&other, "up\n");
    let _ = on("the cancel", lab.daemon.client().cancel(&other)).unwrap();
    assert_eq!(lab.daemon.finished(&other).state, State::Cancelled);
}

#[test]
fn what_goes_beyond_the_limit_is_counted_to_the_byte() {
    let lab = Lab::boot(System::Initramfs);
    let misfit = lab.daemon.upload("misfit", misfit::bytes());
    let id = lab.submit(flood(&misfit, 2048, Some(64 << 20)));
    let request = lab.finished_within(LONG, &id);
    // The program is not told of the limit, and ends as it would.
    assert_eq!(request.state, State::Succeeded, "{:?}", request.receipt);
    let wanted = OutputTotal {
        bytes: 64 << 20,
        lost: (2048 - 64) << 20,
        truncated: true,
        sha256: Some(sum_of_flood(64).sha256),
        intact: Some(true),
    };
    assert_eq!(request.receipt.unwrap().stdout, wanted);
    assert_eq!(sum(&lab.daemon.output(&id, Stream::Stdout, 0)), sum_of_flood(64));

    // A limit in the middle of a piece, both streams with one each.
    let run = Run {
        command: Some("sh".to_owned()),
        args: vec!["-c".to_owned(), "printf 0123456789; printf abcdefghij >&2".to_owned()],
        limits: Limits { output_max: Some(4), ..Limits::default() },
        ..Run::default()
    };
    let receipt = lab.daemon.finished(&lab.submit(Action::Run(run))).receipt.unwrap();
    for (total, kept) in [(receipt.stdout, &b"0123"[..]), (receipt.stderr, b"abcd")] {
        let sha256 = Some(sum(kept).sha256);
        assert_eq!(total, OutputTotal { bytes: 4, lost: 6, truncated: true, sha256, intact: Some(true) });
    }
    let ended = lab.run(&["--output-max", "4", "--", "printf", "0123456789"]).ended().expect(0);
    assert_eq!(ended.stdout, "0123");
    assert!(ended.stderr.contains('6'), "what was lost is said: {:?}", ended.stderr);
}

fn flood(misfit: &ProgramRef, mib: u64, output_max: Option<u64>) -> Action {
    Action::Run(Run {
        program: Some(misfit.clone()),
        args: vec!["flood".to_owned(), mib.to_string()],
        limits: Limits { output_max, ..Limits::default() },
        ..Run::default()
    })
}

fn len_of(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap().len()
}

/// The most memory that a process here ever had, while it runs.
fn peak_kib(id: u32) -> Option<u64> {
    kib_of(id, "VmHWM:")
}

/// The most memory that the agent, or any supervisor there is, ever had.
fn agents_kib(lab: &Lab) -> u64 {
    let script = format!(
        "{AGENT_PID} && for each in $agent $(pidof doorbell-agent); do \
         awk '$1 == \"VmHWM:\" {{ print $2 }}' /proc/$each/status 2>/dev/null; done | sort -n | tail -n 1"
    );
    lab.look(&script).trim().parse().unwrap()
}

/// A GiB through an emulated processor that hashes and copies it several times.
const LONG: Duration = Duration::from_secs(420);
/// 1 GiB went through: whoever holds a share of it is far above this.
const GROWTH_KIB: u64 = 32 * 1024;
