//! Holds the YAML against the table: what is not known is warned of and left out, every value gets
//! the type that is wanted of it, or is an error.

use super::{
    dialect::Dialect,
    table::{DOCUMENT_KIND, keys},
};
use crate::document::{
    node::{Entry, Map, Node, Value},
    report::Report,
    schema::{Field, Kind, Object, nearest},
    yaml,
};

pub(super) fn read(node: &Node, text: &str, dialect: Dialect, report: &mut Report) -> Node {
    let mut reader = Reader { text, dialect, report, path: "$".to_owned(), place: String::new() };
    reader.value(node, DOCUMENT_KIND).unwrap_or(Node::new(node.mark, Map::default()))
}

struct Reader<'a> {
    text: &'a str,
    dialect: Dialect,
    report: &'a mut Report,
    /// With the indices: `$.storage.files.0`.
    path: String,
    /// Without: `storage.files`.
    place: String,
}

impl Reader<'_> {
    fn value(&mut self, node: &Node, kind: Kind) -> Option<Node> {
        let value = match (&node.value, kind) {
            (Value::Null, _) => Some(Value::Null),
            (Value::Map(map), Kind::Map(object)) => Some(Value::Map(self.map(map, object))),
            (Value::List(list), Kind::List(of)) => {
                let each = list.iter().enumerate().filter_map(|(index, node)| {
                    let length = self.path.len();
                    self.path.push_str(&format!(".{index}"));
                    let node = self.value(node, of.item);
                    self.path.truncate(length);
                    node
                });
                Some(Value::List(each.collect()))
            }
            (Value::Integer(_), Kind::Integer) => Some(node.value.clone()),
            (_, Kind::Text) => yaml::written(node, self.text).map(Value::String),
            (_, Kind::Flag) => yaml::truth(node).map(Value::Bool),
            _ => None,
        };
        if value.is_none() {
            let expected = kind.words();
            let message = format!("expected {expected}, found {}", node.value.kind());
            self.report.error_at(&self.path, node.mark, message);
        }
        value.map(|value| Node { mark: node.mark, value })
    }

    fn map(&mut self, map: &Map, object: &'static Object) -> Map {
        let known: Vec<(String, &Field)> = keys(&self.place, object).collect();
        let mut read = Map::default();
        for entry in &map.0 {
            let field = known.iter().find(|(name, _)| *name == entry.key).map(|(_, field)| *field);
            let here = field
                .filter(|field| field.since <= self.dialect.minor && self.dialect.has(field.name));
            let (path, place) = (self.path.len(), self.place.len());
            self.path.push_str(&format!(".{}", entry.key));
            match here {
                Some(field) => {
                    self.place.push_str(if place == 0 { "" } else { "." });
                    self.place.push_str(&entry.key);
                    if let Some(node) = self.value(&entry.node, field.kind) {
                        read.0.push(Entry { key: entry.key.clone(), mark: entry.mark, node });
                    }
                }
                None => self.unknown(entry, field, &known),
            }
            self.path.truncate(path);
            self.place.truncate(place);
        }
        read
    }

    fn unknown(&mut self, entry: &Entry, field: Option<&Field>, known: &[(String, &Field)]) {
        let (key, mark) = (&entry.key, entry.mark);
        if let Some(why) = self.dialect.refuses(key).filter(|_| self.place.is_empty()) {
            let variant = self.dialect.variant.name();
            let message = format!("`{key}` cannot be in a document of variant {variant}");
            self.report.error_at(&self.path, mark, message).hint(why);
            return;
        }
        let here: Vec<&str> = known
            .iter()
            .filter(|(_, field)| field.since <= self.dialect.minor && self.dialect.has(field.name))
            .map(|(name, _)| name.as_str())
            .collect();
        let message = format!("unused key `{key}`: it is not known here and has no effect");
        let finding = self.report.warning_at(&self.path, mark, message);
        let since = field.and_then(|field| self.dialect.variant.since(field.since));
        if let Some(since) = since.filter(|_| field.is_some_and(|f| f.since > self.dialect.minor)) {
            finding.hint(format!("{since} has it"));
        } else if key == "version" && self.place == "ignition" {
            finding.hint("the version of the whole document, on top, says it");
        } else if let Some(name) = nearest(key, here.into_iter()) {
            finding.hint(format!("did you mean `{name}`?"));
        }
    }
}
