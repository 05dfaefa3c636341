//! `archipelag-sim coordinators`.

use super::Held;
use archipelag_simulations::coordinators::{self, Trouble};
use clap::ValueEnum as _;
use std::{
    io::IsTerminal as _,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

/// Prints one line of JSON for each kind of trouble.
pub(crate) fn run(
    troubles: Vec<Trouble>,
    seeds: Range<u64>,
    threads: Option<usize>,
) -> anyhow::Result<Held> {
    let all = || Trouble::value_variants().to_vec();
    let troubles = if troubles.is_empty() { all() } else { troubles };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or_else(cores);
    let shows = std::io::stderr().is_terminal();
    let mut held = Held::All;
    for trouble in troubles {
        let (name, of) = (trouble.to_possible_value(), seeds.end - seeds.start);
        let name = name.as_ref().map_or("", |name| name.get_name());
        let done = AtomicU64::new(0);
        let tally = coordinators::run(trouble, seeds.clone(), threads, || {
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if shows {
                eprint!("\r{name}: {done} of {of}   ");
            }
        });
        if shows {
            eprintln!();
        }
        let mut line = serde_json::json!({"trouble": name, "first": seeds.start});
        match tally {
            Ok(tally) => {
                if let (Some(line), serde_json::Value::Object(tally)) =
                    (line.as_object_mut(), serde_json::to_value(&tally)?)
                {
                    line.extend(tally);
                }
            }
            Err(broken) => {
                line["broken"] = format!("{broken:#}").into();
                held = Held::Broken;
            }
        }
        println!("{line}");
    }
    Ok(held)
}
