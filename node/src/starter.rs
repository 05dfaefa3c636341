//! The starter Cargos that every node carries: a new network has something to run before anybody
//! publishes anything. `archipelag up` publishes them in a development network.
//!
//! Their sources, and how the modules are built, are in `starter/`.

use crate::project::{Error, FILE, Project, Source};
use bytes::Bytes;

/// One starter Cargo's files, within the binary.
struct Embedded {
    project: &'static [u8],
    input_schema: &'static [u8],
    output_schema: &'static [u8],
    module: &'static [u8],
}

macro_rules! starter {
    ($($slug:literal),+ $(,)?) => {
        [$(Embedded {
            project: include_bytes!(concat!("../starter/", $slug, "/cargo.toml")),
            input_schema: include_bytes!(concat!("../starter/", $slug, "/input.schema.json")),
            output_schema: include_bytes!(concat!("../starter/", $slug, "/output.schema.json")),
            module: include_bytes!(concat!("../starter/", $slug, "/module.wasm")),
        }),+]
    };
}

static STARTER: [Embedded; 5] =
    starter!["csv-stats", "document-sha256", "json-query", "regex-extract", "text-stats"];

impl Source for Embedded {
    fn read(&self, name: &str, limit: usize) -> Result<Bytes, Error> {
        let wrong = |reason: String| Error::File { file: name.into(), reason };
        let bytes = match name {
            FILE => self.project,
            "input.schema.json" => self.input_schema,
            "output.schema.json" => self.output_schema,
            "module.wasm" => self.module,
            _ => return Err(wrong("not embedded".into())),
        };
        if bytes.len() > limit {
            return Err(wrong(format!("{} bytes, the limit is {limit}", bytes.len())));
        }
        Ok(Bytes::from_static(bytes))
    }

    fn cases(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

/// The starter Cargos, without their cases.
///
/// # Errors
/// When one of them is not valid; the tests see to it that all are.
pub fn starter_cargos() -> Result<Vec<Project>, Error> {
    STARTER.iter().map(Project::from_source).collect()
}
