//! `update-server`: the words of its command line.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use update_server::{
    overview::Overview,
    serve::{self, Options},
};

/// Serves the releases of PithOS, and shows which machine runs which.
#[derive(Debug, Parser)]
#[command(name = "update-server", version)]
#[command(after_help = "\
Examples:
  update-server serve repo --state /var/lib/update-server --token /etc/update-server/token
  update-server serve repo --listen 0.0.0.0:8080      for machines of a network
  update-server fleet --state /var/lib/update-server --json

A token is a file that not everybody may read:  openssl rand -hex 24
The exit status is 0 if all is well, 1 if something failed (the cause is said), 2 for a word that is
not known.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve machines and operators, until SIGTERM or SIGINT
    #[command(after_help = "\
Machines: the files of the repository, and Omaha at /v1/update/.
Operators: / is the page, /metrics is for Prometheus, /api/fleet /api/machines /api/requests for
scripts. Without TLS: put a reverse proxy before what leaves this machine, and name its host with
--name.")]
    Serve(Box<Options>),
    /// Show the fleet, from the database of a server that runs or not
    Fleet {
        /// The folder of the database
        #[arg(long, value_name = "DIR", default_value = "/var/lib/update-server")]
        state: PathBuf,
        /// The repository, for the progress of its releases
        #[arg(long, value_name = "DIR")]
        repository: Option<PathBuf>,
        /// A machine that was not heard of for so long is silent
        #[arg(long, value_name = "HOURS", default_value_t = 24)]
        silent_hours: u32,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("update-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve(options) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.context("starting")?.block_on(serve::serve(*options))
        }
        Command::Fleet { state, repository, silent_hours, json } => {
            let overview = serve::look(repository.as_deref(), &state, silent_hours)?;
            match json {
                true => println!("{}", serde_json::to_string_pretty(&overview)?),
                false => print!("{}", lines(&overview)),
            }
            Ok(())
        }
    }
}

fn lines(overview: &Overview) -> String {
    let mut text = String::new();
    let mut say = |line: String| text += &(line + "\n");
    overview.notices.iter().for_each(|notice| say(format!("notice: {notice}")));
    say(format!("{} machines, {} silent", overview.machines, overview.silent));
    for it in &overview.rollouts {
        say(format!(
            "{} {}: {}, open to {} %; {} of {} through, {} under way, {} wait for a reboot, {} failed",
            it.channel,
            it.version,
            it.state,
            it.open_percent,
            it.through,
            it.of,
            it.under_way,
            it.installed,
            it.failed
        ));
    }
    for group in &overview.groups {
        let phase = group.phase.as_str();
        say(format!(
            "{} {} {}: {} {phase} {}",
            group.family, group.channel, group.version, group.machines, group.target
        ));
    }
    for failure in &overview.failures {
        say(format!(
            "failed on {}: {} {} to {}: error {} {}",
            failure.machines,
            failure.channel,
            failure.version,
            failure.target,
            failure.code,
            failure.cause
        ));
    }
    for asked in overview.requests.iter().filter(|asked| asked.is_waiting()) {
        say(format!("waiting: {} {}", asked.name, asked.sentence));
    }
    text
}
