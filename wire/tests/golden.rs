//! Holds `docs/protocol.md` against the code: vectors, frame table, state tables, pictures, limits, reasons
//! and requirements. What the paper says wrongly is printed as it should stand there.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken assumption of a test must end it"
)]

mod common;

use common::paper::{PAPER, header, pictures, table, vectors};
use common::walk::{self, GUEST_HANDS, GUEST_ROWS, HOST_HANDS, HOST_ROWS, Row};
use common::{Message, deframe, samples};
use doorbell_wire::error::{Reason, SessionError};
use doorbell_wire::limits;
use doorbell_wire::message::{FromGuest, FromHost, Kind};
use doorbell_wire::session::guest::Guest;
use doorbell_wire::session::host::Host;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[test]
fn every_vector_in_the_document_decodes_and_re_encodes() {
    let known: BTreeMap<&str, Message> = samples::all().into_iter().collect();
    let mut seen = BTreeSet::new();
    for vector in vectors().iter().filter(|vector| vector.get("refused").is_empty()) {
        let name = vector.get("name");
        assert!(seen.insert(name.to_owned()), "two vectors are called {name}");
        let (frames, end) = deframe(&vector.bytes);
        assert!(end.is_ok_and(|deframer| !deframer.is_mid_frame()), "{name} is not one whole frame");
        let [frame] = &frames[..] else { panic!("{name} is not one frame but {}", frames.len()) };
        assert_eq!(vector.get("frame"), frame.kind.name(), "{name}");
        let since: u16 = vector.get("version").parse().unwrap();
        let versions = frame.kind.since()..=limits::VERSION_CURRENT;
        assert!(versions.contains(&since), "{name} is of version {since}");
        let message = Message::read(frame).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(known.get(name), Some(&message), "{name} does not say what its name says");
        assert_eq!(message.bytes(), vector.bytes, "{name} is written as {:02x?}", message.bytes());
    }
    for (name, message) in known {
        assert!(seen.contains(name), "the paper has no vector {name}: {message:?}\n{:02x?}", message.bytes());
    }
}

#[test]
fn every_refused_vector_is_refused_with_its_reason() {
    let refused: Vec<_> = vectors().into_iter().filter(|vector| !vector.get("refused").is_empty()).collect();
    assert!(refused.len() >= 10, "the paper shows {} refusals", refused.len());
    for vector in refused {
        let name = vector.get("name");
        let error = meet(vector.get("by"), &vector.bytes).expect_err(name);
        let reason = error.reason().unwrap();
        assert_eq!(reason_name(reason), vector.get("refused"), "{name}: {error}");
    }
}

#[test]
fn every_frame_kind_has_a_vector() {
    let on_paper: BTreeSet<String> = vectors().iter().map(|vector| vector.get("frame").to_owned()).collect();
    for kind in Kind::ALL {
        assert!(on_paper.contains(kind.name()), "{} has no vector", kind.name());
    }
}

#[test]
fn the_frame_table_matches_the_code() {
    let columns = [
        "kind",
        "name",
        "from",
        "allowed when (receiver's state)",
        "payload, fixed + variable",
        "max bytes",
        "answer",
        "since",
    ];
    assert_eq!(header(&columns), columns, "the frame table's columns");
    let allowed = allowed_states();
    let rows: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| {
            let from = if kind.byte() < 0x20 { "H" } else { "G" };
            let states = &allowed[kind.name()];
            let max = kind.payload_len_max();
            format!(
                "| {:#04x} | {} | {from} | {states} | … | {max} | … | {} |",
                kind.byte(),
                kind.name(),
                kind.since()
            )
        })
        .collect();
    let on_paper: Vec<String> = table(&columns)
        .iter()
        .map(|row| {
            format!("| {} | {} | {} | {} | … | {} | … | {} |", row[0], row[1], row[2], row[3], row[5], row[7])
        })
        .collect();
    same_lines("frame table", &on_paper, &rows);
}

#[test]
fn the_state_tables_match_the_transition_function() {
    let frames = |wanted: fn(&str) -> bool| -> Vec<(String, FromHost)> {
        walk::guest_columns().into_iter().filter(|(name, _)| wanted(name)).collect()
    };
    let columns = names(&frames(walk::is_of_connection), &["of a request"]);
    let cells = |row: &Row<Guest>| {
        let own = frames(walk::is_of_connection).into_iter().map(|(_, frame)| walk::guest_cell(row, frame).0);
        let others = frames(|name| !walk::is_of_connection(name));
        let others = others.into_iter().map(|(_, frame)| walk::guest_cell(row, frame).0).collect::<Vec<_>>();
        own.chain([of_a_request(row.state, &others), walk::guest_deadline(row)]).collect()
    };
    compare_states("guest connection", &columns, GUEST_ROWS, cells);
    let columns = names(&frames(walk::is_of_request), &[]);
    let cells = |row: &Row<Guest>| {
        let own =
            frames(walk::is_of_request).into_iter().map(|(_, frame)| walk::guest_hand_cell(row, frame).0);
        own.chain([walk::guest_hand_deadline(row)]).collect()
    };
    compare_states("guest request", &columns, GUEST_HANDS, cells);
}

#[test]
fn the_managers_state_tables_match_the_transition_function() {
    let frames = |wanted: fn(&str) -> bool| -> Vec<(String, FromGuest)> {
        walk::host_columns().into_iter().filter(|(name, _)| wanted(name)).collect()
    };
    let columns = names(&frames(walk::is_of_connection), &["of a request"]);
    let cells = |row: &Row<Host>| {
        let about_another = |frame| {
            let presents = matches!(frame, FromGuest::Attach(_));
            if presents { FromGuest::Attach(walk::fresh(walk::other())) } else { frame }
        };
        let own = frames(walk::is_of_connection).into_iter();
        let own = own.map(|(_, frame)| walk::host_cell(row, about_another(frame)).0);
        let others = frames(|name| !walk::is_of_connection(name));
        let others = others.into_iter().map(|(_, frame)| walk::host_cell(row, frame).0).collect::<Vec<_>>();
        own.chain([of_a_request(row.state, &others), walk::host_deadline(row)]).collect()
    };
    compare_states("host connection", &columns, HOST_ROWS, cells);
    let columns = names(&frames(walk::is_of_request), &[]);
    let cells = |row: &Row<Host>| {
        let own = frames(walk::is_of_request).into_iter();
        own.map(|(_, frame)| walk::host_hand_cell(row, frame).0)
            .chain(["none of its own".to_owned()])
            .collect()
    };
    compare_states("host request", &columns, HOST_HANDS, cells);
}

#[test]
fn the_pictures_show_the_steps_the_code_takes() {
    let pictures = pictures();
    let [guest, guest_hand, host, host_hand] = &pictures[..] else {
        panic!("the paper has {} pictures", pictures.len())
    };
    let edges =
        steps(GUEST_ROWS, &walk::guest_columns(), walk::guest_cell, &walk::guest_calls(), Guest::state);
    compare_picture("guest's connection", guest, &edges);
    let (columns, calls) = (walk::guest_columns(), walk::guest_hand_calls());
    let columns: Vec<_> = columns.into_iter().filter(|(name, _)| walk::is_of_request(name)).collect();
    let edges = steps(GUEST_HANDS, &columns, walk::guest_hand_cell, &calls, walk::guest_hand);
    compare_picture("guest's request", guest_hand, &edges);
    let edges = steps(HOST_ROWS, &walk::host_columns(), walk::host_cell, &walk::host_calls(), Host::state);
    compare_picture("host's connection", host, &edges);
    let (columns, calls) = (walk::host_columns(), walk::host_hand_calls());
    let columns: Vec<_> = columns.into_iter().filter(|(name, _)| walk::is_of_request(name)).collect();
    let edges = steps(HOST_HANDS, &columns, walk::host_hand_cell, &calls, walk::host_hand);
    compare_picture("host's request", host_hand, &edges);
}

#[test]
fn the_limits_table_matches_limits_rs() {
    let in_code = constants();
    let rows = table(&["name", "value", "why"]);
    let timers = table(&["name", "value in ms", "starts"]);
    let on_paper: BTreeMap<String, u64> = rows
        .iter()
        .chain(&timers)
        .map(|row| (row[0].clone(), row[1].replace(' ', "").parse().unwrap()))
        .collect();
    assert_eq!(on_paper.len(), rows.len() + timers.len(), "a limit stands on paper twice");
    let in_file: BTreeSet<&str> = include_str!("../src/limits.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect();
    let known: BTreeSet<&str> = in_code.iter().map(|(name, _)| *name).collect();
    assert_eq!(known, in_file, "this test's list against limits.rs");
    let in_code: BTreeMap<String, u64> =
        in_code.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(on_paper, in_code, "the limits and timers on paper against limits.rs");
}

#[test]
fn the_reason_table_matches_the_code() {
    let on_paper: Vec<String> = table(&["code", "name", "text"])
        .iter()
        .map(|row| format!("| {} | {} | {} |", row[0], row[1], row[2]))
        .collect();
    let in_code: Vec<String> = (0..=u16::MAX)
        .map(Reason)
        .filter_map(|reason| {
            reason.text().map(|text| format!("| {} | {} | {text} |", reason.0, reason_name(reason)))
        })
        .collect();
    same_lines("reason table", &on_paper, &in_code);
}

#[test]
fn every_requirement_names_an_existing_test() {
    let rows = table(&["number", "section", "requirement", "code", "test"]);
    let tests = sources(&root().join("wire/tests"));
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row[0], format!("R-{:03}", index + 1), "requirements are numbered in order");
        assert!(
            PAPER.contains(&format!("\n## {} ", row[1])) || PAPER.contains(&format!("\n### {} ", row[1])),
            "{}: no section {}",
            row[0],
            row[1]
        );
        let (file, name) = row[3]
            .split_once(' ')
            .unwrap_or_else(|| panic!("{}: {:?} is not a file and a name", row[0], row[3]));
        let code = std::fs::read_to_string(root().join(file))
            .unwrap_or_else(|_| panic!("{}: no file {file}", row[0]));
        assert!(code.contains(name), "{}: {file} has no {name}", row[0]);
        assert!(tests.contains(&format!("fn {}()", row[4])), "{}: there is no test {}", row[0], row[4]);
        assert!(PAPER.matches(&row[0]).count() > 1, "{} stands in the index and at no rule", row[0]);
    }
}

/// What a side that has just connected answers to these bytes.
fn meet(side: &str, bytes: &[u8]) -> Result<(), SessionError> {
    let (frames, end) = deframe(bytes);
    match side {
        "guest" => {
            let mut session = Guest::connected(common::START);
            for frame in &frames {
                session = walk::drained(session.receive(common::START, FromHost::from_frame(frame)?)?);
            }
        }
        "host" => {
            let mut session = walk::greeted();
            for frame in &frames {
                session = walk::drained_host(session.receive(common::START, FromGuest::from_frame(frame)?)?);
            }
        }
        other => panic!("{other:?} is no side"),
    }
    end.map(|_| ()).map_err(SessionError::from)
}

/// By frame name, the states in which the receiver does not end the session over it.
fn allowed_states() -> BTreeMap<String, String> {
    let mut allowed: BTreeMap<String, String> = BTreeMap::new();
    for (name, message) in walk::guest_columns() {
        let of_request = !walk::is_of_connection(&name);
        let states = if of_request {
            taken_in(GUEST_HANDS, |row| walk::guest_hand_cell(row, message.clone()).0)
        } else {
            taken_in(GUEST_ROWS, |row| walk::guest_cell(row, message.clone()).0)
        };
        let text = if of_request { hands_in_words(&states) } else { in_words("guest", GUEST_ROWS, &states) };
        allowed.insert(name, text.replace("SIDE", "guest"));
    }
    for (name, message) in walk::host_columns() {
        let of_request = !walk::is_of_connection(&name);
        let states = if of_request {
            taken_in(HOST_HANDS, |row| walk::host_hand_cell(row, message.clone()).0)
        } else {
            taken_in(HOST_ROWS, |row| walk::host_cell(row, message.clone()).0)
        };
        let text = if of_request { hands_in_words(&states) } else { in_words("host", HOST_ROWS, &states) };
        allowed.entry(name).or_insert_with(|| text.replace("SIDE", "host"));
    }
    allowed
}

fn taken_in<S>(rows: &[Row<S>], cell: impl Fn(&Row<S>) -> String) -> Vec<&'static str> {
    let mut states: Vec<_> = rows.iter().filter(|row| cell(row) != "BYE 2").map(|row| row.state).collect();
    states.dedup();
    states
}

/// What is taken of a request that nobody has in hand is taken in every state.
fn hands_in_words(states: &[&str]) -> String {
    if states.contains(&walk::NOWHERE) {
        return "SIDE: any from Settling on".to_owned();
    }
    format!("SIDE's request: {}", states.join(", "))
}

fn in_words<S>(side: &str, rows: &[Row<S>], states: &[&str]) -> String {
    let mut all: Vec<&str> = rows.iter().map(|row| row.state).collect();
    all.dedup();
    let open: Vec<&str> = all.iter().copied().skip_while(|state| *state != "Settling").collect();
    if states == all {
        return format!("{side}: any");
    }
    if states == open {
        return format!("{side}: any from Settling on");
    }
    format!("{side}: {}", states.join(", "))
}

fn names<M>(columns: &[(String, M)], more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|name| (*name).to_owned());
    columns.iter().map(|(name, _)| name.clone()).chain(more).collect()
}

/// The one cell of all frames that speak of a request: refused until the guest is welcome.
fn of_a_request(state: &str, cells: &[String]) -> String {
    let open = ["Settling", "Pulling", "Working", "Asked", "Quiet"].contains(&state);
    if open {
        return "as its request".to_owned();
    }
    assert!(cells.iter().all(|cell| cell == "BYE 2"), "{state} takes a frame of a request: {cells:?}");
    "BYE 2".to_owned()
}

/// Every step from one state to another, by a frame or by a call.
fn steps<S, M: Clone>(
    rows: &[Row<S>],
    columns: &[(String, M)],
    cell: impl Fn(&Row<S>, M) -> (String, Option<&'static str>),
    calls: &[walk::Call<S>],
    place: fn(&S) -> &'static str,
) -> BTreeSet<String> {
    let mut edges = BTreeSet::new();
    for row in rows {
        for (frame, message) in columns {
            edges.extend(edge(row.state, cell(row, message.clone()).1, frame));
        }
        for (call, make) in calls {
            let after = make((row.make)()).ok();
            edges.extend(edge(row.state, after.as_ref().map(place), call));
        }
    }
    edges
}

fn compare_states<S>(
    corner: &str,
    frames: &[String],
    rows: &[Row<S>],
    cells: impl Fn(&Row<S>) -> Vec<String>,
) {
    let mut lines = vec![format!("| {corner} | {} | deadline |", frames.join(" | "))];
    let mut index = 0;
    while let Some(row) = rows.get(index) {
        let mut merged = cells(row);
        let base = merged.clone();
        index += 1;
        while let Some(variant) = rows.get(index).filter(|next| next.state == row.state) {
            for ((cell, base), other) in merged.iter_mut().zip(&base).zip(cells(variant)) {
                if *base != other {
                    *cell = format!("{cell}; {}: {other}", variant.when);
                }
            }
            index += 1;
        }
        lines.push(format!("| {} | {} |", row.state, merged.join(" | ")));
    }
    let on_paper: Vec<String> = std::iter::once(header(&[corner]))
        .chain(table(&[corner]))
        .map(|cells| format!("| {} |", cells.join(" | ")))
        .collect();
    same_lines(corner, &on_paper, &lines);
}

fn edge(before: &str, after: Option<&str>, by: &str) -> Option<String> {
    let shown = |state: &str| if state == walk::NOWHERE { "[*]".to_owned() } else { state.to_owned() };
    let after = after.filter(|after| *after != before)?;
    Some(format!("{} --> {}: {by}", shown(before), shown(after)))
}

fn compare_picture(side: &str, picture: &[String], edges: &BTreeSet<String>) {
    assert_eq!(picture[0], "stateDiagram-v2", "the {side}'s picture");
    let drawn: BTreeSet<String> = picture[1..].iter().filter(|line| line.contains(": ")).cloned().collect();
    let lines: Vec<String> = edges.iter().cloned().collect();
    same_lines(&format!("{side}'s picture"), &drawn.into_iter().collect::<Vec<_>>(), &lines);
}

#[track_caller]
fn same_lines(what: &str, on_paper: &[String], in_code: &[String]) {
    assert!(
        on_paper == in_code,
        "the {what} in docs/protocol.md is not the code's; it should read:\n{}\n\nand reads:\n{}",
        in_code.join("\n"),
        on_paper.join("\n")
    );
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::GOODBYE => "GOODBYE",
        Reason::MALFORMED => "MALFORMED",
        Reason::MISBEHAVED => "MISBEHAVED",
        Reason::INCOMPATIBLE => "INCOMPATIBLE",
        Reason::SILENT => "SILENT",
        Reason::INTERNAL => "INTERNAL",
        Reason::UNKNOWN_GUEST => "UNKNOWN_GUEST",
        Reason::NOT_APPROVED => "NOT_APPROVED",
        Reason::NOT_PROVED => "NOT_PROVED",
        Reason::SUPERSEDED => "SUPERSEDED",
        Reason::FENCED => "FENCED",
        Reason::OVERLOADED => "OVERLOADED",
        Reason::POLLED => "POLLED",
        Reason::REJECTED => "REJECTED",
        Reason::MANAGER_NOT_PROVED => "MANAGER_NOT_PROVED",
        Reason::NOT_ENROLLED => "NOT_ENROLLED",
        _ => panic!("{reason} has a text and no name in this test"),
    }
}

fn constants() -> Vec<(&'static str, u64)> {
    macro_rules! list {
        ($($name:ident)*) => { vec![$((stringify!($name), u64::try_from(limits::$name).unwrap()),)*] };
    }
    list! {
        VERSION_MIN VERSION_CURRENT MANAGER_PORT AGENT_PORT_MIN AGENT_PORT_MAX HEADER_LEN PAYLOAD_LEN_MAX
        CHUNK_LEN_MAX BULK_WINDOW PROGRAM_LEN_MAX PUSH_LEN_MAX FILE_LEN_MAX OUTPUT_LEN_MAX OUTPUT_LEN_DEFAULT OUTPUT_BEHIND
        INPUT_LEN_MAX INPUT_WINDOW HANDS_MAX CONCURRENCY_MAX URGENT_MAX NAME_LEN_MAX ARGS_MAX ENV_MAX RUN_BYTES_MAX
        PATH_LEN_MAX TEXT_LEN_MAX LINK_NAME_LEN_MAX LINKS_MAX CONNECT_MS_MAX HANDSHAKE_MS_MAX HEARTBEAT_MS
        SILENCE_MS_MAX FRAME_MS_MAX FETCH_MS_MAX WRITE_MS_MAX RETRY_MS_MIN RETRY_MS_MAX RETRY_EAGER_MS
        SIGNATURE_LEN_MAX SIGNED_GUESTS_MAX PROOF_LEN_MAX SIGNED_SKEW_S
        SHARE_AHEAD LOOK_MS_MAX LOOK_BUSY_MS SHARE_CALM_MS BEAT_MS SHARE_SILENCE_MS
        POLL_S_MIN POLL_S_MAX
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// All that stands in the `.rs` files of a directory of this crate, and below it.
fn sources(directory: &Path) -> String {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => std::fs::read_to_string(path).unwrap(),
        _ => String::new(),
    };
    entries.map(text).collect()
}
