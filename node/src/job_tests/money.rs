//! Credits over whole jobs, restarts and cheats: none appears, none vanishes, nobody pays for more
//! than it signed.

use super::{
    raw::{Payer, listen, played},
    world::{IslandNode, PAYER, World, credits, follow, steps, until},
};
use crate::{consumer::Update, disk::MemoryDisk, ledger, services::Bank, wallet::Wallet};
use archipelag_protocol::{
    amount::Credits,
    id::{AccountId, HoldId},
    job::{Step, ToIsland},
    ledger::{Action, Hold, IslandStanding, TransactionReceipt},
    payment::{SignedVoucher, Verdict},
    sign::SecretKey,
};
use async_trait::async_trait;
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What the holds of [`PAYER`] still contain.
fn held(world: &World) -> Credits {
    let state = world.coordinator.state();
    state
        .holds
        .values()
        .fold(Credits::ZERO, |sum, hold| sum.saturating_add(hold.cap.saturating_sub(hold.redeemed)))
}

/// What [`PAYER`] has spent.
async fn spent(world: &World) -> Credits {
    let left = world.balance(PAYER).await.saturating_add(held(world));
    credits("100").saturating_sub(left)
}

#[tokio::test]
async fn after_all_kinds_of_jobs_the_sums_are_what_the_receipts_say() {
    let world = World::with(|policy| policy.payment.hold_default = credits("5")).await;
    let (honest, mut liar) = (world.island(2, "there"), world.liar(1));
    let consumer = world.consumer();
    let mut receipts = Vec::new();
    let mut take = |told: super::world::Told| receipts.extend(told.ended.receipt);

    // The Island in `here` lies each time, in turn about tokens, price and output.
    for round in 0..3 {
        let said = ("dear", steps(json!([{ "token": "a" }])));
        let (told, lie, signed) = played(&consumer, said, &mut liar, async |lie| {
            lie.accept().await;
            lie.token(0, "a").await;
            lie.done(1).await;
            let mut receipt = lie.receipt(credits("0.4"));
            match round {
                0 => receipt.metering.tokens += 1,
                1 => receipt.price = credits("0.5"),
                _ => receipt.output.0[0] ^= 1,
            }
            lie.finish(receipt, None).await;
        })
        .await;
        assert_eq!((told.ended.attempts, signed, lie.signed()), (2, None, Credits::ZERO));
        take(told);
    }
    world.unplug(liar.node);
    for end in ["done", "error", "trap"] {
        take(consumer.run("dear", steps(json!([{ "token": "a" }, { "end": end }]))).await);
    }
    for said in [json!([{ "token": "a" }, { "hang": true }]), json!([{ "hang": true }])] {
        let mut running = consumer.submit("dear", steps(said.clone())).await;
        let mut waits = said.as_array().unwrap().len();
        while waits > 0 {
            let _seen: Option<Update> = running.updates.recv().await;
            waits -= 1;
        }
        running.cancel.cancel();
        take(follow(running).await);
    }
    // A cheat of its own: it takes a job and does not pay.
    let payer = Payer::new(&world, (honest.node, honest.account), "1").await;
    let mut peer = payer.start("dear", &steps(json!([{ "token": "a" }]))).await;
    assert!(listen(&mut peer).await.finished.is_some());
    drop(peer);
    until("owed", || honest.island.metrics().unpaid.get() == 1).await;

    let charged = receipts.iter().fold(Credits::ZERO, |sum, r| sum.saturating_add(r.receipt.price));
    // Three after a lie, one done, one cancelled after a token.
    assert_eq!(charged, credits("2"));
    let count = receipts.len() as u64;
    until("countersigned", || honest.island.metrics().countersigned.get() == count).await;
    honest.island.stop().await;
    let standing = world.ledger.standing(honest.account).await.unwrap();
    assert_eq!((standing.jobs, standing.earned), (count, credits("0.7")));
    assert_eq!((world.balance(2).await, world.balance(1).await), (credits("0.7"), Credits::ZERO));
    assert_eq!(spent(&world).await, charged);
    assert_eq!(consumer.consumer.metrics().spent_micro.get(), charged.micro());
    // Every receipt is kept, signed by both, and no two are one.
    let mut places: Vec<_> =
        receipts.iter().map(|r| (r.receipt.hold, r.receipt.lane, r.receipt.sequence)).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len() as u64, count);
    world.coordinator.state().check_conservation().unwrap();
}

#[tokio::test]
async fn an_island_that_keeps_receipts_back_takes_what_was_signed_and_no_more() {
    let world = World::with(|policy| policy.payment.hold_default = credits("5")).await;
    let (mut liar, honest, consumer) = (world.liar(1), world.island(2, "there"), world.consumer());
    // It is paid in advance for two jobs and finishes neither.
    let mut vouchers = Vec::new();
    for _ in 0..2 {
        let said = ("dear", steps(json!([{ "token": "a" }])));
        let (told, lie, signed) = played(&consumer, said, &mut liar, async |lie| {
            lie.accept().await;
            lie.due(credits("0.4")).await;
            lie.voucher().await;
        })
        .await;
        assert_eq!(
            (told.ended.verdict, told.ended.attempts, signed),
            (Verdict::Completed, 2, None)
        );
        vouchers.extend(lie.vouchers);
    }
    let island = world.wallet(1);
    let redeem = |vouchers| Action::Redeem { vouchers };
    // Both together are worth the second one, and neither twice.
    island.send(redeem(vouchers[..1].to_vec())).await.unwrap();
    island.send(redeem(vouchers[1..].to_vec())).await.unwrap();
    assert!(island.send(redeem(vouchers[..1].to_vec())).await.is_err());
    assert!(island.send(redeem(vouchers[1..].to_vec())).await.is_err());
    until("countersigned", || honest.island.metrics().countersigned.get() == 2).await;
    honest.island.stop().await;
    assert_eq!(spent(&world).await, credits("1.6"));
    world.coordinator.state().check_conservation().unwrap();
}

/// A way to the ledger on which things get lost.
#[derive(Debug)]
struct Line {
    wallet: Wallet,
    /// What is sent does not arrive.
    cut: AtomicBool,
    /// What is sent arrives, and the answer does not.
    deaf: AtomicBool,
}

#[async_trait]
impl Bank for Line {
    fn key(&self) -> &SecretKey {
        self.wallet.key()
    }

    async fn balance(&self) -> Result<Credits, ledger::Error> {
        Bank::balance(&self.wallet).await
    }

    async fn hold(&self, hold: HoldId) -> Result<Option<Hold>, ledger::Error> {
        Bank::hold(&self.wallet, hold).await
    }

    async fn standing(&self, island: AccountId) -> Result<IslandStanding, ledger::Error> {
        Bank::standing(&self.wallet, island).await
    }

    async fn send(&self, action: Action) -> Result<TransactionReceipt, ledger::Error> {
        let lost = || ledger::Error::Unreachable("the line is cut".into());
        if self.cut.load(Ordering::SeqCst) {
            return Err(lost());
        }
        let sent = Bank::send(&self.wallet, action).await;
        if self.deaf.load(Ordering::SeqCst) { Err(lost()) } else { sent }
    }

    async fn entrust(&self, vouchers: Vec<SignedVoucher>) -> Result<u16, ledger::Error> {
        match self.cut.load(Ordering::SeqCst) {
            true => Err(ledger::Error::Unreachable("the line is cut".into())),
            false => Bank::entrust(&self.wallet, vouchers).await,
        }
    }
}

#[tokio::test]
async fn a_killed_island_keeps_what_it_earned_and_is_paid_once() {
    let world = World::new().await;
    let disk = MemoryDisk::new();
    let line = |cut: bool, deaf: bool| {
        let (cut, deaf) = (AtomicBool::new(cut), AtomicBool::new(deaf));
        Arc::new(Line { wallet: world.wallet(1), cut, deaf })
    };
    let consumer = world.consumer();
    // Three jobs, and then the Island ends without reaching the ledger.
    let island = world.island_with(line(true, false), &disk, 1, "here", |_| {});
    for _ in 0..3 {
        let told = consumer.run("dearer", steps(json!([{ "token": "a" }]))).await;
        assert_eq!(told.ended.price, credits("2"));
    }
    until("on disk", || island.island.unsettled() == 3).await;
    let account = island.account;
    let end = async |island: IslandNode| {
        world.unplug(island.node);
        island.tasks.stop().await;
        drop(island.island);
    };
    end(island).await;
    let standing = async || {
        let standing = world.ledger.standing(account).await.unwrap();
        (standing.jobs, standing.earned)
    };
    assert_eq!(standing().await, (0, Credits::ZERO));

    // It settles, and ends before it hears of it; at the first start in the middle of it.
    for _ in 0..3 {
        let island = world.island_with(line(false, true), &disk, 1, "here", |_| {});
        assert_eq!(island.island.unsettled(), 3);
        end(island).await;
    }
    assert_eq!(standing().await, (3, credits("2.1")));
    // The last one hears that all is settled.
    let island = world.island_with(line(false, false), &disk, 1, "here", |_| {});
    assert_eq!(consumer.run("dearer", steps(json!([]))).await.ended.attempts, 1);
    until("countersigned", || island.island.metrics().countersigned.get() == 1).await;
    island.island.stop().await;
    assert_eq!(island.island.unsettled(), 0);
    assert_eq!(standing().await, (4, credits("2.8")));
    assert_eq!(world.balance(1).await, credits("2.8"));
    assert_eq!(spent(&world).await, credits("8"));
    world.coordinator.state().check_conservation().unwrap();
}

#[tokio::test]
async fn a_killed_consumer_signs_nothing_that_contradicts_what_it_signed() {
    let world = World::new().await;
    let disk = MemoryDisk::new();
    let mut liar = world.liar(1);
    let mut seen: Vec<SignedVoucher> = Vec::new();
    for start in 0..4_u8 {
        let consumer = world.consumer_on(&disk, 1 + start * 10);
        // One job is paid, one is paid in advance and dies with the Consumer.
        let said = ("dear", steps(json!([{ "token": "a" }])));
        let (told, lie, signed) = played(&consumer, said.clone(), &mut liar, async |lie| {
            lie.accept().await;
            lie.token(0, "a").await;
            lie.done(1).await;
            lie.finish(lie.receipt(credits("0.4")), None).await;
        })
        .await;
        assert_eq!((told.ended.verdict, signed.is_some()), (Verdict::Completed, true));
        seen.extend(lie.vouchers);
        let running = consumer.submit(said.0, said.1).await;
        let mut lie = liar.take().await;
        lie.accept().await;
        lie.due(credits("0.4")).await;
        lie.voucher().await;
        seen.extend(lie.vouchers);
        drop(consumer.consumer);
        consumer.tasks.stop().await;
        drop(running);
    }
    // In a lane, a higher nonce is a higher amount; and no two differ under one nonce.
    let hold = seen[0].value.hold;
    assert!(seen.iter().all(|v| v.value.hold == hold), "one hold is enough");
    for a in &seen {
        for b in seen.iter().filter(|b| b.value.lane == a.value.lane) {
            let (a, b) = (&a.value, &b.value);
            assert_eq!(a.nonce.cmp(&b.nonce), a.cumulative.cmp(&b.cumulative), "{a:?} {b:?}");
        }
    }
    // Of each lane the best: all of it can be redeemed, and it is what the jobs cost.
    let mut best = BTreeMap::new();
    for voucher in seen {
        best.insert(voucher.value.lane, voucher);
    }
    let total = best.values().fold(Credits::ZERO, |sum, v| sum.saturating_add(v.value.cumulative));
    assert_eq!((best.len(), total), (4, credits("3.2")));
    let vouchers = best.into_values().collect();
    let redeem = Action::Redeem { vouchers };
    world.wallet(1).send(redeem).await.unwrap();
    assert_eq!(spent(&world).await, total);
    world.coordinator.state().check_conservation().unwrap();
}

#[tokio::test]
async fn a_cancel_that_crosses_the_receipt_is_charged_once() {
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "10").await;
    let mut peer = payer.start("dear", &steps(json!([{ "token": "a" }]))).await;
    let (receipt, reason) = listen(&mut peer).await.finished.expect("a receipt");
    assert_eq!(reason, None);
    peer.send(&ToIsland::Cancel).await;
    let voucher = payer.sign(payer.voucher(1, "0.4"));
    peer.send(&ToIsland::Voucher(voucher.clone())).await;
    peer.send(&payer.settled(&receipt.value, Some(voucher))).await;
    assert!(peer.heard().await.is_err());

    let mut peer = payer.start("dear", &steps(json!([{ "token": "a" }, { "hang": true }]))).await;
    peer.send(&ToIsland::Cancel).await;
    let (receipt, reason) = listen(&mut peer).await.finished.expect("a receipt");
    assert_eq!(reason.map(|r| r.step), Some(Step::Cancelled));
    assert!(receipt.value.price <= credits("0.4"));
    let price = receipt.value.price;
    let total = credits("0.4").saturating_add(price);
    let mut voucher = payer.voucher(2, "0.4");
    voucher.cumulative = total;
    let voucher = (price > Credits::ZERO).then(|| payer.sign(voucher));
    peer.send(&payer.settled(&receipt.value, voucher)).await;
    until("countersigned", || island.island.metrics().countersigned.get() == 2).await;
    island.island.stop().await;
    assert_eq!(spent(&world).await, total);
    assert_eq!(world.reported(), []);
    world.coordinator.state().check_conservation().unwrap();
}

#[tokio::test]
async fn wallets_with_one_key_do_not_take_each_others_turn_for_good() {
    let world = World::new().await;
    let before = world.balance(3).await;
    let to = world.wallet(3).account();
    let one = || async {
        let wallet = world.wallet(PAYER);
        let action = Action::Transfer { to, amount: credits("0.5") };
        for _ in 0..2 {
            wallet.send(action.clone()).await.unwrap();
        }
    };
    futures::future::join_all((0..20).map(|_| one())).await;
    assert_eq!(world.balance(3).await, before.saturating_add(credits("20")));
}
