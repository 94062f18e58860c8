//! The envelope: lengths, checksum, flags, kinds, and a stream in pieces.

use crate::common::{Message, deframe, envelope, samples};
use doorbell_wire::error::{Malformed, Reason, SessionError};
use doorbell_wire::frame::{Deframer, Frame};
use doorbell_wire::limits::{CHUNK_LEN_MAX, HEADER_LEN, PAYLOAD_LEN_MAX};
use doorbell_wire::message::{Chunk, FromGuest, FromHost, Kind};

#[test]
fn a_length_over_its_kinds_limit_is_refused_before_the_payload_comes() {
    for &kind in Kind::ALL.iter().filter(|kind| **kind != Kind::Ring) {
        let max = u32::try_from(kind.payload_len_max()).unwrap();
        for length in [0, max.saturating_sub(1), max] {
            let (frames, end) = deframe(&header(kind.byte(), length));
            let refused = length == 0 && frames.is_empty() && end.is_err();
            // A checksum of zero is wrong; but it is looked at only when the payload is there.
            assert_eq!(refused, length == 0, "{} of length {length}", kind.name());
        }
        for length in [max + 1, u32::MAX] {
            let error = deframe(&header(kind.byte(), length)).1.unwrap_err();
            let expected = Malformed::TooLong { what: kind.name(), got: length.into(), max: max.into() };
            assert_eq!(error, expected);
            assert_eq!(SessionError::from(error).reason(), Some(Reason::MALFORMED));
        }
    }
}

#[test]
fn a_frame_of_its_largest_payload_is_taken_and_one_more_byte_cannot_be_written() {
    for &kind in Kind::ALL.iter().filter(|kind| **kind != Kind::Ring) {
        let frame = Frame::new(kind, vec![7; kind.payload_len_max()]).unwrap();
        let mut bytes = Vec::new();
        frame.write(&mut bytes).unwrap();
        assert_eq!(deframe(&bytes).0, [frame], "{}", kind.name());
        let long = vec![7; kind.payload_len_max() + 1];
        assert!(matches!(Frame::new(kind, long.clone()), Err(Malformed::TooLong { .. })), "{}", kind.name());
        let unchecked = Frame { kind, payload: long };
        let before = bytes.clone();
        assert!(matches!(unchecked.write(&mut bytes), Err(Malformed::TooLong { .. })), "{}", kind.name());
        assert_eq!(bytes, before, "a refused frame leaves what is there");
    }
}

#[test]
fn a_message_that_fits_no_frame_is_not_written() {
    let chunk =
        |len| FromHost::Chunk(Chunk { request: samples::request(), offset: u64::MAX, bytes: vec![0; len] });
    assert!(chunk(CHUNK_LEN_MAX).to_frame().is_ok());
    let error = chunk(CHUNK_LEN_MAX + 64).to_frame().unwrap_err();
    assert!(matches!(error, Malformed::TooLong { what: "CHUNK", .. }), "{error}");
    let error = chunk(PAYLOAD_LEN_MAX + 1).to_frame().unwrap_err();
    assert!(matches!(error, Malformed::TooLong { .. } | Malformed::Unwritable { .. }), "{error}");
}

#[test]
fn a_payload_of_any_other_length_than_its_fields_is_refused() {
    for (name, message) in samples::all() {
        let Frame { kind, payload } = message.frame();
        // In front of its signature an offer is whole, and so are an opening's frames in front of a proof: whether one may come
        // without is its reader's to say.
        let unsigned = unsigned_len(&message);
        for cut in (0..payload.len()).filter(|cut| Some(*cut) != unsigned) {
            let short = Frame { kind, payload: payload[..cut].to_vec() };
            let error = Message::read(&short).expect_err(name);
            assert!(matches!(error, Malformed::Unreadable { .. }), "{name} cut to {cut}: {error}");
        }
        let long = Frame { kind, payload: [&payload[..], &[0]].concat() };
        let error = Message::read(&long).expect_err(name);
        if unsigned == Some(payload.len()) {
            assert!(
                matches!(error, Malformed::Unreadable { .. }),
                "{name}: one byte is no signature: {error}"
            );
        } else {
            assert_eq!(error, Malformed::Leftover { what: kind.name(), count: 1 });
        }
        assert_eq!(SessionError::from(error).reason(), Some(Reason::MALFORMED));
    }
}

/// How long the payload is without a signature, where there can be one.
fn unsigned_len(message: &Message) -> Option<usize> {
    let mut message = message.clone();
    match &mut message {
        Message::Host(FromHost::Offer(offer)) => offer.signed = None,
        Message::Host(FromHost::Push(push)) => push.offer.signed = None,
        Message::Host(FromHost::Welcome(welcome)) => welcome.proof = None,
        Message::Guest(FromGuest::Hello(hello)) => hello.enrolment = None,
        Message::Host(_) | Message::Guest(_) => return None,
    }
    Some(message.frame().payload.len())
}

#[test]
fn a_wrong_checksum_is_refused_whichever_bit_is_flipped() {
    let bytes = Message::Host(FromHost::Ping(3)).bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (frames, end) = deframe(&flipped);
        assert!(frames.is_empty(), "bit {bit} made {frames:?}");
        let waits = end.as_ref().is_ok_and(Deframer::is_mid_frame);
        assert!(waits || end.is_err(), "bit {bit} was passed over");
    }
    let mut wrong = bytes;
    wrong[HEADER_LEN] ^= 1;
    let error = deframe(&wrong).1.unwrap_err();
    assert!(matches!(error, Malformed::Checksum { kind: 0x19, .. }), "{error}");
    assert_eq!(SessionError::from(error).reason(), Some(Reason::MALFORMED));
}

#[test]
fn a_reserved_flag_is_refused() {
    for flags in 1..=u8::MAX {
        let expected = Malformed::Flags { kind: 0x13, flags };
        assert_eq!(deframe(&envelope(0x13, flags, &[])).1.unwrap_err(), expected);
        assert_eq!(deframe(&[0x13, flags]).1.unwrap_err(), expected, "as soon as it is there");
    }
}

#[test]
fn an_unknown_kind_is_refused() {
    for kind in (0..0x80).filter(|byte| Kind::from_byte(*byte).is_none()) {
        assert_eq!(deframe(&[kind]).1.unwrap_err(), Malformed::UnknownKind { kind }, "at its first byte");
    }
}

#[test]
fn an_unknown_kind_with_the_ignorable_bit_is_passed_over() {
    let pull = Message::Guest(FromGuest::Pull).bytes();
    for kind in 0x80..=u8::MAX {
        for length in [0, 1, PAYLOAD_LEN_MAX] {
            let stream = [envelope(kind, 0, &vec![1; length]), pull.clone()].concat();
            let (frames, end) = deframe(&stream);
            assert!(
                end.is_ok() && frames.len() == 1 && frames[0].kind == Kind::Pull,
                "{kind:#x} of {length}"
            );
        }
        let long = u32::try_from(PAYLOAD_LEN_MAX).unwrap() + 1;
        assert!(matches!(deframe(&header(kind, long)).1, Err(Malformed::TooLong { .. })), "{kind:#x}");
        let mut wrong = envelope(kind, 0, &[1]);
        wrong[HEADER_LEN] = 2;
        assert!(
            matches!(deframe(&wrong).1, Err(Malformed::Checksum { .. })),
            "{kind:#x} is checked like any other"
        );
        assert!(matches!(deframe(&envelope(kind, 1, &[])).1, Err(Malformed::Flags { .. })), "{kind:#x}");
    }
}

#[test]
fn every_cut_of_a_stream_gives_the_same_frames() {
    let stream: Vec<u8> = samples::all().iter().flat_map(|(_, message)| message.bytes()).collect();
    let (whole, end) = deframe(&stream);
    assert!(end.is_ok_and(|deframer| deframer.buffered() == 0));
    for cut in 0..=stream.len() {
        let (first, second) = stream.split_at(cut);
        assert_eq!(pieces([first, second]), whole, "cut at {cut}");
    }
    assert_eq!(pieces(stream.chunks(1)), whole, "byte by byte");
}

#[test]
fn a_broken_stream_stays_broken() {
    let mut deframer = Deframer::new();
    let error = deframer.next(&mut &[0x7f][..]).unwrap_err();
    let ring = [Kind::Ring.byte()];
    let mut rest = &ring[..];
    assert_eq!(deframer.next(&mut rest).unwrap_err(), error);
    assert_eq!(rest.len(), 1, "nothing is read from a broken stream");
    assert_eq!(deframer.buffered(), 0, "nor held for it");
}

#[test]
fn a_frame_of_the_other_direction_is_refused() {
    for (_, message) in samples::from_host() {
        let error = FromGuest::from_frame(&message.to_frame().unwrap()).unwrap_err();
        assert_eq!(error, Malformed::WrongDirection { what: message.kind().name() });
        assert_eq!(SessionError::from(error).reason(), Some(Reason::MALFORMED));
    }
    for (_, message) in samples::from_guest() {
        let error = FromHost::from_frame(&message.to_frame().unwrap()).unwrap_err();
        assert_eq!(error, Malformed::WrongDirection { what: message.kind().name() });
    }
}

#[test]
fn the_ring_is_one_byte() {
    assert_eq!(Message::Host(FromHost::Ring).bytes(), [0x07]);
    let (frames, end) = deframe(&[0x07; 3]);
    assert_eq!(frames, vec![Frame { kind: Kind::Ring, payload: Vec::new() }; 3]);
    assert!(end.is_ok_and(|deframer| !deframer.is_mid_frame()));
    let mut out = Vec::new();
    let heavy = Frame { kind: Kind::Ring, payload: vec![1] };
    assert!(matches!(heavy.write(&mut out), Err(Malformed::TooLong { .. })), "it carries no data");
    assert!(out.is_empty());
}

#[test]
fn at_most_one_unfinished_frame_is_held() {
    let largest = envelope(Kind::Offer.byte(), 0, &vec![1; PAYLOAD_LEN_MAX]);
    let mut deframer = Deframer::new();
    assert!(!deframer.is_mid_frame());
    for (index, byte) in largest.iter().enumerate() {
        let frame = deframer.next(&mut &[*byte][..]).unwrap();
        let last = index + 1 == largest.len();
        assert_eq!(frame.is_some(), last);
        assert_eq!(deframer.buffered(), if last { 0 } else { index + 1 });
        assert_eq!(deframer.is_mid_frame(), !last);
    }
}

fn header(kind: u8, length: u32) -> Vec<u8> {
    [&[kind, 0][..], &length.to_le_bytes(), &[0; 4]].concat()
}

fn pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut deframer = Deframer::new();
    let mut frames = Vec::new();
    for mut piece in pieces {
        while let Some(frame) = deframer.next(&mut piece).unwrap() {
            frames.push(frame);
        }
        assert!(piece.is_empty(), "no frame came and bytes were left");
    }
    frames
}
