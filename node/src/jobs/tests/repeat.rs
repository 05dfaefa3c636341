//! Idempotency keys, refused submissions, and clients that leave.

use super::*;

/// Submits, and expects the job that the key stands for.
async fn again(world: &World, submission: Submission) -> Job {
    let (job, existed) = soon(world.book.submit(submission)).await.unwrap();
    assert!(existed);
    job
}

#[tokio::test]
async fn a_key_stands_for_one_job() {
    let disk = Arc::new(MemoryDisk::new());
    let mut world = World::on(disk.clone(), Config::default()).await;
    let (job, cargo) = world.start(keyed(ALICE, "k", 1)).await;
    let id = job.head.id;
    assert_eq!(again(&world, keyed(ALICE, "k", 1)).await.head.id, id);
    let other = world.refusal(keyed(ALICE, "k", 2)).await;
    assert!(matches!(other, Error::KeyReused), "{other:?}");
    // A key is its account's, and another key is another job.
    let bobs = world.complete(keyed(BOB, "k", 1), "bob").await;
    assert_ne!(world.complete(keyed(ALICE, "l", 1), "l").await, id);
    cargo.token("out").await;
    cargo.end(Verdict::Completed).await;
    world.lines(ALICE, id).await;

    world.stop().await;
    let world = World::on(disk.clone(), Config::default()).await;
    let job = again(&world, keyed(ALICE, "k", 1)).await;
    assert_eq!((job.head.id, job.output.as_deref()), (id, Some("out")));
    assert_eq!(again(&world, keyed(BOB, "k", 1)).await.head.id, bobs);
    let other = world.refusal(keyed(ALICE, "k", 2)).await;
    assert!(matches!(other, Error::KeyReused), "{other:?}");
    assert_eq!((world.total(ALICE).await, world.total(BOB).await), (2, 1));

    // Its life is over: a new job, with any body.
    world.stop().await;
    let config = Config { idempotency_life_ms: 0, ..Config::default() };
    let mut world = World::on(disk, config).await;
    assert_ne!(world.complete(keyed(ALICE, "k", 2), "new").await, id);
    assert_eq!(world.total(ALICE).await, 3);
}

#[tokio::test]
async fn a_key_whose_job_is_being_accepted_waits() {
    let mut world = World::new(Config::default()).await;
    let book = world.book.clone();
    let first = tokio::spawn(async move { book.submit(keyed(ALICE, "k", 1)).await });
    let asked = world.asked().await;
    let pending = world.refusal(keyed(ALICE, "k", 1)).await;
    assert!(matches!(pending, Error::KeyInProgress), "{pending:?}");
    let other = world.refusal(keyed(ALICE, "k", 2)).await;
    assert!(matches!(other, Error::KeyReused), "{other:?}");
    let _cargo = asked.take_on();
    let (job, existed) = soon(first).await.unwrap().unwrap();
    assert!(!existed);
    assert_eq!(again(&world, keyed(ALICE, "k", 1)).await.head.id, job.head.id);
    assert_eq!(world.total(ALICE).await, 1);
}

#[tokio::test]
async fn of_two_requests_with_one_key_one_runs() {
    let mut world = World::new(Config::default()).await;
    let submit = || {
        let book = world.book.clone();
        tokio::spawn(async move { book.submit(keyed(ALICE, "k", 1)).await })
    };
    let both = [submit(), submit()];
    let _cargo = world.asked().await.take_on();
    let mut taken = 0;
    for one in both {
        match soon(one).await.unwrap() {
            Ok((_, existed)) => taken += usize::from(!existed),
            Err(error) => assert!(matches!(error, Error::KeyInProgress), "{error:?}"),
        }
    }
    assert_eq!(taken, 1);
    assert_eq!(world.total(ALICE).await, 1);
    assert!(world.asked.try_recv().is_err());
}

#[tokio::test]
async fn the_oldest_keys_make_room() {
    let config = Config { idempotency_per_account: 2, ..Config::default() };
    let disk = Arc::new(MemoryDisk::new());
    let mut world = World::on(disk.clone(), config).await;
    let mut jobs = Vec::new();
    for (number, key) in (1..).zip(["z", "y", "x"]) {
        jobs.push(world.complete(keyed(ALICE, key, 1), "x").await);
        // Keys that were made in one millisecond have no order.
        let made = world.get(ALICE, jobs[number - 1]).await.head.created;
        while crate::mesh::now() == made {
            tokio::task::yield_now().await;
        }
    }
    world.stop().await;
    let mut world = World::on(disk, Config::default()).await;
    assert_eq!(again(&world, keyed(ALICE, "x", 1)).await.head.id, jobs[2]);
    assert_eq!(again(&world, keyed(ALICE, "y", 1)).await.head.id, jobs[1]);
    assert!(!jobs.contains(&world.complete(keyed(ALICE, "z", 1), "x").await));
}

#[tokio::test]
async fn a_key_outlives_its_job() {
    let config = Config { kept_per_account: 1, ..Config::default() };
    let disk = Arc::new(MemoryDisk::new());
    let mut world = World::on(disk.clone(), config.clone()).await;
    let first = world.complete(keyed(ALICE, "k", 1), "x").await;
    world.complete(job_of(ALICE), "x").await;
    assert!(soon(world.book.get(ALICE, first)).await.unwrap().is_none());
    for restarted in [false, true] {
        if restarted {
            world.stop().await;
            world = World::on(disk.clone(), config.clone()).await;
        }
        let refused = world.refusal(keyed(ALICE, "k", 1)).await;
        assert!(matches!(refused, Error::KeyOutlivedJob), "{refused:?}");
        let other = world.refusal(keyed(ALICE, "k", 2)).await;
        assert!(matches!(other, Error::KeyReused), "{other:?}");
        assert!(world.asked.try_recv().is_err(), "it ran again");
    }
}

#[tokio::test]
async fn what_is_not_taken_on_is_counted() {
    let config = Config { unfinished_per_account: 1, ..Config::default() };
    let mut world = World::new(config).await;
    let counted = |world: &World| world.book.metrics().refused.get();
    let mut unknown = job_of(ALICE);
    unknown.request.slug = "nothing".into();
    world.refusal(unknown).await;
    assert_eq!(counted(&world), 1);
    let book = world.book.clone();
    let (result, ()) =
        tokio::join!(soon(book.submit(job_of(ALICE))), async { world.asked().await.refuse() });
    assert!(result.is_err());
    assert_eq!(counted(&world), 2);
    let (_, _running) = world.start(keyed(ALICE, "k", 1)).await;
    assert_eq!(counted(&world), 2);
    world.refusal(job_of(ALICE)).await;
    assert_eq!(counted(&world), 3);
    world.refusal(keyed(ALICE, "k", 2)).await;
    assert_eq!(counted(&world), 4);
}

#[tokio::test]
async fn refused_submissions_leave_nothing() {
    let disk = Arc::new(MemoryDisk::new());
    let config = Config { unfinished_per_account: 1, ..Config::default() };
    let mut world = World::on(disk.clone(), config.clone()).await;
    let mut unknown = keyed(ALICE, "k", 1);
    unknown.request.slug = "nothing".into();
    let refused = world.refusal(unknown).await;
    assert!(matches!(refused, Error::Refused(Refused::UnknownCargo(_))), "{refused:?}");
    let mut ids = Vec::new();
    for submission in [job_of(ALICE), keyed(ALICE, "k", 2), keyed(ALICE, "k", 3)] {
        let book = world.book.clone();
        let (result, id) = tokio::join!(soon(book.submit(submission)), async {
            let asked = world.asked().await;
            let id = asked.id;
            asked.refuse();
            id
        });
        let refused = result.expect_err("it was taken on");
        assert!(matches!(refused, Error::Refused(Refused::NoIsland { .. })), "{refused:?}");
        ids.push(id);
    }
    for restarted in [false, true] {
        if restarted {
            world.stop().await;
            world = World::on(disk.clone(), config.clone()).await;
        }
        assert_eq!(world.total(ALICE).await, 0, "{restarted}");
        assert_eq!(world.book.metrics().unfinished.get(), 0);
        for id in &ids {
            assert!(soon(world.book.get(ALICE, *id)).await.unwrap().is_none());
            assert!(world.book.events(ALICE, *id, 0).is_none());
        }
    }
    // Neither the key nor the place is taken.
    world.complete(keyed(ALICE, "k", 4), "x").await;
    world.complete(keyed(ALICE, "k2", 4), "x").await;
}

#[tokio::test]
async fn a_client_that_leaves_during_submission_leaves_a_whole_job_or_none() {
    let disk = Arc::new(MemoryDisk::new());
    let mut world = World::on(disk.clone(), Config::default()).await;
    let leave = async |world: &mut World, key: &str| {
        let (book, submission) = (world.book.clone(), keyed(ALICE, key, 1));
        let client = tokio::spawn(async move { book.submit(submission).await });
        let asked = world.asked().await;
        client.abort();
        assert!(client.await.unwrap_err().is_cancelled());
        asked
    };
    let asked = leave(&mut world, "stays").await;
    let id = asked.id;
    let events = world.book.events(ALICE, id, 0).unwrap();
    let cargo = asked.take_on();
    cargo.token("x").await;
    cargo.end(Verdict::Completed).await;
    assert_eq!(read(events).await.len(), 2);
    let job = again(&world, keyed(ALICE, "stays", 1)).await;
    assert_eq!((job.head.id, job.head.status), (id, Status::Completed));
    assert_eq!(job.output.as_deref(), Some("x"));

    leave(&mut world, "refused").await.refuse();
    // Stopping waits for what is under way.
    world.stop().await;
    let mut world = World::on(disk, Config::default()).await;
    assert_eq!(world.total(ALICE).await, 1);
    assert_ne!(world.complete(keyed(ALICE, "refused", 2), "x").await, id);
}
