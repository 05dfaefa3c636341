//! What can go wrong between a run and its files. Used by everything in `output`; never holds rows.

use std::{io, path::PathBuf};

/// Why output could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no: mend that (space, rights) and run or plot again.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A table is already there, and two runs in one table would be neither.
    #[error("{} is already there: give each run a directory of its own", .0.display())]
    Exists(PathBuf),
    /// No table, or no summary, is where one was looked for.
    #[error("{} holds no run: no {missing}", path.display())]
    NotARun { path: PathBuf, missing: &'static str },
    /// A CSV table that no run of this version wrote.
    #[error("{}: {source}", path.display())]
    Csv { path: PathBuf, source: csv::Error },
    /// A CSV table without a column that may not be left out.
    #[error("{} has no column `{column}`", path.display())]
    Column { path: PathBuf, column: &'static str },
    /// A cell that is not of its column's type.
    #[error("{} line {line}: column `{column}` can't be {cell:?}", path.display())]
    Cell { path: PathBuf, line: u64, column: &'static str, cell: String },
    /// The Parquet library refused what it was given: ours.
    #[error("{}: {source}", path.display())]
    Parquet { path: PathBuf, source: parquet::errors::ParquetError },
    /// A summary that is not the JSON this version writes.
    #[error("{}: {source}", path.display())]
    Summary { path: PathBuf, source: serde_json::Error },
    /// The plotting library refused what it was given: ours.
    #[error("drawing {plot}: {reason}")]
    Draw { plot: String, reason: String },
}

impl Error {
    /// For `map_err`: an I/O error with the path that it is about.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
