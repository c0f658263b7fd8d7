//! Holds the YAML against the table: what is not known is warned of and left out, every value gets
//! the type that is wanted of it, or is an error.

use super::{
    dialect::Dialect,
    table::{DOCUMENT_KIND, keys},
};
use crate::document::{
    node::{Map, Mark, Node, Value},
    report::Report,
    schema::{Field, Object, nearest},
    yaml::{self, Found, Words},
};

pub(super) fn read(node: &Node, text: &str, dialect: Dialect, report: &mut Report) -> Node {
    let read = yaml::read(node, DOCUMENT_KIND, text, &dialect, report);
    read.unwrap_or(Node::new(node.mark, Map::default()))
}

impl Words for Dialect {
    const EMPTY: Option<Value> = Some(Value::Null);

    fn keys(&self, place: &str, object: &'static Object) -> Vec<(String, &'static Field)> {
        keys(place, object).collect()
    }

    fn has(&self, field: &Field) -> bool {
        field.since <= self.minor && Self::has(*self, field.name)
    }

    fn unknown(&self, found: &Found<'_>, report: &mut Report) {
        let (key, mark, path) = (&found.entry.key, found.entry.mark, found.path);
        if let Some(why) = self.refuses(key).filter(|_| found.place.is_empty()) {
            let variant = self.variant.name();
            let message = format!("`{key}` cannot be in a document of variant {variant}");
            report.error_at(path, mark, message).hint(why);
            return;
        }
        let here = found.keys.iter().filter(|(_, field)| Words::has(self, field));
        let message = format!("unused key `{key}`: it is not known here and has no effect");
        let finding = report.warning_at(path, mark, message);
        let newer = found.field.filter(|field| field.since > self.minor);
        if let Some(since) = newer.and_then(|field| self.variant.since(field.since)) {
            finding.hint(format!("{since} has it"));
        } else if key == "version" && found.place == "ignition" {
            finding.hint("the version of the whole document, on top, says it");
        } else if let Some(name) = nearest(key, here.map(|(name, _)| name.as_str())) {
            finding.hint(format!("did you mean `{name}`?"));
        }
    }

    fn mistyped(&self, path: &str, mark: Mark, message: String, report: &mut Report) {
        report.error_at(path, mark, message);
    }
}
