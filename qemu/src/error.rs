//! What can go wrong around a virtual machine, said so that it can be mended.

use std::{io, path::PathBuf, time::Duration};

/// An error of this library. Its source, where there is one, is not part of its own text: whoever
/// prints it prints the chain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that an earlier step makes.
    #[error("no {what} at {}\n  {remedy}", path.display())]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// How to get it.
        remedy: String,
    },
    /// The operating system refused something.
    #[error("{doing}")]
    Io {
        /// What we were doing.
        doing: String,
        /// What it answered.
        source: io::Error,
    },
    /// A file that is there and makes no sense.
    #[error("reading {}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// A program that we ran failed.
    #[error("{program} failed ({status}): {said}")]
    Program {
        /// Which.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// The host is too small, or the wish too large.
    #[error("{0}")]
    Refused(String),
    /// Something was waited for in vain.
    #[error("{what}: not within {} s", limit.as_secs())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// The machine did something else than what was waited for.
    #[error("{0}")]
    Broke(String),
    /// QEMU's control socket said no.
    #[error("QEMU refused `{command}`: {said}")]
    Qmp {
        /// The command.
        command: String,
        /// The answer.
        said: String,
    },
    /// Any of these, about one machine: which one, where its files are, and what it said last.
    #[error("machine {name}: {}\n  its files are in {}\n{tail}", chain(trouble), folder.display())]
    Machine {
        /// Its name.
        name: String,
        /// Where the logs are.
        folder: PathBuf,
        /// The end of its serial console, ready to print.
        tail: String,
        /// What happened. Not a source: it is said first, and its text is ours to place.
        trouble: Box<Error>,
    },
}

/// An error with its sources, on a line.
pub fn chain(error: &Error) -> String {
    let mut lines = Vec::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        lines.push(error.to_string());
        next = error.source();
    }
    lines.join(": ")
}

/// Says what we were doing when the operating system refused it.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: what(), source })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|errno| Error::Io { doing: what(), source: errno.into() })
    }
}
