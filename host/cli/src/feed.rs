//! Our standard input on its way into a request: to its end, or key by key for a program with a terminal.
//!
//! Station: request. Called by `follow`. A byte that was read here is sent until the manager has it.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::keys::{Keys, Typed};
use crate::terminal;
use bytes::BytesMut;
use doorbell_client::api::error::ErrorCode;
use doorbell_client::api::request::{OnDisconnect, Request};
use doorbell_client::{ClientError, Input};
use std::io::{self, IsTerminal as _};
use tokio::io::{AsyncReadExt as _, Stdin};
use tokio::signal::unix::{SignalKind, signal};

/// What a followed request gets from our standard input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Feed {
    Nothing,
    /// All of it, from this place of the request's input on.
    Stream(u64),
    /// What is typed, from this place of the request's input on, and the size of our window.
    Terminal(u64),
}

impl Feed {
    /// Feeds for as long as the request takes anything; ends only with a failure, or when the user wants out.
    pub(crate) async fn run(self, context: &Context, request: &Request) -> Failure {
        let id = &request.id;
        let fed = match self {
            Self::Nothing => Ok(()),
            Self::Stream(offset) => stream(context, id, offset).await,
            Self::Terminal(offset) => match keys(context, id, offset).await {
                Ok(Typist::Left) => return left(request),
                Ok(Typist::Gone) => Ok(()),
                Err(failure) => Err(failure),
            },
        };
        match fed {
            Ok(()) => std::future::pending().await,
            Err(failure) => failure.of_request(id),
        }
    }
}

/// The failure of whoever leaves a request to itself.
pub(crate) fn left(request: &Request) -> Failure {
    let id = &request.id;
    let line = match request.on_disconnect {
        OnDisconnect::Keep => {
            format!("detached from request {id}; `doorbell request attach {id}` goes on with it")
        }
        OnDisconnect::Kill => format!(
            "detached from request {id}, which is cancelled once nobody follows it; \
             `doorbell request attach {id}` does"
        ),
    };
    Failure::new(Exit::Unconfirmed, line)
}

/// Sends our standard input to its end, before or without following the request.
pub(crate) async fn stream(context: &Context, id: &str, offset: u64) -> Result<(), Failure> {
    let mut stdin = tokio::io::stdin();
    let mut input = context.client.input(id, offset);
    loop {
        let piece = read(&mut stdin).await?;
        if piece.is_empty() {
            return unless_over(context, id, input.end().await).await;
        }
        let written = input.write(piece.freeze()).await;
        let is_over = written.is_err();
        unless_over(context, id, written).await?;
        if is_over {
            return Ok(());
        }
    }
}

enum Typist {
    /// Wanted out.
    Left,
    /// There is nothing more to be read, or nobody to take it.
    Gone,
}

async fn keys(context: &Context, id: &str, offset: u64) -> Result<Typist, Failure> {
    let mut windows = signal(SignalKind::window_change()).map_err(|error| {
        Failure::new(Exit::Daemon, format!("cannot listen for changes of the window: {error}"))
    })?;
    let is_terminal = io::stdin().is_terminal();
    let (mut stdin, mut keys) = (tokio::io::stdin(), Keys::LineStart);
    let mut input = context.client.input(id, offset);
    loop {
        let piece = tokio::select! {
            piece = read(&mut stdin) => piece?,
            _ = windows.recv() => {
                resize(context, id).await;
                continue;
            }
        };
        if piece.is_empty() {
            unless_over(context, id, input.end().await).await?;
            return Ok(Typist::Gone);
        }
        let typed =
            if is_terminal { keys.pass(&piece) } else { Typed { bytes: piece.to_vec(), leave: false } };
        if is_terminal {
            // Another terminal may be attached too: what was typed there is no part of what is typed here.
            unless_over(context, id, input.to_end().await).await?;
        }
        if !write(context, id, &mut input, typed.bytes).await? {
            return Ok(Typist::Gone);
        }
        if typed.leave {
            return Ok(Typist::Left);
        }
    }
}

/// Tells the size of our window. A program that is over, or not there yet, has no use for it.
pub(crate) async fn resize(context: &Context, id: &str) {
    // The size is no part of what the program computes: the next change tells it again.
    let _ = context.client.resize(id, terminal::window()).await;
}

/// Writes; false where nobody takes it any more.
async fn write(context: &Context, id: &str, input: &mut Input, bytes: Vec<u8>) -> Result<bool, Failure> {
    let written = input.write(bytes.into()).await;
    let taken = written.is_ok();
    unless_over(context, id, written).await?;
    Ok(taken)
}

/// A program may end before its input does: that is no failure.
async fn unless_over(context: &Context, id: &str, done: Result<(), ClientError>) -> Result<(), Failure> {
    let Err(error) = done else { return Ok(()) };
    let refused = matches!(error, ClientError::Refused { code: ErrorCode::Conflict, .. });
    if refused && context.client.request(id).await?.state.is_final() {
        return Ok(());
    }
    Err(error.into())
}

/// The next piece of our standard input; empty at its end. Nothing is lost when this is given up.
async fn read(stdin: &mut Stdin) -> Result<BytesMut, Failure> {
    let mut piece = BytesMut::with_capacity(PIECE);
    let read = stdin.read_buf(&mut piece).await;
    read.map_err(|error| Failure::new(Exit::Misused, format!("cannot read the standard input: {error}")))?;
    Ok(piece)
}

const PIECE: usize = 256 * 1024;
