//! `doorbell token`, `doorbell cert`, `doorbell tenant`: who may use the manager, and how far.

use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Cell, Table};
use crate::text::{moment, word};
use clap::{Args, Subcommand, ValueEnum};
use doorbell_client::api::access::{
    ActionName, Credential, Granted, NewPrincipal, NewTenant, Principal, Role, Tenant,
};
use doorbell_client::api::secret::Secret;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; it is shown once
    Add {
        #[command(flatten)]
        rights: Rights,
        /// Put the token into this new file, which only its owner can read, and print none
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List all tokens, revoked ones too; never what opens something
    Ls,
    /// Revoke a token: from the next call on it is unknown
    Revoke(RevokeArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Say whose a certificate of the client authority is
    Add {
        #[command(flatten)]
        rights: Rights,
        #[command(flatten)]
        which: Which,
    },
    /// List all, revoked ones too
    Ls,
    /// Revoke one: from the next call on it is unknown
    Revoke(RevokeArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Add a tenant
    Add {
        /// Its name: a-z, 0-9, '-' and '.', at most 63 bytes
        name: String,
    },
    /// List the tenants
    Ls,
    /// Remove a tenant that owns nothing any longer
    Rm {
        /// Its name
        name: String,
    },
}

/// How far somebody's rights reach
#[derive(Args, Debug)]
pub(crate) struct Rights {
    /// What it is called in the audit trail: a-z, 0-9, '-' and '.', at most 63 bytes
    name: String,
    /// The tenant it belongs to; our own when not given, and none where we belong to none
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// What it may do
    #[arg(long, value_enum)]
    role: RoleWord,
    /// Limit it to this action; may be given several times
    #[arg(long = "action", value_enum, value_name = "ACTION")]
    actions: Vec<ActionWord>,
    /// When it ends: a length of time, or never
    #[arg(long, value_name = "TIME", default_value = "2160h", value_parser = lifetime)]
    expires: Lifetime,
}

/// Which certificate
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// The one with this SHA-256 fingerprint, as `openssl x509 -fingerprint -sha256` prints it
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Any one that was issued for this DNS name
    #[arg(long, value_name = "NAME")]
    dns: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// Its id, as `ls` shows it
    id: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleWord {
    /// Look at everything, change nothing
    Viewer,
    /// And run programs, switch links, move files, cancel
    Operator,
    /// And approve, change and remove guests, give and revoke tokens
    Admin,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ActionWord {
    Run,
    LinkUp,
    LinkDown,
    Put,
    Get,
}

#[derive(Clone, Copy, Debug)]
enum Lifetime {
    For(Duration),
    Forever,
}

pub(crate) async fn token(context: &Context, command: TokenCommand) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Add { rights, out } => give(context, rights, out.as_deref()).await,
        TokenCommand::Ls => list(context, true).await,
        TokenCommand::Revoke(args) => revoke(context, &args).await,
    }?;
    Ok(Exit::Done)
}

pub(crate) async fn cert(context: &Context, command: CertCommand) -> Result<Exit, Failure> {
    match command {
        CertCommand::Add { rights, which } => {
            let credential = match (which.sha256, which.dns) {
                (Some(fingerprint), _) => Credential::CertSha256 { fingerprint },
                (None, name) => Credential::CertDns { name: name.unwrap_or_default() },
            };
            let granted = context.client.add_principal(&rights.asked(credential)).await?;
            context.show(&granted.principal, |who| {
                format!("{} is known by its certificate ({})\n", who.name, who.id)
            })
        }
        CertCommand::Ls => list(context, false).await,
        CertCommand::Revoke(args) => revoke(context, &args).await,
    }?;
    Ok(Exit::Done)
}

pub(crate) async fn tenant(context: &Context, command: TenantCommand) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Removed {
        removed: String,
    }
    match command {
        TenantCommand::Add { name } => {
            let added = context.client.add_tenant(&NewTenant { name }).await?;
            context.show(&added, |tenant| {
                format!(
                    "added {0}; give it a guest with `doorbell guest set GUEST --tenant {0}`\n",
                    tenant.name
                )
            })
        }
        TenantCommand::Ls => context.show(&context.client.tenants().await?, |tenants| tenants_shown(tenants)),
        TenantCommand::Rm { name } => {
            context.client.remove_tenant(&name).await?;
            context.show(&Removed { removed: name }, |removed| format!("removed {}\n", removed.removed))
        }
    }?;
    Ok(Exit::Done)
}

impl Rights {
    fn asked(self, credential: Credential) -> NewPrincipal {
        let actions: Vec<ActionName> = self.actions.into_iter().map(ActionWord::name).collect();
        NewPrincipal {
            name: self.name,
            credential,
            tenant: self.tenant,
            role: self.role.role(),
            actions: Some(actions).filter(|actions| !actions.is_empty()),
            expires_in_ms: match self.expires {
                Lifetime::For(time) => Some(duration::ms(time)),
                Lifetime::Forever => None,
            },
        }
    }
}

impl RoleWord {
    const fn role(self) -> Role {
        match self {
            Self::Viewer => Role::Viewer,
            Self::Operator => Role::Operator,
            Self::Admin => Role::Admin,
        }
    }
}

impl ActionWord {
    const fn name(self) -> ActionName {
        match self {
            Self::Run => ActionName::Run,
            Self::LinkUp => ActionName::LinkUp,
            Self::LinkDown => ActionName::LinkDown,
            Self::Put => ActionName::Put,
            Self::Get => ActionName::Get,
        }
    }
}

async fn give(context: &Context, rights: Rights, out: Option<&Path>) -> Result<(), Failure> {
    // Before it is made: a token that has nowhere to go would have to be revoked.
    let file = out.map(new_file).transpose()?;
    let granted = context.client.add_principal(&rights.asked(Credential::Token)).await;
    if let (Err(_), Some(path)) = (&granted, out) {
        // It is ours and empty, and the next try makes a new one.
        let _ = std::fs::remove_file(path);
    }
    let granted = granted?;
    let Some((mut file, path)) = file.zip(out) else { return context.show(&granted, shown_once) };
    let token = granted.token.as_ref().map_or("", Secret::expose);
    writeln!(file, "{token}").and_then(|()| file.sync_all()).map_err(|error| {
        let id = &granted.principal.id;
        Failure::new(
            Exit::Misused,
            format!("cannot write {}: {error}; revoke it: `doorbell token revoke {id}`", path.display()),
        )
    })?;
    context.show(&granted.principal, |who| {
        format!("the token of {} ({}) is in {}\n", who.name, who.id, path.display())
    })
}

fn new_file(path: &Path) -> Result<std::fs::File, Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::new(Exit::Misused, format!("cannot make {}: {error}", path.display())))
}

fn shown_once(granted: &Granted) -> String {
    let token = granted.token.as_ref().map_or("", Secret::expose);
    format!("{token}\n")
}

async fn list(context: &Context, tokens: bool) -> Result<(), Failure> {
    let all = context.client.principals().await?;
    let wanted = |who: &Principal| (who.credential == Credential::Token) == tokens;
    let some: Vec<Principal> = all.into_iter().filter(wanted).collect();
    context.show(&some, |some| principals_shown(some))
}

async fn revoke(context: &Context, args: &RevokeArgs) -> Result<(), Failure> {
    let revoked = context.client.revoke(&args.id).await?;
    context.show(&revoked, |who| format!("revoked {} ({})\n", who.name, who.id))
}

fn principals_shown(all: &[Principal]) -> String {
    let mut table =
        Table::new(&["ID", "NAME", "TENANT", "ROLE", "ACTIONS", "KNOWN BY", "EXPIRES", "LAST USED"]);
    for who in all {
        let actions =
            who.actions.as_ref().map(|actions| actions.iter().map(word).collect::<Vec<_>>().join(" "));
        let ends = match (who.revoked_at_ms, who.expires_at_ms) {
            (Some(at), _) => format!("revoked {}", moment(at)),
            (None, Some(at)) => moment(at),
            (None, None) => "never".to_owned(),
        };
        table.row(vec![
            Cell::from(&who.id),
            Cell::from(&who.name),
            who.tenant.as_deref().unwrap_or("-").into(),
            word(&who.role).into(),
            actions.unwrap_or_else(|| "all".to_owned()).into(),
            match &who.credential {
                Credential::Token => "token".to_owned(),
                Credential::CertSha256 { fingerprint } => format!("sha256 {fingerprint}"),
                Credential::CertDns { name } => format!("dns {name}"),
            }
            .into(),
            ends.into(),
            who.last_used_ms.map_or_else(|| "never".to_owned(), moment).into(),
        ]);
    }
    table.render("nobody")
}

fn tenants_shown(all: &[Tenant]) -> String {
    let mut table = Table::new(&["NAME", "GUESTS", "ADDED"]);
    for tenant in all {
        table.row(vec![
            Cell::from(&tenant.name),
            tenant.guests.to_string().into(),
            moment(tenant.added_at_ms).into(),
        ]);
    }
    table.render("no tenants: add one with `doorbell tenant add NAME`")
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" {
        return Ok(Lifetime::Forever);
    }
    duration::parse(text).map(Lifetime::For)
}
