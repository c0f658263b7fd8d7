//! `tuf-conformance`: runs the conformance suite of The Update Framework against our client, and is
//! the client that the suite starts.
//!
//! The suite is no part of PithOS: it is given as a folder, and its Python packages go into an
//! environment of their own under `build/`.

mod client;
mod suite;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Runs the conformance suite of The Update Framework, and is the client that it tests.
#[derive(Debug, Parser)]
#[command(name = "tuf-conformance", version)]
struct Arguments {
    #[command(flatten)]
    client: client::Places,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the suite in a folder.
    #[command(after_help = "\
Examples:
  ./pith tuf-conformance ../tuf-conformance
  ./pith tuf-conformance ../tuf-conformance -k rollback -rA")]
    Suite {
        /// A checkout of theupdateframework/tuf-conformance.
        folder: PathBuf,
        /// More words for pytest.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// For the suite: trust a root.
    Init {
        /// Its file.
        root: PathBuf,
    },
    /// For the suite: bring the metadata up to date.
    Refresh,
    /// For the suite: fetch targets.
    Download,
}

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("tuf-conformance: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Suite { folder, words } => return suite::run(&folder, &words),
        Command::Init { root } => arguments.client.init(&root)?,
        Command::Refresh => drop(arguments.client.refresh()?),
        Command::Download => arguments.client.download()?,
    }
    Ok(ExitCode::SUCCESS)
}
