//! Wasm Cargos for tests, written in the text format so that no compiler is needed.

use crate::conformance::{Behaviour, Fixtures};
use archipelag_protocol::{
    amount::Credits,
    id::ContentId,
    manifest::{Artifact, Manifest, Requirements, RuntimeType, Version},
    pricing::Price,
};
use bytes::Bytes;
use std::fmt::Write;

/// Where texts lie in memory; below are the arguments of calls to the host.
const TEXTS: usize = 1024;
/// Where the third page starts: room for stdin.
const BUFFER: usize = 2 * 65_536;

/// A program that says things and runs code.
#[derive(Debug, Default)]
pub(crate) struct Program {
    texts: String,
    length: usize,
    body: String,
}

impl Program {
    /// Writes `text` to a file descriptor in one call.
    pub(crate) fn write(mut self, fd: u32, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let start = TEXTS + self.length;
        for byte in text {
            write!(self.texts, "\\{byte:02x}").unwrap();
        }
        self.length += text.len();
        self.code(&format!(
            "(call $write (i32.const {fd}) (i32.const {start}) (i32.const {}))",
            text.len()
        ))
    }

    /// Prints a line.
    pub(crate) fn say(self, line: &str) -> Self {
        self.write(1, format!("{line}\n"))
    }

    pub(crate) fn token(self) -> Self {
        self.say(r#"{"type":"token","content":"x"}"#)
    }

    pub(crate) fn started(self) -> Self {
        self.say(r#"{"type":"status","message":"started"}"#)
    }

    pub(crate) fn done(self) -> Self {
        self.say(r#"{"type":"done"}"#)
    }

    /// Does `body` without end.
    pub(crate) fn forever(self, body: impl FnOnce(Self) -> Self) -> Self {
        let mut inner = body(self.code("(loop $forever"));
        inner.body.push_str("(br $forever))");
        inner
    }

    pub(crate) fn code(mut self, code: &str) -> Self {
        self.body.push_str(code);
        self
    }

    pub(crate) fn wasm(&self) -> Vec<u8> {
        let Self { texts, body, .. } = self;
        let text = format!(
            r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
            (memory (export "memory") 4)
            (data (i32.const {TEXTS}) "{texts}")
            (func $write (param $fd i32) (param $at i32) (param $bytes i32)
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $bytes))
                (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func $read (result i32)
                (i32.store (i32.const 0) (i32.const {BUFFER}))
                (i32.store (i32.const 4) (i32.const 65536))
                (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (i32.load (i32.const 8)))
            ;; Prints 8 bytes of memory as hexadecimal digits, the lower of each byte first.
            (func $hex (param $at i32) (local $n i32) (local $d i32)
                (loop $next
                    (local.set $d (i32.and (i32.const 15) (i32.shr_u
                        (i32.load8_u (i32.add (local.get $at) (i32.shr_u (local.get $n) (i32.const 1))))
                        (i32.mul (i32.const 4) (i32.and (i32.const 1) (local.get $n))))))
                    (i32.store8 (i32.add (i32.const 64) (local.get $n))
                        (i32.add (local.get $d) (select (i32.const 87) (i32.const 48)
                            (i32.gt_u (local.get $d) (i32.const 9)))))
                    (local.set $n (i32.add (local.get $n) (i32.const 1)))
                    (br_if $next (i32.lt_u (local.get $n) (i32.const 16))))
                (call $write (i32.const 1) (i32.const 64) (i32.const 16)))
            (func $recurse (param i32) (result i32)
                (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
            (func (export "_start") {body}))"#
        );
        wat::parse_str(&text).unwrap()
    }
}

/// A manifest that names `wasm`.
pub(crate) fn manifest(wasm: &[u8]) -> Manifest {
    Manifest {
        name: "Fixture".into(),
        slug: "fixture".into(),
        version: Version { major: 1, minor: 0, patch: 0, pre: String::new() },
        description: "A Cargo for tests".into(),
        runtime_type: RuntimeType::Wasm,
        artifact: Artifact::Module { hash: ContentId::of(wasm), size_bytes: wasm.len() as u64 },
        input_schema: "true".into(),
        output_schema: "true".into(),
        price: Price { per_job: Credits::from_micro(1), ..Price::default() },
        requirements: Requirements::default(),
        category: None,
        tags: Vec::new(),
        revenue_share_percent: 70,
    }
}

pub(crate) fn program(behaviour: Behaviour) -> Program {
    let new = Program::default();
    match behaviour {
        Behaviour::Echo => new
            .started()
            .say(r#"{"type":"token","content":"a"}"#)
            .say(r#"{"type":"token","content":"é"}"#)
            .write(1, r#"{"type":"result","data":"#)
            .code(&format!("(call $write (i32.const 1) (i32.const {BUFFER}) (call $read))"))
            .say("}")
            .say(r#"{"type":"done","usage":{"tokens":1000}}"#),
        Behaviour::NoNewline => new.token().write(1, r#"{"type":"done"}"#),
        Behaviour::SplitCharacter => {
            new.write(1, b"{\"type\":\"token\",\"content\":\"\xc3").write(1, b"\xa9\"}\n").done()
        }
        Behaviour::NoDone => new.token(),
        Behaviour::BadLine => new.token().say("hello").done(),
        Behaviour::AfterDone => new.done().token(),
        Behaviour::ExitCode => new.done().code("(call $exit (i32.const 3))"),
        Behaviour::Flood => new.forever(Program::token),
        Behaviour::Spin => new.started().forever(|body| body),
        Behaviour::Wait => new.started().code(WAIT),
        Behaviour::Memory => new.started().code(
            "(loop $more (br_if $more
                (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0)))) (unreachable)",
        ),
        Behaviour::LongLine => new.forever(|body| body.write(1, [b'x'; 1000])),
        Behaviour::NoisyStderr => new
            .code("(memory.fill (i32.const 65536) (i32.const 101) (i32.const 65536))")
            .code(&"(call $write (i32.const 2) (i32.const 65536) (i32.const 65536))".repeat(16))
            .done(),
        Behaviour::Error => {
            new.say(r#"{"type":"error","message":"no"}"#).code("(call $exit (i32.const 1))")
        }
    }
}

/// One subscription to the monotonic clock, 10^18 ns from now.
const WAIT: &str = "(memory.fill (i32.const 128) (i32.const 0) (i32.const 96))
    (i32.store (i32.const 144) (i32.const 1))
    (i64.store (i32.const 152) (i64.const 1000000000000000000))
    (drop (call $poll (i32.const 128) (i32.const 192) (i32.const 1) (i32.const 8)))";

/// The conformance suite's Cargos as modules.
#[derive(Debug)]
pub(crate) struct Modules;

impl Fixtures for Modules {
    fn cargo(&self, behaviour: Behaviour) -> (Manifest, Bytes) {
        let wasm = program(behaviour).wasm();
        (manifest(&wasm), wasm.into())
    }
}

/// A preview 2 component that prints `line` and ends as `ok` says.
pub(crate) fn component(line: &str, ok: bool) -> Vec<u8> {
    let text: String = format!("{line}\n").bytes().fold(String::new(), |mut text, byte| {
        write!(text, "\\{byte:02x}").unwrap();
        text
    });
    let length = line.len() + 1;
    let result = i32::from(!ok);
    let text = format!(
        r#"(component
        (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
        (alias export $error "error" (type $error-type))
        (import "wasi:io/streams@0.2.0" (instance $streams
            (export "output-stream" (type $output (sub resource)))
            (alias outer 1 $error-type (type $outer-error))
            (export "error" (type $error (eq $outer-error)))
            (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
            (export "stream-error" (type $stream-error (eq $failure)))
            (export "[method]output-stream.blocking-write-and-flush" (func
                (param "self" (borrow $output)) (param "contents" (list u8))
                (result (result (error $stream-error)))))))
        (alias export $streams "output-stream" (type $output-type))
        (import "wasi:cli/stdout@0.2.0" (instance $stdout
            (alias outer 1 $output-type (type $outer-output))
            (export "output-stream" (type $output (eq $outer-output)))
            (export "get-stdout" (func (result (own $output))))))
        (core module $memory (memory (export "memory") 1)
            (data (i32.const 64) "{text}"))
        (core instance $memory (instantiate $memory))
        (core func $get (canon lower (func $stdout "get-stdout")))
        (core func $write (canon lower
            (func $streams "[method]output-stream.blocking-write-and-flush")
            (memory (core memory $memory "memory"))))
        (core module $main
            (import "host" "get" (func $get (result i32)))
            (import "host" "write" (func $write (param i32 i32 i32 i32)))
            (import "memory" "memory" (memory 1))
            (func (export "run") (result i32)
                (call $write (call $get) (i32.const 64) (i32.const {length}) (i32.const 0))
                (i32.const {result})))
        (core instance $host (export "get" (func $get)) (export "write" (func $write)))
        (core instance $main (instantiate $main
            (with "host" (instance $host)) (with "memory" (instance $memory))))
        (func $run (result (result)) (canon lift (core func $main "run")))
        (instance $run (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $run)))"#
    );
    wat::parse_str(&text).unwrap()
}
