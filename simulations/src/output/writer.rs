//! The tables of a run while it runs. The simulation pushes rows and says when to flush; memory
//! stays bounded by what one part of each table holds. Never reads a clock: who calls decides when.

use super::{
    Error,
    csv_file::CsvFile,
    parquet_parts::ParquetParts,
    rows::TABLES,
    table::{Row, Table},
};
use std::{fmt, fs, path::Path};

struct TableWriter {
    csv: CsvFile,
    parquet: ParquetParts,
}

/// Every table of one run, open for writing.
pub struct Tables {
    writers: Vec<TableWriter>,
    rows: Vec<u64>,
}

impl Tables {
    /// Makes all tables, still empty, in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Exists`] if the directory already holds a table, otherwise what the file system
    /// said.
    pub fn create(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let open = |table: &Table| -> Result<TableWriter, Error> {
            let csv = CsvFile::create(dir, table)?;
            let parquet = ParquetParts::create(dir, table)?;
            Ok(TableWriter { csv, parquet })
        };
        let writers = TABLES.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { rows: vec![0; writers.len()], writers })
    }

    /// Adds a row to its table.
    ///
    /// # Errors
    /// What the file system said: the tables then end before this row, and writing should end too.
    pub fn push<R: Row>(&mut self, row: &R) -> Result<(), Error> {
        let writer = &mut self.writers[R::INDEX];
        writer.csv.push(row)?;
        writer.parquet.push(row)?;
        self.rows[R::INDEX] += 1;
        Ok(())
    }

    /// How many rows a table has so far.
    #[must_use]
    pub fn rows<R: Row>(&self) -> u64 {
        self.rows[R::INDEX]
    }

    /// Hands all rows so far to the CSV files, where they outlive a kill. Call it at least once a
    /// second of wall time; the files' final bytes do not depend on when.
    ///
    /// # Errors
    /// What the file system said.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.writers.iter_mut().try_for_each(|writer| writer.csv.flush())
    }

    /// Completes a Parquet part of every table that has waiting rows. Where parts end depends on
    /// when this is called: by virtual time, never by the wall clock, or equal runs differ in their
    /// bytes.
    ///
    /// # Errors
    /// What the file system or the Parquet library said.
    pub fn flush_parts(&mut self) -> Result<(), Error> {
        self.writers.iter_mut().try_for_each(|writer| writer.parquet.close())
    }

    /// Completes every table.
    ///
    /// # Errors
    /// As [`Self::flush`] and [`Self::flush_parts`].
    pub fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        self.flush_parts()
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("rows", &self.rows).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
