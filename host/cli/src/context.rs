//! What every command has in hand: the client, and how answers are to be shown.

use crate::exit::Exit;
use crate::failure::Failure;
use doorbell_client::Client;
use doorbell_client::text::json;
use serde::Serialize;
use std::io::{self, Write as _};

/// The client, and whether answers are JSON.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) json: bool,
    /// Why, for what is not asked of the manager.
    pub(crate) reason: Option<String>,
    pub(crate) ticket: Option<String>,
}

impl Context {
    /// Shows an answer: as one JSON document, or as the text that `people` makes of it.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        people: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.json { print(&format!("{}\n", document(value)?)) } else { print(&people(value)) }
    }

    /// Shows one thing that happened, on a line of its own.
    pub(crate) fn show_line<T: Serialize>(
        &self,
        value: &T,
        people: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let line = serde_json::to_string(value).map_err(unprintable)?;
            print(&format!("{}\n", json(&line)))
        } else {
            print(&people(value))
        }
    }
}

/// Writes to standard output. A reader that has gone away ends the command in silence.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| unwritten(&error, Exit::Done))
}

/// What a failed write to our own output means.
pub(crate) fn unwritten(error: &io::Error, when_nobody_reads: Exit) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::quiet(when_nobody_reads);
    }
    Failure::new(Exit::Unconfirmed, format!("cannot write the output: {error}; what was asked for was done"))
}

fn document<T: Serialize>(value: &T) -> Result<String, Failure> {
    let document = serde_json::to_string_pretty(value).map_err(unprintable)?;
    Ok(json(&document).into_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn unprintable(error: serde_json::Error) -> Failure {
    Failure::new(Exit::Daemon, format!("cannot put the answer into JSON: {error}"))
}
