//! `summary.json`: what a run was and what came of it, in one small file, written when the run has
//! ended. A directory without one holds a run that was interrupted. Written by whoever runs the
//! simulation; read by `run` and `sweep`; computes nothing.

use super::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// The run's summary. Fields that are not there read as empty, others are passed over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// The scenario's name.
    pub scenario: String,
    pub seed: u64,
    /// What it ran with: the simulator, the node, the compiler and so on.
    pub versions: BTreeMap<String, String>,
    pub nodes: u64,
    /// How much virtual time passed.
    pub virtual_s: f64,
    /// The run was ended before its time.
    pub interrupted: bool,
    /// How many things happened, and the hash of all of them in order: equal for equal runs.
    pub trace_entries: u64,
    pub trace_hash: String,
    /// Which rules did not hold, in words.
    pub violations: Vec<String>,
    /// What a sweep varies, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// What came of it, by name, units last. What is not a finite number is left out of the file.
    #[serde(deserialize_with = "numbers", serialize_with = "finite")]
    pub figures: BTreeMap<String, f64>,
    /// What the nodes knew at the end, when that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<serde_json::Value>,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Parameter {
    Flag(bool),
    Number(f64),
    Text(String),
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl Summary {
    /// Reads a run's summary; None if it has none.
    ///
    /// # Errors
    /// [`Error::Summary`] if it is not the JSON of one, otherwise what the file system said.
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = path(dir);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json)
                .map(Some)
                .map_err(|source| Error::Summary { path, source }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// Writes the summary, whole or not at all.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = path(dir);
        let temporary = dir.join(".summary.json.part");
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|source| Error::Summary { path: path.clone(), source })?;
        json.push(b'\n');
        fs::write(&temporary, json).map_err(Error::io(&temporary))?;
        fs::rename(&temporary, &path).map_err(Error::io(path))
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("summary.json")
}

/// Keeps the numbers of whatever stands there: others may add to a summary.
fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let values = BTreeMap::<String, serde_json::Value>::deserialize(from)?;
    let number = |(name, value): (String, serde_json::Value)| value.as_f64().map(|it| (name, it));
    Ok(values.into_iter().filter_map(number).collect())
}

fn finite<S: serde::Serializer>(figures: &BTreeMap<String, f64>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(figures.iter().filter(|figure| figure.1.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_comes_back_without_what_json_has_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Summary::read(dir.path()).unwrap(), None);
        let mut summary = Summary { seed: u64::MAX, ..Summary::default() };
        summary.parameters.insert("nodes".to_owned(), Parameter::Number(8.0));
        summary.parameters.insert("relay".to_owned(), Parameter::Flag(true));
        summary.figures.insert("jobs".to_owned(), 3.0);
        let mut written = summary.clone();
        written.figures.insert("gini".to_owned(), f64::NAN);
        written.write(dir.path()).unwrap();
        assert_eq!(Summary::read(dir.path()).unwrap(), Some(summary));
    }

    #[test]
    fn what_others_added_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let json = r#"{"figures": {"jobs": 2, "note": "x", "none": null}, "more": []}"#;
        fs::write(path(dir.path()), json).unwrap();
        let summary = Summary::read(dir.path()).unwrap().unwrap();
        assert_eq!(summary.figures, BTreeMap::from([("jobs".to_owned(), 2.0)]));
        fs::write(path(dir.path()), "[").unwrap();
        assert!(matches!(Summary::read(dir.path()), Err(Error::Summary { .. })));
    }
}
