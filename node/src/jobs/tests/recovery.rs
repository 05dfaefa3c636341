//! What a start of the node does with what an earlier run left behind.

use super::{disk::healthy, life::receipt, *};
use crate::{disk::flaky::FlakyDisk, jobs::store::Op};
use archipelag_protocol::pricing::Metering;

fn asked_for(submission: Submission) -> (AccountId, Request) {
    let version = Some("1.2.3".parse().unwrap());
    (submission.account, Request { version, ..submission.request })
}

/// A job with everything that can be asked for.
fn particular() -> Submission {
    let mut submission = keyed(ALICE, "k", 1);
    submission.request.regions = RegionPolicy::Only(vec!["eu".into(), "us".into()]);
    submission.request.bid_percent = Some(130);
    submission.request.wait_s = Some(7);
    submission
}

#[tokio::test]
async fn a_job_that_had_not_begun_runs_after_a_power_cut() {
    let disk = FlakyDisk::default();
    let mut world = World::on(disk.shared(), Config::default()).await;
    let (job, _waits) = world.start(particular()).await;
    for _ in 0..2 {
        disk.cut_power(|_| false);
        world.kill().await;
        world = World::on(disk.shared(), Config::default()).await;
        assert_eq!(world.get(ALICE, job.head.id).await.head, job.head);
        assert_eq!(world.book.metrics().unfinished.get(), 1);
    }
    let asked = world.asked().await;
    assert_eq!((asked.payer, asked.request.clone()), asked_for(particular()));
    assert_eq!(asked.id, job.head.id);
    // A node that has just started knows nobody yet.
    asked.refuse();
    let cargo = world.asked().await.take_on();
    assert_eq!(cargo.id, job.head.id);
    let (again, existed) = soon(world.book.submit(particular())).await.unwrap();
    assert!(existed && again.head.id == job.head.id);
    cargo.started(0).await;
    cargo.token("x").await;
    cargo.end(Verdict::Completed).await;
    assert_eq!(world.lines(ALICE, job.head.id).await.len(), 3);
    let job = world.get(ALICE, job.head.id).await;
    assert_eq!((job.head.status, job.output.as_deref()), (Status::Completed, Some("x")));
    assert!(world.asked.try_recv().is_err(), "it ran once more");
}

#[tokio::test]
async fn a_job_that_had_not_begun_when_its_node_was_stopped_runs_at_the_next_start() {
    let disk = Arc::new(MemoryDisk::new());
    let mut world = World::on(disk.clone(), Config::default()).await;
    let (job, cargo) = world.start(particular()).await;
    let events = world.book.events(ALICE, job.head.id, 0).unwrap();
    let (cancelled, cancelled_cargo) = world.start(job_of(ALICE)).await;
    let (book, id) = (world.book.clone(), cancelled.head.id);
    let cancelling = tokio::spawn(async move { book.cancel(ALICE, id).await });
    soon(cancelled_cargo.cancel.cancelled()).await;
    let ends = tokio::spawn(async move {
        soon(cargo.cancel.cancelled()).await;
        cargo.end(Verdict::Cancelled).await;
        drop(cancelled_cargo);
    });
    world.stop().await;
    soon(ends).await.unwrap();
    assert_eq!(read(events).await, [], "its stream said that it had ended");
    soon(cancelling).await.unwrap().unwrap();
    let mut world = World::on(disk, Config::default()).await;
    // What its owner has cancelled does not run again.
    assert_eq!(world.get(ALICE, id).await.head.status, Status::Cancelled);
    let asked = world.asked().await;
    assert_eq!((asked.id, asked.payer), (job.head.id, ALICE));
    asked.take_on().end(Verdict::Completed).await;
    assert_eq!(world.lines(ALICE, job.head.id).await.len(), 1);
    assert!(world.asked.try_recv().is_err());
}

/// Its Consumer has said that it waits, and may or may not get to say that it is over.
#[tokio::test]
async fn a_job_that_waited_for_room_when_its_node_was_stopped_runs_at_the_next_start() {
    let notice = r#"{"type":"status","message":"waiting for room"}"#;
    for says in [true, false] {
        let disk = Arc::new(MemoryDisk::new());
        let mut world = World::on(disk.clone(), Config::default()).await;
        let (job, cargo) = world.start(job_of(ALICE)).await;
        let events = world.book.events(ALICE, job.head.id, 0).unwrap();
        cargo.event(notice).await;
        let ends = tokio::spawn(async move {
            soon(cargo.cancel.cancelled()).await;
            if says {
                cargo.end(Verdict::Cancelled).await;
            }
        });
        world.stop().await;
        soon(ends).await.unwrap();
        assert_eq!(read(events).await, [], "a reader would not see the next run's first event");
        let mut world = World::on(disk, Config::default()).await;
        let cargo = world.asked().await.take_on();
        assert_eq!(cargo.id, job.head.id);
        cargo.event(notice).await;
        cargo.started(0).await;
        // After a failover it waits again; that is said where it happened.
        cargo.event(notice).await;
        cargo.end(Verdict::Completed).await;
        let lines = world.lines(ALICE, job.head.id).await;
        assert_eq!((lines.len(), &value(&lines[0])["message"]), (3, &json!("running")), "{says}");
        assert_eq!(lines[1], notice);
    }
}

#[tokio::test]
async fn a_job_that_ended_without_an_island_as_its_node_stopped_says_why() {
    let mut world = World::new(Config::default()).await;
    let (job, cargo) = world.start(job_of(ALICE)).await;
    let failure = Failure::new(Step::NoIsland, "no Island is left for it; none was found");
    let why = failure.to_string();
    let ends = tokio::spawn(async move {
        soon(cargo.cancel.cancelled()).await;
        cargo.send(Update::Ended(ended(Verdict::Failed, Some(failure)))).await;
    });
    let book = world.book.clone();
    world.stop().await;
    soon(ends).await.unwrap();
    let head = soon(book.get(ALICE, job.head.id)).await.unwrap().unwrap().head;
    assert_eq!((head.status, head.step), (Status::Failed, Some(Step::NoIsland)));
    assert_eq!(head.error, Some(why));
}

#[tokio::test]
async fn a_job_whose_input_was_damaged_is_not_run() {
    let disk = Arc::new(MemoryDisk::new());
    let mut world = World::on(disk.clone(), Config::default()).await;
    let (job, _waits) = world.start(job_of(ALICE)).await;
    let damage = vec![Op::Input(job.head.id, "{".into())];
    soon(world.book.inner.store.commit(damage)).await.unwrap();
    world.kill().await;
    let mut world = World::on(disk, Config::default()).await;
    let head = world.get(ALICE, job.head.id).await.head;
    assert_eq!((head.status, head.step), (Status::Failed, Some(Step::Lost)));
    let why = "lost: the node was stopped before the job ran, and its input can't be read";
    assert_eq!(head.error.as_deref(), Some(why));
    assert!(world.asked.try_recv().is_err());
}

#[tokio::test]
async fn a_job_that_waits_to_be_run_again_can_be_cancelled() {
    let disk = Arc::new(MemoryDisk::new());
    let mut world = World::on(disk.clone(), Config::default()).await;
    let (job, _waits) = world.start(job_of(ALICE)).await;
    world.kill().await;
    let mut world = World::on(disk, Config::default()).await;
    world.asked().await.refuse();
    let cancelled = soon(world.book.cancel(ALICE, job.head.id)).await.unwrap().unwrap();
    assert_eq!(cancelled.head.status, Status::Cancelled);
    assert_eq!(cancelled.head.error.as_deref(), Some("cancelled: cancelled by its owner"));
}

/// The Consumer knows what it signed, whether or not the book knows that the job had begun.
#[tokio::test]
async fn a_job_that_was_paid_for_is_lost_at_its_price() {
    let (disk, receipts) = (Arc::new(MemoryDisk::new()), Receipts::default());
    let mut world = World::with(receipts.clone(), disk.clone(), Config::default()).await;
    let (unknown, _one) = world.start(job_of(ALICE)).await;
    let (begun, two) = world.start(job_of(ALICE)).await;
    two.started(0).await;
    two.token("x").await;
    world.complete(job_of(BOB), "later").await;
    for id in [unknown.head.id, begun.head.id] {
        receipts.lock().unwrap().insert(id, receipt(id));
    }
    world.kill().await;
    for _ in 0..2 {
        let mut world = World::with(receipts.clone(), disk.clone(), Config::default()).await;
        for id in [unknown.head.id, begun.head.id] {
            let head = world.get(ALICE, id).await.head;
            assert_eq!((head.status, head.step), (Status::Failed, Some(Step::Lost)));
            let why = "lost: the node was stopped while the job ran; 1.5 credits were paid for it";
            assert_eq!(head.error.as_deref(), Some(why));
            assert_eq!(head.usage.charged, Credits::from_micro(1_500_000));
            assert_eq!((head.usage.completion_tokens, &head.receipt), (2, &Some(receipt(id))));
            let lines = world.lines(ALICE, id).await;
            assert_eq!(value(&lines[0])["usage"]["credits_used"], json!(1.5));
        }
        assert!(world.asked.try_recv().is_err(), "it ran again");
        world.stop().await;
        // The second start finds it settled, also when the Consumer has forgotten it.
        receipts.lock().unwrap().clear();
    }
}

/// Whatever end a job comes to, it shows what was signed.
#[tokio::test]
async fn a_job_whose_consumer_goes_silent_shows_what_was_signed() {
    let (disk, receipts) = (Arc::new(MemoryDisk::new()), Receipts::default());
    let mut world = World::with(receipts.clone(), disk, Config::default()).await;
    let (job, cargo) = world.start(job_of(ALICE)).await;
    receipts.lock().unwrap().insert(job.head.id, receipt(job.head.id));
    drop(cargo);
    world.lines(ALICE, job.head.id).await;
    let head = world.get(ALICE, job.head.id).await.head;
    assert_eq!((head.status, head.step), (Status::Failed, Some(Step::Lost)));
    assert_eq!(head.usage.charged, Credits::from_micro(1_500_000));

    let (job, cargo) = world.start(job_of(ALICE)).await;
    cargo.started(0).await;
    let (price, metering) = (Credits::from_micro(5), Metering { tokens: 1, duration_ms: 1 });
    let ends = tokio::spawn(async move {
        soon(cargo.cancel.cancelled()).await;
        let ended = Ended { price, metering, ..ended(Verdict::Cancelled, None) };
        cargo.send(Update::Ended(ended)).await;
    });
    let book = world.book.clone();
    world.stop().await;
    soon(ends).await.unwrap();
    let head = soon(book.get(ALICE, job.head.id)).await.unwrap().unwrap().head;
    assert_eq!((head.status, head.usage.charged), (Status::Failed, price));
    assert!(head.error.is_some_and(|why| why.ends_with("; 0.000005 credits were paid for it")));
}

/// What its client was told is refused must not run after all, also when the disk fails just then.
#[tokio::test]
async fn a_refused_job_does_not_run_after_a_power_cut() {
    let disk = FlakyDisk::default();
    let mut world = World::on(disk.shared(), Config::default()).await;
    for (submission, fails) in
        [(job_of(ALICE), false), (job_of(ALICE), true), (keyed(ALICE, "k", 1), true)]
    {
        let book = world.book.clone();
        let client = tokio::spawn(async move { book.submit(submission).await });
        let asked = world.asked().await;
        // A later write that is durable: so is the job's record.
        world.complete(job_of(BOB), "later").await;
        if fails {
            disk.break_after(0);
        }
        asked.refuse();
        let refused = soon(client).await.unwrap();
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        assert_eq!(world.book.failure().is_some(), fails);
        disk.mend();
        healthy(&world).await;
        disk.cut_power(|_| false);
        world.kill().await;
        world = World::on(disk.shared(), Config::default()).await;
        assert_eq!(world.total(ALICE).await, 0, "{fails}");
        assert_eq!(world.book.metrics().unfinished.get(), 0);
    }
}
