//! The policy's file: from TOML to rules, or to what is wrong with it.
//!
//! Called by `policy` and by `policy check`. A word that is not known, a condition that none of the rule's actions has, a
//! pattern that is none: each makes the whole file broken, for a rule that was meant otherwise is worse than none.

use super::pattern::{PathPattern, Word, Words};
use super::rule::{Caps, Effect, Rule, When};
use serde::Deserialize;

/// The rules of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rules {
    /// In the order of the file: the first one that fits decides.
    pub rules: Vec<Rule>,
    /// What becomes of what none fits.
    pub default: Effect,
}

/// Every action that a rule can be about.
pub const ACTIONS: [&str; 7] = ["run", "run-reboot", "put", "get", "link-up", "link-down", "link-list"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileParts {
    default: Option<EffectWord>,
    #[serde(default)]
    rule: Vec<RuleParts>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EffectWord {
    Allow,
    Deny,
    RequireSignature,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleParts {
    effect: EffectWord,
    actions: Vec<String>,
    text: Option<String>,
    command: Option<Vec<String>>,
    program: Option<Vec<String>>,
    args: Option<Vec<String>>,
    user: Option<Vec<String>>,
    env: Option<Vec<String>>,
    cwd: Option<Vec<String>>,
    input: Option<bool>,
    path: Option<Vec<String>>,
    link: Option<Vec<String>>,
    run_as: Option<String>,
    limits: Option<LimitsParts>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitsParts {
    memory: Option<String>,
    processes: Option<u32>,
    cpu: Option<u32>,
    timeout: Option<String>,
}

impl Rules {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it and where, in one line.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text)
            .map_err(|error| format!("byte {}: it is not UTF-8", error.valid_up_to()))?;
        let parts: FileParts = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count().saturating_add(1);
            format!("line {line}: {}", error.message().replace('\n', " "))
        })?;
        let numbered = (1_usize..).zip(parts.rule);
        let rules = numbered
            .map(|(number, parts)| rule(number, parts).map_err(|why| format!("rule {number}: {why}")));
        let default = parts.default.map_or(Effect::Deny, Effect::from);
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, default })
    }

    /// Whether it demands a signature of anything.
    #[must_use]
    pub fn demand(&self) -> bool {
        let effects = self.rules.iter().map(|rule| rule.effect).chain(std::iter::once(self.default));
        effects.into_iter().any(|effect| effect == Effect::RequireSignature)
    }
}

impl From<EffectWord> for Effect {
    fn from(word: EffectWord) -> Self {
        match word {
            EffectWord::Allow => Self::Allow,
            EffectWord::Deny => Self::Deny,
            EffectWord::RequireSignature => Self::RequireSignature,
        }
    }
}

fn rule(number: usize, parts: RuleParts) -> Result<Rule, String> {
    let effect = Effect::from(parts.effect);
    let actions = words("actions", Some(&parts.actions))?.unwrap_or_default();
    if let Some(none) = actions.iter().find(|pattern| !ACTIONS.iter().any(|action| pattern.fits(action))) {
        return Err(format!("actions: {:?} is none of {}", none.as_str(), ACTIONS.join(", ")));
    }
    if let Some(text) = parts.text.as_ref().filter(|text| !is_fit_to_show(text)) {
        return Err(format!("text: {text:?} is not 1 to {TEXT_LEN_MAX} bytes without control characters"));
    }
    let when = When {
        command: parts.command.as_ref().map(|words| list("command", words)).transpose()?,
        program: programs(parts.program.as_ref())?,
        args: parts
            .args
            .as_ref()
            .map(|words| Words::read(words).map_err(|why| format!("args: {why}")))
            .transpose()?,
        user: words("user", parts.user.as_ref())?,
        env: words("env", parts.env.as_ref())?,
        cwd: paths("cwd", parts.cwd.as_ref())?,
        input: parts.input,
        path: paths("path", parts.path.as_ref())?,
        link: words("link", parts.link.as_ref())?,
    };
    let caps = parts.limits.as_ref().map(caps).transpose()?.unwrap_or_default();
    let rule = Rule { number, effect, text: parts.text, actions, when, run_as: parts.run_as, caps };
    coherent(&rule)?;
    Ok(rule)
}

/// What a rule says has to be about something that its actions have.
fn coherent(rule: &Rule) -> Result<(), String> {
    let Rule { when, run_as, caps, effect, .. } = rule;
    let starts = rule.is_about("run") || rule.is_about("run-reboot");
    let of_starts = [
        ("command", when.command.is_some()),
        ("program", when.program.is_some()),
        ("args", when.args.is_some()),
        ("user", when.user.is_some()),
        ("env", when.env.is_some()),
        ("cwd", when.cwd.is_some()),
        ("input", when.input.is_some()),
        ("run-as", run_as.is_some()),
        ("limits", *caps != Caps::default()),
    ];
    if let Some((name, _)) = of_starts.into_iter().find(|(_, given)| *given && !starts) {
        return Err(format!("{name}: that is for run and run-reboot, and none of them is among its actions"));
    }
    if when.path.is_some() && !rule.is_about("put") && !rule.is_about("get") {
        return Err("path: that is for put and get, and none of them is among its actions".into());
    }
    if when.link.is_some() && !rule.is_about("link-up") && !rule.is_about("link-down") {
        return Err("link: that is for link-up and link-down, and none of them is among its actions".into());
    }
    if when.args.is_some() && when.program.is_none() {
        return Err("args: that is for a program; the words of a command stand in command".into());
    }
    if *effect == Effect::Deny && (run_as.is_some() || *caps != Caps::default()) {
        return Err("run-as and limits are for what may begin, and it denies".into());
    }
    if run_as.as_ref().is_some_and(|user| user.is_empty() || user.len() > USER_LEN_MAX || user.contains('\0'))
    {
        return Err(format!("run-as: a user has 1 to {USER_LEN_MAX} bytes"));
    }
    Ok(())
}

fn list(name: &str, texts: &[String]) -> Result<Words, String> {
    if texts.is_empty() {
        return Err(format!("{name}: it has no words"));
    }
    Words::read(texts).map_err(|why| format!("{name}: {why}"))
}

fn words(name: &str, texts: Option<&Vec<String>>) -> Result<Option<Vec<Word>>, String> {
    each(name, texts, Word::read)
}

fn paths(name: &str, texts: Option<&Vec<String>>) -> Result<Option<Vec<PathPattern>>, String> {
    each(name, texts, PathPattern::read)
}

fn programs(texts: Option<&Vec<String>>) -> Result<Option<Vec<Word>>, String> {
    each("program", texts, |text| {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text == "*" || text.len() == DIGITS && text.bytes().all(hex) {
            return Word::read(text);
        }
        Err(format!("{text:?} is neither a SHA-256 of {DIGITS} digits 0-9 and a-f nor \"*\""))
    })
}

fn each<T>(
    name: &str,
    texts: Option<&Vec<String>>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Vec<T>>, String> {
    let Some(texts) = texts else { return Ok(None) };
    if texts.is_empty() {
        return Err(format!("{name}: an empty list fits nothing"));
    }
    let read = texts.iter().map(|text| read(text).map_err(|why| format!("{name}: {why}")));
    read.collect::<Result<_, _>>().map(Some)
}

fn caps(parts: &LimitsParts) -> Result<Caps, String> {
    let LimitsParts { memory, processes, cpu, timeout } = parts;
    let caps = Caps {
        memory_max: memory.as_deref().map(|text| amount("memory", text, &SIZES)).transpose()?,
        processes_max: *processes,
        cpu_percent_max: *cpu,
        timeout_ms: timeout.as_deref().map(|text| amount("timeout", text, &TIMES)).transpose()?,
    };
    if caps.processes_max == Some(0) || caps.cpu_percent_max == Some(0) {
        return Err("limits: a limit of 0 lets no program run".into());
    }
    Ok(caps)
}

/// A whole number above 0 and its unit.
fn amount(name: &str, text: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let read = |(unit, worth): &(&str, u64)| {
        let digits = text.strip_suffix(unit)?;
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(*worth).filter(|amount| *amount > 0)
    };
    units.iter().find_map(read).ok_or_else(|| {
        let units: Vec<&str> = units.iter().map(|(unit, _)| *unit).filter(|unit| !unit.is_empty()).collect();
        format!("limits: {name}: {text:?} is no number above 0 with one of {}", units.join(", "))
    })
}

fn is_fit_to_show(text: &str) -> bool {
    (1..=TEXT_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

const SIZES: [(&str, u64); 4] = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("", 1)];
const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
/// What is shown of a rule has its number in front, and goes into a short text.
const TEXT_LEN_MAX: usize = 160;
const USER_LEN_MAX: usize = 64;
/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;

#[cfg(test)]
mod tests;
