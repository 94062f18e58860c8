//! Sessions in every state, each reached by the real steps, and what every frame and every call does there.
//!
//! `golden` compares the outcome with the tables and pictures on paper.

use super::samples::{self, greeting, hello, offer, output, progress, request, welcome};
use super::{START, id};
use doorbell_wire::error::{Reason, SessionError};
use doorbell_wire::ids::{RequestId, Tick};
use doorbell_wire::limits::HEARTBEAT_MS;
use doorbell_wire::message::action::{Action, Command, Executable};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome};
use doorbell_wire::message::{
    Attached, Chunk, Credit, FromGuest, FromHost, Offer, Offsets, Output, Progress, Stage, Stream,
};
use doorbell_wire::session::guest::{Guest, Owed as GuestOwed};
use doorbell_wire::session::host::{Host, Owed as HostOwed};

/// A way to be in a state; rows of one state differ in what they remember.
pub struct Row<S> {
    pub state: &'static str,
    pub when: &'static str,
    pub make: fn() -> S,
}

/// A driver's call by name.
pub type Call<S> = (&'static str, fn(S) -> Result<S, SessionError>);

/// Every state of the agent's half.
pub const GUEST_ROWS: &[Row<Guest>] = &[
    Row { state: "Greeting", when: "", make: || Guest::connected(START) },
    Row { state: "Introducing", when: "", make: introducing },
    Row { state: "Proving", when: "", make: proving },
    Row { state: "Settling", when: "", make: settling },
    Row { state: "Attaching", when: "", make: || drained(settling().attach(request()).unwrap()) },
    Row { state: "Pulling", when: "", make: pulling },
    Row { state: "Pulling", when: "rung", make: || host_says(pulling(), FromHost::Ring) },
    Row { state: "Idle", when: "", make: || host_says(pulling(), FromHost::Nothing) },
    Row { state: "Deciding", when: "", make: deciding },
    Row { state: "Fetching", when: "", make: fetching },
    Row { state: "Fetching", when: "all is there", make: fetched },
    Row { state: "Applying", when: "", make: || drained(fetched().apply().unwrap()) },
    Row { state: "Acking", when: "", make: || finished(drained(fetched().apply().unwrap())) },
    Row { state: "Acking", when: "a fetch was given up", make: || finished(fetching()) },
];

/// Every state of the manager's half.
pub const HOST_ROWS: &[Row<Host>] = &[
    Row { state: "Greeted", when: "", make: greeted },
    Row { state: "Judging", when: "", make: judging },
    Row { state: "Settling", when: "", make: welcomed },
    Row { state: "Quiet", when: "", make: || drained_host(asked().nothing().unwrap()) },
    Row { state: "Asked", when: "", make: asked },
    Row { state: "Attaching", when: "", make: attaching },
    Row { state: "Offered", when: "", make: offered },
    Row { state: "Serving", when: "", make: serving },
    Row { state: "Applying", when: "", make: applying_host },
    Row {
        state: "Applying",
        when: "output not wanted",
        make: || drained_host(attaching().attached(None).unwrap()),
    },
    Row { state: "Storing", when: "", make: || guest_says(applying_host(), acknowledge()) },
];

/// Every column of the agent's table: the frame as its rules allow it.
pub fn guest_columns() -> Vec<(String, FromHost)> {
    let in_place = |message| match message {
        FromHost::OutputCredit(_) => FromHost::OutputCredit(Credit { bytes: 6 }),
        other => other,
    };
    let list = samples::from_host().into_iter().map(|(_, message)| in_place(message));
    list.map(|message| (message.kind().name().to_owned(), message)).collect()
}

/// Every column of the manager's table: the frame as its rules allow it.
pub fn host_columns() -> Vec<(String, FromGuest)> {
    let mut columns = Vec::new();
    for (_, message) in samples::from_guest() {
        let name = message.kind().name().to_owned();
        match message {
            FromGuest::Progress(started) => {
                let earlier = Progress { stage: Stage::Journalled, ..started };
                columns.push((name, FromGuest::Progress(earlier)));
                columns.push(("PROGRESS Started".to_owned(), FromGuest::Progress(started)));
            }
            FromGuest::Pong(_) => columns.push((name, FromGuest::Pong(1))),
            other => columns.push((name, other)),
        }
    }
    columns
}

/// What a frame does: the cell of the table, and the state behind it.
pub fn guest_cell(row: &Row<Guest>, message: FromHost) -> (String, Option<&'static str>) {
    let session = (row.make)();
    assert_eq!(session.state(), row.state, "the steps to this row lead elsewhere");
    match session.receive(START, message) {
        Ok(mut session) => {
            let owed = drain(&mut session).iter().map(guest_owed).collect::<Vec<_>>();
            (cell(row.state, session.state(), &owed), Some(session.state()))
        }
        Err(error) => (refused(&error), None),
    }
}

/// What a frame does: the cell of the table, and the state behind it.
pub fn host_cell(row: &Row<Host>, message: FromGuest) -> (String, Option<&'static str>) {
    let mut session = (row.make)();
    assert_eq!(session.state(), row.state, "the steps to this row lead elsewhere");
    if session.is_open() {
        session = drained_host(session.expire(START.after(HEARTBEAT_MS)).unwrap());
    }
    match session.receive(START, message) {
        Ok(mut session) => {
            let owed = drain_host(&mut session).iter().map(host_owed).collect::<Vec<_>>();
            (cell(row.state, session.state(), &owed), Some(session.state()))
        }
        Err(error) => (refused(&error), None),
    }
}

/// What the passing of time does.
pub fn guest_deadline(row: &Row<Guest>) -> String {
    let mut session = (row.make)();
    let GuestOwed::Wait(tick) = session.poll() else { panic!("{} was not drained", row.state) };
    late(&session.expire(tick).unwrap_err())
}

/// What the passing of time does.
pub fn host_deadline(row: &Row<Host>) -> String {
    let mut session = (row.make)();
    let mut pings = Vec::new();
    loop {
        let HostOwed::Wait(tick) = session.poll() else { panic!("{} was not drained", row.state) };
        match session.expire(tick) {
            Ok(awake) => {
                session = awake;
                assert!(matches!(session.poll(), HostOwed::Send(FromHost::Ping(_))));
                pings.push(START.until(tick));
            }
            Err(error) if pings.is_empty() => return late(&error),
            Err(error) => return format!("PING after {pings:?} ms; {}", late(&error)),
        }
    }
}

/// The agent's calls that change a state, by name.
pub fn guest_calls() -> Vec<Call<Guest>> {
    vec![
        ("introduce()", |guest| guest.introduce(hello())),
        ("pull()", Guest::pull),
        ("attach()", |guest| guest.attach(request())),
        ("fetch()", |guest| guest.fetch(START)),
        ("apply()", Guest::apply),
        ("acknowledge()", |guest| guest.acknowledge(acknowledgement())),
    ]
}

/// The manager's calls that change a state, by name.
pub fn host_calls() -> Vec<Call<Host>> {
    vec![
        ("welcome()", |host| host.welcome(welcome())),
        ("offer()", |host| host.offer(offer(Action::Run(samples::run(samples::program()))))),
        ("nothing()", Host::nothing),
        ("attached()", |host| host.attached(Some(Offsets::default()))),
        ("noted()", Host::noted),
    ]
}

pub fn drain(session: &mut Guest) -> Vec<GuestOwed> {
    std::iter::from_fn(|| Some(session.poll()).filter(|owed| !matches!(owed, GuestOwed::Wait(_)))).collect()
}

pub fn drain_host(session: &mut Host) -> Vec<HostOwed> {
    std::iter::from_fn(|| Some(session.poll()).filter(|owed| !matches!(owed, HostOwed::Wait(_)))).collect()
}

pub fn drained(mut session: Guest) -> Guest {
    drain(&mut session);
    session
}

pub fn drained_host(mut session: Host) -> Host {
    drain_host(&mut session);
    session
}

pub fn host_says(session: Guest, message: FromHost) -> Guest {
    drained(session.receive(START, message).unwrap())
}

pub fn guest_says(session: Host, message: FromGuest) -> Host {
    drained_host(session.receive(START, message).unwrap())
}

pub fn introducing() -> Guest {
    host_says(Guest::connected(START), FromHost::Greeting(greeting()))
}

pub fn proving() -> Guest {
    drained(introducing().introduce(hello()).unwrap())
}

pub fn settling() -> Guest {
    host_says(proving(), FromHost::Welcome(welcome()))
}

/// The second pull of a session whose first request printed six bytes that no credit has come for.
pub fn pulling() -> Guest {
    let command = Executable::InGuest(Command::try_from("uname".to_owned()).unwrap());
    let first = Offer { request: id(1), ..offer(Action::Run(samples::run(command))) };
    let asked = drained(settling().pull().unwrap());
    let applying = host_says(asked, FromHost::Offer(Box::new(first))).apply().unwrap();
    let started = applying.progress(Progress { request: id(1), ..progress(Stage::Started) }).unwrap();
    let printed = started.output(Output { request: id(1), ..output(Stream::Stdout) }).unwrap();
    let outcome = Acknowledgement { request: id(1), ..acknowledgement() };
    host_says(drained(printed.acknowledge(outcome).unwrap()), FromHost::Noted(id(1)))
}

pub fn deciding() -> Guest {
    let program = offer(Action::Run(samples::run(samples::program())));
    host_says(pulling(), FromHost::Offer(Box::new(program)))
}

/// 300 of 310 bytes are there.
pub fn fetching() -> Guest {
    let asked = drained(deciding().fetch(START).unwrap());
    host_says(asked, FromHost::Chunk(Chunk { request: request(), offset: 0, bytes: vec![b'#'; 300] }))
}

pub fn fetched() -> Guest {
    host_says(fetching(), FromHost::Chunk(Chunk { request: request(), offset: 300, bytes: vec![b'#'; 10] }))
}

fn finished(guest: Guest) -> Guest {
    drained(guest.acknowledge(acknowledgement()).unwrap())
}

pub fn greeted() -> Host {
    drained_host(Host::accepted(START, greeting()))
}

pub fn judging() -> Host {
    guest_says(greeted(), FromGuest::Hello(Box::new(hello())))
}

pub fn welcomed() -> Host {
    drained_host(judging().welcome(welcome()).unwrap())
}

pub fn asked() -> Host {
    guest_says(welcomed(), FromGuest::Pull)
}

pub fn attaching() -> Host {
    guest_says(welcomed(), FromGuest::Attach(request()))
}

pub fn offered() -> Host {
    drained_host(asked().offer(offer(Action::Run(samples::run(samples::program())))).unwrap())
}

/// 300 of 310 bytes are on their way.
pub fn serving() -> Host {
    let (_, fetch) = samples::from_guest().into_iter().find(|(name, _)| *name == "fetch").unwrap();
    drained_host(guest_says(offered(), fetch).chunk(vec![b'#'; 300]).unwrap())
}

/// The guest has told the journalled station only, by an attach.
pub fn applying_host() -> Host {
    drained_host(attaching().attached(Some(Offsets::default())).unwrap())
}

pub fn attached(from: Option<Offsets>) -> FromHost {
    FromHost::Attached(Attached { request: request(), from })
}

pub fn acknowledgement() -> Acknowledgement {
    samples::acknowledgement(Outcome::Succeeded, Evidence::None)
}

pub fn acknowledge() -> FromGuest {
    FromGuest::Acknowledge(Box::new(acknowledgement()))
}

/// The tick a drained session waits for.
pub fn deadline(session: &mut Guest) -> Tick {
    let GuestOwed::Wait(tick) = session.poll() else { panic!("not drained") };
    tick
}

/// The tick a drained session waits for.
pub fn host_wakes(session: &mut Host) -> Tick {
    let HostOwed::Wait(tick) = session.poll() else { panic!("not drained") };
    tick
}

pub fn other() -> RequestId {
    id(0xee)
}

fn cell(before: &str, after: &str, owed: &[String]) -> String {
    let mut parts = Vec::new();
    if before != after {
        parts.push(format!("→ {after}"));
    }
    parts.extend_from_slice(owed);
    if parts.is_empty() { "stay".to_owned() } else { parts.join(", ") }
}

fn guest_owed(owed: &GuestOwed) -> String {
    match owed {
        GuestOwed::Send(message) => format!("send {}", message.kind().name()),
        GuestOwed::Introduce(_) => "sign".to_owned(),
        GuestOwed::Welcomed(_) => "keep the token".to_owned(),
        GuestOwed::Attached(_) => "continue".to_owned(),
        GuestOwed::Offered(_) => "decide".to_owned(),
        GuestOwed::Stage(_) => "stage".to_owned(),
        GuestOwed::Cancel(_) => "cancel".to_owned(),
        GuestOwed::Forget(_) => "forget".to_owned(),
        GuestOwed::Wait(_) => panic!("waiting is not owed"),
    }
}

fn host_owed(owed: &HostOwed) -> String {
    match owed {
        HostOwed::Send(message) => format!("send {}", message.kind().name()),
        HostOwed::Judge(_) => "judge".to_owned(),
        HostOwed::Pulled => "look for work".to_owned(),
        HostOwed::Attach(_) => "look it up".to_owned(),
        HostOwed::Serve(_) => "serve".to_owned(),
        HostOwed::Progress(_) => "record".to_owned(),
        HostOwed::Spool(_) => "spool".to_owned(),
        HostOwed::Store(_) => "store".to_owned(),
        HostOwed::Wait(_) => panic!("waiting is not owed"),
    }
}

fn refused(error: &SessionError) -> String {
    error.reason().map_or_else(|| "end".to_owned(), |Reason(code)| format!("BYE {code}"))
}

fn late(error: &SessionError) -> String {
    let SessionError::Silent(silent) = error else { panic!("{error} is not a passed deadline") };
    format!("{} after {} ms", refused(error), silent.ms)
}
