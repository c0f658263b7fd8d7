//! `ignition convert` and `ignition merge`: documents as Ignition 3.6.0.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use ignition::document::{self, Node, Report, Sources};

use super::{
    answer,
    input::{self, FilesDir},
    remark,
};

/// Prints a document as Ignition JSON of specification 3.6.0.
#[derive(Args)]
pub(crate) struct Convert {
    /// The document.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    files: FilesDir,
    /// Warnings count as errors.
    #[arg(long)]
    strict: bool,
    /// On several lines.
    #[arg(long, short)]
    pretty: bool,
}

/// Merges documents, each over those before it, and prints the result.
#[derive(Args)]
pub(crate) struct Merge {
    /// The document that others change.
    parent: PathBuf,
    /// Those that change it.
    #[arg(required = true, value_name = "CHILD")]
    children: Vec<PathBuf>,
    #[command(flatten)]
    files: FilesDir,
    /// On several lines.
    #[arg(long, short)]
    pretty: bool,
}

impl Convert {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut sources = Sources::default();
        let document = input::read(&self.file, &self.files, &mut sources)?;
        let strict = self.strict && !document.report.findings.is_empty();
        print(document.node.filter(|_| !strict), &document.report, &sources, self.pretty)
    }
}

impl Merge {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut sources = Sources::default();
        let mut report = Report::default();
        let mut nodes = Vec::new();
        for file in std::iter::once(&self.parent).chain(&self.children) {
            let document = input::read(file, &self.files, &mut sources)?;
            report.append(document.report);
            nodes.extend(document.node);
        }
        let whole = nodes.len() == self.children.len() + 1;
        let node = if whole { document::merged(nodes, &mut report) } else { None };
        let node = node.filter(|_| !report.has_errors());
        print(node, &report, &sources, self.pretty)
    }
}

fn print(
    node: Option<Node>,
    report: &Report,
    sources: &Sources,
    pretty: bool,
) -> anyhow::Result<ExitCode> {
    remark(&report.display(sources));
    let Some(node) = node else { return Ok(ExitCode::FAILURE) };
    let json = node.to_json();
    answer(&if pretty { format!("{json:#}") } else { json.to_string() })?;
    Ok(ExitCode::SUCCESS)
}
