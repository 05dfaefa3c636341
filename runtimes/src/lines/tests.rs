//! Tests of the line reader: each promise once, then all of them over random cuts.

use super::*;
use proptest::prelude::*;

const MAX: u64 = 4 << 20;

/// Runs `pieces` through a reader: the lines that a Consumer gets, and the end.
fn read(pieces: &[&[u8]], bytes_max: u64, exit: Exit) -> (Vec<String>, Verdict, Option<Failure>) {
    let mut lines = Lines::new(bytes_max);
    let mut events = Vec::new();
    for piece in pieces {
        if let Err(failure) = lines.push(piece, &mut events) {
            assert_eq!(lines.push(b"more", &mut events), Err(failure), "a breach is final");
            break;
        }
    }
    let end = lines.finish(exit);
    events.extend(end.events);
    (events.iter().map(Event::to_line).collect(), end.verdict, end.failure)
}

fn read_text(text: &str, exit: Exit) -> (Vec<String>, Verdict, Option<Failure>) {
    read(&[text.as_bytes()], MAX, exit)
}

fn failed(text: &str, code: i32) -> (Step, String) {
    let (_, verdict, failure) = read_text(text, Exit::Code(code));
    assert_eq!(verdict, Verdict::Failed);
    let failure = failure.expect("a failure has a reason");
    (failure.step, failure.message)
}

const TOKEN: &str = r#"{"type":"token","content":"é"}"#;
const DONE: &str = r#"{"type":"done"}"#;
const ERROR: &str = r#"{"type":"error","message":"no"}"#;

#[test]
fn done_comes_last_with_or_without_its_newline() {
    for text in
        [format!("{TOKEN}\n{DONE}\n"), format!("{TOKEN}\n{DONE}"), format!("{TOKEN}\r\n{DONE}\r")]
    {
        let (lines, verdict, failure) = read_text(&text, Exit::Code(0));
        assert_eq!(
            (lines, verdict, failure),
            (vec![TOKEN.into(), DONE.into()], Verdict::Completed, None)
        );
    }
}

#[test]
fn done_is_withheld_until_the_exit() {
    let mut lines = Lines::new(MAX);
    let mut events = Vec::new();
    lines.push(format!("{DONE}\n").as_bytes(), &mut events).unwrap();
    assert!(events.is_empty());
}

#[test]
fn a_job_without_done_has_failed_and_what_it_said_is_kept() {
    let (lines, verdict, failure) = read_text(TOKEN, Exit::Code(0));
    assert_eq!((lines, verdict), (vec![TOKEN.to_owned()], Verdict::Failed));
    assert_eq!(failure.unwrap().message, "exit code 0 after 1 lines without `done` or `error`");
    assert_eq!(failed("", 0).0, Step::Protocol);
    assert_eq!(failed(TOKEN, 7).1, "exit code 7 after 1 lines without `done` or `error`");
}

#[test]
fn an_exit_code_after_done_is_a_failure_and_done_is_not_sent() {
    let (lines, verdict, failure) = read_text(DONE, Exit::Code(3));
    assert_eq!((lines, verdict), (vec![], Verdict::Failed));
    assert_eq!(failure, Some(Failure::new(Step::Protocol, "exit code 3 after `done`")));
}

#[test]
fn an_error_line_is_the_cargos_own_failure_whatever_the_exit() {
    let trap = Exit::Stopped(Failure::new(Step::Trap, "unreachable"));
    for exit in [Exit::Code(0), Exit::Code(1), trap] {
        let (lines, verdict, failure) = read_text(&format!("{TOKEN}\n{ERROR}\n"), exit);
        assert_eq!((lines, verdict), (vec![TOKEN.into(), ERROR.into()], Verdict::CargoFailed));
        let failure = failure.unwrap();
        assert_eq!(failure, Failure::new(Step::Cargo, "the Cargo said `error` in line 2"));
    }
}

#[test]
fn a_trap_after_done_is_a_failure_and_a_cut_line_is_not_blamed() {
    let trap = Failure::new(Step::Trap, "unreachable");
    for text in [format!("{DONE}\n"), format!("{TOKEN}\n{{\"type\":\"tok")] {
        let (lines, verdict, failure) = read_text(&text, Exit::Stopped(trap.clone()));
        assert!(!lines.contains(&DONE.to_owned()));
        assert_eq!((verdict, failure), (Verdict::Failed, Some(trap.clone())));
    }
}

#[test]
fn what_is_not_an_event_is_named_by_its_line() {
    let cases = [
        (
            format!("{TOKEN}\nhello\n{DONE}\n"),
            "line 2: not a JSON object: syntax error at column 1",
        ),
        (format!("\n{DONE}\n"), "line 1: not a JSON object: it ends too early at column 0"),
        ("{\"type\":\"secret\"}\n".into(), "line 1: its type is not one of an event"),
        (
            format!("{TOKEN}\n{TOKEN}\n{{\"type\":\"token\"}}"),
            "line 3: token needs the field `content`",
        ),
        (format!("{DONE}\n{TOKEN}\n"), "line 2: output after `done`"),
        (format!("{DONE}\n\n"), "line 2: output after `done`"),
        (format!("{ERROR}\n{DONE}\n"), "line 2: output after `error`"),
        (format!("{DONE}\n{DONE}"), "line 2: output after `done`"),
    ];
    for (text, message) in cases {
        assert_eq!(failed(&text, 0), (Step::Protocol, message.to_owned()), "{text}");
    }
    let (_, _, failure) = read(&[b"\xff\xfe\n"], MAX, Exit::Code(0));
    assert_eq!(failure.unwrap().message, "line 1: not UTF-8");
}

#[test]
fn characters_may_be_split_over_reads() {
    let text = format!("{TOKEN}\n{DONE}");
    let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    let (lines, verdict, _) = read(&bytes, MAX, Exit::Code(0));
    assert_eq!((lines, verdict), (vec![TOKEN.into(), DONE.into()], Verdict::Completed));
}

fn token_of(line_bytes: usize) -> String {
    let frame = r#"{"type":"token","content":""}"#.len();
    format!(r#"{{"type":"token","content":"{}"}}"#, "x".repeat(line_bytes - frame))
}

#[test]
fn lines_are_taken_up_to_the_limit_and_no_further() {
    let longest = token_of(MAX_LINE_BYTES);
    let (lines, verdict, _) = read_text(&format!("{longest}\r\n{DONE}\n"), Exit::Code(0));
    assert_eq!((lines, verdict), (vec![longest, DONE.into()], Verdict::Completed));
    let expected = (Step::Protocol, format!("line 1: longer than {MAX_LINE_BYTES} bytes"));
    assert_eq!(failed(&format!("{}\n", token_of(MAX_LINE_BYTES + 1)), 0), expected);
    assert_eq!(failed(&token_of(MAX_LINE_BYTES + 1), 0), expected);
}

#[test]
fn a_line_that_never_ends_is_dropped_as_soon_as_it_is_too_long() {
    let mut lines = Lines::new(u64::MAX);
    let mut events = Vec::new();
    let piece = vec![b'x'; 64 << 10];
    let pushes = (0..).take_while(|_| lines.push(&piece, &mut events).is_ok()).count();
    assert_eq!(pushes, MAX_LINE_BYTES / piece.len());
    assert_eq!(lines.partial.capacity(), 0);
}

#[test]
fn output_is_taken_up_to_the_limit_and_no_further() {
    let text = format!("{TOKEN}\n{DONE}\n");
    let exactly = text.len() as u64;
    assert_eq!(read(&[text.as_bytes()], exactly, Exit::Code(0)).1, Verdict::Completed);
    let (lines, verdict, failure) = read(&[text.as_bytes()], exactly - 1, Exit::Code(0));
    assert_eq!((lines, verdict), (vec![TOKEN.to_owned()], Verdict::Failed));
    let message = format!("output: more than {} bytes", exactly - 1);
    assert_eq!(failure, Some(Failure::new(Step::Limit, message)));
}

#[test]
fn a_cargo_is_not_paid_for_tokens_that_it_only_claims() {
    let claim = |prompt, completion, total, tokens| {
        Some(Usage {
            tokens,
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: total,
        })
    };
    assert_eq!(charged_tokens(5, None), 5);
    assert_eq!(charged_tokens(5, claim(None, None, None, None)), 5);
    assert_eq!(charged_tokens(5, claim(None, None, Some(1000), None)), 5);
    assert_eq!(charged_tokens(0, claim(None, None, None, Some(1000))), 0);
    assert_eq!(charged_tokens(5, claim(None, None, None, Some(3))), 3);
    assert_eq!(charged_tokens(5, claim(Some(1), Some(2), None, Some(1))), 3);
    assert_eq!(charged_tokens(5, claim(Some(u64::MAX), Some(u64::MAX), None, None)), 5);
    assert!(!is_charged_token(&Event::Token { content: String::new() }));
}

/// Output as hostile or broken Cargos print it: events, half events, noise.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => Just(format!("{TOKEN}\n").into_bytes()),
        2 => Just(b"{\"type\":\"progress\",\"step\":1,\"total\":2}\r\n".to_vec()),
        2 => Just(format!("{DONE}\n").into_bytes()),
        1 => Just(format!("{ERROR}\n").into_bytes()),
        1 => Just(DONE.as_bytes().to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn however_it_is_cut_the_result_is_the_same(
        output in output(),
        cuts in proptest::collection::vec(1_usize..40, 0..30),
        limit in 0_u64..300,
        code in 0_i32..2,
    ) {
        let mut pieces = Vec::new();
        let mut rest = output.as_slice();
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        let whole = read(&[&output], limit, Exit::Code(code));
        prop_assert_eq!(&read(&pieces, limit, Exit::Code(code)), &whole);
        let (lines, verdict, failure) = whole;
        let is_last = |line: &String| line.starts_with(r#"{"type":"done"#) || line.starts_with(r#"{"type":"error"#);
        let last = lines.iter().filter(|line| is_last(line)).count();
        let said_so = matches!(verdict, Verdict::Completed | Verdict::CargoFailed);
        prop_assert_eq!(last, usize::from(said_so));
        prop_assert_eq!(lines.last().is_some_and(is_last), said_so);
        prop_assert_eq!(failure.is_none(), verdict == Verdict::Completed);
    }
}
