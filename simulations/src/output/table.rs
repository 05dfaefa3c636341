//! What a table is: its columns, the types of its cells, and the macro that defines each row once
//! for CSV, Parquet and the listing. Used by `rows`, the writers and the reader; opens no file.

/// The type of a column's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    U64,
    I64,
    F64,
    Bool,
    Text,
}

impl Kind {
    /// As the listing says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
            Self::Bool => "bool",
            Self::Text => "string",
        }
    }
}

/// One column. Its unit is in its name.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether a cell may be missing: empty in CSV, null in Parquet.
    pub optional: bool,
    pub meaning: &'static str,
}

/// One table: `NAME.csv` and `NAME.parquet/` in a run's directory.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    pub name: &'static str,
    pub meaning: &'static str,
    pub columns: &'static [Column],
}

/// A cell on its way into a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Null,
    U64(u64),
    I64(i64),
    F64(f64),
    Bool(bool),
    Text(&'a str),
}

/// A Rust type that a cell can have.
pub trait Cell: Sized {
    const KIND: Kind;
    const OPTIONAL: bool = false;

    fn value(&self) -> Value<'_>;

    /// The cell that a CSV field stands for, if it is of this type.
    fn parse(field: &str) -> Option<Self>;

    /// The cell of a row whose table lacks the column, if a cell may be missing.
    #[must_use]
    fn missing() -> Option<Self> {
        None
    }
}

/// One row type of one table.
pub trait Row: Sized {
    const TABLE: Table;
    /// Where the table stands in [`TABLES`](super::rows::TABLES).
    const INDEX: usize;

    /// Hands over the cells in the order of the columns.
    fn each(&self, take: impl FnMut(Value<'_>));

    /// Makes a row of CSV fields in the order of the columns, `None` where the table has no such
    /// column.
    ///
    /// # Errors
    /// The first column whose field is not of its type.
    fn parse<'a>(
        fields: impl Iterator<Item = Option<&'a str>>,
    ) -> Result<Self, (&'static str, String)>;
}

macro_rules! cell {
    ($type:ty, $kind:ident) => {
        impl Cell for $type {
            const KIND: Kind = Kind::$kind;

            fn value(&self) -> Value<'_> {
                Value::$kind(*self)
            }

            fn parse(field: &str) -> Option<Self> {
                field.parse().ok()
            }
        }
    };
}

cell!(u64, U64);
cell!(i64, I64);
cell!(f64, F64);
cell!(bool, Bool);

impl Cell for String {
    const KIND: Kind = Kind::Text;

    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }

    fn parse(field: &str) -> Option<Self> {
        Some(field.to_owned())
    }
}

/// In CSV a missing string and an empty one read the same, as missing; Parquet tells them apart.
impl<T: Cell> Cell for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;

    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Cell::value)
    }

    fn parse(field: &str) -> Option<Self> {
        if field.is_empty() { Some(None) } else { T::parse(field).map(Some) }
    }

    fn missing() -> Option<Self> {
        Some(None)
    }
}

/// Takes the next field as one cell of `column`.
///
/// # Errors
/// The column and the field, if that is not of the cell's type.
pub(crate) fn take_cell<'a, T: Cell>(
    column: &'static str,
    fields: &mut impl Iterator<Item = Option<&'a str>>,
) -> Result<T, (&'static str, String)> {
    let field = fields.next().flatten();
    field.map_or_else(T::missing, T::parse).ok_or_else(|| (column, field.unwrap_or("").to_owned()))
}

/// Defines every table: its row as a plain struct, its columns, and the list of all of them. What
/// stands above a column in the source is its meaning in the listing, so it takes one line.
macro_rules! tables {
    ($(
        #[doc = $meaning:literal]
        $table:ident: $row:ident {
            $( #[doc = $about:literal] $column:ident: $type:ty, )+
        }
    )+) => {
        #[derive(Debug, Clone, Copy)]
        enum Index { $( $row ),+ }

        $(
            #[doc = $meaning]
            #[derive(Debug, Clone, PartialEq, Default)]
            pub struct $row {
                $( #[doc = $about] pub $column: $type, )+
            }

            impl Row for $row {
                const TABLE: Table = Table {
                    name: stringify!($table),
                    meaning: $meaning.trim_ascii(),
                    columns: &[ $( Column {
                        name: stringify!($column),
                        kind: <$type as Cell>::KIND,
                        optional: <$type as Cell>::OPTIONAL,
                        meaning: $about.trim_ascii(),
                    } ),+ ],
                };
                const INDEX: usize = Index::$row as usize;

                fn each(&self, mut take: impl FnMut(Value<'_>)) {
                    $( take(self.$column.value()); )+
                }

                fn parse<'a>(
                    mut fields: impl Iterator<Item = Option<&'a str>>,
                ) -> Result<Self, (&'static str, String)> {
                    Ok(Self {
                        $( $column: take_cell(stringify!($column), &mut fields)?, )+
                    })
                }
            }
        )+

        /// Every table of a run, in the order of the listing.
        pub const TABLES: &[Table] = &[ $( <$row as Row>::TABLE ),+ ];
    };
}
pub(crate) use tables;
