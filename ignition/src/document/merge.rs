//! One document over another (specification, "merging").
//!
//! What the child says wins, key by key. Entries of lists that have the same name are merged;
//! others of the child come behind those of the parent. An entry of the child takes the place of
//! one of the same name in another list that shares its names: a link in place of a file.

use std::collections::HashMap;

use super::{
    node::{Entry, Map, Node, Value},
    schema::{Key, Kind, List, Object, ROOT},
};

/// Merges two configurations of specification 3.6.0.
pub fn merge(parent: Node, child: Node) -> Node {
    value(parent, child, Kind::Map(&ROOT), &Shared::default())
}

/// Which list of the child has an entry of a name, for lists that share their names.
#[derive(Default)]
struct Shared {
    lists: HashMap<String, &'static str>,
}

fn value(parent: Node, child: Node, kind: Kind, shared: &Shared) -> Node {
    match (parent.value, child.value, kind) {
        (Value::Map(parent), Value::Map(theirs), Kind::Map(object)) => {
            Node::new(child.mark, map(parent, theirs, object))
        }
        (Value::List(parent), Value::List(theirs), Kind::List(of)) => {
            Node::new(child.mark, list(parent, theirs, of, shared))
        }
        (parent_value, Value::Null, _) => Node { mark: parent.mark, value: parent_value },
        (_, value, _) => Node { mark: child.mark, value },
    }
}

fn map(mut parent: Map, mut child: Map, object: &'static Object) -> Map {
    let mut merged = Map::default();
    let mut shared = Shared::default();
    for name in object.shared {
        let Some(Kind::List(list)) = object.field(name).map(|field| field.kind) else { continue };
        let entries = child.get(name).and_then(Node::list).unwrap_or_default();
        for key in entries.iter().filter_map(|entry| list.key.of(entry)) {
            shared.lists.insert(key, *name);
        }
    }
    for field in object.fields {
        let (ours, theirs) = (parent.remove(field.name), child.remove(field.name));
        let node = match (ours, theirs) {
            (Some(ours), Some(theirs)) => value(ours, theirs, field.kind, &shared),
            (Some(mut ours), None) => {
                // Another list of the child may have what this one had.
                if let (Value::List(entries), Kind::List(list)) = (&mut ours.value, field.kind) {
                    entries.retain(|entry| {
                        let key = list.key.of(entry);
                        !key.is_some_and(|key| shared.lists.contains_key(&key))
                    });
                }
                ours
            }
            (None, Some(theirs)) => theirs,
            (None, None) => continue,
        };
        merged.0.push(Entry { key: field.name.to_owned(), mark: node.mark, node });
    }
    merged
}

fn list(parent: Vec<Node>, child: Vec<Node>, list: &'static List, shared: &Shared) -> Vec<Node> {
    if list.key == Key::Nothing {
        return parent.into_iter().chain(child).collect();
    }
    let key = |entry: &Node| list.key.of(entry).unwrap_or_default();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (index, entry) in child.iter().enumerate() {
        places.insert(key(entry), index);
    }
    let mut child: Vec<Option<Node>> = child.into_iter().map(Some).collect();
    let mut merged = Vec::with_capacity(parent.len() + child.len());
    for entry in parent {
        let name = key(&entry);
        match places.get(&name).and_then(|index| child[*index].take()) {
            Some(theirs) if removes(&theirs, list) => {}
            Some(theirs) => merged.push(value(entry, theirs, list.item, &Shared::default())),
            // In another list of the child: there, it is another thing.
            None if shared.lists.contains_key(&name) => {}
            None => merged.push(entry),
        }
    }
    merged.extend(child.into_iter().flatten());
    merged
}

/// A header without a value removes the parent's.
fn removes(entry: &Node, list: &List) -> bool {
    let Kind::Map(object) = list.item else { return false };
    let header = object.field("value").is_some() && object.fields.len() == 2;
    header && entry.get("value").is_none()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::document::json;

    fn merged(parent: &str, child: &str, expected: Expect) {
        let parse = |text: &str, source| json::parse(text, source).unwrap();
        let merged = merge(parse(parent, 0), parse(child, 1));
        expected.assert_eq(&merged.to_json().to_string());
    }

    #[test]
    fn entries_of_one_name_are_merged_and_others_come_behind() {
        merged(
            r#"{"storage": {"files": [{"path": "/a", "mode": 420}, {"path": "/b"}]}}"#,
            r#"{"storage": {"files": [{"path": "/c"}, {"path": "/a", "overwrite": true}]}}"#,
            expect![[
                r#"{"storage":{"files":[{"mode":420,"overwrite":true,"path":"/a"},{"path":"/b"},{"path":"/c"}]}}"#
            ]],
        );
    }

    #[test]
    fn a_link_takes_the_place_of_a_file() {
        merged(
            r#"{"storage": {"files": [{"path": "/a"}, {"path": "/b"}]}}"#,
            r#"{"storage": {"links": [{"path": "/a", "target": "/b"}]}}"#,
            expect![[
                r#"{"storage":{"files":[{"path":"/b"}],"links":[{"path":"/a","target":"/b"}]}}"#
            ]],
        );
    }

    #[test]
    fn what_is_in_order_is_not_merged() {
        merged(
            r#"{"storage": {"raid": [{"name": "a", "options": ["-x"]}]}}"#,
            r#"{"storage": {"raid": [{"name": "a", "options": ["-x", "-y"]}]}}"#,
            expect![[r#"{"storage":{"raid":[{"name":"a","options":["-x","-x","-y"]}]}}"#]],
        );
    }

    #[test]
    fn a_header_without_a_value_removes_the_parents() {
        let with = |headers: &str| {
            let source = r#""source": "http://a.example/b""#;
            format!(
                r#"{{"ignition": {{"config": {{"replace": {{{source}, "httpHeaders": {headers}}}}}}}}}"#
            )
        };
        merged(
            &with(r#"[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]"#),
            &with(r#"[{"name": "A"}, {"name": "B", "value": "3"}]"#),
            expect![[
                r#"{"ignition":{"config":{"replace":{"httpHeaders":[{"name":"B","value":"3"}],"source":"http://a.example/b"}}}}"#
            ]],
        );
    }
}
