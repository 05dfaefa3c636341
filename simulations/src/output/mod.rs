//! What a run leaves behind, and what is made of it afterwards.
//!
//! While the simulation runs it fills [`Tables`] (CSV and Parquet); when it ends it writes a
//! [`Summary`]. [`plot_run`] and [`plot_sweep`] read these back, whenever that is, and draw plots
//! and write a report. Nothing here knows a node, a clock or a network, and nothing but the rows
//! decides a byte of what is written.

mod collected;
mod csv_file;
mod error;
mod figures;
mod parquet_parts;
pub mod plot;
pub mod reader;
mod report;
pub mod rows;
mod run;
pub mod stats;
mod summary;
mod sweep;
pub mod table;
mod writer;

pub use collected::Collected;
pub use error::Error;
pub use figures::figures;
pub use run::plot_run;
pub use summary::{Parameter, Summary};
pub use sweep::plot_sweep;
pub use writer::Tables;
