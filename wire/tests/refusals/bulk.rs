//! Bytes that go either way: place, length, credit, and that no credit is ever lost.

use crate::common::walk::{
    self, applying_host, drain, drain_host, drained, drained_host, fetching, guest_says, host_says, printed,
    resumed, serving, settling,
};
use crate::common::{START, id, samples};
use crate::refused;
use doorbell_wire::error::Misbehaved;
use doorbell_wire::ids::{Digest, RequestId};
use doorbell_wire::limits::{BULK_WINDOW, CHUNK_LEN_MAX, INPUT_LEN_MAX, INPUT_WINDOW};
use doorbell_wire::message::action::{Action, Executable, Program};
use doorbell_wire::message::{
    Attached, Chunk, Credit, Fetch, FromGuest, FromHost, Input, InputCredit, InputEnd, Offer, Offsets,
    Output, Spooled, Stream,
};
use doorbell_wire::session::guest::{Guest, Owed as GuestOwed};
use doorbell_wire::session::host::{Host, Owed as HostOwed};

#[test]
fn a_chunk_that_leaves_a_gap_or_overlaps_is_refused() {
    for got in [0, 299, 301, u64::MAX] {
        let expected = Misbehaved::ChunkOffset { frame: "CHUNK", got, expected: 300 };
        refused(fetching().receive(START, chunk(samples::request(), got, 1)), expected);
    }
}

#[test]
fn a_chunk_beyond_the_end_of_the_program_is_refused() {
    assert!(fetching().receive(START, chunk(samples::request(), 300, 10)).is_ok());
    let expected = Misbehaved::ChunkBeyondEnd { frame: "CHUNK", got: 311, len: 310 };
    refused(fetching().receive(START, chunk(samples::request(), 300, 11)), expected);
}

#[test]
fn a_fetch_that_is_resumed_begins_where_it_says() {
    let guest = drained(walk::deciding().fetch(START, samples::request(), 300).unwrap());
    assert!(guest.receive(START, chunk(samples::request(), 300, 10)).is_ok());
    let fetch = FromGuest::Fetch(Fetch { request: samples::request(), offset: 300 });
    let host = guest_says(walk::offered(), fetch);
    assert_eq!(host.chunk_room(), Some((samples::request(), 300, 10)));
}

#[test]
fn a_chunk_of_no_bytes_or_of_too_many_is_refused() {
    let request = samples::request();
    for got in [0, CHUNK_LEN_MAX + 1] {
        let wrong = |frame| Misbehaved::ChunkLength { frame, got, max: CHUNK_LEN_MAX };
        refused(fetch_of(&[request]).receive(START, chunk(request, 0, got)), wrong("CHUNK"));
        refused(applying_host().receive(START, output(request, 0, got)), wrong("OUTPUT"));
        refused(printed().receive(START, input(0, got)), wrong("INPUT"));
    }
    assert!(fetch_of(&[request]).receive(START, chunk(request, 0, CHUNK_LEN_MAX)).is_ok());
    assert!(applying_host().receive(START, output(request, 0, CHUNK_LEN_MAX)).is_ok());
    assert!(printed().receive(START, input(0, CHUNK_LEN_MAX)).is_ok());
}

#[test]
fn bulk_beyond_its_credit_is_refused() {
    let request = samples::request();
    let full = u64::from(BULK_WINDOW);
    let exceeded = |frame, got, credit| Misbehaved::CreditExceeded { frame, got, credit };
    let fill =
        || send_window(fetch_of(&[request]), |guest, offset| host_says(guest, chunk(request, offset, LEN)));
    refused(fill().receive(START, chunk(request, full, 1)), exceeded("CHUNK", 1, 0));
    let spent = host_says(drained(fill().staged(1).unwrap()), chunk(request, full, 1));
    refused(spent.receive(START, chunk(request, full + 1, 1)), exceeded("CHUNK", 1, 0));
    let fill = || send_window(applying_host(), |host, offset| guest_says(host, output(request, offset, LEN)));
    let spooled = || drained_host(fill().spooled(request, Stream::Stdout, 5, 5).unwrap());
    refused(spooled().receive(START, output(request, full, 6)), exceeded("OUTPUT", 6, 5));
    assert!(spooled().receive(START, output(request, full, 5)).is_ok(), "the credit is whole");
}

#[test]
fn credit_beyond_the_window_is_refused() {
    assert!(serving().receive(START, walk::chunk_credit(300)).is_ok(), "300 bytes are on their way");
    for got in [0, 301, u32::MAX] {
        let error = Misbehaved::CreditOverflow { got, room: 300 };
        refused(serving().receive(START, walk::chunk_credit(got)), error);
    }
    let output_credit = |bytes| FromHost::OutputCredit(samples::spooled(6, bytes));
    assert!(printed().receive(START, output_credit(6)).is_ok(), "6 bytes were printed");
    for got in [0, 7, u32::MAX] {
        refused(printed().receive(START, output_credit(got)), Misbehaved::CreditOverflow { got, room: 6 });
    }
    let input_credit = |bytes| {
        let request = samples::request();
        FromGuest::InputCredit(InputCredit { request, bytes })
    };
    assert!(applying_host().receive(START, input_credit(6)).is_ok(), "6 bytes of input were sent");
    for got in [0, 7, u32::MAX] {
        refused(
            applying_host().receive(START, input_credit(got)),
            Misbehaved::CreditOverflow { got, room: 6 },
        );
    }
}

#[test]
fn more_stored_than_was_sent_is_refused() {
    let told = |end, stream| FromHost::OutputCredit(Spooled { stream, ..samples::spooled(end, 6) });
    let mut guest = printed().receive(START, told(6, Stream::Stdout)).unwrap();
    assert_eq!(drain(&mut guest), [GuestOwed::Spooled(samples::spooled(6, 6))]);
    refused(printed().receive(START, told(7, Stream::Stdout)), Misbehaved::StoredUnsent { got: 7, sent: 6 });
    refused(printed().receive(START, told(1, Stream::Stderr)), Misbehaved::StoredUnsent { got: 1, sent: 0 });
}

#[test]
fn input_never_exceeds_its_window() {
    let window = u64::from(INPUT_WINDOW);
    let fill = || (0..2).fold(printed(), |guest, at| host_says(guest, input(at * LEN as u64, LEN)));
    let error = Misbehaved::CreditExceeded { frame: "INPUT", got: 1, credit: 0 };
    refused(fill().receive(START, input(window, 1)), error);
    let request = samples::request();
    let mut guest = fill().input_taken(request, 5).unwrap();
    let credit = FromGuest::InputCredit(InputCredit { request, bytes: 5 });
    assert_eq!(drain(&mut guest), [GuestOwed::Send(credit)]);
    let error = Misbehaved::CreditExceeded { frame: "INPUT", got: 6, credit: 5 };
    refused(guest.receive(START, input(window, 6)), error);
    // However often the session is lost, what waits for the program stays within one window.
    for (taken, room) in [(0, 0), (1, 1), (window - 1, LEN), (window, LEN)] {
        let guest = drained(settling().attach(request, window, taken).unwrap());
        let guest = host_says(guest, walk::attached(None));
        let attach = doorbell_wire::message::Attach { request, input: window, taken };
        let host = guest_says(walk::welcomed(), FromGuest::Attach(attach));
        let host = drained_host(host.attached(request, None, 0).unwrap());
        assert_eq!(host.input_room(request), Some((window, room)).filter(|_| room > 0), "{taken} taken");
        if room > 0 && room < LEN {
            assert!(guest.receive(START, input(window, room)).is_ok());
        } else if room == 0 {
            let error = Misbehaved::CreditExceeded { frame: "INPUT", got: 1, credit: 0 };
            refused(guest.receive(START, input(window, 1)), error);
        }
    }
}

#[test]
fn input_that_leaves_a_gap_or_goes_beyond_its_end_is_refused() {
    let request = samples::request();
    for got in [1, u64::MAX] {
        let error = Misbehaved::ChunkOffset { frame: "INPUT", got, expected: 0 };
        refused(printed().receive(START, input(got, 1)), error);
        let error = Misbehaved::ChunkOffset { frame: "INPUT_END", got, expected: 0 };
        refused(printed().receive(START, FromHost::InputEnd(InputEnd { request, len: got })), error);
    }
    let ended = || host_says(printed(), FromHost::InputEnd(InputEnd { request, len: 0 }));
    refused(ended().receive(START, input(0, 1)), Misbehaved::InputEnded);
    let again = FromHost::InputEnd(InputEnd { request, len: 0 });
    refused(ended().receive(START, again), Misbehaved::InputEnded);
    let last = drained(settling().attach(request, INPUT_LEN_MAX - 2, INPUT_LEN_MAX - 2).unwrap());
    let last = host_says(last, walk::attached(None));
    let error = Misbehaved::ChunkBeyondEnd { frame: "INPUT", got: INPUT_LEN_MAX + 1, len: INPUT_LEN_MAX };
    refused(last.receive(START, input(INPUT_LEN_MAX - 2, 3)), error);
}

#[test]
fn input_behind_the_end_of_its_program_is_checked_and_dropped() {
    let fed = walk::finished(host_says(printed(), input(0, 10)));
    let mut guest = fed.receive(START, input(10, 10)).unwrap();
    assert_eq!(drain(&mut guest), [], "the program is over");
    let request = samples::request();
    let mut guest = guest.input_taken(request, 10).unwrap();
    assert_eq!(drain(&mut guest), [], "and nobody waits for its credit");
    let mut guest = guest.receive(START, FromHost::InputEnd(InputEnd { request, len: 20 })).unwrap();
    assert_eq!(drain(&mut guest), []);
    refused(guest.receive(START, input(20, 1)), Misbehaved::InputEnded);
    let fed = walk::finished(host_says(printed(), input(0, 10)));
    let error = Misbehaved::ChunkOffset { frame: "INPUT", got: 11, expected: 10 };
    refused(fed.receive(START, input(11, 1)), error);
}

#[test]
fn input_taken_while_an_attach_awaits_its_answer_is_told() {
    let request = samples::request();
    let guest = drained(settling().attach(request, 6, 4).unwrap());
    let mut guest = guest.input_taken(request, 2).unwrap();
    let credit = FromGuest::InputCredit(InputCredit { request, bytes: 2 });
    assert_eq!(drain(&mut guest), [GuestOwed::Send(credit.clone())]);
    let host = guest_says(walk::welcomed(), FromGuest::Attach(samples::attach()));
    let mut host = host.receive(START, credit).unwrap();
    assert_eq!(drain_host(&mut host), [HostOwed::InputTaken(request)]);
    let host = drained_host(host.attached(request, None, 0).unwrap());
    let sent = (0..2).fold(host, |host, _| drained_host(host.input(request, vec![0; LEN]).unwrap()));
    assert_eq!(sent.input_room(request), None, "the whole window and not a byte less");
}

#[test]
fn a_fetch_that_is_given_up_costs_neither_the_session_nor_credit() {
    let request = samples::request();
    let guest = host_says(fetch_of(&[request]), chunk(request, 0, LEN));
    let mut guest = drained(guest.acknowledge(walk::acknowledgement()).unwrap());
    // What was on its way comes back as it is thrown away, so that twice a window can come.
    for index in 1..8 {
        guest = guest.receive(START, chunk(request, index * LEN as u64, LEN)).unwrap();
        let credit = Credit { bytes: u32::try_from(LEN).unwrap() };
        assert_eq!(drain(&mut guest), [GuestOwed::Send(FromGuest::ChunkCredit(credit))]);
    }
    // And what had been handed out is given back by the link, whenever it has thrown it away.
    let guest = host_says(guest, FromHost::Noted(request));
    let guest = drained(guest.staged(u32::try_from(LEN).unwrap()).unwrap());
    let again = host_says(guest, large(id(9)));
    let again = drained(again.fetch(START, id(9), 0).unwrap());
    let full = send_window(again, |guest, offset| host_says(guest, chunk(id(9), offset, LEN)));
    let exceeded = Misbehaved::CreditExceeded { frame: "CHUNK", got: 1, credit: 0 };
    refused(full.receive(START, chunk(id(9), u64::from(BULK_WINDOW), 1)), exceeded);
    // A gap in them is a gap.
    let guest = drained(fetch_of(&[request]).acknowledge(walk::acknowledgement()).unwrap());
    let gap = Misbehaved::ChunkOffset { frame: "CHUNK", got: 1, expected: 0 };
    refused(guest.receive(START, chunk(request, 1, 1)), gap);
}

#[test]
fn credit_is_conserved_whatever_is_abandoned() {
    // Chunks: the manager has sent a window to a fetch that is given up, and may send as much to the next one
    // once the guest has given it back; not a byte before.
    let request = samples::request();
    let serving = serve_of(&[request]);
    let sent = send_window(serving, |host, _| drained_host(host.chunk(request, vec![0; LEN]).unwrap()));
    let noted = drained_host(guest_says(sent, walk::acknowledge()).noted(request).unwrap());
    let next = serve(noted, id(9));
    assert_eq!(next.chunk_room(), None, "all credit is with the fetch that was given up");
    let next = guest_says(next, walk::chunk_credit(BULK_WINDOW));
    assert_eq!(next.chunk_room(), Some((id(9), 0, LEN)));
    // Output: what was never told as stored is given back in front of the note.
    let six = guest_says(applying_host(), output(request, 0, 6));
    let told = drained_host(six.spooled(request, Stream::Stdout, 4, 4).unwrap());
    let mut noted = guest_says(told, walk::acknowledge()).noted(request).unwrap();
    let credit = FromHost::OutputCredit(samples::spooled(0, 2));
    let expected = [HostOwed::Send(credit.clone()), HostOwed::Send(FromHost::Noted(request))];
    assert_eq!(drain_host(&mut noted), expected);
    let guest = host_says(printed(), FromHost::OutputCredit(samples::spooled(4, 4)));
    let mut guest = walk::finished(guest).receive(START, credit).unwrap();
    assert_eq!(drain(&mut guest), [], "all its space is given back at once");
    refused(
        host_says(guest, FromHost::Noted(request))
            .receive(START, FromHost::OutputCredit(samples::spooled(0, 1))),
        Misbehaved::WrongRequest { frame: "OUTPUT_CREDIT" },
    );
}

#[test]
fn two_fetches_take_turns() {
    let mut host = serve_of(&[id(1), id(2), id(3)]);
    let mut served = Vec::new();
    for _ in 0..4 {
        let (request, ..) = host.chunk_room().unwrap();
        served.push(request);
        host = drained_host(host.chunk(request, vec![0; 100]).unwrap());
    }
    assert_eq!(served, [id(1), id(2), id(3), id(1)]);
    // One in front of the turn goes away: the turn stays where it is.
    let mut outcome = walk::acknowledgement();
    outcome.request = id(1);
    host = guest_says(host, FromGuest::Acknowledge(Box::new(outcome)));
    host = drained_host(host.noted(id(1)).unwrap());
    let mut served = Vec::new();
    for _ in 0..3 {
        let (request, ..) = host.chunk_room().unwrap();
        served.push(request);
        host = drained_host(host.chunk(request, vec![0; 100]).unwrap());
    }
    assert_eq!(served, [id(2), id(3), id(2)]);
    // The guest takes them in any order, each in its place.
    let guest = host_says(fetch_of(&[id(1), id(2)]), chunk(id(1), 0, LEN));
    let guest = host_says(host_says(guest, chunk(id(2), 0, LEN)), chunk(id(1), LEN as u64, LEN));
    let gap = Misbehaved::ChunkOffset { frame: "CHUNK", got: 2 * LEN as u64, expected: LEN as u64 };
    refused(guest.receive(START, chunk(id(2), 2 * LEN as u64, 1)), gap);
}

#[test]
fn two_requests_share_the_window_of_output() {
    let attach = |guest: Guest, request| drained(guest.attach(request, 0, 0).unwrap());
    let guest = drained(attach(attach(settling(), id(1)), id(2)).pull().unwrap());
    let from = Some(Offsets::default());
    let answer = |guest, request| host_says(guest, FromHost::Attached(Attached { request, from }));
    let mut guest = answer(answer(guest, id(1)), id(2));
    let print = |guest: Guest, request, offset| {
        let bytes = vec![b'x'; LEN];
        drained(guest.output(Output { request, stream: Stream::Stdout, offset, bytes }).unwrap())
    };
    for offset in [0, LEN as u64] {
        guest = print(print(guest, id(1), offset), id(2), offset);
    }
    assert_eq!((guest.output_room(id(1)), guest.output_room(id(2))), (0, 0));
    // Credit for what one has printed is room for either.
    let (stream, end, bytes) = (Stream::Stdout, LEN as u64, u32::try_from(LEN).unwrap());
    let credit = FromHost::OutputCredit(Spooled { request: id(1), stream, end, bytes });
    let guest = host_says(guest, credit);
    assert_eq!((guest.output_room(id(1)), guest.output_room(id(2))), (LEN, LEN));
    // The manager's half knows each place.
    let host = [id(1), id(2)].into_iter().fold(walk::welcomed(), |host, request| {
        let host = guest_says(host, FromGuest::Attach(walk::fresh(request)));
        drained_host(host.attached(request, from, samples::OUTPUT_MAX).unwrap())
    });
    let host = guest_says(guest_says(host, output(id(1), 0, LEN)), output(id(2), 0, LEN));
    let host = guest_says(host, output(id(1), LEN as u64, LEN));
    let gap = Misbehaved::ChunkOffset { frame: "OUTPUT", got: 0, expected: LEN as u64 };
    refused(host.receive(START, output(id(2), 0, 1)), gap);
}

#[test]
fn a_frame_of_one_request_moves_nothing_of_another() {
    let host = resumed(Some(Offsets { stdout: 5, stderr: 0 }));
    let host = guest_says(host, FromGuest::Attach(walk::fresh(id(2))));
    let host = drained_host(host.attached(id(2), Some(Offsets::default()), 0).unwrap());
    assert!(host.receive(START, output(samples::request(), 5, 1)).is_ok());
}

fn chunk(request: RequestId, offset: u64, len: usize) -> FromHost {
    FromHost::Chunk(Chunk { request, offset, bytes: vec![b'#'; len] })
}

fn output(request: RequestId, offset: u64, len: usize) -> FromGuest {
    FromGuest::Output(Output { request, stream: Stream::Stdout, offset, bytes: vec![b'x'; len] })
}

fn input(offset: u64, len: usize) -> FromHost {
    FromHost::Input(Input { request: samples::request(), offset, bytes: vec![b'i'; len] })
}

/// Sends a whole window in the largest chunks.
fn send_window<S>(session: S, send: impl Fn(S, u64) -> S) -> S {
    (0..u64::from(BULK_WINDOW) / LEN as u64).fold(session, |session, index| send(session, index * LEN as u64))
}

/// A request with a program of a mebibyte.
fn large_offer(request: RequestId) -> Offer {
    let program = Program::new(Digest::new([0; 32]), 1024 * 1024, samples::text("large")).unwrap();
    Offer { request, ..samples::offer(Action::Run(samples::run(Executable::Program(program)))) }
}

fn large(request: RequestId) -> FromHost {
    FromHost::Offer(Box::new(large_offer(request)))
}

/// An agent that fetches the programs of all these at once.
fn fetch_of(requests: &[RequestId]) -> Guest {
    requests.iter().fold(walk::working(), |guest, request| {
        let offered = host_says(host_says(guest, FromHost::Ring), large(*request));
        drained(offered.fetch(START, *request, 0).unwrap())
    })
}

/// A manager of which the programs of all these are fetched at once.
fn serve_of(requests: &[RequestId]) -> Host {
    requests.iter().fold(walk::welcomed(), |host, request| serve(host, *request))
}

fn serve(host: Host, request: RequestId) -> Host {
    let offered = drained_host(guest_says(host, FromGuest::Pull).offer(large_offer(request)).unwrap());
    guest_says(offered, FromGuest::Fetch(Fetch { request, offset: 0 }))
}

const LEN: usize = CHUNK_LEN_MAX;
