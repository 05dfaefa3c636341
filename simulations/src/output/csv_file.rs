//! One table as a CSV file that always ends with a whole row. Used by `writer`; reads nothing.

use super::{
    Error,
    table::{Row, Table, Value},
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Rows between two writes to the file, unless somebody flushes earlier.
const ROWS_PER_WRITE: u32 = 256;

/// The file, and what the CSV writer has handed over so far. It is written out in `flush` only,
/// which is called between rows: a process that is killed leaves no half row.
struct WholeRows {
    file: File,
    pending: Vec<u8>,
}

impl Write for WholeRows {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.pending);
        // Part of it may be in the file even after an error, so it is never written again.
        self.pending.clear();
        written
    }
}

pub(crate) struct CsvFile {
    path: PathBuf,
    rows: csv::Writer<WholeRows>,
    waiting: u32,
    /// A number's text, kept for its allocation.
    text: String,
}

impl CsvFile {
    /// Makes the file, which must not exist, and writes its header.
    pub(crate) fn create(dir: &Path, table: &Table) -> Result<Self, Error> {
        let path = csv_path(dir, table);
        let file =
            OpenOptions::new().write(true).create_new(true).open(&path).map_err(|source| {
                match source.kind() {
                    io::ErrorKind::AlreadyExists => Error::Exists(path.clone()),
                    _ => Error::Io { path: path.clone(), source },
                }
            })?;
        let rows = csv::Writer::from_writer(WholeRows { file, pending: Vec::new() });
        let mut csv = Self { path, rows, waiting: 0, text: String::new() };
        let header = csv.rows.write_record(table.columns.iter().map(|column| column.name));
        csv.checked(header)?;
        csv.flush()?;
        Ok(csv)
    }

    pub(crate) fn push(&mut self, row: &impl Row) -> Result<(), Error> {
        let mut done = Ok(());
        row.each(|value| {
            if done.is_ok() {
                done = field(&mut self.rows, &mut self.text, value);
            }
        });
        // An empty record after fields ends the row.
        let done = done.and_then(|()| self.rows.write_record(None::<&[u8]>));
        self.checked(done)?;
        self.waiting += 1;
        if self.waiting >= ROWS_PER_WRITE { self.flush() } else { Ok(()) }
    }

    /// Hands every row so far to the operating system, which keeps it even if the process is
    /// killed.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.waiting = 0;
        self.rows.flush().map_err(Error::io(&self.path))
    }

    fn checked(&self, done: csv::Result<()>) -> Result<(), Error> {
        done.map_err(|source| Error::Csv { path: self.path.clone(), source })
    }
}

/// Floats always show a point or an exponent, so that a reader that guesses types from the first
/// rows does not take seconds for integers.
fn field(
    rows: &mut csv::Writer<WholeRows>,
    text: &mut String,
    value: Value<'_>,
) -> csv::Result<()> {
    use std::fmt::Write as _;
    text.clear();
    // Writing to a string can't fail.
    let _ = match value {
        Value::Null => Ok(()),
        Value::U64(number) => write!(text, "{number}"),
        Value::I64(number) => write!(text, "{number}"),
        Value::F64(number) => write!(text, "{number:?}"),
        Value::Bool(flag) => write!(text, "{flag}"),
        Value::Text(string) => return rows.write_field(string),
    };
    rows.write_field(&text)
}

pub(crate) fn csv_path(dir: &Path, table: &Table) -> PathBuf {
    dir.join(format!("{}.csv", table.name))
}
