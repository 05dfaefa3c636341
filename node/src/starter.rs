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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{environment::TokioExecutor, project};
    use archipelag_runtimes::wasm::{Config, WasmRuntime};
    use std::{path::Path, sync::Arc};

    #[test]
    fn what_is_embedded_is_what_lies_in_the_folders() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("starter");
        let embedded = starter_cargos().unwrap();
        let folders = std::fs::read_dir(&root).unwrap().filter_map(Result::ok);
        let folders = folders.filter(|entry| entry.path().join(FILE).exists()).count();
        assert_eq!(embedded.len(), folders);
        for cargo in embedded {
            let on_disk = Project::load(&root.join(&cargo.manifest.slug)).unwrap();
            assert_eq!(cargo.manifest, on_disk.manifest);
            assert_eq!(cargo.module, on_disk.module);
            assert!(!on_disk.cases.is_empty(), "{} has no cases", cargo.manifest.slug);
        }
    }

    /// Every behaviour case of every starter Cargo, in the real runtime.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_cases_hold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("starter");
        let executor = Arc::new(TokioExecutor(tokio::runtime::Handle::current()));
        let workers = Arc::new(crate::environment::InlineWorkers(executor));
        let runtime = WasmRuntime::new(Config::default(), workers).unwrap();
        for cargo in starter_cargos().unwrap() {
            let project = Project::load(&root.join(&cargo.manifest.slug)).unwrap();
            let report = project::check(&project, Some(&runtime)).await.unwrap();
            assert!(report.problems.is_empty(), "{}: {:?}", project.manifest.slug, report.problems);
            assert_eq!(report.cases.len(), project.cases.len());
            for case in &report.cases {
                let slug = &project.manifest.slug;
                assert_eq!(case.failure, None, "{slug}/{}", case.name);
            }
        }
    }
}
