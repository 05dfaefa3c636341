//! Reads a run's tables back, from CSV: unlike Parquet it holds every flushed row of a run that was
//! killed. Used by `run` for figures, plots and the report; never writes.

use super::{
    Error,
    csv_file::csv_path,
    table::{Row, Table},
};
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    marker::PhantomData,
    path::{Path, PathBuf},
};

/// The rows of one table, one at a time. Ends after the first error.
#[derive(Debug)]
pub struct Rows<R> {
    open: Option<Open>,
    row: PhantomData<R>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    csv: csv::Reader<File>,
    /// For each column of the row, where the file has it.
    places: Vec<Option<usize>>,
    /// Fields of a whole row.
    width: usize,
    /// The row that comes next, read ahead, since the last one may be torn.
    ahead: Option<csv::StringRecord>,
    /// Whether the file ends within a row.
    torn: bool,
}

/// Opens a table. One that is not there has no rows.
///
/// # Errors
/// What the file system said, or a column that is not in the file.
pub fn rows<R: Row>(dir: &Path) -> Result<Rows<R>, Error> {
    let path = csv_path(dir, &R::TABLE);
    let open = match File::open(&path) {
        Ok(file) => Some(Open::new(path, file, &R::TABLE)?),
        Err(source) if source.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(Error::Io { path, source }),
    };
    Ok(Rows { open, row: PhantomData })
}

impl Open {
    fn new(path: PathBuf, mut file: File, table: &Table) -> Result<Self, Error> {
        let torn = is_torn(&mut file).map_err(Error::io(&path))?;
        let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(file);
        let header =
            csv.headers().map_err(|source| Error::Csv { path: path.clone(), source })?.clone();
        let mut places = Vec::with_capacity(table.columns.len());
        for column in table.columns {
            let place = header.iter().position(|name| name == column.name);
            if place.is_none() && !column.optional {
                return Err(Error::Column { path, column: column.name });
            }
            places.push(place);
        }
        let mut open = Self { path, csv, places, width: header.len(), ahead: None, torn };
        open.ahead = open.read()?;
        Ok(open)
    }

    fn read(&mut self) -> Result<Option<csv::StringRecord>, Error> {
        let mut record = csv::StringRecord::new();
        match self.csv.read_record(&mut record) {
            Ok(more) => Ok(more.then_some(record)),
            // A row that was cut within a character is the last one, and is left out here.
            Err(source) if self.torn && matches!(source.kind(), csv::ErrorKind::Utf8 { .. }) => {
                self.torn = false;
                Ok(None)
            }
            Err(source) => Err(Error::Csv { path: self.path.clone(), source }),
        }
    }

    fn next_row<R: Row>(&mut self) -> Result<Option<R>, Error> {
        let Some(record) = self.ahead.take() else { return Ok(None) };
        self.ahead = self.read()?;
        if self.ahead.is_none() && (self.torn || record.len() < self.width) {
            return Ok(None);
        }
        let fields = self.places.iter().map(|place| place.and_then(|place| record.get(place)));
        let row = R::parse(fields).map_err(|(column, cell)| Error::Cell {
            path: self.path.clone(),
            line: record.position().map_or(0, csv::Position::line),
            column,
            cell,
        })?;
        Ok(Some(row))
    }
}

impl<R: Row> Iterator for Rows<R> {
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.open.as_mut()?.next_row().transpose();
        if !matches!(row, Some(Ok(_))) {
            self.open = None;
        }
        row
    }
}

/// Whether the file's last row has no end, which a full disk or a power cut can do. Leaves the file
/// at its start.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    file.rewind()?;
    Ok(last != *b"\n")
}
