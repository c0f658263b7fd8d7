//! The document: from text to a [`Config`], with a place in the text for every complaint.

mod authorized;
pub mod butane;
pub mod cloudconfig;
pub mod config;
mod format;
mod hash;
pub mod json;
pub mod merge;
pub mod node;
pub mod report;
pub mod schema;
pub mod spec;
mod typed;
pub mod unit;
pub mod validate;
pub mod yaml;

pub use butane::{Directory, Files, Nowhere};
pub use config::Config;
pub use format::{Format, Unreadable, unpack};
pub use hash::is_hash;
pub use merge::merge;
pub use node::{Map, Mark, Node, Value};
pub use report::{Finding, Report, Severity, Sources};

/// A document that was read: what it says, and what is to be said of it.
#[derive(Clone, Debug)]
pub struct Document {
    /// What kind of text it was.
    pub format: Format,
    /// The configuration, specification 3.6.0; none where the report has errors.
    pub node: Option<Node>,
    /// What is to be said of it.
    pub report: Report,
}

/// Reads a document of any kind. `name` is what complaints call it; files that it names (Butane's
/// `local`) are `files`.
pub fn read(name: &str, bytes: &[u8], files: &dyn Files, sources: &mut Sources) -> Document {
    let (format, source) = match format::text_of(name, bytes, sources) {
        Ok(text) => text,
        Err(report) => return Document { format: Format::Ignition, node: None, report },
    };
    let mut report = Report::default();
    let node = match format {
        Format::Ignition => ignition(source, sources, &mut report),
        Format::Butane => butane::read(source, sources, files, &mut report),
        Format::CloudConfig => {
            let text = sources.text(source).to_owned();
            let node = cloudconfig::convert(name, &text, sources, &mut report);
            node.and_then(|node| finish(node, &mut report))
        }
    };
    Document { format, node: node.filter(|_| !report.has_errors()), report }
}

/// Ignition's own JSON.
fn ignition(source: u32, sources: &Sources, report: &mut Report) -> Option<Node> {
    match json::parse(sources.text(source), source) {
        Ok(node) => finish(node, report),
        Err(error) => {
            report.error_at("$", error.mark, error.message);
            None
        }
    }
}

/// From a tree that says which specification it keeps to, to one of the newest that was checked.
pub fn finish(mut node: Node, report: &mut Report) -> Option<Node> {
    let minor = spec::version(&node, report)?;
    schema::check(&mut node, minor, report);
    validate::validate(&Config::from_node(&node), &node, minor, report);
    spec::translate(&mut node, minor);
    Some(node)
}

/// Merges documents that were checked, the first one the parent of all, and holds the result to the
/// rules again: two valid ones can make one that is not.
pub fn merged(nodes: impl IntoIterator<Item = Node>, report: &mut Report) -> Option<Node> {
    let mut nodes = nodes.into_iter();
    let (first, mut others) = (nodes.next()?, nodes.peekable());
    if others.peek().is_none() {
        return Some(first);
    }
    let node = others.fold(first, merge);
    validate::validate(&Config::from_node(&node), &node, spec::NEWEST, report);
    Some(node)
}
