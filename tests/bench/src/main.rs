//! `doorbell-bench`: floors, Doorbell and its peers, measured in one guest in one run, against the budgets.
//!
//! Called by hand, from the checkout. Trusts the checkout; AF_VSOCK is touched only by the half that runs in an L1 guest.
#![allow(clippy::print_stdout, reason = "a command's standard output is its product")]
#![allow(clippy::indexing_slicing, reason = "only of JSON, where what is not there is null")]

mod agent;
mod api;
mod budget;
mod children;
mod floor;
mod hostile;
mod lab;
mod measure;
mod nested;
mod plot;
mod qga;
mod report;
mod samples;
mod ssh;

use crate::lab::{Lab, Place};
use crate::measure::Plan;
use crate::report::Report;
use anyhow::{Context as _, Result};
use clap::Parser;
use std::path::{Path, PathBuf};

/// Measures Doorbell in one guest beside what the guest can do at best and what its peers do there.
#[derive(Debug, Parser)]
#[command(name = "doorbell-bench", version)]
struct Cli {
    /// In which guest
    #[arg(long, value_enum, default_value = "initramfs")]
    guest: Place,
    /// Few samples and small transfers: at most two minutes instead of six
    #[arg(long)]
    quick: bool,
    /// Where the results go: GUEST.json, GUEST.md and two pictures
    #[arg(long, default_value = "docs/benchmarks")]
    out: PathBuf,
    /// A directory with doorbelld, doorbell, doorbell-agent and doorbell-floor to measure; built when absent
    #[arg(long)]
    bin: Option<PathBuf>,
    #[command(subcommand)]
    half: Option<Half>,
}

/// Other runs, and what this program is to itself in other processes.
#[derive(Debug, clap::Subcommand)]
enum Half {
    /// An honest guest's latency, and the manager's memory, beside a guest that attacks it
    Hostile,
    /// ssh's way through a hybrid socket
    #[command(hide = true)]
    Connect { base: PathBuf, port: u32 },
    /// The half of a nested run that is in the L1 guest
    #[command(hide = true)]
    Inside { image: PathBuf },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match &cli.half {
        Some(Half::Connect { base, port }) => return ssh::connect(base, *port),
        Some(Half::Inside { image }) => return nested::inside(image, cli.quick),
        Some(Half::Hostile) | None => {}
    }
    // The HTTP library has none of its own, and asks for one even where it only speaks over a Unix socket.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let out = std::path::absolute(&cli.out)?;
    let given = cli.bin.as_ref().map(std::path::absolute).transpose()?;
    std::env::set_current_dir(&root).context("the checkout this was built in")?;
    let bin = given.map_or_else(lab::build, Ok)?;
    let bin = bin.canonicalize()?;
    let directory = lab::directory(Path::new("/tmp"))?;
    let report = run(&cli, &bin, &directory);
    match &report {
        Ok(_) => std::fs::remove_dir_all(&directory)?,
        Err(_) => println!("what the run left is in {}", directory.display()),
    }
    let report = report?;
    report.write(&out)?;
    println!("{}", std::fs::read_to_string(out.join(format!("{}.md", report.place)))?);
    Ok(())
}

fn run(cli: &Cli, bin: &Path, directory: &Path) -> Result<Report> {
    if matches!(cli.half, Some(Half::Hostile)) {
        return hostile::run(bin, directory, cli.quick);
    }
    let image = lab::image(cli.guest, bin, directory)?;
    if cli.guest == Place::Nested {
        return nested::outside(&image, bin, cli.quick);
    }
    measured(cli.guest, &image, bin, directory, cli.quick)
}

/// One run, where this process is the host of the guest.
fn measured(place: Place, image: &Path, bin: &Path, directory: &Path, quick: bool) -> Result<Report> {
    let (mut lab, mut floor) = Lab::start(place, image, bin, directory)?;
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let rows = measure::run(&mut lab, &mut floor, plan)?;
    Ok(Report::new(place, quick, &lab, rows))
}
