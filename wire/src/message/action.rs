//! What a request asks a guest to do.
//!
//! Built by the manager from a command, read by the agent's `apply`. Decoding runs the same checks as building.
//! A program to start is in `run`, files to put and get are in `files`.

mod can;
mod files;
mod reboot;
mod run;

pub use can::{Asked, Can};
pub use files::{Form, Get, Mode, Payload, Put};
pub use reboot::{Reboot, RunReboot};
pub use run::{Command, Executable, Input, Limits, Program, Run, RunParts, Window};

use crate::ids::{LinkName, MacAddress};
use crate::limits::{OUTPUT_LEN_DEFAULT, OUTPUT_LEN_MAX};
use serde::{Deserialize, Serialize};

/// One thing to be done.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Start a program and wait for its end.
    Run(Run),
    /// Read every link. A query.
    LinkList,
    /// Bring one link administratively up or down.
    LinkSet(LinkSet),
    /// Put a file or a tree into the guest.
    Put(Put),
    /// Read a file or a tree of the guest; it comes as output, a tar archive.
    Get(Get),
    /// Start a program, and reboot the guest for it.
    RunReboot(RunReboot),
    /// Say whether something would be begun, and by which rule. A query.
    Can(Box<Can>),
}

impl Action {
    /// The program to start, if there is one.
    #[must_use]
    pub const fn run(&self) -> Option<&Run> {
        match self {
            Self::Run(run) | Self::RunReboot(RunReboot { run, .. }) => Some(run),
            Self::LinkList | Self::LinkSet(_) | Self::Put(_) | Self::Get(_) | Self::Can(_) => None,
        }
    }

    /// The bytes that the agent has to fetch first, if any.
    #[must_use]
    pub fn payload(&self) -> Option<Payload> {
        match self {
            Self::Run(run) | Self::RunReboot(RunReboot { run, .. }) => match &run.parts().executable {
                Executable::Program(program) => Some(Payload { digest: program.digest, len: program.len }),
                Executable::InGuest(_) => None,
            },
            Self::Put(put) => Some(put.payload),
            Self::LinkList | Self::LinkSet(_) | Self::Get(_) | Self::Can(_) => None,
        }
    }

    /// What the program reads.
    #[must_use]
    pub const fn input(&self) -> Input {
        match self {
            Self::Run(run) | Self::RunReboot(RunReboot { run, .. }) => run.parts().input,
            Self::LinkList | Self::LinkSet(_) | Self::Put(_) | Self::Get(_) | Self::Can(_) => Input::None,
        }
    }

    /// Output bytes that are kept of each stream.
    #[must_use]
    pub const fn output_len_max(&self) -> u64 {
        match self {
            Self::Run(run) | Self::RunReboot(RunReboot { run, .. }) => run.parts().limits.output_len_max,
            Self::Get(_) => OUTPUT_LEN_MAX,
            Self::LinkList | Self::LinkSet(_) | Self::Put(_) | Self::Can(_) => OUTPUT_LEN_DEFAULT,
        }
    }

    /// The action's name in commands, policies and records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::RunReboot(_) => "run-reboot",
            Self::LinkList => "link-list",
            Self::LinkSet(LinkSet { up: true, .. }) => "link-up",
            Self::LinkSet(LinkSet { up: false, .. }) => "link-down",
            Self::Put(_) => "put",
            Self::Get(_) => "get",
            Self::Can(_) => "can",
        }
    }
}

/// A change of one link.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct LinkSet {
    /// Which link.
    pub link: LinkSelector,
    /// Up, or down.
    pub up: bool,
}

/// How a link is named.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum LinkSelector {
    /// By the name the kernel shows.
    Name(LinkName),
    /// By its hardware address, which no rename changes.
    Mac(MacAddress),
}

impl std::fmt::Display for LinkSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
        }
    }
}
