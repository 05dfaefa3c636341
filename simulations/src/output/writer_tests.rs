//! Tables as another program finds them: whole, partial, empty and with hostile cells in them.

use super::*;
use crate::output::{
    csv_file::csv_path,
    parquet_parts::parts_path,
    reader,
    rows::{Delivery, Fault, Job, Lookup, Node, Violation},
};
use parquet::{
    file::{reader::FileReader as _, serialized_reader::SerializedFileReader},
    record::Field,
};
use std::{collections::BTreeMap, path::PathBuf};

const HOSTILE: &str = "a \"quoted\", line\r\nand = another\n\u{feff}\t\u{0}\u{1f600}";

fn job(number: u64) -> Job {
    Job {
        job: format!("job-{number}"),
        consumer: number % 7,
        cargo: HOSTILE.to_owned(),
        submitted_s: number as f64 / 4.0,
        started_s: number.is_multiple_of(2).then_some(1e300),
        ended_s: Some(f64::MIN_POSITIVE),
        verdict: "failed".to_owned(),
        price_microcredits: u64::MAX - number,
        reason: if number.is_multiple_of(3) { String::new() } else { HOSTILE.repeat(3) },
        ..Job::default()
    }
}

fn read<R: Row>(dir: &Path) -> Vec<R> {
    reader::rows(dir).unwrap().map(Result::unwrap).collect()
}

/// The rows of all parts, in the order of their names.
fn read_parquet<R: Row>(dir: &Path) -> Vec<Vec<Field>> {
    let mut parts: Vec<PathBuf> = fs::read_dir(parts_path(dir, &R::TABLE))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    parts.sort();
    let mut rows = Vec::new();
    for part in parts {
        let reader = SerializedFileReader::new(fs::File::open(part).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            rows.push(row.unwrap().into_columns().into_iter().map(|(_, cell)| cell).collect());
        }
    }
    rows
}

fn field(value: crate::output::table::Value<'_>) -> Field {
    use crate::output::table::Value;
    match value {
        Value::Null => Field::Null,
        Value::U64(number) => Field::ULong(number),
        Value::I64(number) => Field::Long(number),
        Value::F64(number) => Field::Double(number),
        Value::Bool(flag) => Field::Bool(flag),
        Value::Text(string) => Field::Str(string.to_owned()),
    }
}

fn fields(row: &impl Row) -> Vec<Field> {
    let mut cells = Vec::new();
    row.each(|value| cells.push(field(value)));
    cells
}

/// Every file under a directory with its bytes.
fn bytes(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn rows_come_back_from_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = Tables::create(dir.path()).unwrap();
    let jobs: Vec<Job> = (0..1000).map(job).collect();
    let node = Node { skew_ms: i64::MIN, sent_bytes: u64::MAX, ..Node::default() };
    let lookup = Lookup { found: true, latency_ms: 0.1, ..Lookup::default() };
    for (number, job) in jobs.iter().enumerate() {
        tables.push(job).unwrap();
        if number == 400 {
            tables.flush_parts().unwrap();
        }
    }
    tables.push(&node).unwrap();
    tables.push(&lookup).unwrap();
    assert_eq!((tables.rows::<Job>(), tables.rows::<Fault>()), (1000, 0));
    tables.finish().unwrap();

    assert_eq!(read::<Job>(dir.path()), jobs);
    assert_eq!(read::<Node>(dir.path())[..], *std::slice::from_ref(&node));
    assert_eq!(read::<Lookup>(dir.path())[..], *std::slice::from_ref(&lookup));
    assert_eq!(read_parquet::<Job>(dir.path()), jobs.iter().map(fields).collect::<Vec<_>>());
    assert_eq!(read_parquet::<Node>(dir.path()), [fields(&node)]);
    assert_eq!(read_parquet::<Lookup>(dir.path()), [fields(&lookup)]);
}

#[test]
fn a_killed_run_leaves_whole_rows_and_whole_parts() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = Tables::create(dir.path()).unwrap();
    for number in 0..300 {
        tables.push(&job(number)).unwrap();
        if number == 99 {
            tables.flush_parts().unwrap();
        }
        if number == 270 {
            tables.flush().unwrap();
        }
    }
    // As after a kill: nothing is written when it goes.
    std::mem::forget(tables);

    assert_eq!(read::<Job>(dir.path()), (0..271).map(job).collect::<Vec<_>>());
    assert_eq!(read_parquet::<Job>(dir.path()).len(), 100);
    assert_eq!(read::<Delivery>(dir.path()), []);
    assert_eq!(read_parquet::<Delivery>(dir.path()), Vec::<Vec<Field>>::new());
}

/// Set for the process that is killed: where it writes.
const KILLED_IN: &str = "ARCHIPELAG_TEST_KILLED_IN";

fn write_until_killed(dir: &Path) {
    let mut tables = Tables::create(dir).unwrap();
    for number in 0.. {
        tables.push(&job(number)).unwrap();
        if number % 1000 == 999 {
            tables.flush_parts().unwrap();
        }
    }
}

/// The process that is killed is this test again.
#[test]
fn a_process_killed_while_it_writes_leaves_what_can_be_read() {
    if let Some(dir) = std::env::var_os(KILLED_IN) {
        write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let name =
        concat!(module_path!(), "::a_process_killed_while_it_writes_leaves_what_can_be_read");
    let (_, name) = name.split_once("::").unwrap();
    let mut process = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(KILLED_IN, dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let third_part = parts_path(dir.path(), &Job::TABLE).join("part-00002.parquet");
    while !third_part.exists() {
        assert!(std::time::Instant::now() < deadline && process.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let jobs = read::<Job>(dir.path());
    assert!(jobs.len() > 2700, "{} rows", jobs.len());
    assert_eq!(jobs, (0..jobs.len() as u64).map(job).collect::<Vec<_>>());
    let parts = read_parquet::<Job>(dir.path());
    assert!(parts.len() >= 3000 && parts.len().is_multiple_of(1000), "{} rows", parts.len());
}

#[test]
fn a_torn_last_row_is_left_out_wherever_it_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = Tables::create(dir.path()).unwrap();
    let fault =
        |kind: &str| Fault { kind: kind.to_owned(), until_s: Some(2.5), ..Fault::default() };
    tables.push(&fault("crash")).unwrap();
    tables.flush().unwrap();
    let path = csv_path(dir.path(), &Fault::TABLE);
    let whole = fs::read(&path).unwrap();
    tables.push(&fault("a, \"ü\"")).unwrap();
    tables.finish().unwrap();
    let more = fs::read(&path).unwrap();
    for end in whole.len()..more.len() {
        fs::write(&path, &more[..end]).unwrap();
        assert_eq!(read::<Fault>(dir.path()), [fault("crash")], "cut at {end}");
    }
}

#[test]
fn parts_close_when_they_are_full() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = Tables::create(dir.path()).unwrap();
    for node in 0..70_000 {
        tables.push(&Delivery { node, ..Delivery::default() }).unwrap();
    }
    let long = "x".repeat(9 << 20);
    for _ in 0..3 {
        tables.push(&Violation { what: long.clone(), ..Violation::default() }).unwrap();
    }
    let parts = |table| fs::read_dir(parts_path(dir.path(), table)).unwrap().count();
    assert_eq!(read_parquet::<Delivery>(dir.path()).len(), 65_536);
    assert_eq!(read_parquet::<Violation>(dir.path()).len(), 2);
    tables.finish().unwrap();
    assert_eq!((parts(&Delivery::TABLE), parts(&Violation::TABLE)), (2, 2));
    assert_eq!(read_parquet::<Delivery>(dir.path()).len(), 70_000);
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let write = |flushes: u64| {
        let dir = tempfile::tempdir().unwrap();
        let mut tables = Tables::create(dir.path()).unwrap();
        for number in 0..2000 {
            tables.push(&job(number)).unwrap();
            if number.is_multiple_of(flushes) {
                tables.flush().unwrap();
            }
        }
        tables.finish().unwrap();
        bytes(dir.path())
    };
    let (one, other) = (write(7), write(1000));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    assert!(one == other);
    assert_eq!(one.len(), 2 * TABLES.len(), "temporary files are gone");
    let part = &one[Path::new("jobs.parquet/part-00000.parquet")];
    assert!(!part.windows(10).any(|bytes| bytes == b"parquet-rs"));
}

#[test]
fn a_second_run_does_not_mix_with_the_first() {
    let dir = tempfile::tempdir().unwrap();
    Tables::create(dir.path()).unwrap().finish().unwrap();
    assert!(matches!(Tables::create(dir.path()), Err(Error::Exists(_))));
}

#[test]
fn tables_of_other_versions_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = csv_path(dir.path(), &Fault::TABLE);
    // Another order, a column more, an optional one less.
    fs::write(&path, "target,severity,kind,time_s\nall,9,loss,1.5\n").unwrap();
    let expected =
        Fault { time_s: 1.5, kind: "loss".to_owned(), target: "all".to_owned(), until_s: None };
    assert_eq!(read::<Fault>(dir.path()), [expected]);
    fs::write(&path, "kind,time_s\nloss,1.5\n").unwrap();
    assert!(matches!(
        reader::rows::<Fault>(dir.path()),
        Err(Error::Column { column: "target", .. })
    ));
    fs::write(&path, "target,kind,time_s\nall,loss,soon\nall,loss,2\n").unwrap();
    let mut rows = reader::rows::<Fault>(dir.path()).unwrap();
    let error = rows.next().unwrap().unwrap_err().to_string();
    assert!(error.ends_with("line 2: column `time_s` can't be \"soon\""), "{error}");
    assert!(rows.next().is_none());
    assert_eq!(read::<Job>(dir.path()), []);
}
