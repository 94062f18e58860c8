//! `doorbell manager`: the manager's own key, for guests that pin it.
//!
//! Called by the dispatcher. The key is the one that signs the head of the audit trail; only its public half is known here.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::facts;
use clap::{Args, Subcommand};
use doorbell_client::trail::head::fingerprint;
use serde::Serialize;
use std::path::{Path, PathBuf, absolute};

#[derive(Debug, Subcommand)]
pub(crate) enum ManagerCommand {
    /// Show the manager's public key and its fingerprint, which a guest can pin
    Key(KeyArgs),
}

#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    /// And put the fingerprint into this file, for a guest's QEMU: -fw_cfg name=opt/org.doorbell.manager,file=FILE
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Key {
    key: String,
    fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    launch: Option<String>,
}

pub(crate) async fn run(context: &Context, command: ManagerCommand) -> Result<Exit, Failure> {
    let ManagerCommand::Key(KeyArgs { out }) = command;
    let key = context.client.info().await?.key;
    if key.is_empty() {
        return Err(Failure::new(Exit::Misused, "this manager is too old to tell its key; upgrade it"));
    }
    let fingerprint = fingerprint(&key);
    let launch = out.as_deref().map(|out| write(out, &fingerprint)).transpose()?;
    context.show(&Key { key, fingerprint, launch }, shown)?;
    Ok(Exit::Done)
}

fn shown(Key { key, fingerprint, launch }: &Key) -> String {
    let mut list = vec![
        ("fingerprint", fingerprint.into()),
        ("key", key.into()),
        ("pin", format!("doorbell-agent --manager-key {fingerprint}").into()),
    ];
    if let Some(launch) = launch {
        list.push(("launch", launch.into()));
    }
    facts(list)
}

/// Writes the file; gives what QEMU is to be started with.
fn write(out: &Path, fingerprint: &str) -> Result<String, Failure> {
    let refuse = |error: std::io::Error| {
        Failure::new(Exit::Misused, format!("cannot write {}: {error}", out.display()))
    };
    std::fs::write(out, format!("{fingerprint}\n")).map_err(refuse)?;
    let path = absolute(out).map_err(refuse)?;
    // A comma in a value of QEMU's is written twice.
    Ok(format!(
        "-fw_cfg name=opt/org.doorbell.manager,file={}",
        path.display().to_string().replace(',', ",,")
    ))
}
