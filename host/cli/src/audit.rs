//! `doorbell audit`: the trail, and whether it is whole.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Cell, Table};
use crate::text::{moment, short};
use clap::Subcommand;
use doorbell_client::Client;
use doorbell_client::api::audit::{AuditCheck, AuditRecord};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List the records, oldest first
    Ls {
        /// Begin behind the record with this number
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
        /// At most so many, from 1 to 1000
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Check the whole trail; exit status 1 when it is broken
    Verify {
        /// A hash that was kept elsewhere: the trail must still contain it
        #[arg(long, value_name = "HASH", value_parser = hash)]
        head: Option<String>,
    },
}

pub(crate) async fn run(context: &Context, command: AuditCommand) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Ls { after, limit } => {
            context.show(&context.client.audit(after, limit).await?, |records| list(records))?;
            Ok(Exit::Done)
        }
        AuditCommand::Verify { head } => verify(context, head).await,
    }
}

async fn verify(context: &Context, head: Option<String>) -> Result<Exit, Failure> {
    let mut check = context.client.audit_check().await?;
    if let (true, Some(head)) = (check.intact, head)
        && let Some(broken) = must_contain(&context.client, &head).await?
    {
        check.intact = false;
        check.broken = Some(broken);
    }
    context.show(&check, verdict)?;
    if check.intact { Ok(Exit::Done) } else { Err(Failure::quiet(Exit::NotSo)) }
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

fn list(records: &[AuditRecord]) -> String {
    let mut table =
        Table::new(&["NUMBER", "WHEN", "WHO", "WHAT", "GUEST", "REQUEST", "REASON", "TICKET", "DETAIL"]);
    for record in records {
        table.row(vec![
            record.number.to_string().into(),
            moment(record.at_ms).into(),
            Cell::from(&record.actor),
            Cell::from(&record.event),
            record.guest.as_deref().unwrap_or("-").into(),
            record.request.as_deref().map_or_else(|| "-".to_owned(), short).into(),
            record.reason.as_deref().unwrap_or("-").into(),
            record.ticket.as_deref().unwrap_or("-").into(),
            Cell::from(&record.detail),
        ]);
    }
    table.render("no records")
}

fn verdict(check: &AuditCheck) -> String {
    match &check.broken {
        None if check.intact => {
            format!("the audit trail is whole: {} records\nhead {}\n", check.records, check.head)
        }
        broken => {
            format!("the audit trail is broken: {}\n", broken.as_deref().unwrap_or("no reason was given"))
        }
    }
}

fn hash(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("expected 64 hexadecimal digits".to_owned())
}

/// Records read at once.
const PAGE: u32 = 1000;
