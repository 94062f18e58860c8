//! The exit status: every one there is, and what leads to it. Scripts rely on these numbers.

use doorbell_client::ClientError;
use doorbell_client::api::error::ErrorCode;
use doorbell_client::api::request::{Request, State};
use std::fmt::Write as _;
use std::process::ExitCode;

/// How the command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// It was done.
    Done,
    /// What was asked about is not so.
    NotSo,
    /// The command line or what it asks for is not valid.
    Misused,
    /// The program's own status, or 128 and its signal.
    Program(u8),
    /// It could not be started.
    NotBegun,
    /// The guest would not.
    Refused,
    /// Something ended it before its own end.
    Ended,
    /// The guest is not connected or did not answer.
    Unanswered,
    /// The manager cannot be reached or failed.
    Daemon,
    /// Whether it was done is not known, or not yet.
    Unconfirmed,
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NotSo => 1,
            Self::Misused => 2,
            Self::Program(status) => status,
            Self::NotBegun => 121,
            Self::Refused => 122,
            Self::Ended => 123,
            Self::Unanswered => 124,
            Self::Daemon => 125,
            Self::Unconfirmed => 126,
        }
    }

    /// What a request's state says of it.
    pub(crate) fn of_request(request: &Request) -> Self {
        let receipt = request.receipt.as_ref();
        match request.state {
            State::Succeeded => Self::Done,
            State::Failed => Self::Program(receipt.and_then(|receipt| receipt.exit_code).unwrap_or(1)),
            State::Killed => {
                let signal = receipt.and_then(|receipt| receipt.signal).unwrap_or(0);
                Self::Program(128_u8.saturating_add(signal))
            }
            State::NotStarted | State::NotReceived | State::NotVerified | State::NotRetrieved => {
                Self::NotBegun
            }
            State::Refused => Self::Refused,
            State::Expired | State::Cancelled | State::TimedOut | State::Undeliverable => Self::Ended,
            State::Interrupted
            | State::Unconfirmed
            | State::Held
            | State::Queued
            | State::Unapproved
            | State::Offered
            | State::Fetched
            | State::Started => Self::Unconfirmed,
        }
    }

    /// What an error of the SDK says of it.
    pub(crate) const fn of_error(error: &ClientError) -> Self {
        match error {
            ClientError::Refused { code: ErrorCode::NotConnected | ErrorCode::NoAnswer, .. } => {
                Self::Unanswered
            }
            ClientError::Refused { code: ErrorCode::RateLimited, .. } => Self::Daemon,
            ClientError::Refused { status: 400..=499, .. }
            | ClientError::Misuse { .. }
            | ClientError::Source(_) => Self::Misused,
            ClientError::Refused { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Lost { .. }
            | ClientError::Protocol { .. } => Self::Daemon,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table as the help shows it.
pub(crate) fn help() -> String {
    let mut text = format!("{HEAD}\n");
    for (status, meaning) in TABLE {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {status:<8}{meaning}");
    }
    text.truncate(text.trim_end().len());
    text
}

/// What stands over the table in the help.
pub(crate) const HEAD: &str = "Exit status:";

/// Every status with its meaning; help and man pages are made from it.
pub(crate) const TABLE: [(&str, &str); 11] = [
    ("0", "done; of a request: it succeeded"),
    (
        "1",
        "it is not so: the audit trail is broken, doctor found a problem; push, pull: not all of it came; request output: it was removed; restore: it is no whole backup",
    ),
    ("2", "a bad command line, or input that the manager refused"),
    ("n", "run, request attach, request wait: the program's own exit status"),
    ("128+n", "run, request attach, request wait: signal n ended the program"),
    ("121", "it could not be started: not-started, not-received, not-verified, not-retrieved"),
    ("122", "the guest refused it"),
    ("123", "it ended before its end: expired, cancelled, timed-out, undeliverable"),
    ("124", "the guest is not connected or did not answer"),
    ("125", "doorbelld cannot be reached, or failed"),
    ("126", "not known: interrupted, detached, or not final when the wait for it ended"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::tests::request;
    use std::io;

    #[test]
    fn every_state_has_its_documented_status() {
        let table = [
            (State::Queued, 126),
            (State::Unapproved, 126),
            (State::Offered, 126),
            (State::Fetched, 126),
            (State::Started, 126),
            (State::Succeeded, 0),
            (State::TimedOut, 123),
            (State::Cancelled, 123),
            (State::Refused, 122),
            (State::Interrupted, 126),
            (State::NotRetrieved, 121),
            (State::NotReceived, 121),
            (State::NotVerified, 121),
            (State::NotStarted, 121),
            (State::Expired, 123),
            (State::Undeliverable, 123),
            (State::Unconfirmed, 126),
            (State::Held, 126),
        ];
        for (state, code) in table {
            assert_eq!(Exit::of_request(&request(state, None, None)).code(), code, "{state:?}");
        }
    }

    #[test]
    fn a_program_gives_its_own_status_and_its_signal() {
        assert_eq!(Exit::of_request(&request(State::Failed, Some(3), None)).code(), 3);
        assert_eq!(Exit::of_request(&request(State::Killed, None, Some(9))).code(), 137);
        assert_eq!(Exit::of_request(&request(State::Killed, None, Some(64))).code(), 192);
    }

    #[test]
    fn what_failed_or_was_killed_is_never_success() {
        assert_ne!(Exit::of_request(&request(State::Failed, None, None)).code(), 0);
        assert_ne!(Exit::of_request(&request(State::Killed, None, None)).code(), 0);
    }

    #[test]
    fn every_error_code_has_its_documented_status() {
        let table = [
            (ErrorCode::Invalid, 2),
            (ErrorCode::Unauthenticated, 2),
            (ErrorCode::Forbidden, 2),
            (ErrorCode::NotFound, 2),
            (ErrorCode::Conflict, 2),
            (ErrorCode::Gone, 2),
            (ErrorCode::TooLarge, 2),
            (ErrorCode::RateLimited, 125),
            (ErrorCode::NotConnected, 124),
            (ErrorCode::NoAnswer, 124),
            (ErrorCode::NoSpace, 125),
            (ErrorCode::Internal, 125),
        ];
        for (code, exit) in table {
            let error = ClientError::Refused { code, message: String::new(), status: code.status() };
            assert_eq!(Exit::of_error(&error).code(), exit, "{code:?}");
        }
        let source = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(Exit::of_error(&ClientError::Unreachable { socket: "/x".into(), source }).code(), 125);
    }

    #[test]
    fn the_help_names_every_status_of_ours() {
        let fixed = [
            Exit::Done,
            Exit::NotSo,
            Exit::Misused,
            Exit::NotBegun,
            Exit::Refused,
            Exit::Ended,
            Exit::Unanswered,
            Exit::Daemon,
            Exit::Unconfirmed,
        ];
        for exit in fixed {
            let code = exit.code().to_string();
            assert!(TABLE.iter().any(|(status, _)| *status == code), "{exit:?} is missing");
        }
    }
}
