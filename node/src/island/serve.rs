//! One job stream, from its first frame to the payer's signature.
//!
//! One task per stream. It reads, runs, meters and writes in one loop, so that a Consumer that
//! reads slowly slows its Cargo, and a cancel or a lost stream stops the work at once, whatever
//! else is waited for.

use super::{
    Core,
    admission::{self, Admitted, Denied},
    meter::{Meter, Reading},
    payments::Reservation,
    store::Change,
};
use crate::{
    job_stream::{Error, Reader, Writer},
    mesh::now,
};
use archipelag_protocol::{
    amount::Credits,
    event::Event,
    id::{ContentId, NodeId},
    job::{self, Failure, Refusal, Step, ToConsumer, ToIsland},
    payment::{IslandReceipt, Receipt, SettledReceipt, Verdict},
    pricing::Metering,
};
use archipelag_runtimes::runtime::{Job, Outcome};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long a Consumer may take for its offer and input.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the payer may take to sign the receipt.
const SETTLE_WAIT: Duration = Duration::from_secs(10);
/// How long telling a refusal may take.
const REFUSE_WAIT: Duration = Duration::from_secs(2);
/// How long a runtime may take to end cancelled work. Its promise is a second.
const CANCEL_WAIT: Duration = Duration::from_secs(2);
/// How long the first frame of a flush waits for others.
const LINGER: Duration = Duration::from_millis(1);
/// Queued bytes that don't wait for others.
const FLUSH_BYTES: usize = 16 << 10;
/// Events between the runtime and the stream.
const EVENT_QUEUE: usize = 16;

/// Serves the stream of one Consumer.
pub(super) async fn serve<S>(island: Arc<Core>, peer: NodeId, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (reading, writing) = stream.split();
    let (mut reader, mut writer) = (Reader::new(reading), Writer::new(writing));
    let admitted = tokio::select! {
        () = island.stop.cancelled() => return,
        admitted = timeout(HANDSHAKE, Box::pin(admission::admit(&island, &mut reader))) => admitted,
    };
    match admitted {
        Ok(Ok(admitted)) => {
            island.metrics.accepted.inc();
            Box::pin(Session::new(&island, admitted, reader, writer).run(peer)).await;
        }
        Ok(Err(Denied::Refused(refusal))) => refuse(&island, &mut writer, refusal).await,
        Ok(Err(Denied::Hostile(refusal))) => {
            island.metrics.hostile.inc();
            island.routes.misbehaved(peer, &refusal.message);
            refuse(&island, &mut writer, refusal).await;
        }
        Ok(Err(Denied::Stream(error))) => tracing::debug!(%error, "island.handshake"),
        Err(_elapsed) => tracing::debug!(peer = %peer.short(), "island.handshake: too slow"),
    }
}

async fn refuse<W: AsyncWrite + Unpin>(island: &Core, writer: &mut Writer<W>, refusal: Refusal) {
    island.metrics.refused.inc();
    tracing::debug!(kind = ?refusal.kind, reason = %refusal, "island.refuse");
    if writer.push(&ToConsumer::Refused(refusal)).is_ok() {
        // Who doesn't listen isn't told.
        let _told = timeout(REFUSE_WAIT, writer.close()).await;
    }
}

/// Why the work is ended before it ends itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Cancelled,
    Unpaid,
    Spent,
    /// The Consumer is gone, or this node stops: nobody waits for a result.
    Abandoned,
}

struct Session<'a, R, W> {
    island: &'a Arc<Core>,
    admitted: Admitted,
    reader: Reader<R>,
    writer: Writer<W>,
    meter: Meter,
    cancel: CancellationToken,
    cause: Option<Cause>,
    /// The Cargo is being made ready: nothing has been worked yet.
    preparing: bool,
    /// Output was not sent, because it is not paid for.
    withheld: bool,
    output: Sha256,
    sequence: u64,
    /// When the first frame of the next flush was queued, and the last frame of all.
    queued_since: Option<Instant>,
    last_frame: Instant,
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<'a, R, W> {
    fn new(
        island: &'a Arc<Core>,
        admitted: Admitted,
        reader: Reader<R>,
        writer: Writer<W>,
    ) -> Self {
        let now = Instant::now();
        let price = admitted.resolved.entry.manifest.value.price;
        let (most, allowance) = (admitted.offer.value.price_max, admitted.money.allowance);
        let meter = Meter::start(price, most, allowance, admitted.limits.sandbox.time_ms, now);
        Self {
            island,
            admitted,
            reader,
            writer,
            meter,
            cancel: CancellationToken::new(),
            cause: None,
            preparing: true,
            withheld: false,
            output: Sha256::new(),
            sequence: 0,
            queued_since: None,
            last_frame: now,
        }
    }

    async fn run(mut self, peer: NodeId) {
        // Whatever ends this future ends the work.
        let _cancelled = self.cancel.clone().drop_guard();
        let (job, cargo) = (self.admitted.offer.value.job, self.admitted.resolved.cargo);
        tracing::debug!(%job, cargo = %cargo.short(), "island.job");
        let mut outcome = match self.work().await {
            Ok(outcome) => outcome,
            Err(error) => {
                self.island.metrics.abandoned.inc();
                self.abandoned(&error, peer).await;
                return;
            }
        };
        if self.withheld {
            // What the Consumer did not get has not been completed for it, nor does it count.
            outcome.metering.tokens = outcome.metering.tokens.min(self.meter.tokens());
            if outcome.verdict == Verdict::Completed {
                outcome.verdict = Verdict::Cancelled;
            }
        }
        let (verdict, price, reason) = self.conclude(&outcome);
        self.island.metrics.ended(verdict);
        self.island.state.ran(cargo);
        let receipt = match self.receipt(verdict, price, outcome.metering) {
            Ok(receipt) => receipt,
            Err(error) => return tracing::error!(%job, error, "island.job: no receipt"),
        };
        tracing::debug!(%job, ?verdict, %price, reason = ?reason.as_ref().map(|r| r.step), "island.job");
        let Admitted { place, money, .. } = self.admitted;
        drop(place);
        let mut ending = Ending {
            island: self.island,
            reader: self.reader,
            writer: self.writer,
            money,
            receipt,
        };
        ending.run(reason, peer).await;
    }

    /// Runs the job and streams what it says, until the work has ended.
    ///
    /// # Errors
    /// When nobody waits for the result any more.
    async fn work(&mut self) -> Result<Outcome, Error> {
        let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
        let (ready, mut is_ready) = oneshot::channel();
        let work = execute(self.island.clone(), &self.admitted, sender, ready, self.cancel.clone());
        tokio::pin!(work);
        let stop = self.island.stop.clone();
        let (mut outcome, mut open) = (None, true);
        self.push(&ToConsumer::Accepted)?;
        while outcome.is_none() || open {
            let now = Instant::now();
            if self.preparing {
                // The time that this takes is not charged.
                self.meter.restart(now);
            }
            if self.cause.is_none() {
                self.read_meter(now)?;
            }
            // A price per job above what may be unpaid is paid before the work begins.
            let begin = !self.preparing || self.cause.is_some() || !self.meter.is_paused(now);
            let flowing = self.cause.is_some() || !self.meter.is_paused(now);
            let flowing = open && flowing && self.writer.has_room();
            let (flush, wake) = (self.must_flush(now), self.wake(now));
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Error::Closed),
                frame = self.reader.next(job::decode_to_island) => self.on_frame(frame?).await?,
                event = events.recv(), if flowing => match event {
                    Some(event) => self.on_event(&event)?,
                    None => open = false,
                },
                ended = &mut work, if outcome.is_none() && begin => outcome = Some(ended),
                started = &mut is_ready, if self.preparing => {
                    self.preparing = false;
                    if started.is_ok() {
                        self.meter.restart(Instant::now());
                    }
                }
                flushed = self.writer.drive(), if flush => {
                    flushed?;
                    self.queued_since = None;
                }
                () = sleep_until(wake) => self.on_time()?,
            }
        }
        outcome.ok_or(Error::Closed)
    }

    fn push(&mut self, frame: &ToConsumer) -> Result<(), Error> {
        self.writer.push(frame)?;
        self.last_frame = Instant::now();
        self.queued_since.get_or_insert(self.last_frame);
        Ok(())
    }

    fn must_flush(&self, now: Instant) -> bool {
        let lingered = self.queued_since.is_some_and(|since| now >= since + LINGER);
        self.writer.is_unflushed() && (lingered || self.writer.queued() >= FLUSH_BYTES)
    }

    /// A third of the silence after which the Consumer takes this Island for lost.
    fn alive_every(&self) -> Duration {
        Duration::from_millis(self.island.genesis.policy.job.silence_ms / 3)
    }

    /// When something is to be done even if nothing happens.
    fn wake(&self, now: Instant) -> Instant {
        let flush = self.queued_since.map(|since| since + LINGER).filter(|at| *at > now);
        let meter = if self.preparing { None } else { self.meter.next(now) };
        let every = self.alive_every();
        let alive = Some(self.last_frame + every).filter(|at| *at > now).unwrap_or(now + every);
        [flush, meter].into_iter().flatten().fold(alive, Instant::min)
    }

    fn on_time(&mut self) -> Result<(), Error> {
        // What waits to be read is a sign of life too.
        let quiet = self.last_frame.elapsed() >= self.alive_every();
        if quiet && !self.writer.is_unflushed() { self.push(&ToConsumer::Alive) } else { Ok(()) }
    }

    fn read_meter(&mut self, now: Instant) -> Result<(), Error> {
        match self.meter.read(now) {
            Reading::Go => {}
            Reading::Ask(price) => self.push(&ToConsumer::Due { price })?,
            Reading::Unpaid => self.end(Cause::Unpaid),
            Reading::Spent => self.end(Cause::Spent),
        }
        Ok(())
    }

    /// Ends the work; the first cause counts.
    fn end(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
        self.cancel.cancel();
    }

    fn on_event(&mut self, event: &Event) -> Result<(), Error> {
        if matches!(self.cause, Some(Cause::Unpaid | Cause::Spent)) {
            self.withheld = true;
            return Ok(());
        }
        if matches!(event, Event::Token { content } if !content.is_empty()) {
            self.meter.count_token();
        }
        let line = event.to_line();
        self.output.update(line.as_bytes());
        self.output.update(b"\n");
        let sequence = self.sequence;
        self.sequence += 1;
        self.push(&ToConsumer::Output { sequence, line })
    }

    async fn on_frame(&mut self, frame: ToIsland) -> Result<(), Error> {
        match frame {
            ToIsland::Cancel => self.end(Cause::Cancelled),
            ToIsland::Voucher(voucher) => {
                let due = self.meter.due();
                match self.admitted.money.advance(&voucher, due) {
                    Ok(()) => {
                        self.meter.paid();
                        let lane = (voucher.value.hold, voucher.value.lane);
                        self.island.store.write(Change::Lane(lane.0, lane.1)).await;
                    }
                    Err(reason) => {
                        tracing::debug!(job = %self.admitted.offer.value.job, reason, "island.voucher");
                        self.end(Cause::Unpaid);
                    }
                }
            }
            ToIsland::Offer(_) | ToIsland::Input(_) | ToIsland::Settled { .. } => {
                return Err(Error::Frame(out_of_turn()));
            }
        }
        Ok(())
    }

    /// Ends work that nobody waits for, and counts what was delivered as owed.
    async fn abandoned(&mut self, error: &Error, peer: NodeId) {
        let (job, most) = (self.admitted.offer.value.job, self.admitted.offer.value.price_max);
        tracing::debug!(%job, %error, "island.job: abandoned");
        if error.is_hostile() {
            self.island.metrics.hostile.inc();
            self.island.routes.misbehaved(peer, &error.to_string());
        }
        self.end(Cause::Abandoned);
        if self.island.stop.is_cancelled() || self.preparing {
            return;
        }
        // As for a cancelled job: leaving without a word is no cheaper.
        let price = match self.sequence {
            0 => self.meter.accrued_beside_job(Instant::now()),
            _ => self.meter.accrued(Instant::now()),
        };
        let price = price.min(most);
        owe(self.island, &self.admitted.money, price).await;
    }

    /// Verdict, price and reason. Only completed work is charged, and of cancelled work what was
    /// delivered: the price per token and second, and the one per job once there was any output.
    fn conclude(&self, outcome: &Outcome) -> (Verdict, Credits, Option<Failure>) {
        let offer = &self.admitted.offer.value;
        let reason = outcome.failure.clone();
        let price = self.admitted.resolved.entry.manifest.value.price;
        let charge = |price: Credits| price.min(offer.price_max);
        match (outcome.verdict, self.cause) {
            (Verdict::Completed, _) => {
                (Verdict::Completed, charge(price.of(outcome.metering)), None)
            }
            (Verdict::Cancelled, cause) => {
                let mut parts = price;
                if self.sequence == 0 {
                    parts.per_job = Credits::ZERO;
                }
                let reason = match cause {
                    Some(Cause::Unpaid) => {
                        Failure::new(Step::Payment, "the work so far was not paid for in time")
                    }
                    Some(Cause::Spent) => Failure::new(
                        Step::Limit,
                        format!("price_max: the work costs more than {}", offer.price_max),
                    ),
                    _ => reason.unwrap_or_else(|| Failure::new(Step::Cancelled, "by the Consumer")),
                };
                (Verdict::Cancelled, charge(parts.of(outcome.metering)), Some(reason))
            }
            (verdict, _) => (verdict, Credits::ZERO, reason),
        }
    }

    fn receipt(
        &mut self,
        verdict: Verdict,
        price: Credits,
        metering: Metering,
    ) -> Result<IslandReceipt, String> {
        let (now, payer) = (now(), self.admitted.offer.signer);
        let sequence = self.admitted.money.finish(price, now)?;
        let offer = &self.admitted.offer.value;
        let receipt = Receipt {
            job: offer.job,
            cargo: offer.cargo,
            payer,
            island: self.island.payments.me,
            hold: offer.hold,
            lane: offer.lane,
            sequence,
            verdict,
            metering,
            price,
            tier: self.island.capabilities.hardware.tier,
            input: offer.input,
            output: ContentId(self.output.clone().finalize().into()),
            finished: now,
        };
        self.island
            .bank
            .key()
            .seal(self.island.payments.network, receipt)
            .map_err(|e| e.to_string())
    }
}

fn out_of_turn() -> job::Error {
    archipelag_protocol::codec::Error::Malformed { what: "job frame", reason: "out of turn".into() }
        .into()
}

/// Makes the Cargo ready and runs it. Once `cancel` is cancelled it ends within [`CANCEL_WAIT`],
/// whatever the runtime does: dropping the work cancels it too.
fn execute(
    island: Arc<Core>,
    admitted: &Admitted,
    events: mpsc::Sender<Event>,
    ready: oneshot::Sender<()>,
    cancel: CancellationToken,
) -> impl Future<Output = Outcome> + 'static {
    let (runtime, resolved) = (admitted.runtime.clone(), admitted.resolved.clone());
    let offer = &admitted.offer.value;
    let job = Job {
        id: offer.job,
        cargo: offer.cargo,
        input: admitted.input.clone(),
        limits: admitted.limits.clone(),
        deterministic: is_deterministic(resolved.entry.manifest.value.runtime_type),
        seed: job::seed(offer.job),
        now: offer.started,
    };
    let stopped = cancel.clone();
    let work = async move {
        if !runtime.is_ready(job.cargo) {
            let prepared = tokio::select! {
                () = cancel.cancelled() => return cancelled(),
                prepared = prepare(&island, &*runtime, &resolved) => prepared,
            };
            if let Err(failure) = prepared {
                return Outcome::not_started(Verdict::Failed, failure);
            }
            island.state.ran(job.cargo);
        }
        if cancel.is_cancelled() {
            return cancelled();
        }
        // Nobody listens when the job is being cancelled.
        let _listening = ready.send(());
        runtime.run(job, events, cancel).await
    };
    async move {
        tokio::select! {
            biased;
            outcome = work => outcome,
            () = async {
                stopped.cancelled().await;
                tokio::time::sleep(CANCEL_WAIT).await;
            } => cancelled(),
        }
    }
}

/// Wasm runs are repeatable; the other runtimes can't be.
fn is_deterministic(runtime: archipelag_protocol::manifest::RuntimeType) -> bool {
    runtime == archipelag_protocol::manifest::RuntimeType::Wasm
}

fn cancelled() -> Outcome {
    let reason = Failure::new(Step::Cancelled, "before it was done");
    Outcome::not_started(Verdict::Cancelled, reason)
}

async fn prepare(
    island: &Core,
    runtime: &dyn archipelag_runtimes::runtime::Runtime,
    resolved: &crate::catalog::Resolved,
) -> Result<(), Failure> {
    let artifact = island.cargos.artifact(resolved).await;
    let artifact = artifact.map_err(|e| Failure::new(Step::Artifact, e.to_string()))?;
    runtime.prepare(resolved.cargo, &resolved.entry.manifest.value, artifact).await
}

/// Counts a job that was not settled as owed.
async fn owe(island: &Core, money: &Reservation, price: Credits) {
    if money.owe(price, now()) > Credits::ZERO {
        island.metrics.unpaid.inc();
        island.store.write(Change::Debt(money.payer)).await;
    }
}

/// The end of a stream: the receipt goes out and must come back signed.
struct Ending<'a, R, W> {
    island: &'a Core,
    reader: Reader<R>,
    writer: Writer<W>,
    money: Reservation,
    receipt: IslandReceipt,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Ending<'_, R, W> {
    async fn run(&mut self, reason: Option<Failure>, peer: NodeId) {
        let job = self.receipt.value.job;
        let settled = match timeout(SETTLE_WAIT, self.exchange(reason)).await {
            Ok(settled) => settled,
            Err(_elapsed) => Err(Error::Closed),
        };
        let price = self.receipt.value.price;
        match settled {
            Ok(Ok(settled)) => {
                self.island.metrics.countersigned.inc();
                self.island.metrics.earned_micro.inc_by(price.micro());
                self.island.store.write(Change::Receipt(settled)).await;
            }
            Ok(Err(reason)) => {
                tracing::debug!(%job, reason, "island.settled: not valid");
                self.island.routes.misbehaved(peer, &reason);
                owe(self.island, &self.money, price).await;
            }
            Err(error) => {
                tracing::debug!(%job, %error, "island.settled: did not come");
                owe(self.island, &self.money, price).await;
            }
        }
    }

    /// Sends the receipt and waits for the payer's signature. The inner error is the payer's fault.
    async fn exchange(
        &mut self,
        reason: Option<Failure>,
    ) -> Result<Result<Box<SettledReceipt>, String>, Error> {
        let receipt = self.receipt.clone();
        self.writer.push(&ToConsumer::Finished { receipt, reason })?;
        self.writer.drive().await?;
        loop {
            let (payer, voucher) = match self.reader.next(job::decode_to_island).await? {
                ToIsland::Settled { payer, voucher } => (payer, voucher),
                // They crossed the receipt.
                ToIsland::Cancel => continue,
                ToIsland::Voucher(voucher) => {
                    if let Err(reason) = self.money.advance(&voucher, None) {
                        return Ok(Err(reason));
                    }
                    continue;
                }
                ToIsland::Offer(_) | ToIsland::Input(_) => return Err(Error::Frame(out_of_turn())),
            };
            let (receipt, island) = (self.receipt.value.clone(), self.receipt.signature);
            let settled = SettledReceipt { receipt, island, payer };
            let taken = self.money.settle(&self.receipt.value, &settled, voucher.as_ref());
            return Ok(taken.map(|()| Box::new(settled)));
        }
    }
}
