//! `ignition`: a document in, a machine out.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let outcome = match cli::Cli::parse().command {
        cli::Command::Validate(validate) => validate.run(),
        cli::Command::Convert(convert) => convert.run(),
        cli::Command::Merge(merge) => merge.run(),
        cli::Command::Plan(plan) => plan.run(),
        cli::Command::Apply(apply) => apply.run(),
        cli::Command::CloudConfig(cloud_config) => cloud_config.run(),
        cli::Command::Metadata(metadata) => metadata.run(),
        cli::Command::Boot(boot) => boot.run(),
    };
    outcome.unwrap_or_else(|error| {
        cli::remark(&format!("ignition: {error:#}\n"));
        ExitCode::FAILURE
    })
}
