//! The words of the manager's HTTP API: plain JSON types, without behaviour.
//!
//! The daemon answers with them, the SDK reads them; neither depends on the other. Values are checked where
//! they become types of the channel (`doorbell_wire`), which the daemon does before it accepts anything.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod access;
pub mod audit;
pub mod error;
pub mod event;
pub mod guest;
pub mod info;
pub mod program;
pub mod query;
pub mod receipt;
pub mod request;
pub mod retention;
mod run;
pub mod secret;
pub mod signature;
pub mod trace;

/// Where the daemon's socket is when nothing says otherwise.
pub const SOCKET_DEFAULT: &str = "/run/doorbell/doorbelld.sock";
/// The environment variable that names another socket.
pub const SOCKET_ENV: &str = "DOORBELL_SOCKET";

/// The environment variable that names a manager elsewhere: `https://…`.
pub const URL_ENV: &str = "DOORBELL_URL";
/// The environment variable that names the file with the authority of that manager's certificate.
pub const CA_ENV: &str = "DOORBELL_CA";
/// The environment variable that names the file with a token.
pub const TOKEN_FILE_ENV: &str = "DOORBELL_TOKEN_FILE";

/// The header that says why a call changes something; UTF-8, at most 256 bytes.
pub const REASON: &str = "doorbell-reason";
/// The header that says which ticket a call belongs to; UTF-8, at most 256 bytes.
pub const TICKET: &str = "doorbell-ticket";
