//! Pages, limits and retention.

use super::*;

async fn page(world: &World, account: AccountId, limit: usize, offset: usize) -> Vec<JobId> {
    let (jobs, _) = soon(world.book.list(account, limit, offset)).await.unwrap();
    jobs.iter().map(|job| job.head.id).collect()
}

#[tokio::test]
async fn pages_are_newest_first() {
    let mut world = World::new(Config::default()).await;
    let mut jobs = Vec::new();
    let mut running = Vec::new();
    for _ in 0..5 {
        world.complete(job_of(BOB), "x").await;
        let (job, cargo) = world.start(job_of(ALICE)).await;
        jobs.insert(0, job.head.id);
        running.push(cargo);
    }
    // They end in another order than they began.
    while let Some(cargo) = running.pop() {
        let id = cargo.id;
        cargo.end(Verdict::Completed).await;
        world.lines(ALICE, id).await;
    }
    assert_eq!(page(&world, ALICE, 2, 0).await, jobs[..2]);
    assert_eq!(page(&world, ALICE, 2, 2).await, jobs[2..4]);
    assert_eq!(page(&world, ALICE, 2, 4).await, jobs[4..]);
    assert_eq!(page(&world, ALICE, 9, 0).await, jobs);
    let (none, total) = soon(world.book.list(ALICE, 2, 5)).await.unwrap();
    assert_eq!((none.len(), total), (0, 5));
}

#[tokio::test]
async fn lists_leave_long_texts_out() {
    let mut world = World::new(Config::default()).await;
    let long = "x".repeat(70 << 10);
    let mut with_input = job_of(ALICE);
    with_input.request.input = json!({ "prompt": long });
    let (first, cargo) = world.start(with_input).await;
    let second = world.complete(job_of(ALICE), &long).await;
    let cargo = &mut Some(cargo);
    for ended in [false, true] {
        if ended {
            cargo.take().unwrap().end(Verdict::Completed).await;
            world.lines(ALICE, first.head.id).await;
        }
        let (jobs, _) = soon(world.book.list(ALICE, 2, 0)).await.unwrap();
        assert!(jobs.iter().all(|job| job.shortened), "{ended}");
        assert_eq!((jobs[0].head.id, &jobs[0].output), (second, &None));
        assert_eq!(jobs[0].input.as_deref(), Some(r#"{"prompt":"hi"}"#));
        assert_eq!((jobs[1].head.id, &jobs[1].input), (first.head.id, &None));
        let whole = world.get(ALICE, first.head.id).await;
        assert_eq!(whole.input, Some(json!({ "prompt": long }).to_string()));
        assert!(!whole.shortened);
        assert_eq!(world.get(ALICE, second).await.output.as_ref(), Some(&long));
    }
}

#[tokio::test]
async fn unfinished_jobs_are_limited() {
    let config = Config { unfinished_per_account: 2, unfinished_total: 3, ..Config::default() };
    let mut world = World::new(config).await;
    let (job, first) = world.start(job_of(ALICE)).await;
    let (_, _second) = world.start(job_of(ALICE)).await;
    let full = world.refusal(job_of(ALICE)).await;
    assert!(matches!(full, Error::TooManyUnfinished { limit: 2 }), "{full:?}");
    let (_, _third) = world.start(job_of(BOB)).await;
    let full = world.refusal(job_of(BOB)).await;
    assert!(matches!(full, Error::Full { limit: 3 }), "{full:?}");
    assert_eq!((world.total(ALICE).await, world.total(BOB).await), (2, 1));
    first.end(Verdict::Completed).await;
    world.lines(ALICE, job.head.id).await;
    let (_, _fourth) = world.start(job_of(ALICE)).await;
    let full = world.refusal(keyed(BOB, "k", 1)).await;
    assert!(matches!(full, Error::Full { limit: 3 }), "{full:?}");
}

/// The job has failed at a limit, and says so.
async fn assert_limited(world: &World, id: JobId, kept: &[&str], error: &str) {
    let lines = world.lines(ALICE, id).await;
    let (last, rest) = lines.split_last().unwrap();
    let tokens: Vec<_> = rest.iter().map(|line| value(line)["content"].clone()).collect();
    assert_eq!(tokens, kept);
    assert_eq!((&value(last)["type"], &value(last)["error"]), (&json!("error"), &json!(error)));
    let job = world.get(ALICE, id).await;
    assert_eq!((job.head.status, job.head.step), (Status::Failed, Some(Step::Limit)));
    assert_eq!((job.head.error.as_deref(), job.output), (Some(error), None));
}

#[tokio::test]
async fn a_job_with_too_many_events_fails() {
    let config = Config { events_per_job: 2, ..Config::default() };
    let mut world = World::new(config).await;
    // Whatever the Consumer says when it was told to stop: what came is not whole.
    for verdict in [Verdict::Cancelled, Verdict::Completed, Verdict::Failed] {
        let (job, cargo) = world.start(job_of(ALICE)).await;
        cargo.token("a").await;
        cargo.token("b").await;
        let (other, fine) = world.start(job_of(BOB)).await;
        cargo.token("c").await;
        soon(cargo.cancel.cancelled()).await;
        cargo.token("d").await;
        cargo.end(verdict).await;
        assert_limited(&world, job.head.id, &["a", "b"], "limit: more than 2 events").await;
        fine.token("x").await;
        fine.token("y").await;
        fine.end(Verdict::Completed).await;
        world.lines(BOB, other.head.id).await;
        assert_eq!(world.get(BOB, other.head.id).await.output.as_deref(), Some("xy"));
    }
}

/// What was signed is shown: a job that was paid for until it was stopped has not failed.
#[tokio::test]
async fn a_job_with_too_many_events_shows_what_it_cost() {
    let config = Config { events_per_job: 2, ..Config::default() };
    let mut world = World::new(config).await;
    for verdict in [Verdict::Cancelled, Verdict::Completed] {
        let (job, cargo) = world.start(job_of(ALICE)).await;
        for token in ["a", "b", "c"] {
            cargo.token(token).await;
        }
        soon(cargo.cancel.cancelled()).await;
        let price = Credits::from_micro(70);
        cargo.send(Update::Ended(Ended { price, ..ended(verdict, None) })).await;
        let lines = world.lines(ALICE, job.head.id).await;
        let last = value(&lines[2]);
        assert_eq!(
            (&last["status"], &last["usage"]["credits_used"]),
            (&json!("cancelled"), &json!(0.000_07))
        );
        let job = world.get(ALICE, job.head.id).await;
        assert_eq!((job.head.status, job.head.step), (Status::Cancelled, Some(Step::Limit)));
        assert_eq!(job.head.error.as_deref(), Some("limit: more than 2 events"));
        assert_eq!((job.head.usage.charged, job.output.as_deref()), (price, Some("ab")));
    }
}

/// A Cargo that says too much fails at its Island, and costs nothing, before the book must stop it.
#[test]
fn the_policys_limit_on_output_is_reached_before_the_books() {
    let output = archipelag_protocol::policy::JobPolicy::default().output_bytes_max;
    let (config, output) = (Config::default(), usize::try_from(output).unwrap());
    let shortest = r#"{"type":"result","data":0}"#;
    assert!(Event::parse(shortest.as_bytes()).is_ok());
    assert!(output / (shortest.len() + 1) < config.events_per_job);
    assert!(output < config.event_bytes_per_job);
}

/// The bytes of a token's line beside its content.
const AROUND: usize = r#"{"type":"token","content":""}"#.len();

#[tokio::test]
async fn a_job_with_too_many_bytes_fails() {
    let config = Config { event_bytes_per_job: 2 * AROUND + 10, ..Config::default() };
    let mut world = World::new(config).await;
    let (job, cargo) = world.start(job_of(ALICE)).await;
    for token in ["12345", "67890", ""] {
        cargo.token(token).await;
    }
    soon(cargo.cancel.cancelled()).await;
    cargo.end(Verdict::Cancelled).await;
    let error = format!("limit: more than {} bytes of events", 2 * AROUND + 10);
    assert_limited(&world, job.head.id, &["12345", "67890"], &error).await;
    // Exactly as many as it may have.
    let (job, cargo) = world.start(job_of(ALICE)).await;
    for token in ["12345", "67890"] {
        cargo.token(token).await;
    }
    cargo.end(Verdict::Completed).await;
    world.lines(ALICE, job.head.id).await;
    assert_eq!(world.get(ALICE, job.head.id).await.output.as_deref(), Some("1234567890"));
}

#[tokio::test]
async fn bytes_in_memory_are_limited_for_all_jobs_together() {
    let total = 1_000 + 3 * AROUND;
    let config = Config { event_bytes_total: total, ..Config::default() };
    let mut world = World::new(config).await;
    let (other, fine) = world.start(job_of(BOB)).await;
    fine.token(&"x".repeat(600)).await;
    let mut seen = world.book.events(BOB, other.head.id, 0).unwrap();
    soon(seen.next()).await.unwrap();
    let (job, cargo) = world.start(job_of(ALICE)).await;
    cargo.token("a").await;
    cargo.token(&"y".repeat(401)).await;
    soon(cargo.cancel.cancelled()).await;
    // What was refused takes no room from the others, though its job has not ended.
    fine.token(&"x".repeat(399)).await;
    fine.end(Verdict::Completed).await;
    world.lines(BOB, other.head.id).await;
    assert_eq!(world.get(BOB, other.head.id).await.output, Some("x".repeat(999)));
    cargo.end(Verdict::Cancelled).await;
    let error = format!("limit: this node holds {total} bytes of events, its limit");
    assert_limited(&world, job.head.id, &["a"], &error).await;
    // All of it is free again.
    let (job, cargo) = world.start(job_of(BOB)).await;
    cargo.token(&"z".repeat(total - AROUND)).await;
    cargo.end(Verdict::Completed).await;
    world.lines(BOB, job.head.id).await;
    assert_eq!(world.get(BOB, job.head.id).await.head.status, Status::Completed);
}

/// Of `all` (oldest first) only the newest `kept` are there, also after a restart on `disk`.
async fn assert_kept(world: World, disk: &MemoryDisk, config: Config, all: &[JobId], kept: usize) {
    let (gone, there) = all.split_at(all.len() - kept);
    let mut there = there.to_vec();
    there.reverse();
    let mut world = Some(world);
    for restarted in [false, true] {
        if restarted {
            world.take().unwrap().stop().await;
            world = Some(World::on(Arc::new(disk.clone()), config.clone()).await);
        }
        let world = world.as_ref().unwrap();
        assert_eq!(page(world, ALICE, 99, 0).await, there, "{restarted}");
        assert_eq!(world.total(ALICE).await, kept);
        for id in gone {
            assert!(soon(world.book.get(ALICE, *id)).await.unwrap().is_none());
            assert!(world.book.events(ALICE, *id, 0).is_none());
        }
        for id in &there {
            assert!(world.get(ALICE, *id).await.output.is_some());
            assert_eq!(world.lines(ALICE, *id).await.len(), 2);
        }
        assert_eq!(world.total(BOB).await, 1);
    }
    world.unwrap().stop().await;
}

#[tokio::test]
async fn the_oldest_finished_jobs_go_first() {
    let config = Config { kept_per_account: 3, ..Config::default() };
    let disk = MemoryDisk::new();
    let mut world = World::on(Arc::new(disk.clone()), config.clone()).await;
    world.complete(job_of(BOB), "x").await;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(world.complete(job_of(ALICE), "x").await);
    }
    assert_kept(world, &disk, config, &all, 3).await;
}

#[tokio::test]
async fn finished_jobs_are_kept_by_their_bytes() {
    let config = Config { kept_bytes_per_account: 5_000, ..Config::default() };
    let disk = MemoryDisk::new();
    let mut world = World::on(Arc::new(disk.clone()), config.clone()).await;
    world.complete(job_of(BOB), &"x".repeat(1_000)).await;
    let mut all = Vec::new();
    for _ in 0..5 {
        // Counted once as an event and once as output.
        all.push(world.complete(job_of(ALICE), &"x".repeat(1_000)).await);
    }
    assert_kept(world, &disk, config.clone(), &all, 2).await;

    // The newest stays, however large it is.
    let mut world = World::on(Arc::new(disk.clone()), config.clone()).await;
    all.push(world.complete(job_of(ALICE), &"x".repeat(9_000)).await);
    assert_kept(world, &disk, config, &all, 1).await;
}
