//! Honest Consumers and honest Islands.

use super::world::{ConsumerNode, World, credits, follow, request, steps, text, until};
use crate::{
    consumer::{Refused, Update},
    disk::MemoryDisk,
    services::Routes,
};
use archipelag_protocol::{
    amount::Credits, id::JobId, job::Step, matching::RegionPolicy, payment::Verdict,
};
use serde_json::json;
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

#[tokio::test]
async fn a_job_streams_is_paid_and_settled() {
    let world = World::new().await;
    let (island, consumer) = (world.island(1, "here"), world.consumer());
    let told = consumer.run("say", steps(json!([{ "token": "a" }, { "token": "b" }]))).await;
    assert_eq!(told.lines, ["a", "b", "."]);
    assert_eq!((told.ended.verdict, told.ended.attempts), (Verdict::Completed, 1));
    assert_eq!((told.ended.price, told.ended.failure), (credits("0.01"), None));
    let receipt = told.ended.receipt.expect("a receipt");
    assert_eq!((receipt.receipt.metering.tokens, receipt.receipt.island), (2, island.account));

    // The hold is open and has room: the ledger learns nothing of further jobs.
    let height = *world.coordinator.committed().borrow();
    for _ in 0..5 {
        let told = consumer.run("say", steps(json!([]))).await;
        assert_eq!(told.lines, ["."]);
    }
    assert_eq!(*world.coordinator.committed().borrow(), height);
    assert_eq!(consumer.consumer.metrics().holds_opened.get(), 1);

    until("countersigned", || island.island.metrics().countersigned.get() == 6).await;
    island.island.stop().await;
    assert_eq!(island.island.unsettled(), 0);
    let standing = world.ledger.standing(island.account).await.unwrap();
    // 70 % of 0.06, halved for the lowest hardware tier.
    assert_eq!((standing.jobs, standing.earned), (6, credits("0.021")));
    assert_eq!(world.balance(1).await, credits("0.021"));
    let stored = consumer.consumer.receipt(JobId([1; 16]));
    until("stored", || consumer.consumer.receipt(JobId([1; 16])).unwrap().is_some()).await;
    drop(stored);
    assert_eq!(world.reported(), []);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_before_money_moves() {
    let world = World::new().await;
    let consumer = world.consumer();
    let refused = async |slug: &str, input| {
        let request = request(slug, input);
        consumer.consumer.submit(&consumer.wallet, JobId([7; 16]), request).await.unwrap_err()
    };
    let none = refused("say", steps(json!([]))).await;
    assert!(matches!(none, Refused::NoIsland { ref excluded } if excluded.is_empty()), "{none}");
    let _island = world.island(1, "here");
    assert!(
        matches!(refused("sing", json!({})).await, Refused::UnknownCargo(slug) if slug == "sing")
    );
    let schema = refused("say", json!({ "steps": 1 })).await;
    assert!(matches!(&schema, Refused::Schema(errors) if errors[0].field == "/steps"), "{schema}");
    assert!(matches!(refused("say", json!([])).await, Refused::Schema(_)));
    let long = refused("say", json!({ "steps": [], "x": "y".repeat(9 << 20) })).await;
    assert!(matches!(long, Refused::TooLarge { field: "input", limit, .. } if limit == 8 << 20));
    // 60 seconds at 10 credits each.
    match refused("meter", steps(json!([]))).await {
        Refused::Credits { required, available } => {
            assert_eq!((required, available), (credits("600"), credits("100")));
        }
        other => panic!("{other:?}"),
    }
    let mut elsewhere = request("say", steps(json!([])));
    elsewhere.regions = RegionPolicy::Only(vec!["there".into()]);
    let plan = consumer.consumer.plan(&consumer.wallet, &elsewhere).await.unwrap();
    assert!(plan.ranked.is_empty() && plan.excluded[0].1.contains("region"));
    assert_eq!((plan.price_max, plan.available), (credits("0.01"), credits("100")));
    let none =
        consumer.consumer.submit(&consumer.wallet, JobId([7; 16]), elsewhere).await.unwrap_err();
    assert!(matches!(none, Refused::NoIsland { ref excluded } if excluded.len() == 1), "{none}");
    assert_eq!(world.balance(super::world::PAYER).await, credits("100"));
}

#[tokio::test]
async fn the_cargos_own_failure_is_final_and_free_and_the_islands_is_tried_elsewhere() {
    let world = World::new().await;
    let (_a, _b) = (world.island(1, "here"), world.island(2, "there"));
    let consumer = world.consumer();
    for (end, verdict, step, lines) in [
        ("error", Verdict::CargoFailed, Step::Cargo, vec!["a", "!no such thing"]),
        ("trap", Verdict::Failed, Step::Trap, vec!["a"]),
        ("timeout", Verdict::Timeout, Step::Limit, vec!["a"]),
    ] {
        let told = consumer.run("say", steps(json!([{ "token": "a" }, { "end": end }]))).await;
        assert_eq!((told.ended.verdict, told.ended.attempts), (verdict, 1), "{end}");
        assert_eq!(told.ended.failure.map(|f| f.step), Some(step));
        assert_eq!(
            (told.lines, told.ended.price),
            (lines.iter().map(|s| (*s).into()).collect(), Credits::ZERO)
        );
        assert!(told.ended.receipt.is_some());
    }
    let told = consumer.run("say", steps(json!([{ "token": "a" }, { "end": "engine" }]))).await;
    assert_eq!(
        (told.ended.verdict, told.ended.attempts, told.lines),
        (Verdict::Failed, 2, vec!["a".into()])
    );
    assert!(told.ended.failure.unwrap().message.contains("no memory left"));
    assert_eq!(world.reported(), []);
}

#[tokio::test]
async fn an_island_that_stops_hands_the_job_on() {
    let world = World::new().await;
    let (first, second) = (world.island(1, "here"), world.island(2, "there"));
    let consumer = world.consumer();
    let input =
        steps(json!([{ "token": "a" }, { "token": "b" }, { "wait": 400 }, { "token": "c" }]));
    let mut running = consumer.submit("say", input).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Update::Event(event) = running.updates.recv().await.unwrap() {
            seen.push(super::world::text(&event));
        }
    }
    world.unplug(first.node);
    first.tasks.stop().await;
    assert_eq!(first.runtime.running.load(Ordering::SeqCst), 0);
    let told = follow(running).await;
    assert_eq!((seen, told.lines), (vec!["a".into(), "b".into()], vec!["c".into(), ".".into()]));
    assert_eq!((told.ended.verdict, told.ended.attempts), (Verdict::Completed, 2));
    assert_eq!(told.nodes, [second.node]);
    // Both attempts were given the same time and randomness.
    assert_eq!(*first.runtime.seeds.lock().unwrap(), *second.runtime.seeds.lock().unwrap());
    until("countersigned", || second.island.metrics().countersigned.get() == 1).await;
    second.island.stop().await;
    let standing = world.ledger.standing(second.account).await.unwrap();
    assert_eq!((standing.jobs, world.ledger.standing(first.account).await.unwrap().jobs), (1, 0));
    assert_eq!(world.reported(), []);
}

#[tokio::test]
async fn a_cancel_stops_the_work_and_so_does_a_consumer_that_goes() {
    let world = World::new().await;
    let (island, consumer) = (world.island(1, "here"), world.consumer());
    let hang = || steps(json!([{ "token": "a" }, { "hang": true }]));
    let is_running = |n| island.runtime.running.load(Ordering::SeqCst) == n;

    let mut running = consumer.submit("say", hang()).await;
    while !matches!(running.updates.recv().await.unwrap(), Update::Event(_)) {}
    let began = Instant::now();
    running.cancel.cancel();
    let told = follow(running).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(
        (told.ended.verdict, told.ended.failure.map(|f| f.step)),
        (Verdict::Cancelled, Some(Step::Cancelled))
    );
    // Something was delivered, so the job is charged.
    assert_eq!((told.ended.price, told.ended.attempts), (credits("0.01"), 1));
    until("it stopped", || is_running(0) && island.island.active_jobs() == 0).await;

    let running = consumer.submit("say", hang()).await;
    until("it runs", || is_running(1)).await;
    drop(running);
    until("it stopped", || is_running(0) && island.island.active_jobs() == 0).await;

    let running = consumer.submit("say", steps(json!([{ "hang": true }]))).await;
    until("it runs", || is_running(1)).await;
    running.cancel.cancel();
    let told = follow(running).await;
    assert_eq!((told.ended.verdict, told.ended.price), (Verdict::Cancelled, Credits::ZERO));
    assert_eq!(world.reported(), []);
}

#[tokio::test]
async fn a_slow_reader_slows_the_cargo_and_is_not_taken_for_a_lost_island() {
    let world = World::new().await;
    let (island, consumer) = (world.island(1, "here"), world.consumer());
    let word = "x".repeat(500);
    let many = vec![json!({ "token": word }); 600];
    let mut running = consumer.submit("say", steps(json!(many))).await;
    // Three times the silence after which an Island counts as lost. Meanwhile the queues are full
    // and the Cargo waits: it has not ended.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(island.runtime.running.load(Ordering::SeqCst), 1);
    let mut count = 0;
    while let Some(update) = running.updates.recv().await {
        match update {
            Update::Event(_) => count += 1,
            Update::Ended(ended) => {
                assert_eq!((ended.verdict, ended.attempts), (Verdict::Completed, 1))
            }
            Update::Started { .. } => {}
        }
    }
    assert_eq!(count, 601);
}

#[tokio::test]
async fn many_jobs_at_once_share_a_hold_and_none_is_refused_money() {
    let world = World::new().await;
    let island = world.island_on(&MemoryDisk::new(), 1, "here", |config| config.max_jobs = 64);
    let consumer = world.consumer();
    consumer.run("dear", steps(json!([]))).await;
    let jobs = (0..40).map(|n| {
        consumer.run("dear", steps(json!([{ "token": "a" }, { "wait": n % 7 }, { "token": "b" }])))
    });
    for told in futures::future::join_all(jobs).await {
        assert_eq!((told.ended.verdict, told.ended.attempts), (Verdict::Completed, 1), "{told:?}");
    }
    until("countersigned", || island.island.metrics().countersigned.get() == 41).await;
    island.island.stop().await;
    assert_eq!(world.ledger.standing(island.account).await.unwrap().jobs, 41);
    // 41 × 0.4 of which the Island gets 35 %.
    assert_eq!(world.balance(1).await, credits("5.74"));
    assert_eq!(world.reported(), []);
}

#[tokio::test]
async fn a_full_island_says_so_and_the_next_one_gets_the_job() {
    let world = World::new().await;
    let full = world.island_on(&MemoryDisk::new(), 1, "here", |config| config.max_jobs = 1);
    let other = world.island(2, "there");
    let consumer = world.consumer();
    let running = consumer.submit("say", steps(json!([{ "hang": true }]))).await;
    until("it runs", || full.island.active_jobs() == 1).await;
    let told = consumer.run("say", steps(json!([]))).await;
    assert_eq!((told.nodes, told.ended.attempts), (vec![other.node], 1));
    running.cancel.cancel();
    follow(running).await;
}

#[tokio::test]
async fn jobs_wait_for_room_and_say_so() {
    let world = World::new().await;
    let island = world.island_on(&MemoryDisk::new(), 1, "here", |config| config.max_jobs = 1);
    let consumer = world.consumer();
    let running = consumer.submit("say", steps(json!([{ "hang": true }]))).await;
    until("its advert says that it is full", || {
        let seen = world.view(100).islands();
        seen.iter().all(|seen| seen.advert.value.active_jobs == 1)
    })
    .await;
    let mut waiting = consumer.submit("say", steps(json!([{ "token": "a" }]))).await;
    let said = waiting.updates.recv().await;
    let Some(Update::Event(notice)) = &said else { panic!("{said:?}") };
    assert!(text(notice).contains("waiting for room"), "{notice:?}");
    let mut burst = Vec::new();
    for _ in 0..20 {
        burst.push(consumer.submit("say", steps(json!([{ "token": "a" }]))).await);
    }
    running.cancel.cancel();
    follow(running).await;
    for waited in std::iter::once(waiting).chain(burst) {
        let told = follow(waited).await;
        assert_eq!((told.ended.verdict, told.ended.attempts), (Verdict::Completed, 1), "{told:?}");
        assert_eq!(told.nodes, [island.node]);
    }
}

#[tokio::test]
async fn waiting_reserves_credits_with_one_island_alone() {
    let world = World::new().await;
    let islands: Vec<_> = (1..=5)
        .map(|n| world.island_on(&MemoryDisk::new(), n, "here", |config| config.max_jobs = 1))
        .collect();
    let busy = world.consumer();
    let mut running = Vec::new();
    for _ in &islands {
        running.push(busy.submit("say", steps(json!([{ "hang": true }]))).await);
    }
    until("all adverts say that they are full", || {
        let seen = world.view(100).islands();
        seen.iter().all(|seen| seen.advert.value.active_jobs == 1)
    })
    .await;
    let consumer = world.consumer_on(&MemoryDisk::new(), 50);
    let mut waiting = consumer.submit("say", steps(json!([{ "token": "a" }]))).await;
    let said = waiting.updates.recv().await;
    assert!(matches!(said, Some(Update::Event(_))), "{said:?}");
    assert_eq!(consumer.consumer.metrics().holds_opened.get(), 1);
    for job in running {
        job.cancel.cancel();
        follow(job).await;
    }
    let told = follow(waiting).await;
    assert_eq!((told.ended.verdict, told.ended.attempts), (Verdict::Completed, 1));
}

#[tokio::test]
async fn a_job_that_waits_ends_when_nobody_wants_it_or_its_island_goes() {
    let world = World::new().await;
    let island = world.island_on(&MemoryDisk::new(), 1, "here", |config| config.max_jobs = 1);
    let consumer = world.consumer();
    let running = consumer.submit("say", steps(json!([{ "hang": true }]))).await;
    until("it runs", || island.island.active_jobs() == 1).await;
    let unwanted = consumer.submit("say", steps(json!([]))).await;
    unwanted.cancel.cancel();
    assert_eq!(follow(unwanted).await.ended.verdict, Verdict::Cancelled);
    let stranded = consumer.submit("say", steps(json!([]))).await;
    world.unplug(island.node);
    let ended = follow(stranded).await.ended;
    let failure = ended.failure.expect("a reason");
    assert_eq!((ended.verdict, failure.step), (Verdict::Failed, Step::NoIsland));
    running.cancel.cancel();
    follow(running).await;
}

async fn one(consumer: &ConsumerNode) {
    let told = consumer.run("dear", steps(json!([{ "token": "a" }]))).await;
    assert_eq!((told.ended.verdict, told.ended.attempts), (Verdict::Completed, 1), "{told:?}");
}

#[tokio::test]
async fn restarts_lose_neither_holds_nor_receipts() {
    let world = World::new().await;
    let (of_consumer, of_island) = (MemoryDisk::new(), MemoryDisk::new());
    let island = world.island_on(&of_island, 1, "here", |_| {});
    for start in 0..3 {
        let consumer = world.consumer_on(&of_consumer, 1 + start * 10);
        one(&consumer).await;
        one(&consumer).await;
        assert_eq!(consumer.consumer.metrics().holds_opened.get(), u64::from(start == 0));
        let signed = (u64::from(start) + 1) * 2;
        until("countersigned", || island.island.metrics().countersigned.get() == signed).await;
        consumer.tasks.stop().await;
    }
    until("on disk", || island.island.unsettled() == 6).await;
    // The ledger is out of reach of an Island that is killed: nothing is settled.
    let metrics = island.island.metrics().settled.get();
    assert_eq!(metrics, 0);
    let copy = of_island.clone();
    world.unplug(island.node);
    drop(island.island);
    island.tasks.stop().await;
    let again = world.island_on(&copy, 1, "here", |config| {
        config.settle_interval = Duration::from_millis(5);
    });
    let consumer = world.consumer_on(&of_consumer, 91);
    one(&consumer).await;
    until("settled", || again.island.metrics().countersigned.get() == 1).await;
    again.island.stop().await;
    assert_eq!(world.ledger.standing(again.account).await.unwrap().jobs, 7);
    assert_eq!(world.balance(1).await, credits("0.98"));
}
