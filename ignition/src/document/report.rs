//! What is to be said of a document: each complaint with its place, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::node::{At, Mark};

/// The texts that a document came from.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<Source>);

#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: String,
}

/// A place as people count: from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The name of the text.
    pub name: &'a str,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
    /// The whole line.
    pub text: &'a str,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document is used; the author should know.
    Warning,
    /// The document is not used.
    Error,
}

/// A complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The path of the value, as in `$.storage.files.0.path`.
    pub path: String,
    /// Where it was written.
    pub mark: Mark,
    /// What is wrong, and what was expected.
    pub message: String,
    /// What to do, where that is not plain.
    pub hint: Option<String>,
}

/// All complaints about a document, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The complaints.
    pub findings: Vec<Finding>,
}

impl Sources {
    /// Takes a text in and gives it a number.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> u32 {
        self.0.push(Source { name: name.into(), text: text.into() });
        u32::try_from(self.0.len() - 1).expect("nobody merges 4,000 million documents")
    }

    /// A text.
    pub fn text(&self, source: u32) -> &str {
        self.0.get(source as usize).map_or("", |source| &source.text)
    }

    /// The name of a text.
    pub fn name(&self, source: u32) -> &str {
        self.0.get(source as usize).map_or("", |source| &source.name)
    }

    /// Where a mark is, if its text is here.
    pub fn place(&self, mark: Mark) -> Option<Place<'_>> {
        let Source { name, text } = self.0.get(mark.source as usize)?;
        let mut offset = (mark.offset as usize).min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let (before, after) = text.split_at(offset);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = offset + after.find('\n').unwrap_or(after.len());
        Some(Place {
            name,
            line: before.matches('\n').count() + 1,
            column: text[start..offset].chars().count() + 1,
            text: text[start..end].trim_end_matches('\r'),
        })
    }
}

impl Report {
    /// Adds an error.
    pub fn error(&mut self, at: &At<'_>, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Error, at, message)
    }

    /// Adds a warning.
    pub fn warning(&mut self, at: &At<'_>, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Warning, at, message)
    }

    /// Adds an error at a place of its own.
    pub fn error_at(&mut self, path: &str, mark: Mark, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Error, path.to_owned(), mark, message.into())
    }

    /// Adds a warning at a place of its own.
    pub fn warning_at(
        &mut self,
        path: &str,
        mark: Mark,
        message: impl Into<String>,
    ) -> &mut Finding {
        self.push(Severity::Warning, path.to_owned(), mark, message.into())
    }

    fn add(&mut self, severity: Severity, at: &At<'_>, message: impl Into<String>) -> &mut Finding {
        self.push(severity, at.to_string(), at.mark(), message.into())
    }

    fn push(
        &mut self,
        severity: Severity,
        path: String,
        mark: Mark,
        message: String,
    ) -> &mut Finding {
        self.findings.push(Finding { severity, path, mark, message, hint: None });
        self.findings.last_mut().expect("it was just pushed")
    }

    /// Adds all of another report.
    pub fn append(&mut self, mut other: Self) {
        self.findings.append(&mut other.findings);
    }

    /// Whether the document must not be used.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// For people: a paragraph each, with the line and a caret under the place.
    pub fn display<'a>(&'a self, sources: &'a Sources) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            self.findings.iter().try_for_each(|finding| finding.write(f, sources))
        })
    }

    /// For programs: a list of objects.
    pub fn to_json(&self, sources: &Sources) -> serde_json::Value {
        self.findings.iter().map(|finding| finding.to_json(sources)).collect()
    }
}

impl Finding {
    /// Says what to do about it.
    pub fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, sources: &Sources) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        writeln!(f, "{severity}: {}", self.message)?;
        match sources.place(self.mark) {
            Some(place) => {
                let Place { name, line, column, text } = place;
                writeln!(f, "  at {name}:{line}:{column}, {}", self.path)?;
                // A document on one line is cut around the place.
                let skipped = column.saturating_sub(60);
                let shown: String = text.chars().skip(skipped).take(100).collect();
                let shown = shown.replace(|c: char| c.is_control(), " ");
                writeln!(f, "{line:>5} | {shown}")?;
                writeln!(f, "      | {:>width$}", "^", width = column - skipped)?;
            }
            None => writeln!(f, "  at {}", self.path)?,
        }
        match &self.hint {
            Some(hint) => writeln!(f, "  {hint}"),
            None => Ok(()),
        }
    }

    fn to_json(&self, sources: &Sources) -> serde_json::Value {
        let place = sources.place(self.mark);
        serde_json::json!({
            "severity": self.severity,
            "message": self.message,
            "path": self.path,
            "file": place.map(|place| place.name),
            "line": place.map(|place| place.line),
            "column": place.map(|place| place.column),
            "hint": self.hint,
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::document::json;

    #[test]
    fn a_complaint_shows_the_place() {
        let mut sources = Sources::default();
        let source = sources.add("a.ign", "{\n  \"é\": [1,\r\n  \"über\"]}\n");
        let node = json::parse(sources.text(source), source).unwrap();
        let mut report = Report::default();
        let (root, key) = (At::root(&node), "é");
        let list = root.key(key);
        report.error(&list.index(1), "wrong").hint("write it right");
        report.warning(&list.index(2), "not there");
        expect![[r#"
            error: wrong
              at a.ign:3:3, $.é.1
                3 |   "über"]}
                  |   ^
              write it right
            warning: not there
              at a.ign:2:9, $.é.2
                2 |   "é": [1,
                  |         ^
        "#]]
        .assert_eq(&report.display(&sources).to_string());
        assert!(report.has_errors());
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let mut sources = Sources::default();
        let source = sources.add("a", format!("[{}1]", "0, ".repeat(100)));
        let mut report = Report::default();
        report.error_at("$.100", Mark { source, offset: 301 }, "wrong");
        let text = report.display(&sources).to_string();
        let lines: Vec<&str> = text.lines().collect();
        let caret = lines[3].find('^').unwrap();
        assert_eq!(&lines[2][caret..], "1]");
    }
}
