//! One pass over the inbox of one guest: what is whole and fit becomes a request, once; what is not fit is refused.
//!
//! Called by the spool's task, in turns, so that a full inbox keeps no other waiting. The order for a file is: read it
//! whole under a lease, keep its program, accept its request together with the note that the file was taken, ring,
//! remove the file, note that it is gone. After a crash anywhere in between, the same file has the same id, and the
//! pass goes on where it was cut.

use super::ask::{self, Asked, Companion};
use super::desk::{self, Refusal};
use super::entry::{self, Entry, Fault, Quiet, Writers};
use super::names::{Kind, kind, label, shown};
use super::outbox::Contents;
use super::place::Rooms;
use crate::access::Scope;
use crate::actor::Actor;
use crate::cause::Cause;
use crate::manager::Manager;
use crate::programs::Programs;
use crate::store::{Known, Spooling, StoreError};
use doorbell_api::error::ErrorCode;
use doorbell_api::request::NewRequest;
use doorbell_lease::Leased;
use doorbell_wire::ids::{Digest, GuestId, GuestName, RequestId};
use doorbell_wire::limits::PROGRAM_LEN_MAX;
use nix::unistd::{Uid, User};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Instant;

/// What is remembered of one inbox from pass to pass.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    quiet: Quiet,
    /// Names under which whole files were moved in.
    pub(super) moved: HashSet<Vec<u8>>,
    /// What was refused and cannot be moved away; told of once.
    stuck: HashSet<(Vec<u8>, entry::Same)>,
    tidy: bool,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Pass {
    /// Whether there is more to take now.
    pub(super) more: bool,
    /// Whether something has to lie a little longer.
    pub(super) unsettled: bool,
}

/// Whose inbox it is.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) id: GuestId,
    pub(super) name: GuestName,
    pub(super) rooms: Arc<Rooms>,
}

/// What is not done in this pass, and why, for the log.
pub(super) type Trouble = String;

/// Goes over an inbox once.
pub(super) async fn pass(manager: &Manager, owner: &Owner, inbox: &mut Inbox) -> Result<Pass, Trouble> {
    if !inbox.tidy {
        let lying = manager.store.spool_lying(owner.id).await.map_err(|error| error.whole())?;
        let gone = on_disk(owner, move |rooms| desk::tidy(rooms, &lying)).await?;
        manager.store.spool_gone(gone).await.map_err(|error| error.whole())?;
        inbox.tidy = true;
    }
    let (writers, entries) =
        on_disk(owner, |rooms| Ok((Writers::of(&rooms.inbox)?, entry::list(&rooms.inbox)?))).await?;
    writers.check()?;
    let (candidates, unsettled) = choose(inbox, &entries);
    inbox.quiet.keep(&entries);
    inbox.stuck.retain(|(name, same)| entries.iter().any(|it| it.name == *name && it.about.same == *same));
    if candidates.is_empty() {
        inbox.moved.clear();
        return Ok(Pass { more: false, unsettled });
    }
    let contents = on_disk(owner, Contents::of).await?;
    if let Some(why) = contents.full() {
        return Err(why);
    }
    let open = manager.store.spool_open(owner.id).await.map_err(|error| error.whole())?;
    let mut clerk = Clerk {
        manager,
        owner,
        inbox,
        writers,
        contents,
        room: OPEN_MAX.saturating_sub(open),
        gone: Vec::new(),
    };
    // What is refused for its place waits for nothing.
    let (over, fit): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|it| it.refused.is_some());
    let more = over.len() > TURN || (fit.len() > TURN && clerk.room > 0);
    for candidate in fit.into_iter().take(TURN).chain(over.into_iter().take(TURN)) {
        clerk.serve(candidate).await?;
    }
    clerk.finish().await?;
    Ok(Pass { more, unsettled })
}

/// An entry that is to be taken, or refused for its place in the inbox.
struct Candidate {
    entry: Entry,
    refused: Option<String>,
}

/// What is whole by all that can be seen from outside, in the order in which it came.
fn choose(inbox: &mut Inbox, entries: &[Entry]) -> (Vec<Candidate>, bool) {
    let (mut candidates, mut unsettled) = (Vec::new(), false);
    let (mut waiting, mut bytes) = (0_usize, 0_u64);
    let now = Instant::now();
    for entry in entries {
        bytes = bytes.saturating_add(entry.about.len);
        if matches!(kind(&entry.name), Ok(Kind::PassedOver | Kind::Companion)) {
            continue;
        }
        waiting = waiting.saturating_add(1);
        if inbox.stuck.contains(&(entry.name.clone(), entry.about.same)) {
            continue;
        }
        if !inbox.moved.contains(&entry.name) && !inbox.quiet.is_settled(&entry.about, now) {
            unsettled = true;
            continue;
        }
        let refused = (waiting > WAITING_MAX || bytes > BYTES_MAX).then(|| {
            format!("the inbox holds more than {WAITING_MAX} files or {BYTES_MAX} bytes: put it there again when others are gone")
        });
        candidates.push(Candidate { entry: entry.clone(), refused });
    }
    (candidates, unsettled)
}

/// Serves the candidates of one pass.
struct Clerk<'a> {
    manager: &'a Manager,
    owner: &'a Owner,
    inbox: &'a mut Inbox,
    writers: Writers,
    contents: Contents,
    room: usize,
    gone: Vec<RequestId>,
}

/// Why a file became no request.
enum Stop {
    Fault(Fault),
    /// The manager cannot take anything now.
    Trouble(Trouble),
}

impl Stop {
    /// What an asker could mend is a refusal; what is wrong with the manager waits.
    fn because(code: ErrorCode, line: &str) -> Self {
        if matches!(code, ErrorCode::Internal | ErrorCode::NoSpace) {
            return Self::Trouble(line.to_owned());
        }
        Self::Fault(Fault::Refused(line.to_owned()))
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::because(error.code(), &error.whole())
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Clerk<'_> {
    /// Takes or refuses one.
    async fn serve(&mut self, candidate: Candidate) -> Result<(), Trouble> {
        let Candidate { entry, refused } = candidate;
        let result = match refused {
            Some(line) => Err(Fault::Refused(line).into()),
            None => self.take(&entry).await,
        };
        match result {
            Ok(Some(request)) => self.gone.push(request),
            Ok(None) => {}
            Err(Stop::Fault(Fault::Refused(line))) => self.refuse(entry, &line).await?,
            // When its writer closes it, that is heard; a slow look follows in any case.
            Err(Stop::Fault(Fault::NotYet)) => drop(self.inbox.moved.remove(&entry.name)),
            Err(Stop::Fault(Fault::Broken(error))) => {
                tracing::warn!(guest = %self.owner.name, name = shown(&entry.name), %error, "a file of the spool cannot be looked at");
            }
            Err(Stop::Trouble(trouble)) => {
                self.finish().await?;
                return Err(trouble);
            }
        }
        Ok(())
    }

    /// Notes which files are gone, when that survives a crash.
    async fn finish(&mut self) -> Result<(), Trouble> {
        if self.gone.is_empty() {
            return Ok(());
        }
        on_disk(self.owner, desk::sync).await?;
        self.manager.store.spool_gone(std::mem::take(&mut self.gone)).await.map_err(|error| error.whole())
    }

    /// Makes a request of a file and removes it; `None` when the guest's other requests have to end first.
    async fn take(&mut self, entry: &Entry) -> Result<Option<RequestId>, Stop> {
        let known = kind(&entry.name).map_err(Fault::Refused)?;
        let (Kind::Program(stem) | Kind::Request(stem)) = &known else { return Ok(None) };
        if self.room == 0 {
            return Ok(None);
        }
        let read = self.read(entry, matches!(known, Kind::Program(_))).await?;
        let ids = ask::ids(self.owner.id, entry.about.same, &read.sum);
        let id = match self.manager.store.spool_look(ids).await? {
            Known::Taken(id) => id,
            Known::Free(id) => {
                self.accept(entry, &read, id, stem).await?;
                self.room = self.room.saturating_sub(1);
                id
            }
        };
        let (file, leased) = (entry.clone(), read.leased);
        on_disk(self.owner, move |rooms| {
            // Held until the file is gone: its bytes are those that were taken.
            let _lease = leased;
            desk::remove(rooms, &file, id)
        })
        .await
        .map_err(Stop::Trouble)?;
        Ok(Some(id))
    }

    async fn accept(&mut self, entry: &Entry, read: &Bytes, id: RequestId, stem: &str) -> Result<(), Stop> {
        let new = match &read.content {
            Content::Program(digest) => ask::plain(*digest, &shown(&entry.name)).map_err(Fault::Refused)?,
            Content::Request(bytes) => self.asked(bytes).await?,
        };
        let new = crate::api::convert::request(self.manager, &Scope::All, new, Cause::default()).await;
        let mut new = new.map_err(|error| Stop::because(error.code(), error.message()))?;
        new.id = Some(id);
        let file = Spooling {
            id,
            inode: entry.about.same.inode,
            stem: stem.to_owned(),
            used: self.contents.stems.clone(),
        };
        let store = &self.manager.store;
        let (admission, row) = store.accept_spooled(&read.by, &self.owner.name, new, file).await?;
        tracing::info!(guest = %self.owner.name, name = shown(&entry.name), request = %row.id, by = %read.by, "taken from the spool");
        self.manager.accepted(admission, &row).await;
        Ok(())
    }

    /// The request in a file, with the program that may lie beside it.
    async fn asked(&self, bytes: &[u8]) -> Result<NewRequest, Stop> {
        let (request, program) = match ask::read(bytes).map_err(Fault::Refused)? {
            Asked::Whole(new) => return Ok(*new),
            Asked::Beside { request, program } => (request, program),
        };
        let entry = self.beside(&program).await?;
        let Bytes { content: Content::Program(digest), .. } = self.read(&entry, true).await? else {
            return Err(Fault::NotYet.into());
        };
        Ok(ask::with_program(request, &program, digest).map_err(Fault::Refused)?)
    }

    async fn beside(&self, program: &Companion) -> Result<Entry, Stop> {
        let name = program.file.clone().into_bytes();
        if kind(&name) != Ok(Kind::Companion) {
            let line = format!(
                "its program {:?} is not valid: expected the name of a file beside it that ends with .{}",
                program.file,
                super::names::COMPANION
            );
            return Err(Fault::Refused(line).into());
        }
        let missing =
            format!("its program {} does not lie beside it: put it there before the request", program.file);
        on_disk(self.owner, move |rooms| match entry::about_of(&rooms.inbox, &name) {
            Ok(about) => Ok(Some(Entry { name, about })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
        .map_err(Stop::Trouble)?
        .ok_or_else(|| Fault::Refused(missing).into())
    }

    /// Reads a file whole. A program is kept as it is read.
    async fn read(&self, entry: &Entry, program: bool) -> Result<Bytes, Stop> {
        let (rooms, writers, entry) = (Arc::clone(&self.owner.rooms), self.writers, entry.clone());
        let programs = self.manager.programs.clone();
        let reading =
            move || Ok::<_, StoreError>(read(&rooms, writers, &entry, program.then_some(&programs)));
        crate::disk::blocking(reading).await?
    }

    async fn refuse(&mut self, entry: Entry, line: &str) -> Result<(), Trouble> {
        let (label, shown) = (label(&entry.name), shown(&entry.name));
        tracing::info!(guest = %self.owner.name, name = shown, why = line, "refused from the spool");
        let mut contents = std::mem::take(&mut self.contents);
        let (line, file) = (line.replace('\n', " "), entry.clone());
        let (contents, done) = on_disk(self.owner, move |rooms| {
            let why = Refusal { label: &label, shown: &shown, line: &line, at_ms: crate::time::unix_ms() };
            let done = desk::refuse(rooms, &mut contents, &file, &why);
            Ok((contents, done))
        })
        .await?;
        self.contents = contents;
        let left = done.map_err(|error| format!("a refusal cannot be put into the outbox: {error}"))?;
        if !left {
            self.inbox.stuck.insert((entry.name, entry.about.same));
        }
        self.contents.full().map_or(Ok(()), Err)
    }
}

/// A file that was read whole.
struct Bytes {
    leased: Leased,
    by: Actor,
    sum: [u8; 32],
    content: Content,
}

enum Content {
    Program(Digest),
    Request(Vec<u8>),
}

fn read(rooms: &Rooms, writers: Writers, entry: &Entry, programs: Option<&Programs>) -> Result<Bytes, Stop> {
    let len_max = if programs.is_some() { PROGRAM_LEN_MAX } else { REQUEST_LEN_MAX };
    let leased = entry::open(&rooms.inbox, entry, len_max, &writers)?;
    let (sum, content) = if let Some(programs) = programs {
        let digest = programs.keep(leased.file().take(len_max.saturating_add(1)))?;
        (*digest.as_bytes(), Content::Program(digest))
    } else {
        let mut bytes = Vec::new();
        leased.file().take(len_max).read_to_end(&mut bytes).map_err(Fault::Broken)?;
        (Sha256::digest(&bytes).into(), Content::Request(bytes))
    };
    if !entry::is_unchanged(&leased, entry) {
        return Err(Fault::NotYet.into());
    }
    let uid = entry.about.uid;
    let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    Ok(Bytes { leased, by: Actor::Spool { uid, name }, sum, content })
}

async fn on_disk<T: Send + 'static>(
    owner: &Owner,
    work: impl FnOnce(&Rooms) -> io::Result<T> + Send + 'static,
) -> Result<T, Trouble> {
    let rooms = Arc::clone(&owner.rooms);
    crate::disk::blocking(move || work(&rooms)).await.map_err(|error| error.to_string())
}

/// Files that are taken from one inbox before the others have their turn.
const TURN: usize = 64;
/// Requests of one guest that came through the spool and are not over. What lies behind them waits in the inbox.
const OPEN_MAX: usize = 256;
/// Files that wait in one inbox, and bytes of all that lies there.
const WAITING_MAX: usize = 1_024;
const BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Bytes of a request: what the API takes.
const REQUEST_LEN_MAX: u64 = 512 * 1024;
