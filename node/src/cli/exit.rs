//! Exit codes (`DESIGN.md`, "Commands") and the error that carries one.

use crate::{catalog, config, consumer::Refused, home, ledger, mesh, project};
use std::{fmt, process::ExitCode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    JobFailed = 1,
    Usage = 2,
    /// Credits, schema, rights, limits.
    Refused = 3,
    NoIsland = 4,
    Network = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked. The message says what to do next.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

pub(crate) type Outcome<T = ()> = Result<T, Failed>;

impl Failed {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    pub(crate) fn network(message: impl Into<String>) -> Self {
        Self::new(Exit::Network, message)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<home::Error> for Failed {
    fn from(error: home::Error) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<config::Error> for Failed {
    fn from(error: config::Error) -> Self {
        Self::usage(format!("config.toml: {error}"))
    }
}

impl From<project::Error> for Failed {
    fn from(error: project::Error) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<mesh::Error> for Failed {
    fn from(error: mesh::Error) -> Self {
        Self::network(error.to_string())
    }
}

impl From<ledger::Error> for Failed {
    fn from(error: ledger::Error) -> Self {
        let exit = match error {
            ledger::Error::Rejected(_) => Exit::Refused,
            _ => Exit::Network,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<catalog::Error> for Failed {
    fn from(error: catalog::Error) -> Self {
        let exit = match error {
            catalog::Error::Unknown(_) => Exit::Usage,
            catalog::Error::Invalid(_) => Exit::Refused,
            catalog::Error::Unreachable(_) | catalog::Error::Missing(_) => Exit::Network,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::UnknownCargo(_) => Self::usage(message),
            Refused::Invalid { .. }
            | Refused::Schema(_)
            | Refused::TooLarge { .. }
            | Refused::AboveLevel(_) => Self::refused(message),
            Refused::Credits { .. } => {
                Self::refused(format!("{message}; `archipelag account show` says what there is"))
            }
            Refused::NoIsland { .. } => Self::new(Exit::NoIsland, message),
            Refused::Network(_) => Self::network(message),
        }
    }
}
