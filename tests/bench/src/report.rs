//! What a run leaves behind: JSON for programs, Markdown for people.
//!
//! Called by `main`, with what `measure` gave.

use crate::budget::{self, Budget};
use crate::lab::{GUEST, Lab, Place};
use crate::samples::{Kind, Row, Rows, Summary};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A whole run.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Report {
    pub(crate) place: String,
    pub(crate) quick: bool,
    pub(crate) at: String,
    /// The machine and the guest, line by line.
    pub(crate) machine: Vec<(String, String)>,
    pub(crate) rows: Rows,
}

impl Report {
    pub(crate) fn new(place: Place, quick: bool, lab: &Lab, rows: Rows) -> Self {
        Self {
            place: name_of(place).into(),
            quick,
            at: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            machine: machine(lab),
            rows,
        }
    }

    /// A run without a guest's machine.
    pub(crate) fn of_manager(place: &str, quick: bool, rows: Rows) -> Self {
        let at = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
        Self { place: place.into(), quick, at, machine: host(), rows }
    }

    fn kvm(&self) -> bool {
        self.machine.iter().any(|(what, value)| what == "accelerator" && value == "kvm")
    }

    /// Writes all three forms of it.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        let budgets = budget::judge(&self.rows, self.kvm(), self.quick);
        let file = |form: &str| directory.join(format!("{}.{form}", self.place));
        fs::write(file("json"), serde_json::to_string_pretty(&self.json(&budgets))? + "\n")?;
        fs::write(file("md"), self.markdown(&budgets))?;
        crate::plot::times(
            &self.rows,
            &format!("{}: times, from the least to p99", self.place),
            &file("times.svg"),
        )?;
        crate::plot::rates(&self.rows, &format!("{}: rates, p50", self.place), &file("rates.svg"))
    }

    fn json(&self, budgets: &[Budget]) -> serde_json::Value {
        let rows: Vec<_> = self.rows.rows.iter().filter_map(|row| Some((row, row.summary()?))).collect();
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(row, told)| {
                json!({ "kind": row.kind, "id": row.id, "what": row.what, "unit": row.unit, "n": told.n,
                        "min": told.min, "p50": told.p50, "p99": told.p99, "max": told.max })
            })
            .collect();
        let machine: serde_json::Map<_, _> =
            self.machine.iter().map(|(what, value)| (what.clone(), json!(value))).collect();
        json!({ "guest": self.place, "quick": self.quick, "at": self.at, "machine": machine,
                "rows": rows, "absent": self.rows.absent, "budgets": budgets })
    }

    fn markdown(&self, budgets: &[Budget]) -> String {
        let mut text = format!("# Benchmark: {} guest\n\n", self.place);
        let how = if self.quick { " A quick run: few samples, small transfers." } else { "" };
        let _ = writeln!(text, "{}. One run, everything in turn.{how}\n", self.at);
        let _ = writeln!(text, "| | |\n|---|---|");
        for (what, value) in &self.machine {
            let _ = writeln!(text, "| {what} | {value} |");
        }
        for (kind, title) in [(Kind::Floor, "Floors"), (Kind::Doorbell, "Doorbell"), (Kind::Peer, "Peers")] {
            self.table(&mut text, kind, title);
        }
        let _ = writeln!(text, "\n## Budgets\n\n| what | rule | limit | measured | |\n|---|---|---|---|---|");
        for budget in budgets {
            let Budget { what, rule, unit, limit, measured, met } = budget;
            let met = if *met { "met" } else { "**not met**" };
            let _ = writeln!(
                text,
                "| {what} | {rule} | {} {unit} | {} {unit} | {met} |",
                short(*limit),
                short(*measured)
            );
        }
        if !self.rows.absent.is_empty() {
            let _ = writeln!(text, "\n## Not measured\n");
        }
        for (what, why) in &self.rows.absent {
            let _ = writeln!(text, "- {what}: {}", why.replace('\n', " "));
        }
        // A picture is drawn only of what was measured.
        for (name, unit) in [("times", "ms"), ("rates", "MiB/s")] {
            if self.rows.rows.iter().any(|row| row.unit == unit) {
                let _ = writeln!(text, "\n![{name}]({}.{name}.svg)", self.place);
            }
        }
        text
    }

    fn table(&self, text: &mut String, kind: Kind, title: &str) {
        let rows: Vec<(&Row, Summary)> = self
            .rows
            .rows
            .iter()
            .filter(|row| row.kind == kind)
            .filter_map(|row| Some((row, row.summary()?)))
            .collect();
        if rows.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n## {title}\n\n| what | unit | n | min | p50 | p99 | max |\n|---|---|---|---|---|---|---|"
        );
        for (row, told) in rows {
            let figures = [told.min, told.p50, told.p99, told.max].map(short).join(" | ");
            let _ = writeln!(text, "| {} | {} | {} | {figures} |", row.what, row.unit, told.n);
        }
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn machine(lab: &Lab) -> Vec<(String, String)> {
    let mut all = host();
    let mut say = |what: &str, value: String| {
        let value = value.trim().to_owned();
        if !value.is_empty() {
            all.push((what.to_owned(), value));
        }
    };
    let version = crate::children::output(std::process::Command::new("qemu-system-x86_64").arg("--version"));
    say("QEMU", version.unwrap_or_default().lines().next().unwrap_or_default().to_owned());
    say("accelerator", lab.accel.clone());
    say("guest's kernel", lab.api.run(GUEST, &["uname", "-r"]).unwrap_or_default());
    let os = lab.api.run(GUEST, &["sh", "-c", ". /etc/os-release; echo \"$PRETTY_NAME\""]);
    say("guest's system", os.unwrap_or_else(|_| "busybox on an initramfs".into()));
    all
}

fn host() -> Vec<(String, String)> {
    let text = |path: &str| crate::children::read(Path::new(path));
    vec![
        ("CPUs".into(), processor()),
        ("kernel".into(), text("/proc/sys/kernel/osrelease").trim().into()),
        // What else the machine did meanwhile is in every figure.
        ("load of the machine at the end (1, 5, 15 min)".into(), first_words(&text("/proc/loadavg"), 3)),
    ]
}

/// How many CPUs this machine has, and which.
pub(crate) fn processor() -> String {
    let cpuinfo = crate::children::read(Path::new("/proc/cpuinfo"));
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    format!("{count} × {}", model.map_or("unknown", |(_, model)| model))
}

fn first_words(text: &str, count: usize) -> String {
    text.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
}

pub(crate) const fn name_of(place: Place) -> &'static str {
    match place {
        Place::Initramfs => "initramfs",
        Place::Debian13 => "debian13",
        Place::Nested => "nested",
    }
}
