//! `doorbell gc`: what is kept no longer, and away with it.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::size;
use crate::table::{Cell, Table};
use crate::text::{short, word};
use clap::Args;
use doorbell_client::api::retention::{Kind, Sweep, Total, Why};

#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(context: &Context, args: &GcArgs) -> Result<Exit, Failure> {
    context.show(&context.client.sweep(args.dry_run).await?, shown)?;
    Ok(Exit::Done)
}

fn shown(sweep: &Sweep) -> String {
    let Sweep { requests, outputs, programs, uploads, leftovers, ids, .. } = sweep;
    let kinds = [
        ("requests", requests),
        ("outputs", outputs),
        ("programs", programs),
        ("uploads", uploads),
        ("leftovers", leftovers),
    ];
    let mut list = Table::new(&["WHAT", "WHICH", "SIZE", "WHY"]);
    for thing in &sweep.things {
        let name = if thing.kind == Kind::Program { thing.name.clone() } else { short(&thing.name) };
        list.row(vec![
            word(&thing.kind).into(),
            Cell::from(&name),
            size::show(thing.bytes).into(),
            why(thing.why).into(),
        ]);
    }
    let mut text = if sweep.things.is_empty() { String::new() } else { list.render("") };
    if sweep.more {
        text.push_str("there is more than is listed\n");
    }
    let verb = if sweep.dry_run { "would go" } else { "removed" };
    let told: Vec<String> = kinds
        .into_iter()
        .filter(|(_, total)| total.count > 0)
        .map(|(name, Total { count, bytes })| format!("{count} {name} ({})", size::show(*bytes)))
        .chain((*ids > 0).then(|| format!("{ids} ids of requests removed long ago")))
        .collect();
    let told = if told.is_empty() { "nothing".to_owned() } else { told.join(", ") };
    text.push_str(&format!("{verb}: {told}\n"));
    text
}

const fn why(why: Why) -> &'static str {
    match why {
        Why::Age => "older than is kept",
        Why::Size => "more than is kept",
        Why::Unused => "not needed any more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_client::api::retention::Thing;

    #[test]
    fn what_goes_is_told_with_its_size() {
        assert_eq!(shown(&Sweep::default()), "removed: nothing\n");
        let thing =
            Thing { kind: Kind::Output, name: "0123456789abcdef".repeat(2), bytes: 2048, why: Why::Size };
        let outputs = Total { count: 1, bytes: 2048 };
        let sweep = Sweep { dry_run: true, outputs, ids: 3, things: vec![thing], ..Sweep::default() };
        let text = shown(&sweep);
        assert!(text.contains("output") && text.contains("more than is kept"), "{text}");
        assert!(
            text.ends_with("would go: 1 outputs (2 KiB), 3 ids of requests removed long ago\n"),
            "{text}"
        );
    }
}
