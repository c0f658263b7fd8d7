//! Holds the YAML of a cloud-config against the table. `-` and `_` are the same in keys. Nothing
//! here is an error, but for a key that is there in both spellings: a boot is not stopped by what
//! can be left out.

use super::table::{ROOT, deprecated};
use crate::document::{
    node::{Entry, Map, Node, Value},
    report::Report,
    schema::{Kind, Object, nearest},
    yaml,
};

pub(super) fn read(node: &Node, text: &str, report: &mut Report) -> Node {
    let mut reader = Reader { text, report, path: "$".to_owned(), place: String::new() };
    let read = reader.value(node, Kind::Map(&ROOT));
    read.filter(|node| node.map().is_some()).unwrap_or(Node::new(node.mark, Map::default()))
}

struct Reader<'a> {
    text: &'a str,
    report: &'a mut Report,
    path: String,
    /// Without the indices of lists.
    place: String,
}

impl Reader<'_> {
    fn value(&mut self, node: &Node, kind: Kind) -> Option<Node> {
        let value = match (&node.value, kind) {
            (Value::Null, _) => return None,
            (Value::Map(map), Kind::Map(object)) => Some(Value::Map(self.map(map, object))),
            (Value::List(list), Kind::List(of)) => {
                let entries = list.iter().enumerate().filter_map(|(index, node)| {
                    let length = self.path.len();
                    self.path.push_str(&format!(".{index}"));
                    let node = self.value(node, of.item);
                    self.path.truncate(length);
                    node
                });
                Some(Value::List(entries.collect()))
            }
            (Value::Integer(_), Kind::Integer) => Some(node.value.clone()),
            (_, Kind::Text) => yaml::written(node, self.text).map(Value::String),
            (_, Kind::Flag) => yaml::truth(node).map(Value::Bool),
            _ => None,
        };
        if value.is_none() {
            let expected = kind.words();
            let found = node.value.kind();
            let message = format!("expected {expected}, found {found}: it has no effect");
            self.report.warning_at(&self.path, node.mark, message);
        }
        value.map(|value| Node { mark: node.mark, value })
    }

    fn map(&mut self, map: &Map, object: &'static Object) -> Map {
        let mut read = Map::default();
        for entry in &map.0 {
            let name = entry.key.replace('-', "_");
            let (path, place) = (self.path.len(), self.place.len());
            self.path.push_str(&format!(".{}", entry.key));
            self.place.push_str(if place == 0 { "" } else { "." });
            self.place.push_str(&name);
            if let Some(field) = object.field(&name) {
                if let Some(why) = deprecated(&self.place) {
                    let message = format!("`{}` is not used any more: {why}", entry.key);
                    self.report.warning_at(&self.path, entry.mark, message);
                }
                if read.0.iter().any(|other| other.key == name) {
                    let message = format!("`{name}` is here a second time, with `-` and with `_`");
                    self.report.error_at(&self.path, entry.mark, message);
                } else if let Some(node) = self.value(&entry.node, field.kind) {
                    read.0.push(Entry { key: name, mark: entry.mark, node });
                }
            } else {
                self.unknown(entry, &name, object);
            }
            self.path.truncate(path);
            self.place.truncate(place);
        }
        read
    }

    fn unknown(&mut self, entry: &Entry, name: &str, object: &Object) {
        let message = format!("unused key `{}`: it is not known here and has no effect", entry.key);
        let finding = self.report.warning_at(&self.path, entry.mark, message);
        if self.place == "coreos.write_files" {
            finding.hint("write_files belongs on top, not under coreos");
        } else if let Some(name) = nearest(name, object.fields.iter().map(|field| field.name)) {
            finding.hint(format!("did you mean `{name}`?"));
        }
    }
}
