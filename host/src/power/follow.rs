//! The task that follows one guest's monitor: connects, asks, listens, and comes back after whatever ends that.
//!
//! Started and ended by `power`. QEMU serves one client of a monitor at a time, so this one needs a monitor of its own.
//! Whoever answers at the socket moves the power state of this one guest, and costs a bounded line, a
//! bounded pace and one connection.

use super::line::{Lines, Pace};
use super::qmp::{Qmp, Told, Trouble};
use super::{Report, report};
use crate::manager::Manager;
use doorbell_api::guest::PowerState;
use doorbell_wire::ids::{GuestId, GuestName};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

/// Whose monitor is where.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) manager: Arc<Manager>,
    pub(super) guest: GuestId,
    pub(super) name: GuestName,
    pub(super) path: PathBuf,
}

/// Why a conversation is over, or never began.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("cannot connect: {0}")]
    Absent(io::Error),
    #[error("QEMU has closed it")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Trouble(#[from] Trouble),
    #[error(
        "no greeting within {} s: QEMU serves one client of a monitor at a time, so give doorbelld a monitor of its own",
        ANSWER_MAX.as_secs()
    )]
    NoGreeting,
    #[error("no answer within {} s: QEMU is stuck, or stopped", ANSWER_MAX.as_secs())]
    NoAnswer,
}

impl Follower {
    /// Follows until the task is ended.
    pub(super) async fn run(self) {
        let mut pause = PAUSE_MIN;
        let mut told = String::new();
        let mut was_there = false;
        loop {
            let began = Instant::now();
            let (end, followed) = self.converse().await;
            was_there |= followed;
            self.ended(&end, followed, was_there).await;
            self.tell(&end, &mut told);
            if followed && began.elapsed() >= STEADY {
                pause = PAUSE_MIN;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One connection, to its end; says also whether the monitor had taken us on.
    async fn converse(&self) -> (End, bool) {
        let stream = match UnixStream::connect(&self.path).await {
            Ok(stream) => stream,
            Err(error) => return (End::Absent(error), false),
        };
        let (reader, writer) = stream.into_split();
        let mut qmp = Qmp::connected();
        let end = self.listen(&mut qmp, Lines::of(reader), writer).await;
        let Err(end) = end;
        (end, qmp.is_following())
    }

    async fn listen(
        &self,
        qmp: &mut Qmp,
        mut lines: Lines<tokio::net::unix::OwnedReadHalf>,
        mut writer: OwnedWriteHalf,
    ) -> Result<std::convert::Infallible, End> {
        let mut changes = Pace::of(CHANGES_PER_SECOND);
        let mut due = Instant::now() + ANSWER_MAX;
        loop {
            if let Some(command) = qmp.owed() {
                let written = timeout(ANSWER_MAX, writer.write_all(command.as_bytes())).await;
                written.map_err(|_| End::NoAnswer)??;
                due = Instant::now() + ANSWER_MAX;
            }
            tokio::select! {
                line = lines.next() => {
                    let line = line?.ok_or(End::Closed)?;
                    if let Some(told) = qmp.take(&line)? {
                        changes.keep().await;
                        changes.took(usize::from(self.report(told).await));
                    }
                    if !qmp.awaits() {
                        due = Instant::now() + ASK_EVERY;
                    }
                }
                () = sleep_until(due) => match (qmp.awaits(), qmp.is_following()) {
                    (true, true) => return Err(End::NoAnswer),
                    (true, false) => return Err(End::NoGreeting),
                    (false, _) => qmp.ask(),
                },
            }
        }
    }

    async fn report(&self, told: Told) -> bool {
        let said = match told {
            Told::State(state, status) => Report::State(state, status),
            Told::Reset => Report::Reset,
        };
        report(&self.manager, self.guest, &self.name, said).await
    }

    /// What the end of a conversation says about the machine.
    async fn ended(&self, end: &End, followed: bool, was_there: bool) {
        let said = match end {
            End::Closed | End::Io(_) if followed => Report::State(PowerState::Off, "QEMU has ended"),
            // The socket's file is left behind by a QEMU that was killed.
            End::Absent(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Report::Absent("no QEMU listens at its QMP socket")
            }
            End::Absent(error) if error.kind() != io::ErrorKind::NotFound => {
                Report::State(PowerState::Unknown, "its QMP socket cannot be used")
            }
            End::Absent(_) if was_there => Report::Absent("its QMP socket is gone"),
            End::Absent(_) => Report::State(PowerState::Unknown, "its QMP socket is not there"),
            End::Closed | End::Io(_) | End::NoGreeting | End::Trouble(_) => {
                Report::Lost("its QMP socket cannot be used")
            }
            End::NoAnswer => Report::Lost("its QEMU does not answer"),
        };
        report(&self.manager, self.guest, &self.name, said).await;
    }

    /// The same end is told once, not at every try.
    fn tell(&self, end: &End, told: &mut String) {
        let text = end.to_string();
        if *told == text {
            return;
        }
        let (guest, socket) = (&self.name, self.path.display());
        match end {
            End::Absent(error) if error.kind() == io::ErrorKind::NotFound => {
                debug!(%guest, %socket, "its QMP socket is not there yet");
            }
            End::Absent(_) | End::Closed => info!(%guest, %socket, reason = text, "its QMP monitor is away"),
            End::Io(_) | End::Trouble(_) | End::NoGreeting | End::NoAnswer => {
                warn!(%guest, %socket, reason = text, "its QMP monitor cannot be followed");
            }
        }
        *told = text;
    }
}

/// How long a greeting and an answer may take: QEMU's main loop gives them, and does so within milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How often a quiet monitor is asked: what no event tells is known then, and so is a QEMU that is stuck.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// Between tries to connect.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A conversation of this length is no flapping.
const STEADY: Duration = Duration::from_secs(10);
/// Each change is told to whoever watches, with every open request of the guest.
const CHANGES_PER_SECOND: usize = 16;
