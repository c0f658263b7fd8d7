//! `qemu`: PithOS in virtual machines.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use qemu::interrupt;

mod cli {
    pub(crate) mod bench;
    pub(crate) mod boot;
    pub(crate) mod cluster;
    pub(crate) mod console;
    pub(crate) mod options;
}

const EXAMPLES: &str = "\
Examples:
  qemu boot                          the newest image, its console in this terminal
  qemu boot --check                  boot it, ask it how it is, power it off
  qemu boot --keep work              a machine whose disk is there the next time
  qemu boot --bus nvme --disk-size 20G --memory 512
  qemu cluster -n 3                  three machines on one network
  qemu cluster --check
  qemu bench --no-builds             measure sizes and the boot

Exit status: 0 all is well, 1 something is not, 2 the command line makes no sense, 130 interrupted.";

/// Boots PithOS in virtual machines.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Boot(cli::boot::Boot),
    Cluster(cli::cluster::Command),
    Bench(cli::bench::Bench),
    #[command(hide = true)]
    Measure(cli::bench::Measure),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = interrupt::watch().map_err(Into::into).and_then(|()| match &cli.command {
        Command::Boot(boot) => boot.run(),
        Command::Cluster(cluster) => cluster.run(),
        Command::Bench(bench) => bench.run(),
        Command::Measure(measure) => measure.run(),
    });
    match done {
        _ if interrupt::asked() => ExitCode::from(130),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("qemu: {error:#}");
            ExitCode::FAILURE
        }
    }
}
