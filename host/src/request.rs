//! The life of a request, as a table of moves. Pure.
//!
//! Asked by the store before it writes any new state. Trusts nothing: a move the table does not have is
//! not made, whoever reports it.

use doorbell_api::request::{
    self as api, Action as Shown, Form, Get, Input, Limits, Link, ProgramRef, Put, Run, Source, State,
    Variable, Window,
};
use doorbell_wire::limits::OUTPUT_LEN_DEFAULT;
use doorbell_wire::message::Stage;
use doorbell_wire::message::action::{self as wire, Action, Executable, LinkSet, RunParts, RunReboot};

/// What came of asking for a request that nothing refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// It is new and on disk.
    Accepted,
    /// The same was accepted before.
    Unchanged,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Happening {
    /// It is the answer to its guest's pull.
    Offered,
    /// The guest reports that it has the program.
    Fetched,
    /// The guest reports that the effect has begun.
    Started,
    /// The guest pulls although this had started, so it lost it; it may be started again.
    LostAgain,
    /// The guest pulls although this had started, so it lost it for good.
    Lost,
    /// A second person has approved it.
    Approved,
    /// Its expiry passed.
    Expired,
    /// Its program is not in the manager's store.
    ProgramGone,
    /// Its guest's agent is too old for it, or cannot do it there.
    Unsupported,
    /// A cancel was asked for and nothing runs.
    Cancelled,
    /// Its guest was removed.
    GuestRemoved,
    /// Its guest has been away for too long since it had started.
    Vanished,
    /// The guest has rebooted for it, and its next step may start.
    Continues,
    /// The guest's last word, with the state that goes with it.
    Acknowledged(State),
}

/// All states, in the order of the printed table.
pub const STATES: [State; 19] = [
    State::Unapproved,
    State::Queued,
    State::Offered,
    State::Fetched,
    State::Started,
    State::Succeeded,
    State::Failed,
    State::Killed,
    State::TimedOut,
    State::Cancelled,
    State::Refused,
    State::Interrupted,
    State::NotRetrieved,
    State::NotReceived,
    State::NotVerified,
    State::NotStarted,
    State::Expired,
    State::Undeliverable,
    State::Unconfirmed,
];

/// Whether nothing more is awaited of a guest: an unconfirmed request may still be told of.
#[must_use]
pub const fn is_closed(state: State) -> bool {
    state.is_final() && !matches!(state, State::Unconfirmed)
}

/// Who brings a request into a state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner {
    /// The manager's own records.
    Store,
    /// The answer to a guest's pull.
    Session,
    /// The guest, by what it says, does and no longer knows.
    Guest,
    /// Who asked, or takes the guest away.
    Operator,
    /// A time that has passed.
    Timer,
    /// The hypervisor, by what it says of the guest's machine.
    Power,
}

/// The one owner of a state: nobody else decides that a request gets there, whoever reports it.
#[must_use]
pub const fn owner(state: State) -> Owner {
    match state {
        State::Unapproved | State::Queued | State::NotRetrieved => Owner::Store,
        State::Offered => Owner::Session,
        State::Fetched
        | State::Started
        | State::Succeeded
        | State::Failed
        | State::Killed
        | State::TimedOut
        | State::Refused
        | State::Interrupted
        | State::NotReceived
        | State::NotVerified
        | State::NotStarted => Owner::Guest,
        State::Cancelled | State::Undeliverable => Owner::Operator,
        State::Expired | State::Unconfirmed => Owner::Timer,
        State::Held => Owner::Power,
    }
}

/// Where a request that stands at `state` goes; `None` where it stays.
#[must_use]
pub fn next(state: State, happening: Happening) -> Option<State> {
    use Happening as H;
    use State as S;
    if state == S::Unconfirmed {
        return unconfirmed(happening);
    }
    if state.is_final() {
        return None;
    }
    if state == S::Unapproved {
        return unapproved(happening);
    }
    let waits = state != S::Started;
    match happening {
        H::Approved => None,
        H::Offered => waits.then_some(S::Offered),
        H::Fetched => matches!(state, S::Queued | S::Offered).then_some(S::Fetched),
        H::Started => waits.then_some(S::Started),
        H::LostAgain => (!waits).then_some(S::Queued),
        H::Lost => (!waits).then_some(S::Interrupted),
        H::Expired => waits.then_some(S::Expired),
        H::ProgramGone => waits.then_some(S::NotRetrieved),
        H::Unsupported => waits.then_some(S::Refused),
        H::Cancelled => waits.then_some(S::Cancelled),
        H::GuestRemoved => Some(S::Undeliverable),
        H::Vanished => (!waits).then_some(S::Unconfirmed),
        H::Continues => (!waits).then_some(S::Queued),
        H::Acknowledged(outcome) => outcome.is_final().then_some(outcome),
    }
}

/// What follows where no guest has a say yet.
const fn unapproved(happening: Happening) -> Option<State> {
    match happening {
        Happening::Approved => Some(State::Queued),
        Happening::Expired => Some(State::Expired),
        Happening::Cancelled => Some(State::Cancelled),
        Happening::GuestRemoved => Some(State::Undeliverable),
        Happening::Offered
        | Happening::Fetched
        | Happening::Started
        | Happening::LostAgain
        | Happening::Lost
        | Happening::ProgramGone
        | Happening::Unsupported
        | Happening::Vanished
        | Happening::Continues
        | Happening::Acknowledged(_) => None,
    }
}

/// What follows where nothing was awaited any more: the guest's own word, or that it knows nothing of it.
fn unconfirmed(happening: Happening) -> Option<State> {
    let to = if let Happening::Acknowledged(outcome) = happening {
        outcome
    } else if happening == Happening::Lost {
        State::Interrupted
    } else {
        return None;
    };
    is_closed(to).then_some(to)
}

/// What a station that the guest reports means for a request; `None` for those that do not move it.
#[must_use]
pub const fn reached(stage: Stage) -> Option<Happening> {
    match stage {
        Stage::Fetched | Stage::Verified => Some(Happening::Fetched),
        Stage::Journalled | Stage::Rebooting => None,
        Stage::Started => Some(Happening::Started),
    }
}

/// The word for a state, in the data base, the API and the audit trail.
#[must_use]
pub const fn word(state: State) -> &'static str {
    match state {
        State::Unapproved => "unapproved",
        State::Queued => "queued",
        State::Offered => "offered",
        State::Fetched => "fetched",
        State::Started => "started",
        State::Succeeded => "succeeded",
        State::Failed => "failed",
        State::Killed => "killed",
        State::TimedOut => "timed-out",
        State::Cancelled => "cancelled",
        State::Refused => "refused",
        State::Interrupted => "interrupted",
        State::NotRetrieved => "not-retrieved",
        State::NotReceived => "not-received",
        State::NotVerified => "not-verified",
        State::NotStarted => "not-started",
        State::Expired => "expired",
        State::Undeliverable => "undeliverable",
        State::Unconfirmed => "unconfirmed",
        State::Held => "held",
    }
}

/// The state with this word.
#[must_use]
pub fn from_word(text: &str) -> Option<State> {
    STATES.into_iter().find(|state| word(*state) == text)
}

/// An action as the API shows it; `None` for a query, which is never a request.
#[must_use]
pub fn shown(action: &Action) -> Option<Shown> {
    match action {
        Action::Run(run) | Action::RunReboot(RunReboot { run, .. }) => {
            Some(Shown::Run(shown_run(run.parts())))
        }
        Action::LinkList | Action::Can(_) => None,
        Action::LinkSet(LinkSet { link, up }) => {
            let link = Link { link: link.to_string() };
            Some(if *up { Shown::LinkUp(link) } else { Shown::LinkDown(link) })
        }
        Action::Put(put) => Some(Shown::Put(shown_put(put))),
        Action::Get(get) => Some(Shown::Get(Get { path: get.path.to_string() })),
    }
}

/// When the guest is to reboot for an action.
#[must_use]
pub const fn reboot(action: &Action) -> Option<api::Reboot> {
    match action {
        Action::RunReboot(RunReboot { reboot: wire::Reboot::AfterSuccess, .. }) => {
            Some(api::Reboot::AfterSuccess)
        }
        Action::RunReboot(RunReboot { reboot: wire::Reboot::OnStatus { status, steps_max }, .. }) => {
            Some(api::Reboot::OnStatus { status: status.get(), steps_max: steps_max.get() })
        }
        Action::Run(_)
        | Action::LinkList
        | Action::LinkSet(_)
        | Action::Put(_)
        | Action::Get(_)
        | Action::Can(_) => None,
    }
}

/// The action whose program lives elsewhere, as it was asked for.
#[must_use]
pub fn from_elsewhere(shown: Shown, source: Option<&Source>) -> Shown {
    match (shown, source) {
        (Shown::Run(run), Some(source)) => {
            Shown::Run(Run { program: None, from: Some(source.clone()), ..run })
        }
        (shown, _) => shown,
    }
}

/// An action in the audit trail: no argument and no variable, either can be a secret.
#[must_use]
pub fn summary(action: &Action) -> String {
    match action {
        Action::Run(run) | Action::RunReboot(RunReboot { run, .. }) => {
            let parts = run.parts();
            let args = parts.args.len();
            let user = parts.user.as_ref().map(|user| format!(" as {:?}", user.as_str())).unwrap_or_default();
            match &parts.executable {
                Executable::InGuest(command) => {
                    format!("run {:?} with arguments: {args}{user}", command.as_str())
                }
                Executable::Program(program) => {
                    format!(
                        "run program {:?} sha256:{} with arguments: {args}{user}",
                        program.name.as_str(),
                        program.digest
                    )
                }
            }
        }
        Action::LinkList | Action::Can(_) => action.name().into(),
        Action::LinkSet(LinkSet { link, .. }) => format!("{} {link}", action.name()),
        Action::Put(put) => {
            let form = match put.form {
                wire::Form::File => "file",
                wire::Form::Archive => "archive",
            };
            let wire::Payload { digest, len, .. } = put.payload;
            format!("put {form} sha256:{digest} of {len} bytes to {:?}", put.path.as_str())
        }
        Action::Get(get) => format!("get {:?}", get.path.as_str()),
    }
}

fn shown_run(parts: &RunParts) -> Run {
    let (command, program) = match &parts.executable {
        Executable::InGuest(command) => (Some(command.as_str().to_owned()), None),
        Executable::Program(program) => {
            (None, Some(ProgramRef { digest: program.digest.to_string(), name: program.name.to_string() }))
        }
    };
    Run {
        command,
        program,
        from: None,
        args: parts.args.clone(),
        env: parts
            .env
            .iter()
            .map(|(name, value)| Variable { name: name.clone(), value: value.clone() })
            .collect(),
        cwd: parts.cwd.as_ref().map(ToString::to_string),
        user: parts.user.as_ref().map(ToString::to_string),
        input: match parts.input {
            wire::Input::None => Input::None,
            wire::Input::Stream => Input::Stream,
            wire::Input::Terminal(wire::Window { rows, columns }) => {
                Input::Terminal(Window { rows, columns })
            }
        },
        limits: Limits {
            memory_max: parts.limits.memory_max,
            processes_max: parts.limits.processes_max,
            cpu_percent_max: parts.limits.cpu_percent_max,
            output_max: Some(parts.limits.output_len_max).filter(|max| *max != OUTPUT_LEN_DEFAULT),
        },
        new_privileges: parts.new_privileges,
    }
}

fn shown_put(put: &wire::Put) -> Put {
    Put {
        path: put.path.to_string(),
        digest: put.payload.digest.to_string(),
        form: match put.form {
            wire::Form::File => Form::File,
            wire::Form::Archive => Form::Archive,
        },
        mode: put.mode.map(octal),
        owner: put.owner.as_ref().map(ToString::to_string),
        replace: put.replace,
    }
}

/// Permission bits as people write them.
pub(crate) fn octal(mode: wire::Mode) -> String {
    format!("{:04o}", u16::from(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAPPENINGS: [Happening; 14] = [
        Happening::Offered,
        Happening::Fetched,
        Happening::Started,
        Happening::LostAgain,
        Happening::Lost,
        Happening::Expired,
        Happening::ProgramGone,
        Happening::Cancelled,
        Happening::GuestRemoved,
        Happening::Unsupported,
        Happening::Vanished,
        Happening::Continues,
        Happening::Approved,
        Happening::Acknowledged(State::Succeeded),
    ];

    const TABLE: &str = "\
state          owner          Offered        Fetched        Started        LostAgain      Lost           Expired        ProgramGone    Cancelled      GuestRemoved   Unsupported    Vanished       Continues      Approved       Acknowledged(Succeeded)
unapproved     store          -              -              -              -              -              expired        -              cancelled      undeliverable  -              -              -              queued         -
queued         store          offered        fetched        started        -              -              expired        not-retrieved  cancelled      undeliverable  refused        -              -              -              succeeded
offered        session        offered        fetched        started        -              -              expired        not-retrieved  cancelled      undeliverable  refused        -              -              -              succeeded
fetched        guest          offered        -              started        -              -              expired        not-retrieved  cancelled      undeliverable  refused        -              -              -              succeeded
started        guest          -              -              -              queued         interrupted    -              -              -              undeliverable  -              unconfirmed    queued         -              succeeded
succeeded      guest          final
failed         guest          final
killed         guest          final
timed-out      guest          final
cancelled      operator       final
refused        guest          final
interrupted    guest          final
not-retrieved  store          final
not-received   guest          final
not-verified   guest          final
not-started    guest          final
expired        timer          final
undeliverable  operator       final
unconfirmed    timer          -              -              -              -              interrupted    -              -              -              -              -              -              -              -              succeeded
held           power          shown instead of queued, offered, fetched, started; what is stored stays and moves
";

    /// A line for each state: its owner, and where each happening moves it.
    fn printed() -> String {
        let line = |words: Vec<String>| {
            let cells: String = words.iter().map(|word| format!("{word:<15}")).collect();
            format!("{}\n", cells.trim_end())
        };
        let mut head = vec!["state".to_owned(), "owner".to_owned()];
        head.extend(HAPPENINGS.map(|happening| format!("{happening:?}")));
        let mut table = line(head);
        for state in STATES {
            let mut cells = vec![word(state).to_owned(), owner_word(state)];
            if is_closed(state) {
                cells.push("final".to_owned());
            } else {
                cells.extend(HAPPENINGS.map(|happening| next(state, happening).map_or("-", word).to_owned()));
            }
            table.push_str(&line(cells));
        }
        let is_with_guest = |state: &State| !state.is_final() && *state != State::Unapproved;
        let open = STATES.into_iter().filter(is_with_guest).map(word).collect::<Vec<_>>();
        let shown = format!("shown instead of {}; what is stored stays and moves", open.join(", "));
        table + &line(vec![word(State::Held).to_owned(), owner_word(State::Held), shown])
    }

    fn owner_word(state: State) -> String {
        format!("{:?}", owner(state)).to_lowercase()
    }

    #[test]
    fn the_table_of_moves_is_this_one() {
        let printed = printed();
        assert_eq!(printed, TABLE, "the moves are now:\n{printed}");
    }

    #[test]
    fn every_move_into_a_state_is_decided_by_the_owner_of_that_state() {
        for state in STATES {
            for happening in HAPPENINGS {
                let by = match happening {
                    Happening::Offered => Owner::Session,
                    Happening::LostAgain
                    | Happening::Continues
                    | Happening::ProgramGone
                    | Happening::Approved => Owner::Store,
                    Happening::Cancelled | Happening::GuestRemoved => Owner::Operator,
                    Happening::Expired | Happening::Vanished => Owner::Timer,
                    Happening::Fetched
                    | Happening::Started
                    | Happening::Lost
                    | Happening::Unsupported
                    | Happening::Acknowledged(_) => Owner::Guest,
                };
                let to = next(state, happening);
                assert!(to.is_none_or(|to| owner(to) == by), "{state:?} {happening:?} {to:?}");
            }
        }
    }

    #[test]
    fn no_happening_leads_to_held_and_no_row_holds_it() {
        assert!(!STATES.contains(&State::Held) && from_word("held").is_none());
        for state in STATES {
            assert!(HAPPENINGS.iter().all(|happening| next(state, *happening) != Some(State::Held)));
        }
        assert!(!State::Held.is_final());
        assert_eq!(next(State::Started, Happening::Acknowledged(State::Held)), None);
    }

    #[test]
    fn the_operators_list_of_states_is_this_one() {
        let paper = include_str!("../../docs/operations.md");
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let rows = paper.lines().skip_while(|line| !line.starts_with("| state | owner |")).skip(2);
        let on_paper: Vec<String> =
            rows.take_while(|line| line.starts_with('|')).map(|line| cells(line)[..2].join(" | ")).collect();
        let in_code: Vec<String> = STATES
            .into_iter()
            .chain([State::Held])
            .map(|state| format!("{} | {}", word(state), owner_word(state)))
            .collect();
        assert_eq!(on_paper, in_code, "the states in docs/operations.md should be:\n{}", in_code.join("\n"));
    }

    #[test]
    fn nothing_moves_a_request_that_has_a_final_state() {
        for state in STATES.into_iter().filter(|state| is_closed(*state)) {
            for happening in HAPPENINGS {
                assert_eq!(next(state, happening), None, "{state:?} {happening:?}");
            }
        }
    }

    #[test]
    fn an_acknowledgement_never_leads_to_an_open_state() {
        for outcome in STATES {
            let to = next(State::Started, Happening::Acknowledged(outcome));
            assert_eq!(to, outcome.is_final().then_some(outcome));
            assert_ne!(next(State::Unconfirmed, Happening::Acknowledged(outcome)), Some(State::Unconfirmed));
        }
    }

    #[test]
    fn every_state_has_a_word_of_its_own_and_it_is_the_one_of_the_api() {
        for state in STATES {
            assert_eq!(from_word(word(state)), Some(state));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("{:?}", word(state)));
        }
        assert_eq!(from_word("done"), None);
    }

    #[test]
    fn the_audit_trail_shows_no_argument_and_no_variable() {
        let run = serde_json::json!({"Run": {"executable": {"InGuest": "passwd"}, "args": ["hunter2"],
            "env": [["TOKEN", "s3cret"]], "user": "bob", "input": "None", "limits": {"output_len_max": 0}}});
        let action: Action = serde_json::from_value(run).unwrap();
        assert_eq!(summary(&action), "run \"passwd\" with arguments: 1 as \"bob\"");
    }
}
