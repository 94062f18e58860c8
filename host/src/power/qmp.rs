//! QMP as far as it is needed here, as a value: lines of the monitor go in, what they mean and the next command
//! come out.
//!
//! Driven by the task that follows a guest's monitor. Trusts no line: each is JSON of which few fields are
//! read, and an answer counts only as the answer to what was asked.

use doorbell_api::guest::PowerState;
use serde::Deserialize;

/// What a line of the monitor means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// The machine is in this state, in QEMU's own word for it.
    State(PowerState, &'static str),
    /// What ran in the machine is gone, and it begins anew.
    Reset,
}

/// Why a conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("line {0:?} is no JSON of QMP: {1}")]
    NotQmp(String, serde_json::Error),
    #[error(
        "it greets with {0:?} where {{\"QMP\": …}} was expected: the path must name a QMP monitor (-qmp), not HMP"
    )]
    NoGreeting(String),
    #[error("it refused {0}: {1:?}")]
    Refused(&'static str, String),
    #[error("it answered {got:?} where the answer to {asked} was awaited")]
    WrongAnswer { asked: &'static str, got: String },
}

/// One conversation.
#[derive(Debug)]
pub(super) struct Qmp {
    at: At,
    // The number of the command whose answer is awaited.
    awaited: Option<u64>,
    number: u64,
    to_ask: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    Greeting,
    Negotiating,
    Following,
}

impl At {
    /// What was asked there.
    const fn command(self) -> &'static str {
        match self {
            Self::Greeting => "nothing",
            Self::Negotiating => "qmp_capabilities",
            Self::Following => "query-status",
        }
    }
}

/// The fields of a line that mean something here.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<serde::de::IgnoredAny>,
    event: Option<String>,
    #[serde(rename = "return")]
    answer: Option<serde_json::Value>,
    error: Option<Refusal>,
    id: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    desc: String,
}

impl Qmp {
    /// A conversation with a monitor that was just connected to.
    pub(super) const fn connected() -> Self {
        Self { at: At::Greeting, awaited: None, number: 0, to_ask: false }
    }

    /// Takes one line.
    ///
    /// # Errors
    /// [`Trouble`]: the connection is to be closed.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<Option<Told>, Trouble> {
        let parsed: Line =
            serde_json::from_slice(line).map_err(|error| Trouble::NotQmp(shown(line), error))?;
        match (self.at, parsed) {
            (At::Greeting, Line { greeting: Some(_), .. }) => {
                self.at = At::Negotiating;
                self.to_ask = true;
                Ok(None)
            }
            (At::Greeting, _) => Err(Trouble::NoGreeting(shown(line))),
            (_, Line { event: Some(event), .. }) => Ok(self.event(&event)),
            (at, Line { error: Some(refusal), .. }) => {
                Err(Trouble::Refused(at.command(), shown(refusal.desc.as_bytes())))
            }
            (at, Line { answer: Some(answer), id, .. }) => {
                let wrong = || Trouble::WrongAnswer { asked: at.command(), got: shown(line) };
                let asked = self.awaited.take().filter(|asked| id == Some((*asked).into()));
                asked.ok_or_else(wrong)?;
                self.answered(&answer).ok_or_else(wrong)
            }
            (at, _) => Err(Trouble::WrongAnswer { asked: at.command(), got: shown(line) }),
        }
    }

    /// Wants to know how the machine is.
    pub(super) const fn ask(&mut self) {
        self.to_ask = true;
    }

    /// The command that is to be written next, if there is one: one at a time.
    pub(super) fn owed(&mut self) -> Option<String> {
        if !self.to_ask || self.awaited.is_some() || self.at == At::Greeting {
            return None;
        }
        self.to_ask = false;
        self.number = self.number.saturating_add(1);
        self.awaited = Some(self.number);
        Some(format!("{{\"execute\":\"{}\",\"id\":{}}}\n", self.at.command(), self.number))
    }

    /// Whether the monitor owes a greeting or an answer.
    pub(super) const fn awaits(&self) -> bool {
        matches!(self.at, At::Greeting) || self.awaited.is_some()
    }

    /// Whether the monitor has taken us on.
    pub(super) fn is_following(&self) -> bool {
        self.at == At::Following
    }

    fn answered(&mut self, answer: &serde_json::Value) -> Option<Option<Told>> {
        if self.at == At::Negotiating {
            self.at = At::Following;
            self.to_ask = true;
            return Some(None);
        }
        let running = answer.get("running")?.as_bool()?;
        let status = answer.get("status")?.as_str()?;
        // What was told since is newer than this answer, and is asked for again.
        Some(Some(state(running, status)).filter(|_| !self.to_ask))
    }

    /// What an event says is asked for as well: what QEMU calls the state it is in, no event tells.
    fn event(&mut self, event: &str) -> Option<Told> {
        let told = match event {
            "STOP" => Some(Told::State(PowerState::Paused, "paused")),
            "SUSPEND" => Some(Told::State(PowerState::Paused, "suspended")),
            "RESUME" | "WAKEUP" => Some(Told::State(PowerState::Running, "running")),
            "SHUTDOWN" => Some(Told::State(PowerState::Off, "shutdown")),
            "RESET" => Some(Told::Reset),
            // The power button, or a step of a migration: the state says what comes of it.
            "POWERDOWN" | "SUSPEND_DISK" | "MIGRATION" | "GUEST_PANICKED" | "WATCHDOG" => None,
            _ => return None,
        };
        self.ask();
        told.filter(|_| self.is_following())
    }
}

/// What QEMU's own flag and word say. Words of a newer QEMU are told by its flag.
fn state(running: bool, status: &str) -> Told {
    let word = WORDS.iter().copied().find(|word| *word == status);
    match (running, status) {
        (true, _) => Told::State(PowerState::Running, word.unwrap_or("running")),
        (false, "shutdown") => Told::State(PowerState::Off, "shutdown"),
        (false, _) => Told::State(PowerState::Paused, word.unwrap_or("stopped")),
    }
}

/// The beginning of what a peer said, for people.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(SHOWN_MAX).collect()
}

const SHOWN_MAX: usize = 120;

/// QEMU's words for the states of a machine.
const WORDS: [&str; 16] = [
    "running",
    "paused",
    "suspended",
    "prelaunch",
    "inmigrate",
    "finish-migrate",
    "postmigrate",
    "save-vm",
    "restore-vm",
    "io-error",
    "internal-error",
    "guest-panicked",
    "watchdog",
    "debug",
    "colo",
    "shutdown",
];

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &[u8] = br#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#;

    fn following() -> Qmp {
        let mut qmp = Qmp::connected();
        assert!(qmp.awaits() && qmp.owed().is_none(), "the monitor speaks first");
        assert_eq!(qmp.take(GREETING).unwrap(), None);
        assert_eq!(qmp.owed().unwrap(), "{\"execute\":\"qmp_capabilities\",\"id\":1}\n");
        assert_eq!(qmp.take(br#"{"return": {}, "id": 1}"#).unwrap(), None);
        assert!(qmp.is_following());
        qmp
    }

    fn asked() -> Qmp {
        let mut qmp = following();
        assert_eq!(qmp.owed().unwrap(), "{\"execute\":\"query-status\",\"id\":2}\n");
        qmp
    }

    fn status(running: bool, status: &str) -> Vec<u8> {
        format!(r#"{{"return":{{"running":{running},"singlestep":false,"status":"{status}"}},"id":2}}"#)
            .into_bytes()
    }

    #[test]
    fn a_monitor_is_greeted_asked_and_followed() {
        let mut qmp = asked();
        assert_eq!(
            qmp.take(&status(true, "running")).unwrap(),
            Some(Told::State(PowerState::Running, "running"))
        );
        assert!(!qmp.awaits() && qmp.owed().is_none());
        let stop = br#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#;
        assert_eq!(qmp.take(stop).unwrap(), Some(Told::State(PowerState::Paused, "paused")));
        assert_eq!(qmp.owed().unwrap(), "{\"execute\":\"query-status\",\"id\":3}\n");
        assert_eq!(qmp.take(br#"{"event": "RESET", "data": {"guest": true}}"#).unwrap(), Some(Told::Reset));
        assert_eq!(qmp.take(br#"{"event": "VSERPORT_CHANGE", "data": [[[1]]]}"#).unwrap(), None);
        assert!(qmp.owed().is_none(), "one command at a time");
    }

    #[test]
    fn every_word_of_qemu_is_a_state() {
        for word in WORDS {
            let told = asked().take(&status(word == "running", word)).unwrap();
            let expected = match word {
                "running" => PowerState::Running,
                "shutdown" => PowerState::Off,
                _ => PowerState::Paused,
            };
            assert_eq!(told, Some(Told::State(expected, word)));
        }
        let told = |running, word| asked().take(&status(running, word)).unwrap();
        assert_eq!(told(false, "hibernated"), Some(Told::State(PowerState::Paused, "stopped")));
        assert_eq!(told(true, "warp"), Some(Told::State(PowerState::Running, "running")));
    }

    #[test]
    fn an_answer_that_an_event_overtook_is_asked_for_again() {
        let mut qmp = asked();
        assert!(qmp.take(br#"{"event": "STOP"}"#).unwrap().is_some());
        assert_eq!(qmp.take(&status(true, "running")).unwrap(), None, "it is older than the event");
        assert_eq!(qmp.owed().unwrap(), "{\"execute\":\"query-status\",\"id\":3}\n");
    }

    #[test]
    fn events_before_the_monitor_has_taken_us_on_mean_nothing() {
        let mut qmp = Qmp::connected();
        qmp.take(GREETING).unwrap();
        let _ = qmp.owed();
        assert_eq!(qmp.take(br#"{"event": "RESET"}"#).unwrap(), None);
        assert!(qmp.take(br#"{"return": {}, "id": 1}"#).is_ok());
    }

    #[test]
    fn what_is_no_qmp_is_refused_in_words_that_say_what_to_do() {
        let text = |qmp: &mut Qmp, line: &[u8]| qmp.take(line).unwrap_err().to_string();
        let hmp = text(&mut Qmp::connected(), b"QEMU 7.2.22 monitor - type 'help'");
        assert!(hmp.starts_with("line \"QEMU 7.2.22 monitor"), "{hmp}");
        let other = text(&mut Qmp::connected(), br#"{"hello": 1}"#);
        assert!(other.contains("must name a QMP monitor"), "{other}");
        assert!(
            text(&mut asked(), br#"{"error": {"class": "x", "desc": "no\nway"}, "id": 2}"#)
                .contains("no\\nway")
        );
        for line in [
            &br#"{"return": {}, "id": 2}"#[..],
            br#"{"return": {"running": 1, "status": "running"}, "id": 2}"#,
            br#"{"return": {"running": true, "status": 7}, "id": 2}"#,
            br#"{"return": {"running": true, "status": "running"}, "id": 1}"#,
            br#"{"return": {"running": true, "status": "running"}}"#,
            br#"{"QMP": {}}"#,
            b"{}",
        ] {
            assert!(text(&mut asked(), line).contains("query-status"), "{}", shown(line));
        }
        for line in [&b"[]"[..], b"7", b"null", b"\xff\xfe", b"{", b"", &b"[".repeat(4096)] {
            assert!(asked().take(line).is_err(), "{}", shown(line));
        }
        assert!(text(&mut asked(), &[b'x'; 5000]).len() < 400, "a long line is cut");
    }
}
