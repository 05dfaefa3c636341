//! The fields of `cargo.toml`. Unknown ones are refused.

use archipelag_protocol::{
    amount::Credits,
    id::ContentId,
    manifest::{Requirements, RuntimeType, Version},
    pricing::Price,
};
use serde::{Deserialize, Deserializer, de};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectFile {
    pub(super) name: String,
    pub(super) slug: String,
    pub(super) version: Version,
    pub(super) description: String,
    #[serde(default)]
    pub(super) runtime_type: RuntimeType,
    pub(super) module: Option<String>,
    pub(super) container_image: Option<String>,
    pub(super) image_digest: Option<String>,
    pub(super) artifact: Option<String>,
    pub(super) sha256: Option<ContentId>,
    pub(super) task_type: Option<String>,
    pub(super) input_schema: String,
    pub(super) output_schema: String,
    pub(super) category: Option<String>,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default, deserialize_with = "credits")]
    pub(super) price_per_job: Credits,
    #[serde(default, deserialize_with = "credits")]
    pub(super) price_per_token: Credits,
    #[serde(default, deserialize_with = "credits")]
    pub(super) price_per_second: Credits,
    #[serde(default = "revenue_share")]
    pub(super) revenue_share: u8,
    #[serde(default)]
    pub(super) requirements: RequirementsFile,
}

impl ProjectFile {
    pub(super) fn price(&self) -> Price {
        Price {
            per_job: self.price_per_job,
            per_token: self.price_per_token,
            per_second: self.price_per_second,
        }
    }
}

fn revenue_share() -> u8 {
    archipelag_protocol::policy::PayoutPolicy::default().revenue_share_default_percent
}

/// Credits as text: a decimal fraction has no exact form as a TOML number.
fn credits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Credits, D::Error> {
    struct Text;
    impl de::Visitor<'_> for Text {
        type Value = Credits;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("credits as text, such as \"0.01\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Credits, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RequirementsFile {
    required_vram_mb: u32,
    required_cpu_cores: u32,
    required_ram_mb: u32,
}

impl Default for RequirementsFile {
    fn default() -> Self {
        let Requirements { vram_mb, cpu_cores, ram_mb } = Requirements::default();
        Self { required_vram_mb: vram_mb, required_cpu_cores: cpu_cores, required_ram_mb: ram_mb }
    }
}

impl From<RequirementsFile> for Requirements {
    fn from(file: RequirementsFile) -> Self {
        Self {
            vram_mb: file.required_vram_mb,
            cpu_cores: file.required_cpu_cores,
            ram_mb: file.required_ram_mb,
        }
    }
}
