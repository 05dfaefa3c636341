//! What every runtime must do, whatever it runs: `SPEC.md`, "Promises about a job", as tests.
//!
//! A runtime's own tests bring a Cargo for each [`Behaviour`] and call [`run_all`], which panics
//! with the promise that was broken.

use crate::runtime::{Job, Limits, Outcome, Runtime};
use archipelag_protocol::{
    event::Event,
    id::{CargoId, JobId},
    job::Step,
    limits::MAX_LINE_BYTES,
    manifest::Manifest,
    payment::Verdict,
    policy::{JobPolicy, SandboxPolicy},
    time::Timestamp,
};
use bytes::Bytes;
use std::{
    fmt,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a fixture does. Where it says "lines", each has its newline unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Behaviour {
    /// The lines `status` "started"; two `token`s "a" and "é"; a `result` whose data is all of
    /// stdin; `done` claiming 1,000 tokens.
    Echo,
    /// `token` "x", then `done` without a newline.
    NoNewline,
    /// `token` "é" in two writes that split the character, then `done`.
    SplitCharacter,
    /// `token` "x" and exit 0.
    NoDone,
    /// `token` "x", the line `hello`, `done`.
    BadLine,
    /// `done`, then `token` "x".
    AfterDone,
    /// `done`, then exit 3.
    ExitCode,
    /// `token` "x" without end.
    Flood,
    /// `status` "started", then computes without end.
    Spin,
    /// `status` "started", then waits without end.
    Wait,
    /// `status` "started", takes memory until it gets none, and crashes.
    Memory,
    /// Prints `x` without a newline and without end.
    LongLine,
    /// 1 MiB of `e` to stderr, then `done`.
    NoisyStderr,
    /// `error` "no", then exit 1.
    Error,
}

impl Behaviour {
    pub const ALL: [Self; 14] = [
        Self::Echo,
        Self::NoNewline,
        Self::SplitCharacter,
        Self::NoDone,
        Self::BadLine,
        Self::AfterDone,
        Self::ExitCode,
        Self::Flood,
        Self::Spin,
        Self::Wait,
        Self::Memory,
        Self::LongLine,
        Self::NoisyStderr,
        Self::Error,
    ];
}

/// A Cargo for each behaviour.
pub trait Fixtures: fmt::Debug {
    fn cargo(&self, behaviour: Behaviour) -> (Manifest, Bytes);
}

/// How long a promise of "within a second" may take here.
const SECOND: Duration = Duration::from_secs(1);
/// No single execution takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const DONE: &str = r#"{"type":"done"}"#;
const TOKEN: &str = r#"{"type":"token","content":"x"}"#;
const STARTED: &str = r#"{"type":"status","message":"started"}"#;
const ACCENT: &str = r#"{"type":"token","content":"é"}"#;

/// The id that the suite gives a fixture: runtimes don't check ids.
#[must_use]
pub fn cargo_id(behaviour: Behaviour) -> CargoId {
    let position = Behaviour::ALL.iter().position(|other| *other == behaviour).unwrap_or(0);
    CargoId([u8::try_from(position).unwrap_or(u8::MAX); 32])
}

/// A job of a fixture within the limits of trust level 0.
#[must_use]
pub fn job(behaviour: Behaviour) -> Job {
    let sandbox = SandboxPolicy::default().level0;
    Job {
        id: JobId([1; 16]),
        cargo: cargo_id(behaviour),
        input: Bytes::from_static(br#"{"text":"hello"}"#),
        limits: Limits::new(sandbox, &JobPolicy::default()),
        deterministic: false,
        seed: [7; 32],
        now: Timestamp(1_700_000_000_000),
    }
}

/// Runs everything, one promise after the other.
///
/// # Panics
/// When a promise is broken.
pub async fn run_all(runtime: &dyn Runtime, fixtures: &dyn Fixtures) {
    let suite = Suite { runtime };
    for behaviour in Behaviour::ALL {
        assert!(!runtime.is_ready(cargo_id(behaviour)), "{behaviour:?} is ready before prepare");
        let (manifest, artifact) = fixtures.cargo(behaviour);
        assert_eq!(manifest.runtime_type, runtime.runtime_type());
        let prepared = runtime.prepare(cargo_id(behaviour), &manifest, artifact).await;
        assert_eq!(prepared, Ok(()), "{behaviour:?}");
        assert!(runtime.is_ready(cargo_id(behaviour)), "{behaviour:?} is not ready");
    }
    suite.what_a_cargo_says_arrives().await;
    suite.breaches_of_protocol_fail_and_name_the_line().await;
    suite.limits_hold_and_are_named().await;
    suite.cancel_stops_the_work().await;
    suite.jobs_do_not_hold_each_other_up().await;
}

struct Suite<'a> {
    runtime: &'a dyn Runtime,
}

impl Suite<'_> {
    /// Runs to the end with a reader that keeps up.
    async fn finish(&self, job: Job) -> (Vec<String>, Outcome) {
        let (sender, mut receiver) = mpsc::channel::<Event>(4);
        let read = async {
            let mut lines = Vec::new();
            while let Some(event) = receiver.recv().await {
                lines.push(event.to_line());
            }
            lines
        };
        let run = self.runtime.run(job, sender, CancellationToken::new());
        let both = async { tokio::join!(read, run) };
        tokio::time::timeout(PATIENCE, both).await.expect("the job neither ended nor let go")
    }

    async fn expect(&self, behaviour: Behaviour, lines: &[&str], verdict: Verdict) -> Outcome {
        let (found, outcome) = self.finish(job(behaviour)).await;
        assert_eq!(found, lines, "{behaviour:?}: {outcome:?}");
        assert_eq!(outcome.verdict, verdict, "{behaviour:?}: {outcome:?}");
        assert_eq!(outcome.failure.is_none(), verdict == Verdict::Completed, "{outcome:?}");
        outcome
    }

    async fn what_a_cargo_says_arrives(&self) {
        let lines = [
            STARTED,
            r#"{"type":"token","content":"a"}"#,
            ACCENT,
            r#"{"type":"result","data":{"text":"hello"}}"#,
            r#"{"type":"done","usage":{"tokens":1000}}"#,
        ];
        let outcome = self.expect(Behaviour::Echo, &lines, Verdict::Completed).await;
        assert_eq!(outcome.metering.tokens, 2, "charged for tokens that were only claimed");
        self.expect(Behaviour::NoNewline, &[TOKEN, DONE], Verdict::Completed).await;
        self.expect(Behaviour::SplitCharacter, &[ACCENT, DONE], Verdict::Completed).await;
        let error = [r#"{"type":"error","message":"no"}"#];
        let outcome = self.expect(Behaviour::Error, &error, Verdict::CargoFailed).await;
        assert_eq!(outcome.failure.map(|failure| failure.step), Some(Step::Cargo));

        let outcome = self.expect(Behaviour::NoisyStderr, &[DONE], Verdict::Completed).await;
        let most = JobPolicy::default().stderr_bytes_max;
        let kept = outcome.stderr.len() as u64;
        assert!(outcome.stderr.starts_with(b"eee"), "stderr was not captured");
        assert!((most..most + 100).contains(&kept), "{kept} bytes of stderr were kept");
        assert!(outcome.stderr.ends_with(b" more bytes]\n"), "stderr was cut without a note");
    }

    async fn breaches_of_protocol_fail_and_name_the_line(&self) {
        let cases: [(Behaviour, &[&str], &str); 4] = [
            (Behaviour::NoDone, &[TOKEN], "without `done`"),
            (Behaviour::BadLine, &[TOKEN], "line 2: "),
            (Behaviour::AfterDone, &[], "line 2: output after `done`"),
            (Behaviour::ExitCode, &[], "exit code 3 after `done`"),
        ];
        for (behaviour, lines, reason) in cases {
            let outcome = self.expect(behaviour, lines, Verdict::Failed).await;
            let failure = outcome.failure.expect("checked");
            assert_eq!(failure.step, Step::Protocol, "{behaviour:?}: {failure:?}");
            assert!(failure.message.contains(reason), "{behaviour:?}: {failure:?}");
        }
        let outcome = self.expect(Behaviour::LongLine, &[], Verdict::Failed).await;
        let failure = outcome.failure.expect("checked");
        assert_eq!(failure.step, Step::Protocol, "{failure:?}");
        assert!(failure.message.contains(&MAX_LINE_BYTES.to_string()), "{failure:?}");
    }

    async fn limits_hold_and_are_named(&self) {
        let mut flood = job(Behaviour::Flood);
        flood.limits.output_bytes_max = 10_000;
        let (lines, outcome) = self.finish(flood).await;
        assert_eq!(lines.len(), 10_000 / (TOKEN.len() + 1));
        assert_limit(&outcome, Verdict::Failed, "output: more than 10000 bytes");

        let outcome = self.expect(Behaviour::Memory, &[STARTED], Verdict::Failed).await;
        assert_limit(&outcome, Verdict::Failed, "memory: ");

        for behaviour in [Behaviour::Spin, Behaviour::Wait] {
            let mut long = job(behaviour);
            long.limits.sandbox.time_ms = 300;
            let started = Instant::now();
            let (lines, outcome) = self.finish(long).await;
            assert_eq!(lines, [STARTED]);
            assert_limit(&outcome, Verdict::Timeout, "time: more than 300 ms");
            let taken = started.elapsed();
            assert!(taken < SECOND + Duration::from_millis(300), "{behaviour:?}: {taken:?}");
        }
        let mut unread = job(Behaviour::Flood);
        unread.limits.sandbox.time_ms = 300;
        let (sender, receiver) = mpsc::channel(1);
        let run = self.runtime.run(unread, sender, CancellationToken::new());
        let outcome = tokio::time::timeout(PATIENCE, run).await.expect("waits for its reader");
        assert_limit(&outcome, Verdict::Timeout, "time: ");
        assert_eq!((receiver.len(), outcome.metering.tokens), (1, 1), "what was sent is metered");
    }

    async fn cancel_stops_the_work(&self) {
        for behaviour in [Behaviour::Spin, Behaviour::Wait, Behaviour::Flood] {
            let cancel = CancellationToken::new();
            let (sender, mut receiver) = mpsc::channel(1);
            let run = self.runtime.run(job(behaviour), sender, cancel.clone());
            // Nothing is read after the first line: a flood is stuck in a write by then.
            let stop = async {
                let first = receiver.recv().await.expect("nothing was said");
                cancel.cancel();
                (first, Instant::now())
            };
            let both = async {
                let (outcome, (first, cancelled)) = tokio::join!(run, stop);
                (outcome, first, cancelled.elapsed())
            };
            let (outcome, first, taken) =
                tokio::time::timeout(PATIENCE, both).await.expect("cancel had no effect");
            assert!(matches!(first, Event::Status { .. } | Event::Token { .. }));
            assert_eq!(outcome.verdict, Verdict::Cancelled, "{behaviour:?}: {outcome:?}");
            assert_eq!(outcome.failure.map(|failure| failure.step), Some(Step::Cancelled));
            assert!(taken < SECOND, "{behaviour:?}: cancelled after {taken:?}");
        }
        let (sender, mut receiver) = mpsc::channel(1);
        let run = self.runtime.run(job(Behaviour::Spin), sender, CancellationToken::new());
        let leave = async {
            receiver.recv().await.expect("nothing was said");
            drop(receiver);
        };
        let both = async { tokio::join!(run, leave).0 };
        let outcome = tokio::time::timeout(PATIENCE, both).await.expect("runs for nobody");
        assert_eq!(outcome.verdict, Verdict::Cancelled, "a reader that left: {outcome:?}");

        let cancel = CancellationToken::new();
        cancel.cancel();
        let (sender, _receiver) = mpsc::channel(1);
        let run = self.runtime.run(job(Behaviour::Spin), sender, cancel);
        let outcome = tokio::time::timeout(PATIENCE, run).await.expect("cancelled before");
        assert_eq!(outcome.verdict, Verdict::Cancelled);
    }

    async fn jobs_do_not_hold_each_other_up(&self) {
        let cancel = CancellationToken::new();
        let (sender, mut receiver) = mpsc::channel(1);
        let spin = self.runtime.run(job(Behaviour::Spin), sender, cancel.clone());
        let others = async {
            receiver.recv().await.expect("nothing was said");
            let (a, b) = tokio::join!(
                self.finish(job(Behaviour::Echo)),
                self.finish(job(Behaviour::NoNewline))
            );
            cancel.cancel();
            (a.1.verdict, b.1.verdict)
        };
        let (spin, others) = tokio::join!(spin, others);
        assert_eq!(others, (Verdict::Completed, Verdict::Completed));
        assert_eq!(spin.verdict, Verdict::Cancelled, "{spin:?}");
    }
}

fn assert_limit(outcome: &Outcome, verdict: Verdict, reason: &str) {
    assert_eq!(outcome.verdict, verdict, "{outcome:?}");
    let failure = outcome.failure.as_ref().expect("a reason");
    assert_eq!(failure.step, Step::Limit, "{failure:?}");
    assert!(failure.message.contains(reason), "{failure:?} does not say {reason:?}");
}
