//! A dry run: what would be asked for, so that the guest says whether it would begin it and by which rule.
//!
//! Used through [`super`]. Since version 1 of the protocol: an agent without the capability is never asked. What is asked
//! about holds no dry run itself, so that nothing is as deep as it is long.

use super::{Action, Get, LinkSet, Put, Run, RunReboot};
use crate::ids::RequestId;
use crate::message::{Offer, Signed};
use serde::{Deserialize, Serialize};

/// What would be asked for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Can {
    /// What would be done.
    pub asked: Asked,
    /// Milliseconds it might run; a signature covers it.
    pub timeout_ms: Option<u64>,
    /// Whether an interrupted start might be started again; a signature covers it.
    pub idempotent: bool,
    /// The signature that it would carry.
    pub signed: Option<Box<Signed>>,
}

/// An action that is no dry run, written as the action itself.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Asked {
    /// [`Action::Run`].
    Run(Run),
    /// [`Action::LinkList`].
    LinkList,
    /// [`Action::LinkSet`].
    LinkSet(LinkSet),
    /// [`Action::Put`].
    Put(Put),
    /// [`Action::Get`].
    Get(Get),
    /// [`Action::RunReboot`].
    RunReboot(RunReboot),
}

impl Asked {
    /// The action, unless it is a dry run.
    #[must_use]
    pub fn of(action: Action) -> Option<Self> {
        match action {
            Action::Run(run) => Some(Self::Run(run)),
            Action::LinkList => Some(Self::LinkList),
            Action::LinkSet(set) => Some(Self::LinkSet(set)),
            Action::Put(put) => Some(Self::Put(put)),
            Action::Get(get) => Some(Self::Get(get)),
            Action::RunReboot(reboot) => Some(Self::RunReboot(reboot)),
            Action::Can(_) => None,
        }
    }
}

impl From<Asked> for Action {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Run(run) => Self::Run(run),
            Asked::LinkList => Self::LinkList,
            Asked::LinkSet(set) => Self::LinkSet(set),
            Asked::Put(put) => Self::Put(put),
            Asked::Get(get) => Self::Get(get),
            Asked::RunReboot(reboot) => Self::RunReboot(reboot),
        }
    }
}

impl Can {
    /// The offer that this would be, by the name that it is asked under. It has no place in any order.
    #[must_use]
    pub fn offer(&self, request: RequestId) -> Offer {
        Offer {
            request,
            sequence: None,
            floor: 0,
            action: self.asked.clone().into(),
            timeout_ms: self.timeout_ms,
            idempotent: self.idempotent,
            signed: self.signed.clone(),
        }
    }
}
