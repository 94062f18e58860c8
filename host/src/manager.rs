//! What the manager's tasks share.
//!
//! Made by the daemon at start, held by sessions, API and timers. Everything that outlives a connection hangs
//! off it; what has to survive a crash is in its store.

use crate::access::rates::Rates;
use crate::actor::Actor;
use crate::cause::Cause;
use crate::clients::Clients;
use crate::config::Config;
use crate::doors::Doors;
use crate::events::Events;
use crate::input::Inputs;
use crate::output::Outputs;
use crate::power::Powers;
use crate::programs::Programs;
use crate::registry::Registry;
use crate::request::{Admission, is_closed};
use crate::retrieve::Retriever;
use crate::signer::Signer;
use crate::spool::Spool;
use crate::store::{AcceptRequest, Refusal, RequestRow, Store, StoreError};
use crate::trace::Histograms;
use crate::uploads::Uploads;
use doorbell_api::request::{OnDisconnect, Request, State};
use doorbell_wire::ids::{GuestName, RequestId};
use doorbell_wire::message::action::Input;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Mutex;

/// What sessions, API and timers share.
#[derive(Debug)]
pub struct Manager {
    /// As it was started.
    pub config: Config,
    /// Guests, requests, receipts, audit trail.
    pub store: Store,
    /// The key that signs the trail.
    pub signer: Signer,
    /// Programs by digest.
    pub programs: Programs,
    /// What programs printed.
    pub outputs: Outputs,
    /// Open sessions.
    pub registry: Registry,
    /// Whether the guests' machines run.
    pub powers: Powers,
    /// What programs read.
    pub inputs: Inputs,
    /// Uploads that are not finished.
    pub uploads: Uploads,
    /// What fetches programs that live elsewhere.
    pub retriever: Retriever,
    /// Which requests have a client.
    pub clients: Clients,
    /// How long the ways between stations take.
    pub histograms: Histograms,
    /// How often who may call.
    pub rates: Rates,
    /// State changes.
    pub events: Events,
    /// Which guests are to be met where.
    pub doors: Doors,
    /// The spool directory, where there is one.
    pub spool: Option<Spool>,
    /// Whether AF_VSOCK is listened on, in one line.
    pub vsock: String,
    /// When it started, milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// Held by whoever removes, and by a backup, which needs what is there to stay.
    pub housekeeping: Arc<Mutex<()>>,
}

impl Manager {
    /// The manager of a state directory, with nothing running yet.
    ///
    /// # Errors
    /// When the state directory cannot be used.
    pub fn open(config: Config, vsock: String) -> Result<Self, StoreError> {
        let store = Store::open(&config)?;
        Ok(Self {
            store,
            signer: Signer::open(&config.state_dir)?,
            programs: Programs::open(&config.state_dir)?,
            outputs: Outputs::open(&config.state_dir)?,
            registry: Registry::default(),
            powers: Powers::default(),
            inputs: Inputs::open(&config.state_dir)?,
            uploads: Uploads::open(&config.state_dir)?,
            retriever: Retriever::default(),
            clients: Clients::default(),
            histograms: Histograms::default(),
            rates: Rates::new(config.rates()),
            events: Events::default(),
            doors: Doors::default(),
            spool: config.spool_dir.as_deref().map(Spool::open).transpose()?,
            vsock,
            started_at_ms: crate::time::unix_ms(),
            housekeeping: Arc::default(),
            config,
        })
    }

    /// Accepts a request: when this returns, it survives a crash, and its guest has been rung. `store` is the
    /// one that is there for whoever asks.
    ///
    /// # Errors
    /// As for [`Store::accept`].
    pub async fn accept(
        &self,
        store: &Store,
        by: &Actor,
        guest: &GuestName,
        new: AcceptRequest,
    ) -> Result<(Admission, RequestRow), StoreError> {
        let (admission, row) = store.accept(by, guest, new).await?;
        self.accepted(admission, &row).await;
        Ok((admission, row))
    }

    /// What follows when a request is on disk, whichever way it came.
    pub(crate) async fn accepted(&self, admission: Admission, row: &RequestRow) {
        if admission == Admission::Accepted {
            if row.on_disconnect == OnDisconnect::Kill {
                self.clients.watch(row.id, Instant::now());
            }
            self.moved(row).await;
        }
        if row.state != State::Unapproved {
            self.registry.ring(row.guest_id);
        }
    }

    /// A second person lets a request go on, or refuses it, and may say why.
    ///
    /// # Errors
    /// As for [`Store::approve_request`].
    pub async fn decided(
        &self,
        cause: &Cause,
        by: &Actor,
        id: RequestId,
        is_approved: bool,
    ) -> Result<RequestRow, StoreError> {
        let store = self.store.because(cause);
        let row = if is_approved {
            store.approve_request(by, id).await?
        } else {
            store.refuse_request(by, id).await?
        };
        self.moved(&row).await;
        if is_approved {
            self.registry.ring(row.guest_id);
        }
        Ok(row)
    }

    /// Tells everybody that a request has moved; of one that is over, puts away what nobody needs any longer.
    pub async fn moved(&self, row: &RequestRow) {
        if row.awaits_program {
            self.retriever.wake();
        }
        if row.state.is_final() {
            self.clients.forget(row.id);
            self.outputs.let_go(row.id);
            if row.awaits_program {
                // What it kept from being offered may be now.
                self.registry.ring(row.guest_id);
            }
            if row.action.input() != Input::None && is_closed(row.state) {
                self.inputs.remove(row.id).await;
            }
        }
        self.events.request(row, self.shown_state(row));
    }

    /// A request as the API shows it, with what it waits for where the store alone does not know.
    #[must_use]
    pub fn shown(&self, row: &RequestRow) -> Request {
        let errand = row.errand().filter(|_| row.state == State::Queued);
        let waits_for = if row.state == State::Unapproved {
            Some(SECOND_PERSON.to_owned())
        } else {
            errand.map(|errand| self.retriever.waits_for(&errand))
        };
        self.overlaid(row, Request { waits_for, ..row.to_api() })
    }

    /// Cancels a request, and tells its guest where it may be there.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn cancel(
        &self,
        by: &Actor,
        id: RequestId,
        why: Option<&'static str>,
    ) -> Result<RequestRow, StoreError> {
        let row = self.store.cancel(by, id, why).await?;
        self.cancelled(&row).await;
        Ok(row)
    }

    /// The same for somebody who says why.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn cancel_because(
        &self,
        cause: &Cause,
        by: &Actor,
        id: RequestId,
    ) -> Result<RequestRow, StoreError> {
        let row = self.store.because(cause).cancel(by, id, None).await?;
        self.cancelled(&row).await;
        Ok(row)
    }

    async fn cancelled(&self, row: &RequestRow) {
        if row.state.is_final() {
            self.moved(row).await;
        } else if let Some(bell) = self.registry.bell(row.guest_id) {
            bell.cancel(row.id);
            // One that was offered and is in no hand is closed by the next pull.
            if row.state != State::Started {
                bell.ring();
            }
        }
    }

    /// Tells the audit trail of a peer that gets no session and whose key is not what decides that.
    pub async fn session_refused(&self, guest: Option<&GuestName>, met_at: &str, why: &str) {
        let refusal = Refusal {
            event: "session-refused",
            guest: guest.cloned(),
            what: format!("met at {met_at}: {why}"),
            from: String::new(),
            by_guest: true,
        };
        if let Err(error) = self.store.refused(&Actor::Manager, refusal).await {
            tracing::warn!(error = error.whole(), "a refused session is not in the audit trail");
        }
    }

    /// Takes up what a manager before this one left: watches requests that are not to outlive their client, and
    /// removes the input of those that are over.
    ///
    /// # Errors
    /// When the store or the disk cannot be read.
    pub async fn take_up(&self) -> Result<(), StoreError> {
        for request in self.store.killed_without_client().await? {
            self.clients.watch(request, Instant::now());
        }
        for guest in self.store.guests().await? {
            self.events.owned_by(&guest.name, guest.tenant);
        }
        self.remove_old_inputs().await
    }

    /// Removes the input of requests that are over; usually it is gone with their end.
    ///
    /// # Errors
    /// When the store or the disk cannot be read.
    pub async fn remove_old_inputs(&self) -> Result<(), StoreError> {
        for request in self.inputs.all().await? {
            match self.store.request(request).await {
                Ok(row) if !is_closed(row.state) => {}
                Ok(_) | Err(StoreError::NotFound { .. } | StoreError::Gone { .. }) => {
                    self.inputs.remove(request).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Closes the started requests whose guests have been away for too long. Before this manager they may have been
    /// there, so that each has its whole time again.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn close_vanished(&self) -> Result<(), StoreError> {
        for row in self.store.vanished().await? {
            let up_ms = crate::time::unix_ms().saturating_sub(self.started_at_ms);
            let is_away = self.registry.bell(row.guest_id).is_none() && up_ms >= row.confirm_within_ms;
            if is_away && !self.powers.excuses(row.guest_id, row.confirm_within_ms) {
                self.moved(&self.store.unconfirmed(row.id).await?).await;
            }
        }
        Ok(())
    }

    /// Cancels the requests whose last client has been gone for too long.
    pub async fn cancel_deserted(&self, now: Instant) {
        for request in self.clients.deserted(now) {
            if let Err(error) = self.cancel(&Actor::Manager, request, Some("its client is gone")).await {
                tracing::warn!(%request, error = error.whole(), "a request without a client could not be cancelled");
            }
        }
    }
}

/// What a request waits for that nobody has approved yet.
const SECOND_PERSON: &str = "the approval of a second person";
