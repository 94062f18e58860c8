//! Each way in which a request ends has its own line.

use super::*;
use crate::follow::tests::request;
use doorbell_client::api::request::Limits;

fn receipt(request: &mut Request) -> &mut Receipt {
    request.receipt.as_mut().expect("a receipt")
}

fn run(request: &mut Request) -> &mut Run {
    let Action::Run(run) = &mut request.action else { panic!("it runs nothing") };
    run
}

#[test]
fn what_the_status_alone_does_not_tell_is_said_once() {
    assert_eq!(outcome(&request(State::Failed, Some(3), None)).map(Exit::code).expect("silent"), 3);
    let told = outcome(&request(State::Killed, None, Some(11))).expect_err("told");
    assert_eq!((told.line(), told.exit().code()), ("killed by SIGSEGV: why", 139));
    let told = outcome(&request(State::Killed, None, Some(40))).expect_err("told");
    assert_eq!(told.line(), "killed by signal 40: why");
    let told = outcome(&request(State::Expired, None, None)).expect_err("told");
    assert_eq!(told.line(), "request 0123456789abcdef0123456789abcdef is expired: why");
    let open = outcome(&request(State::Started, None, None)).expect_err("told");
    assert!(open.line().ends_with("is still started: wait again, or cancel it"), "{}", open.line());
}

#[test]
fn a_kill_for_want_of_memory_tells_limit_and_peak() {
    let mut killed = request(State::Killed, None, Some(9));
    let peak = Some((32 << 20) - 4096);
    let usage = Usage { cpu_user_us: 1, cpu_system_us: 1, memory_peak: peak, oom_killed: true };
    receipt(&mut killed).usage = Some(usage);
    run(&mut killed).limits = Limits { memory_max: Some(32 << 20), ..Limits::default() };
    let told = outcome(&killed).expect_err("told");
    assert_eq!(told.line(), "killed by SIGKILL: out of memory (limit 32 MiB, peak 31.9 MiB)");
    assert_eq!(told.exit().code(), 137);
    run(&mut killed).limits = Limits::default();
    let told = outcome(&killed).expect_err("told");
    assert_eq!(told.line(), "killed by SIGKILL: out of memory (no limit of its own, peak 31.9 MiB)");
}

#[test]
fn each_reason_not_to_start_has_a_line_of_its_own() {
    let mut lines = std::collections::BTreeSet::new();
    let faults = [
        StartFault::NotFound,
        StartFault::NotExecutable,
        StartFault::BadInterpreter,
        StartFault::WrongArchitecture,
        StartFault::NotAProgram,
        StartFault::NoExecMount,
        StartFault::NoDirectory,
        StartFault::NoUser,
        StartFault::Kernel,
    ];
    for fault in faults {
        let mut unstarted = request(State::NotStarted, None, None);
        *run(&mut unstarted) = Run {
            command: Some("prog".to_owned()),
            user: Some("web".to_owned()),
            cwd: Some("/srv".to_owned()),
            ..Run::default()
        };
        receipt(&mut unstarted).start_fault = Some(fault);
        receipt(&mut unstarted).errno = Some(1);
        let told = outcome(&unstarted).expect_err("told");
        assert!(told.line().starts_with("could not start prog: "), "{}", told.line());
        assert_eq!(told.exit().code(), 121);
        lines.insert(told.line().to_owned());
    }
    assert_eq!(lines.len(), faults.len(), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("the guest has no user web")), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("Operation not permitted, errno 1): why")), "{lines:?}");
}

#[test]
fn missing_output_of_both_streams_is_one_line() {
    let mut ended = request(State::Succeeded, Some(0), None);
    assert_eq!(truncated(receipt(&mut ended)), None);
    let cut = |bytes, lost| OutputTotal { bytes, lost, truncated: true, ..OutputTotal::default() };
    receipt(&mut ended).stdout = cut(100, 7);
    receipt(&mut ended).stderr = cut(5, 1);
    let expected = "the output is truncated: standard output has 100 bytes, 7 more were lost; \
                    standard error has 5 bytes, 1 more were lost";
    assert_eq!(truncated(receipt(&mut ended)).as_deref(), Some(expected));
}
