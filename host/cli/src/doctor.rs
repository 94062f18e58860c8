//! `doorbell doctor`: looks at this host and says what is in the way.
//!
//! It looks at files, modes and the manager's own words. It opens no device and no vsock socket: a socket of
//! that family can reach a machine that is none of ours.

mod clock;
mod devices;
mod finding;
mod kernel;
mod manager;
mod sockets;
mod spool;
mod surroundings;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Cell, Table};
use clap::Args;
use finding::{Finding, Verdict};
use manager::Manager;
use serde::Serialize;
use std::path::PathBuf;
use surroundings::Surroundings;

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Look at the files below this directory
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

#[derive(Debug, Serialize)]
struct Report {
    findings: Vec<Finding>,
    warnings: usize,
    problems: usize,
}

pub(crate) async fn run(context: &Context, args: DoctorArgs) -> Result<Exit, Failure> {
    let here = Surroundings::at(args.root);
    let manager = Manager::ask(&context.client).await;
    let report = examine(&here, &manager);
    context.show(&report, text)?;
    if report.problems == 0 { Ok(Exit::Done) } else { Err(Failure::quiet(Exit::NotSo)) }
}

fn examine(here: &Surroundings, manager: &Manager) -> Report {
    let mut findings = Vec::new();
    findings.extend(kernel::look(here, manager));
    findings.extend(devices::look(here));
    findings.extend(manager::look(here, manager));
    findings.extend(sockets::look(here, manager));
    findings.extend(spool::look(here, manager));
    findings.extend(clock::look(here, manager));
    let count = |verdict: Verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (warnings, problems) = (count(Verdict::Warning), count(Verdict::Problem));
    Report { findings, warnings, problems }
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&["", "WHAT", "FOUND"]);
    for finding in &report.findings {
        table.row(vec![finding.verdict.cell(), Cell::from(&finding.what), Cell::from(&finding.found)]);
        if let Some(advice) = &finding.advice {
            table.row(vec!["".into(), "".into(), format!("-> {advice}").into()]);
        }
    }
    let sum = match (report.problems, report.warnings) {
        (0, 0) => "nothing is in the way".to_owned(),
        (problems, warnings) => format!("{}, {}", many(problems, "problem"), many(warnings, "warning")),
    };
    format!("{}\n{sum}\n", table.render("nothing was looked at"))
}

fn many(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests;
