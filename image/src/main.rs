//! `image`: builds, inspects, verifies and compares images of PithOS.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use image::{build, differ, inspect, progress::Progress, repro, sign, verify};

use cli::{Command, Image};

mod cli;

fn main() -> ExitCode {
    // Modes of what we make must not depend on who makes it.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    run(&Image::parse().command, &Progress::stderr()).unwrap_or_else(|error| {
        eprintln!("image: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: &Command, progress: &Progress) -> Result<ExitCode> {
    match command {
        Command::Build(it) => {
            let (places, network, order) = it.get()?;
            build::build(&places, &network, &order, progress)?;
        }
        Command::Lock(it) => {
            let (places, network) = it.get()?;
            build::lock(&places, &network, progress)?;
        }
        Command::Inspect(it) => return inspect::run(it),
        Command::Verify(it) => return verify::run(it, progress),
        Command::Compare(it) => return differ::run(it),
        Command::Repro(it) => return repro::run(it, progress),
        Command::Sign(it) => sign::sign(&it.get()?, progress)?,
        Command::Stock(it) => {
            let (places, network, order) = it.get()?;
            build::stock(&places, &network, &order, progress)?;
        }
        Command::Browser(it) => {
            let (places, network) = it.get()?;
            build::browser(&places, &network, progress)?;
        }
        Command::Clean(it) => build::clean(&it.places()?, it.packages, progress)?,
    }
    Ok(ExitCode::SUCCESS)
}
