//! `doorbell audit export`: the trail in a file that shows by itself whether it is whole.

use crate::context::{Context, unwritten};
use crate::exit::Exit;
use crate::failure::Failure;
use clap::Args;
use doorbell_client::api::audit::SignedHead;
use doorbell_client::trail::chain::{Head, Verifier};
use doorbell_client::trail::export::{End, line};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Begin behind the record with this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    since: u64,
    /// The file to make; one that is there is replaced when the export is whole; - prints it
    #[arg(value_name = "FILE")]
    target: PathBuf,
}

pub(crate) async fn run(context: &Context, args: &ExportArgs) -> Result<Exit, Failure> {
    let target = args.target.as_path();
    if target == Path::new("-") {
        let mut stdout = BufWriter::new(io::stdout());
        let broken = write(context, args.since, &mut stdout, |error| unwritten(error, Exit::NotSo)).await?;
        return told(broken);
    }
    let refuse = |error: &io::Error| {
        Failure::new(Exit::Misused, format!("cannot write {}: {error}", target.display()))
    };
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut fresh =
        NamedTempFile::with_prefix_in(".doorbell-export.", dir).map_err(|error| refuse(&error))?;
    let broken = write(context, args.since, &mut BufWriter::new(fresh.as_file_mut()), refuse).await?;
    fresh.as_file().sync_all().map_err(|error| refuse(&error))?;
    fresh.persist(target).map_err(|error| refuse(&error.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| refuse(&error))?;
    told(broken)
}

/// Writes records and head; gives what is wrong with them. A broken trail is written as it is: it is evidence.
async fn write(
    context: &Context,
    since: u64,
    out: &mut impl Write,
    refuse: impl Fn(&io::Error) -> Failure,
) -> Result<Option<String>, Failure> {
    // The head first: what is added meanwhile belongs to the next export.
    let head = context.client.audit_head().await?;
    let mut put = |text: io::Result<String>| {
        text.and_then(|text| out.write_all(text.as_bytes())).map_err(|error| refuse(&error))
    };
    if since > head.number {
        let line = format!("the trail ends at record {}, so that none is behind record {since}", head.number);
        return Err(Failure::new(Exit::Misused, line));
    }
    let (mut at, mut verifier) = (since, None);
    while at < head.number {
        let page = context.client.audit(at, PAGE).await?;
        if page.is_empty() {
            break;
        }
        for record in page.iter().take_while(|record| record.number <= head.number) {
            put(line(record))?;
            verifier
                .get_or_insert_with(|| Verifier::behind(before(record.number, &record.previous)))
                .check(record);
        }
        at = page.last().map_or(head.number, |record| record.number.max(at.saturating_add(1)));
    }
    let end = opened(&head);
    let check = verifier.unwrap_or_else(|| Verifier::behind(end)).finish(Some(end));
    put(line(&End { since, head }))?;
    out.flush().map_err(|error| refuse(&error))?;
    Ok(check.broken)
}

fn opened(head: &SignedHead) -> Head {
    before(head.number.saturating_add(1), &head.hash)
}

fn before(number: u64, hash: &str) -> Head {
    let mut bytes = [0; 32];
    // What is no hash fits no record, which is found then.
    let _ = hex::decode_to_slice(hash, &mut bytes);
    Head { number: number.saturating_sub(1), hash: bytes }
}

fn told(broken: Option<String>) -> Result<Exit, Failure> {
    match broken {
        None => Ok(Exit::Done),
        Some(line) => {
            Err(Failure::new(Exit::NotSo, format!("the trail is broken, and was written as it is: {line}")))
        }
    }
}

/// Records read at once.
const PAGE: u32 = 1000;
