//! A request with its receipt, one fact a line. Called by `request show` and `request wait`.

use crate::outcome::{signal_name, start_fault};
use crate::table::{Cell, facts};
use crate::text::{action, moment, state, word};
use crate::{duration, link, size};
use doorbell_client::api::receipt::{FileEvidence, OutputTotal, Ran, Receipt, Usage};
use doorbell_client::api::request::{Action, Input, Limits, OnDisconnect, Request, Run};

type Facts<'a> = Vec<(&'a str, Cell)>;

pub(crate) fn details(request: &Request) -> String {
    let mut list = vec![
        ("request", Cell::from(&request.id)),
        ("guest", Cell::from(&request.guest)),
        ("action", action(&request.action).into()),
        ("state", state(request.state)),
        ("asked by", Cell::from(&request.asked_by)),
        ("reason", request.reason.as_deref().unwrap_or("-").into()),
        ("ticket", request.ticket.as_deref().unwrap_or("-").into()),
        ("accepted", moment(request.accepted_at_ms).into()),
        ("sequence", format!("{}, offered {} times", request.sequence, request.offers).into()),
    ];
    let held = request.held.map(|stands| format!("{}, until its guest's machine runs", word(&stands)));
    list.extend(held.map(|held| ("held at", held.into())));
    list.extend(request.approved_by.as_ref().map(|who| ("approved by", who.into())));
    list.extend(request.expires_at_ms.map(|at| ("expires", moment(at).into())));
    list.extend(request.timeout_ms.map(|ms| ("timeout", duration::show(ms).into())));
    list.extend(request.urgent.then(|| ("urgent", "goes before ordinary requests".into())));
    if request.on_disconnect == OnDisconnect::Kill {
        list.push(("on disconnect", "is cancelled".into()));
    }
    if let Action::Run(run) = &request.action {
        run_facts(&mut list, run);
    }
    list.extend(request.waits_for.as_ref().map(|what| ("waits for", what.into())));
    if request.cancel_asked {
        list.push(("cancel", "was asked for".into()));
    }
    if let Some(receipt) = &request.receipt {
        receipt_facts(&mut list, request, receipt);
    }
    if let Some(at) = request.output_removed_at_ms {
        list.push(("output", format!("was removed on {} by retention", moment(at)).into()));
    }
    facts(list)
}

fn run_facts(list: &mut Facts<'_>, run: &Run) {
    if let Some(from) = &run.from {
        list.push(("from", from.url.as_str().into()));
        list.push(("sha256", from.sha256.as_str().into()));
    }
    list.extend(run.user.as_ref().map(|user| ("user", user.into())));
    list.extend(run.new_privileges.then(|| ("privileges", "more than its user's".into())));
    list.extend(run.cwd.as_ref().map(|cwd| ("directory", cwd.into())));
    match run.input {
        Input::None => {}
        Input::Stream => list.push(("input", "a stream".into())),
        Input::Terminal(window) => {
            list.push(("input", format!("a terminal of {}x{}", window.columns, window.rows).into()));
        }
    }
    let Limits { memory_max, processes_max, cpu_percent_max, output_max } = run.limits;
    let limits: Vec<String> = [
        memory_max.map(|bytes| format!("memory {}", size::show(bytes))),
        processes_max.map(|count| format!("processes {count}")),
        cpu_percent_max.map(|percent| format!("cpu {percent}%")),
        output_max.map(|bytes| format!("output {}", size::show(bytes))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !limits.is_empty() {
        list.push(("limits", limits.join(", ").into()));
    }
}

fn receipt_facts(list: &mut Facts<'_>, request: &Request, receipt: &Receipt) {
    list.push(("receipt", format!("{} {}", moment(receipt.stored_at_ms), receipt.audit_hash).into()));
    list.extend(receipt.exit_code.map(|code| ("exit status", code.to_string().into())));
    list.extend(
        receipt.signal.map(|signal| ("signal", format!("{signal} ({})", signal_name(signal)).into())),
    );
    if let Action::Run(run) = &request.action {
        list.extend(start_fault(run, receipt).map(|line| ("start", line.into())));
    }
    list.extend(receipt.detail.as_ref().map(|detail| ("detail", detail.into())));
    list.extend(receipt.errno.map(|errno| ("errno", errno.to_string().into())));
    list.extend(receipt.link_before.as_ref().map(|state| ("link before", link::one_line(state).into())));
    list.extend(receipt.link_after.as_ref().map(|state| ("link after", link::one_line(state).into())));
    list.extend(receipt.file.as_ref().map(|file| ("file", file_line(file).into())));
    list.extend(receipt.ran.map(|ran| ("ran for", span(ran.started_us, ran.ended_us).into())));
    list.extend(receipt.ran.and_then(first_output).map(|text| ("first output", text.into())));
    list.extend(receipt.usage.map(|usage| ("took", used(&usage).into())));
    list.push(("stdout", total(&receipt.stdout).into()));
    list.push(("stderr", total(&receipt.stderr).into()));
    list.extend(receipt.boot_id.as_ref().map(|id| ("boot id", id.into())));
}

fn first_output(ran: Ran) -> Option<String> {
    Some(format!("after {}", span(ran.started_us, ran.first_output_us?)))
}

/// How long it ran, where it ran at all.
pub(crate) fn span(from_us: u64, to_us: u64) -> String {
    let us = to_us.saturating_sub(from_us);
    match us.checked_div(1000) {
        Some(0) | None => format!("{us} us"),
        Some(ms) => duration::show(ms),
    }
}

fn used(usage: &Usage) -> String {
    let peak = usage.memory_peak.map(|peak| format!(", memory {}", size::show(peak)));
    let (user, system) = (span(0, usage.cpu_user_us), span(0, usage.cpu_system_us));
    let killed = if usage.oom_killed { ", killed for want of memory" } else { "" };
    format!("cpu {user} user, {system} system{}{killed}", peak.unwrap_or_default())
}

fn file_line(file: &FileEvidence) -> String {
    let (kind, len, owner) = (word(&file.kind), size::show(file.len), (file.uid, file.gid));
    let digest = file.sha256.as_ref().map(|digest| format!(", sha256 {digest}"));
    format!(
        "{} ({kind}, {len}, mode {}, owner {}:{}, {} entries{})",
        file.path,
        file.mode,
        owner.0,
        owner.1,
        file.entries,
        digest.unwrap_or_default()
    )
}

fn total(total: &OutputTotal) -> String {
    let mut text = format!("{} bytes", total.bytes);
    if total.truncated || total.lost > 0 {
        text.push_str(&format!(", truncated: {} more were lost", total.lost));
    }
    if let Some(digest) = &total.sha256 {
        text.push_str(&format!(", sha256 {digest}"));
    }
    if total.intact == Some(false) {
        text.push_str(", DAMAGED: the copy here has another digest");
    }
    text
}
