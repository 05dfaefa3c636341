//! The manifest of a Cargo version (`SPEC.md`, "Cargo"): immutable, signed by its publisher,
//! identified by the SHA-256 of its canonical bytes.

#[cfg(test)]
mod tests;

use crate::{
    codec,
    event::depth,
    id::{CargoId, ContentId, NetworkId},
    limits::{MAX_JSON_DEPTH, MAX_MANIFEST_BYTES, MAX_SCHEMA_BYTES},
    policy::PayoutPolicy,
    pricing::Price,
    sign::{self, Signable, Signed},
    text::shows,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// How a Cargo is executed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeType {
    #[default]
    Container,
    Wasm,
    Llmcpp,
    Onnx,
    Diffusers,
    Coreml,
}

impl RuntimeType {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Wasm => "wasm",
            Self::Llmcpp => "llmcpp",
            Self::Onnx => "onnx",
            Self::Diffusers => "diffusers",
            Self::Coreml => "coreml",
        }
    }

    /// Where the runtime exists at all (`SPEC.md`, "Cargo").
    #[must_use]
    pub fn runs_on(self, platform: Platform) -> bool {
        use Platform::{Android, Browser, Desktop, Ios};
        match self {
            Self::Wasm => true,
            Self::Container | Self::Diffusers => platform == Desktop,
            Self::Llmcpp => matches!(platform, Desktop | Ios | Browser),
            Self::Onnx => matches!(platform, Desktop | Android),
            Self::Coreml => platform == Ios,
        }
    }
}

impl fmt::Display for RuntimeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kind of machine an Island is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    #[default]
    Desktop,
    Ios,
    Android,
    Browser,
}

/// What is executed. Its kind must fit the runtime type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Artifact {
    /// A wasm module, by content: any node that holds it serves it.
    Module {
        hash: ContentId,
        size_bytes: u64,
    },
    Image {
        container_image: String,
        image_digest: String,
    },
    Model {
        uri: String,
        sha256: Option<ContentId>,
        task_type: Option<String>,
    },
}

/// What an Island must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    pub vram_mb: u32,
    pub cpu_cores: u32,
    pub ram_mb: u32,
}

impl Default for Requirements {
    fn default() -> Self {
        Self { vram_mb: 0, cpu_cores: 1, ram_mb: 256 }
    }
}

/// `major.minor.patch` with an optional pre-release, in the order of <https://semver.org>, section
/// 11, without build metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    pub pre: String,
}

/// A Cargo version as its publisher describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub name: String,
    pub slug: String,
    pub version: Version,
    pub description: String,
    pub runtime_type: RuntimeType,
    pub artifact: Artifact,
    /// JSON Schema 2020-12, as JSON text.
    pub input_schema: String,
    /// JSON Schema 2020-12 of the data of the `result` event, as JSON text.
    pub output_schema: String,
    pub price: Price,
    pub requirements: Requirements,
    pub category: Option<String>,
    pub tags: Vec<String>,
    pub revenue_share_percent: u8,
}

impl Signable for Manifest {
    const DOMAIN: &'static str = "manifest";
}

/// Why a manifest was refused: which field, and which limit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("manifest field `{field}`: {reason}")]
    Field { field: &'static str, reason: String },
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error(transparent)]
    Signature(#[from] sign::Error),
}

fn refuse<T>(field: &'static str, reason: impl Into<String>) -> Result<T, Error> {
    Err(Error::Field { field, reason: reason.into() })
}

impl Manifest {
    /// The canonical bytes, which the id is the hash of.
    ///
    /// # Errors
    /// When they are longer than [`MAX_MANIFEST_BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, codec::Error> {
        let bytes = codec::encode("manifest", self)?;
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(codec::Error::TooLong {
                what: "manifest",
                limit: MAX_MANIFEST_BYTES,
                found: bytes.len(),
            });
        }
        Ok(bytes)
    }

    /// # Errors
    /// As [`Manifest::to_bytes`].
    pub fn id(&self) -> Result<CargoId, codec::Error> {
        Ok(CargoId(Sha256::digest(self.to_bytes()?).into()))
    }

    /// `slug@version`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}@{}", self.slug, self.version)
    }

    /// Checks every field. Whether the schemas are valid JSON Schemas is checked where they are
    /// compiled, in `archipelag_runtimes::schema`.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn validate(&self, payout: &PayoutPolicy) -> Result<(), Error> {
        text("name", &self.name, 1, 100)?;
        check_slug(&self.slug)?;
        self.version.check()?;
        length("description", &self.description, 1, 2_000)?;
        if self.description.chars().any(|c| c.is_control() && c != '\n') {
            return refuse("description", "control characters are not allowed");
        }
        self.check_artifact()?;
        schema("input_schema", &self.input_schema)?;
        schema("output_schema", &self.output_schema)?;
        if self.price.is_free() {
            return refuse("price", "set at least one of per_job, per_token, per_second");
        }
        if self.requirements.cpu_cores == 0 {
            return refuse("required_cpu_cores", "at least 1");
        }
        if let Some(category) = &self.category {
            text("category", category, 1, 50)?;
        }
        if self.tags.len() > 16 {
            return refuse("tags", format!("{} tags, the limit is 16", self.tags.len()));
        }
        for tag in &self.tags {
            text("tags", tag, 1, 32)?;
        }
        let most = payout.revenue_share_max_percent;
        if self.revenue_share_percent > most {
            return refuse(
                "revenue_share",
                format!("{} percent, the limit is {most}", self.revenue_share_percent),
            );
        }
        self.to_bytes()?;
        Ok(())
    }

    fn check_artifact(&self) -> Result<(), Error> {
        match (&self.artifact, self.runtime_type) {
            (Artifact::Module { size_bytes, .. }, RuntimeType::Wasm) => {
                let most = crate::limits::MAX_ARTIFACT_BYTES;
                if *size_bytes == 0 || *size_bytes > most {
                    return refuse("artifact", format!("{size_bytes} bytes, must be 1 to {most}"));
                }
                Ok(())
            }
            (Artifact::Image { container_image, image_digest }, RuntimeType::Container) => {
                text("container_image", container_image, 1, 255)?;
                let hex = image_digest.strip_prefix("sha256:").unwrap_or("");
                if hex.parse::<ContentId>().is_err() || hex.bytes().any(|b| b.is_ascii_uppercase())
                {
                    return refuse("image_digest", "write sha256: and 64 lower-case hex digits");
                }
                Ok(())
            }
            (Artifact::Model { uri, task_type, .. }, runtime)
                if !matches!(runtime, RuntimeType::Wasm | RuntimeType::Container) =>
            {
                text("artifact", uri, 1, 512)?;
                if !uri.starts_with("hf://") && !uri.starts_with("https://") {
                    return refuse("artifact", "a model is hf://owner/repo[:file] or https://…");
                }
                match task_type {
                    Some(_) if runtime != RuntimeType::Onnx => {
                        refuse("task_type", "only onnx Cargos have a task type")
                    }
                    Some(task) => text("task_type", task, 1, 50),
                    None => Ok(()),
                }
            }
            (_, runtime) => refuse("artifact", format!("not one that the {runtime} runtime takes")),
        }
    }
}

/// A manifest with its publisher's signature.
pub type SignedManifest = Signed<Manifest>;

/// Checks fields and signature and gives the id.
///
/// # Errors
/// The field or the signature that is wrong.
pub fn verify(
    manifest: &SignedManifest,
    network: NetworkId,
    payout: &PayoutPolicy,
) -> Result<CargoId, Error> {
    manifest.value.validate(payout)?;
    manifest.verify(network)?;
    Ok(manifest.value.id()?)
}

fn length(field: &'static str, value: &str, least: usize, most: usize) -> Result<(), Error> {
    let count = value.chars().count();
    if count < least || count > most {
        return refuse(field, format!("{count} characters, must be {least} to {most}"));
    }
    Ok(())
}

/// One line that people tell things apart by.
fn text(field: &'static str, value: &str, least: usize, most: usize) -> Result<(), Error> {
    length(field, value, least, most)?;
    match shows(value) {
        true => Ok(()),
        false => refuse(field, "control and invisible characters are not allowed"),
    }
}

/// A slug is 1 to 64 lower-case letters, digits and inner hyphens.
///
/// # Errors
/// Names the rule.
pub fn check_slug(slug: &str) -> Result<(), Error> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good = (1..=64).contains(&slug.len())
        && slug.bytes().all(inner)
        && !slug.starts_with('-')
        && !slug.ends_with('-');
    if good {
        return Ok(());
    }
    refuse("slug", "1 to 64 lower-case letters, digits and inner hyphens")
}

fn schema(field: &'static str, json: &str) -> Result<(), Error> {
    if json.len() > MAX_SCHEMA_BYTES {
        return refuse(field, format!("{} bytes, the limit is {MAX_SCHEMA_BYTES}", json.len()));
    }
    if depth(json) > MAX_JSON_DEPTH {
        return refuse(field, format!("nested deeper than {MAX_JSON_DEPTH}"));
    }
    match serde_json::from_str::<serde_json::Value>(json) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        Ok(_) => refuse(field, "a schema is a JSON object"),
        Err(e) => refuse(field, format!("not JSON: {e}")),
    }
}

impl Version {
    fn check(&self) -> Result<(), Error> {
        let identifier = |part: &str| {
            let digits = part.bytes().all(|b| b.is_ascii_digit());
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !(digits && part.len() > 1 && part.starts_with('0'))
        };
        if self.pre.len() > 32 || !(self.pre.is_empty() || self.pre.split('.').all(identifier)) {
            return refuse(
                "version",
                "the pre-release is not one by semver.org, at most 32 characters",
            );
        }
        Ok(())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if self.pre.is_empty() { Ok(()) } else { write!(f, "-{}", self.pre) }
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Field {
            field: "version",
            reason: "write major.minor.patch, optionally -pre, without leading zeros".into(),
        };
        let (core, pre) =
            text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        if pre == Some("") {
            return Err(wrong());
        }
        let numbers: Vec<u64> = core
            .split('.')
            .map(|n| {
                let plain =
                    n.bytes().all(|b| b.is_ascii_digit()) && (n == "0" || !n.starts_with('0'));
                plain.then(|| n.parse().ok()).flatten()
            })
            .collect::<Option<_>>()
            .ok_or_else(wrong)?;
        let [major, minor, patch] = numbers[..] else { return Err(wrong()) };
        let version = Self { major, minor, patch, pre: pre.unwrap_or("").into() };
        version.check()?;
        Ok(version)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let core = |v: &Self| (v.major, v.minor, v.patch);
        core(self).cmp(&core(other)).then_with(|| compare_pre(&self.pre, &other.pre))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// semver.org, section 11: no pre-release is later than any; numbers sort below words.
fn compare_pre(a: &str, b: &str) -> std::cmp::Ordering {
    if a.is_empty() || b.is_empty() {
        return a.is_empty().cmp(&b.is_empty());
    }
    let key = |part: &str| match part.parse::<u64>() {
        Ok(number) => (0, number, String::new()),
        Err(_) => (1, 0, part.to_owned()),
    };
    a.split('.').map(key).cmp(b.split('.').map(key))
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
