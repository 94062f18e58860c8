//! The stations of a request that goes through a share, one short step each.
//!
//! Called by the stand-in's drain and by its looks. A program is in the share before its prompt, and a prompt goes when
//! its receipt is stored; an outcome is passed on behind all output that lies there, and only with the key's signature.

use super::places::frame_bytes;
use super::stand_in::{Held, Over, StandIn};
use doorbell_wire::error::SessionError;
use doorbell_wire::ids::{RequestId, ShortText, Signature};
use doorbell_wire::limits::{CHUNK_LEN_MAX, OUTPUT_LEN_MAX};
use doorbell_wire::message::action::Input;
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals, Refusal};
use doorbell_wire::message::{
    Attached, Chunk, FromGuest, FromHost, Offer, Offsets, Output, Spooled, Stage, Stream,
};
use doorbell_wire::session::guest::Guest;
use doorbell_wire::share::{ATTACH, Of, ShareError, prompt, read_ack, receipt_transcript, whole_frames};
use std::io::Write as _;
use tracing::warn;

impl StandIn {
    /// The guest has said what it has in hand: from here on requests are put into the share.
    pub(super) async fn present(&mut self, attach: &[u8]) -> Result<(), Over> {
        let (frames, used) = whole_frames(attach)?;
        if used != attach.len() {
            return Err(ShareError::Short { file: ATTACH }.into());
        }
        self.was_presented();
        for frame in frames {
            let FromGuest::Attach(attach) = FromGuest::from_frame(&frame)? else {
                return Err(ShareError::Other { file: ATTACH, got: frame.kind.name() }.into());
            };
            let held = Held { applies: true, output_max: OUTPUT_LEN_MAX, ..Held::default() };
            self.hands.insert(attach.request, held);
            self.with(|session| session.attach(attach.request, attach.input, attach.taken)).await?;
        }
        self.with(Guest::pull).await
    }

    pub(super) async fn attached(&mut self, request: RequestId, from: Option<Offsets>) -> Result<(), Over> {
        if let Some(held) = self.hands.get_mut(&request) {
            let at = from.unwrap_or_default();
            (held.read, held.stored, held.given_back) = (at, at, at);
            held.output_max = if from.is_some() { held.output_max } else { 0 };
        }
        let message = FromHost::Attached(Attached { request, from });
        self.say(Of::Attached, request, frame_bytes(message.to_frame())?).await
    }

    pub(super) async fn offered(&mut self, session: Guest, offer: Box<Offer>) -> Result<Guest, Over> {
        let request = offer.request;
        if offer.action.input() != Input::None {
            return Ok(refuse(
                session,
                request,
                "input and terminals need a channel, and this guest has a share",
            )?);
        }
        let (payload, output_max) = (offer.action.payload(), offer.action.output_len_max());
        self.hands.insert(request, Held { payload, output_max, offer: Some(offer), ..Held::default() });
        let Some(payload) = payload else {
            self.prompt(request).await?;
            return Ok(session);
        };
        let is_there = self.on_disk(move |places| places.has_program(&payload.digest, payload.len)).await?;
        if is_there {
            self.prompt(request).await?;
            return Ok(session);
        }
        let file = self.on_disk(move |places| places.stage(request)).await?;
        if let Some(held) = self.hands.get_mut(&request) {
            held.staging = Some(file);
        }
        if payload.len > 0 {
            return Ok(session.fetch(self.now(), request, 0)?);
        }
        self.staged(request).await?;
        Ok(session)
    }

    /// Program bytes on their way into the share.
    pub(super) async fn stage(&mut self, session: Guest, chunk: Chunk) -> Result<Guest, Over> {
        let Chunk { request, offset, bytes } = chunk;
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let session = session.staged(count)?;
        let Some(held) = self.hands.get_mut(&request) else { return Ok(session) };
        let (Some(mut file), Some(payload)) = (held.staging.take(), held.payload) else { return Ok(session) };
        let end = offset.saturating_add(bytes.len() as u64);
        let file = self.on_disk(move |_| file.write_all(&bytes).map(|()| file)).await?;
        if let Some(held) = self.hands.get_mut(&request) {
            held.staging = Some(file);
        }
        if end == payload.len {
            self.staged(request).await?;
        }
        Ok(session)
    }

    /// Its prompt stays until the receipt; what was not put there yet ends at once.
    pub(super) async fn cancel(&mut self, session: Guest, request: RequestId) -> Result<Guest, Over> {
        let Some(held) = self.hands.get_mut(&request) else { return Ok(session) };
        if held.offer.is_some() {
            if std::mem::replace(&mut held.is_told, true) {
                return Ok(session);
            }
            return Ok(session.acknowledge(ended(request, Outcome::Cancelled))?);
        }
        self.say(Of::Cancel, request, frame_bytes(FromHost::Cancel(request).to_frame())?).await?;
        Ok(session)
    }

    /// The receipt is stored: the prompt goes, then the guest is told; its program goes when nobody else needs it.
    pub(super) async fn forget(&mut self, request: RequestId) -> Result<(), Over> {
        let Some(held) = self.hands.remove(&request) else { return Ok(()) };
        self.stored.remove(&request);
        let (nonce, names) = (self.nonce, [Of::Attached, Of::Cancel, Of::Stored].map(|of| of.name(request)));
        let names: Vec<String> = held.prompt.into_iter().chain(names).collect();
        let unneeded = held.payload.map(|payload| payload.digest).filter(|digest| !self.needs(digest));
        self.on_disk(move |places| {
            names.iter().try_for_each(|name| places.unsay(&nonce, name))?;
            places.settle(request, None)?;
            unneeded.map_or(Ok(()), |digest| places.drop_program(&digest))
        })
        .await?;
        self.noted.insert(request);
        self.say(Of::Noted, request, frame_bytes(FromHost::Noted(request).to_frame())?).await
    }

    /// The guest knows that a request is noted, and has removed what it said of it. Its next step may follow.
    pub(super) async fn known(&mut self, request: RequestId) -> Result<(), Over> {
        self.noted.remove(&request);
        let (nonce, name) = (self.nonce, Of::Noted.name(request));
        self.on_disk(move |places| places.unsay(&nonce, &name)).await?;
        let is_ready = self.hands.get(&request).is_some_and(|held| held.staging.is_none());
        if is_ready { self.prompt(request).await } else { Ok(()) }
    }

    pub(super) async fn progressed(&mut self, request: RequestId, bytes: &[u8]) -> Result<(), Over> {
        let (frames, used) = whole_frames(bytes)?;
        if let Some(held) = self.hands.get_mut(&request) {
            held.progress = held.progress.saturating_add(used as u64);
        }
        for frame in frames {
            let FromGuest::Progress(progress) = FromGuest::from_frame(&frame)? else {
                return Err(ShareError::Other { file: "progress", got: frame.kind.name() }.into());
            };
            let held = self.hands.get_mut(&request).filter(|_| progress.request == request);
            let Some(held) = held else {
                return Err(ShareError::Other { file: "progress", got: "another request" }.into());
            };
            let begins = progress.stage == Stage::Started && !std::mem::replace(&mut held.applies, true);
            self.with(|session| {
                let session = if begins { session.apply(request)? } else { session };
                session.progress(progress)
            })
            .await?;
        }
        Ok(())
    }

    /// An outcome waits until the output that lies there has been passed on.
    pub(super) fn acknowledged(&mut self, request: RequestId, bytes: &[u8]) -> Result<(), Over> {
        let (frame, ack, signature) = read_ack(bytes)?;
        let signed = receipt_transcript(&self.nonce, &frame);
        if ack.request != request
            || !is_signed(self.hello().claims.public_key.as_bytes(), &signed, &signature)
        {
            warn!(%request, "a receipt is not signed with the guest's key, and was not taken");
            return Err(ShareError::Other { file: "ack", got: "another signature than the guest's" }.into());
        }
        if let Some(held) = self.hands.get_mut(&request) {
            held.ack = Some(ack);
        }
        Ok(())
    }

    /// Passes on output while there is credit, and the outcomes behind it.
    pub(super) async fn pass_output(&mut self) -> Result<(), Over> {
        let requests: Vec<RequestId> = self.hands.keys().copied().collect();
        for request in requests {
            let mut all = true;
            for stream in [Stream::Stdout, Stream::Stderr] {
                all &= self.pass_stream(request, stream).await?;
            }
            let is_attaching = self.peek().and_then(|session| session.state_of(request)) == Some("Attaching");
            let held = self.hands.get_mut(&request).filter(|_| all && !is_attaching);
            let told = held.and_then(|held| held.ack.take().inspect(|_| held.is_told = true));
            if let Some(ack) = told {
                self.with(|session| session.acknowledge(*ack)).await?;
            }
        }
        Ok(())
    }

    /// Tells the guest what is stored, and gives its disk back.
    pub(super) async fn tell_stored(&mut self) -> Result<(), Over> {
        for request in std::mem::take(&mut self.stored) {
            let Some(held) = self.hands.get_mut(&request) else { continue };
            let (stored, before) = (held.stored, std::mem::replace(&mut held.given_back, held.stored));
            let mut bytes = Vec::new();
            for stream in [Stream::Stdout, Stream::Stderr] {
                let spooled = Spooled { request, stream, end: stored.of(stream), bytes: 0 };
                bytes.extend(frame_bytes(FromHost::OutputCredit(spooled).to_frame())?);
                if stored.of(stream) > before.of(stream) {
                    self.give_back(request, stream, stored.of(stream)).await;
                }
            }
            self.say(Of::Stored, request, bytes).await?;
        }
        Ok(())
    }

    /// A file system that cannot is told by the weight of the receipts, if it comes to that.
    async fn give_back(&self, request: RequestId, stream: Stream, end: u64) {
        let nonce = self.nonce;
        let _ = self.on_disk(move |places| places.give_back(&nonce, request, stream, end)).await;
    }

    /// Passes on what there is of one stream; says whether nothing of it is left that could be.
    async fn pass_stream(&mut self, request: RequestId, stream: Stream) -> Result<bool, Over> {
        loop {
            let Some(held) = self.hands.get(&request) else { return Ok(true) };
            let (offset, end, nonce) = (held.read.of(stream), held.there.of(stream), self.nonce);
            let session = self.peek();
            let printed = session.is_some_and(|session| session.prints(request));
            if offset >= end || !printed {
                return Ok(true);
            }
            let room = session.map_or(0, |session| session.output_room(request));
            if room == 0 || self.is_clogged() {
                return Ok(false);
            }
            let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(CHUNK_LEN_MAX);
            let max = room.min(left);
            let bytes =
                self.on_disk(move |places| places.output(&nonce, request, stream, offset, max)).await?;
            if bytes.is_empty() {
                return Ok(true);
            }
            let Some(held) = self.hands.get_mut(&request) else { return Ok(true) };
            held.read = held.read.moved(stream, offset.saturating_add(bytes.len() as u64));
            self.with(|session| session.output(Output { request, stream, offset, bytes })).await?;
        }
    }

    async fn staged(&mut self, request: RequestId) -> Result<(), Over> {
        let Some(held) = self.hands.get_mut(&request) else { return Ok(()) };
        let Some(payload) = held.payload else { return Ok(()) };
        held.staging = None;
        self.on_disk(move |places| places.settle(request, Some(&payload.digest))).await?;
        self.prompt(request).await
    }

    async fn prompt(&mut self, request: RequestId) -> Result<(), Over> {
        if self.noted.contains(&request) {
            return Ok(());
        }
        let Some(held) = self.hands.get_mut(&request) else { return Ok(()) };
        let Some(offer) = held.offer.take() else { return Ok(()) };
        let name = prompt(offer.sequence.map_or(0, u64::from), request);
        held.prompt = Some(name.clone());
        let bytes = frame_bytes(FromHost::Offer(offer).to_frame())?;
        let nonce = self.nonce;
        self.on_disk(move |places| places.say(&nonce, &name, &bytes)).await?;
        self.was_prompted();
        Ok(())
    }
}

fn is_signed(key: &[u8; 32], bytes: &[u8], signature: &Signature) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    ed25519_dalek::VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(bytes, &signature).is_ok())
}

fn refuse(session: Guest, request: RequestId, why: &str) -> Result<Guest, SessionError> {
    let why = ShortText::try_from(why.to_owned());
    let outcome = why.map_or(Outcome::Cancelled, |why| Outcome::Refused(Refusal::Unsupported(why)));
    session.acknowledge(ended(request, outcome))
}

fn ended(request: RequestId, outcome: Outcome) -> Acknowledgement {
    let (evidence, output) = (Evidence::None, OutputTotals::default());
    Acknowledgement { request, outcome, evidence, output, ran: None }
}
