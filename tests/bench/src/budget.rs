//! What the figures should be, computed from the same run's floors and peers.
//!
//! Called by `report`.

use crate::hostile::QUIET;
use crate::samples::Rows;
use serde::Serialize;

/// One budget and how it stands.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Budget {
    pub(crate) what: String,
    pub(crate) rule: String,
    pub(crate) unit: &'static str,
    pub(crate) limit: f64,
    pub(crate) measured: f64,
    pub(crate) met: bool,
}

/// Those that this run can judge. `kvm` is whether the guest ran under KVM.
pub(crate) fn judge(rows: &Rows, kvm: bool, quick: bool) -> Vec<Budget> {
    let p50 = |id: &str| rows.p50(id);
    let mut all = Vec::new();
    let mut at_most = |what: &str, rule: String, unit, limit: Option<f64>, measured: Option<f64>| {
        if let (Some(limit), Some(measured)) = (limit, measured) {
            all.push(Budget { what: what.into(), rule, unit, limit, measured, met: measured <= limit });
        }
    };
    let (extra, under) = if kvm { (0.060, "60 µs") } else { (0.150, "150 µs") };
    let trip = p50("round-trip");
    at_most(
        "query, ring to answer (API call without the API's own time)",
        format!("2 raw round trips + {under}"),
        "ms",
        trip.map(|trip| 2.0 * trip + extra),
        p50("query").zip(p50("api")).map(|(query, api)| query - api),
    );
    let durable = p50("exec").zip(trip).zip(p50("guest-sync"));
    let durable = durable.map(|((exec, trip), sync)| exec + 2.5 * trip + JOURNAL_SYNCS * sync + 1.0);
    at_most(
        "durable /bin/true, ring to acknowledgement",
        format!("exec floor + 2.5 round trips + {JOURNAL_SYNCS} fdatasyncs in the guest + 1 ms"),
        "ms",
        durable,
        p50("true-ring"),
    );
    let own = p50("true");
    at_most(
        "durable /bin/true, command to receipt",
        "ahead of qemu-ga polled tightly".into(),
        "ms",
        p50("qga-exec"),
        own,
    );
    at_most(
        "durable /bin/true, command to receipt",
        "ahead of qemu-ga polled each 50 ms".into(),
        "ms",
        p50("qga-exec-50"),
        own,
    );
    at_most(
        "durable /bin/true, command to receipt",
        "1/20 of ssh over vsock".into(),
        "ms",
        p50("ssh").map(|ssh| ssh / 20.0),
        own,
    );
    at_most("agent, static size", "3 MiB".into(), "KiB", Some(3072.0), p50("agent-size"));
    at_most("agent, resident", "2.5 MiB".into(), "KiB", Some(2560.0), p50("agent-resident"));
    at_most("agent, anonymous", "0.6 MiB".into(), "KiB", Some(614.4), p50("agent-anonymous"));
    let wakeups = if quick { None } else { p50("agent-wakeups") };
    at_most("agent, wake-ups in 60 idle seconds", "4".into(), "1", Some(4.0), wakeups);
    at_most("agent, connected after it started", "50 ms".into(), "ms", Some(50.0), p50("agent-connect"));
    let p99 = |id: &str| rows.summary(id).map(|summary| summary.p99);
    at_most(
        "urgent request beside a flood, p99",
        "5 × its idle p99".into(),
        "ms",
        p99("urgent-idle").map(|idle| 5.0 * idle),
        p99("urgent-flood"),
    );
    all.extend(rates(rows));
    all.extend(hostile(rows));
    all
}

/// A guest beside a hostile one waits at most twice as long as in quiet.
fn hostile(rows: &Rows) -> Vec<Budget> {
    let Some(quiet) = rows.summary(QUIET) else { return Vec::new() };
    let beside = rows.rows.iter().filter(|row| row.id != QUIET && row.unit == "ms");
    beside
        .filter_map(|row| {
            let (limit, measured) = (2.0 * quiet.p99, row.summary()?.p99);
            let (what, rule) = (format!("honest request {}, p99", row.what), "2 × quiet p99".into());
            Some(Budget { what, rule, unit: "ms", limit, measured, met: measured <= limit })
        })
        .collect()
}

/// Those where more is better.
fn rates(rows: &Rows) -> Vec<Budget> {
    let p50 = |id: &str| rows.p50(id);
    let transfer = p50("program").or_else(|| p50("program-whole"));
    [
        (
            "program transfer",
            "0.9 × receive, CRC32C and SHA-256",
            "MiB/s",
            p50("checked-in").map(|floor| 0.9 * floor),
            transfer,
        ),
        (
            "program transfer",
            "5 × qemu-ga's file write",
            "MiB/s",
            p50("qga-write").map(|peer| 5.0 * peer),
            transfer,
        ),
        (
            "requests accepted and durable",
            "0.5 × the raw fdatasync rate (a batch of one)",
            "1/s",
            p50("host-sync-rate").map(|rate| 0.5 * rate),
            p50("accepted"),
        ),
        ("requests accepted and durable", "5000 / s", "1/s", Some(5000.0), p50("accepted")),
    ]
    .into_iter()
    .filter_map(|(what, rule, unit, limit, measured)| {
        let (limit, measured) = limit.zip(measured)?;
        Some(Budget { what: what.into(), rule: rule.into(), unit, limit, measured, met: measured >= limit })
    })
    .collect()
}

/// The start and the outcome; forgetting comes after the acknowledgement.
const JOURNAL_SYNCS: f64 = 2.0;
