//! Doing what a request asks for.
//!
//! Called by `pull` with an action that was decided on. An action is first prepared, which reads and changes
//! nothing, so that what can be refused is refused before the journal says it has started; then it is begun.
//!
//! - [`mod@program`] what is to be started, [`put`] and [`get`] files both ways: all three under a supervisor
//! - [`cgroup`] holds all that one of them starts
//! - [`link`] reads and switches network links

pub mod cgroup;
pub mod get;
pub mod link;
pub mod program;
pub mod put;
pub mod reboot;

use crate::planted;
use crate::supervise::{Job, Order};
use crate::verify::Verified;
use cgroup::Cgroups;
use doorbell_wire::ids::ShortText;
use doorbell_wire::message::Offer;
use doorbell_wire::message::action::{Action, Executable, Limits, Run, RunReboot};
use doorbell_wire::message::outcome::{Evidence, NotStarted, Outcome, Ran, Refusal, StartFault};

/// An action that can be begun.
#[derive(Debug)]
pub enum Prepared {
    /// Something that runs for a while.
    Supervised(Box<Order>),
    /// A link that was found.
    Link(link::Prepared),
}

/// An end.
#[derive(Debug)]
pub struct Done {
    /// How.
    pub outcome: Outcome,
    /// What was read back.
    pub evidence: Evidence,
    /// When.
    pub ran: Option<Ran>,
}

/// Looks at what an action with an effect would do.
///
/// # Errors
/// The outcome, when it would do nothing.
pub fn prepare(
    offer: &Offer,
    verified: Option<Verified>,
    cgroups: Option<&Cgroups>,
) -> Result<Prepared, Outcome> {
    if planted::is("G10") && planted::has_no_nic() {
        return Err(not_started(nix::libc::ENETDOWN));
    }
    let job = match (&offer.action, verified) {
        (Action::LinkSet(set), None) => {
            return link::Prepared::new(set).map(Prepared::Link).map_err(Outcome::Refused);
        }
        (Action::LinkList | Action::Can(_), _) => return Err(unsupported("a query with a sequence")),
        (Action::Run(run), verified) => Job::Program(program(run, verified, cgroups)?),
        (Action::RunReboot(RunReboot { run, step, .. }), verified) => {
            Job::Program(program(run, verified, cgroups)?.at_step(*step))
        }
        (Action::Put(put), Some(Verified::File(file))) => Job::Own(put::job(put, file)),
        (Action::Get(get), None) => Job::Own(get::job(get)),
        (Action::LinkSet(_) | Action::Put(_) | Action::Get(_), _) => {
            return Err(unsupported("bytes of another kind than the action's"));
        }
    };
    let limits = match &offer.action {
        Action::Run(run) | Action::RunReboot(RunReboot { run, .. }) => run.parts().limits,
        Action::Get(_) | Action::Put(_) | Action::LinkSet(_) | Action::LinkList | Action::Can(_) => {
            Limits { output_len_max: offer.action.output_len_max(), ..Limits::default() }
        }
    };
    let (request, input, timeout_ms) = (offer.request, offer.action.input(), offer.timeout_ms);
    Ok(Prepared::Supervised(Box::new(Order { request, job, limits, input, timeout_ms })))
}

/// Answers a query.
#[must_use]
pub fn query(action: &Action) -> Done {
    let done = |outcome, evidence| Done { outcome, evidence, ran: None };
    match action {
        Action::LinkList => match link::list() {
            Ok(links) => done(Outcome::Succeeded, Evidence::Links(links)),
            Err(errno) => done(not_started(errno as i32), Evidence::None),
        },
        Action::Run(_)
        | Action::RunReboot(_)
        | Action::LinkSet(_)
        | Action::Put(_)
        | Action::Get(_)
        | Action::Can(_) => done(unsupported("an effect without a sequence"), Evidence::None),
    }
}

/// The kernel's own refusal.
#[must_use]
pub const fn not_started(errno: i32) -> Outcome {
    Outcome::NotStarted(NotStarted { fault: StartFault::Kernel, errno })
}

/// The refusal of something this agent does not have.
#[must_use]
pub fn unsupported(what: &str) -> Outcome {
    ShortText::try_from(what.to_owned())
        .map_or(not_started(nix::libc::ENOTSUP), |what| Outcome::Refused(Refusal::Unsupported(what)))
}

fn program(
    run: &Run,
    verified: Option<Verified>,
    cgroups: Option<&Cgroups>,
) -> Result<program::Prepared, Outcome> {
    if run.parts().limits.needs_controllers() && !cgroups.is_some_and(Cgroups::has_limits) {
        return Err(unsupported(NO_LIMITS));
    }
    let program = match (&run.parts().executable, verified) {
        (Executable::Program(_), Some(Verified::Program(program))) => Some(program),
        (Executable::InGuest(_), None) => None,
        (Executable::Program(_) | Executable::InGuest(_), _) => {
            return Err(unsupported("a program that was not fetched"));
        }
    };
    program::Prepared::new(run, program).map_err(Outcome::NotStarted)
}

const NO_LIMITS: &str = "a limit of memory, processes or processor time: the agent has no cgroup of version 2 in which it \
                         may set one (systemd 254 or newer gives it one)";
