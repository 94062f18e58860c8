//! `doorbell audit verify`: whether a trail is whole, by itself and beside what was kept of it; of a running manager, a
//! state directory, or an export.

use super::hash;
use crate::backup::daemon;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use clap::Args;
use doorbell_client::Client;
use doorbell_client::api::audit::{AuditCheck, AuditRecord};
use doorbell_client::trail::chain::{Verifier, hash_of};
use doorbell_client::trail::compare::{Comparison, verdict};
use doorbell_client::trail::export::{Kept, read};
use doorbell_client::trail::head::fingerprint;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct VerifyArgs {
    /// What was kept elsewhere: an export, a signed head, or a log with one; - reads standard input
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// A hash that was kept elsewhere: the trail must still contain it
    #[arg(long, value_name = "HASH", value_parser = hash, conflicts_with_all = ["state_dir", "export"])]
    head: Option<String>,
    /// Check the trail of a state directory instead, with no manager on it
    #[arg(long, value_name = "DIR", conflicts_with = "export")]
    state_dir: Option<PathBuf>,
    /// Check an export instead; - reads standard input
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// The fingerprint of the key that must have signed, as `doorbell audit show` prints it
    #[arg(long, value_name = "SHA256:…", conflicts_with = "state_dir")]
    key: Option<String>,
    /// The daemon's program, where it is neither beside this one nor in the PATH
    #[arg(long, value_name = "PATH", requires = "state_dir")]
    doorbelld: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, args: VerifyArgs) -> Result<Exit, Failure> {
    if let Some(dir) = &args.state_dir {
        return offline(context, dir, &args);
    }
    let check = match &args.export {
        Some(export) => of_export(export, &args)?,
        None => of_manager(&context.client, &args).await?,
    };
    context.show(&check, verdict)?;
    if check.intact { Ok(Exit::Done) } else { Err(Failure::quiet(Exit::NotSo)) }
}

/// The manager's own check, and then ours of all that it shows: what was kept is not held against its word.
async fn of_manager(client: &Client, args: &VerifyArgs) -> Result<AuditCheck, Failure> {
    let kept = args.against.as_deref().map(open).transpose()?;
    let check = client.audit_check().await?;
    if !check.intact {
        return Ok(check);
    }
    if let Some(head) = &args.head
        && let Some(line) = must_contain(client, head).await?
    {
        return Ok(broken(&check, line));
    }
    if kept.is_none() && args.key.is_none() {
        return Ok(check);
    }
    let key = client.audit_head().await?.key;
    if let Some(line) = other_key(&key, args.key.as_deref()) {
        return Ok(broken(&check, line));
    }
    match kept {
        Some(Ok(kept)) => beside(client, &kept, &key, check).await,
        Some(Err(line)) => Ok(broken(&check, line)),
        None => Ok(check),
    }
}

async fn beside(client: &Client, kept: &Kept, key: &str, check: AuditCheck) -> Result<AuditCheck, Failure> {
    let mut comparison = match Comparison::with(kept, key) {
        Ok(comparison) => comparison,
        Err(line) => return Ok(broken(&check, line)),
    };
    let (mut verifier, mut at) = (Verifier::default(), 0);
    loop {
        let page = client.audit(at, PAGE).await?;
        let Some(last) = page.last() else { break };
        at = last.number.max(at.saturating_add(1));
        for record in &page {
            verifier.check(record);
            comparison.look(record.number, hash_of(record));
        }
    }
    let ours = verifier.finish(None);
    Ok(match comparison.finish().filter(|_| ours.intact) {
        Some(line) => broken(&check, line),
        None => ours,
    })
}

fn of_export(export: &Path, args: &VerifyArgs) -> Result<AuditCheck, Failure> {
    let against = args.against.as_deref();
    if export == Path::new("-") && against == Some(export) {
        return Err(Failure::new(
            Exit::Misused,
            "standard input can be read once only; name one of the files",
        ));
    }
    let nothing = AuditCheck { intact: false, records: 0, head: String::new(), broken: None };
    let trail = match open(export)? {
        Ok(trail) => trail,
        Err(line) => return Ok(broken(&nothing, line)),
    };
    let check = trail.check.clone();
    if !check.intact {
        return Ok(check);
    }
    if let Some(line) = other_key(&trail.head.key, args.key.as_deref()) {
        return Ok(broken(&check, line));
    }
    let Some(kept) = against.map(open).transpose()? else { return Ok(check) };
    let found = kept.and_then(|kept| {
        let mut comparison = Comparison::with(&kept, &trail.head.key)?;
        trail.show(&mut comparison);
        comparison.finish().map_or(Ok(()), Err)
    });
    Ok(found.map_or_else(|line| broken(&check, line), |()| check.clone()))
}

/// The daemon has what reads a data base.
fn offline(context: &Context, dir: &Path, args: &VerifyArgs) -> Result<Exit, Failure> {
    let mut command = Command::new(args.doorbelld.clone().unwrap_or_else(daemon));
    command.arg("--verify-audit").arg("--state-dir").arg(dir);
    if let Some(kept) = &args.against {
        command.arg("--against").arg(kept);
    }
    if context.json {
        command.arg("--json");
    }
    let ended = command.status().map_err(|error| {
        let daemon = command.get_program().display();
        Failure::new(Exit::Daemon, format!("cannot start {daemon}: {error}; name it with --doorbelld"))
    })?;
    // It has said itself what there is to say.
    match ended.code() {
        Some(0) => Ok(Exit::Done),
        Some(2) => Err(Failure::quiet(Exit::Misused)),
        Some(_) => Err(Failure::quiet(Exit::NotSo)),
        None => Err(Failure::new(Exit::Daemon, "doorbelld was killed before it had looked at the trail")),
    }
}

fn open(path: &Path) -> Result<Result<Kept, String>, Failure> {
    if path == Path::new("-") {
        return Ok(read(io::stdin().lock()));
    }
    let file = File::open(path)
        .map_err(|error| Failure::new(Exit::Misused, format!("cannot read {}: {error}", path.display())))?;
    Ok(read(BufReader::new(file)).map_err(|line| format!("{}: {line}", path.display())))
}

fn other_key(key: &str, expected: Option<&str>) -> Option<String> {
    let found = fingerprint(key);
    let expected = expected.filter(|expected| *expected != found)?;
    Some(format!("it is signed by another key, {found}, expected {expected}"))
}

fn broken(check: &AuditCheck, line: String) -> AuditCheck {
    AuditCheck { intact: false, broken: Some(line), ..check.clone() }
}

/// Reads the trail for a hash that was kept; gives what is wrong. A trail that was written anew is whole in
/// itself, and only such a hash shows it.
async fn must_contain(client: &Client, head: &str) -> Result<Option<String>, Failure> {
    let mut last: Option<AuditRecord> = None;
    loop {
        let after = last.as_ref().map_or(0, |record| record.number);
        let page = client.audit(after, PAGE).await?;
        if page.is_empty() {
            let broken = format!("no record has the hash {head}: the trail is not the one it was kept from");
            return Ok(Some(broken));
        }
        for record in page {
            if let Some(before) = last.filter(|before| before.hash != record.previous) {
                return Ok(Some(format!(
                    "record {} does not continue record {}",
                    record.number, before.number
                )));
            }
            if record.hash == head {
                return Ok(None);
            }
            last = Some(record);
        }
    }
}

/// Records read at once.
const PAGE: u32 = 1000;
const NOTES: &str = "\
Exit status 1 and one line when it is not whole: a record that was altered or removed, a tail that was cut off; and against
what was kept: a trail that was rolled back to a copy, one that was forked, a head that another key has signed.";
