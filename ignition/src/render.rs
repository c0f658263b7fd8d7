//! From a document that leads to others to one that says it all: `config.replace` and
//! `config.merge`, as deep as they go.

use crate::{
    document::{
        self, Config, Document, Node, Nowhere, Report, Sources,
        config::{Ignition, Resource},
    },
    fetch::{Fetch, FetchError},
};

/// Documents that lead to documents; more than so many in a row are a circle, or a mistake.
const DEEPEST: usize = 16;

/// Somebody who gets what a document refers to, by the timeouts, the proxies and the authorities
/// that it names.
pub trait Access {
    /// For one document.
    fn of(&self, ignition: &Ignition) -> Result<Box<dyn Fetch + '_>, FetchError>;
}

/// Why there is no whole document.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A document has errors: the report says which.
    #[error("a document has errors")]
    Wrong,
    /// Another document could not be had.
    #[error("getting what {at} refers to")]
    Fetch {
        /// The path of the entry.
        at: String,
        /// Where it was written.
        mark: document::Mark,
        /// What happened.
        source: FetchError,
    },
    /// They do not end.
    #[error("more than {DEEPEST} documents that each lead to the next; do they lead in a circle?")]
    TooDeep,
}

/// Follows what a document leads to. What is to be said of the others goes to `report`.
pub fn render(
    node: Node,
    access: &dyn Access,
    sources: &mut Sources,
    report: &mut Report,
) -> Result<Node, RenderError> {
    let mut rendering = Rendering { access, sources, report, is_merged: false };
    let node = rendering.render(node, 0)?;
    if !rendering.is_merged {
        return Ok(node);
    }
    let mut of_all = Report::default();
    let config = Config::from_node(&node);
    document::validate::validate(&config, &node, document::spec::NEWEST, &mut of_all);
    let known = |finding: &document::Finding| {
        report.findings.iter().any(|old| old.mark == finding.mark && old.message == finding.message)
    };
    of_all.findings.retain(|finding| !known(finding));
    let wrong = of_all.has_errors();
    report.append(of_all);
    if wrong { Err(RenderError::Wrong) } else { Ok(node) }
}

struct Rendering<'a> {
    access: &'a dyn Access,
    sources: &'a mut Sources,
    report: &'a mut Report,
    /// Whether the result is of several documents: each of them alone was checked as it was read.
    is_merged: bool,
}

impl Rendering<'_> {
    fn render(&mut self, node: Node, depth: usize) -> Result<Node, RenderError> {
        if depth > DEEPEST {
            return Err(RenderError::TooDeep);
        }
        let ignition = Config::from_node(&node).ignition;
        if is_given(&ignition.config.replace) {
            let at = "$.ignition.config.replace";
            let other = self.get(&node, at, &ignition.config.replace, &ignition)?;
            return self.render(other, depth + 1);
        }
        let mut whole = node.clone();
        for (index, resource) in ignition.config.merge.iter().enumerate() {
            let at = format!("$.ignition.config.merge.{index}");
            // The child is got as the documents so far say, its own children as it says, too.
            let so_far = Config::from_node(&whole).ignition;
            let child = self.get(&node, &at, resource, &so_far)?;
            let child = self.render(child, depth + 1)?;
            whole = document::merge(whole, child);
            self.is_merged = true;
        }
        Ok(whole)
    }

    fn get(
        &mut self,
        node: &Node,
        at: &str,
        resource: &Resource,
        ignition: &Ignition,
    ) -> Result<Node, RenderError> {
        let mark = mark_of(node, at);
        let wrong = |source| RenderError::Fetch { at: at.to_owned(), mark, source };
        let mut bytes = Vec::new();
        self.access
            .of(ignition)
            .and_then(|fetch| fetch.fetch(resource, &mut bytes))
            .map_err(wrong)?;
        let name = crate::fetch::Shown::new(resource.source.as_deref().unwrap_or_default());
        let Document { node, report, .. } =
            document::read(&name.to_string(), &bytes, &Nowhere, self.sources);
        self.report.append(report);
        node.ok_or(RenderError::Wrong)
    }
}

fn is_given(resource: &Resource) -> bool {
    resource.source.as_ref().is_some_and(|source| !source.is_empty())
}

/// Where the value of a path was written, or the nearest that was.
pub fn mark_of(node: &Node, path: &str) -> document::Mark {
    let mut nearest = node;
    for segment in path.split('.').skip(1) {
        let next = match segment.parse() {
            Ok(index) => nearest.index(index),
            Err(_) => nearest.get(segment),
        };
        match next {
            Some(next) => nearest = next,
            None => break,
        }
    }
    nearest.mark
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Write};

    use expect_test::expect;

    use super::*;
    use crate::fetch::Shown;

    /// Documents by address.
    struct Shelf(BTreeMap<&'static str, &'static str>);

    impl Access for Shelf {
        fn of(&self, _: &Ignition) -> Result<Box<dyn Fetch + '_>, FetchError> {
            Ok(Box::new(Reader(self)))
        }
    }

    struct Reader<'a>(&'a Shelf);

    impl Fetch for Reader<'_> {
        fn fetch(&self, resource: &Resource, to: &mut dyn Write) -> Result<(), FetchError> {
            let url = resource.source.as_deref().unwrap_or_default();
            let text = self.0.0.get(url).ok_or_else(|| FetchError::NotFound(Shown::new(url)))?;
            to.write_all(text.as_bytes()).expect("memory");
            Ok(())
        }
    }

    fn rendered(shelf: &[(&'static str, &'static str)], first: &str) -> String {
        let mut sources = Sources::default();
        let mut report = Report::default();
        let Document { node, report: said, .. } =
            document::read("first", first.as_bytes(), &Nowhere, &mut sources);
        report.append(said);
        let shelf = Shelf(shelf.iter().copied().collect());
        match render(node.expect("a good document"), &shelf, &mut sources, &mut report) {
            Ok(node) => format!("{}{}\n", report.display(&sources), node.to_json()["storage"]),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                format!("{}{error}{cause}\n", report.display(&sources))
            }
        }
    }

    const FIRST: &str = r#"{"ignition": {"version": "3.0.0", "config": {"merge": [
        {"source": "http://a/1"}, {"source": "http://a/2"}]}},
        "storage": {"files": [{"path": "/first", "mode": 256}]}}"#;

    #[test]
    fn children_are_merged_in_order_and_their_children_before_them() {
        let shelf = [
            (
                "http://a/1",
                r#"{"ignition": {"version": "3.6.0", "config": {"merge": [{"source": "http://a/3"}]}},
                    "storage": {"files": [{"path": "/one"}]}}"#,
            ),
            (
                "http://a/2",
                r#"{"ignition": {"version": "3.1.0"}, "storage": {"files": [{"path": "/first", "mode": 384}]}}"#,
            ),
            (
                "http://a/3",
                r#"{"ignition": {"version": "3.2.0"}, "storage": {"files": [{"path": "/three"}]}}"#,
            ),
        ];
        expect![[r#"
            {"files":[{"mode":384,"path":"/first"},{"path":"/one"},{"path":"/three"}]}
        "#]]
        .assert_eq(&rendered(&shelf, FIRST));
    }

    #[test]
    fn what_replaces_a_document_is_all_there_is() {
        let first = r#"{"ignition": {"version": "3.0.0", "config": {
            "replace": {"source": "http://a/1"}, "merge": [{"source": "http://a/2"}]}},
            "storage": {"files": [{"path": "/first"}]}}"#;
        let shelf = [("http://a/1", r#"{"ignition": {"version": "3.6.0"}}"#)];
        expect![[r#"
            null
        "#]]
        .assert_eq(&rendered(&shelf, first));
    }

    #[test]
    fn a_circle_ends() {
        let circle = r#"{"ignition": {"version": "3.0.0", "config": {"replace": {"source": "http://a/1"}}}}"#;
        expect![[r#"
            more than 16 documents that each lead to the next; do they lead in a circle?
        "#]]
        .assert_eq(&rendered(&[("http://a/1", circle)], circle));
    }

    #[test]
    fn an_error_in_a_child_has_its_place_in_the_child() {
        let shelf = [
            (
                "http://a/1",
                "{\"ignition\": {\"version\": \"3.6.0\"},\n \"storage\": {\"files\": [{\"path\": \"a\"}]}}",
            ),
            ("http://a/2", ""),
        ];
        expect![[r#"
            error: expected an absolute path: one that starts with `/`
              at http://a/1:2:33, $.storage.files.0.path
                2 |  "storage": {"files": [{"path": "a"}]}}
                  |                                 ^
            a document has errors
        "#]]
        .assert_eq(&rendered(&shelf, FIRST));
        expect![[r#"
            getting what $.ignition.config.merge.0 refers to: fetching http://a/1: the server has no such thing
        "#]].assert_eq(&rendered(&shelf[1..], FIRST));
    }

    #[test]
    fn two_good_documents_can_make_one_that_is_not() {
        let first = r#"{"ignition": {"version": "3.0.0", "config": {"merge": [{"source": "http://a/1"}]}},
            "storage": {"links": [{"path": "/a", "target": "/b"}]}}"#;
        let shelf = [(
            "http://a/1",
            r#"{"ignition": {"version": "3.6.0"}, "storage": {"files": [{"path": "/a/b"}]}}"#,
        )];
        expect![[r#"
            error: the path leads through /a, which this document makes a link
              at http://a/1:1:59, $.storage.files.0
                1 | {"ignition": {"version": "3.6.0"}, "storage": {"files": [{"path": "/a/b"}]}}
                  |                                                           ^
              name the place behind the link itself
            a document has errors
        "#]]
        .assert_eq(&rendered(&shelf, first));
    }
}
