//! Values as people read them. What comes from a guest is shown without the power to move a cursor.

use crate::table::{Cell, Tone};
use doorbell_client::api::guest::Presence;
use doorbell_client::api::request::{Action, Run, State};
use doorbell_client::text::Plain;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

/// The text with what commands a terminal written out: a guest must not command the operator's.
pub(crate) fn plain(text: &str) -> String {
    Plain(text).to_string()
}

/// The word that the API has for a value without fields.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// A moment, in the operator's own time zone.
pub(crate) fn moment(unix_ms: u64) -> String {
    format_moment(unix_ms, "%Y-%m-%d %H:%M:%S")
}

/// A moment of today, to the millisecond.
pub(crate) fn clock(unix_ms: u64) -> String {
    format_moment(unix_ms, "%H:%M:%S%.3f")
}

pub(crate) fn state(state: State) -> Cell {
    let tone = match state {
        State::Succeeded => Tone::Good,
        State::Unapproved
        | State::Queued
        | State::Offered
        | State::Fetched
        | State::Started
        | State::Held => Tone::Waiting,
        State::Failed
        | State::Killed
        | State::TimedOut
        | State::Cancelled
        | State::Refused
        | State::Interrupted
        | State::NotRetrieved
        | State::NotReceived
        | State::NotVerified
        | State::NotStarted
        | State::Expired
        | State::Undeliverable
        | State::Unconfirmed => Tone::Bad,
    };
    Cell::toned(word(&state), tone)
}

pub(crate) fn presence(presence: Presence) -> Cell {
    let tone = match presence {
        Presence::Connected | Presence::Polling => Tone::Good,
        Presence::Never
        | Presence::Pending
        | Presence::Silent
        | Presence::Paused
        | Presence::Off
        | Presence::Gone => Tone::Waiting,
        Presence::Fenced => Tone::Bad,
    };
    Cell::toned(word(&presence), tone)
}

/// The first part of a request's id or a hash: enough to name it again.
pub(crate) fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// What a request does, in one line.
pub(crate) fn action(action: &Action) -> String {
    match action {
        Action::Run(run) => {
            let words =
                std::iter::once(started(run).unwrap_or_default()).chain(run.args.iter().map(String::as_str));
            format!("run {}", words.map(quoted).collect::<Vec<_>>().join(" "))
        }
        Action::LinkUp(link) => format!("link up {}", link.link),
        Action::LinkDown(link) => format!("link down {}", link.link),
        Action::Put(put) => format!("put {}", put.path),
        Action::Get(get) => format!("get {}", get.path),
    }
}

/// What a run starts, by the name that people know it by.
pub(crate) fn started(run: &Run) -> Option<&str> {
    let program = run.program.as_ref().map(|program| program.name.as_str());
    let from = run.from.as_ref().and_then(|from| from.name.as_deref());
    run.command.as_deref().or(program).or(from)
}

/// A word of a command as one would type it; only so that its ends can be seen.
fn quoted(word: &str) -> String {
    let bare = |c: char| c.is_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(bare) { word.to_owned() } else { format!("'{word}'") }
}

fn format_moment(unix_ms: u64, form: &str) -> String {
    let moment = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match moment {
        Some(moment) => moment.to_zoned(TimeZone::system()).strftime(form).to_string(),
        None => format!("{unix_ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_client::api::request::Run;

    #[test]
    fn a_guest_cannot_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\rc\nd\u{202e}e"), "a\\u{1b}[2Jb\\rc\\nd\\u{202e}e");
        assert_eq!(plain("größe"), "größe");
    }

    #[test]
    fn words_are_those_of_the_api() {
        assert_eq!(word(&State::NotVerified), "not-verified");
        assert_eq!(word(&Presence::Connected), "connected");
    }

    #[test]
    fn a_command_shows_where_its_words_end() {
        let args = vec!["-c".to_owned(), "echo a; b".to_owned(), String::new()];
        let run = Run { command: Some("sh".to_owned()), args, ..Run::default() };
        assert_eq!(action(&Action::Run(run)), "run sh -c 'echo a; b' ''");
    }

    #[test]
    fn a_moment_out_of_range_is_still_shown() {
        assert_eq!(moment(u64::MAX), "18446744073709551615 ms");
    }
}
