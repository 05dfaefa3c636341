//! The seed corpus: real values, encoded, one file each.
//!
//! Called by each target before libFuzzer reads its corpus, so that no committed bytes can fall
//! behind the types.

use crate::{check, sample};
use std::{fs, path::Path};

/// Names the directory that [`write`] fills; nothing is written when it is absent.
pub const DIRECTORY: &str = "FUZZ_SEED_DIR";

type Check = fn(&[u8]) -> bool;
type Seeds = fn() -> Vec<Vec<u8>>;

/// Each target with its check and its real values.
pub const TARGETS: [(&str, Check, Seeds); 17] = [
    ("advert", check::advert, sample::adverts),
    ("block", check::block, sample::blocks),
    ("catalog_entry", check::catalog_entry, sample::entries),
    ("certificate", check::certificate, sample::certificates),
    ("consensus_message", check::consensus_message, sample::consensus_messages),
    ("event_line", check::event_line, sample::lines),
    ("genesis", check::genesis, sample::geneses),
    ("job_to_consumer", check::job_to_consumer, sample::frames_to_consumer),
    ("job_to_island", check::job_to_island, sample::frames_to_island),
    ("manifest", check::manifest, sample::manifests),
    ("payment", check::payment, sample::payments),
    ("proof", check::proof, sample::proofs),
    ("query_request", check::query_request, sample::requests),
    ("query_response", check::query_response, sample::responses),
    ("snapshot", check::snapshot, sample::snapshots),
    ("text", check::text, sample::texts),
    ("transaction", check::transaction, sample::transactions),
];

/// Writes the seeds of `target`, each of which its decoder must accept.
///
/// # Panics
/// When the target is unknown, a seed is refused, or the directory can't be written.
pub fn write(target: &str) {
    let found = TARGETS.iter().find(|(name, ..)| *name == target);
    let (_, check, seeds) = found.unwrap_or_else(|| panic!("no target {target}"));
    let directory = std::env::var_os(DIRECTORY);
    for (index, bytes) in seeds().iter().enumerate() {
        assert!(check(bytes), "seed {index} of {target} is refused");
        if let Some(directory) = &directory {
            let path = Path::new(directory).join(format!("{index:02}"));
            fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_accepted_and_survives_small_damage() {
        for (name, check, seeds) in TARGETS {
            write(name);
            for seed in seeds() {
                for cut in 0..seed.len().min(512) {
                    check(&seed[..cut]);
                    let mut damaged = seed.clone();
                    damaged[cut] ^= 1;
                    check(&damaged);
                }
            }
        }
    }
}
