//! `ignition validate`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use ignition::document::{Report, Sources};

use super::{
    answer,
    input::{self, FilesDir},
    remark,
};

/// Says what is wrong with documents; the status is 1 if one of them cannot be used.
#[derive(Args)]
pub(crate) struct Validate {
    /// The documents.
    #[arg(required = true, value_name = "FILE")]
    documents: Vec<PathBuf>,
    #[command(flatten)]
    files: FilesDir,
    /// Warnings count as errors.
    #[arg(long)]
    strict: bool,
    /// A list of objects instead of text.
    #[arg(long)]
    json: bool,
}

impl Validate {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut sources = Sources::default();
        let mut report = Report::default();
        for file in &self.documents {
            report.append(input::read(file, &self.files, &mut sources)?.report);
        }
        if self.json {
            answer(&format!("{:#}", report.to_json(&sources)))?;
        } else {
            remark(&report.display(&sources));
        }
        let bad = report.has_errors() || self.strict && !report.findings.is_empty();
        Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
