//! Restarts, power cuts, and a disk that fails.

use super::*;
use crate::disk::flaky::FlakyDisk;

#[tokio::test]
async fn finished_jobs_outlive_the_node_byte_for_byte() {
    let disk = Arc::new(MemoryDisk::new());
    let mut world = World::on(disk.clone(), Config::default()).await;
    let mut before = Vec::new();
    for (verdict, tokens) in
        [(Verdict::Completed, 40), (Verdict::Timeout, 3), (Verdict::Cancelled, 2)]
    {
        let (job, cargo) = world.start(job_of(ALICE)).await;
        cargo.started(0).await;
        for _ in 0..tokens {
            // Some chunks of events.
            cargo.token(&"🏝\n\"".repeat(4_000)).await;
        }
        cargo.end(verdict).await;
        let lines = world.lines(ALICE, job.head.id).await;
        assert_eq!(lines.len(), tokens + 2);
        before.push((world.get(ALICE, job.head.id).await, lines));
    }
    assert_eq!(before[0].0.output, Some("🏝\n\"".repeat(160_000)));
    world.stop().await;
    let world = World::on(disk, Config::default()).await;
    assert!(world.book.failure().is_none());
    for (job, lines) in before {
        let found = world.get(ALICE, job.head.id).await;
        assert_eq!(found.head, job.head);
        assert_eq!((found.input, found.output), (job.input, job.output));
        assert_eq!(world.lines(ALICE, job.head.id).await, lines);
        for from in [1, 17, lines.len() - 1, lines.len()] {
            let rest = read(world.book.events(ALICE, job.head.id, from as u64).unwrap()).await;
            let expected = lines.iter().enumerate().skip(from).map(|(n, l)| (n as u64, l.clone()));
            assert_eq!(rest, expected.collect::<Vec<_>>(), "from {from}");
        }
    }
}

#[tokio::test]
async fn a_node_that_stops_settles_its_jobs_as_lost() {
    let disk = Arc::new(MemoryDisk::new());
    let mut world = World::on(disk.clone(), Config::default()).await;
    let (polite, cargo) = world.start(job_of(ALICE)).await;
    let (silent, silently) = world.start(job_of(ALICE)).await;
    silently.started(0).await;
    cargo.started(0).await;
    cargo.token("part").await;
    let ends = tokio::spawn(async move {
        soon(cargo.cancel.cancelled()).await;
        cargo.end(Verdict::Cancelled).await;
    });
    let book = world.book.clone();
    world.stop().await;
    soon(ends).await.unwrap();
    let refused = soon(book.submit(job_of(ALICE))).await;
    assert!(matches!(refused, Err(Error::Stopping)), "{refused:?}");
    drop(book);
    let world = World::on(disk, Config::default()).await;
    assert_eq!(world.total(ALICE).await, 2);
    for (id, events) in [(polite.head.id, 3), (silent.head.id, 1)] {
        let lines = world.lines(ALICE, id).await;
        assert_eq!(lines.len(), events);
        assert_lost(&world.get(ALICE, id).await, &lines);
    }
}

/// However much an Island goes on sending.
#[tokio::test]
async fn a_job_that_will_not_end_does_not_hold_up_the_stop() {
    let config = Config { events_per_job: 2, ..Config::default() };
    let mut world = World::new(config).await;
    let (_, cargo) = world.start(job_of(ALICE)).await;
    let flood = tokio::spawn(async move {
        let event = || Update::Event(Event::Token { content: "x".into() });
        while cargo.updates.send(event()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    let begun = std::time::Instant::now();
    world.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    soon(flood).await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut() {
    let disk = FlakyDisk::default();
    let mut world = World::on(disk.shared(), Config::default()).await;
    let ended = world.complete(job_of(ALICE), "kept").await;
    let lines = world.lines(ALICE, ended).await;
    for submission in [job_of(ALICE), keyed(ALICE, "k", 1)] {
        let (job, cargo) = world.start(submission).await;
        cargo.started(0).await;
        // A later write that is durable: so is that the job has begun.
        world.complete(job_of(BOB), "later").await;
        disk.cut_power(|_| false);
        world.kill().await;
        world = World::on(disk.shared(), Config::default()).await;
        let found = world.get(ALICE, job.head.id).await;
        assert_eq!(found.input.as_deref(), Some(r#"{"prompt":"hi"}"#));
        assert!(found.head.place.is_some(), "it is not known where it ran");
        assert_lost(&found, &world.lines(ALICE, job.head.id).await);
        assert!(world.asked.try_recv().is_err(), "it ran again");
    }
    // What was settled so is written down: the next start finds it ended.
    let (job, existed) = soon(world.book.submit(keyed(ALICE, "k", 1))).await.unwrap();
    assert!(existed);
    disk.cut_power(|_| false);
    world.kill().await;
    let mut world = World::on(disk.shared(), Config::default()).await;
    assert_eq!(world.get(ALICE, job.head.id).await.head, job.head);
    assert_eq!(world.lines(ALICE, ended).await, lines);
    assert_eq!(world.get(ALICE, ended).await.output.as_deref(), Some("kept"));
    assert_eq!(world.total(ALICE).await, 3);
    // It has a number of its own.
    let newest = world.complete(job_of(ALICE), "new").await;
    let (jobs, _) = soon(world.book.list(ALICE, 1, 0)).await.unwrap();
    assert_eq!(jobs[0].head.id, newest);
}

/// A job that readers saw the end of is on disk as they saw it.
#[tokio::test]
async fn an_end_that_was_seen_survives_a_power_cut() {
    let disk = FlakyDisk::default();
    let mut world = World::on(disk.shared(), Config::default()).await;
    let (job, cargo) = world.start(job_of(ALICE)).await;
    let events = world.book.events(ALICE, job.head.id, 0).unwrap();
    cargo.token("x").await;
    cargo.end(Verdict::Completed).await;
    let seen: Vec<_> = read(events).await.into_iter().map(|event| event.1).collect();
    disk.cut_power(|_| false);
    world.kill().await;
    let world = World::on(disk.shared(), Config::default()).await;
    assert_eq!(world.lines(ALICE, job.head.id).await, seen);
    assert_eq!(world.get(ALICE, job.head.id).await.head.status, Status::Completed);
}

/// The record is on disk before the Consumer is asked: whatever happens then, the client's next
/// attempt with the same key does not make the job run a second time.
#[tokio::test]
async fn a_key_never_lets_a_job_run_twice() {
    let disk = FlakyDisk::default();
    let mut world = World::on(disk.shared(), Config::default()).await;
    let book = world.book.clone();
    let client = tokio::spawn(async move { book.submit(keyed(ALICE, "k", 1)).await });
    let asked = world.asked().await;
    disk.cut_power(|_| false);
    client.abort();
    let _left = client.await;
    world.kill().await;
    let mut world = World::on(disk.shared(), Config::default()).await;
    let (job, existed) = soon(world.book.submit(keyed(ALICE, "k", 1))).await.unwrap();
    assert!(existed && job.head.id == asked.id);
    // As nothing had begun, this start runs it: once, and under its own id.
    let cargo = world.asked().await.take_on();
    assert_eq!(cargo.id, asked.id);
    cargo.end(Verdict::Completed).await;
    world.lines(ALICE, job.head.id).await;
    assert!(world.asked.try_recv().is_err());
}

/// Waits until the book says that its disk works.
pub(super) async fn healthy(world: &World) {
    let wait = async {
        while world.book.failure().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(wait).await;
}

/// Waits until the disk has refused `more` changes.
async fn refuses(disk: &FlakyDisk, more: usize) {
    let most = disk.refused() + more;
    let wait = async {
        while disk.refused() < most {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(wait).await;
}

#[tokio::test]
async fn a_disk_that_fails_and_works_again() {
    let disk = FlakyDisk::default();
    let mut world = World::on(disk.shared(), Config::default()).await;
    let before = world.complete(job_of(ALICE), "before").await;
    let (running, cargo) = world.start(job_of(ALICE)).await;
    assert!(world.book.failure().is_none());

    disk.break_after(0);
    let refused = world.refusal(keyed(ALICE, "k", 1)).await;
    assert!(matches!(refused, Error::Store(_)), "{refused:?}");
    let refused = refused.to_string();
    assert!(refused.contains("no space left"), "{refused}");
    assert_eq!(refused.matches("the job store does not accept writes").count(), 1, "{refused}");
    assert!(world.book.failure().is_some_and(|why| why.contains("no space left")));
    assert!(world.asked.try_recv().is_err(), "the Consumer was asked before the key was on disk");
    assert_eq!(world.total(ALICE).await, 2);
    // What can't be written stays in memory.
    cargo.token("during").await;
    cargo.end(Verdict::Completed).await;
    assert_eq!(world.lines(ALICE, running.head.id).await.len(), 2);
    let job = world.get(ALICE, running.head.id).await;
    assert_eq!((job.head.status, job.output.as_deref()), (Status::Completed, Some("during")));
    assert!(world.book.failure().is_some());

    disk.mend();
    // By itself: nobody sends jobs to a node that is not ready.
    healthy(&world).await;
    assert_eq!(world.get(ALICE, before).await.output.as_deref(), Some("before"));
    assert_eq!(world.lines(ALICE, before).await.len(), 2);
    let after = world.complete(keyed(ALICE, "k", 2), "after").await;
    assert_eq!(world.total(ALICE).await, 3);
    world.stop().await;
    let world = World::on(disk.shared(), Config::default()).await;
    for (id, output) in [(before, "before"), (running.head.id, "during"), (after, "after")] {
        let job = world.get(ALICE, id).await;
        assert_eq!((job.head.status, job.output.as_deref()), (Status::Completed, Some(output)));
    }
}

/// Submits a job that the Consumer refuses to a node whose disk fails after `operations`, mends the
/// disk and starts the node anew. Says whether the disk failed.
async fn refused_on_a_failing_disk(submission: Submission, operations: u64, stops: bool) -> bool {
    let disk = FlakyDisk::default();
    let mut world = World::on(disk.shared(), Config::default()).await;
    disk.break_after(operations);
    let (book, asks) = (world.book.clone(), submission.clone());
    let mut client = tokio::spawn(async move { book.submit(asks).await.err() });
    let refused = tokio::select! {
        refused = &mut client => refused.unwrap(),
        asked = world.asked() => {
            asked.refuse();
            soon(client).await.unwrap()
        }
    };
    assert!(refused.is_some());
    let failed = world.book.failure().is_some();
    disk.mend();
    if stops {
        world.stop().await;
    } else {
        healthy(&world).await;
        disk.cut_power(|_| false);
        world.kill().await;
    }
    world = World::on(disk.shared(), Config::default()).await;
    assert_eq!(world.total(ALICE).await, 0, "{operations}: {refused:?}");
    // Nor does its key stand for what never was.
    world.complete(submission, "x").await;
    failed
}

/// Whichever operation it is that fails first, of the record's write or of its removal: after a
/// failure the record may be on disk or not.
#[tokio::test]
async fn a_refused_job_never_runs_wherever_the_disk_failed() {
    for submission in [job_of(ALICE), keyed(ALICE, "k", 1)] {
        for stops in [false, true] {
            let one = |operations| refused_on_a_failing_disk(submission.clone(), operations, stops);
            let failed = futures::future::join_all((0..40).map(one)).await;
            assert!(failed[..12].iter().all(|failed| *failed), "{failed:?}");
            assert!(!failed[39], "the removal was not reached");
        }
    }
}

/// The first is refused before the Consumer hears of it: nobody pays for what has no record. Each
/// of the others would leave something to be undone, and there is no room for as many as may come.
#[tokio::test]
async fn a_disk_that_fails_takes_no_jobs_on() {
    let disk = FlakyDisk::default();
    let mut world = World::on(disk.shared(), Config::default()).await;
    disk.break_after(0);
    for submission in [job_of(ALICE), job_of(ALICE), keyed(ALICE, "k", 1)] {
        let refused = world.refusal(submission).await;
        assert!(matches!(refused, Error::Store(_)), "{refused:?}");
    }
    assert!(world.asked.try_recv().is_err(), "the Consumer was asked");
    disk.mend();
    healthy(&world).await;
    let id = world.complete(keyed(ALICE, "k", 1), "x").await;
    // Of those that were refused the first alone had a place in the book.
    assert_eq!(world.get(ALICE, id).await.head.number, 2);
}

/// An end that the disk refused is written when it works again, and frees what it held in memory.
#[tokio::test]
async fn an_end_that_could_not_be_written_is_tried_again() {
    let disk = FlakyDisk::default();
    let config = Config { kept_per_account: 1, ..Config::default() };
    let mut world = World::on(disk.shared(), config.clone()).await;
    let (first, one) = world.start(job_of(ALICE)).await;
    let (second, two) = world.start(job_of(ALICE)).await;
    disk.break_after(0);
    let mut seen = Vec::new();
    for (job, cargo) in [(&first, one), (&second, two)] {
        cargo.token("x").await;
        cargo.end(Verdict::Completed).await;
        seen = world.lines(ALICE, job.head.id).await;
    }
    // Neither is on disk: neither may be forgotten, and both keep their places.
    assert_eq!(world.total(ALICE).await, 2);
    assert_eq!(world.book.inner.index().unfinished(), 2);
    let held = || world.book.inner.event_bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert!(held() > 0);
    // More often than once.
    refuses(&disk, 8).await;
    disk.mend();
    let freed = async {
        while held() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(freed).await;
    assert_eq!((world.total(ALICE).await, world.book.metrics().unfinished.get()), (1, 0));
    disk.cut_power(|_| false);
    world.kill().await;
    let world = World::on(disk.shared(), config).await;
    let (jobs, _) = soon(world.book.list(ALICE, 9, 0)).await.unwrap();
    let found: Vec<_> = jobs.iter().map(|j| (j.head.status, j.output.as_deref())).collect();
    assert_eq!(found[0], (Status::Completed, Some("x")));
    assert_eq!(world.lines(ALICE, jobs[0].head.id).await, seen);
}

/// A disk that has no room for jobs has some for nothing at all.
#[tokio::test]
async fn a_full_disk_is_reported_until_a_job_fits() {
    let disk = FlakyDisk::default();
    let world = World::on(disk.shared(), Config::default()).await;
    let large = || {
        let mut submission = keyed(ALICE, "k", 1);
        submission.request.input = json!({ "prompt": "x".repeat(8 << 20) });
        submission
    };
    disk.fill();
    let refused = world.refusal(large()).await;
    assert!(matches!(refused, Error::Store(_)), "{refused:?}");
    // It is probed, and stays as it is.
    refuses(&disk, 2).await;
    assert!(world.book.failure().is_some_and(|why| why.contains("no space left")));
    disk.mend();
    healthy(&world).await;
    let mut world = world;
    world.complete(large(), "x").await;
}

/// That a job has begun is written as soon as the disk takes it: else the next start would run it
/// again.
#[tokio::test]
async fn that_a_job_has_begun_is_written_when_the_disk_works_again() {
    let disk = FlakyDisk::default();
    let mut world = World::on(disk.shared(), Config::default()).await;
    let (job, cargo) = world.start(job_of(ALICE)).await;
    disk.break_after(0);
    cargo.started(0).await;
    let failed = async {
        while world.book.failure().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(failed).await;
    disk.mend();
    healthy(&world).await;
    disk.cut_power(|_| false);
    world.kill().await;
    let mut world = World::on(disk.shared(), Config::default()).await;
    assert_lost(&world.get(ALICE, job.head.id).await, &world.lines(ALICE, job.head.id).await);
    assert!(world.asked.try_recv().is_err(), "it ran again");
}
