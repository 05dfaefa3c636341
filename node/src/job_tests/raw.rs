//! Either end of a job stream, driven by hand: a test says which frames or bytes it sends, and sees
//! all that comes back.

use super::world::{ConsumerNode, PAYER, Pipe, SOON, Told, World, credits, key};
use crate::{
    job_stream::{Error, Reader},
    mesh::now,
    services::{JobStream, Routes},
    wallet::Wallet,
};
use archipelag_protocol::{
    amount::Credits,
    codec,
    id::{AccountId, ContentId, HoldId, JobId, NetworkId, NodeId, Signature},
    job::{self, Failure, Offer, Refusal, SignedOffer, ToConsumer, ToIsland},
    ledger::{Action, Payee, state::hold_of},
    payment::{IslandReceipt, Receipt, SignedVoucher, Verdict, Voucher},
    pricing::{HardwareTier, Metering},
    sign::SecretKey,
    time::Timestamp,
};
use futures::{AsyncReadExt, AsyncWriteExt, io::ReadHalf, io::WriteHalf};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, time::timeout};

/// A stream whose frames a test writes itself.
pub(super) struct Peer {
    reader: Reader<ReadHalf<JobStream>>,
    writer: WriteHalf<JobStream>,
}

impl Peer {
    pub(super) fn new(stream: JobStream) -> Self {
        let (reading, writer) = stream.split();
        Self { reader: Reader::new(reading), writer }
    }

    /// Writes bytes as they are. The other side may have hung up: that is its right.
    pub(super) async fn bytes(&mut self, bytes: &[u8]) {
        let writer = &mut self.writer;
        let written = async {
            if writer.write_all(bytes).await.is_ok() {
                let _gone = writer.flush().await;
            }
        };
        timeout(SOON, written).await.expect("the other side does not read");
    }

    pub(super) async fn send(&mut self, frame: &impl Serialize) {
        let frame = codec::encode_loose("job frame", frame).unwrap();
        let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(&frame);
        self.bytes(&bytes).await;
    }

    async fn next<T>(&mut self, decode: fn(&[u8]) -> Result<T, job::Error>) -> Result<T, Error> {
        timeout(SOON, self.reader.next(decode)).await.expect("the other side says nothing")
    }

    /// What an Island says next.
    pub(super) async fn heard(&mut self) -> Result<ToConsumer, Error> {
        loop {
            match self.next(job::decode_to_consumer).await? {
                ToConsumer::Alive => {}
                frame => return Ok(frame),
            }
        }
    }

    pub(super) async fn refusal(&mut self) -> Refusal {
        match self.heard().await {
            Ok(ToConsumer::Refused(refusal)) => refusal,
            Ok(other) => panic!("not refused: {other:?}"),
            Err(error) => panic!("not refused: {error}"),
        }
    }

    pub(super) async fn accepted(&mut self) {
        assert!(matches!(self.heard().await, Ok(ToConsumer::Accepted)));
    }
}

/// An Island that a test plays.
pub(super) struct Liar {
    key: SecretKey,
    network: NetworkId,
    pub(super) node: NodeId,
    incoming: mpsc::Receiver<(NodeId, Pipe)>,
}

impl World {
    /// An Island in `here`, so that it gets jobs first.
    pub(super) fn liar(&self, n: u8) -> Liar {
        let node = NodeId([n; 32]);
        let incoming = self.listen(node);
        self.advertise(n, "here");
        Liar { key: key(n), network: self.network, node, incoming }
    }
}

impl Liar {
    /// The next job that a Consumer offers, with its input.
    pub(super) async fn take(&mut self) -> Lie {
        let next = timeout(SOON, self.incoming.recv()).await.expect("no stream came");
        let mut peer = Peer::new(Box::new(next.expect("the network is gone").1));
        let Ok(ToIsland::Offer(offer)) = peer.next(job::decode_to_island).await else {
            panic!("no offer")
        };
        offer.verify(self.network).unwrap();
        let mut input = Vec::new();
        while (input.len() as u64) < offer.value.input_bytes {
            match peer.next(job::decode_to_island).await {
                Ok(ToIsland::Input(chunk)) => input.extend_from_slice(&chunk),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(ContentId::of(&input), offer.value.input);
        let (key, network) = (self.key.clone(), self.network);
        Lie { peer, offer, key, network, output: Sha256::new(), tokens: 0, vouchers: Vec::new() }
    }
}

/// One job at a [`Liar`].
pub(super) struct Lie {
    pub(super) peer: Peer,
    pub(super) offer: SignedOffer,
    key: SecretKey,
    network: NetworkId,
    output: Sha256,
    tokens: u64,
    /// All that came.
    pub(super) vouchers: Vec<SignedVoucher>,
}

impl Lie {
    pub(super) async fn accept(&mut self) {
        self.peer.send(&ToConsumer::Accepted).await;
    }

    pub(super) async fn line(&mut self, sequence: u64, line: &str) {
        self.output.update(line.as_bytes());
        self.output.update(b"\n");
        self.peer.send(&ToConsumer::Output { sequence, line: line.into() }).await;
    }

    pub(super) async fn token(&mut self, sequence: u64, text: &str) {
        self.tokens += 1;
        self.line(sequence, &format!(r#"{{"type":"token","content":"{text}"}}"#)).await;
    }

    pub(super) async fn done(&mut self, sequence: u64) {
        self.line(sequence, r#"{"type":"done"}"#).await;
    }

    /// Accepts and says what an honest Island says to `a`, `b`.
    pub(super) async fn honest_output(&mut self) {
        self.accept().await;
        self.token(0, "a").await;
        self.token(1, "b").await;
        self.done(2).await;
    }

    /// The receipt of an honest Island for what was said, at `price`.
    pub(super) fn receipt(&self, price: Credits) -> Receipt {
        let offer = &self.offer.value;
        Receipt {
            job: offer.job,
            cargo: offer.cargo,
            payer: self.offer.signer,
            island: self.key.account(),
            hold: offer.hold,
            lane: offer.lane,
            sequence: now().0 * 1000,
            verdict: Verdict::Completed,
            metering: Metering { tokens: self.tokens, duration_ms: 1 },
            price,
            tier: HardwareTier::CpuOnly,
            input: offer.input,
            output: ContentId(self.output.clone().finalize().into()),
            finished: now(),
        }
    }

    pub(super) async fn finish(&mut self, receipt: Receipt, reason: Option<Failure>) {
        let receipt = self.key.seal(self.network, receipt).unwrap();
        self.finish_as(receipt, reason).await;
    }

    pub(super) async fn finish_as(&mut self, receipt: IslandReceipt, reason: Option<Failure>) {
        self.peer.send(&ToConsumer::Finished { receipt, reason }).await;
    }

    pub(super) fn seal_as(&self, n: u8, receipt: Receipt) -> IslandReceipt {
        key(n).seal(self.network, receipt).unwrap()
    }

    pub(super) async fn due(&mut self, price: Credits) {
        self.peer.send(&ToConsumer::Due { price }).await;
    }

    /// The next voucher.
    pub(super) async fn voucher(&mut self) -> SignedVoucher {
        match self.peer.next(job::decode_to_island).await {
            Ok(ToIsland::Voucher(voucher)) => {
                voucher.verify(self.network).unwrap();
                self.vouchers.push(voucher.clone());
                voucher
            }
            other => panic!("no voucher: {other:?}"),
        }
    }

    /// Reads until the Consumer hangs up. Gives its signature over a receipt, if there is one.
    pub(super) async fn rest(&mut self) -> Option<Signature> {
        let mut signed = None;
        while let Ok(frame) = self.peer.next(job::decode_to_island).await {
            match frame {
                ToIsland::Voucher(voucher) => self.vouchers.push(voucher),
                ToIsland::Settled { payer, voucher } => {
                    assert!(signed.replace(payer).is_none(), "signed twice");
                    self.vouchers.extend(voucher);
                }
                ToIsland::Offer(_) | ToIsland::Input(_) | ToIsland::Cancel => {}
            }
        }
        signed
    }

    /// The most that the Island may take by what came.
    pub(super) fn signed(&self) -> Credits {
        self.vouchers.iter().map(|v| v.value.cumulative).max().unwrap_or(Credits::ZERO)
    }
}

/// Runs a job while `liar` plays `lie` with its first attempt. Gives what the Consumer was told and
/// the stream after its end.
pub(super) async fn played(
    consumer: &ConsumerNode,
    (slug, input): (&str, serde_json::Value),
    liar: &mut Liar,
    lie: impl AsyncFnOnce(&mut Lie),
) -> (Told, Lie, Option<Signature>) {
    let playing = async {
        let mut stream = liar.take().await;
        lie(&mut stream).await;
        let signed = stream.rest().await;
        (stream, signed)
    };
    let (told, (stream, signed)) = tokio::join!(consumer.run(slug, input), playing);
    (told, stream, signed)
}

/// A Consumer that a test plays, with a hold of its own.
pub(super) struct Payer<'a> {
    world: &'a World,
    pub(super) wallet: Wallet,
    island: (NodeId, AccountId),
    pub(super) hold: HoldId,
    pub(super) expires: Timestamp,
    next_job: std::cell::Cell<u8>,
}

/// A node that only [`Payer`] uses.
pub(super) const PAYER_NODE: u8 = 110;

impl<'a> Payer<'a> {
    /// Opens a hold of `cap` credits for `island`.
    pub(super) async fn new(world: &'a World, island: (NodeId, AccountId), cap: &str) -> Self {
        let wallet = world.wallet(PAYER);
        let (hold, expires) = open_hold(world, &wallet, island.1, cap).await;
        let next_job = 200.into();
        Self { world, wallet, island, hold, expires, next_job }
    }

    pub(super) async fn dial(&self) -> Peer {
        let view = self.world.view(PAYER_NODE);
        Peer::new(view.open_job(self.island.0).await.unwrap())
    }

    /// What an honest Consumer offers.
    pub(super) fn offer(&self, slug: &str, input: &[u8]) -> Offer {
        let n = self.next_job.get();
        self.next_job.set(n.wrapping_add(1));
        let (issued, cargo) = (now(), self.world.resolved(slug));
        let price = cargo.entry.manifest.value.price;
        Offer {
            job: JobId([n; 16]),
            attempt: 0,
            cargo: cargo.cargo,
            island: self.island.1,
            hold: self.hold,
            lane: 0,
            input: ContentId::of(input),
            input_bytes: input.len() as u64,
            price_max: price.per_job.saturating_add(price.per_second.saturating_mul(2)),
            started: issued,
            issued,
            expires: issued.after_ms(10_000),
        }
    }

    pub(super) fn seal(&self, offer: Offer) -> SignedOffer {
        self.wallet.key().seal(self.world.network, offer).unwrap()
    }

    /// Sends an offer and its input.
    pub(super) async fn send(&self, offer: SignedOffer, input: &[u8]) -> Peer {
        let mut peer = self.dial().await;
        peer.send(&ToIsland::Offer(offer)).await;
        if !input.is_empty() {
            peer.send(&ToIsland::Input(input.to_vec().into())).await;
        }
        peer
    }

    /// Offers a job and sees it accepted.
    pub(super) async fn start(&self, slug: &str, input: &serde_json::Value) -> Peer {
        let input = input.to_string();
        let offer = self.seal(self.offer(slug, input.as_bytes()));
        let mut peer = self.send(offer, input.as_bytes()).await;
        peer.accepted().await;
        peer
    }

    pub(super) fn voucher(&self, nonce: u64, cumulative: &str) -> Voucher {
        Voucher {
            hold: self.hold,
            payee: self.island.1,
            lane: 0,
            nonce,
            cumulative: credits(cumulative),
            metering_digest: ContentId::of(b"reading"),
            expires: self.expires.after_ms(3_600_000),
        }
    }

    pub(super) fn sign(&self, voucher: Voucher) -> SignedVoucher {
        self.wallet.key().seal(self.world.network, voucher).unwrap()
    }

    pub(super) fn settled(&self, receipt: &Receipt, voucher: Option<SignedVoucher>) -> ToIsland {
        let payer = self.wallet.key().sign(self.world.network, receipt).unwrap();
        ToIsland::Settled { payer, voucher }
    }
}

/// Opens a hold. Gives when it ends, too.
pub(super) async fn open_hold(
    world: &World,
    wallet: &Wallet,
    payee: AccountId,
    cap: &str,
) -> (HoldId, Timestamp) {
    let expires = now().after_ms(3_600_000);
    let payees = vec![Payee { account: payee, cap: credits(cap) }];
    let dispute_ms = world.genesis.policy.payment.dispute_window_ms;
    let action = Action::OpenHold { payees, expires, dispute_ms };
    (hold_of(wallet.send(action).await.unwrap().transaction, 0), expires)
}

/// What an Island said of a job until it ended, hung up or waited for a voucher.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) lines: Vec<String>,
    pub(super) due: Option<Credits>,
    pub(super) finished: Option<(IslandReceipt, Option<Failure>)>,
}

/// Listens until an Island has only said that it lives, three times on end: it waits. Gives the
/// lines that came before.
pub(super) async fn waits(peer: &mut Peer) -> Vec<String> {
    let (mut lines, mut quiet) = (Vec::new(), 0);
    while quiet < 3 {
        match peer.next(job::decode_to_consumer).await {
            Ok(ToConsumer::Alive) => quiet += 1,
            Ok(ToConsumer::Output { line, .. }) => {
                lines.push(line);
                quiet = 0;
            }
            other => panic!("it goes on: {other:?}"),
        }
    }
    lines
}

/// Listens to a job that was accepted, up to the next [`Heard::due`] or the end.
pub(super) async fn listen(peer: &mut Peer) -> Heard {
    let mut heard = Heard::default();
    loop {
        match peer.heard().await {
            Ok(ToConsumer::Output { line, .. }) => heard.lines.push(line),
            Ok(ToConsumer::Due { price }) => {
                heard.due = Some(price);
                return heard;
            }
            Ok(ToConsumer::Finished { receipt, reason }) => {
                heard.finished = Some((receipt, reason));
                return heard;
            }
            Ok(other) => panic!("{other:?}"),
            Err(_hung_up) => return heard,
        }
    }
}
