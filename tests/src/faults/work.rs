//! The requests of a schedule: how each is submitted through the SDK, and what it may come to.
//!
//! Begun by `scene`, looked at by `verdict`. Whatever runs leaves its request's id on the guest's second disk
//! first, and has it durable before it goes on: a start that happened can be counted.

use super::chance::Chance;
use super::scene::GIVEN;
use super::schedule::Kind;
use crate::daemon::{new_request, sh, uploaded};
use crate::lab::GUEST;
use crate::wait::{beside, on};
use doorbell_api::error::ErrorCode;
use doorbell_api::request::{
    Action, Form, Get, Input, Link, NewRequest, ProgramRef, Put, Query, Request, Run, State,
};
use doorbell_client::{Client, ClientError};
use std::io::Cursor;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A request on its way.
#[derive(Debug)]
pub struct Job {
    /// What it is.
    pub kind: Kind,
    /// Its id, known beforehand.
    pub id: String,
    /// The program, the input or the file.
    pub bytes: Vec<u8>,
    task: JoinHandle<Answer>,
}

/// What its client was told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is accepted, with this place in the guest's order.
    Accepted(u64),
    /// It is refused.
    Refused(ErrorCode, String),
    /// Nothing: the manager was away too long.
    Unknown(String),
    /// It was a query, and came back.
    Asked,
}

impl Job {
    /// Begins it.
    #[must_use]
    pub fn begin(client: &Client, seed: u64, number: u8, kind: Kind) -> Self {
        let id = format!("{seed:024x}{number:08x}");
        let mut chance = Chance::of(seed << 8 | u64::from(number));
        let bytes = match kind {
            Kind::Program => {
                let mut script = format!("#!/bin/sh\n{MARK}\necho effect\nexit 0\n").into_bytes();
                // Some fit one frame, some need several rounds of credit.
                let len = chance.pick(&[100, 5_000, 100_000, 400_000]);
                script.extend(chance.bytes(len));
                script
            }
            Kind::Fed | Kind::Put => {
                let len = chance.pick(&[0, 1, 20_000, 300_000]);
                chance.bytes(len)
            }
            Kind::Slow | Kind::Urgent | Kind::Idempotent | Kind::Chatty | Kind::Failing | Kind::TooLong => {
                Vec::new()
            }
            Kind::Cancelled | Kind::Get | Kind::LinkDown | Kind::LinkUp | Kind::Query => Vec::new(),
        };
        let task = beside(submit(client.clone(), kind, id.clone(), bytes.clone()));
        Self { kind, id, bytes, task }
    }

    /// What its client was told, once it was.
    pub fn answer(&mut self) -> Answer {
        on(&format!("the answer to the submission of {}", self.id), &mut self.task)
            .expect("a submission that ends")
    }

    /// Does again what its client may not have been able to do while the manager was away.
    pub fn insist(&self, client: &Client) {
        // What is over needs neither.
        let _ = on("the rest of a client's work", owe(client, self.kind, &self.id, &self.bytes));
    }

    /// Submits the same again under the same id.
    pub fn repeat(&self, client: &Client) -> Request {
        let again = ask(client, self.kind, &self.id, &self.bytes);
        on("the same request once more", again).expect("the same request").expect("a request")
    }

    /// The state it comes to where nothing is in its way.
    #[must_use]
    pub const fn wanted(&self) -> State {
        match self.kind {
            Kind::Failing => State::Failed,
            Kind::TooLong => State::TimedOut,
            Kind::Cancelled => State::Cancelled,
            Kind::Program | Kind::Slow | Kind::Urgent | Kind::Idempotent | Kind::Chatty | Kind::Fed => {
                State::Succeeded
            }
            Kind::Put | Kind::Get | Kind::LinkDown | Kind::LinkUp | Kind::Query => State::Succeeded,
        }
    }

    /// Whether it leaves a mark when it starts.
    #[must_use]
    pub const fn marks(&self) -> bool {
        !matches!(self.kind, Kind::Put | Kind::Get | Kind::LinkDown | Kind::LinkUp | Kind::Query)
    }

    /// What it prints where nothing is in its way: standard output, standard error. `None` for an archive.
    #[must_use]
    pub fn printed(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let out = match self.kind {
            Kind::Program | Kind::TooLong => b"effect\n".to_vec(),
            Kind::Slow | Kind::Urgent | Kind::Idempotent => {
                (1..=LINES).map(|line| format!("line {line}\n")).collect::<String>().into_bytes()
            }
            Kind::Chatty => {
                return Some((repeated("0123456789abcdef\n", STDOUT), repeated("fedcba98\n", STDERR)));
            }
            Kind::Fed => self.bytes.clone(),
            Kind::Get => return None,
            Kind::Failing | Kind::Cancelled | Kind::Put | Kind::LinkDown | Kind::LinkUp | Kind::Query => {
                Vec::new()
            }
        };
        Some((out, Vec::new()))
    }
}

/// Where a put file goes.
#[must_use]
pub fn place_of(id: &str) -> String {
    format!("/effects/put/{id}")
}

async fn submit(client: Client, kind: Kind, id: String, bytes: Vec<u8>) -> Answer {
    let answer = match ask(&client, kind, &id, &bytes).await {
        Ok(Some(request)) => Answer::Accepted(request.sequence),
        Ok(None) => return Answer::Asked,
        Err(ClientError::Refused { code, message, .. }) => return Answer::Refused(code, message),
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    // What does not work now is done again later.
    let _ = owe(&client, kind, &id, &bytes).await;
    answer
}

/// Has it accepted; `None` for a query, whose answer may be that there is none.
async fn ask(client: &Client, kind: Kind, id: &str, bytes: &[u8]) -> Result<Option<Request>, ClientError> {
    let action = match kind {
        Kind::Query => {
            let _ = client.guest(GUEST).query(Query::LinkList, Some(QUERY_IN)).await;
            return Ok(None);
        }
        Kind::Program => {
            uploaded(ProgramRef { digest: upload(client, bytes).await?, name: "effect.sh".into() })
        }
        Kind::Put => {
            let digest = upload(client, bytes).await?;
            let (path, form) = (place_of(id), Form::File);
            Action::Put(Put { path, digest, form, mode: None, owner: None, replace: false })
        }
        Kind::Get => Action::Get(Get { path: GIVEN.into() }),
        Kind::LinkDown => Action::LinkDown(Link { link: "eth0".into() }),
        Kind::LinkUp => Action::LinkUp(Link { link: "eth0".into() }),
        Kind::Fed => {
            let Action::Run(run) = sh(&script(kind)) else { unreachable!("a shell is run") };
            Action::Run(Run { input: Input::Stream, ..run })
        }
        Kind::Slow
        | Kind::Urgent
        | Kind::Idempotent
        | Kind::Chatty
        | Kind::Failing
        | Kind::TooLong
        | Kind::Cancelled => sh(&script(kind)),
    };
    let new = NewRequest {
        id: Some(id.to_owned()),
        urgent: kind == Kind::Urgent,
        idempotent: kind == Kind::Idempotent,
        timeout_ms: (kind == Kind::TooLong).then_some(TIMEOUT_MS),
        ..new_request(action)
    };
    client.submit(GUEST, new).await.map(Some)
}

/// What a client does behind the acceptance.
async fn owe(client: &Client, kind: Kind, id: &str, bytes: &[u8]) -> Result<(), ClientError> {
    if kind == Kind::Cancelled {
        return client.cancel(id).await.map(drop);
    }
    if kind != Kind::Fed {
        return Ok(());
    }
    let there = client.input_state(id).await?;
    if there.ended {
        return Ok(());
    }
    let rest = usize::try_from(there.len).ok().and_then(|len| bytes.get(len..)).unwrap_or_default();
    let mut input = client.input(id, there.len);
    input.write(rest.to_vec().into()).await?;
    input.end().await
}

async fn upload(client: &Client, bytes: &[u8]) -> Result<String, ClientError> {
    client.upload(Cursor::new(bytes.to_vec()), |_| {}).await.map(|program| program.digest)
}

fn script(kind: Kind) -> String {
    let rest = match kind {
        Kind::Slow | Kind::Urgent | Kind::Idempotent => {
            format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo \"line $i\"; usleep 30000; done")
        }
        Kind::Chatty => {
            format!("yes 0123456789abcdef | head -c {STDOUT}; yes fedcba98 | head -c {STDERR} >&2")
        }
        Kind::Fed => "cat".to_owned(),
        Kind::Failing => format!("exit {FAILS_WITH}"),
        Kind::TooLong => "echo effect; sleep 600".to_owned(),
        Kind::Cancelled => "sleep 600".to_owned(),
        Kind::Program | Kind::Put | Kind::Get | Kind::LinkDown | Kind::LinkUp | Kind::Query => {
            unreachable!("{kind:?} has no script")
        }
    };
    format!("{MARK}\n{rest}")
}

fn repeated(line: &str, len: usize) -> Vec<u8> {
    line.bytes().cycle().take(len).collect()
}

/// The status of what fails.
pub const FAILS_WITH: u8 = 7;
/// Where the marks are.
pub const MARKS: &str = "/effects/marks";
const MARK: &str = "echo \"$DOORBELL_REQUEST\" | dd of=/effects/marks oflag=append conv=notrunc,fsync 2>/dev/null || exit 99";
const LINES: u32 = 20;
const STDOUT: usize = 300_000;
const STDERR: usize = 20_000;
const TIMEOUT_MS: u64 = 500;
const QUERY_IN: Duration = Duration::from_secs(5);
