//! `update-engine`, and by the names `update-engine-client` and `update_engine_client` whoever asks
//! it.

use std::{env, ffi::OsString, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use updater::{
    bus::Client,
    client::Words,
    daemon,
    health::{self, Options},
};

/// Keeps this machine current. Without a word: runs, and is asked by update-engine-client.
#[derive(Parser)]
#[command(version)]
struct Engine {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Judge this boot, and go back to the version before where it is bad
    Health {
        /// The deadline of the whole boot is over: what is not healthy now will not be
        #[arg(long)]
        late: bool,
        /// How long a version on trial may take to become healthy
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        deadline: u64,
    },
}

fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    let name = words.first().and_then(|word| Path::new(word).file_name()).unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let outcome = if name.ends_with("client") { ask(words) } else { serve(words) };
    outcome.unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        ExitCode::FAILURE
    })
}

fn serve(words: Vec<OsString>) -> Result<ExitCode> {
    match Engine::parse_from(words).command {
        None => runtime()?.block_on(daemon::run())?,
        Some(Command::Health { late, deadline }) => {
            let deadline = Duration::from_secs(deadline);
            health::run(&Options { is_late: late, deadline, ..Options::default() })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(words: Vec<OsString>) -> Result<ExitCode> {
    let words = Words::read(words).unwrap_or_else(|error| error.exit());
    runtime()?.block_on(async {
        let bus = zbus::Connection::system().await.context("reaching the system bus")?;
        words.run(&Client::new(bus), &mut |text| print!("{text}")).await
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("starting")
}
