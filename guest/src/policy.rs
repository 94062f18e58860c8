//! The guest's own word on what its manager may have done: the policy of its owner.
//!
//! Called by `pull` when something is asked for, and again right before a request begins; by `main` for `policy check`. The file is
//! read anew each time, so that a change counts at once. Nothing that the manager says changes what a rule means.
//!
//! - [`mod@file`] the rules in TOML, [`pattern`] what they are made of, [`rule`] when one fits
//! - [`asked`] what is asked for, as a rule looks at it
//! - [`own_files`] what is never a target
//! - [`check`] what is wrong with a policy that can be read, [`report`] how it is told

pub mod asked;
pub mod check;
pub mod file;
pub mod own_files;
pub mod pattern;
pub mod report;
pub mod rule;

use crate::verify::owned::{self, NotRead};
use asked::Asked;
use doorbell_wire::ids::{InvalidId, ShortText};
use doorbell_wire::message::Offer;
use doorbell_wire::message::action::{Action, Run, RunParts, RunReboot};
use file::Rules;
use own_files::OwnFiles;
use rule::{Caps, Effect};
use std::path::{Path, PathBuf};

/// The policy of one guest.
#[derive(Clone, Debug)]
pub struct Policy {
    path: PathBuf,
    /// Whether the file may be missing: then everything is allowed.
    optional: bool,
    /// Whether the agent was told to let nothing begin without a signature.
    signed: bool,
    own: OwnFiles,
}

/// What lets something begin, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ruling {
    /// The text of what decided.
    pub rule: ShortText,
    /// Whether a signature is demanded.
    pub demand: Demand,
    /// The user that it runs as, whatever was asked for.
    pub run_as: Option<ShortText>,
    /// The most that it may take.
    pub caps: Caps,
}

/// Who demands a signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Demand {
    /// Nobody.
    None,
    /// The agent's command line, of all that has an effect.
    Agent,
    /// The rule.
    Rule,
}

impl Policy {
    /// The policy in this file, or in the usual one, which need not be there; `signed` demands a signature of all.
    #[must_use]
    pub fn new(file: Option<&Path>, signed: bool, own: OwnFiles) -> Self {
        let path = file.unwrap_or_else(|| Path::new(POLICY)).to_owned();
        let own = own.with(&path);
        Self { path, optional: file.is_none(), signed, own }
    }

    /// Where it stands.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its rules; none where there is no file and need not be one.
    ///
    /// # Errors
    /// Why it cannot be used, in one line: then nothing is allowed.
    pub fn rules(&self) -> Result<Option<Rules>, String> {
        match owned::read(&self.path, FILE_LEN_MAX) {
            Ok(text) => Rules::read(&text).map(Some).map_err(|why| format!("{}: {why}", self.path.display())),
            Err(NotRead::Absent(_)) if self.optional => Ok(None),
            Err(why) => Err(why.into_text()),
        }
    }

    /// Whether a signature is demanded of anything. One that cannot be read may have demanded it.
    #[must_use]
    pub fn demands(&self) -> bool {
        self.signed || self.rules().map_or(true, |rules| rules.is_some_and(|rules| rules.demand()))
    }

    /// Decides about an action.
    ///
    /// # Errors
    /// The text of what refuses it.
    pub fn rule_on(&self, action: &Action) -> Result<Ruling, ShortText> {
        let asked = Asked::of(action);
        if let Some(own) = self.own.target_of(&asked) {
            let text = format!("the agent's own files are no target of a request: {}", own.display());
            return Err(ShortText::front(&text));
        }
        let broken =
            |why: String| ShortText::front(&format!("the policy is broken, so nothing is allowed: {why}"));
        let Some(rules) = self.rules().map_err(broken)? else {
            return Ok(self.ruling("there is no policy", Effect::Allow, None, Caps::default()));
        };
        self.decide(&rules, &asked)
    }

    /// The first rule that fits decides, and the default where none does.
    ///
    /// # Errors
    /// The text of what refuses it.
    pub fn decide(&self, rules: &Rules, asked: &Asked) -> Result<Ruling, ShortText> {
        let rule = rules.rules.iter().find(|rule| rule.fits(asked));
        let effect = rule.map_or(rules.default, |rule| rule.effect);
        let text = rule.map_or_else(|| default_text(rules.default), rule::Rule::own_text);
        if effect == Effect::Deny {
            return Err(ShortText::front(&text));
        }
        let run_as = rule.and_then(|rule| rule.run_as.as_deref());
        Ok(self.ruling(&text, effect, run_as, rule.map_or_else(Caps::default, |rule| rule.caps)))
    }

    fn ruling(&self, text: &str, effect: Effect, run_as: Option<&str>, caps: Caps) -> Ruling {
        let demand = match effect {
            Effect::RequireSignature => Demand::Rule,
            Effect::Allow | Effect::Deny if self.signed => Demand::Agent,
            Effect::Allow | Effect::Deny => Demand::None,
        };
        Ruling { rule: ShortText::front(text), demand, run_as: run_as.map(ShortText::front), caps }
    }
}

impl Ruling {
    /// The offer within what the rule allows: as its user, and with no more than its limits.
    ///
    /// # Errors
    /// [`InvalidId`] where that is no program that can be started.
    pub fn bound(&self, offer: &Offer) -> Result<Offer, InvalidId> {
        let action = match &offer.action {
            Action::Run(run) => Action::Run(self.bound_run(run)?),
            Action::RunReboot(reboot) => {
                Action::RunReboot(RunReboot { run: self.bound_run(&reboot.run)?, ..reboot.clone() })
            }
            other @ (Action::LinkList
            | Action::LinkSet(_)
            | Action::Put(_)
            | Action::Get(_)
            | Action::Can(_)) => {
                return Ok(Offer { action: other.clone(), ..offer.clone() });
            }
        };
        Ok(Offer { action, timeout_ms: least(offer.timeout_ms, self.caps.timeout_ms), ..offer.clone() })
    }

    fn bound_run(&self, run: &Run) -> Result<Run, InvalidId> {
        let mut parts: RunParts = run.parts().clone();
        let limits = &mut parts.limits;
        limits.memory_max = least(limits.memory_max, self.caps.memory_max);
        limits.processes_max = least(limits.processes_max, self.caps.processes_max);
        limits.cpu_percent_max = least(limits.cpu_percent_max, self.caps.cpu_percent_max);
        if let Some(user) = &self.run_as {
            parts.user = Some(user.clone());
            // Who is made somebody is not let become somebody else.
            parts.new_privileges = false;
        }
        Run::try_from(parts)
    }
}

fn default_text(default: Effect) -> String {
    format!("no rule fits, and the default is {}", default.as_str())
}

fn least<T: Ord>(asked: Option<T>, most: Option<T>) -> Option<T> {
    match (asked, most) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    }
}

/// Where a policy is looked for.
pub const POLICY: &str = "/etc/doorbell-agent/policy.toml";
/// More is no policy that anybody has read.
const FILE_LEN_MAX: u64 = 256 << 10;

#[cfg(test)]
mod tests;
