//! What the agent costs: its size, its memory, how often it wakes when nothing happens, how soon it is connected.
//!
//! Called by `measure`. Reads `/proc` in the guest, through the agent itself.

use crate::api::Api;
use crate::children::pause;
use crate::lab::{GUEST, Lab};
use crate::samples::{Kind, Rows};
use anyhow::{Context as _, Result};
use std::time::Duration;

pub(crate) fn measure(lab: &mut Lab, rows: &mut Rows, idle: Duration) -> Result<()> {
    let size = std::fs::metadata(lab.bin.join("doorbell-agent"))?.len();
    rows.add(Kind::Doorbell, "agent-size", "agent, static and stripped", "KiB", [kib(size)]);
    let status = look(&lab.api)?;
    for (id, what, field) in [
        ("agent-resident", "agent, resident", "VmRSS:"),
        ("agent-anonymous", "agent, resident and anonymous", "RssAnon:"),
    ] {
        rows.add(Kind::Doorbell, id, what, "KiB", field_of(&status, field));
    }
    if let Ok(text) = lab.api.run(GUEST, &["sh", "-c", "cat /proc/$(pidof qemu-ga)/status"]) {
        rows.add(Kind::Peer, "qga-resident", "qemu-ga, resident", "KiB", field_of(&text, "VmRSS:"));
    }
    wakeups(&lab.api, rows, idle)?;
    Ok(())
}

/// The last row of a run, for from here on the agent writes its log.
pub(crate) fn measure_connect(lab: &mut Lab, rows: &mut Rows) {
    match connect_time(lab) {
        Ok(time) => {
            rows.add_times(Kind::Doorbell, "agent-connect", "agent, its first word to connected", &[time])
        }
        Err(why) => rows.miss("how soon the agent is connected", format!("{why:#}")),
    }
}

/// Looking wakes the agent too: what two looks in a row cost is taken off.
fn wakeups(api: &Api, rows: &mut Rows, idle: Duration) -> Result<()> {
    let (first, second) = (switches(api)?, switches(api)?);
    pause(idle);
    let third = switches(api)?;
    let looking = second - first;
    let woken = (third - second - looking).max(0.0);
    let what = format!("agent, wake-ups in {} idle seconds", idle.as_secs());
    rows.add(Kind::Doorbell, "agent-wakeups", &what, "1", [woken]);
    Ok(())
}

fn switches(api: &Api) -> Result<f64> {
    let status = look(api)?;
    field_of(&status, "voluntary_ctxt_switches:").next().context("a count of switches")
}

fn look(api: &Api) -> Result<String> {
    // The oldest: the agent's own children have its name until they are something else.
    api.run(
        GUEST,
        &["sh", "-c", "cat /proc/$(pidof doorbell-agent | tr ' ' '\\n' | sort -n | head -n 1)/status"],
    )
}

fn field_of(status: &str, field: &str) -> impl Iterator<Item = f64> {
    let line = status.lines().find(|line| line.starts_with(field)).map(str::to_owned);
    line.into_iter().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok())
}

/// Ends the agent, which init starts again; both of its lines have its own time stamp.
fn connect_time(lab: &mut Lab) -> Result<Duration> {
    let before = lab.console().len();
    let id = lab.api.submit(GUEST, &crate::api::command(&["sh", "-c", START_AGAIN_TALKING]))?;
    let end = std::time::Instant::now();
    loop {
        let console = lab.console();
        let new = console.get(before..).unwrap_or_default();
        let starts = new.find("doorbell-agent starts").and_then(|at| stamp(new, at));
        let behind = starts.and_then(|_| new.split_once("doorbell-agent starts")).map(|(_, behind)| behind);
        let connected = behind.and_then(|text| stamp(text, text.find(" connected")?));
        if let (Some(starts), Some(connected)) = (starts, connected) {
            // The request that did it ends one way or the other.
            let _ = lab.api.finished(&id);
            return Ok(Duration::try_from(connected.duration_since(starts))?);
        }
        anyhow::ensure!(
            end.elapsed() < Duration::from_secs(30),
            "it does not say on its console that it is connected"
        );
        pause(Duration::from_millis(50));
    }
}

/// The time stamp of the record with something at this place.
fn stamp(text: &str, at: usize) -> Option<jiff::Timestamp> {
    let line = text.get(..at)?.lines().last()?;
    // On a terminal the agent writes its stamps in a colour.
    let foreign = |sign: char| !(sign.is_ascii_digit() || "TZ:.-".contains(sign));
    line.split(foreign).rev().find_map(|word| word.parse().ok())
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

/// Has the agent start again with the log that says when it starts and when it is connected.
const START_AGAIN_TALKING: &str = "\
if [ -d /run/systemd/system ]; then
  sed -i 's/--log warn/--log info/' /run/systemd/system/doorbell-agent.service.d/lab.conf
  systemctl daemon-reload
else
  sed 's/--log,warn/--log,info/' /proc/cmdline >/tmp/cmdline
  mount -o bind /tmp/cmdline /proc/cmdline
fi
kill $(pidof doorbell-agent | tr ' ' '\\n' | sort -n | head -n 1)";
