//! One message for every variant of every type on the channel, each under the name of its vector on paper.
//!
//! Every list goes through a `match` without a wildcard: a new variant breaks the build until it has a vector.

use super::Message;
use doorbell_wire::error::Reason;
use doorbell_wire::ids::{
    BootId, Digest, Fingerprint, Generation, GuestPath, LinkName, MacAddress, Nonce, PublicKey, RequestId,
    Sequence, SessionToken, ShortText, Signature,
};
use doorbell_wire::message::action::{
    Action, Asked, Can, Command, Executable, Form, Get, Input, Limits, LinkSelector, LinkSet, Mode, Payload,
    Program, Put, Reboot, Run, RunParts, RunReboot, Window,
};
use doorbell_wire::message::outcome::{
    Acknowledgement, Effect, Evidence, FileEvidence, FileKind, LinkChange, LinkState, Links, NotReceived,
    NotStarted, NotVerified, Outcome, OutputTotals, Ran, Rebooted, Refusal, Signal, SignatureFault,
    StartFault, StreamTotal, Usage, Verdict,
};
use doorbell_wire::message::{
    self, Attach, Attached, Capabilities, Chunk, Claims, Credit, Enrolment, Fetch, FromGuest, FromHost,
    Greeting, Hello, InputCredit, InputEnd, ManagerProof, Offer, Offsets, Output, Polls, Progress, Proof,
    Push, Resize, Signed, Spooled, SshSignature, Stage, Stream, Target, Terms, Welcome,
};
use std::num::NonZeroU8;

macro_rules! vectors {
    ($(#[$doc:meta])* $list:ident: $kind:ty { $($pattern:pat => $name:literal: $sample:expr,)* }) => {
        $(#[$doc])*
        pub fn $list() -> Vec<(&'static str, $kind)> {
            fn name(value: &$kind) -> &'static str {
                match value { $($pattern => $name,)* }
            }
            let samples = vec![$(($name, $sample),)*];
            samples.iter().for_each(|(expected, sample)| assert_eq!(name(sample), *expected));
            samples
        }
    };
}

vectors! {
    /// Every message of the manager.
    from_host: FromHost {
        FromHost::Ring => "ring": FromHost::Ring,
        FromHost::Greeting(_) => "greeting": FromHost::Greeting(greeting()),
        FromHost::Welcome(_) => "welcome": FromHost::Welcome(welcome()),
        FromHost::Offer(_) => "offer_query": FromHost::Offer(Box::new(Offer {
            request: request(),
            sequence: None,
            floor: 8,
            action: Action::LinkList,
            timeout_ms: None,
            idempotent: false,
            signed: None,
        })),
        FromHost::Nothing => "nothing": FromHost::Nothing,
        FromHost::Chunk(_) => "chunk": FromHost::Chunk(Chunk { request: request(), offset: 300, bytes: b"#!/bin/sh\n".to_vec() }),
        FromHost::OutputCredit(_) => "output_credit": FromHost::OutputCredit(spooled(70_000, 32768)),
        FromHost::Attached(_) => "attached": FromHost::Attached(Attached {
            request: request(),
            from: Some(Offsets { stdout: 5, stderr: 70_000 }),
        }),
        FromHost::Noted(_) => "noted": FromHost::Noted(request()),
        FromHost::Cancel(_) => "cancel": FromHost::Cancel(request()),
        FromHost::Ping(_) => "ping": FromHost::Ping(3),
        FromHost::Input(_) => "input": FromHost::Input(input(0)),
        FromHost::InputEnd(_) => "input_end": FromHost::InputEnd(InputEnd { request: request(), len: 6 }),
        FromHost::Resize(_) => "resize": FromHost::Resize(Resize { request: request(), window: window() }),
        FromHost::Push(_) => "push": FromHost::Push(Box::new(push())),
        FromHost::Clock(_) => "clock": FromHost::Clock(1_767_225_600_000),
        FromHost::HostBye(_) => "host_bye": FromHost::HostBye(Reason::NOT_APPROVED),
    }
}

vectors! {
    /// Every message of the agent.
    from_guest: FromGuest {
        FromGuest::Hello(_) => "hello": FromGuest::Hello(Box::new(hello())),
        FromGuest::Pull => "pull": FromGuest::Pull,
        FromGuest::Fetch(_) => "fetch": FromGuest::Fetch(Fetch { request: request(), offset: 0 }),
        FromGuest::ChunkCredit(_) => "chunk_credit": FromGuest::ChunkCredit(Credit { bytes: 10 }),
        FromGuest::Attach(_) => "attach": FromGuest::Attach(attach()),
        FromGuest::Progress(_) => "progress_started": FromGuest::Progress(progress(Stage::Started)),
        FromGuest::Output(_) => "output_stdout": FromGuest::Output(output(Stream::Stdout)),
        FromGuest::Acknowledge(_) => "outcome_succeeded": acknowledge(Outcome::Succeeded, Evidence::None),
        FromGuest::Pong(_) => "pong": FromGuest::Pong(3),
        FromGuest::InputCredit(_) => "input_credit":
            FromGuest::InputCredit(InputCredit { request: request(), bytes: 6 }),
        FromGuest::Polls(_) => "polls": FromGuest::Polls(Polls { every_ms: 30_000 }),
        FromGuest::GuestBye(_) => "guest_bye": FromGuest::GuestBye(Reason::GOODBYE),
    }
}

vectors! {
    /// Every action.
    actions: Action {
        Action::Run(_) => "offer_run_program": Action::Run(run(program())),
        Action::LinkList => "offer_link_list": Action::LinkList,
        Action::LinkSet(_) => "offer_link_set_name": Action::LinkSet(LinkSet { link: by_name(), up: false }),
        Action::Put(_) => "offer_put_file": Action::Put(put(Form::File)),
        Action::Get(_) => "offer_get": Action::Get(Get { path: "/etc/fstab".parse().unwrap() }),
        Action::RunReboot(_) => "offer_reboot_on_status": Action::RunReboot(RunReboot {
            run: run(in_guest()),
            reboot: Reboot::OnStatus { status: number(194), steps_max: number(5) },
            step: number(2),
        }),
        Action::Can(_) => "offer_can": Action::Can(Box::new(Can {
            asked: Asked::LinkSet(LinkSet { link: by_name(), up: false }),
            timeout_ms: None,
            idempotent: true,
            signed: None,
        })),
    }
}

vectors! {
    /// Every reason for a reboot.
    reboots: Reboot {
        Reboot::AfterSuccess => "offer_reboot_after_success": Reboot::AfterSuccess,
        Reboot::OnStatus { .. } => "offer_reboot_on_status":
            Reboot::OnStatus { status: number(194), steps_max: number(5) },
    }
}

vectors! {
    /// Every kind of thing that can be started.
    executables: Executable {
        Executable::InGuest(_) => "offer_run_in_guest": in_guest(),
        Executable::Program(_) => "offer_run_program": program(),
    }
}

vectors! {
    /// Everything that a program may read.
    inputs: Input {
        Input::None => "offer_run_in_guest": Input::None,
        Input::Stream => "offer_run_stream": Input::Stream,
        Input::Terminal(_) => "offer_run_terminal": Input::Terminal(window()),
    }
}

vectors! {
    /// Everything that is put into a guest.
    forms: Form {
        Form::File => "offer_put_file": Form::File,
        Form::Archive => "offer_put_archive": Form::Archive,
    }
}

vectors! {
    /// Every way to name a link.
    selectors: LinkSelector {
        LinkSelector::Name(_) => "offer_link_set_name": by_name(),
        LinkSelector::Mac(_) => "offer_link_set_mac": LinkSelector::Mac(mac()),
    }
}

vectors! {
    /// Every station in the guest.
    stages: Stage {
        Stage::Fetched => "progress_fetched": Stage::Fetched,
        Stage::Verified => "progress_verified": Stage::Verified,
        Stage::Journalled => "progress_journalled": Stage::Journalled,
        Stage::Started => "progress_started": Stage::Started,
        Stage::Rebooting => "progress_rebooting": Stage::Rebooting,
    }
}

vectors! {
    /// Both streams.
    streams: Stream {
        Stream::Stdout => "output_stdout": Stream::Stdout,
        Stream::Stderr => "output_stderr": Stream::Stderr,
    }
}

vectors! {
    /// Every way a request ends.
    outcomes: Outcome {
        Outcome::Succeeded => "outcome_succeeded": Outcome::Succeeded,
        Outcome::Failed(_) => "outcome_failed": Outcome::Failed(NonZeroU8::new(255).unwrap()),
        Outcome::Killed(_) => "outcome_killed": Outcome::Killed(Signal::try_from(9).unwrap()),
        Outcome::TimedOut => "outcome_timed_out": Outcome::TimedOut,
        Outcome::Cancelled => "outcome_cancelled": Outcome::Cancelled,
        Outcome::Refused(_) => "refused_no_such_link": Outcome::Refused(Refusal::NoSuchLink),
        Outcome::Interrupted => "outcome_interrupted": Outcome::Interrupted,
        Outcome::NotReceived(_) => "not_received_length":
            Outcome::NotReceived(NotReceived::Length { expected: 310, got: 300 }),
        Outcome::NotVerified(_) => "outcome_not_verified": Outcome::NotVerified(NotVerified {
            expected: Digest::new([0x44; 32]),
            got: Digest::new([0x45; 32]),
        }),
        Outcome::NotStarted(_) => "not_started_not_found": not_started(StartFault::NotFound),
        Outcome::Continues(_) => "outcome_continues": Outcome::Continues(number(2)),
        Outcome::NotRebooted => "outcome_not_rebooted": Outcome::NotRebooted,
    }
}

vectors! {
    /// Every refusal.
    refusals: Refusal {
        Refusal::Unsupported(_) => "refused_unsupported": Refusal::Unsupported(text("no cgroup v2")),
        Refusal::StaleSequence(_) => "refused_stale_sequence": Refusal::StaleSequence(1000),
        Refusal::StateUnwritable(_) => "refused_state_unwritable": Refusal::StateUnwritable(28),
        Refusal::NoSuchLink => "refused_no_such_link": Refusal::NoSuchLink,
        Refusal::AmbiguousLink(_) => "refused_ambiguous_link": Refusal::AmbiguousLink(2),
        Refusal::LinkRefused(_) => "refused_link_refused": Refusal::LinkRefused(-1),
        Refusal::NotInEffect => "refused_not_in_effect": Refusal::NotInEffect,
        Refusal::Signature(_) => "signature_missing": Refusal::Signature(SignatureFault::Missing),
        Refusal::Policy(_) => "refused_policy": Refusal::Policy(text("rule 2: not by day")),
    }
}

vectors! {
    /// Every way a signature is not good.
    signature_faults: SignatureFault {
        SignatureFault::Missing => "signature_missing": SignatureFault::Missing,
        SignatureFault::Unreadable(_) => "signature_unreadable": SignatureFault::Unreadable(text("no")),
        SignatureFault::OtherNamespace(_) => "signature_other_namespace":
            SignatureFault::OtherNamespace(text("git")),
        SignatureFault::Altered => "signature_altered": SignatureFault::Altered,
        SignatureFault::Signers(_) => "signature_signers": SignatureFault::Signers(text("no")),
        SignatureFault::UnknownKey(_) => "signature_unknown_key": SignatureFault::UnknownKey(fingerprint()),
        SignatureFault::KeyOutOfTime(_) => "signature_key_out_of_time":
            SignatureFault::KeyOutOfTime(fingerprint()),
        SignatureFault::KeyForOthers(_) => "signature_key_for_others":
            SignatureFault::KeyForOthers(fingerprint()),
        SignatureFault::OtherGuest => "signature_other_guest": SignatureFault::OtherGuest,
        SignatureFault::TooEarly { .. } => "signature_too_early":
            SignatureFault::TooEarly { not_before_s: 1_800_000_000, now_s: 1_795_000_000 },
        SignatureFault::Expired { .. } => "signature_expired":
            SignatureFault::Expired { expires_s: 1_795_000_000, now_s: 1_800_000_000 },
        SignatureFault::NoClock(_) => "signature_no_clock": SignatureFault::NoClock(5),
        SignatureFault::Replayed(_) => "signature_replayed":
            SignatureFault::Replayed(RequestId::new([0x53; 16])),
        SignatureFault::Unrecorded(_) => "signature_unrecorded": SignatureFault::Unrecorded(28),
        SignatureFault::NotSignable(_) => "signature_not_signable": SignatureFault::NotSignable(text("no")),
    }
}

vectors! {
    /// Every way to name the guests of a signature.
    targets: Target {
        Target::Guest(_) => "offer_signed": Target::Guest(fingerprint()),
        Target::Guests { .. } => "offer_signed_for_many":
            Target::Guests { root: Digest::new([0x60; 32]), count: 3 },
    }
}

vectors! {
    /// Every way a program does not arrive.
    not_received: NotReceived {
        NotReceived::Unstageable(_) => "not_received_unstageable": NotReceived::Unstageable(28),
        NotReceived::Length { .. } => "not_received_length": NotReceived::Length { expected: 310, got: 300 },
    }
}

vectors! {
    /// Everything that keeps a program from starting.
    faults: StartFault {
        StartFault::NotFound => "not_started_not_found": StartFault::NotFound,
        StartFault::NotExecutable => "not_started_not_executable": StartFault::NotExecutable,
        StartFault::BadInterpreter => "not_started_bad_interpreter": StartFault::BadInterpreter,
        StartFault::WrongArchitecture => "not_started_wrong_architecture": StartFault::WrongArchitecture,
        StartFault::NotAProgram => "not_started_not_a_program": StartFault::NotAProgram,
        StartFault::NoExecMount => "not_started_no_exec_mount": StartFault::NoExecMount,
        StartFault::NoDirectory => "not_started_no_directory": StartFault::NoDirectory,
        StartFault::NoUser => "not_started_no_user": StartFault::NoUser,
        StartFault::Kernel => "not_started_kernel": StartFault::Kernel,
    }
}

vectors! {
    /// Everything that a path names.
    files: FileKind {
        FileKind::File => "evidence_file": FileKind::File,
        FileKind::Tree => "evidence_tree": FileKind::Tree,
        FileKind::Link => "evidence_link": FileKind::Link,
    }
}

vectors! {
    /// Every kind of evidence.
    evidence: Evidence {
        Evidence::None => "outcome_succeeded": Evidence::None,
        Evidence::Links(_) => "evidence_links": Evidence::Links(Links::cut(vec![link(1), loopback()])),
        Evidence::LinkChange(_) => "evidence_link_change":
            Evidence::LinkChange(LinkChange { before: link(0x1003), after: link(0x1002) }),
        Evidence::File(_) => "evidence_file": Evidence::File(file(FileKind::File)),
        Evidence::Rebooted(_) => "evidence_rebooted": Evidence::Rebooted(Rebooted {
            before: BootId::new([0x35; 16]),
            after: BootId::new([0x38; 16]),
        }),
        Evidence::Verdict(_) => "evidence_verdict": Evidence::Verdict(Verdict {
            effect: Effect::RequireSignature,
            rule: text("rule 2"),
            run_as: Some(text("app")),
        }),
    }
}

/// Every message above under its vector's name. A name that two lists share stands for the same message.
pub fn all() -> Vec<(&'static str, Message)> {
    let offer = |action| Message::Host(FromHost::Offer(Box::new(offer(action))));
    let outcome = |outcome| Message::Guest(acknowledge(outcome, Evidence::None));
    let mut all: Vec<(&'static str, Message)> = Vec::new();
    all.extend(from_host().into_iter().map(|(name, message)| (name, Message::Host(message))));
    all.extend(from_guest().into_iter().map(|(name, message)| (name, Message::Guest(message))));
    all.extend(actions().into_iter().map(|(name, action)| (name, offer(action))));
    all.extend(executables().into_iter().map(|(name, what)| (name, offer(Action::Run(run(what))))));
    let set = |link| offer(Action::LinkSet(LinkSet { link, up: false }));
    all.extend(selectors().into_iter().map(|(name, link)| (name, set(link))));
    let up = Action::LinkSet(LinkSet { link: by_name(), up: true });
    all.push(("offer_link_set_up", offer(up)));
    let station = |stage| Message::Guest(FromGuest::Progress(progress(stage)));
    all.extend(stages().into_iter().map(|(name, stage)| (name, station(stage))));
    let reads = |input| {
        let parts = RunParts { input, ..run(in_guest()).parts().clone() };
        offer(Action::Run(Run::try_from(parts).unwrap()))
    };
    all.extend(inputs().into_iter().map(|(name, input)| (name, reads(input))));
    all.extend(forms().into_iter().map(|(name, form)| (name, offer(Action::Put(put(form))))));
    let reboots_for = |reboot| {
        let step = number(if reboot == Reboot::AfterSuccess { 1 } else { 2 });
        offer(Action::RunReboot(RunReboot { run: run(in_guest()), reboot, step }))
    };
    all.extend(reboots().into_iter().map(|(name, reboot)| (name, reboots_for(reboot))));
    let printed = |stream| Message::Guest(FromGuest::Output(output(stream)));
    all.extend(streams().into_iter().map(|(name, stream)| (name, printed(stream))));
    all.extend(outcomes().into_iter().map(|(name, how)| (name, outcome(how))));
    all.extend(refusals().into_iter().map(|(name, why)| (name, outcome(Outcome::Refused(why)))));
    let why_not = |fault| outcome(Outcome::Refused(Refusal::Signature(fault)));
    all.extend(signature_faults().into_iter().map(|(name, fault)| (name, why_not(fault))));
    all.extend(targets().into_iter().map(|(name, target)| (name, Message::Host(signed_offer(target)))));
    let mut signed_push = push();
    signed_push.offer.signed = Some(Box::new(signed(Target::Guest(fingerprint()))));
    all.push(("push_signed", Message::Host(FromHost::Push(Box::new(signed_push)))));
    all.extend(not_received().into_iter().map(|(name, why)| (name, outcome(Outcome::NotReceived(why)))));
    all.extend(faults().into_iter().map(|(name, fault)| (name, outcome(not_started(fault)))));
    let proved = |evidence| Message::Guest(acknowledge(Outcome::Succeeded, evidence));
    all.extend(evidence().into_iter().map(|(name, evidence)| (name, proved(evidence))));
    let named = |kind| proved(Evidence::File(file(kind)));
    all.extend(files().into_iter().map(|(name, kind)| (name, named(kind))));
    all.push(("ran_and_printed", Message::Guest(FromGuest::Acknowledge(Box::new(ran_and_printed())))));
    all.push(("welcome_proof", Message::Host(FromHost::Welcome(proved_welcome()))));
    all.push(("hello_enrolment", Message::Guest(FromGuest::Hello(Box::new(enrolling_hello())))));
    all.push(("hello_first", Message::Guest(FromGuest::Hello(Box::new(first_hello())))));
    let attached = Attached { request: request(), from: None };
    all.push(("attached_unknown", Message::Host(FromHost::Attached(attached))));
    all.sort_by_key(|(name, _)| *name);
    all.dedup();
    all
}

pub fn push() -> Push {
    let program = Program::new(Digest::new([0x44; 32]), 10, text("fix.sh")).unwrap();
    let offer = offer(Action::Run(run(Executable::Program(program))));
    Push { offer, program: b"#!/bin/sh\n".to_vec() }
}

pub fn fingerprint() -> Fingerprint {
    Fingerprint::new(Digest::new([0x66; 32]))
}

/// What one looks like: nobody reads it on the way.
pub fn signed(target: Target) -> Signed {
    let path = if let Target::Guests { .. } = target { vec![Digest::new([0x61; 32])] } else { Vec::new() };
    let nonce = Nonce::new([0x6e; 32]);
    let terms = Terms { target, not_before_s: Some(1_795_000_000), expires_s: 1_800_000_000, nonce };
    let proof = Proof { index: if path.is_empty() { 0 } else { 2 }, path };
    Signed { terms, proof, signature: SshSignature::try_from(b"SSHSIG-and-so-on".to_vec()).unwrap() }
}

fn signed_offer(target: Target) -> FromHost {
    let get = Action::Get(Get { path: "/etc/fstab".parse().unwrap() });
    FromHost::Offer(Box::new(Offer { signed: Some(Box::new(signed(target))), ..offer(get) }))
}

fn number(number: u8) -> NonZeroU8 {
    NonZeroU8::new(number).unwrap()
}

pub fn request() -> RequestId {
    RequestId::new([0x52; 16])
}

pub fn greeting() -> Greeting {
    Greeting {
        version_min: 0,
        version_max: 1,
        nonce: Nonce::new([0x11; 32]),
        host_time_ms: 1_767_225_600_000,
    }
}

pub fn welcome() -> Welcome {
    Welcome { token: SessionToken::new([0x22; 32]), host_time_ms: 1_767_225_600_000, proof: None }
}

pub fn proved_welcome() -> Welcome {
    let proof =
        ManagerProof { public_key: PublicKey::new([0x38; 32]), signature: Signature::new([0x39; 64]) };
    Welcome { proof: Some(proof), ..welcome() }
}

pub fn hello() -> Hello {
    let claims = Claims {
        version: 1,
        nonce: Nonce::new([0x33; 32]),
        public_key: PublicKey::new([0x34; 32]),
        boot_id: BootId::new([0x35; 16]),
        generation: Some(Generation::new([0x36; 16])),
        token: Some(SessionToken::new([0x22; 32])),
        capabilities: Capabilities(0x3ff),
        agent: text("0.1.0"),
        sequence_max: 251,
        clock_us: 5_000_000,
    };
    Hello { claims, proof: Signature::new([0x37; 64]), enrolment: None }
}

pub fn enrolling_hello() -> Hello {
    let enrolment = Enrolment { token: PublicKey::new([0x3a; 32]), proof: Signature::new([0x3b; 64]) };
    Hello { enrolment: Some(enrolment), ..first_hello() }
}

pub fn first_hello() -> Hello {
    let mut hello = hello();
    hello.claims.generation = None;
    hello.claims.token = None;
    hello.claims.sequence_max = 0;
    hello
}

pub fn offer(action: Action) -> Offer {
    Offer {
        request: request(),
        sequence: Some(Sequence::try_from(7).unwrap()),
        floor: 5,
        action,
        timeout_ms: Some(60_000),
        idempotent: true,
        signed: None,
    }
}

/// A program of the guest reads nothing and has no limits of its own; one that comes over the channel has all.
pub fn run(executable: Executable) -> Run {
    let comes = matches!(executable, Executable::Program(_));
    let limits = Limits {
        memory_max: Some(268_435_456),
        processes_max: Some(64),
        cpu_percent_max: Some(150),
        output_len_max: OUTPUT_MAX,
    };
    Run::try_from(RunParts {
        executable,
        args: vec!["-a".to_owned()],
        env: vec![("LANG".to_owned(), "C".to_owned())],
        cwd: Some("/tmp".parse::<GuestPath>().unwrap()),
        user: comes.then(|| text("nobody")),
        input: if comes { Input::Stream } else { Input::None },
        limits: if comes { limits } else { Limits::default() },
        new_privileges: comes,
    })
    .unwrap()
}

/// Output bytes that are kept of each stream of the program that comes over the channel.
pub const OUTPUT_MAX: u64 = 1_048_576;

pub fn program() -> Executable {
    Executable::Program(Program::new(Digest::new([0x44; 32]), 310, text("fix.sh")).unwrap())
}

pub fn in_guest() -> Executable {
    Executable::InGuest(Command::try_from("uname".to_owned()).unwrap())
}

pub fn put(form: Form) -> Put {
    let file = form == Form::File;
    Put {
        path: "/etc/fstab".parse().unwrap(),
        payload: Payload::new(Digest::new([0x44; 32]), 310).unwrap(),
        form,
        mode: file.then(|| Mode::try_from(0o644).unwrap()),
        owner: file.then(|| text("root:adm")),
        replace: !file,
    }
}

fn window() -> Window {
    Window { rows: 24, columns: 80 }
}

pub fn spooled(end: u64, bytes: u32) -> Spooled {
    Spooled { request: request(), stream: Stream::Stdout, end, bytes }
}

/// Six bytes have come and four of them were taken.
pub fn attach() -> Attach {
    Attach { request: request(), input: 6, taken: 4 }
}

pub fn input(offset: u64) -> message::Input {
    message::Input { request: request(), offset, bytes: b"hello\n".to_vec() }
}

pub fn progress(stage: Stage) -> Progress {
    Progress { request: request(), stage, at_us: 5_000_000 }
}

pub fn output(stream: Stream) -> Output {
    Output { request: request(), stream, offset: 0, bytes: b"Linux\n".to_vec() }
}

pub fn acknowledgement(outcome: Outcome, evidence: Evidence) -> Acknowledgement {
    let stdout = StreamTotal { kept: 6, dropped: 0, digest: None };
    let output = OutputTotals { stdout, stderr: StreamTotal::default() };
    let ran = Some(Ran {
        started_us: 5_000_000,
        first_output_us: None,
        exited_us: 5_020_000,
        ended_us: 5_020_000,
        usage: None,
    });
    Acknowledgement { request: request(), outcome, evidence, output, ran }
}

/// All that can be told of a program.
pub fn ran_and_printed() -> Acknowledgement {
    let mut told = acknowledgement(Outcome::Succeeded, Evidence::None);
    told.output.stdout.digest = Some(Digest::new([0x46; 32]));
    let usage =
        Usage { cpu_user_us: 9000, cpu_system_us: 1000, memory_peak: Some(1_048_576), oom_killed: true };
    told.ran = told.ran.map(|ran| Ran { first_output_us: Some(5_010_000), usage: Some(usage), ..ran });
    told
}

fn not_started(fault: StartFault) -> Outcome {
    Outcome::NotStarted(NotStarted { fault, errno: 2 })
}

fn file(kind: FileKind) -> FileEvidence {
    FileEvidence {
        path: "/etc/fstab".parse().unwrap(),
        kind,
        len: 310,
        digest: (kind == FileKind::File).then(|| Digest::new([0x44; 32])),
        mode: Mode::try_from(0o644).unwrap(),
        uid: 0,
        gid: 4,
        entries: if kind == FileKind::Tree { 3 } else { 1 },
    }
}

fn acknowledge(outcome: Outcome, evidence: Evidence) -> FromGuest {
    FromGuest::Acknowledge(Box::new(acknowledgement(outcome, evidence)))
}

pub fn link(flags: u32) -> LinkState {
    let name = "eth0".parse::<LinkName>().unwrap();
    LinkState { index: 2, name, mac: Some(mac()), flags, carrier: Some(flags & 1 != 0), mtu: 1500 }
}

fn loopback() -> LinkState {
    let name = "lo".parse::<LinkName>().unwrap();
    LinkState { index: 1, name, mac: None, flags: 0x49, carrier: None, mtu: 65536 }
}

fn by_name() -> LinkSelector {
    LinkSelector::Name("eth0".parse().unwrap())
}

fn mac() -> MacAddress {
    MacAddress::new([0x52, 0x54, 0, 0x12, 0x34, 0x56])
}

pub fn text(text: &str) -> ShortText {
    text.parse().unwrap()
}
