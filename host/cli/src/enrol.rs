//! The keys of guests: list those that wait, approve, reject, and the one-time tokens by which they are let in.
//!
//! Called by `doorbell guest`. A token's secret half is in its file alone.

use crate::context::Context;
use crate::duration;
use crate::failure::Failure;
use crate::launch::{NewKey, TOKEN};
use crate::table::Table;
use crate::text::moment;
use clap::Args;
use doorbell_client::api::guest::{Approval, NewEnrolment, PendingKey, Rejection};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct ApproveArgs {
    /// The guest's name
    name: String,
    /// Approve only a key with this fingerprint, as the agent prints it on the guest's console
    #[arg(long, value_name = "SHA256:…")]
    fingerprint: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct EnrolArgs {
    /// The guest's name
    name: String,
    /// Put the token into this new file, for its QEMU (-fw_cfg name=opt/org.doorbell.enrol,file=FILE) or its agent (--enrol-token)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long it is good: 30m, 24h (when not given), at most 720h
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    within: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct RejectArgs {
    /// The guest's name
    name: String,
    /// Reject only a key with this fingerprint, as `doorbell guest pending` shows it
    #[arg(long, value_name = "SHA256:…")]
    fingerprint: Option<String>,
}

pub(crate) async fn approve(context: &Context, args: ApproveArgs) -> Result<(), Failure> {
    let approval = Approval { fingerprint: args.fingerprint };
    context.show(&context.client.guest(args.name).approve(&approval).await?, |guest| {
        let fingerprint = guest.fingerprint.as_deref().unwrap_or("no key");
        format!("approved {} with {fingerprint}\n", guest.name)
    })
}

pub(crate) async fn enrol(context: &Context, args: EnrolArgs) -> Result<(), Failure> {
    let token = NewKey::make(&args.out)?;
    let guest = context.client.guest(args.name).enrol(&enrolment(&token, args.within)).await?;
    let launch = token.keep(TOKEN);
    context.show(&guest, |guest| {
        let until = guest.enrolment_until_ms.map(moment).unwrap_or_default();
        format!("a one-time token for {}, good until {until}; start its QEMU with {launch}\n", guest.name)
    })
}

pub(crate) async fn reject(context: &Context, args: RejectArgs) -> Result<(), Failure> {
    let rejection = Rejection { fingerprint: args.fingerprint };
    context.show(&context.client.guest(args.name).reject(&rejection).await?, |guest| {
        let rejected = guest.rejected.join(", ");
        format!("of {}, these keys are rejected: {rejected}\n", guest.name)
    })
}

pub(crate) fn enrolment(token: &NewKey, within: Option<Duration>) -> NewEnrolment {
    NewEnrolment { token: token.public(), expires_in_ms: within.map(duration::ms) }
}

pub(crate) fn pending(keys: &[PendingKey]) -> String {
    let mut table = Table::new(&["GUEST", "FINGERPRINT", "MET AT", "SEEN"]);
    for key in keys {
        let (guest, fingerprint, met_at) = (&key.guest, &key.fingerprint, &key.met_at);
        table.row(vec![guest.into(), fingerprint.into(), met_at.into(), moment(key.seen_at_ms).into()]);
    }
    table.render("no key waits for approval")
}
