//! `update-publish`: makes releases of images, signs them, and says who gets them and when.
//!
//! It works on a folder of static files and needs no server. It signs with the keys that it is given
//! as files and with no others; what lacks signatures is staged until others have added theirs.

mod bundle;
mod channels;
mod check;
mod cli;
mod delta;
mod keys;
mod matching;
mod objects;
mod publish;
mod release;
mod repository;
mod requests;
mod roots;
mod run;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    run::run(&cli::Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("update-publish: {error:#}");
        ExitCode::FAILURE
    })
}
