//! What `doorbell-agent policy check` prints, and how it ends.
//!
//! Called by `main`. Reads one file and changes nothing.

use super::check::{Findings, check};
use super::file::Rules;
use super::rule::{Caps, Rule};
use super::{FILE_LEN_MAX, POLICY};
use crate::verify::owned::{self, NotRead};
use crate::{EXIT_BROKEN_POLICY, EXIT_OPEN_POLICY};
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

/// Which file is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which<'a> {
    /// One that may be anybody's: what would keep the agent from using it is a note.
    Any(&'a Path),
    /// The agent's own.
    Own(Option<&'a Path>),
}

/// Prints the rules of a policy and what is wrong with it; gives the exit status.
///
/// # Errors
/// The kernel's, when the output is not taken.
pub fn report(which: Which<'_>, to: &mut impl Write) -> io::Result<u8> {
    let path = match which {
        Which::Any(path) | Which::Own(Some(path)) => path,
        Which::Own(None) => Path::new(POLICY),
    };
    let mut notes = Vec::new();
    let text = match (owned::read(path, FILE_LEN_MAX), which) {
        (Ok(text), _) => text,
        (Err(NotRead::Absent(_)), Which::Own(None)) => {
            writeln!(to, "{} is not there: all that the manager asks for is allowed", path.display())?;
            return Ok(0);
        }
        (Err(why), Which::Own(_)) => return broken(&why.into_text(), to),
        (Err(why), Which::Any(_)) => match read(path) {
            Ok(text) => {
                notes.push(format!("in its place the agent would not use it: {}", why.into_text()));
                text
            }
            Err(error) => return broken(&format!("{}: {error}", path.display()), to),
        },
    };
    match Rules::read(&text) {
        Ok(rules) => tell(&rules, notes, to),
        Err(why) => broken(&format!("{}: {why}", path.display()), to),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let len = File::open(path)?.take(FILE_LEN_MAX.saturating_add(1)).read_to_end(&mut text)?;
    if len as u64 > FILE_LEN_MAX { Err(io::Error::from(io::ErrorKind::FileTooLarge)) } else { Ok(text) }
}

fn broken(why: &str, to: &mut impl Write) -> io::Result<u8> {
    writeln!(to, "broken, so nothing is allowed: {}", why.escape_debug())?;
    Ok(EXIT_BROKEN_POLICY)
}

fn tell(rules: &Rules, mut notes: Vec<String>, to: &mut impl Write) -> io::Result<u8> {
    for rule in &rules.rules {
        writeln!(to, "{}", line_of(rule))?;
    }
    writeln!(to, "default: {}", rules.default.as_str())?;
    let found = check(rules);
    let Findings { open, notes: more, .. } = &found;
    notes.extend(more.iter().cloned());
    for line in notes {
        writeln!(to, "note: {line}")?;
    }
    let word = if found.fails() { "fails" } else { "note" };
    for line in open {
        writeln!(to, "{word}: without a signature, {line}")?;
    }
    if found.fails() {
        writeln!(to, "fails: it demands signatures, and none is needed for what amounts to root")?;
        return Ok(EXIT_OPEN_POLICY);
    }
    Ok(0)
}

fn line_of(rule: &Rule) -> String {
    let Caps { memory_max, processes_max, cpu_percent_max, timeout_ms } = rule.caps;
    let caps = [
        memory_max.map(|bytes| format!("memory {bytes} bytes")),
        processes_max.map(|count| format!("{count} processes")),
        cpu_percent_max.map(|percent| format!("cpu {percent}%")),
        timeout_ms.map(|ms| format!("{ms} ms")),
    ];
    let caps: Vec<String> = caps.into_iter().flatten().collect();
    let caps = if caps.is_empty() { String::new() } else { format!(", at most {}", caps.join(", ")) };
    let text = rule.text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
    format!("rule {}: {}{caps}{text}", rule.number, rule.as_written())
}

#[cfg(test)]
mod tests;
