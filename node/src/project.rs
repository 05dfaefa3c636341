//! A Cargo as its author keeps it: a folder with `cargo.toml`, schemas, module and cases.
//!
//! `archipelag cargo new|check|publish` and the starter Cargos come through here; the layout is
//! described in `starter/README.md`. This reads and validates; it neither signs nor sends.

mod check;
mod file;
mod skeleton;

pub use check::{CaseOutcome, Report, check};
pub use skeleton::create;

use archipelag_protocol::{
    id::ContentId,
    limits::{MAX_ARTIFACT_BYTES, MAX_SCHEMA_BYTES},
    manifest::{self, Artifact, Manifest, RuntimeType},
    policy::PayoutPolicy,
};
use bytes::Bytes;
use file::ProjectFile;
use serde::Deserialize;
use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};
use thiserror::Error;

/// The project file's name.
pub const FILE: &str = "cargo.toml";
const MAX_FILE_BYTES: usize = 64 << 10;
/// One behaviour case: input and expectation.
const MAX_CASE_BYTES: usize = 24 << 20;
const MAX_CASES: usize = 1_000;

/// Why a project was refused.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{}: {reason}", path.display())]
    Io { path: PathBuf, reason: io::Error },
    #[error("{file}: {reason}")]
    File { file: String, reason: String },
    #[error("{FILE}: {0}")]
    Manifest(#[from] manifest::Error),
}

fn wrong(file: &str, reason: impl Into<String>) -> Error {
    Error::File { file: file.into(), reason: reason.into() }
}

/// A Cargo that is ready to be signed.
#[derive(Clone, Debug)]
pub struct Project {
    pub manifest: Manifest,
    /// The module of a wasm Cargo, else empty.
    pub module: Bytes,
    pub cases: Vec<Case>,
}

/// A behaviour case: this input must give that output.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub input: serde_json::Value,
    pub expected: Expected,
}

/// What a case expects.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// Exactly these events.
    Events(Vec<serde_json::Value>),
    /// A `result` with exactly this data, then `done`; `status` and `progress` are left aside.
    Result(serde_json::Value),
    /// An `error` at the end whose message contains this.
    Error(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    input: serde_json::Value,
    events: Option<Vec<serde_json::Value>>,
    #[serde(default, deserialize_with = "present")]
    result: Option<serde_json::Value>,
    error: Option<String>,
}

/// Tells `"result": null` from no result.
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(d).map(Some)
}

/// A source of a project's files: a folder, or what the binary carries.
pub(crate) trait Source {
    /// The file's bytes, at most `limit`. `name` has been checked to stay inside.
    fn read(&self, name: &str, limit: usize) -> Result<Bytes, Error>;
    /// The cases' file names, in order.
    fn cases(&self) -> Result<Vec<String>, Error>;
}

struct Folder<'a>(&'a Path);

impl Source for Folder<'_> {
    fn read(&self, name: &str, limit: usize) -> Result<Bytes, Error> {
        let path = self.0.join(name);
        let io = |reason| Error::Io { path: path.clone(), reason };
        let length = fs::metadata(&path).map_err(io)?.len();
        if length > limit as u64 {
            return Err(wrong(name, format!("{length} bytes, the limit is {limit}")));
        }
        fs::read(&path).map(Bytes::from).map_err(io)
    }

    fn cases(&self) -> Result<Vec<String>, Error> {
        let path = self.0.join("cases");
        let io = |reason| Error::Io { path: path.clone(), reason };
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            if let Some(name) = name.to_str().filter(|name| name.ends_with(".json")) {
                names.push(name.to_owned());
            }
            if names.len() > MAX_CASES {
                return Err(wrong("cases", format!("more than {MAX_CASES} files")));
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl Project {
    /// Reads and validates the folder.
    ///
    /// # Errors
    /// The file and field that is wrong.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        Self::from_source(&Folder(folder))
    }

    pub(crate) fn from_source(source: &impl Source) -> Result<Self, Error> {
        let text = read_text(source, FILE, MAX_FILE_BYTES)?;
        let file: ProjectFile = toml::from_str(&text)
            .map_err(|e| wrong(FILE, format!("\n{}", e.to_string().trim_end())))?;
        let input_schema = read_schema(source, "input_schema", &file.input_schema)?;
        let output_schema = read_schema(source, "output_schema", &file.output_schema)?;
        let ((artifact, module), price) = (artifact(source, &file)?, file.price());
        let manifest = Manifest {
            name: file.name,
            slug: file.slug,
            version: file.version,
            description: file.description,
            runtime_type: file.runtime_type,
            artifact,
            input_schema,
            output_schema,
            price,
            requirements: file.requirements.into(),
            category: file.category,
            tags: file.tags,
            revenue_share_percent: file.revenue_share,
        };
        manifest.validate(&PayoutPolicy::default())?;
        let names = source.cases()?;
        let cases = names.iter().map(|name| read_case(source, name)).collect::<Result<_, _>>()?;
        Ok(Self { manifest, module, cases })
    }
}

/// A file that a field names, by a path that stays inside the folder.
fn inside<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if plain && !name.is_empty() {
        return Ok(name);
    }
    Err(wrong(FILE, format!("field `{field}`: {name:?} is not a file inside the folder")))
}

fn read_text(source: &impl Source, name: &str, limit: usize) -> Result<String, Error> {
    let bytes = source.read(name, limit)?;
    String::from_utf8(bytes.into()).map_err(|_| wrong(name, "not UTF-8"))
}

/// Reads a schema and drops its whitespace: the manifest that everybody keeps has no use for it.
fn read_schema(source: &impl Source, field: &'static str, name: &str) -> Result<String, Error> {
    let text = read_text(source, inside(field, name)?, MAX_SCHEMA_BYTES * 4)?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| wrong(name, format!("not JSON: {e}")))?;
    Ok(value.to_string())
}

fn artifact(source: &impl Source, file: &ProjectFile) -> Result<(Artifact, Bytes), Error> {
    let field = |name: &str, reason: &str| Err(wrong(FILE, format!("field `{name}`: {reason}")));
    if file.runtime_type == RuntimeType::Wasm {
        let Some(name) = &file.module else { return field("module", "a wasm Cargo needs one") };
        let limit = usize::try_from(MAX_ARTIFACT_BYTES).unwrap_or(usize::MAX);
        let bytes = source.read(inside("module", name)?, limit)?;
        let (hash, size_bytes) = (ContentId::of(&bytes), bytes.len() as u64);
        return Ok((Artifact::Module { hash, size_bytes }, bytes));
    }
    if file.module.is_some() {
        return field("module", "only wasm Cargos have one");
    }
    if file.runtime_type == RuntimeType::Container {
        let (Some(image), Some(digest)) = (&file.container_image, &file.image_digest) else {
            return field("container_image", "a container Cargo needs it, and image_digest");
        };
        let (container_image, image_digest) = (image.clone(), digest.clone());
        return Ok((Artifact::Image { container_image, image_digest }, Bytes::new()));
    }
    let Some(uri) = file.artifact.clone() else {
        return field("artifact", "a model is hf://owner/repo[:file] or https://…");
    };
    let (sha256, task_type) = (file.sha256, file.task_type.clone());
    Ok((Artifact::Model { uri, sha256, task_type }, Bytes::new()))
}

fn read_case(source: &impl Source, name: &str) -> Result<Case, Error> {
    let path = format!("cases/{name}");
    let text = read_text(source, &path, MAX_CASE_BYTES)?;
    let case: CaseFile = serde_json::from_str(&text).map_err(|e| wrong(&path, e.to_string()))?;
    let expected = match (case.events, case.result, case.error) {
        (Some(events), None, None) => Expected::Events(events),
        (None, Some(result), None) => Expected::Result(result),
        (None, None, Some(error)) => Expected::Error(error),
        _ => return Err(wrong(&path, "write exactly one of `events`, `result`, `error`")),
    };
    if !case.input.is_object() {
        return Err(wrong(&path, "`input` is a JSON object"));
    }
    let name = name.strip_suffix(".json").unwrap_or(name).to_owned();
    Ok(Case { name, input: case.input, expected })
}

#[cfg(test)]
mod tests;
