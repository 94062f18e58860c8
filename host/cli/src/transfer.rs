//! What `push` and `pull` have in common: how a place in a guest is named, how a request is asked for, and what
//! its guest says of it.

use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::say;
use crate::outcome::outcome;
use clap::Args;
use doorbell_client::Stream;
use doorbell_client::api::receipt::FileEvidence;
use doorbell_client::api::request::{Action, NewRequest, OnDisconnect, Request, State};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use nix::errno::Errno;
use std::pin::pin;
use std::time::Duration;

/// A file or a tree of a guest: `web-3:/etc/motd`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Remote {
    pub(crate) guest: String,
    pub(crate) path: String,
}

impl Remote {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((guest, path)) if !guest.is_empty() && !guest.contains('/') && path.starts_with('/') => {
                Ok(Self { guest: guest.to_owned(), path: path.to_owned() })
            }
            Some((guest, path)) if !guest.is_empty() && !guest.contains('/') => {
                Err(format!("{path:?} is not an absolute path of the guest: expected GUEST:/PATH"))
            }
            Some(_) | None => Err("expected GUEST:/PATH, such as web-3:/etc/motd".to_owned()),
        }
    }

    /// The last name of the path; none of `/`.
    pub(crate) fn name(&self) -> Option<&str> {
        self.path.split('/').rfind(|part| !part.is_empty()).filter(|part| !matches!(*part, "." | ".."))
    }
}

impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.guest, self.path)
    }
}

/// When it is done, and why
#[derive(Args, Debug)]
pub(crate) struct Order {
    /// End it after this time, counted from its start: 30s, 10m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Do not begin it when this time has passed before its guest took it
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    expires: Option<Duration>,
    /// Go before the guest's ordinary requests, and beside what runs there
    #[arg(long)]
    urgent: bool,
    /// Do nothing when the guest is not connected
    #[arg(long)]
    pub(crate) no_queue: bool,
    /// A name of your own for the request, 32 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
}

impl Order {
    /// Both ways can be done again and come to the same.
    pub(crate) fn request(self, action: Action, on_disconnect: OnDisconnect) -> NewRequest {
        NewRequest {
            id: self.id,
            action,
            reboot: None,
            confirm_within_ms: None,
            timeout_ms: self.timeout.map(duration::ms),
            expires_in_ms: self.expires.map(duration::ms),
            idempotent: true,
            urgent: self.urgent,
            on_disconnect,
            reason: None,
            ticket: None,
            signature: None,
        }
    }
}

/// Says each line that the guest printed on standard error, to the end of the request.
pub(crate) async fn tell_lines(context: &Context, request: &Request) -> Result<(), Failure> {
    let mut pieces = pin!(context.client.attached_output(&request.id, Stream::Stderr, 0));
    let mut line = Vec::new();
    while let Some(piece) = pieces.next().await {
        for &byte in piece?.iter() {
            if byte != b'\n' && line.len() < LINE_MAX {
                line.push(byte);
            } else {
                tell_line(request, &std::mem::take(&mut line)).await;
            }
        }
    }
    tell_line(request, &line).await;
    Ok(())
}

async fn tell_line(request: &Request, line: &[u8]) {
    if !line.is_empty() {
        say(&format!("{}: {}", request.guest, String::from_utf8_lossy(line))).await;
    }
}

/// The exit status of a request that has ended; what its guest could not take for lack of a directory or of
/// room is said as such.
pub(crate) fn ended(request: &Request, remote: &Remote) -> Result<Exit, Failure> {
    let errno = request.receipt.as_ref().and_then(|receipt| receipt.errno);
    match (request.state, errno) {
        (State::NotReceived, Some(errno)) => {
            let errno = Errno::from_raw(errno);
            let known = KNOWN.iter().find(|(known, _)| *known == errno);
            let why = known.map_or_else(|| errno.desc().to_lowercase(), |(_, why)| (*why).to_owned());
            Err(Failure::new(Exit::NotBegun, format!("{remote}: {why}")))
        }
        _ => outcome(request),
    }
}

/// What a guest read back of a file or a tree, on one line.
pub(crate) fn evidence(file: &FileEvidence) -> String {
    let count = if file.entries == 1 { String::new() } else { format!(" in {} entries", file.entries) };
    let digest = file.sha256.as_ref().map(|digest| format!(", sha256 {digest}")).unwrap_or_default();
    format!("{} bytes{count}, mode {}, owner {}:{}{digest}", file.len, file.mode, file.uid, file.gid)
}

/// A count of bytes on their way whose number nobody knows; nothing where standard error is no terminal.
pub(crate) fn counter(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {spinner} {bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style).with_prefix(what)
}

/// Why a guest does not take a file before anything is begun, where the kernel's word needs one of ours.
const KNOWN: [(Errno, &str); 6] = [
    (Errno::ENOENT, "there is no such directory in the guest"),
    (Errno::EISDIR, "there is a directory of that name; end the path with / to put it inside"),
    (Errno::EEXIST, "a tree is there already; --replace replaces it as a whole"),
    (Errno::EPERM, "a directory right below / is not replaced; end the path with / to put it inside"),
    (Errno::ENOSPC, "there is no room for it on the guest's disk"),
    (Errno::EDQUOT, "there is no room for it on the guest's disk"),
];
/// Bytes of a line that a guest prints; what is longer is two.
const LINE_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_guest_has_a_guest_and_an_absolute_path() {
        let read = Remote::parse("web-3:/srv/a:b").expect("a place");
        assert_eq!(
            (read.guest.as_str(), read.path.as_str(), read.name()),
            ("web-3", "/srv/a:b", Some("a:b"))
        );
        assert_eq!(Remote::parse("web-3:/").expect("a place").name(), None);
        assert_eq!(Remote::parse("web-3:/a/..").expect("a place").name(), None);
        assert_eq!(Remote::parse("web-3:/a/b/").expect("a place").name(), Some("b"));
        for wrong in ["", "web-3", "web-3:", "web-3:etc/motd", ":/etc", "/etc/motd", "./a:/b", "web-3:~/x"] {
            let why = Remote::parse(wrong).expect_err("no place");
            assert!(why.contains("GUEST:/PATH") && !why.contains('\n'), "{wrong:?}: {why}");
        }
    }
}
