//! Butane: Ignition as people write it, in YAML, with names in snake_case and with sugar.
//!
//! ```text
//! YAML --(read)------> the same tree: known keys only, every value of its type
//!      --(rules)-----> complaints that only Butane has
//!      --(translate)-> a tree of the specification that the version maps to
//!      --(mount, trees, boot)--> the sugar, as entries of that tree
//! ```
//!
//! Every node of the result has the place of what it follows from, so that all later complaints
//! point into the YAML; [`spell`] makes their paths those of the YAML, too.

mod boot;
mod dialect;
mod files;
mod mount;
mod quadlets;
mod read;
mod rules;
mod spell;
mod table;
mod translate;
mod trees;
mod url;

pub(crate) use self::translate::follows;
pub use self::{
    dialect::{Dialect, Variant},
    files::{Directory, Files, Found, NoFile, Nowhere, What},
    spell::spell,
    url::data_url,
};
use super::{Sources, finish, node::Node, report::Report, yaml};

/// Whether a tree of YAML wants to be a Butane document.
pub fn is_butane(node: &Node) -> bool {
    node.get("variant").is_some()
}

/// Reads a Butane document: to a checked configuration of the newest specification.
pub fn read(
    source: u32,
    sources: &Sources,
    files: &dyn Files,
    report: &mut Report,
) -> Option<Node> {
    let text = sources.text(source);
    let node = match yaml::parse(text, source) {
        Ok(node) => node,
        Err(error) => {
            report.error_at("$", error.mark, error.message).hint = error.hint.map(str::to_owned);
            return None;
        }
    };
    let ignition = convert(&node, text, files, report)?;
    let said = report.findings.len();
    let ignition = finish(ignition, report);
    spell(&node, &mut report.findings[said..]);
    ignition
}

/// Makes a configuration of Ignition out of a Butane document, with the version that the document
/// maps to: it has to be held against the specification like any other. `text` is the YAML that
/// `node` was parsed from.
pub fn convert(node: &Node, text: &str, files: &dyn Files, report: &mut Report) -> Option<Node> {
    let dialect = dialect::of(node, text, report)?;
    let mut found = Report::default();
    let node = read::read(node, text, dialect, &mut found);
    rules::check(&node, dialect, &mut found);
    let converted = match found.has_errors() {
        true => None,
        false => Some(desugar(&node, dialect, files, &mut found)),
    };
    let failed = found.has_errors();
    report.append(found);
    converted.filter(|_| !failed)
}

fn desugar(node: &Node, dialect: Dialect, files: &dyn Files, report: &mut Report) -> Node {
    let mut ignition = translate::translate(node, dialect, files, report);
    ignition = mount::units(node, ignition);
    trees::grow(node, &mut ignition, files, report);
    quadlets::place(node, &mut ignition, files, report);
    ignition = boot::device(node, ignition);
    let said = report.findings.len();
    rules::check_root(&ignition, dialect, report);
    spell(node, &mut report.findings[said..]);
    boot::grub(node, ignition)
}

#[cfg(test)]
mod tests;
