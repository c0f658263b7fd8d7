//! Holds a tree of YAML against a table: known keys stay, every value gets the type that is wanted
//! of it. What is to be said of the rest is for the [`Words`] of the kind of document.

use std::borrow::Cow;

use super::{truth, written};
use crate::document::{
    node::{Entry, Map, Node, Value},
    report::Report,
    schema::{Field, Kind, Object},
};

/// What one kind of document makes of keys and values.
pub(in crate::document) trait Words {
    /// What a key with nothing behind it holds; `None` if it counts as not written.
    const EMPTY: Option<Value>;

    /// The keys of an object at a place, as they are looked for.
    fn keys(&self, place: &str, object: &'static Object) -> Vec<(String, &'static Field)>;

    /// How a key that was written is looked for.
    fn spelt<'k>(&self, key: &'k str) -> Cow<'k, str> {
        key.into()
    }

    /// Whether a key of the table is one of this document.
    fn has(&self, _field: &Field) -> bool {
        true
    }

    /// Says what is to be said of a known key; whether its value counts.
    fn known(&self, _found: &Found<'_>, _report: &mut Report) -> bool {
        true
    }

    /// Says that a key is not known.
    fn unknown(&self, found: &Found<'_>, report: &mut Report);

    /// Says that a value is not what was expected.
    fn mistyped(&self, path: &str, node: &Node, expected: Kind, report: &mut Report);
}

/// A key that was met.
pub(in crate::document) struct Found<'a> {
    /// It and its value.
    pub(in crate::document) entry: &'a Entry,
    /// As it is looked for.
    pub(in crate::document) name: &'a str,
    /// With the indices of lists and the key: `$.storage.files.0.mode`.
    pub(in crate::document) path: &'a str,
    /// Where it stands, without indices: `storage.files`.
    pub(in crate::document) place: &'a str,
    /// What the table has of this name, whether the document may use it or not.
    pub(in crate::document) field: Option<&'static Field>,
    /// All keys that could stand here.
    pub(in crate::document) keys: &'a [(String, &'static Field)],
    /// What was read of the same map so far.
    pub(in crate::document) before: &'a Map,
}

/// The tree as far as it is known; `None` if it is of another kind as a whole. `text` is what
/// `node` was parsed from.
pub(in crate::document) fn read(
    node: &Node,
    kind: Kind,
    text: &str,
    words: &impl Words,
    report: &mut Report,
) -> Option<Node> {
    let mut reader = Reader { text, words, report, path: "$".to_owned(), place: String::new() };
    reader.value(node, kind)
}

struct Reader<'a, W> {
    text: &'a str,
    words: &'a W,
    report: &'a mut Report,
    path: String,
    place: String,
}

impl<W: Words> Reader<'_, W> {
    fn value(&mut self, node: &Node, kind: Kind) -> Option<Node> {
        let value = match (&node.value, kind) {
            (Value::Null, _) => return W::EMPTY.map(|value| Node { mark: node.mark, value }),
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
            (_, Kind::Text) => written(node, self.text).map(Value::String),
            (_, Kind::Flag) => truth(node).map(Value::Bool),
            _ => None,
        };
        if value.is_none() {
            self.words.mistyped(&self.path, node, kind, self.report);
        }
        value.map(|value| Node { mark: node.mark, value })
    }

    fn map(&mut self, map: &Map, object: &'static Object) -> Map {
        let keys = self.words.keys(&self.place, object);
        let mut read = Map::default();
        for entry in &map.0 {
            let name = self.words.spelt(&entry.key);
            let field = keys.iter().find(|(key, _)| *key == name).map(|(_, field)| *field);
            let (path, place) = (self.path.len(), self.place.len());
            self.path.push_str(&format!(".{}", entry.key));
            let found = Found {
                entry,
                name: &name,
                path: &self.path,
                place: &self.place,
                field,
                keys: &keys,
                before: &read,
            };
            match field.filter(|field| self.words.has(field)) {
                None => self.words.unknown(&found, self.report),
                Some(field) => {
                    if self.words.known(&found, self.report) {
                        self.place.push_str(if place == 0 { "" } else { "." });
                        self.place.push_str(&name);
                        if let Some(node) = self.value(&entry.node, field.kind) {
                            let key = name.into_owned();
                            read.0.push(Entry { key, mark: entry.mark, node });
                        }
                    }
                }
            }
            self.path.truncate(path);
            self.place.truncate(place);
        }
        read
    }
}
