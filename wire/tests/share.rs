//! The files of a share: names and contents that are not exactly right are refused, and one by one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken assumption of a test must end it")]

use doorbell_wire::ids::{Nonce, RequestId, Signature};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals};
use doorbell_wire::message::{FromGuest, FromHost, Greeting, Progress, Stage};
use doorbell_wire::share::{
    Of, ShareError, ack_file, manager_file, one_frame, prompt, read_ack, read_manager, read_prompt,
    receipt_transcript, session, whole_frames,
};

fn request() -> RequestId {
    RequestId::new([0xab; 16])
}

fn acknowledgement() -> Acknowledgement {
    let (evidence, output) = (Evidence::None, OutputTotals::default());
    Acknowledgement { request: request(), outcome: Outcome::TimedOut, evidence, output, ran: None }
}

#[test]
fn names_are_read_back_and_nothing_else_is_one() {
    let name = prompt(7, request());
    assert_eq!(name, "00000000000000000007-abababababababababababababababab.prompt");
    assert_eq!(read_prompt(&name), Some((7, request())));
    assert!(prompt(9, request()) < prompt(10, request()), "names sort in the order of the requests");
    let hostile = ["", ".", "..", "-.prompt", "7-ab.prompt", "../x.prompt", ".new", "+0000000000000000007"];
    for wrong in
        hostile.into_iter().chain([&name[1..], &name[..40], &name.to_uppercase(), &name.replace('-', "/")])
    {
        assert_eq!(read_prompt(wrong), None, "{wrong}");
        assert_eq!(Of::read(wrong), None, "{wrong}");
    }
    assert_eq!(Of::read(&Of::Noted.name(request())), Some((Of::Noted, request())));
    assert_eq!(Of::read(&Of::Stdout.name(request())), Some((Of::Stdout, request())));
    assert_eq!(session(&Nonce::new([1; 32])).len(), "sessions/".len() + 64);
}

#[test]
fn another_form_is_refused_by_its_first_line() {
    let nonce = Nonce::new([1; 32]);
    let greeting = Greeting { version_min: 0, version_max: 0, nonce, host_time_ms: 5 };
    let bytes = manager_file(greeting).unwrap();
    assert!(bytes.starts_with(b"doorbell-share 1\n"));
    assert_eq!(read_manager(&bytes), Ok(greeting));
    let newer = String::from_utf8_lossy(&bytes).replace("share 1", "share 2");
    let refused = read_manager(newer.as_bytes()).unwrap_err();
    assert!(matches!(&refused, ShareError::Form { got } if got == "doorbell-share 2"), "{refused}");
    for cut in 0..bytes.len() {
        assert!(read_manager(&bytes[..cut]).is_err(), "{cut} bytes of it");
    }
    assert!(matches!(read_manager(&[&bytes[..], b"x"].concat()), Err(ShareError::Leftover { count: 1, .. })));
}

#[test]
fn a_receipt_is_its_frame_and_a_signature_over_session_and_frame() {
    let bytes = ack_file(&acknowledgement(), |_| Signature::new([9; 64])).unwrap();
    let (frame, said, signature) = read_ack(&bytes).unwrap();
    assert_eq!((*said, signature), (acknowledgement(), Signature::new([9; 64])));
    let signed = |session| receipt_transcript(&Nonce::new(session), &frame);
    assert!(signed([1; 32]).ends_with(&frame.payload) && signed([1; 32]) != signed([2; 32]));
    for cut in 0..bytes.len() {
        assert!(read_ack(&bytes[..cut]).is_err(), "{cut} bytes of it");
    }
    assert!(read_ack(&[&bytes[..], b"x"].concat()).is_err());
    let mut other = Vec::new();
    FromGuest::Pull.to_frame().unwrap().write(&mut other).unwrap();
    other.extend([0; 64]);
    assert!(matches!(read_ack(&other), Err(ShareError::Other { got: "PULL", .. })));
}

#[test]
fn a_file_that_grows_gives_its_whole_frames() {
    let mut bytes = Vec::new();
    for stage in [Stage::Journalled, Stage::Started] {
        let progress = Progress { request: request(), stage, at_us: 1 };
        FromGuest::Progress(progress).to_frame().unwrap().write(&mut bytes).unwrap();
    }
    let half = bytes.len() / 2;
    for cut in 0..=bytes.len() {
        let (frames, used) = whole_frames(&bytes[..cut]).unwrap();
        assert_eq!((frames.len(), used), (cut / half, cut / half * half), "{cut} bytes of it");
    }
    bytes[half + 3] ^= 1;
    assert!(whole_frames(&bytes).is_err());
    let mut one = Vec::new();
    FromHost::Noted(request()).to_frame().unwrap().write(&mut one).unwrap();
    assert_eq!(FromHost::from_frame(&one_frame("it", &one).unwrap()), Ok(FromHost::Noted(request())));
}
