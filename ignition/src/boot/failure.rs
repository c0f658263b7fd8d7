//! What an operator and a program read when a machine cannot be made what its document says.

use std::{error::Error, fmt::Write};

use crate::{
    causes::chain,
    document::{Node, Report, Sources},
    render::mark_of,
};

/// Why a first boot stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stage: `fetch`, `kargs`, `disks`, `mount`, `files`, `umount`.
    pub stage: &'static str,
    /// The entry of the document, as `$.storage.files.3`.
    pub at: String,
    /// What happened, with its causes.
    pub why: String,
    /// What to do.
    pub to_do: Option<String>,
    /// What is wrong with the document itself.
    pub report: Report,
}

impl Failure {
    /// Something that an entry wants cannot be.
    pub fn new(stage: &'static str, at: impl Into<String>, why: impl Into<String>) -> Self {
        let (at, why) = (at.into(), why.into());
        Self { stage, at, why, to_do: None, report: Report::default() }
    }

    /// The same of an error and its causes.
    pub fn of(stage: &'static str, at: String, error: &dyn Error) -> Self {
        Self::new(stage, at, chain(error))
    }

    /// A document that has errors.
    pub fn of_document(report: Report) -> Self {
        let errors =
            report.findings.iter().filter(|f| f.severity == crate::document::Severity::Error);
        let why = match errors.count() {
            1 => "the document has an error".to_owned(),
            count => format!("the document has {count} errors"),
        };
        Self { report, ..Self::new("fetch", "$", why) }
    }

    /// With what to do.
    pub fn hint(mut self, to_do: Option<String>) -> Self {
        self.to_do = to_do.or(self.to_do);
        self
    }

    /// For the console: the stage, the place in the document with its line, the cause.
    pub fn text(&self, node: Option<&Node>, sources: &Sources) -> String {
        let mut text = format!("stage {}: {}\n", self.stage, self.why);
        let mut errors = self.report.clone();
        errors.findings.retain(|finding| finding.severity == crate::document::Severity::Error);
        let _ = write!(text, "{}", errors.display(sources));
        if self.at != "$" {
            let place =
                node.map(|node| mark_of(node, &self.at)).and_then(|mark| sources.place(mark));
            match place {
                Some(place) => {
                    let _ = writeln!(
                        text,
                        "at {}:{}:{}, {}",
                        place.name, place.line, place.column, self.at
                    );
                }
                None => {
                    let _ = writeln!(text, "at {}", self.at);
                }
            }
        }
        if let Some(to_do) = &self.to_do {
            let _ = writeln!(text, "{to_do}");
        }
        text
    }

    /// For programs.
    pub fn json(&self, node: Option<&Node>, sources: &Sources) -> serde_json::Value {
        let place = node.map(|node| mark_of(node, &self.at)).and_then(|mark| sources.place(mark));
        serde_json::json!({
            "stage": self.stage,
            "path": self.at,
            "file": place.map(|place| place.name),
            "line": place.map(|place| place.line),
            "column": place.map(|place| place.column),
            "message": self.why,
            "hint": self.to_do,
            "findings": self.report.to_json(sources),
        })
    }
}
