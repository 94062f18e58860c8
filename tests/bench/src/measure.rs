//! The run: floors, Doorbell and its peers in turn, round after round, so that what disturbs one disturbs all.
//!
//! Called by `main`.

use crate::agent;
use crate::api::{Api, command};
use crate::floor::Floor;
use crate::lab::{GUEST, Lab};
use crate::qga::Qga;
use crate::samples::{Kind, Rows};
use crate::ssh;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) bulk_rounds: u32,
    pub(crate) bulk_len: u64,
    pub(crate) idle: Duration,
    pub(crate) urgent: u32,
    pub(crate) accepted: u32,
    pub(crate) ssh: u32,
}

impl Plan {
    pub(crate) const QUICK: Self = Self {
        rounds: 4,
        bulk_rounds: 1,
        bulk_len: 16 << 20,
        idle: Duration::from_secs(15),
        urgent: 30,
        accepted: 2_000,
        ssh: 2,
    };
    pub(crate) const FULL: Self = Self {
        rounds: 12,
        bulk_rounds: 3,
        bulk_len: 64 << 20,
        idle: Duration::from_secs(60),
        urgent: 100,
        accepted: 10_000,
        ssh: 5,
    };
}

/// Measures everything that can be measured here. What fails is missing from the rows, with the reason.
pub(crate) fn run(lab: &mut Lab, floor: &mut Floor, plan: Plan) -> Result<Rows> {
    let mut rows = Rows::default();
    let mut qga = match Qga::connect(lab) {
        Ok(qga) => Some(qga),
        Err(why) => {
            rows.miss("qemu-guest-agent", format!("{why:#}"));
            None
        }
    };
    for _ in 0..plan.rounds {
        round(lab, floor, &mut rows)?;
        if let Some(qga) = &mut qga {
            qga.round(&mut rows)?;
        }
    }
    for round in 0..plan.bulk_rounds {
        let done = bulk(lab, floor, &mut rows, plan.bulk_len, round);
        let done =
            done.and_then(|()| qga.as_mut().map_or(Ok(()), |qga| qga.write(&mut rows, plan.bulk_len / 8)));
        if let Err(why) = done {
            rows.miss("transfers", format!("round {round}: {why:#}"));
            break;
        }
    }
    if let Err(why) = accepted(lab, &mut rows, plan.accepted) {
        rows.miss("requests accepted", format!("{why:#}"));
    }
    if let Err(why) = agent::measure(lab, &mut rows, plan.idle) {
        rows.miss("what the agent costs", format!("{why:#}"));
    }
    if let Err(why) = ssh::measure(lab, &mut rows, plan.ssh) {
        rows.miss("ssh over vsock", format!("{why:#}"));
    }
    // Last: what it does to the channel must not be in the other figures.
    if let Err(why) = urgent(&lab.api, &mut rows, plan.urgent) {
        rows.miss("an urgent request beside a flood of output", format!("{why:#}"));
    }
    agent::measure_connect(lab, &mut rows);
    if rows.p50("true-ring").is_some() {
        rows.absent.retain(|(what, _)| what != "ring to acknowledgement");
    }
    Ok(rows)
}

fn round(lab: &Lab, floor: &mut Floor, rows: &mut Rows) -> Result<()> {
    rows.add_times(Kind::Floor, "round-trip", "raw vsock round trip, 1 byte", &floor.ping(50)?);
    rows.add_times(
        Kind::Floor,
        "api",
        "a call of the manager's API with nothing behind it",
        &times(20, || info(&lab.api))?,
    );
    rows.add_times(
        Kind::Doorbell,
        "query",
        "query (links), at the manager's API",
        &times(20, || query(&lab.api))?,
    );
    rows.add_times(
        Kind::Floor,
        "exec",
        "fork, exec and wait of /bin/true, pipes, fresh cgroup",
        &floor.exec(8)?,
    );
    for _ in 0..8 {
        run_true(&lab.api, rows)?;
    }
    rows.add_times(
        Kind::Floor,
        "guest-sync",
        "append and fdatasync on the guest's state disk",
        &floor.sync(20)?,
    );
    let path = lab.directory.join("state");
    rows.add_times(
        Kind::Floor,
        "host-sync",
        "append and fdatasync beside the manager's store",
        &host_syncs(&path, 50)?,
    );
    Ok(())
}

fn info(api: &Api) -> Result<()> {
    api.get("info").map(drop)
}

fn query(api: &Api) -> Result<()> {
    api.post(&format!("guests/{GUEST}/queries"), &json!({ "query": "link-list" })).map(drop)
}

/// A durable run of `/bin/true`: as its caller sees it, and by its trace.
fn run_true(api: &Api, rows: &mut Rows) -> Result<()> {
    let start = Instant::now();
    let id = api.submit(GUEST, &command(&["/bin/true"]))?;
    api.finished(&id)?;
    rows.add_times(
        Kind::Doorbell,
        "true",
        "durable /bin/true, command to receipt at the API",
        &[start.elapsed()],
    );
    match spans(api, &id, &[("rung", "acknowledged"), ("started", "exited")]) {
        Ok(spans) => {
            let what = [
                ("true-ring", "durable /bin/true, ring to acknowledgement"),
                ("true-inside", "durable /bin/true, start to exit inside the guest"),
            ];
            for ((id, what), span) in what.into_iter().zip(spans) {
                rows.add_times(Kind::Doorbell, id, what, &[span]);
            }
        }
        // A guest that pulls again after its last receipt is there before it is rung: such a request has no ring.
        Err(_) if rows.p50("true-ring").is_some() => {}
        Err(why) => rows.miss("ring to acknowledgement", format!("{why:#}")),
    }
    Ok(())
}

/// Times between stations of a request, by its trace.
fn spans(api: &Api, id: &str, pairs: &[(&str, &str)]) -> Result<Vec<Duration>> {
    let trace = api.get(&format!("requests/{id}/trace"))?;
    let at = |station: &str| -> Result<u64> {
        let passed = trace["passed"].as_array().context("a trace")?;
        let found = passed.iter().find(|passed| passed["station"] == station);
        found
            .and_then(|passed| passed["at_us"].as_u64())
            .with_context(|| format!("no {station} in the trace"))
    };
    pairs.iter().map(|(from, to)| Ok(Duration::from_micros(at(to)?.saturating_sub(at(from)?)))).collect()
}

fn bulk(lab: &Lab, floor: &mut Floor, rows: &mut Rows, len: u64, round: u32) -> Result<()> {
    let checked = floor.receive_and_check(len)?;
    rows.add_rate(Kind::Floor, "checked-in", "host to guest, each byte CRC32C and SHA-256", len, checked);
    rows.add_rate(Kind::Floor, "raw-in", "raw stream, host to guest", len, floor.receive(len)?);
    rows.add_rate(
        Kind::Floor,
        "raw-out",
        "raw stream, guest to host, 128 KiB on the way",
        len,
        floor.send(len)?,
    );
    let [sha256, crc32c] = floor.digest(8 << 20)?;
    rows.add_rate(Kind::Floor, "sha256", "SHA-256 in the guest's memory", 8 << 20, sha256);
    rows.add_rate(Kind::Floor, "crc32c", "CRC32C in the guest's memory", 8 << 20, crc32c);
    let program = lab.api.upload("padded.sh", padded(len, round)?)?;
    let start = Instant::now();
    let id = lab.api.submit(GUEST, &json!({ "action": { "type": "run", "program": program } }))?;
    lab.api.finished(&id)?;
    let whole = start.elapsed();
    rows.add_rate(Kind::Doorbell, "program-whole", "program transfer, command to receipt", len, whole);
    match spans(&lab.api, &id, &[("offered", "verified")]) {
        Ok(spans) => {
            let time = spans.first().copied().unwrap_or_default();
            rows.add_rate(Kind::Doorbell, "program", "program transfer, offered to verified", len, time);
        }
        Err(why) => rows.miss("program transfer by its trace", format!("{why:#}")),
    }
    Ok(())
}

/// A script of so many bytes that ends at once. Another one each time: the guest keeps what it has.
fn padded(len: u64, round: u32) -> Result<Vec<u8>> {
    let mut bytes = format!("#!/bin/sh\nexit 0\n# {round}\n").into_bytes();
    bytes.resize(usize::try_from(len)?, b'#');
    Ok(bytes)
}

/// How many requests a second the manager has on its disk, for a guest that is away.
fn accepted(lab: &Lab, rows: &mut Rows, count: u32) -> Result<()> {
    let base = lab.directory.join("away.vsock");
    lab.api.post("guests", &json!({ "name": "away", "hybrid_socket": base }))?;
    for _ in 0..3 {
        let time = lab.api.submit_many("away", count / 3, AT_ONCE)?;
        let what = format!("requests accepted and durable, {AT_ONCE} at once");
        let rate = f64::from(count / 3) / time.as_secs_f64();
        rows.add(Kind::Doorbell, "accepted", &what, "1/s", [rate]);
        let syncs = host_syncs(&lab.directory.join("state"), 500)?;
        let all: Duration = syncs.iter().sum();
        rows.add(
            Kind::Floor,
            "host-sync-rate",
            "raw fdatasync loop on the host",
            "1/s",
            [500.0 / all.as_secs_f64()],
        );
    }
    Ok(())
}

/// An urgent request while the guest is idle, and while a program in it prints as fast as it can.
fn urgent(api: &Api, rows: &mut Rows, count: u32) -> Result<()> {
    let mut request = command(&["/bin/true"]);
    request["urgent"] = json!(true);
    let one = || api.submit(GUEST, &request).and_then(|id| api.finished_within(&id, URGENT_IN)).map(drop);
    one().context("the manager does not take an urgent request")?;
    rows.add_times(Kind::Doorbell, "urgent-idle", "urgent /bin/true, the guest idle", &times(count, one)?);
    let mut flood = command(&["yes"]);
    flood["timeout_ms"] = json!(100_000);
    let flood = api.submit(GUEST, &flood)?;
    while api.get(&format!("requests/{flood}"))?["state"] != "started" {
        crate::children::pause(Duration::from_millis(20));
    }
    let flooded = times(count, one);
    let running: Value = api.get(&format!("requests/{flood}"))?;
    api.post(&format!("requests/{flood}/cancel"), &json!({}))?;
    let _ = api.finished_within(&flood, URGENT_IN);
    anyhow::ensure!(running["state"] == "started", "the flood ended by itself: {running}");
    rows.add_times(Kind::Doorbell, "urgent-flood", "urgent /bin/true beside a flood of output", &flooded?);
    Ok(())
}

/// How long a thing takes, so many times.
pub(crate) fn times(count: u32, mut one: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
    (0..count)
        .map(|_| {
            let start = Instant::now();
            one()?;
            Ok(start.elapsed())
        })
        .collect()
}

/// The same loop as the floor program's, on this machine. Its file is as long before as after.
fn host_syncs(directory: &Path, count: u32) -> Result<Vec<Duration>> {
    let path = directory.join("floor");
    let mut file = File::create(&path)?;
    file.rewind()?;
    let times = times(count, || {
        file.write_all(&[7; 256])?;
        Ok(file.sync_data()?)
    });
    std::fs::remove_file(&path)?;
    times
}

const AT_ONCE: usize = 64;
/// An urgent request that takes longer than this is a finding, and no figure.
const URGENT_IN: Duration = Duration::from_secs(10);
