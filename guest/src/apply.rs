//! Doing what a request asks for.
//!
//! Called by `pull` with an action that was decided on. An action is first prepared, which reads and changes
//! nothing, so that what can be refused is refused before the journal says it has started; then it is begun.
//!
//! - [`program`] starts a program, [`running`] sees it to its end, [`cgroup`] holds all it starts
//! - [`link`] reads and switches network links

pub mod cgroup;
pub mod link;
pub mod program;
pub mod running;

use crate::spool::Spool;
use crate::verify::VerifiedProgram;
use cgroup::Cgroups;
use doorbell_wire::ids::{RequestId, ShortText, Tick};
use doorbell_wire::message::action::{Action, Executable};
use doorbell_wire::message::outcome::{Evidence, Outcome, Ran, Refusal};
use running::Running;
use std::path::Path;

/// An action that can be begun.
#[derive(Debug)]
pub enum Prepared {
    /// A program that was found, or verified.
    Program(program::Prepared),
    /// A link that was found.
    Link(link::Prepared),
}

/// What came of the beginning.
#[derive(Debug)]
pub enum Begun {
    /// A program runs.
    Running(Box<Running>),
    /// It is done already.
    Done(Done),
    /// It could not be begun; the kernel's error number.
    NotStarted(i32),
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

/// Where a program runs.
#[derive(Debug)]
pub struct Place<'a> {
    /// The request.
    pub request: RequestId,
    /// Milliseconds it may run.
    pub timeout_ms: Option<u64>,
    /// Where its cgroup is made, on guests that have them.
    pub cgroups: Option<&'a Cgroups>,
    /// Where its output is spooled.
    pub output: &'a Path,
}

/// Looks at what an action with an effect would do.
///
/// # Errors
/// The outcome, when it would do nothing.
pub fn prepare(action: &Action, program: Option<VerifiedProgram>) -> Result<Prepared, Outcome> {
    match action {
        Action::Run(run) => match (&run.parts().executable, program) {
            (Executable::Program(_), None) => Err(unsupported("a program that was not fetched")),
            (Executable::Program(_) | Executable::InGuest(_), program) => {
                program::Prepared::new(run, program).map(Prepared::Program).map_err(Outcome::NotStarted)
            }
        },
        Action::LinkSet(set) => link::Prepared::new(set).map(Prepared::Link).map_err(Outcome::Refused),
        Action::LinkList => Err(unsupported("a list of links with a sequence")),
    }
}

/// Answers a query.
#[must_use]
pub fn query(action: &Action) -> Done {
    let done = |outcome, evidence| Done { outcome, evidence, ran: None };
    match action {
        Action::LinkList => match link::list() {
            Ok(links) => done(Outcome::Succeeded, Evidence::Links(links)),
            Err(errno) => done(Outcome::NotStarted(errno as i32), Evidence::None),
        },
        Action::Run(_) | Action::LinkSet(_) => {
            done(unsupported("an effect without a sequence"), Evidence::None)
        }
    }
}

impl Prepared {
    /// Begins; `now` is the start it reports.
    #[must_use]
    pub fn begin(self, now: Tick, place: &Place<'_>) -> Begun {
        match self {
            Self::Program(program) => match program.start(now, place) {
                Ok(running) => Begun::Running(Box::new(running)),
                Err(errno) => Begun::NotStarted(errno),
            },
            Self::Link(link) => Begun::Done(link.set(now)),
        }
    }
}

/// The refusal of something this agent does not have.
#[must_use]
pub fn unsupported(what: &str) -> Outcome {
    ShortText::try_from(what.to_owned())
        .map_or(Outcome::NotStarted(nix::libc::ENOTSUP), |what| Outcome::Refused(Refusal::Unsupported(what)))
}

/// An empty spool for a program that is about to start.
pub(crate) fn spool(place: &Place<'_>) -> std::io::Result<Spool> {
    Spool::create(place.output, place.request)
}
