//! One attempt at a job: one Island, one stream.
//!
//! The Island is not trusted: whatever it sends is parsed, numbered, bounded and compared with what
//! this Consumer has seen before it is passed on or paid for.

use super::{
    Core, Ended, Update,
    check::{self, Expected},
    delivery::{Delivered, Line, Output, join_notice},
    holds::{self, Reservation},
    plan::{self, Prepared},
    store::Change,
};
use crate::{
    job_stream::{self, Reader, Writer},
    mesh::now,
    services::Bank,
};
use archipelag_protocol::{
    advert::SignedAdvert,
    amount::Credits,
    codec,
    event::Event,
    id::{AccountId, ContentId, JobId},
    job::{self, Failure, Offer, RefusalKind, Step, ToConsumer, ToIsland},
    limits::MAX_CHUNK_BYTES,
    payment::{IslandReceipt, SettledReceipt, Verdict},
    pricing::Metering,
    time::Timestamp,
};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long an Island may take to accept or refuse.
const ACCEPT_WAIT: Duration = Duration::from_secs(12);
/// How long an Island may take to make a Cargo ready, beyond the Cargo's own time.
const PREPARE_MS: u64 = 120_000;
/// How long after a job its hold must still live, so that the Island can redeem.
const REDEEM_MS: u64 = 180_000;
/// How long an Island may take to say what a cancelled job cost.
const CANCEL_WAIT: Duration = Duration::from_secs(2);
/// How long the last frame may take to go out.
const SETTLE_WAIT: Duration = Duration::from_secs(5);

/// What stays the same over all attempts at a job.
pub(super) struct Job {
    pub(super) core: Arc<Core>,
    pub(super) bank: Arc<dyn Bank>,
    pub(super) id: JobId,
    pub(super) prepared: Prepared,
    pub(super) started: Timestamp,
    pub(super) updates: mpsc::Sender<Update>,
    pub(super) cancel: CancellationToken,
    pub(super) delivered: Delivered,
    /// Whether an Island has taken it, in any attempt.
    pub(super) accepted: bool,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum End {
    /// The job has ended, and its Consumer knows.
    Over,
    /// The job has ended without a receipt.
    Failed(Verdict, Failure),
    /// Another Island may do better. `again` is set when this one may, too, once.
    Next { reason: String, again: bool },
    /// The Island has no room now.
    Full(String),
}

impl End {
    fn next(reason: impl Into<String>) -> Self {
        Self::Next { reason: reason.into(), again: false }
    }
}

/// Why a stream is given up.
enum Stop {
    /// The Island is lost or gave up.
    Lost(String),
    /// It lied.
    Hostile(String),
    Refused(job::Refusal),
    /// The Consumer wants no more, and the Island did not say in time what it cost.
    Cancelled,
}

impl From<job_stream::Error> for Stop {
    fn from(error: job_stream::Error) -> Self {
        if error.is_hostile() {
            Self::Hostile(error.to_string())
        } else {
            Self::Lost(error.to_string())
        }
    }
}

impl From<codec::Error> for Stop {
    fn from(error: codec::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

/// Offers the job to one Island and follows it to its end.
pub(super) async fn attempt(job: &mut Job, advert: &SignedAdvert, attempt: u32) -> End {
    let core = job.core.clone();
    let (node, island) = (advert.value.node, advert.value.account);
    tracing::debug!(job = %job.id, island = %node.short(), attempt, "consumer.attempt");
    let reserved = tokio::select! {
        () = job.cancel.cancelled() => return cancelled(),
        reserved = reserve(job, advert) => reserved,
    };
    let money = match reserved {
        Ok(money) => money,
        Err(holds::Error::Credits { required, available }) => {
            // More may be reserved for another Island.
            return End::next(format!("{required} credits needed, {available} available"));
        }
        Err(error) => return End::next(error.to_string()),
    };
    let opened = tokio::select! {
        () = job.cancel.cancelled() => return cancelled(),
        opened = core.routes.open_job(node) => opened,
    };
    let (reading, writing) = match opened {
        Ok(stream) => stream.split(),
        Err(error) => return End::next(error.to_string()),
    };
    let (issued, prepared) = (now(), &job.prepared);
    let offer = Offer {
        job: job.id,
        attempt,
        cargo: prepared.resolved.cargo,
        island,
        hold: money.hold(),
        lane: money.lane(),
        input: prepared.input_hash,
        input_bytes: prepared.input.len() as u64,
        price_max: prepared.price_max,
        started: job.started.min(issued),
        issued,
        expires: issued.after_ms(core.genesis.policy.job.offer_life_ms),
    };
    let mut stream =
        Stream::new(job, advert, offer, money, Reader::new(reading), Writer::new(writing));
    let stopped = match stream.run().await {
        Ok(end) => return end,
        Err(stopped) => stopped,
    };
    match stopped {
        Stop::Lost(reason) => End::next(reason),
        Stop::Cancelled => cancelled(),
        Stop::Hostile(reason) => {
            tracing::debug!(job = %job.id, island = %node.short(), reason, "consumer.hostile");
            core.metrics.hostile.inc();
            core.routes.misbehaved(node, &reason);
            End::next(reason)
        }
        Stop::Refused(refusal) if refusal.kind == RefusalKind::Full => {
            End::Full(format!("it refused: {refusal}"))
        }
        Stop::Refused(refusal) => {
            let again = refusal.kind == RefusalKind::Payment;
            End::Next { reason: format!("it refused: {refusal}"), again }
        }
    }
}

fn cancelled() -> End {
    End::Failed(Verdict::Cancelled, Failure::new(Step::Cancelled, "by the Consumer"))
}

/// Reserves the job's price. What waits for the ledger goes on when this is given up, so that a
/// hold that is being opened is not forgotten.
async fn reserve(job: &Job, advert: &SignedAdvert) -> Result<Reservation, holds::Error> {
    let (price_max, time_ms) = (job.prepared.price_max, job.prepared.time_ms);
    let until = now().after_ms(time_ms.saturating_add(REDEEM_MS));
    let (holds, bank, island) = (job.core.holds.clone(), job.bank.clone(), advert.value.account);
    if let Some(reservation) = holds.reserve_now(bank.key().account(), island, price_max, until)? {
        return Ok(reservation);
    }
    let (sender, reserved) = oneshot::channel();
    let spares = spares(job);
    job.core.tasks.spawn(async move {
        // When nobody waits any more, dropping the reservation frees it.
        let _gone = sender.send(holds.reserve(&bank, island, price_max, until, &spares).await);
    });
    reserved.await.map_err(|_| holds::Error::Ledger("the node is stopping".into()))?
}

/// The accounts of those who may take over from the Island that was chosen, the best first.
fn spares(job: &Job) -> Vec<AccountId> {
    let chosen = plan::choose(&job.core, &job.prepared, &BTreeSet::new(), |_| true);
    let mut seen = BTreeSet::new();
    // Where there is no room nothing is reserved.
    let free = |advert: &Arc<SignedAdvert>| advert.value.active_jobs < advert.value.max_jobs;
    let chosen = chosen.unwrap_or_default().into_iter().filter(free);
    let accounts = chosen.map(|advert| advert.value.account);
    accounts.filter(|account| seen.insert(*account)).collect()
}

/// One stream and everything that is known of it.
struct Stream<'a, R, W> {
    job: &'a mut Job,
    advert: &'a SignedAdvert,
    offer: Offer,
    money: Reservation,
    reader: Reader<R>,
    writer: Writer<W>,
    output: Output,
    began: Instant,
    accepted: bool,
    /// Nothing more can be sent; what the Island said before may still be read.
    deaf: bool,
    /// Set when the Consumer wants no more: when to stop waiting for the Island.
    give_up: Option<Instant>,
    /// When the Island counts as lost, if nothing comes.
    silent_at: Instant,
    /// When the job must be over.
    over_at: Instant,
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Stream<'a, R, W> {
    fn new(
        job: &'a mut Job,
        advert: &'a SignedAdvert,
        offer: Offer,
        money: Reservation,
        reader: Reader<R>,
        writer: Writer<W>,
    ) -> Self {
        let began = Instant::now();
        let most = Duration::from_millis(job.prepared.time_ms.saturating_add(PREPARE_MS));
        Self {
            job,
            advert,
            offer,
            money,
            reader,
            writer,
            output: Output::new(),
            began,
            accepted: false,
            deaf: false,
            give_up: None,
            silent_at: began + ACCEPT_WAIT,
            over_at: began + most,
        }
    }

    async fn run(&mut self) -> Result<End, Stop> {
        let offer = self.job.bank.key().seal(self.job.core.network, self.offer.clone())?;
        self.writer.push(&ToIsland::Offer(offer))?;
        for chunk in self.job.prepared.input.chunks(MAX_CHUNK_BYTES) {
            self.writer.push(&ToIsland::Input(chunk.to_vec().into()))?;
        }
        let (cancel, updates) = (self.job.cancel.clone(), self.job.updates.clone());
        let stop = self.job.core.stop.clone();
        loop {
            let silent_at = self.give_up.unwrap_or_else(|| self.silent_at.min(self.over_at));
            let send = self.writer.is_unflushed() && !self.deaf;
            let wanted = self.give_up.is_none();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Stop::Lost("this node is stopping".into())),
                () = cancel.cancelled(), if wanted => self.cancel()?,
                sent = self.writer.drive(), if send => {
                    // It may have refused before it read everything: what it said is still there.
                    self.deaf = sent.is_err();
                }
                frame = self.reader.next(job::decode_to_consumer) => {
                    if let Some(end) = self.on_frame(frame?).await? {
                        return Ok(end);
                    }
                }
                () = updates.closed(), if wanted => self.cancel()?,
                () = sleep_until(silent_at) => return Err(self.silent()),
            }
        }
    }

    fn silent(&self) -> Stop {
        if self.give_up.is_some() {
            return Stop::Cancelled;
        }
        let ms = self.job.core.genesis.policy.job.silence_ms;
        Stop::Lost(match self.accepted {
            false => "it neither accepted nor refused in time".into(),
            true if Instant::now() >= self.over_at => "the job took longer than it may".into(),
            true => format!("it was silent for {ms} ms"),
        })
    }

    fn cancel(&mut self) -> Result<(), Stop> {
        self.give_up = Some(Instant::now() + CANCEL_WAIT);
        if !self.accepted {
            return Err(Stop::Cancelled);
        }
        self.writer.push(&ToIsland::Cancel)?;
        Ok(())
    }

    async fn on_frame(&mut self, frame: ToConsumer) -> Result<Option<End>, Stop> {
        let hostile = |reason: &str| Err(Stop::Hostile(reason.to_owned()));
        match frame {
            ToConsumer::Accepted if self.accepted => return hostile("it accepted twice"),
            ToConsumer::Refused(refusal) if !self.accepted => {
                if refusal.kind == RefusalKind::Payment {
                    self.money.doubt();
                }
                return Err(Stop::Refused(refusal));
            }
            ToConsumer::Refused(_) => return hostile("it refused after it had accepted"),
            ToConsumer::Accepted => {
                self.accepted = true;
                self.job.accepted = true;
                let (island, node) = (self.advert.value.account, self.advert.value.node);
                let attempt = self.offer.attempt;
                self.tell(Update::Started { island, node, attempt }).await;
            }
            _ if !self.accepted => return hostile("it began before it had accepted"),
            ToConsumer::Output { sequence, line } => self.on_output(sequence, &line).await?,
            ToConsumer::Alive => {}
            ToConsumer::Due { price } => self.on_due(price)?,
            ToConsumer::Finished { receipt, reason } => {
                return self.on_finished(receipt, reason).await.map(Some);
            }
        }
        // Counted from when this node is ready to read on: a Consumer that takes its time with
        // what came does not make the Island silent.
        let silence = Duration::from_millis(self.job.core.genesis.policy.job.silence_ms);
        self.silent_at = Instant::now() + silence;
        Ok(None)
    }

    /// Passes an update on, as fast as the Consumer takes it. A Consumer that wants no more gets
    /// what there is room for.
    async fn tell(&self, update: Update) {
        let cancel = self.job.cancel.clone();
        let stop = self.job.core.stop.clone();
        // What is lost here was not wanted.
        match self.job.updates.try_send(update) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(update)) if self.give_up.is_none() => {
                tokio::select! {
                    _told = self.job.updates.send(update) => {}
                    () = cancel.cancelled() => {}
                    () = stop.cancelled() => {}
                }
            }
            Err(_) => {}
        }
    }

    async fn on_output(&mut self, sequence: u64, line: &str) -> Result<(), Stop> {
        let most = self.job.core.genesis.policy.job.output_bytes_max;
        let taken = self.output.take(&mut self.job.delivered, (sequence, line), most);
        match taken.map_err(Stop::Hostile)? {
            Line::Nothing => {}
            Line::Deliver(event) => self.tell(Update::Event(event)).await,
            Line::Join(event) => {
                self.tell(Update::Event(join_notice())).await;
                self.tell(Update::Event(event)).await;
            }
        }
        Ok(())
    }

    fn expected(&self) -> Expected<'_> {
        let prepared = &self.job.prepared;
        let manifest = &prepared.resolved.entry.manifest.value;
        Expected {
            offer: &self.offer,
            payer: self.job.bank.key().account(),
            tier: self.advert.value.hardware.tier,
            price: manifest.price,
            runtime: manifest.runtime_type,
            time_ms: prepared.time_ms,
            elapsed: self.began.elapsed(),
            cancelled: self.give_up.is_some(),
        }
    }

    fn on_due(&mut self, price: Credits) -> Result<(), Stop> {
        let most = self.expected().price_by_now(&self.output);
        if price > most {
            return Err(Stop::Hostile(format!(
                "it asked for {price} credits when {most} were due"
            )));
        }
        let reading = codec::encode("meter reading", &(self.offer.job, price))?;
        let voucher = self.money.advance(&*self.job.bank, price, ContentId::of(&reading))?;
        self.writer.push(&ToIsland::Voucher(voucher))?;
        Ok(())
    }

    /// Checks the receipt, tells the Consumer, pays.
    async fn on_finished(
        &mut self,
        signed: IslandReceipt,
        reason: Option<Failure>,
    ) -> Result<End, Stop> {
        let receipt = &signed.value;
        if signed.signer != self.advert.value.account {
            return Err(Stop::Hostile("the receipt is signed by another account".into()));
        }
        self.expected()
            .check(receipt, reason.as_ref(), &self.output, now())
            .map_err(Stop::Hostile)?;
        signed.verify(self.job.core.network).map_err(|e| Stop::Hostile(e.to_string()))?;
        if let Some(failure) = &reason
            && let Some(retry) = self.retry(receipt.verdict, failure)
        {
            return Ok(retry);
        }
        let payer = self.job.bank.key().sign(self.job.core.network, receipt)?;
        let settled = SettledReceipt { receipt: receipt.clone(), island: signed.signature, payer };
        let ended = Ended {
            verdict: receipt.verdict,
            failure: reason,
            price: receipt.price,
            metering: receipt.metering,
            receipt: Some(settled.clone()),
            attempts: self.offer.attempt + 1,
        };
        let late = self.end(ended);
        self.settle(settled).await?;
        for update in late {
            self.tell(update).await;
        }
        Ok(End::Over)
    }

    /// Whether another Island is to try, because this one failed or gave up by itself.
    fn retry(&self, verdict: Verdict, failure: &Failure) -> Option<End> {
        if self.give_up.is_some() {
            return None;
        }
        match verdict {
            Verdict::Failed if check::is_islands_fault(failure) => {
                Some(End::next(failure.to_string()))
            }
            // Nobody here asked for that, unless the job has cost all that it may.
            Verdict::Cancelled
                if failure.step != Step::Limit
                    || !self.job.prepared.resolved.entry.manifest.value.price.grows()
                    || self.expected().price_by_now(&self.output) < self.offer.price_max =>
            {
                Some(End::next(failure.to_string()))
            }
            _ => None,
        }
    }

    /// Tells the Consumer that the job is over, before the paperwork. Gives back what it had no
    /// room for yet.
    fn end(&mut self, mut ended: Ended) -> Vec<Update> {
        let mut updates = Vec::with_capacity(3);
        if let Some((event, joined)) = self.output.take_last()
            && matches!(ended.verdict, Verdict::Completed | Verdict::CargoFailed)
        {
            if let Event::Error { message } = &event {
                // The Island knows only that the Cargo said so: what it said is the Consumer's.
                ended.failure = Some(Failure::new(Step::Cargo, message.clone()));
            }
            if joined {
                updates.push(Update::Event(join_notice()));
            }
            updates.push(Update::Event(event));
        }
        updates.push(Update::Ended(ended));
        let mut updates = updates.into_iter();
        while let Some(update) = updates.next() {
            if let Err(mpsc::error::TrySendError::Full(update)) = self.job.updates.try_send(update)
            {
                return std::iter::once(update).chain(updates).collect();
            }
        }
        Vec::new()
    }

    async fn settle(&mut self, settled: SettledReceipt) -> Result<(), Stop> {
        let (price, payer) = (settled.receipt.price, settled.payer);
        let digest = ContentId::of(&codec::encode("receipt", &settled.receipt)?);
        let voucher = self.money.settle(&*self.job.bank, price, digest)?;
        self.writer.push(&ToIsland::Settled { payer, voucher })?;
        match timeout(SETTLE_WAIT, self.writer.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(job = %self.job.id, %error, "consumer.settle"),
            Err(_elapsed) => tracing::debug!(job = %self.job.id, "consumer.settle: too slow"),
        }
        let core = &self.job.core;
        core.metrics.spent_micro.inc_by(price.micro());
        let changed = self.money.change(self.job.bank.key().account());
        core.holds.store.write(changed).await;
        core.holds.store.write(Change::Receipt(Box::new(settled))).await;
        Ok(())
    }
}

/// The end of a job that no Island finished: what was delivered of it stays delivered.
pub(super) fn without_receipt(verdict: Verdict, failure: Failure, attempts: u32) -> Ended {
    Ended {
        verdict,
        failure: Some(failure),
        receipt: None,
        price: Credits::ZERO,
        metering: Metering::default(),
        attempts,
    }
}

/// What an attempt tells its Consumer must not be lost at the end of the job.
pub(super) async fn tell_end(job: &Job, ended: Ended) {
    tokio::select! {
        // A Consumer that is gone is told nothing.
        _told = job.updates.send(Update::Ended(ended)) => {}
        () = job.core.stop.cancelled() => {}
    }
}
