//! What is wrong with a policy that can be read: something that amounts to root passes without the signature that the
//! policy demands elsewhere, or a rule is never reached.
//!
//! Called by `main` for `doorbell-agent policy check`. Judges by the file alone and on the careful side: what cannot be seen
//! to be harmless counts as root's.
//!
//! What amounts to root: a program or command that runs as root, unless it is one that the rule names to the last word
//! and that gets nothing from outside (no variables, no directory, no input); everything that is put, for it is written as root,
//! with any owner and mode; and a file that is read, unless it lies in a place without secrets. A link that is switched, a list
//! and a reboot by themselves do not.

use super::asked::{ROOT, users_of};
use super::file::{ACTIONS, Rules};
use super::pattern::{PathPattern, Word};
use super::rule::{Effect, Rule};

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Findings {
    /// What passes without a signature and amounts to root: a line each.
    pub open: Vec<String>,
    /// What else is worth a look: a line each.
    pub notes: Vec<String>,
    /// Whether the policy demands a signature of anything.
    pub demands: bool,
}

impl Findings {
    /// Whether the policy contradicts itself.
    #[must_use]
    pub const fn fails(&self) -> bool {
        self.demands && !self.open.is_empty()
    }
}

/// Looks through the rules.
#[must_use]
pub fn check(rules: &Rules) -> Findings {
    let mut found = Findings { demands: rules.demand(), ..Findings::default() };
    let mut reached = vec![false; rules.rules.len()];
    for action in ACTIONS {
        let is_closed = walk(rules, action, &mut reached, &mut found);
        if !is_closed && rules.default == Effect::Allow && amounts_without_conditions(action) {
            found.open.push(format!("the default allows {action}, which amounts to root"));
        }
    }
    for (rule, _) in rules.rules.iter().zip(&reached).filter(|(_, reached)| !**reached) {
        let text = rule.own_text();
        found
            .notes
            .push(format!("{text}: never reached, a rule in front of it decides about all that it is about"));
    }
    if lists_by_signature(rules) {
        found
            .notes
            .push("link-list is a query, which carries no signature: what demands one refuses it".into());
    }
    found
}

/// Goes through what decides about an action, to the first rule that leaves nothing to those behind it.
fn walk(rules: &Rules, action: &str, reached: &mut [bool], found: &mut Findings) -> bool {
    for (rule, reached) in rules.rules.iter().zip(reached) {
        if !rule.is_about(action) {
            continue;
        }
        *reached = true;
        if rule.effect == Effect::Allow
            && let Some(why) = amounts_to_root(rule, action)
        {
            found.open.push(format!("{}: allows {action} that amounts to root: {why}", rule.own_text()));
        }
        if rule.when.is_always() {
            return true;
        }
    }
    false
}

/// Why what a rule allows amounts to root, if it does.
fn amounts_to_root(rule: &Rule, action: &str) -> Option<&'static str> {
    match action {
        "run" | "run-reboot" => start_amounts(rule),
        "put" if rule.when.is_always() || rule.when.path.is_some() => {
            Some("what is put is written as root, with any owner and mode")
        }
        "get" if rule.when.is_always() => Some("it reads any file as root"),
        "get" => {
            let paths = rule.when.path.as_ref()?;
            let secret = paths.iter().any(|path| !is_open_to_all(path));
            secret.then_some("it reads as root where secrets can be")
        }
        _ => None,
    }
}

fn start_amounts(rule: &Rule) -> Option<&'static str> {
    let when = &rule.when;
    if when.path.is_some() || when.link.is_some() || !runs_as_root(rule) {
        return None;
    }
    let env = when.env.is_some().then_some("it lets variables in");
    let around = env.or_else(|| when.cwd.is_some().then_some("it lets the request say where it starts"));
    let around = around.or_else(|| (when.input == Some(true)).then_some("it reads what the request sends"));
    match (&when.command, &when.program) {
        (None, None) => Some("it names neither a command nor a program, and runs as root"),
        (Some(command), _) if !command.is_literal() => {
            Some("its command has words that the request can choose")
        }
        (_, Some(programs)) if programs.iter().any(|program| program.literal().is_none()) => {
            Some("it runs any program as root")
        }
        (_, Some(_)) if !when.args.as_ref().is_some_and(super::pattern::Words::is_literal) => {
            Some("its program has words that the request can choose")
        }
        (Some(_), _) | (None, Some(_)) => around,
    }
}

/// Whether what the rule allows can run as root: where neither the rule nor its condition names others alone.
fn runs_as_root(rule: &Rule) -> bool {
    let is_root = |name: &str| users_of(name).iter().any(|name| name == ROOT);
    match (&rule.run_as, &rule.when.user) {
        (Some(user), _) => is_root(user),
        (None, Some(users)) => {
            users.iter().map(Word::literal).any(|user| user.is_none_or(|user| is_root(&user)))
        }
        (None, None) => true,
    }
}

fn amounts_without_conditions(action: &str) -> bool {
    matches!(action, "run" | "run-reboot" | "put" | "get")
}

/// Whether a path leads, by names that are no patterns, into a place that holds no secrets.
fn is_open_to_all(path: &PathPattern) -> bool {
    let front = path.literal_front();
    OPEN_PLACES.iter().any(|place| {
        front.len() >= place.len() && place.iter().zip(&front).all(|(name, found)| name == found)
    })
}

fn lists_by_signature(rules: &Rules) -> bool {
    let rule = rules.rules.iter().find(|rule| rule.is_about("link-list"));
    rule.map_or(rules.default, |rule| rule.effect) == Effect::RequireSignature
}

const OPEN_PLACES: [&[&str]; 5] = [&["srv"], &["tmp"], &["usr"], &["var", "log"], &["var", "tmp"]];

#[cfg(test)]
mod tests;
