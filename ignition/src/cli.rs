//! The words of the command line.

mod apply;
mod boot;
mod cloud_config;
mod convert;
mod input;
mod metadata;
mod plan;
mod validate;

use std::{
    fmt,
    io::{self, Write},
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use ignition::journal::Journal;

/// Describes, checks and provisions machines: Ignition, Butane and cloud-config.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
        ignition validate config.bu           is it right? (0 yes, 1 no)\n  \
        ignition convert config.bu            what it says, as Ignition 3.6.0\n  \
        ignition merge base.ign mine.bu       one document of both\n  \
        ignition plan config.bu               what it would do here\n  \
        ignition apply --root DIR config.bu   its users, files and units, below DIR\n\n\
        A FILE of `-` is standard input. Each may be Ignition JSON (3.0.0 to 3.6.0), Butane or\n\
        cloud-config, as it is or packed with gzip or zstd."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Validate(validate::Validate),
    Convert(convert::Convert),
    Merge(convert::Merge),
    Plan(plan::Plan),
    Apply(apply::Apply),
    CloudConfig(cloud_config::CloudConfig),
    Metadata(metadata::Metadata),
    #[command(hide = true)]
    Boot(boot::Boot),
}

/// What is done is said on standard output, as it is done. Whoever stops listening does not keep
/// the rest from being done.
struct Printed;

impl Journal for Printed {
    fn say(&self, line: &str) {
        let _ = writeln!(io::stdout().lock(), "{line}");
    }
}

/// The result of a command, a line or several. Whoever stops listening (`| head`) has heard enough.
fn answer(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("writing to standard output"),
    }
}

/// What is to be said beside the result. Nobody can be told that it could not be said.
pub(crate) fn remark(text: &impl fmt::Display) {
    let _ = write!(io::stderr().lock(), "{text}");
}
