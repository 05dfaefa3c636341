//! Tests of the wasm runtime: the conformance suite, and what only wasm has.

use super::fixtures::{Modules, Program, component, manifest, program};
use super::*;
use crate::conformance::{self, Behaviour};
use archipelag_protocol::time::Timestamp;
use futures::future::BoxFuture;
use std::{path::Path, time::Instant};

/// Work runs on the test's own executor; on a single-threaded one, that shows that it gives way.
#[derive(Debug)]
struct Here;

impl Workers for Here {
    fn spawn(&self, work: BoxFuture<'static, ()>) {
        tokio::spawn(work);
    }
}

fn runtime_with(cache: Option<&Path>) -> WasmRuntime {
    let config = Config { jobs_max: 8, cache: cache.map(Into::into), ..Config::default() };
    WasmRuntime::new(config, Arc::new(Here)).unwrap()
}

const CARGO: CargoId = CargoId([9; 32]);

async fn prepare(runtime: &WasmRuntime, wasm: Vec<u8>) -> Result<(), Failure> {
    runtime.prepare(CARGO, &manifest(&wasm), wasm.into()).await
}

fn job() -> Job {
    Job { cargo: CARGO, ..conformance::job(Behaviour::Echo) }
}

async fn run(runtime: &WasmRuntime, job: Job) -> (Vec<String>, Outcome) {
    let (sender, mut receiver) = mpsc::channel::<Event>(4);
    let read = async {
        let mut lines = Vec::new();
        while let Some(event) = receiver.recv().await {
            lines.push(event.to_line());
        }
        lines
    };
    tokio::join!(read, runtime.run(job, sender, CancellationToken::new()))
}

/// Prepares and runs `wasm`, and gives the failure of the job.
async fn failure(wasm: Vec<u8>, job: Job) -> (Verdict, Failure) {
    let runtime = runtime_with(None);
    prepare(&runtime, wasm).await.unwrap();
    let (_, outcome) = run(&runtime, job).await;
    (outcome.verdict, outcome.failure.expect("completed"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance_on_a_pool() {
    conformance::run_all(&runtime_with(None), &Modules).await;
}

#[tokio::test(flavor = "current_thread")]
async fn conformance_on_one_thread() {
    conformance::run_all(&runtime_with(None), &Modules).await;
}

#[tokio::test]
async fn components_run_too() {
    let runtime = runtime_with(None);
    let done = r#"{"type":"done"}"#;
    prepare(&runtime, component(done, true)).await.unwrap();
    let (lines, outcome) = run(&runtime, job()).await;
    assert_eq!(
        (lines, outcome.verdict),
        (vec![done.to_owned()], Verdict::Completed),
        "{:?}",
        outcome.failure
    );
    let (verdict, reason) = failure(component(done, false), job()).await;
    assert_eq!((verdict, reason.message.as_str()), (Verdict::Failed, "exit code 1 after `done`"));
}

/// Memories are pooled: a job must find none of what the one before it wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_finds_no_trace_of_another() {
    let runtime = runtime_with(None);
    let soil = "(drop (memory.grow (i32.const 60)))
        (i32.store (i32.const 512) (i32.const 196608))
        (loop $scan
            (if (i32.load (i32.load (i32.const 512))) (then unreachable))
            (i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 4)))
            (br_if $scan (i32.lt_u (i32.load (i32.const 512))
                (i32.mul (memory.size) (i32.const 65536)))))
        (memory.fill (i32.const 196608) (i32.const 170)
            (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 196608)))";
    prepare(&runtime, Program::default().code(soil).done().wasm()).await.unwrap();
    for _ in 0..8 {
        let jobs = (0..4).map(|_| run(&runtime, job()));
        for (_, outcome) in futures::future::join_all(jobs).await {
            assert_eq!(outcome.verdict, Verdict::Completed, "{:?}", outcome.failure);
        }
    }
}

#[tokio::test]
async fn an_artifact_is_refused_with_the_step_and_the_reason() {
    let runtime = runtime_with(None);
    let good = Program::default().done().wasm();
    let refused = |manifest: Manifest, wasm: Vec<u8>| {
        let runtime = &runtime;
        async move {
            let failure = runtime.prepare(CARGO, &manifest, wasm.into()).await.unwrap_err();
            assert!(!runtime.is_ready(CARGO));
            (failure.step, failure.message)
        }
    };
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    let (step, reason) = refused(manifest(&good), other).await;
    assert_eq!((step, reason.as_str()), (Step::Artifact, "the module is not what its hash says"));
    let (step, reason) = refused(manifest(&good), good[1..].to_vec()).await;
    assert!(step == Step::Artifact && reason.contains("its manifest says"), "{reason}");
    let module = |text: &str| wat::parse_str(text).unwrap();
    let cases = [
        (b"hello".to_vec(), Step::Engine, "neither a wasm module nor a component"),
        (good[..good.len() - 3].to_vec(), Step::Engine, "refused by the wasm engine"),
        (module("(module)"), Step::EntryPoint, "does not export `_start`"),
        (
            module("(module (func (export \"_start\") (param i32)))"),
            Step::EntryPoint,
            "without parameters",
        ),
        (
            module("(module (global (export \"_start\") i32 (i32.const 0)))"),
            Step::EntryPoint,
            "not a function",
        ),
        (
            module("(module (import \"env\" \"open\" (func)) (func (export \"_start\")))"),
            Step::Engine,
            "can't be linked",
        ),
        (module("(component)"), Step::EntryPoint, "does not export `wasi:cli/run`"),
        (module("(module (memory i64 1) (func (export \"_start\")))"), Step::Engine, "refused"),
        (
            module("(module (memory 1 1 shared) (func (export \"_start\")))"),
            Step::Engine,
            "refused",
        ),
    ];
    for (wasm, step, reason) in cases {
        let found = refused(manifest(&wasm), wasm).await;
        assert!(
            found.0 == step && found.1.contains(reason),
            "{found:?}, expected {step}: {reason}"
        );
    }
}

#[tokio::test]
async fn traps_are_told_in_words() {
    let cases = [
        ("(unreachable)", Step::Trap, "unreachable code reached"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", Step::Trap, "integer division by zero"),
        ("(drop (i32.load (i32.const 0x7fffffff)))", Step::Trap, "memory access out of bounds"),
        ("(drop (call $recurse (i32.const 0)))", Step::Limit, "stack: more than 1048576 bytes"),
    ];
    for (code, step, reason) in cases {
        let wasm = Program::default().token().code(code).wasm();
        let expected = (Verdict::Failed, Failure::new(step, reason));
        assert_eq!(failure(wasm, job()).await, expected, "{code}");
    }
}

#[tokio::test]
async fn memory_that_a_module_asks_for_at_once_is_limited_too() {
    let mut small = job();
    small.limits.sandbox.memory_bytes = 3 * 65_536;
    let reason = "memory: more than 196608 bytes";
    let expected = (Verdict::Failed, Failure::new(Step::Limit, reason));
    assert_eq!(failure(Program::default().done().wasm(), small).await, expected);
    let table = "(module (table $t 1 funcref) (func (export \"_start\")
        (drop (table.grow $t (ref.null func) (i32.const 100000))) (unreachable)))";
    let (_, reason) = failure(wat::parse_str(table).unwrap(), job()).await;
    assert_eq!(reason, Failure::new(Step::Limit, "table: more than 100000 elements"));
}

#[tokio::test]
async fn the_longest_input_may_be_read_in_one_call() {
    let runtime = runtime_with(None);
    let read = "(drop (memory.grow (i32.const 256)))
        (i32.store (i32.const 0) (i32.const 131072))
        (i32.store (i32.const 4) (i32.const 16777216))
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 12) (i32.const 0))
        (call $hex (i32.const 8))";
    let wasm = Program::default()
        .write(1, r#"{"type":"status","message":""#)
        .code(read)
        .write(1, "\"}\n")
        .done()
        .wasm();
    prepare(&runtime, wasm).await.unwrap();
    let input = Bytes::from(vec![b' '; 8 << 20]);
    let (lines, _) = run(&runtime, Job { input, ..job() }).await;
    assert_eq!(lines[0], r#"{"type":"status","message":"0000080000000000"}"#);
}

#[tokio::test]
async fn memory_is_given_back() {
    let runtime = runtime_with(None);
    prepare(&runtime, program(Behaviour::Memory).wasm()).await.unwrap();
    for _ in 0..50 {
        let (_, outcome) = run(&runtime, job()).await;
        assert_eq!(outcome.failure.map(|failure| failure.step), Some(Step::Limit));
    }
}

#[tokio::test]
async fn a_cargo_that_only_calls_the_host_gives_way() {
    let calls = [
        "(drop (call $clock (i32.const 0) (i64.const 0) (i32.const 16)))",
        "(drop (call $random (i32.const 65536) (i32.const 65536)))",
        "(call $write (i32.const 2) (i32.const 65536) (i32.const 131072))",
    ];
    for call in calls {
        let mut short = job();
        short.limits.sandbox.time_ms = 200;
        let wasm = Program::default().forever(|body| body.code(call)).wasm();
        let runtime = runtime_with(None);
        prepare(&runtime, wasm).await.unwrap();
        let started = Instant::now();
        let (_, outcome) = run(&runtime, short).await;
        assert_eq!(outcome.verdict, Verdict::Timeout, "{call}: {outcome:?}");
        assert!(started.elapsed() < Duration::from_millis(1200), "{call}: {:?}", started.elapsed());
    }
}

fn draws() -> Vec<u8> {
    let draw = "(drop (call $random (i32.const 256) (i32.const 8))) (call $hex (i32.const 256))";
    let clock = |id: u32| {
        format!(
            "(drop (call $clock (i32.const {id}) (i64.const 0) (i32.const 256))) (call $hex (i32.const 256))"
        )
    };
    let say = |program: Program, code: &str| {
        program.write(1, r#"{"type":"token","content":""#).code(code).write(1, "\"}\n")
    };
    let program = say(Program::default(), draw);
    let program = say(program, draw);
    let program = say(program, &clock(0));
    let program = say(program, &clock(1));
    say(program, &clock(1)).done().wasm()
}

#[tokio::test]
async fn deterministic_jobs_repeat_and_others_do_not() {
    let runtime = runtime_with(None);
    prepare(&runtime, draws()).await.unwrap();
    let fixed = Job { deterministic: true, ..job() };
    let (lines, outcome) = run(&runtime, fixed.clone()).await;
    assert_eq!(outcome.verdict, Verdict::Completed, "{outcome:?}");
    assert_ne!(lines[0], lines[1], "randomness repeats");
    assert_ne!(lines[3], lines[4], "the clock stands still");
    assert!(outcome.fuel > 0);
    let (again, repeated) = run(&runtime, fixed.clone()).await;
    assert_eq!((&again, &repeated), (&lines, &outcome));
    let (seeded, _) = run(&runtime, Job { seed: [8; 32], ..fixed.clone() }).await;
    assert_ne!(seeded[0], lines[0]);
    assert_eq!(seeded[2..], lines[2..]);
    let (later, _) = run(&runtime, Job { now: Timestamp(fixed.now.0 + 1), ..fixed }).await;
    assert_ne!(later[2], lines[2]);
    let (real, _) = run(&runtime, job()).await;
    assert_ne!(real[0], lines[0]);
}

/// The guest's randomness is part of what nodes compare: it may not change with a dependency.
#[tokio::test]
async fn deterministic_output_is_the_same_everywhere() {
    let runtime = runtime_with(None);
    prepare(&runtime, draws()).await.unwrap();
    let (lines, outcome) = run(&runtime, Job { deterministic: true, ..job() }).await;
    let contents: Vec<_> = lines.iter().map(|line| line.split('"').nth(7)).collect();
    assert_eq!(contents, GOLDEN, "fuel {}", outcome.fuel);
}

const GOLDEN: [Option<&str>; 6] = [
    Some("4f7541cac8412370"),
    Some("549bba2930028d47"),
    Some("0000a263efc97971"),
    Some("0000000000000000"),
    Some("8e30000000000000"),
    None,
];

#[tokio::test]
async fn deterministic_jobs_are_timed_by_instructions() {
    let spin = Program::default().forever(|body| body).wasm();
    let mut fixed = Job { deterministic: true, ..job() };
    fixed.limits.sandbox.time_ms = 20;
    let runtime = runtime_with(None);
    prepare(&runtime, spin).await.unwrap();
    tokio::time::pause();
    let (_, outcome) = run(&runtime, fixed).await;
    assert_eq!(outcome.verdict, Verdict::Timeout);
    assert_eq!(outcome.metering.duration_ms, 20);
    assert_eq!(outcome.failure, Some(Failure::new(Step::Limit, "time: more than 20 ms")));
}

#[tokio::test]
async fn compiled_code_is_kept_and_damage_is_survived() {
    let directory = tempfile::tempdir().unwrap();
    let wasm = Program::default().done().wasm();
    for damage in [None, Some(40), Some(200), None] {
        let runtime = runtime_with(Some(directory.path()));
        prepare(&runtime, wasm.clone()).await.unwrap();
        let (_, outcome) = run(&runtime, job()).await;
        assert_eq!(outcome.verdict, Verdict::Completed);
        let files: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "one module, one file");
        let path = files[0].as_ref().unwrap().path();
        let mut code = std::fs::read(&path).unwrap();
        if let Some(position) = damage {
            code[position] ^= 0xff;
            std::fs::write(&path, code).unwrap();
        }
    }
}

#[tokio::test]
async fn the_cargo_used_longest_ago_makes_room() {
    let config = Config { jobs_max: 2, ready_max: 2, ..Config::default() };
    let runtime = WasmRuntime::new(config, Arc::new(Here)).unwrap();
    let wasm = Program::default().done().wasm();
    let id = |n| CargoId([n; 32]);
    for n in 0..2 {
        runtime.prepare(id(n), &manifest(&wasm), wasm.clone().into()).await.unwrap();
    }
    run(&runtime, Job { cargo: id(0), ..job() }).await;
    runtime.prepare(id(2), &manifest(&wasm), wasm.clone().into()).await.unwrap();
    assert_eq!([0, 1, 2].map(|n| runtime.is_ready(id(n))), [true, false, true]);
    let (_, outcome) = run(&runtime, Job { cargo: id(1), ..job() }).await;
    assert_eq!(outcome.failure.unwrap().message, "the Cargo is not ready: prepare it first");
}

#[tokio::test]
async fn a_job_whose_future_is_dropped_stops() {
    #[derive(Debug)]
    struct Watched(mpsc::Sender<()>);
    impl Workers for Watched {
        fn spawn(&self, work: BoxFuture<'static, ()>) {
            let ended = self.0.clone();
            tokio::spawn(async move {
                work.await;
                let _sent = ended.send(()).await;
            });
        }
    }
    let (sender, mut ended) = mpsc::channel(4);
    let runtime =
        WasmRuntime::new(Config { jobs_max: 1, ..Config::default() }, Arc::new(Watched(sender)))
            .unwrap();
    prepare(&runtime, program(Behaviour::Spin).wasm()).await.unwrap();
    ended.recv().await.unwrap();
    let (events, mut receiver) = mpsc::channel(4);
    let mut running = Box::pin(runtime.run(job(), events, CancellationToken::new()));
    tokio::select! {
        outcome = &mut running => panic!("ended: {outcome:?}"),
        started = receiver.recv() => assert!(started.is_some()),
    }
    drop(running);
    tokio::time::timeout(Duration::from_secs(10), ended.recv()).await.expect("still runs").unwrap();
}

/// Not a limit, a report: `cargo test -p archipelag-runtimes cost -- --nocapture`.
#[tokio::test]
async fn cost_of_a_small_job() {
    let runtime = runtime_with(None);
    prepare(&runtime, Program::default().token().done().wasm()).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..300 {
        let started = Instant::now();
        let (lines, _) = run(&runtime, job()).await;
        times.push(started.elapsed());
        assert_eq!(lines.len(), 2);
    }
    times.sort();
    println!("a small wasm job: p50 {:?}, p99 {:?}", times[150], times[297]);
}
