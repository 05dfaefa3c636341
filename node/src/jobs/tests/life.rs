//! Jobs from submission to their end, their readers, and cancellation.

use super::*;
use crate::jobs::log::Log;
use archipelag_protocol::{
    id::{ContentId, HoldId, Signature},
    payment::{Receipt, SettledReceipt},
    pricing::HardwareTier,
    time::Timestamp,
};
use futures::FutureExt;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) fn receipt(job: JobId) -> SettledReceipt {
    let receipt = Receipt {
        job,
        cargo: CargoId([9; 32]),
        payer: ALICE,
        island: AccountId([7; 32]),
        hold: HoldId([3; 32]),
        lane: 4,
        sequence: 5,
        verdict: Verdict::Completed,
        metering: Metering { tokens: 2, duration_ms: 6 },
        price: Credits::from_micro(1_500_000),
        tier: HardwareTier::Entry,
        input: ContentId([1; 32]),
        output: ContentId([2; 32]),
        finished: Timestamp(7),
    };
    SettledReceipt { receipt, island: Signature([5; 64]), payer: Signature([6; 64]) }
}

#[tokio::test]
async fn a_job_from_submission_to_completed() {
    let mut world = World::new(Config::default()).await;
    let (job, cargo) = world.start(job_of(ALICE)).await;
    let id = job.head.id;
    assert_eq!(job.head.status, Status::Queued);
    assert_eq!((job.head.slug.as_str(), job.head.version.to_string().as_str()), ("echo", "1.2.3"));
    assert_eq!((job.input.as_deref(), job.output), (Some(r#"{"prompt":"hi"}"#), None));
    assert_eq!(world.get(ALICE, id).await.head, job.head);
    assert_eq!(world.book.metrics().unfinished.get(), 1);

    let mut events = world.book.events(ALICE, id, 0).unwrap();
    cargo.started(0).await;
    let some = soon(events.next()).await.unwrap();
    let [(number, first)] = &some[..] else { panic!("{some:?}") };
    let number = *number;
    let (island, host_id) = (AccountId([7; 32]), NodeId([8; 32]));
    let running = json!({
        "type": "status", "message": "running",
        "island": island, "host_id": host_id, "attempt": 0,
    });
    assert_eq!((number, value(first)), (0, running));
    let head = world.get(ALICE, id).await.head;
    assert_eq!((head.status, head.attempts), (Status::Running, 1));
    assert!(head.started.is_some() && head.completed.is_none() && head.duration_ms().is_none());
    assert_eq!(head.place.map(|place| (place.island, place.node)), Some((island, host_id)));

    let said = [r#"{"type":"token","content":"a\n"}"#, r#"{"type":"progress","step":1,"total":2}"#];
    for line in said {
        cargo.event(line).await;
    }
    cargo.token("b").await;
    let usage = r#"{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#;
    cargo.event(&format!(r#"{{"type":"done","usage":{usage},"seed":7}}"#)).await;
    let ended = Ended {
        receipt: Some(receipt(id)),
        price: Credits::from_micro(1_500_000),
        attempts: 2,
        ..ended(Verdict::Completed, None)
    };
    cargo.send(Update::Ended(ended)).await;

    let rest = read(events).await;
    let lines = world.lines(ALICE, id).await;
    assert_eq!(lines[0], **first);
    assert_eq!(rest.iter().map(|e| e.1.as_str()).collect::<Vec<_>>(), lines[1..]);
    assert_eq!(lines[1..4], [said[0], said[1], r#"{"type":"token","content":"b"}"#]);
    let used = json!({
        "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "credits_used": 1.5,
    });
    assert_eq!(value(&lines[4]), json!({ "type": "done", "usage": used, "seed": 7 }));
    assert_eq!(lines.len(), 5);
    let Job { head, input, output, shortened } = world.get(ALICE, id).await;
    assert_eq!((head.status, head.error.as_ref(), head.step), (Status::Completed, None, None));
    assert_eq!((input.as_deref(), output.as_deref()), (Some(r#"{"prompt":"hi"}"#), Some("a\nb")));
    assert!(!shortened);
    assert_eq!((head.receipt.as_ref(), head.attempts), (Some(&receipt(id)), 2));
    assert_eq!(super::super::usage_json(&head.usage), used);
    assert!(head.created <= head.started.unwrap() && head.started <= head.completed);
    assert_eq!(head.duration_ms(), Some(head.completed.unwrap().since_ms(head.started.unwrap())));
    assert_eq!(world.book.metrics().unfinished.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_before_during_and_after_see_every_event_once() {
    let mut world = World::new(Config::default()).await;
    let (job, cargo) = world.start(job_of(ALICE)).await;
    let from = |from| world.book.events(ALICE, job.head.id, from).unwrap();
    let before = tokio::spawn(read(from(0)));
    let ahead = tokio::spawn(read(from(400)));
    let mut expected = Vec::new();
    for number in 0..600_u64 {
        cargo.token(&number.to_string()).await;
        expected.push((number, format!(r#"{{"type":"token","content":"{number}"}}"#)));
    }
    // It has read up to there, so that those that begin now begin in the middle.
    let mut here = from(500);
    let some = soon(here.next()).await.unwrap();
    assert_eq!(some[0].0, 500);
    let during = [0, 300, 501].map(|number| (number, tokio::spawn(read(from(number)))));
    cargo.end(Verdict::Completed).await;
    let found = soon(before).await.unwrap();
    let (last, seen) = found.split_last().unwrap();
    assert_eq!((last.0, &value(&last.1)["type"]), (600, &json!("done")));
    assert_eq!(seen, expected);
    assert_eq!(soon(ahead).await.unwrap(), found[400..]);
    assert_eq!(read(here).await, found[500 + some.len()..]);
    for (number, reader) in during {
        assert_eq!(
            soon(reader).await.unwrap(),
            found[usize::try_from(number).unwrap()..],
            "from {number}"
        );
    }
    for number in [0, 1, 255, 256, 599, 600, 601, u64::MAX] {
        let rest = found.iter().filter(|event| event.0 >= number).cloned().collect::<Vec<_>>();
        assert_eq!(read(from(number)).await, rest, "from {number}");
    }
}

/// A reader that looks just when the job ends does not take the line before for the last.
#[test]
fn no_reader_misses_the_last_line() {
    let logs: Vec<_> = (0..20_000).map(|_| Arc::new(Log::new())).collect();
    let looked_at = AtomicUsize::new(0);
    let look = || {
        let missed = logs.iter().filter(|log| {
            looked_at.fetch_add(1, Ordering::Relaxed);
            loop {
                let mut events = Events::live(Arc::clone(log), 0);
                if let Some(seen) = events.next().now_or_never() {
                    return seen.unwrap().is_empty();
                }
            }
        });
        missed.count()
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(look);
        for (number, log) in logs.iter().enumerate() {
            while looked_at.load(Ordering::Relaxed) <= number {
                std::thread::yield_now();
            }
            log.end("last".into());
        }
        assert_eq!(reader.join().unwrap(), 0, "streams that ended before their last line");
    });
}

#[tokio::test]
async fn jobs_that_do_not_complete_say_why() {
    let mut world = World::new(Config::default()).await;
    let failure = |step, message: &str| Some(Failure::new(step, message));
    let cases = [
        (Verdict::CargoFailed, failure(Step::Cargo, "no"), Status::Failed, "cargo: no"),
        (Verdict::Failed, failure(Step::Trap, "x"), Status::Failed, "trap: x"),
        (Verdict::Failed, None, Status::Failed, "lost: the Island gave no reason"),
        (Verdict::Timeout, failure(Step::Limit, "60 s"), Status::Timeout, "limit: 60 s"),
        (Verdict::Cancelled, failure(Step::Cancelled, "c"), Status::Cancelled, "cancelled: c"),
    ];
    for (verdict, failure, status, error) in cases {
        let (job, cargo) = world.start(job_of(ALICE)).await;
        let step = failure.as_ref().map_or(Step::Lost, |f| f.step);
        cargo.token("part").await;
        cargo.send(Update::Ended(ended(verdict, failure))).await;
        let lines = world.lines(ALICE, job.head.id).await;
        assert_eq!(lines[0], r#"{"type":"token","content":"part"}"#);
        let last = value(&lines[1]);
        assert_eq!(last["type"], "error");
        assert_eq!(last["status"], status.name());
        assert_eq!((&last["error"], &last["message"]), (&json!(error), &json!(error)));
        let job = world.get(ALICE, job.head.id).await;
        assert_eq!((job.head.status, job.head.error.as_deref()), (status, Some(error)));
        assert_eq!(job.head.step, Some(step));
        // Who cancels keeps what came; what failed has no output.
        let output = (status == Status::Cancelled).then_some("part");
        assert_eq!(job.output.as_deref(), output, "{error}");
    }
    let (job, cargo) = world.start(job_of(ALICE)).await;
    drop(cargo);
    world.lines(ALICE, job.head.id).await;
    let head = world.get(ALICE, job.head.id).await.head;
    assert_eq!((head.status, head.step), (Status::Failed, Some(Step::Lost)));
    assert_eq!(head.error.as_deref(), Some("lost: the job ended without saying how"));
}

#[tokio::test]
async fn cancelling() {
    let mut world = World::new(Config::default()).await;
    let (job, cargo) = world.start(job_of(ALICE)).await;
    let id = job.head.id;
    let book = world.book.clone();
    let cancelling = tokio::spawn(async move { book.cancel(ALICE, id).await });
    soon(cargo.cancel.cancelled()).await;
    assert!(!world.get(ALICE, id).await.head.status.is_final());
    cargo.end(Verdict::Cancelled).await;
    let cancelled = soon(cancelling).await.unwrap().unwrap().unwrap();
    assert_eq!(cancelled.head.status, Status::Cancelled);
    assert_eq!(cancelled.head.step, Some(Step::Cancelled));
    let again = soon(world.book.cancel(ALICE, id)).await.unwrap().unwrap();
    assert_eq!(again.head, cancelled.head);

    let id = world.complete(job_of(ALICE), "x").await;
    let late = soon(world.book.cancel(ALICE, id)).await;
    assert!(matches!(late, Err(Error::Ended(Status::Completed))), "{late:?}");
    assert_eq!(world.get(ALICE, id).await.head.status, Status::Completed);
    assert!(soon(world.book.cancel(ALICE, JobId([0; 16]))).await.unwrap().is_none());

    // A Consumer that goes away has cancelled it too.
    let (job, cargo) = world.start(job_of(ALICE)).await;
    let book = world.book.clone();
    let cancelling = tokio::spawn(async move { book.cancel(ALICE, job.head.id).await });
    soon(cargo.cancel.cancelled()).await;
    drop(cargo);
    let cancelled = soon(cancelling).await.unwrap().unwrap().unwrap();
    assert_eq!(cancelled.head.status, Status::Cancelled);
}

#[tokio::test]
async fn a_job_that_completes_before_it_can_be_cancelled_is_whole() {
    let mut world = World::new(Config::default()).await;
    let (job, cargo) = world.start(job_of(ALICE)).await;
    let id = job.head.id;
    cargo.token("a").await;
    let book = world.book.clone();
    let cancelling = tokio::spawn(async move { book.cancel(ALICE, id).await });
    soon(cargo.cancel.cancelled()).await;
    cargo.token("b").await;
    cargo.event(r#"{"type":"done","usage":{"total_tokens":9}}"#).await;
    cargo.end(Verdict::Completed).await;
    let job = soon(cancelling).await.unwrap().unwrap().unwrap();
    assert_eq!((job.head.status, job.output.as_deref()), (Status::Completed, Some("ab")));
    assert_eq!(job.head.usage.total_tokens, 9);
    assert_eq!(world.lines(ALICE, id).await.len(), 3);
}

#[tokio::test]
async fn other_accounts_see_nothing() {
    let mut world = World::new(Config::default()).await;
    let ended = world.complete(job_of(ALICE), "x").await;
    let (running, cargo) = world.start(job_of(ALICE)).await;
    for id in [ended, running.head.id] {
        assert!(soon(world.book.get(BOB, id)).await.unwrap().is_none());
        assert!(world.book.events(BOB, id, 0).is_none());
        assert!(soon(world.book.cancel(BOB, id)).await.unwrap().is_none());
    }
    let (jobs, total) = soon(world.book.list(BOB, 10, 0)).await.unwrap();
    assert_eq!((jobs.len(), total), (0, 0));
    assert!(!cargo.cancel.is_cancelled());
    cargo.end(Verdict::Completed).await;
    world.lines(ALICE, running.head.id).await;
    assert_eq!(world.get(ALICE, running.head.id).await.head.status, Status::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_jobs_at_once() {
    const JOBS: usize = 50;
    let mut world = World::new(Config::default()).await;
    let submit = |number: usize| {
        let book = world.book.clone();
        let mut submission = job_of(if number.is_multiple_of(2) { ALICE } else { BOB });
        submission.request.input = json!({ "number": number });
        async move { book.submit(submission).await.unwrap().0 }
    };
    let submitted: Vec<_> = (0..JOBS).map(|number| tokio::spawn(submit(number))).collect();
    let mut running = Vec::new();
    for _ in 0..JOBS {
        let asked = world.asked().await;
        let number = asked.request.input["number"].as_u64().unwrap();
        assert_eq!(asked.payer, if number.is_multiple_of(2) { ALICE } else { BOB });
        let cargo = asked.take_on();
        running.push(tokio::spawn(async move {
            cargo.started(0).await;
            for token in 0..number {
                cargo.token(&format!("{number}.{token} ")).await;
            }
            let failed = number % 7 == 0;
            cargo.end(if failed { Verdict::Failed } else { Verdict::Completed }).await;
        }));
    }
    for cargo in running {
        soon(cargo).await.unwrap();
    }
    let mut numbers = Vec::new();
    for (number, job) in submitted.into_iter().enumerate() {
        let head = soon(job).await.unwrap().head;
        let lines = world.lines(head.account, head.id).await;
        let tokens: Vec<_> = (0..number).map(|token| format!("{number}.{token} ")).collect();
        let expected: Vec<_> =
            tokens.iter().map(|t| json!({ "type": "token", "content": t }).to_string()).collect();
        let said: Vec<_> = lines[1..=number].iter().map(|l| value(l).to_string()).collect();
        assert_eq!(said, expected);
        assert_eq!(lines.len(), number + 2);
        let job = world.get(head.account, head.id).await;
        let failed = number % 7 == 0;
        let status = if failed { Status::Failed } else { Status::Completed };
        assert_eq!((job.head.status, job.head.number), (status, head.number));
        assert_eq!(job.output, (!failed).then(|| tokens.concat()));
        assert_eq!(job.input, Some(json!({ "number": number }).to_string()));
        numbers.push(head.number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), JOBS);
    assert_eq!((world.total(ALICE).await, world.total(BOB).await), (25, 25));
    assert_eq!(world.book.metrics().unfinished.get(), 0);
}
