//! `doorbell audit`: the trail, where it ends, and whether it is whole.

mod export;
mod verify;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Cell, Table, facts};
use crate::text::{moment, short};
use clap::Subcommand;
use doorbell_client::api::audit::{AuditRecord, SignedHead};
use doorbell_client::trail::head::{fingerprint, word};

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
    /// Show where the trail ends, signed by the manager's key: keep that elsewhere; or show one record
    Show {
        /// The record's number
        #[arg(value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        number: Option<u64>,
    },
    /// Write the trail into a file that shows by itself whether it is whole
    Export(export::ExportArgs),
    /// Check the whole trail; exit status 1 when it is broken
    Verify(verify::VerifyArgs),
}

pub(crate) async fn run(context: &Context, command: AuditCommand) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Ls { after, limit } => {
            context.show(&context.client.audit(after, limit).await?, |records| list(records))?;
            Ok(Exit::Done)
        }
        AuditCommand::Show { number: None } => {
            context.show(&context.client.audit_head().await?, head)?;
            Ok(Exit::Done)
        }
        AuditCommand::Show { number: Some(number) } => {
            let found = context.client.audit(number.saturating_sub(1), 1).await?;
            let found = found.into_iter().find(|record| record.number == number);
            let none = || {
                Failure::new(Exit::Misused, format!("there is no record {number}; see: doorbell audit show"))
            };
            context.show(&found.ok_or_else(none)?, details)?;
            Ok(Exit::Done)
        }
        AuditCommand::Export(args) => export::run(context, &args).await,
        AuditCommand::Verify(args) => verify::run(context, args).await,
    }
}

fn head(head: &SignedHead) -> String {
    facts(vec![
        ("record", head.number.to_string().into()),
        ("hash", Cell::from(&head.hash)),
        ("signed", moment(head.at_ms).into()),
        ("signature", Cell::from(&head.signature)),
        ("key", fingerprint(&head.key).into()),
        ("keep", word(head).into()),
    ])
}

fn details(record: &AuditRecord) -> String {
    let or_none = |text: &Option<String>| Cell::from(text.as_deref().unwrap_or("-"));
    facts(vec![
        ("record", record.number.to_string().into()),
        ("when", moment(record.at_ms).into()),
        ("who", Cell::from(&record.actor)),
        ("what", Cell::from(&record.event)),
        ("guest", or_none(&record.guest)),
        ("request", or_none(&record.request)),
        ("reason", or_none(&record.reason)),
        ("ticket", or_none(&record.ticket)),
        ("detail", Cell::from(&record.detail)),
        ("previous", Cell::from(&record.previous)),
        ("hash", Cell::from(&record.hash)),
    ])
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

fn hash(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("expected 64 hexadecimal digits".to_owned())
}
