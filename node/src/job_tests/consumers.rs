//! Lying Consumers. The Island says what is wrong, works unpaid for one chunk at most, and goes on
//! to serve who is honest.

use super::{
    raw::{PAYER_NODE, Payer, Peer, listen, open_hold, waits},
    world::{IslandNode, World, credits, key, steps, until},
};
use crate::{disk::MemoryDisk, mesh::now};
use archipelag_protocol::{
    amount::Credits,
    id::{CargoId, ContentId, HoldId, NodeId},
    job::{Offer, RefusalKind, SignedOffer, Step, ToConsumer, ToIsland},
    ledger::Action,
    payment::{SignedVoucher, Verdict, Voucher},
    time::Timestamp,
    trust::TrustLevel,
};
use futures::future::BoxFuture;
use serde_json::json;
use std::{sync::atomic::Ordering, time::Duration};

const SAY: &[u8] = br#"{"steps":[{"token":"a"}]}"#;

fn ran(island: &IslandNode) -> usize {
    island.runtime.seeds.lock().unwrap().len()
}

/// Runs a job to its end and pays for it. `cumulative` is what the lane has been paid with it.
async fn honest(payer: &Payer<'_>, nonce: u64, cumulative: &str) {
    let mut peer = payer.start("say", &steps(json!([{ "token": "a" }]))).await;
    let heard = listen(&mut peer).await;
    let (receipt, reason) = heard.finished.expect("a receipt");
    assert_eq!((receipt.value.verdict, reason), (Verdict::Completed, None));
    assert_eq!((heard.lines.len(), receipt.value.price), (2, credits("0.01")));
    let voucher = payer.sign(payer.voucher(nonce, cumulative));
    peer.send(&payer.settled(&receipt.value, Some(voucher))).await;
    assert!(peer.heard().await.is_err());
}

#[tokio::test]
async fn an_offer_that_is_wrong_is_refused_for_what_is_wrong() {
    let world = World::new().await;
    let (island, other) = (world.island(1, "here"), world.island(2, "there"));
    let payer = Payer::new(&world, (island.node, island.account), "10").await;
    let (elsewhere, _) = open_hold(&world, &payer.wallet, other.account, "1").await;
    world.trust("dearer", TrustLevel::Verified);
    use RefusalKind::{Invalid, Payment, Stale, Unsuitable};
    type Change = Box<dyn Fn(&mut Offer)>;
    let change = |change: fn(&mut Offer)| -> Change { Box::new(change) };
    let stranger = other.account;
    let above_level = world.resolved("dearer").cargo;
    let cases: [(&str, RefusalKind, bool, Change); 18] = [
        ("cargo", Unsuitable, false, change(|o| o.cargo = CargoId([7; 32]))),
        ("trust level", Unsuitable, false, Box::new(move |o| o.cargo = above_level)),
        ("island", Invalid, false, Box::new(move |o| o.island = stranger)),
        ("input", Invalid, false, change(|o| o.input = ContentId::of(b"else"))),
        ("input_bytes", Invalid, false, change(|o| o.input_bytes = 9 << 20)),
        ("input_bytes", Invalid, false, change(|o| o.input_bytes -= 1)),
        (
            "expires",
            Stale,
            false,
            change(|o| {
                o.issued = Timestamp(now().0 - 1);
                o.expires = o.issued;
                o.started = o.issued;
            }),
        ),
        (
            "issued",
            Stale,
            false,
            change(|o| {
                o.issued = o.issued.after_ms(3_600_000);
                o.expires = o.issued.after_ms(1_000);
            }),
        ),
        (
            "issued",
            Stale,
            false,
            change(|o| {
                o.issued = Timestamp(now().0 - 29_000);
                o.started = o.issued;
                o.expires = o.issued.after_ms(30_000);
            }),
        ),
        ("expires", Invalid, true, change(|o| o.expires = o.issued.after_ms(30_001))),
        ("started", Invalid, true, change(|o| o.started = o.issued.after_ms(1))),
        ("lane", Payment, false, change(|o| o.lane = u16::MAX)),
        ("the ledger has none", Payment, false, change(|o| o.hold = HoldId([7; 32]))),
        ("payee", Payment, false, Box::new(move |o| o.hold = elsewhere)),
        ("no room", Payment, false, change(|o| o.price_max = credits("10.000001"))),
        ("no room", Payment, false, change(|o| o.price_max = Credits::from_micro(u64::MAX))),
        ("price_max", Invalid, false, change(|o| o.price_max = credits("0.009999"))),
        ("price_max", Invalid, false, change(|o| o.price_max = Credits::ZERO)),
    ];
    for (field, kind, is_hostile, change) in cases {
        let before = world.reported().len();
        let mut offer = payer.offer("say", SAY);
        change(&mut offer);
        let refusal = payer.send(payer.seal(offer), SAY).await.refusal().await;
        assert_eq!(refusal.kind, kind, "{field}: {refusal}");
        assert!(refusal.message.contains(field), "{field}: {refusal}");
        assert_eq!(world.reported().len() - before, usize::from(is_hostile), "{field}");
    }
    assert_eq!(ran(&island), 0);
    honest(&payer, 1, "0.01").await;
}

#[tokio::test]
async fn an_offer_in_anothers_name_does_not_run() {
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "1").await;
    let offer = payer.offer("say", SAY);
    // A stranger uses the payer's hold.
    let strangers = key(66).seal(world.network, offer.clone()).unwrap();
    let refusal = payer.send(strangers.clone(), SAY).await.refusal().await;
    assert_eq!(refusal.kind, RefusalKind::Payment, "{refusal}");
    assert_eq!(world.reported(), []);
    // It says that it is the payer; and the payer's offer was changed on its way.
    let forged = SignedOffer { signer: payer.wallet.account(), ..strangers };
    let mut changed = payer.seal(offer);
    changed.value.price_max = credits("0.02");
    for forged in [forged, changed] {
        let refusal = payer.send(forged, SAY).await.refusal().await;
        assert_eq!(refusal.kind, RefusalKind::Invalid);
        assert!(refusal.message.contains("signature"), "{refusal}");
    }
    let reported: Vec<_> = world.reported().into_iter().map(|(node, _)| node).collect();
    assert_eq!(reported, [NodeId([PAYER_NODE; 32]); 2]);
    assert_eq!(ran(&island), 0);
    honest(&payer, 1, "0.01").await;
}

#[tokio::test]
async fn an_input_that_is_wrong_does_not_run_and_is_not_quoted() {
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "1").await;
    let deep = format!("{{\"steps\":[{}secret{}]}}", "[".repeat(200), "]".repeat(200));
    let inputs: [&[u8]; 6] = [
        b"{\"steps\":\"secret\"}",
        b"{\"secret\":1}",
        b"[\"secret\"]",
        b"secret",
        b"{\"steps\":[\"secret\xff\"]}",
        deep.as_bytes(),
    ];
    for input in inputs {
        let offer = payer.seal(payer.offer("say", input));
        let refusal = payer.send(offer, input).await.refusal().await;
        assert_eq!(refusal.kind, RefusalKind::Invalid, "{refusal}");
        assert!(!refusal.message.contains("secret"), "{refusal}");
    }
    assert_eq!((ran(&island), world.reported()), (0, Vec::new()));
    honest(&payer, 1, "0.01").await;
}

#[tokio::test]
async fn frames_out_of_turn_and_garbage_are_reported() {
    type Play = for<'a> fn(&'a mut Peer, SignedOffer) -> BoxFuture<'a, ()>;
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "1").await;
    let plays: [(&str, Play); 6] = [
        ("no offer", |peer, _| Box::pin(async { peer.send(&ToIsland::Cancel).await })),
        ("two offers", |peer, offer| {
            Box::pin(async {
                peer.send(&ToIsland::Offer(offer.clone())).await;
                peer.send(&ToIsland::Offer(offer)).await;
            })
        }),
        ("an empty chunk", |peer, offer| {
            Box::pin(async {
                peer.send(&ToIsland::Offer(offer)).await;
                peer.send(&ToIsland::Input(Vec::new().into())).await;
            })
        }),
        ("a long frame", |peer, _| Box::pin(peer.bytes(&[0xff; 4]))),
        ("garbage", |peer, _| Box::pin(peer.bytes(&[0, 0, 0, 2, 0xff, 0xff]))),
        ("garbage for input", |peer, offer| {
            Box::pin(async {
                peer.send(&ToIsland::Offer(offer)).await;
                peer.bytes(&[0, 0, 0, 2, 0xff, 0xff]).await;
            })
        }),
    ];
    for (at, (what, play)) in plays.into_iter().enumerate() {
        let mut peer = payer.dial().await;
        play(&mut peer, payer.seal(payer.offer("say", SAY))).await;
        assert_eq!(peer.refusal().await.kind, RefusalKind::Invalid, "{what}");
        assert_eq!(world.reported().len(), at + 1, "{what}");
    }
    assert_eq!(ran(&island), 0);

    // While a job runs such a frame ends it.
    let mut peer = payer.start("say", &steps(json!([{ "hang": true }]))).await;
    until("it runs", || island.runtime.running.load(Ordering::SeqCst) == 1).await;
    peer.send(&ToIsland::Input(vec![1].into())).await;
    assert!(peer.heard().await.is_err());
    until("it stopped", || island.runtime.running.load(Ordering::SeqCst) == 0).await;
    assert_eq!(world.reported().len(), 7);
    honest(&payer, 1, "0.01").await;
}

#[tokio::test]
async fn half_frames_and_silence_hold_nothing_for_long() {
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "1").await;
    // More streams than it takes, which say nothing, half a frame, or an offer without its input.
    let mut silent = Vec::new();
    for n in 0..256 + 8 {
        let mut peer = payer.dial().await;
        match n % 3 {
            0 => {}
            1 => peer.bytes(&[0, 0, 1]).await,
            _ => peer.send(&ToIsland::Offer(payer.seal(payer.offer("say", SAY)))).await,
        }
        silent.push(peer);
    }
    until("all came", || island.island.metrics().streams.get() == 264).await;
    assert_eq!(island.island.metrics().streams_dropped.get(), 0);
    let mut one_more = payer.dial().await;
    assert!(one_more.heard().await.is_err());
    assert_eq!(island.island.metrics().streams_dropped.get(), 1);
    assert_eq!(island.island.active_jobs(), 0);
    // It gives them up by itself.
    for peer in &mut silent {
        assert!(peer.heard().await.is_err());
    }
    assert_eq!((ran(&island), world.reported()), (0, Vec::new()));
    honest(&payer, 1, "0.01").await;
}

#[tokio::test]
async fn a_job_id_runs_once_and_a_full_island_takes_no_more() {
    let world = World::new().await;
    let island = world.island_on(&MemoryDisk::new(), 1, "here", |config| config.max_jobs = 1);
    let payer = Payer::new(&world, (island.node, island.account), "1").await;
    let hang = steps(json!([{ "hang": true }])).to_string();
    let offer = payer.seal(payer.offer("say", hang.as_bytes()));
    let mut running = payer.send(offer.clone(), hang.as_bytes()).await;
    running.accepted().await;
    let again = payer.send(offer.clone(), hang.as_bytes()).await.refusal().await;
    assert_eq!(again.kind, RefusalKind::Duplicate);
    let full = payer.send(payer.seal(payer.offer("say", SAY)), SAY).await.refusal().await;
    assert_eq!(full.kind, RefusalKind::Full);
    drop(running);
    until("it stopped", || island.island.active_jobs() == 0).await;
    // After its end, and with another offer and attempt of the same id.
    let again = payer.send(offer.clone(), hang.as_bytes()).await.refusal().await;
    assert_eq!(again.kind, RefusalKind::Duplicate);
    let renewed = Offer { job: offer.value.job, attempt: 1, ..payer.offer("say", SAY) };
    let again = payer.send(payer.seal(renewed), SAY).await.refusal().await;
    assert_eq!(again.kind, RefusalKind::Duplicate);
    assert_eq!(ran(&island), 1);
    assert_eq!(world.reported(), []);
    honest(&payer, 1, "0.01").await;
}

#[tokio::test]
async fn two_streams_with_one_job_id_at_the_same_time_run_once() {
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "1").await;
    let offer = payer.seal(payer.offer("say", SAY));
    // Both offers are in before either input is.
    let mut peers = [payer.dial().await, payer.dial().await];
    for peer in &mut peers {
        peer.send(&ToIsland::Offer(offer.clone())).await;
    }
    for peer in &mut peers {
        peer.send(&ToIsland::Input(SAY.to_vec().into())).await;
    }
    let [mut first, mut second] = peers;
    first.accepted().await;
    assert_eq!(second.refusal().await.kind, RefusalKind::Duplicate);
    assert_eq!(ran(&island), 1);
}

#[tokio::test]
async fn work_above_a_chunk_waits_for_its_voucher_before_it_begins() {
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "10").await;
    let input = steps(json!([{ "token": "a" }, { "token": "b" }]));
    // 2 credits, the chunk is 1: nothing runs and nothing is said before they are there.
    let mut peer = payer.start("dearer", &input).await;
    let heard = listen(&mut peer).await;
    assert_eq!((heard.due, heard.lines.len(), ran(&island)), (Some(credits("2")), 0, 0));
    assert_eq!((waits(&mut peer).await.len(), ran(&island)), (0, 0));
    peer.send(&ToIsland::Cancel).await;
    let heard = listen(&mut peer).await;
    let (receipt, _) = heard.finished.expect("a receipt");
    assert_eq!((heard.lines.len(), ran(&island)), (0, 0));
    assert_eq!((receipt.value.verdict, receipt.value.price), (Verdict::Cancelled, Credits::ZERO));
    peer.send(&payer.settled(&receipt.value, None)).await;

    // Paid, it runs.
    let mut peer = payer.start("dearer", &input).await;
    assert_eq!(listen(&mut peer).await.due, Some(credits("2")));
    peer.send(&ToIsland::Voucher(payer.sign(payer.voucher(1, "2")))).await;
    let heard = listen(&mut peer).await;
    let (receipt, _) = heard.finished.expect("a receipt");
    assert_eq!((heard.lines.len(), receipt.value.price), (3, credits("2")));
    peer.send(&payer.settled(&receipt.value, None)).await;
    assert!(peer.heard().await.is_err());
    until("countersigned", || island.island.metrics().countersigned.get() == 2).await;
    honest(&payer, 2, "2.01").await;
    island.island.stop().await;
    assert_eq!(world.balance(1).await, credits("0.7035"));
    assert_eq!(world.reported(), []);
}

#[tokio::test]
async fn a_voucher_that_is_worth_too_little_ends_the_work() {
    type Change = fn(&mut Voucher);
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "10").await;
    honest(&payer, 10, "0.01").await;
    // What is owed by now: 0.01 and 2.
    let cases: [(&str, Change); 8] = [
        ("too small", |v| v.cumulative = credits("2.009999")),
        ("over the cap", |v| v.cumulative = credits("10.000001")),
        ("another hold", |v| v.hold = HoldId([7; 32])),
        ("another lane", |v| v.lane = 1),
        ("another payee", |v| v.payee = key(2).account()),
        ("an old nonce", |v| v.nonce = 10),
        ("a lower nonce", |v| v.nonce = 9),
        ("expires too early", |v| v.expires = now().after_ms(1_000)),
    ];
    let mut vouchers: Vec<(&str, SignedVoucher)> = cases
        .into_iter()
        .map(|(what, change)| {
            let mut voucher = payer.voucher(11, "2.01");
            change(&mut voucher);
            (what, payer.sign(voucher))
        })
        .collect();
    let right = payer.sign(payer.voucher(11, "2.01"));
    let mut forged = right.clone();
    forged.signature = key(66).seal(world.network, right.value.clone()).unwrap().signature;
    vouchers.push(("a forged signature", forged));
    vouchers.push(("a stranger's", key(66).seal(world.network, right.value.clone()).unwrap()));
    for (what, voucher) in vouchers {
        // One that is too small may be kept: it raises what the next ones must have.
        let mut peer = payer.start("dearer", &steps(json!([{ "token": "a" }]))).await;
        assert_eq!(listen(&mut peer).await.due, Some(credits("2")), "{what}");
        peer.send(&ToIsland::Voucher(voucher)).await;
        let heard = listen(&mut peer).await;
        let (receipt, reason) = heard.finished.unwrap_or_else(|| panic!("{what}: no receipt"));
        assert_eq!((heard.lines.len(), receipt.value.price), (0, Credits::ZERO), "{what}");
        assert_eq!(reason.map(|r| r.step), Some(Step::Payment), "{what}");
    }
    assert_eq!(ran(&island), 1);
    honest(&payer, 12, "2.01").await;
}

#[tokio::test]
async fn output_stops_at_the_unpaid_chunk_and_a_debtor_is_not_served_again() {
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "50").await;
    // 10 credits a second; a chunk is worth a tenth of one.
    let many: Vec<_> =
        (0..100).flat_map(|n| [json!({ "token": n.to_string() }), json!({ "wait": 10 })]).collect();
    let mut peer = payer.start("meter", &steps(json!(many))).await;
    let heard = listen(&mut peer).await;
    let due = heard.due.expect("a bill");
    assert!(due > credits("0.5") && due < credits("1.5"), "{due}");
    let lines = heard.lines.len() + waits(&mut peer).await.len();
    assert!(lines < 25, "{lines} lines for a credit");
    // It does not sign for what it got.
    drop(peer);
    until("owed", || island.island.metrics().unpaid.get() == 1).await;
    let refusal = payer.send(payer.seal(payer.offer("dear", SAY)), SAY).await.refusal().await;
    assert_eq!(refusal.kind, RefusalKind::Payment);
    assert!(refusal.message.contains("unpaid"), "{refusal}");
}

#[tokio::test]
async fn leaving_without_a_word_is_no_cheaper_than_cancelling() {
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "50").await;
    // Work that says nothing until it is done, left again and again just before it is paid for.
    for round in 1.. {
        let input = steps(json!([{ "hang": true }])).to_string();
        let offer = payer.seal(payer.offer("meter", input.as_bytes()));
        let mut peer = payer.send(offer, input.as_bytes()).await;
        match peer.heard().await.unwrap() {
            ToConsumer::Refused(refusal) => {
                assert_eq!(refusal.kind, RefusalKind::Payment, "{refusal}");
                break;
            }
            _ => assert!(round < 20, "it works for nothing"),
        }
        let _due = listen(&mut peer).await;
        drop(peer);
        until("it stopped", || island.island.active_jobs() == 0).await;
    }
}

#[tokio::test]
async fn a_limit_below_the_price_buys_no_output_beyond_it() {
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "50").await;
    let input = steps(json!([{ "token": "a" }, { "wait": 30 }, { "token": "b" }])).to_string();
    let offer =
        Offer { price_max: Credits::from_micro(1), ..payer.offer("meter", input.as_bytes()) };
    let mut peer = payer.send(payer.seal(offer), input.as_bytes()).await;
    peer.accepted().await;
    let heard = listen(&mut peer).await;
    let (receipt, reason) = heard.finished.expect("a receipt");
    assert_eq!(receipt.value.verdict, Verdict::Cancelled);
    assert_eq!(reason.map(|r| r.step), Some(Step::Limit));
    assert!(heard.lines.len() < 2 && receipt.value.price <= Credits::from_micro(1));
}

#[tokio::test]
async fn tokens_stop_at_the_unpaid_chunk_and_at_the_payers_limit() {
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "10").await;
    // All of it is ready at once: it fits into the queue between Cargo and stream.
    let input = steps(json!(vec![json!({ "token": "a" }); 10])).to_string();
    let start = async |price_max: &str| {
        let offer = payer.offer("wordy", input.as_bytes());
        let offer = Offer { price_max: credits(price_max), ..offer };
        let mut peer = payer.send(payer.seal(offer), input.as_bytes()).await;
        peer.accepted().await;
        peer
    };
    // 0.6 credits each; with the second one a chunk is unpaid.
    let mut peer = start("6").await;
    let heard = listen(&mut peer).await;
    assert_eq!((heard.lines.len(), heard.due), (1, Some(credits("0.6"))));
    assert_eq!(waits(&mut peer).await.len(), 1);
    peer.send(&ToIsland::Voucher(payer.sign(payer.voucher(1, "0.5")))).await;
    let heard = listen(&mut peer).await;
    let (receipt, reason) = heard.finished.expect("a receipt");
    assert_eq!((heard.lines.len(), receipt.value.metering.tokens), (0, 2));
    assert_eq!((receipt.value.verdict, receipt.value.price), (Verdict::Cancelled, credits("1.2")));
    assert_eq!(reason.map(|r| r.step), Some(Step::Payment));
    peer.send(&payer.settled(&receipt.value, Some(payer.sign(payer.voucher(2, "1.2"))))).await;
    until("countersigned", || island.island.metrics().countersigned.get() == 1).await;

    let (mut paid, mut nonce) = (credits("1.2"), 2);
    for (price_max, lines) in [("0", 1), ("0.599999", 1), ("0.6", 2)] {
        let mut peer = start(price_max).await;
        let mut heard = listen(&mut peer).await;
        let mut found = heard.lines.len();
        while heard.finished.is_none() {
            heard = listen(&mut peer).await;
            found += heard.lines.len();
        }
        let (receipt, reason) = heard.finished.expect("a receipt");
        assert_eq!((found, receipt.value.metering.tokens), (lines, lines as u64), "{price_max}");
        assert_eq!(receipt.value.verdict, Verdict::Cancelled);
        assert_eq!(receipt.value.price, credits(price_max));
        assert_eq!(reason.map(|r| r.step), Some(Step::Limit));
        // Not paying would be a debt.
        paid = paid.saturating_add(receipt.value.price);
        nonce += 1;
        let voucher = Voucher { cumulative: paid, ..payer.voucher(nonce, "0") };
        let voucher = (receipt.value.price > Credits::ZERO).then(|| payer.sign(voucher));
        peer.send(&payer.settled(&receipt.value, voucher)).await;
        assert!(peer.heard().await.is_err());
    }
    assert_eq!(world.reported(), []);
}

#[tokio::test]
async fn a_receipt_that_comes_back_wrong_is_a_debt() {
    let world = World::new().await;
    let island = world.island(1, "here");
    let payer = Payer::new(&world, (island.node, island.account), "10").await;
    let input = steps(json!([{ "token": "a" }]));
    // Signed by another; without a voucher.
    for case in 0..2 {
        let mut peer = payer.start("dear", &input).await;
        let (receipt, _) = listen(&mut peer).await.finished.expect("a receipt");
        let frame = match case {
            0 => ToIsland::Settled {
                payer: key(66).sign(world.network, &receipt.value).unwrap(),
                voucher: Some(payer.sign(payer.voucher(1, "0.4"))),
            },
            _ => payer.settled(&receipt.value, None),
        };
        peer.send(&frame).await;
        assert!(peer.heard().await.is_err());
        let unpaid = case + 1;
        until("owed", || island.island.metrics().unpaid.get() == unpaid).await;
        assert_eq!(world.reported().len(), usize::try_from(unpaid).unwrap());
    }
    // 0.8 are owed, a third job of 0.4 would be too much.
    let refusal = payer.send(payer.seal(payer.offer("dear", SAY)), SAY).await.refusal().await;
    assert_eq!(refusal.kind, RefusalKind::Payment);
    assert_eq!(island.island.metrics().countersigned.get(), 0);
    island.island.stop().await;
    assert_eq!(world.balance(1).await, Credits::ZERO);
}

#[tokio::test]
async fn a_hold_that_has_ended_pays_for_no_more_jobs() {
    let world = World::with(|policy| policy.payment.dispute_window_ms = 1).await;
    let island = world.island_on(&MemoryDisk::new(), 1, "here", |config| {
        config.settle_interval = Duration::from_millis(5);
    });
    let payer = Payer::new(&world, (island.node, island.account), "10").await;
    honest(&payer, 1, "0.01").await;
    until("settled", || island.island.metrics().settled.get() == 1).await;
    // A job that goes on keeps the hold in use here while its payer closes it on the ledger.
    let mut hanging = payer.start("say", &steps(json!([{ "token": "a" }, { "hang": true }]))).await;
    while world.ledger.hold(payer.hold).await.unwrap().is_some() {
        let close = Action::CloseHold { hold: payer.hold };
        let _window = payer.wallet.send(close).await;
    }
    // The next receipt shows the Island that its hold is gone: what it did until then is lost.
    let input = steps(json!([])).to_string();
    let mut served: u64 = 0;
    let refusal = loop {
        let offer = payer.seal(payer.offer("say", input.as_bytes()));
        let mut peer = payer.send(offer, input.as_bytes()).await;
        match peer.heard().await.expect("an answer") {
            ToConsumer::Refused(refusal) => break refusal,
            _ => served += 1,
        }
        assert!(served < 40, "it goes on for nothing");
        let (receipt, _) = listen(&mut peer).await.finished.expect("a receipt");
        let cumulative = credits("0.01").saturating_add(credits("0.01").saturating_mul(served));
        let voucher = Voucher { cumulative, ..payer.voucher(served + 1, "0") };
        peer.send(&payer.settled(&receipt.value, Some(payer.sign(voucher)))).await;
        assert!(peer.heard().await.is_err());
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(refusal.kind, RefusalKind::Payment, "{refusal}");
    hanging.send(&ToIsland::Cancel).await;
    let heard = listen(&mut hanging).await;
    assert_eq!(heard.finished.map(|(r, _)| r.value.verdict), Some(Verdict::Cancelled));
}

#[tokio::test]
async fn an_offer_of_before_a_restart_does_not_run_again() {
    let world = World::new().await;
    let disk = MemoryDisk::new();
    let island = world.island_on(&disk, 1, "here", |_| {});
    let payer = Payer::new(&world, (island.node, island.account), "1").await;
    let offer = payer.seal(payer.offer("say", SAY));
    let mut peer = payer.send(offer.clone(), SAY).await;
    peer.accepted().await;
    drop(peer);
    world.unplug(island.node);
    island.tasks.stop().await;
    drop(island.island);
    let again = world.island_on(&disk, 1, "here", |_| {});
    let refusal = payer.send(offer, SAY).await.refusal().await;
    assert_eq!(refusal.kind, RefusalKind::Stale, "{refusal}");
    assert_eq!(ran(&again), 0);
}
