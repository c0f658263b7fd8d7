//! Holds the YAML against the table: what is not known is warned of and left out, every value gets
//! the type that is wanted of it, or is an error.

use super::{
    dialect::Dialect,
    table::{DOCUMENT_KIND, keys},
};
use crate::document::{
    node::{Map, Node, Value},
    report::Report,
    schema::{Field, Kind, Object, hint_for_type, nearest},
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
        let deeper = one_deeper(key, found);
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
        } else if key.starts_with(char::is_whitespace) {
            finding.hint("it begins with a blank that is not a space: indent with spaces");
        } else if let Some(name) = deeper {
            finding.hint(format!("`{name}` has it: indent it further, to be in that"));
        }
    }

    fn mistyped(&self, path: &str, node: &Node, expected: Kind, report: &mut Report) {
        let message = expected.instead_of(&node.value);
        let hint = hint_for_type(&node.value, expected, true);
        report.error_at(path, node.mark, message).hint = hint.map(str::to_owned);
    }
}

/// The key that holds a map in which an unknown one is known: it was not indented far enough.
fn one_deeper<'f>(key: &str, found: &Found<'f>) -> Option<&'f str> {
    let has_it = |(name, field): &&(String, &'static Field)| {
        let Kind::Map(object) = field.kind else { return false };
        let between = if found.place.is_empty() { "" } else { "." };
        keys(&format!("{}{between}{name}", found.place), object).any(|(known, _)| known == key)
    };
    found.keys.iter().find(has_it).map(|(name, _)| name.as_str())
}
