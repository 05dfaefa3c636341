//! One table as a directory of Parquet parts, each complete when it appears. Used by `writer`;
//! reads nothing back.
//!
//! A Parquet file is unreadable until its footer is written. A part is therefore written beside the
//! directory under a temporary name, and renamed into it when it is whole. Nothing in a part
//! depends on when, where or by what build it was written.

use super::{
    Error,
    table::{Column, Kind, Row, Table, Value},
};
use bytes::Bytes;
use parquet::{
    basic::{Compression, LogicalType, Repetition, Type as Physical},
    data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::{WriterProperties, WriterPropertiesPtr},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::{Type, TypePtr},
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A part closes at this many rows.
const PART_ROWS: usize = 65_536;
/// A part closes at this many bytes of strings, so that long reasons do not fill memory.
const PART_TEXT_BYTES: usize = 16 << 20;
/// Instead of the library's name and version, which would change the bytes with each update.
const CREATED_BY: &str = "archipelag-sim";

/// The cells of one column that wait for the part to close.
#[derive(Debug, Default)]
struct Cells {
    /// For an optional column: 1 where a cell is there, 0 where it is missing.
    present: Vec<i16>,
    integers: Vec<i64>,
    floats: Vec<f64>,
    flags: Vec<bool>,
    text: Vec<u8>,
    /// Where each string ends in `text`.
    text_ends: Vec<usize>,
}

pub(crate) struct ParquetParts {
    dir: PathBuf,
    temporary: PathBuf,
    columns: &'static [Column],
    schema: TypePtr,
    properties: WriterPropertiesPtr,
    cells: Vec<Cells>,
    rows: usize,
    /// Parts with rows that are complete.
    parts: u32,
}

impl ParquetParts {
    /// Makes the directory, which must not exist, with a first part without rows: so the table
    /// opens from the start, and the first part with rows takes its place.
    pub(crate) fn create(run: &Path, table: &Table) -> Result<Self, Error> {
        let dir = parts_path(run, table);
        fs::create_dir(&dir).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(dir.clone()),
            _ => Error::Io { path: dir.clone(), source },
        })?;
        // Out of the directory: some readers refuse to open one with other files in it.
        let temporary = run.join(format!(".{}.part", table.name));
        let schema = schema(table)
            .map_err(|source| Error::Parquet { path: dir.clone(), source })
            .map(Arc::new)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(CREATED_BY.to_owned())
            .build();
        let parts = Self {
            dir,
            temporary,
            columns: table.columns,
            schema,
            properties: Arc::new(properties),
            cells: table.columns.iter().map(|_| Cells::default()).collect(),
            rows: 0,
            parts: 0,
        };
        parts.write_part()?;
        Ok(parts)
    }

    pub(crate) fn push(&mut self, row: &impl Row) -> Result<(), Error> {
        let mut cells = self.cells.iter_mut();
        row.each(|value| {
            if let Some(cells) = cells.next() {
                cells.push(value);
            }
        });
        self.rows += 1;
        let text_bytes: usize = self.cells.iter().map(|cells| cells.text.len()).sum();
        if self.rows >= PART_ROWS || text_bytes >= PART_TEXT_BYTES { self.close() } else { Ok(()) }
    }

    /// Completes a part with the rows that wait, if any do.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        if self.rows == 0 {
            return Ok(());
        }
        self.write_part()?;
        self.cells.iter_mut().for_each(Cells::clear);
        self.rows = 0;
        self.parts += 1;
        Ok(())
    }

    fn write_part(&self) -> Result<(), Error> {
        let file = File::create(&self.temporary).map_err(Error::io(&self.temporary))?;
        self.write_rows(file)
            .map_err(|source| Error::Parquet { path: self.temporary.clone(), source })?;
        let part = self.dir.join(format!("part-{:05}.parquet", self.parts));
        fs::rename(&self.temporary, &part).map_err(Error::io(part))
    }

    fn write_rows(&self, file: File) -> Result<(), ParquetError> {
        let mut writer =
            SerializedFileWriter::new(file, self.schema.clone(), self.properties.clone())?;
        if self.rows > 0 {
            let mut group = writer.next_row_group()?;
            let mut columns = self.columns.iter().zip(&self.cells);
            while let Some(mut writer) = group.next_column()? {
                if let Some((column, cells)) = columns.next() {
                    cells.write(column, &mut writer)?;
                }
                writer.close()?;
            }
            group.close()?;
        }
        writer.close().map(|_| ())
    }
}

impl Cells {
    fn push(&mut self, value: Value<'_>) {
        self.present.push(i16::from(value != Value::Null));
        match value {
            Value::Null => {}
            // The schema says unsigned; the bits are the same.
            Value::U64(number) => self.integers.push(number.cast_signed()),
            Value::I64(number) => self.integers.push(number),
            Value::F64(number) => self.floats.push(number),
            Value::Bool(flag) => self.flags.push(flag),
            Value::Text(string) => {
                self.text.extend_from_slice(string.as_bytes());
                self.text_ends.push(self.text.len());
            }
        }
    }

    fn clear(&mut self) {
        self.present.clear();
        self.integers.clear();
        self.floats.clear();
        self.flags.clear();
        self.text.clear();
        self.text_ends.clear();
    }

    fn write(
        &self,
        column: &Column,
        writer: &mut SerializedColumnWriter<'_>,
    ) -> Result<(), ParquetError> {
        let present = column.optional.then_some(self.present.as_slice());
        match column.kind {
            Kind::U64 | Kind::I64 => {
                writer.typed::<Int64Type>().write_batch(&self.integers, present, None)?
            }
            Kind::F64 => writer.typed::<DoubleType>().write_batch(&self.floats, present, None)?,
            Kind::Bool => writer.typed::<BoolType>().write_batch(&self.flags, present, None)?,
            Kind::Text => {
                writer.typed::<ByteArrayType>().write_batch(&self.strings(), present, None)?
            }
        };
        Ok(())
    }

    /// The strings, all in one allocation.
    fn strings(&self) -> Vec<ByteArray> {
        let text = Bytes::copy_from_slice(&self.text);
        let mut start = 0;
        let string = |&end: &usize| {
            let string = ByteArray::from(text.slice(start..end));
            start = end;
            string
        };
        self.text_ends.iter().map(string).collect()
    }
}

fn schema(table: &Table) -> Result<Type, ParquetError> {
    let fields = table.columns.iter().map(|column| {
        let (physical, logical) = match column.kind {
            Kind::U64 => (Physical::INT64, Some(LogicalType::integer(64, false))),
            Kind::I64 => (Physical::INT64, Some(LogicalType::integer(64, true))),
            Kind::F64 => (Physical::DOUBLE, None),
            Kind::Bool => (Physical::BOOLEAN, None),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let repetition = if column.optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        Type::primitive_type_builder(column.name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    });
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    Type::group_type_builder(table.name).with_fields(fields).build()
}

pub(crate) fn parts_path(run: &Path, table: &Table) -> PathBuf {
    run.join(format!("{}.parquet", table.name))
}
