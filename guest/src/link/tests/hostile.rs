//! A manager that breaks one rule at a time: the connection ends within its deadline, and the reason is told.

use super::manager::Script;
use super::rig::Rig;
use crate::clock::now;
use crate::ended::Ended;
use crate::link::Link;
use doorbell_wire::error::{Malformed, Misbehaved, Reason, SessionError};
use doorbell_wire::frame::{Deframer, Frame};
use doorbell_wire::ids::Nonce;
use doorbell_wire::limits::{FRAME_MS_MAX, HANDSHAKE_MS_MAX, SILENCE_MS_MAX};
use doorbell_wire::message::{FromGuest, FromHost, Greeting, Kind};
use nix::poll::PollFlags;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn bytes(message: &FromHost) -> Vec<u8> {
    let mut out = Vec::new();
    message.to_frame().unwrap().write(&mut out).unwrap();
    out
}

fn greeting(version_min: u16, version_max: u16) -> FromHost {
    FromHost::Greeting(Greeting { version_min, version_max, nonce: Nonce::new([1; 32]), host_time_ms: 0 })
}

/// What a fresh link makes of these bytes, `ms` milliseconds after it has read them.
fn answer(sent: &[u8], ms: u64) -> (Ended, Option<Reason>) {
    let mut rig = Rig::new(Script::default());
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    rig.link = Link::new(ours, now());
    theirs.write_all(sent).unwrap();
    let first = rig.link.turn(now(), &mut rig.agent);
    let ended = first.and_then(|()| rig.link.turn(now().after(ms), &mut rig.agent)).unwrap_err();
    let reason = ended.reason();
    let Rig { link, .. } = rig;
    link.close(now(), reason);
    (ended, goodbye(&mut theirs))
}

/// The goodbye that came last, if any.
fn goodbye(stream: &mut UnixStream) -> Option<Reason> {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    let (mut rest, mut deframer, mut last) = (received.as_slice(), Deframer::new(), None);
    while let Some(frame) = deframer.next(&mut rest).unwrap() {
        let message = FromGuest::from_frame(&frame).unwrap();
        last = if let FromGuest::GuestBye(reason) = message { Some(reason) } else { None };
    }
    last
}

#[test]
fn garbage_is_told_and_closed_at_once() {
    let (ended, reason) = answer(b"GET / HTTP/1.1\r\n\r\n", 0);
    assert!(matches!(ended, Ended::Session(SessionError::Malformed(_))), "{ended}");
    assert_eq!(reason, Some(Reason::MALFORMED));
}

#[test]
fn a_huge_length_is_refused_before_anything_is_kept() {
    let mut huge = bytes(&greeting(0, 0));
    huge[2..6].copy_from_slice(&u32::MAX.to_le_bytes());
    let (ended, reason) = answer(&huge, 0);
    assert!(matches!(ended, Ended::Session(SessionError::Malformed(Malformed::TooLong { .. }))), "{ended}");
    assert_eq!(reason, Some(Reason::MALFORMED));
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut wrong = bytes(&greeting(0, 0));
    wrong[7] ^= 1;
    let (ended, _) = answer(&wrong, 0);
    assert!(matches!(ended, Ended::Session(SessionError::Malformed(Malformed::Checksum { .. }))), "{ended}");
}

#[test]
fn a_version_that_is_not_spoken_is_told() {
    let (ended, reason) = answer(&bytes(&greeting(40, 50)), 0);
    assert!(matches!(ended, Ended::Session(SessionError::Incompatible(_))), "{ended}");
    assert_eq!(reason, Some(Reason::INCOMPATIBLE));
}

#[test]
fn half_a_frame_has_a_deadline() {
    let (ended, _) = answer(&bytes(&greeting(0, 0))[..20], HANDSHAKE_MS_MAX);
    assert!(matches!(ended, Ended::Session(SessionError::Silent(_))), "{ended}");
    let mut rig = Rig::new(Script::default());
    rig.until(|rig| rig.manager.seen.pulls == 1);
    rig.manager.stream.write_all(&bytes(&FromHost::Ping(1))[..5]).unwrap();
    rig.link.turn(now(), &mut rig.agent).unwrap();
    assert!(rig.link.due() <= now().after(FRAME_MS_MAX));
    let ended = rig.link.turn(now().after(FRAME_MS_MAX), &mut rig.agent).unwrap_err();
    assert!(matches!(ended, Ended::HalfFrame), "{ended}");
}

#[test]
fn silence_has_a_deadline_before_and_after_the_welcome() {
    let (ended, reason) = answer(b"", HANDSHAKE_MS_MAX);
    assert!(matches!(ended, Ended::Session(SessionError::Silent(_))), "{ended}");
    assert_eq!(reason, Some(Reason::SILENT));
    let mut rig = Rig::new(Script::default());
    rig.until(|rig| rig.manager.seen.pulls == 1);
    rig.link.turn(now(), &mut rig.agent).unwrap();
    let ended = rig.link.turn(now().after(SILENCE_MS_MAX), &mut rig.agent).unwrap_err();
    assert!(matches!(ended, Ended::Session(SessionError::Silent(_))), "{ended}");
}

#[test]
fn a_frame_that_nobody_asked_for_is_a_broken_rule() {
    let mut rig = Rig::new(Script::default());
    rig.until(|rig| rig.manager.seen.pulls == 1);
    rig.until(|rig| rig.link.is_working());
    rig.manager.stream.write_all(&bytes(&FromHost::Nothing)).unwrap();
    let ended = rig.try_until(|_| false).unwrap_err();
    assert!(
        matches!(ended, Ended::Session(SessionError::Misbehaved(Misbehaved::Unexpected { .. }))),
        "{ended}"
    );
}

#[test]
fn a_frame_of_our_own_direction_is_refused() {
    let mut out = Vec::new();
    Frame::new(Kind::Pull, Vec::new()).unwrap().write(&mut out).unwrap();
    let (ended, _) = answer(&out, 0);
    assert!(
        matches!(ended, Ended::Session(SessionError::Malformed(Malformed::WrongDirection { .. }))),
        "{ended}"
    );
}

#[test]
fn a_peer_that_takes_nothing_stops_being_read() {
    let mut rig = Rig::new(Script::default());
    rig.until(|rig| rig.manager.seen.pulls == 1);
    let pings = bytes(&FromHost::Ping(7)).repeat(200_000);
    let mut written = 0;
    for _ in 0..10_000 {
        written += rig.manager.stream.write(&pings[written..]).unwrap_or(0);
        rig.link.turn(now(), &mut rig.agent).unwrap();
        if !rig.link.watched().events().contains(PollFlags::POLLIN) {
            return;
        }
    }
    panic!("a peer that reads nothing was answered without end: {written} bytes");
}

#[test]
fn an_end_is_an_end() {
    let mut rig = Rig::new(Script::default());
    rig.until(|rig| rig.manager.seen.pulls == 1);
    rig.manager.stream.shutdown(std::net::Shutdown::Both).unwrap();
    let ended = rig.try_until(|_| false).unwrap_err();
    assert!(ended.reason().is_none(), "{ended}");
}
