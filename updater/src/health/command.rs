//! `update-engine health`: what systemd runs before `boot-complete.target`.

use std::{ffi::OsString, process::ExitCode};

use super::{Error, Options, run};

/// Runs it with the words behind `health`. It fails where the version is not healthy and stays.
pub fn command(words: &[OsString]) -> ExitCode {
    let is_late = match words {
        [] => false,
        [word] if word == "--late" => true,
        _ => {
            eprintln!("update-engine health: expected nothing or --late, found {words:?}");
            return ExitCode::from(2);
        }
    };
    match run(&Options { is_late, ..Options::default() }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("update-engine health: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn chain(error: &Error) -> String {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
