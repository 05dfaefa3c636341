//! Logs on stderr. Jobs' inputs and outputs are never in them.

use super::{Cli, Command};
use crate::{
    config::{Config, LogFormat},
    home::Home,
};
use std::io::{IsTerminal as _, stderr};
use tracing_subscriber::EnvFilter;

/// The variable that overrides -v, in `tracing`'s own syntax.
const FILTER: &str = "ARCHIPELAG_LOG";

pub(super) fn start(cli: &Cli) {
    let serves = matches!(cli.command, Command::Up(_) | Command::Start(_));
    let level = match (cli.global.verbose, &cli.command) {
        (0, Command::Start(_)) => "warn,archipelag_node=info",
        (0, Command::Up(_)) => "error,archipelag_node=warn",
        (0, _) => "error,archipelag_node=error",
        (1, _) => "warn,archipelag_node=info,archipelag_runtimes=info",
        (2, _) => "info,archipelag_node=debug,archipelag_runtimes=debug",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal());
    // A second subscriber, as in a test, changes nothing.
    let _set = if serves && format(cli) == LogFormat::Json {
        builder.json().try_init()
    } else {
        builder.with_target(false).try_init()
    };
}

/// What the settings say. Errors in them are reported by the command itself.
fn format(cli: &Cli) -> LogFormat {
    let home = Home::open(cli.global.home.clone()).ok();
    let text = home.and_then(|home| home.config_text().ok().flatten());
    text.and_then(|text| Config::parse(&text).ok()).map_or(LogFormat::Text, |c| c.log.format)
}
