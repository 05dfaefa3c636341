//! Completion scripts and manual pages, made from the arguments' own definitions.

use super::{
    Cli,
    exit::{Failed, Outcome},
    output::written,
};
use clap::CommandFactory as _;
use std::{io, path::Path};

pub(crate) fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "archipelag", &mut script);
    written(io::Write::write_all(&mut io::stdout().lock(), &script))
}

pub(crate) fn manual(directory: &Path) -> Outcome {
    let failed = |e: io::Error| Failed::usage(format!("{}: {e}", directory.display()));
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)
}
