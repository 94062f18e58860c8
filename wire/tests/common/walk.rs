//! Sessions in every state, each reached by the real steps, and what every frame and every call does there.
//!
//! Connections and requests have rows of their own. `golden` compares the outcome with the tables and pictures
//! on paper.

use super::samples::{self, greeting, hello, offer, output, progress, request, welcome};
use super::{START, id};
use doorbell_wire::error::{Reason, SessionError};
use doorbell_wire::ids::{RequestId, Tick};
use doorbell_wire::limits::{HANDS_MAX, HEARTBEAT_MS};
use doorbell_wire::message::action::{Action, Executable};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome};
use doorbell_wire::message::{
    Attach, Attached, Chunk, Credit, FromGuest, FromHost, InputEnd, Offer, Offsets, Progress, Push, Stage,
    Stream,
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

/// Every state of the agent's connection.
pub const GUEST_ROWS: &[Row<Guest>] = &[
    Row { state: "Greeting", when: "", make: || Guest::connected(START) },
    Row { state: "Introducing", when: "", make: introducing },
    Row { state: "Proving", when: "", make: proving },
    Row { state: "Settling", when: "", make: settling },
    Row { state: "Pulling", when: "", make: pulling },
    Row { state: "Pulling", when: "rung", make: || host_says(pulling(), FromHost::Ring) },
    Row { state: "Working", when: "", make: working },
    Row { state: "Working", when: "every hand full", make: full },
];

/// Every state of a request in the agent's hands.
pub const GUEST_HANDS: &[Row<Guest>] = &[
    Row { state: NOWHERE, when: "", make: working },
    Row { state: "Attaching", when: "", make: presented },
    Row { state: "Deciding", when: "", make: deciding },
    Row { state: "Fetching", when: "", make: fetching },
    Row { state: "Fetching", when: "all is there", make: fetched },
    Row { state: "Applying", when: "", make: printed },
    Row { state: "Applying", when: "not started", make: || applying(fetched()) },
    Row { state: "Applying", when: "reads nothing", make: || begun(applying(given(samples::in_guest()))) },
    Row { state: "Acking", when: "", make: || finished(printed()) },
    Row { state: "Acking", when: "a fetch was given up", make: || finished(fetching()) },
];

/// Every state of the manager's connection.
pub const HOST_ROWS: &[Row<Host>] = &[
    Row { state: "Greeted", when: "", make: greeted },
    Row { state: "Judging", when: "", make: judging },
    Row { state: "Settling", when: "", make: welcomed },
    Row { state: "Settling", when: "every hand full", make: full_host },
    Row { state: "Asked", when: "", make: || guest_says(serving(), FromGuest::Pull) },
    Row { state: "Quiet", when: "", make: serving },
];

/// Every state of a request in the guest's hands.
pub const HOST_HANDS: &[Row<Host>] = &[
    Row { state: NOWHERE, when: "", make: welcomed },
    Row { state: "Attaching", when: "", make: attaching },
    Row {
        state: "Attaching",
        when: "input waits there",
        make: || guest_says(welcomed(), FromGuest::Attach(Attach { taken: 0, ..samples::attach() })),
    },
    Row { state: "Offered", when: "", make: offered },
    Row { state: "Serving", when: "", make: serving },
    Row { state: "Applying", when: "", make: applying_host },
    Row { state: "Applying", when: "output not wanted", make: || resumed(None) },
    Row { state: "Storing", when: "", make: || guest_says(applying_host(), acknowledge()) },
];

/// Where a request is that nobody has in hand.
pub const NOWHERE: &str = "not in hand";

/// The frames that say something about the connection; all others speak of one request.
const OF_CONNECTION: &[&str] = &[
    "RING",
    "GREETING",
    "WELCOME",
    "OFFER",
    "NOTHING",
    "PING",
    "HOST_BYE",
    "HELLO",
    "PULL",
    "ATTACH",
    "CHUNK_CREDIT",
    "CLOCK",
    "PUSH",
    "POLLS",
    "PONG",
    "GUEST_BYE",
];

/// Those that say something about both.
const OF_BOTH: &[&str] = &["OFFER", "PUSH", "ATTACH"];

pub fn is_of_connection(frame: &str) -> bool {
    OF_CONNECTION.contains(&frame)
}

pub fn is_of_request(frame: &str) -> bool {
    !is_of_connection(frame) || OF_BOTH.contains(&frame)
}

/// Every column of the agent's tables: the frame as its rules allow it.
pub fn guest_columns() -> Vec<(String, FromHost)> {
    let in_place = |message| match message {
        FromHost::Offer(_) => offer_of(samples::program()),
        FromHost::OutputCredit(_) => FromHost::OutputCredit(samples::spooled(6, 6)),
        FromHost::InputEnd(end) => FromHost::InputEnd(InputEnd { len: 0, ..end }),
        other => other,
    };
    let list = samples::from_host().into_iter().map(|(_, message)| in_place(message));
    list.map(|message| (message.kind().name().to_owned(), message)).collect()
}

/// Every column of the manager's tables: the frame as its rules allow it.
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
            FromGuest::Attach(_) => columns.push((name, FromGuest::Attach(fresh(request())))),
            other => columns.push((name, other)),
        }
    }
    columns
}

/// What a frame does to the connection: the cell of the table, and the state behind it.
pub fn guest_cell(row: &Row<Guest>, message: FromHost) -> (String, Option<&'static str>) {
    let session = (row.make)();
    assert_eq!(session.state(), row.state, "the steps to this row lead elsewhere");
    met(session.receive(START, message), row.state, Guest::state)
}

/// What a frame does to its request. An offer comes behind a ring, and so behind a pull.
pub fn guest_hand_cell(row: &Row<Guest>, message: FromHost) -> (String, Option<&'static str>) {
    let mut session = (row.make)();
    assert_eq!((session.state(), guest_hand(&session)), ("Working", row.state), "the steps lead elsewhere");
    if let FromHost::Offer(_) = message {
        session = host_says(session, FromHost::Ring);
    }
    met(session.receive(START, message), row.state, guest_hand)
}

/// What a frame does to the connection: the cell of the table, and the state behind it.
pub fn host_cell(row: &Row<Host>, message: FromGuest) -> (String, Option<&'static str>) {
    let mut session = (row.make)();
    assert_eq!(session.state(), row.state, "the steps to this row lead elsewhere");
    if session.is_open() {
        session = drained_host(session.expire(START.after(HEARTBEAT_MS)).unwrap());
    }
    met_host(session.receive(START, message), row.state, Host::state)
}

/// What a frame does to its request.
pub fn host_hand_cell(row: &Row<Host>, message: FromGuest) -> (String, Option<&'static str>) {
    let session = (row.make)();
    assert_eq!(host_hand(&session), row.state, "the steps to this row lead elsewhere");
    met_host(session.receive(START, message), row.state, host_hand)
}

pub fn guest_hand(session: &Guest) -> &'static str {
    session.state_of(request()).unwrap_or(NOWHERE)
}

pub fn host_hand(session: &Host) -> &'static str {
    session.state_of(request()).unwrap_or(NOWHERE)
}

/// What the passing of time does.
pub fn guest_deadline(row: &Row<Guest>) -> String {
    let mut session = (row.make)();
    let GuestOwed::Wait(tick) = session.poll() else { panic!("{} was not drained", row.state) };
    late(&session.expire(tick).unwrap_err())
}

/// What the passing of time does to a request; what it does to its connection is told there.
pub fn guest_hand_deadline(row: &Row<Guest>) -> String {
    let mut session = (row.make)();
    let tick = deadline(&mut session);
    let error = session.expire(tick).unwrap_err();
    let SessionError::Silent(silent) = &error else { panic!("{error} is not a passed deadline") };
    if silent.state == row.state { late(&error) } else { "none of its own".to_owned() }
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

/// The agent's calls that change the state of a connection, by name.
pub fn guest_calls() -> Vec<Call<Guest>> {
    vec![("introduce()", |guest| guest.introduce(hello())), ("pull()", Guest::pull)]
}

/// The agent's calls that change the state of a request, by name.
pub fn guest_hand_calls() -> Vec<Call<Guest>> {
    vec![
        ("attach()", |guest| {
            // Presented before the first pull, or not at all.
            let new = guest_hand(&guest) == NOWHERE;
            if new { settling() } else { guest }.attach(request(), 0, 0)
        }),
        ("fetch()", |guest| guest.fetch(START, request(), 0)),
        ("apply()", |guest| guest.apply(request())),
        ("acknowledge()", |guest| guest.acknowledge(acknowledgement())),
    ]
}

/// The manager's calls that change the state of a connection, by name.
pub fn host_calls() -> Vec<Call<Host>> {
    vec![
        ("welcome()", |host| host.welcome(welcome())),
        ("offer()", |host| host.offer(Offer { request: other(), ..offer(Action::LinkList) })),
        ("nothing()", Host::nothing),
    ]
}

/// The manager's calls that change the state of a request, by name.
pub fn host_hand_calls() -> Vec<Call<Host>> {
    vec![
        ("offer()", |host| {
            let new = host_hand(&host) == NOWHERE;
            if new { asked() } else { host }.offer(offer(Action::Run(samples::run(samples::program()))))
        }),
        ("push()", |host| {
            let new = host_hand(&host) == NOWHERE;
            let quiet = if new { drained_host(asked().nothing().unwrap()) } else { host };
            let offer = offer(Action::Run(samples::run(samples::program())));
            quiet.push(Push { offer, program: Vec::new() })
        }),
        ("attached()", |host| host.attached(request(), Some(Offsets::default()), samples::OUTPUT_MAX)),
        ("noted()", |host| host.noted(request())),
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

pub fn pulling() -> Guest {
    drained(settling().pull().unwrap())
}

pub fn working() -> Guest {
    host_says(pulling(), FromHost::Nothing)
}

/// Every hand holds a request of an earlier session, so nothing is pulled.
pub fn full() -> Guest {
    let hands = (0..HANDS_MAX).map(|number| id(u8::try_from(number).unwrap()));
    drained(
        hands
            .fold(settling(), |guest, request| drained(guest.attach(request, 0, 0).unwrap()))
            .pull()
            .unwrap(),
    )
}

/// A request of an earlier session whose answer is awaited, beside a pull that found nothing.
pub fn presented() -> Guest {
    let attaching = drained(settling().attach(request(), 0, 0).unwrap());
    host_says(drained(attaching.pull().unwrap()), FromHost::Nothing)
}

pub fn given(executable: Executable) -> Guest {
    host_says(pulling(), offer_of(executable))
}

pub fn deciding() -> Guest {
    given(samples::program())
}

/// 300 of 310 bytes are there.
pub fn fetching() -> Guest {
    let asked = drained(deciding().fetch(START, request(), 0).unwrap());
    host_says(asked, FromHost::Chunk(Chunk { request: request(), offset: 0, bytes: vec![b'#'; 300] }))
}

pub fn fetched() -> Guest {
    host_says(fetching(), FromHost::Chunk(Chunk { request: request(), offset: 300, bytes: vec![b'#'; 10] }))
}

pub fn applying(guest: Guest) -> Guest {
    drained(guest.apply(request()).unwrap())
}

pub fn begun(guest: Guest) -> Guest {
    drained(guest.progress(progress(Stage::Started)).unwrap())
}

/// It has started and printed six bytes that no credit has come for.
pub fn printed() -> Guest {
    drained(begun(applying(fetched())).output(output(Stream::Stdout)).unwrap())
}

pub fn finished(guest: Guest) -> Guest {
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

pub fn full_host() -> Host {
    let hands = (0..HANDS_MAX).map(|number| id(u8::try_from(number).unwrap()));
    hands.fold(welcomed(), |host, request| guest_says(host, FromGuest::Attach(fresh(request))))
}

pub fn asked() -> Host {
    guest_says(welcomed(), FromGuest::Pull)
}

pub fn attaching() -> Host {
    guest_says(welcomed(), FromGuest::Attach(fresh(request())))
}

pub fn offered() -> Host {
    drained_host(asked().offer(offer(Action::Run(samples::run(samples::program())))).unwrap())
}

/// 300 of 310 bytes are on their way.
pub fn serving() -> Host {
    let (_, fetch) = samples::from_guest().into_iter().find(|(name, _)| *name == "fetch").unwrap();
    drained_host(guest_says(offered(), fetch).chunk(request(), vec![b'#'; 300]).unwrap())
}

pub fn resumed(from: Option<Offsets>) -> Host {
    drained_host(attaching().attached(request(), from, samples::OUTPUT_MAX).unwrap())
}

/// The guest has told no station, for it attached; six bytes of input are on their way.
pub fn applying_host() -> Host {
    drained_host(resumed(Some(Offsets::default())).input(request(), vec![b'i'; 6]).unwrap())
}

pub fn offer_of(executable: Executable) -> FromHost {
    FromHost::Offer(Box::new(offer(Action::Run(samples::run(executable)))))
}

/// Presents a request of whose input nothing is there.
pub fn fresh(request: RequestId) -> Attach {
    Attach { request, input: 0, taken: 0 }
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

pub fn chunk_credit(bytes: u32) -> FromGuest {
    FromGuest::ChunkCredit(Credit { bytes })
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

fn met(
    result: Result<Guest, SessionError>,
    before: &str,
    place: fn(&Guest) -> &'static str,
) -> (String, Option<&'static str>) {
    match result {
        Ok(mut session) => {
            let owed = drain(&mut session).iter().map(guest_owed).collect::<Vec<_>>();
            (cell(before, place(&session), &owed), Some(place(&session)))
        }
        Err(error) => (refused(&error), None),
    }
}

fn met_host(
    result: Result<Host, SessionError>,
    before: &str,
    place: fn(&Host) -> &'static str,
) -> (String, Option<&'static str>) {
    match result {
        Ok(mut session) => {
            let owed = drain_host(&mut session).iter().map(host_owed).collect::<Vec<_>>();
            (cell(before, place(&session), &owed), Some(place(&session)))
        }
        Err(error) => (refused(&error), None),
    }
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
        GuestOwed::Attached(..) => "continue".to_owned(),
        GuestOwed::Offered(_) | GuestOwed::Pushed(_) => "decide".to_owned(),
        GuestOwed::Clock(_) => "set the clock".to_owned(),
        GuestOwed::Stage(_) => "stage".to_owned(),
        GuestOwed::Input(_) => "feed".to_owned(),
        GuestOwed::InputEnd(_) => "end its input".to_owned(),
        GuestOwed::Resize(_) => "resize".to_owned(),
        GuestOwed::Spooled(_) => "give space back".to_owned(),
        GuestOwed::Cancel(_) => "cancel".to_owned(),
        GuestOwed::Forget(_) => "forget".to_owned(),
        GuestOwed::Wait(_) => panic!("waiting is not owed"),
    }
}

fn host_owed(owed: &HostOwed) -> String {
    match owed {
        HostOwed::Send(message) => format!("send {}", message.kind().name()),
        HostOwed::Polls(_) => "note it".to_owned(),
        HostOwed::Judge(_) => "judge".to_owned(),
        HostOwed::Pulled => "look for work".to_owned(),
        HostOwed::Attach(_) => "look it up".to_owned(),
        HostOwed::Serve(_) => "serve".to_owned(),
        HostOwed::Progress(_) => "record".to_owned(),
        HostOwed::Spool(_) => "spool".to_owned(),
        HostOwed::InputTaken(_) => "send input".to_owned(),
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
