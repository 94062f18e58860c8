//! Error texts and reason codes.

use doorbell_wire::error::{Incompatible, Malformed, Misbehaved, Reason, SessionError, Silent};
use doorbell_wire::message::Stage;
use std::collections::BTreeSet;
use std::error::Error;

macro_rules! every {
    ($list:ident: $kind:ty { $($pattern:pat => $sample:expr,)* }) => {
        fn $list() -> Vec<$kind> {
            // A new variant breaks the build here until its text is looked at.
            fn known(error: &$kind) {
                match error { $($pattern => {})* }
            }
            let all = vec![$($sample,)*];
            all.iter().for_each(known);
            all
        }
    };
}

every! {
    malformed: Malformed {
        Malformed::Checksum { .. } => Malformed::Checksum { kind: 1, got: 2, expected: 3 },
        Malformed::Flags { .. } => Malformed::Flags { kind: 1, flags: 2 },
        Malformed::Leftover { .. } => Malformed::Leftover { what: "PULL", count: 1 },
        Malformed::TooLong { .. } => Malformed::TooLong { what: "PULL", got: 1, max: 0 },
        Malformed::UnknownKind { .. } => Malformed::UnknownKind { kind: 9 },
        Malformed::Unreadable { .. } => Malformed::Unreadable { what: "PULL", why: "it is short".into() },
        Malformed::WrongDirection { .. } => Malformed::WrongDirection { what: "PULL" },
        Malformed::Unwritable { .. } => Malformed::Unwritable { what: "PULL" },
    }
}

every! {
    misbehaved: Misbehaved {
        Misbehaved::CreditExceeded { .. } => Misbehaved::CreditExceeded { frame: "CHUNK", got: 2, credit: 1 },
        Misbehaved::CreditOverflow { .. } => Misbehaved::CreditOverflow { got: 2, room: 1 },
        Misbehaved::ChunkLength { .. } => Misbehaved::ChunkLength { frame: "CHUNK", got: 0, max: 1 },
        Misbehaved::ChunkOffset { .. } => Misbehaved::ChunkOffset { frame: "CHUNK", got: 1, expected: 2 },
        Misbehaved::ChunkBeyondEnd { .. } => Misbehaved::ChunkBeyondEnd { frame: "CHUNK", got: 2, len: 1 },
        Misbehaved::FetchBeyondEnd { .. } => Misbehaved::FetchBeyondEnd { got: 2, len: 1 },
        Misbehaved::StageOrder { .. } => Misbehaved::StageOrder { got: Stage::Fetched, last: Stage::Verified },
        Misbehaved::UnaskedPong { .. } => Misbehaved::UnaskedPong { got: 3, first: 1, last: 2 },
        Misbehaved::Unexpected { .. } => Misbehaved::Unexpected { frame: "PULL", state: "Asked" },
        Misbehaved::WrongRequest { .. } => Misbehaved::WrongRequest { frame: "FETCH" },
        Misbehaved::OfferedTwice => Misbehaved::OfferedTwice,
        Misbehaved::HandsFull { .. } => Misbehaved::HandsFull { max: 16 },
        Misbehaved::StoredUnsent { .. } => Misbehaved::StoredUnsent { got: 2, sent: 1 },
        Misbehaved::FloorTooHigh { .. } => Misbehaved::FloorTooHigh { got: 2, max: 1 },
        Misbehaved::InputImpossible { .. } => Misbehaved::InputImpossible { input: 1, taken: 2, window: 3 },
        Misbehaved::InputEnded => Misbehaved::InputEnded,
    }
}

every! {
    session_errors: SessionError {
        SessionError::Ended(_) => SessionError::Ended(Reason::FENCED),
        SessionError::Incompatible(_) => incompatible().into(),
        SessionError::Malformed(_) => Malformed::UnknownKind { kind: 1 }.into(),
        SessionError::Misbehaved(_) => Misbehaved::WrongRequest { frame: "NOTED" }.into(),
        SessionError::Misuse { .. } => SessionError::Misuse { call: "pull", state: "Working" },
        SessionError::Silent(_) => silent().into(),
    }
}

#[test]
fn error_texts_are_unique_and_one_line_and_do_not_repeat_their_source() {
    let mut errors: Vec<Box<dyn Error>> = Vec::new();
    errors.extend(malformed().into_iter().map(|error| Box::new(error) as Box<dyn Error>));
    errors.extend(misbehaved().into_iter().map(|error| Box::new(error) as Box<dyn Error>));
    errors.extend(session_errors().into_iter().map(|error| Box::new(error) as Box<dyn Error>));
    errors.push(Box::new("Web_3".parse::<doorbell_wire::ids::GuestName>().unwrap_err()));
    let mut texts = BTreeSet::new();
    for error in errors {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?} is not one line");
        assert!(!text.ends_with('.'), "{text:?} ends with a stop");
        if let Some(source) = error.source() {
            assert!(!text.contains(&source.to_string()), "{text:?} repeats its source");
        }
        assert!(texts.insert(text.clone()), "two errors say {text:?}");
    }
}

#[test]
fn every_error_has_one_reason() {
    for error in malformed() {
        let ours = matches!(error, Malformed::Unwritable { .. });
        let expected = if ours { Reason::INTERNAL } else { Reason::MALFORMED };
        assert_eq!(SessionError::from(error).reason(), Some(expected));
    }
    for error in misbehaved() {
        assert_eq!(SessionError::from(error).reason(), Some(Reason::MISBEHAVED));
    }
    assert_eq!(SessionError::from(incompatible()).reason(), Some(Reason::INCOMPATIBLE));
    assert_eq!(SessionError::from(silent()).reason(), Some(Reason::SILENT));
    assert_eq!(SessionError::Ended(Reason::GOODBYE).reason(), None);
    assert_eq!(SessionError::Misuse { call: "pull", state: "Working" }.reason(), Some(Reason::INTERNAL));
}

#[test]
fn an_unknown_reason_is_kept_and_shown_as_a_number() {
    assert_eq!(Reason(0x1234).to_string(), "reason 0x1234");
    assert_eq!(Reason(0x1234).text(), None);
    assert_eq!(format!("{:?}", Reason::FENCED), "Reason(a stale session token)");
    assert_eq!(Reason::FENCED.to_string(), "a stale session token");
}

#[test]
fn reason_texts_are_unique() {
    let texts: Vec<&str> = (0..=u16::MAX).filter_map(|code| Reason(code).text()).collect();
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len());
}

fn incompatible() -> Incompatible {
    Incompatible { peer_min: 1, peer_max: 2, ours_min: 0, ours_max: 0 }
}

fn silent() -> Silent {
    Silent { state: "Working", ms: 1 }
}
