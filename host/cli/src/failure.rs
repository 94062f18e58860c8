//! What ends a command early: an exit status and one line for people.
//!
//! A failure is printed here and nowhere else, by `main`. Its line says what, which, and what to do.

use crate::exit::Exit;
use crate::text::plain;
use clap::error::ErrorKind;
use doorbell_client::ClientError;
use doorbell_client::api::error::ErrorCode;
use std::io::{self, Write as _};

/// Why the command ended, and with which status.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    report: Report,
    is_gone: bool,
}

#[derive(Debug)]
enum Report {
    /// Nothing is left to be said.
    Nothing,
    /// One line, lower case, without a final stop.
    Line(String),
    /// Help or version, which the user asked for.
    Asked(String),
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, report: Report::Line(message.into()), is_gone: false }
    }

    /// Whether retention has removed what was asked for.
    pub(crate) const fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Of output that was asked for: that it was removed says nothing against the command line.
    pub(crate) fn of_output(self) -> Self {
        let exit = if self.is_gone { Exit::NotSo } else { self.exit };
        Self { exit, ..self }
    }

    /// Of a request that was accepted before the manager or our own input failed: its id must not be lost with it.
    pub(crate) fn of_request(self, id: &str) -> Self {
        match &self.report {
            Report::Line(line) if matches!(self.exit, Exit::Daemon | Exit::Misused) => Self::new(
                self.exit,
                format!("{line}; the request was accepted: `doorbell request attach {id}` goes on with it"),
            ),
            Report::Line(_) | Report::Nothing | Report::Asked(_) => self,
        }
    }

    pub(crate) const fn quiet(exit: Exit) -> Self {
        Self { exit, report: Report::Nothing, is_gone: false }
    }

    /// From the parser of the command line, whose texts have several lines.
    pub(crate) fn usage(error: &clap::Error) -> Self {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            let text = error.render();
            let text = if console::colors_enabled() { text.ansi().to_string() } else { text.to_string() };
            return Self { exit: Exit::Done, report: Report::Asked(text), is_gone: false };
        }
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::new(Exit::Misused, "no command was given; see `doorbell --help`");
        }
        Self::new(Exit::Misused, usage_line(&error.render().to_string()))
    }

    /// Prints what there is to say and gives the status.
    pub(crate) fn report(self) -> Exit {
        // Where nobody reads any more, there is nobody to tell.
        let _ = match self.report {
            Report::Nothing => Ok(()),
            Report::Line(line) => writeln!(io::stderr(), "doorbell: {}", plain(&line)),
            Report::Asked(text) => io::stdout().write_all(text.as_bytes()),
        };
        self.exit
    }

    #[cfg(test)]
    pub(crate) fn line(&self) -> &str {
        match &self.report {
            Report::Line(line) => line,
            Report::Nothing | Report::Asked(_) => "",
        }
    }

    #[cfg(test)]
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let is_gone = matches!(error, ClientError::Refused { code: ErrorCode::Gone, .. });
        Self { is_gone, ..Self::new(Exit::of_error(&error), describe(&error)) }
    }
}

/// One line for an error of the SDK, with what to do.
pub(crate) fn describe(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { socket, source } => unreachable(&socket.display().to_string(), source),
        ClientError::Lost { source, .. } => {
            format!(
                "{error}: {source}; see `doorbell doctor`, then `doorbell request ls` for what was accepted"
            )
        }
        ClientError::Source(source) => format!("{error}: {source}"),
        ClientError::Protocol { .. } => format!("{error}; are doorbell and doorbelld of the same version?"),
        ClientError::Refused { .. } | ClientError::Misuse { .. } => error.to_string(),
    }
}

fn unreachable(socket: &str, source: &io::Error) -> String {
    const START: &str = "start it with `systemctl start doorbelld`, or name its socket with --socket";
    const ALLOWED: &str = "run this as root, or as a member of the group that doorbelld gives its socket to";
    let kind = source.kind();
    if kind == io::ErrorKind::NotFound {
        return format!("doorbelld is not running: there is no socket {socket}; {START}");
    }
    if kind == io::ErrorKind::ConnectionRefused {
        return format!("doorbelld is not running: nobody listens on {socket}; {START}");
    }
    if kind == io::ErrorKind::PermissionDenied {
        return format!("permission denied on {socket}: {ALLOWED}");
    }
    format!("cannot reach doorbelld at {socket}: {source}; see `doorbell doctor`")
}

/// The parser's lines up to its usage, as one, and the help of the command that was meant.
fn usage_line(text: &str) -> String {
    let said: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let line =
        said.join(" ").replace(" tip: ", "; ").replace("invalid digit found in string", "not a number");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let usage = text.lines().find_map(|line| line.trim().strip_prefix("Usage: ")).unwrap_or("doorbell");
    let is_word = |word: &&str| word.chars().all(|letter| letter.is_ascii_lowercase());
    let command = usage.split(' ').take_while(is_word).collect::<Vec<_>>().join(" ");
    let separator = if line.starts_with("unexpected argument") && usage.contains("-- ") {
        "; the guest's command goes behind `--`"
    } else {
        ""
    };
    format!("{line}{separator}; see `{command} --help`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser as _;

    fn refused(words: &[&str]) -> Failure {
        let words = ["doorbell"].iter().chain(words);
        Failure::usage(&Cli::try_parse_from(words).expect_err("must be refused"))
    }

    #[test]
    fn a_bad_command_line_is_one_line() {
        for words in [
            &["guest", "add"][..],
            &["run"],
            &["run", "web-3"],
            &["gest"],
            &["run", "web-3", "--env", "A", "--", "true"],
            &["run", "web-3", "--timeout", "30", "--", "true"],
            &["guest", "add", "a", "--cid", "7", "--hybrid-socket", "/x"],
            &[],
        ] {
            let failure = refused(words);
            assert_eq!(failure.exit(), Exit::Misused);
            assert!(failure.line().contains("see `doorbell"), "{words:?}: {}", failure.line());
            assert!(failure.line().ends_with("--help`"), "{words:?}: {}", failure.line());
            assert!(!failure.line().contains('\n'), "{}", failure.line());
        }
    }

    #[test]
    fn a_bad_command_line_is_sent_to_the_help_of_its_command() {
        let failure = refused(&["run", "web-3", "uname", "-a"]);
        assert!(failure.line().contains("the guest's command goes behind `--`"), "{}", failure.line());
        assert!(failure.line().ends_with("see `doorbell run --help`"), "{}", failure.line());
        let failure = refused(&["guest", "add", "a", "--cid", "abc"]);
        assert!(failure.line().ends_with("not a number; see `doorbell --help`"), "{}", failure.line());
    }

    #[test]
    fn an_unreachable_daemon_is_told_by_its_cause() {
        let say = |kind: io::ErrorKind| {
            describe(&ClientError::Unreachable {
                socket: "/run/x.sock".into(),
                source: io::Error::from(kind),
            })
        };
        assert!(
            say(io::ErrorKind::NotFound)
                .starts_with("doorbelld is not running: there is no socket /run/x.sock;")
        );
        assert!(say(io::ErrorKind::ConnectionRefused).contains("nobody listens on /run/x.sock; start it"));
        assert!(
            say(io::ErrorKind::PermissionDenied)
                .starts_with("permission denied on /run/x.sock: run this as root")
        );
    }
}
