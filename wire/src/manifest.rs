//! The text that is signed: everything that decides what a request does, written in one way only.
//!
//! Called by the command line for a person to read and sign, and by the agent with the very values it is going to
//! act on; the signature is over these bytes. So nothing is ever parsed back, and what was not written here cannot
//! have been signed. Every type is taken apart without a rest: a field that is new does not compile until it is
//! written, or a reason stands beside it.

use crate::ids::ShortText;
use crate::message::action::{
    Action, Executable, Form, Get, Input, Limits, LinkSelector, LinkSet, Payload, Program, Put, Reboot, Run,
    RunParts, RunReboot,
};
use crate::message::{Offer, Signed, Target, Terms};
use std::fmt::{self, Display, Write as _};

/// The namespace of our signatures: a signature that some other tool asked for is none of ours.
pub const NAMESPACE: &str = "doorbell-request";

/// Why an action cannot be signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unsignable {
    /// It reads what nobody knows beforehand.
    #[error(
        "a program that reads input or has a terminal cannot be signed: what it will read is not known; put a file there and let it read that"
    )]
    Input,
    /// It is not a request.
    #[error("a query is not signed: it changes nothing")]
    Query,
}

impl Offer {
    /// The text that its signature has to be over; `None` where it has no signature.
    #[must_use]
    pub fn manifest(&self) -> Option<Result<String, Unsignable>> {
        // Name and places in the order are the manager's: what was signed is bound to one request by its nonce.
        let Self { request: _, sequence: _, floor: _, action, timeout_ms, idempotent, signed } = self;
        // Proof and signature are about the text and cannot stand in it.
        let Signed { terms, proof: _, signature: _ } = signed.as_deref()?;
        Some(manifest(action, *timeout_ms, *idempotent, terms))
    }
}

/// The text for an action under these terms.
///
/// # Errors
/// [`Unsignable`].
pub fn manifest(
    action: &Action,
    timeout_ms: Option<u64>,
    idempotent: bool,
    terms: &Terms,
) -> Result<String, Unsignable> {
    let mut text = Text(format!("{NAMESPACE} 1\n"));
    text.line("action", action.name());
    text.action(action)?;
    text.option("timeout-ms", timeout_ms);
    text.line("may-start-again", yes(idempotent));
    text.terms(terms);
    Ok(text.0)
}

struct Text(String);

impl Text {
    fn action(&mut self, action: &Action) -> Result<(), Unsignable> {
        match action {
            Action::Run(run) => self.run(run),
            Action::LinkList | Action::Can(_) => Err(Unsignable::Query),
            Action::LinkSet(set) => {
                self.link(set);
                Ok(())
            }
            Action::Put(put) => {
                self.put(put);
                Ok(())
            }
            Action::Get(Get { path }) => {
                self.quoted("path", path.as_str());
                Ok(())
            }
            // The step counts what has happened; the agent takes none that its own journal does not have.
            Action::RunReboot(RunReboot { run, reboot, step: _ }) => {
                self.run(run)?;
                match reboot {
                    Reboot::AfterSuccess => self.line("reboot", "after success"),
                    Reboot::OnStatus { status, steps_max } => {
                        self.line("reboot", format_args!("on status {status}, steps at most {steps_max}"));
                    }
                }
                Ok(())
            }
        }
    }

    fn run(&mut self, run: &Run) -> Result<(), Unsignable> {
        let RunParts { executable, args, env, cwd, user, input, limits, new_privileges } = run.parts();
        match executable {
            Executable::InGuest(command) => self.quoted("command", command.as_str()),
            // The digest fixes the length, which a signer need not know of a program that lives elsewhere.
            Executable::Program(Program { digest, len: _, name }) => {
                self.line("program", format_args!("sha256:{digest}"));
                self.quoted("program-name", name.as_str());
            }
        }
        self.line("arguments", args.len());
        args.iter().for_each(|arg| self.quoted("argument", arg));
        self.line("variables", env.len());
        for (name, value) in env {
            self.line("variable", format_args!("{} = {}", Quoted(name), Quoted(value)));
        }
        self.option("directory", cwd.as_ref().map(|path| Quoted(path.as_str())));
        self.option("user", user.as_ref().map(|user| Quoted(user.as_str())));
        match input {
            Input::None => self.line("input", "none"),
            Input::Stream | Input::Terminal(_) => return Err(Unsignable::Input),
        }
        let Limits { memory_max, processes_max, cpu_percent_max, output_len_max } = limits;
        self.option("memory-max", *memory_max);
        self.option("processes-max", *processes_max);
        self.option("cpu-percent-max", *cpu_percent_max);
        self.line("output-max", output_len_max);
        self.line("new-privileges", yes(*new_privileges));
        Ok(())
    }

    /// Up and down are in the action's name.
    fn link(&mut self, LinkSet { link, up: _ }: &LinkSet) {
        match link {
            LinkSelector::Name(name) => self.quoted("link-name", name.as_str()),
            LinkSelector::Mac(mac) => self.line("link-address", mac),
        }
    }

    fn put(&mut self, Put { path, payload, form, mode, owner, replace }: &Put) {
        let Payload { digest, len: _ } = payload;
        self.quoted("path", path.as_str());
        let form = match form {
            Form::File => "file",
            Form::Archive => "archive",
        };
        self.line(form, format_args!("sha256:{digest}"));
        self.option("mode", mode.map(|mode| format!("{:04o}", u16::from(mode))));
        self.option("owner", owner.as_ref().map(ShortText::as_str).map(Quoted));
        self.line("replace", yes(*replace));
    }

    fn terms(&mut self, Terms { target, not_before_s, expires_s, nonce }: &Terms) {
        match target {
            Target::Guest(guest) => self.line("guest", guest),
            Target::Guests { root, count } => {
                self.line("guests", format_args!("{count}, root sha256:{root}"))
            }
        }
        self.option("not-before", not_before_s.map(Moment));
        self.line("expires", Moment(*expires_s));
        self.line("nonce", nonce);
    }

    fn line(&mut self, name: &str, value: impl Display) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "{name}: {value}");
    }

    fn quoted(&mut self, name: &str, value: &str) {
        self.line(name, Quoted(value));
    }

    /// What is absent is a bare word, what is a text stands in quotes: neither is taken for the other.
    fn option(&mut self, name: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.line(name, value),
            None => self.line(name, "none"),
        }
    }
}

const fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// A text within quotes. Every byte that is not a plain sign of ASCII is written by its number, so that one line
/// is one value, and nothing looks like what it is not.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for byte in self.0.bytes() {
            match byte {
                b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                b' '..=b'~' => f.write_char(char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_char('"')
    }
}

/// Seconds since the Unix epoch as a date and time of day, UTC.
#[derive(Clone, Copy, Debug)]
pub struct Moment(pub u64);

impl Display for Moment {
    #[allow(
        clippy::arithmetic_side_effects,
        reason = "the days of a u64 of seconds leave room for every sum here"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // Years begin in March here, so that a leap day is a year's last; 400 of them are one round.
        let shifted = days + 719_468;
        let (round, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = year + round * 400 + next;
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}
