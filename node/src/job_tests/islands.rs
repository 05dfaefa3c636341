//! Lying Islands. Whatever they say, the Consumer pays for nothing that it did not get, hands no
//! event out twice, and takes the job elsewhere.

use super::{
    raw::{Liar, Lie, played},
    world::{ConsumerNode, IslandNode, World, credits, steps},
};
use archipelag_protocol::{
    amount::Credits,
    id::JobId,
    job::{Failure, Refusal, RefusalKind, Step, ToConsumer},
    limits::MAX_LINE_BYTES,
    payment::{Receipt, Verdict},
};
use futures::future::BoxFuture;
use serde_json::{Value, json};

type Play = for<'a> fn(&'a mut Lie) -> BoxFuture<'a, ()>;

/// What a test makes of a receipt that would be right.
type Falsify = fn(&mut Receipt);

fn two() -> (&'static str, Value) {
    ("say", steps(json!([{ "token": "a" }, { "token": "b" }])))
}

struct Stage {
    world: World,
    liar: Liar,
    honest: IslandNode,
    consumer: ConsumerNode,
}

impl Stage {
    async fn new() -> Self {
        let world = World::with(|policy| policy.payment.hold_default = credits("5")).await;
        let (liar, honest, consumer) = (world.liar(1), world.island(2, "there"), world.consumer());
        Self { world, liar, honest, consumer }
    }

    /// Plays a lie that gains nothing: the other Island does the job, once, and is paid.
    async fn futile(&mut self, what: &str, play: Play) -> Vec<String> {
        let before = self.world.reported().len();
        let (told, lie, signed) =
            played(&self.consumer, two(), &mut self.liar, async |lie| play(lie).await).await;
        assert_eq!((told.ended.verdict, told.ended.attempts), (Verdict::Completed, 2), "{what}");
        let receipt = told.ended.receipt.expect("a receipt").receipt;
        assert_eq!((receipt.island, receipt.price), (self.honest.account, credits("0.01")));
        assert_eq!(told.lines, ["a", "b", "."], "{what}");
        assert_eq!((signed, lie.signed()), (None, Credits::ZERO), "{what}");
        let reported = self.world.reported().split_off(before);
        assert!(reported.iter().all(|(node, _)| *node == self.liar.node), "{what}: {reported:?}");
        reported.into_iter().map(|(_, reason)| reason).collect()
    }
}

#[expect(clippy::too_many_lines, reason = "a table of lies, one a case")]
#[tokio::test]
async fn what_no_honest_island_says_is_reported_and_gains_nothing() {
    let lies: [(&str, &str, Play); 16] = [
        ("a line twice", "line 0 came where line 1", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.token(0, "a").await;
                lie.token(0, "a").await;
            })
        }),
        ("a line left out", "line 2 came where line 1", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.token(0, "a").await;
                lie.token(2, "b").await;
            })
        }),
        ("an event after `done`", "after the last one", |lie| {
            Box::pin(async {
                lie.honest_output().await;
                lie.token(3, "c").await;
            })
        }),
        ("`done` twice", "after the last one", |lie| {
            Box::pin(async {
                lie.honest_output().await;
                lie.done(3).await;
            })
        }),
        ("a line over the limit", "the limit is", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.token(0, "a").await;
                lie.token(1, &"b".repeat(MAX_LINE_BYTES)).await;
            })
        }),
        ("a line that is no event", "not a JSON object", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.line(0, "a").await;
            })
        }),
        ("a frame over the limit", "the limit is", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.peer.bytes(&[0xff; 64]).await;
            })
        }),
        ("a frame of garbage", "job frame", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.token(0, "a").await;
                lie.peer.bytes(&[0, 0, 0, 3, 0xff, 0xfe, 0xfd]).await;
            })
        }),
        ("output before it accepts", "before it had accepted", |lie| {
            Box::pin(async { lie.token(0, "a").await })
        }),
        ("a bill before it accepts", "before it had accepted", |lie| {
            Box::pin(async { lie.due(credits("0.01")).await })
        }),
        ("accepting twice", "accepted twice", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.accept().await;
            })
        }),
        ("refusing what it accepted", "refused after", |lie| {
            Box::pin(async {
                lie.accept().await;
                let refusal = Refusal::new(RefusalKind::Full, "no");
                lie.peer.send(&ToConsumer::Refused(refusal)).await;
            })
        }),
        ("a bill above the price", "asked for 0.02", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.due(credits("0.02")).await;
            })
        }),
        ("a receipt without `done`", "verdict", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.token(0, "a").await;
                lie.finish(lie.receipt(credits("0.01")), None).await;
            })
        }),
        ("a receipt signed by another", "another account", |lie| {
            Box::pin(async {
                lie.honest_output().await;
                let receipt = lie.seal_as(3, lie.receipt(credits("0.01")));
                lie.finish_as(receipt, None).await;
            })
        }),
        ("a receipt with a forged signature", "signature", |lie| {
            Box::pin(async {
                lie.honest_output().await;
                let mut receipt = lie.seal_as(1, lie.receipt(credits("0.01")));
                receipt.signature = lie.seal_as(3, receipt.value.clone()).signature;
                lie.finish_as(receipt, None).await;
            })
        }),
    ];
    let mut stage = Stage::new().await;
    for (what, reason, play) in lies {
        let reported = stage.futile(what, play).await;
        assert!(reported.len() == 1 && reported[0].contains(reason), "{what}: {reported:?}");
    }
}

#[tokio::test]
async fn a_receipt_that_does_not_fit_is_not_signed() {
    let falsified: [(&str, Falsify); 15] = [
        ("`job`", |r| r.job = JobId([99; 16])),
        ("`cargo`", |r| r.cargo.0[0] ^= 1),
        ("`payer`", |r| r.payer = r.island),
        ("`island`", |r| r.island = r.payer),
        ("`hold`", |r| r.hold.0[0] ^= 1),
        ("`lane`", |r| r.lane += 1),
        ("`input`", |r| r.input.0[0] ^= 1),
        ("`output`", |r| r.output.0[0] ^= 1),
        ("`tier`", |r| r.tier = archipelag_protocol::pricing::HardwareTier::Enterprise),
        ("`finished`", |r| r.finished = r.finished.after_ms(3_600_000)),
        ("`tokens`", |r| r.metering.tokens += 1),
        ("`duration_ms`", |r| r.metering.duration_ms = 3_600_000),
        ("`price`", |r| r.price = r.price.saturating_add(Credits::from_micro(1))),
        ("needs a reason", |r| r.verdict = Verdict::Failed),
        ("`price`", |r| r.price = Credits::from_micro(u64::MAX)),
    ];
    let mut stage = Stage::new().await;
    for (field, falsify) in falsified {
        let before = stage.world.reported().len();
        let (told, lie, signed) = played(&stage.consumer, two(), &mut stage.liar, async |lie| {
            lie.honest_output().await;
            let mut receipt = lie.receipt(credits("0.01"));
            falsify(&mut receipt);
            lie.finish(receipt, None).await;
        })
        .await;
        assert_eq!((signed, lie.signed()), (None, Credits::ZERO), "{field}");
        assert_eq!(
            (told.lines, told.ended.attempts),
            (["a", "b", "."].map(Into::into).to_vec(), 2)
        );
        let reported = stage.world.reported().split_off(before);
        assert!(reported.len() == 1 && reported[0].1.contains(field), "{field}: {reported:?}");
        assert_eq!(reported[0].0, stage.liar.node);
    }
    // What was falsified above is right else: the same receipt unchanged is signed.
    let (told, lie, signed) = played(&stage.consumer, two(), &mut stage.liar, async |lie| {
        lie.honest_output().await;
        lie.finish(lie.receipt(credits("0.01")), None).await;
    })
    .await;
    assert_eq!((told.ended.attempts, lie.signed()), (1, credits("0.01")));
    assert!(signed.is_some());
}

#[tokio::test]
async fn work_that_failed_costs_nothing_whatever_the_receipt_says() {
    let mut stage = Stage::new().await;
    for verdict in [Verdict::CargoFailed, Verdict::Failed, Verdict::Timeout] {
        let (told, lie, signed) = played(&stage.consumer, two(), &mut stage.liar, async |lie| {
            lie.accept().await;
            lie.token(0, "a").await;
            let receipt = Receipt { verdict, ..lie.receipt(credits("0.01")) };
            lie.finish(receipt, Some(Failure::new(Step::Trap, "unreachable"))).await;
        })
        .await;
        assert_eq!((told.ended.attempts, signed, lie.signed()), (2, None, Credits::ZERO));
        assert_eq!(told.lines, ["a", "b", "."]);
    }
    assert_eq!(stage.world.reported().len(), 3);
}

#[tokio::test]
async fn what_an_honest_island_may_suffer_is_not_reported() {
    let lies: [(&str, Play); 7] = [
        ("it closes before it answers", |lie| Box::pin(async { drop(lie.peer.heard()) })),
        ("it closes after a line", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.token(0, "a").await;
            })
        }),
        ("it closes within a frame", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.token(0, "a").await;
                lie.peer.bytes(&[0, 0, 1]).await;
            })
        }),
        ("it ends without a receipt", |lie| Box::pin(lie.honest_output())),
        ("it is full", |lie| {
            Box::pin(async {
                let refusal = Refusal::new(RefusalKind::Full, "no");
                lie.peer.send(&ToConsumer::Refused(refusal)).await;
            })
        }),
        ("it gives up", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.token(0, "a").await;
                let receipt =
                    Receipt { verdict: Verdict::Cancelled, ..lie.receipt(credits("0.01")) };
                lie.finish(receipt, Some(Failure::new(Step::Cancelled, "so"))).await;
            })
        }),
        ("its engine fails", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.token(0, "a").await;
                let receipt = Receipt { verdict: Verdict::Failed, ..lie.receipt(Credits::ZERO) };
                lie.finish(receipt, Some(Failure::new(Step::Engine, "so"))).await;
            })
        }),
    ];
    let mut stage = Stage::new().await;
    for (what, play) in lies {
        let reported = hang_up(&mut stage, what, play).await;
        assert_eq!(reported, [""; 0], "{what}");
    }
}

/// As [`Stage::futile`], with an Island that hangs up after it has played.
async fn hang_up(stage: &mut Stage, what: &str, play: Play) -> Vec<String> {
    let before = stage.world.reported().len();
    let playing = async {
        let mut lie = stage.liar.take().await;
        play(&mut lie).await;
    };
    let (slug, input) = two();
    let (told, ()) = tokio::join!(stage.consumer.run(slug, input), playing);
    assert_eq!(
        (told.ended.verdict, &told.lines[..]),
        (Verdict::Completed, &["a", "b", "."].map(String::from)[..]),
        "{what}"
    );
    let receipt = told.ended.receipt.expect("a receipt").receipt;
    assert_eq!(receipt.island, stage.honest.account, "{what}");
    stage.world.reported().split_off(before).into_iter().map(|(_, reason)| reason).collect()
}

#[tokio::test]
async fn silence_is_a_loss_and_no_lie() {
    let mut stage = Stage::new().await;
    // It accepts, says a line, and holds the stream open.
    let reported = stage
        .futile("silence", |lie| {
            Box::pin(async {
                lie.accept().await;
                lie.token(0, "a").await;
            })
        })
        .await;
    assert_eq!(reported, [""; 0]);
}

#[tokio::test]
async fn other_output_is_joined_visibly_and_no_line_is_replaced() {
    let mut stage = Stage::new().await;
    let (told, _, signed) = played(&stage.consumer, two(), &mut stage.liar, async |lie| {
        lie.accept().await;
        lie.token(0, "x").await;
        lie.token(0, "y").await;
    })
    .await;
    assert_eq!(signed, None);
    assert_eq!(told.lines[0], "x");
    assert!(told.lines[1].starts_with("(another Island"), "{:?}", told.lines);
    assert_eq!(told.lines[2..], ["b", "."]);
}

#[tokio::test]
async fn with_liars_alone_the_job_fails_and_costs_nothing() {
    let world = World::new().await;
    let (mut first, mut second) = (world.liar(1), world.liar(2));
    let consumer = world.consumer();
    let lying = async |liar: &mut Liar| {
        let mut lie = liar.take().await;
        lie.honest_output().await;
        lie.finish(lie.receipt(credits("0.02")), None).await;
        assert_eq!((lie.rest().await, lie.signed()), (None, Credits::ZERO));
    };
    let (slug, input) = two();
    let (told, (), ()) =
        tokio::join!(consumer.run(slug, input), lying(&mut first), lying(&mut second));
    // `done` was never confirmed by a receipt that is right.
    assert_eq!((told.lines, told.ended.price), (vec!["a".into(), "b".into()], Credits::ZERO));
    assert_eq!((told.ended.verdict, told.ended.receipt), (Verdict::Failed, None));
    assert_eq!(told.ended.failure.map(|f| f.step), Some(Step::Lost));
    let reported: Vec<_> = world.reported().into_iter().map(|(node, _)| node).collect();
    assert_eq!(reported, told.nodes);
}

#[tokio::test]
async fn bills_are_signed_up_to_what_was_seen_and_once() {
    let mut stage = Stage::new().await;
    let said = ("dear", steps(json!([{ "token": "a" }])));
    // The same bill a hundred times is one signature, and it is not for more than the price.
    let (told, lie, signed) = played(&stage.consumer, said.clone(), &mut stage.liar, async |lie| {
        lie.accept().await;
        let mut nonces = std::collections::BTreeSet::new();
        for _ in 0..100 {
            lie.due(credits("0.4")).await;
            nonces.insert(lie.voucher().await.value.nonce);
        }
        assert_eq!(nonces.len(), 1);
        lie.due(credits("0.400001")).await;
    })
    .await;
    assert_eq!((told.ended.attempts, signed, lie.signed()), (2, None, credits("0.4")));
    assert!(stage.world.reported()[0].1.contains("0.400001"), "{:?}", stage.world.reported());

    // What was paid in advance is part of the price, not on top of it.
    let (told, lie, signed) = played(&stage.consumer, said, &mut stage.liar, async |lie| {
        lie.accept().await;
        lie.due(credits("0.4")).await;
        lie.voucher().await;
        lie.token(0, "a").await;
        lie.done(1).await;
        lie.finish(lie.receipt(credits("0.4")), None).await;
    })
    .await;
    assert_eq!((told.ended.attempts, signed.is_some()), (1, true));
    assert_eq!(lie.signed(), credits("0.8"));
    let of_island = lie.vouchers.iter().all(|v| v.value.hold == lie.offer.value.hold);
    assert!(of_island && lie.vouchers.windows(2).all(|w| w[0].value.nonce <= w[1].value.nonce));
}

#[tokio::test]
async fn time_that_has_not_passed_is_not_paid() {
    let world = World::with(|policy| {
        policy.payment.hold_default = credits("5");
        policy.sandbox.level0.time_ms = 4_000;
    })
    .await;
    let (mut liar, honest, consumer) = (world.liar(1), world.island(2, "there"), world.consumer());
    // 10 credits a second, 40 at most. Clocks may differ by a second and a half.
    let (told, lie, _) = played(&consumer, ("meter", steps(json!([]))), &mut liar, async |lie| {
        lie.accept().await;
        lie.due(credits("10")).await;
        lie.voucher().await;
        lie.due(credits("39")).await;
    })
    .await;
    assert_eq!((told.ended.attempts, lie.signed()), (2, credits("10")));
    assert_eq!(told.ended.receipt.map(|r| r.receipt.island), Some(honest.account));
    assert!(world.reported()[0].1.contains("it asked for 39"), "{:?}", world.reported());
}

#[tokio::test]
async fn an_island_that_refuses_every_hold_does_not_get_all_credits_reserved() {
    let mut stage = Stage::new().await;
    let payer = super::world::PAYER;
    for _ in 0..6 {
        let refusing = async {
            for _ in 0..2 {
                let next = tokio::time::timeout(super::world::SOON, stage.liar.take());
                let Ok(mut lie) = next.await else { return };
                let refusal = Refusal::new(RefusalKind::Payment, "your hold is too small");
                lie.peer.send(&ToConsumer::Refused(refusal)).await;
            }
        };
        let (slug, input) = two();
        tokio::select! {
            told = stage.consumer.run(slug, input) => {
                assert_eq!(told.ended.verdict, Verdict::Completed);
                assert_eq!(told.lines, ["a", "b", "."]);
            }
            () = async { refusing.await; std::future::pending().await } => {}
        }
    }
    // 5 credits for the honest Island, and for the other one a hold that was raised twice at most.
    let left = stage.world.balance(payer).await;
    assert!(left >= credits("80"), "{left} left of 100");
}
