//! The SDK: what a program uses to speak to the manager, over its Unix socket or over TLS.
//!
//! The command line is built on it and on nothing else. It depends on the words of the API
//! ([`api`]) and on nothing of the daemon; it trusts the daemon's answers only as far as their types go.
//!
//! ```no_run
//! use doorbell_client::api::request::{Action, NewRequest, Run};
//! use doorbell_client::{Client, Stream};
//! use futures_util::StreamExt;
//!
//! # async fn example() -> Result<(), doorbell_client::ClientError> {
//! let client = Client::at("/run/doorbell/doorbelld.sock")?;
//! let run = Run { command: Some("uname".into()), args: vec!["-a".into()], ..Run::default() };
//! let new = NewRequest {
//!     timeout_ms: Some(30_000),
//!     reason: Some("a look around".into()),
//!     ..NewRequest::of(Action::Run(run))
//! };
//! let request = client.guest("web-3").submit(new).await?;
//! let mut output = std::pin::pin!(client.output(&request.id, Stream::Stdout, 0, true));
//! while let Some(bytes) = output.next().await {
//!     println!("{:?}", bytes?);
//! }
//! let ended = client.wait(&request.id, None).await?;
//! println!("{:?}", ended.state);
//! # Ok(())
//! # }
//! ```
//!
//! A daemon that goes away and is back within [`RESUME_FOR`] is not noticed by [`Client::submit`],
//! [`Client::wait`], [`Client::output`], [`Client::upload`] and [`Input`]: each is safe to repeat, so each is
//! repeated, from the byte where it broke.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod access;
mod audit;
mod client;
mod error;
mod events;
mod file;
mod guest;
mod housekeeping;
mod http;
mod input;
mod outage;
mod output;
mod program;
mod remote;
mod request;
pub mod sign;
mod trace;
mod upload;

pub use client::Client;
pub use doorbell_api as api;
pub use doorbell_archive::{Fault, Kind, Unpacked, kernel};
pub use doorbell_trail as trail;
pub use doorbell_wire::limits::{FILE_LEN_MAX, INPUT_LEN_MAX, MANAGER_PORT, OUTPUT_LEN_MAX, PROGRAM_LEN_MAX};
pub use doorbell_wire::text;
pub use error::ClientError;
pub use file::{Destination, FileError, Packing, Received, Receiving};
pub use guest::GuestHandle;
pub use housekeeping::Backup;
pub use input::Input;
pub use outage::RESUME_FOR;
pub use output::Stream;
pub use remote::{Remote, read_token};
pub use request::RequestFilter;
