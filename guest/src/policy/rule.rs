//! One rule: when it fits, what it says, and its own text.
//!
//! Made by `file`, asked by `policy` in the order of the file. Looks at nothing but what is asked.

use super::asked::{Asked, Place, Start, What};
use super::pattern::{PathPattern, Word, Words};
use std::fmt::Write as _;

/// What a rule does with what it fits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Lets it begin.
    Allow,
    /// Refuses it.
    Deny,
    /// Lets it begin with a good signature.
    RequireSignature,
}

impl Effect {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::RequireSignature => "require-signature",
        }
    }
}

/// A rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Its place in the file, from 1.
    pub number: usize,
    /// What it does.
    pub effect: Effect,
    /// What its owner says of it.
    pub text: Option<String>,
    /// The actions that it is about.
    pub actions: Vec<Word>,
    /// What else has to be so.
    pub when: When,
    /// The user that whatever it lets begin runs as.
    pub run_as: Option<String>,
    /// How much that may take at most.
    pub caps: Caps,
}

/// Conditions. One that is not named is met, but for what stands at [`Rule::fits`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct When {
    /// All words of a command of the guest.
    pub command: Option<Words>,
    /// Digests of programs that come with the request.
    pub program: Option<Vec<Word>>,
    /// The words behind the name of such a program.
    pub args: Option<Words>,
    /// As whom.
    pub user: Option<Vec<Word>>,
    /// Names of variables.
    pub env: Option<Vec<Word>>,
    /// Where it starts.
    pub cwd: Option<Vec<PathPattern>>,
    /// Whether it may read, or reads, what the manager sends.
    pub input: Option<bool>,
    /// What is put or read.
    pub path: Option<Vec<PathPattern>>,
    /// Links.
    pub link: Option<Vec<Word>>,
}

/// The most that something may take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Caps {
    /// Bytes of memory.
    pub memory_max: Option<u64>,
    /// Processes and threads at once.
    pub processes_max: Option<u32>,
    /// Hundredths of one processor's time.
    pub cpu_percent_max: Option<u32>,
    /// Milliseconds it may run.
    pub timeout_ms: Option<u64>,
}

impl Rule {
    /// Whether it is about this. A rule that allows a command or a program that it names lets it have no variables, no
    /// directory and no input but what the rule names as well: each of them can make another program of it. A rule that
    /// denies or demands is about all that has one of what it names, by any name that it goes by.
    #[must_use]
    pub fn fits(&self, asked: &Asked) -> bool {
        let strict = self.effect == Effect::Allow;
        self.is_about(asked.action)
            && match &asked.what {
                What::Start(start) => self.when.fits_start(start, strict),
                What::Path(place) => {
                    self.when.is_of_paths() && fits_place(self.when.path.as_ref(), Some(place), strict)
                }
                What::Link(names) => self.when.is_of_links() && fits_any(self.when.link.as_ref(), names),
                What::Nothing => self.when == When::default(),
            }
    }

    /// Whether it is about actions of this name.
    #[must_use]
    pub fn is_about(&self, action: &str) -> bool {
        self.actions.iter().any(|pattern| pattern.fits(action))
    }

    /// Its own text: its number, and what its owner says of it or else what it says itself.
    #[must_use]
    pub fn own_text(&self) -> String {
        match &self.text {
            Some(text) => format!("rule {}: {text}", self.number),
            None => format!("rule {}: {}", self.number, self.as_written()),
        }
    }

    /// What it says, in one line.
    #[must_use]
    pub fn as_written(&self) -> String {
        let mut line = self.effect.as_str().to_owned();
        let mut add = |name: &str, words: Vec<&str>| {
            let _ = if name.is_empty() {
                write!(line, " {}", words.join(", "))
            } else {
                write!(line, ", {name} {words:?}")
            };
        };
        add("", self.actions.iter().map(Word::as_str).collect());
        let When { command, program, args, user, env, cwd, input, path, link } = &self.when;
        for (name, words) in [("command", command), ("args", args)] {
            words.iter().for_each(|words| add(name, words.texts().collect()));
        }
        for (name, words) in [("program", program), ("user", user), ("env", env), ("link", link)] {
            words.iter().for_each(|words| add(name, words.iter().map(Word::as_str).collect()));
        }
        for (name, paths) in [("cwd", cwd), ("path", path)] {
            paths.iter().for_each(|paths| add(name, paths.iter().map(PathPattern::as_str).collect()));
        }
        input.iter().for_each(|input| line.push_str(if *input { ", input" } else { ", no input" }));
        self.run_as.iter().for_each(|user| line.push_str(&format!(", run-as {user:?}")));
        line
    }
}

impl When {
    /// Whether it looks at nothing but the action.
    #[must_use]
    pub fn is_always(&self) -> bool {
        *self == Self::default()
    }

    const fn is_of_paths(&self) -> bool {
        !self.is_of_starts() && self.link.is_none()
    }

    const fn is_of_links(&self) -> bool {
        !self.is_of_starts() && self.path.is_none()
    }

    const fn is_of_starts(&self) -> bool {
        self.command.is_some()
            || self.program.is_some()
            || self.args.is_some()
            || self.user.is_some()
            || self.env.is_some()
            || self.cwd.is_some()
            || self.input.is_some()
    }

    fn fits_start(&self, start: &Start, strict: bool) -> bool {
        self.path.is_none()
            && self.link.is_none()
            && self.fits_program(start, strict)
            && fits_any(self.user.as_ref(), &start.users)
            && self.fits_around(start, strict)
    }

    fn fits_program(&self, start: &Start, strict: bool) -> bool {
        match (&start.program, &self.program, &self.command) {
            (_, None, None) => true,
            (Some(digest), Some(programs), _) => {
                programs.iter().any(|pattern| pattern.fits(digest))
                    && self.args.as_ref().is_none_or(|args| args.fits(&start.words))
            }
            (None, _, Some(command)) => {
                command.fits(&start.words) || !strict && fits_by_other_name(command, start)
            }
            (Some(_), None, Some(_)) | (None, Some(_), None) => false,
        }
    }

    fn fits_around(&self, start: &Start, strict: bool) -> bool {
        if !strict {
            let env = self.env.as_ref().is_none_or(|env| start.env.iter().any(|name| fits_one(env, name)));
            let input = self.input.is_none_or(|input| input == start.input);
            return env && input && fits_place(self.cwd.as_ref(), start.cwd.as_ref(), strict);
        }
        // Who is let run things as somebody is not let become somebody else.
        if start.new_privileges && self.user.is_some() {
            return false;
        }
        let named = self.command.is_some() || self.program.is_some();
        let env = match &self.env {
            Some(env) => start.env.iter().all(|name| fits_one(env, name)),
            None => !named || start.env.is_empty(),
        };
        let cwd = match (&self.cwd, &start.cwd) {
            (_, None) => true,
            (None, Some(_)) => !named,
            (Some(_), place) => fits_place(self.cwd.as_ref(), place.as_ref(), strict),
        };
        env && cwd && (!start.input || self.input.unwrap_or(!named))
    }
}

/// Who denies `rm` means `/bin/rm` as well, and what `/bin` is a link to.
fn fits_by_other_name(command: &Words, start: &Start) -> bool {
    let Some((first, behind)) = start.words.split_first() else { return false };
    let last = first.rsplit('/').next().unwrap_or(first);
    let file = start.file.as_deref();
    let file_name = file.and_then(|file| file.rsplit('/').next());
    let others = [Some(last), file, file_name];
    others.into_iter().flatten().any(|name| {
        let words: Vec<&str> = std::iter::once(name).chain(behind.iter().map(String::as_str)).collect();
        command.fits(&words)
    })
}

fn fits_place(patterns: Option<&Vec<PathPattern>>, place: Option<&Place>, strict: bool) -> bool {
    let Some(patterns) = patterns else { return true };
    let Some(place) = place else { return false };
    patterns.iter().any(|pattern| {
        if strict {
            pattern.fits(&place.real)
        } else {
            pattern.meets(&place.real) || pattern.meets(&place.given)
        }
    })
}

fn fits_any(patterns: Option<&Vec<Word>>, names: &[String]) -> bool {
    patterns.is_none_or(|patterns| names.iter().any(|name| fits_one(patterns, name)))
}

fn fits_one(patterns: &[Word], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.fits(name))
}

#[cfg(test)]
mod tests;
