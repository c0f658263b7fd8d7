//! Holds a tree against the table: what has the wrong type is an error; what is not known is
//! warned of and taken out, so that all later work sees known keys only.

use std::collections::HashMap;

use super::{Key, Kind, List, Object, ROOT, Value, hint_for_type};
use crate::document::{
    node::{Entry, Mark, Node},
    report::Report,
};

/// Checks a whole configuration of specification 3.`minor`.0. `spell` says how the document
/// spells a key of the table.
pub fn check(node: &mut Node, minor: u8, report: &mut Report) {
    let mut checker = Checker { minor, report, path: "$".to_owned() };
    checker.value(node, Kind::Map(&ROOT), true);
}

struct Checker<'a> {
    minor: u8,
    report: &'a mut Report,
    path: String,
}

impl Checker<'_> {
    /// Walks into something that `segment` names.
    fn within(&mut self, segment: impl std::fmt::Display, walk: impl FnOnce(&mut Self)) {
        use std::fmt::Write;
        let length = self.path.len();
        let _ = write!(self.path, ".{segment}");
        walk(self);
        self.path.truncate(length);
    }

    fn value(&mut self, node: &mut Node, kind: Kind, alone: bool) {
        match (&mut node.value, kind) {
            (Value::Null, _)
            | (Value::String(_), Kind::Text)
            | (Value::Integer(_), Kind::Integer)
            | (Value::Bool(_), Kind::Flag) => {}
            (Value::Map(_), Kind::Map(object)) => self.map(node, object),
            (Value::List(_), Kind::List(list)) => self.list(node, list, alone),
            (found, expected) => {
                let message = expected.instead_of(found);
                let hint = hint_for_type(found, expected, false);
                let finding = self.report.error_at(&self.path, node.mark, message);
                finding.hint = hint.map(str::to_owned);
                // Nothing behind this has to look at it again.
                node.value = Value::Null;
            }
        }
    }

    fn map(&mut self, node: &mut Node, object: &'static Object) {
        let Value::Map(map) = &mut node.value else { return };
        let known = |name: &str| object.field(name).filter(|field| field.since <= self.minor);
        let (known, unknown): (Vec<Entry>, Vec<Entry>) =
            map.0.drain(..).partition(|entry| known(&entry.key).is_some());
        map.0 = known;
        map.0.retain(|entry| entry.node.value != Value::Null);
        for entry in unknown {
            self.unknown(&entry, object);
        }
        for entry in &mut map.0 {
            let field = object.field(&entry.key).expect("only known keys were kept");
            let alone = !object.shared.contains(&field.name);
            self.within(field.name, |within| within.value(&mut entry.node, field.kind, alone));
        }
        map.0.retain(|entry| entry.node.value != Value::Null);
        let lists: Vec<(&str, &Node)> = map
            .0
            .iter()
            .filter(|entry| object.shared.contains(&entry.key.as_str()))
            .map(|entry| (entry.key.as_str(), &entry.node))
            .collect();
        self.duplicates_in(object, &lists);
    }

    fn unknown(&mut self, entry: &Entry, object: &'static Object) {
        let Entry { key, mark, .. } = entry;
        let (minor, mut hint) = (self.minor, None);
        if let Some(field) = object.field(key) {
            let since = field.since;
            hint = Some(format!(
                "specification 3.{since}.0 has it, and this document says that it keeps to 3.{minor}.0"
            ));
        } else if let Some(name) = nearest(key, object.fields.iter().map(|field| field.name)) {
            hint = Some(format!("did you mean `{name}`?"));
        }
        self.within(key, |within| {
            let message = format!("unused key `{key}`: it is not known here and has no effect");
            let finding = within.report.warning_at(&within.path, *mark, message);
            finding.hint = hint;
        });
    }

    /// `alone`: its entries do not share their names with those of another list.
    fn list(&mut self, node: &mut Node, list: &'static List, alone: bool) {
        let Value::List(entries) = &mut node.value else { return };
        for (index, entry) in entries.iter_mut().enumerate() {
            if entry.value == Value::Null {
                // As the original reads it: an entry without anything in it.
                entry.value = match list.item {
                    Kind::Map(_) => Value::Map(super::super::node::Map::default()),
                    _ => Value::String(String::new()),
                };
            }
            self.within(index, |within| within.value(entry, list.item, true));
        }
        entries.retain(|entry| entry.value != Value::Null);
        if alone && list.key != Key::Nothing {
            let keys = entries.iter().map(|entry| (list.key.of(entry), entry.mark));
            let keys: Vec<(Option<String>, Mark)> = keys.collect();
            self.duplicates(
                keys.into_iter().enumerate().map(|(index, (key, mark))| {
                    (key.unwrap_or_default(), mark, format!("{index}"))
                }),
            );
        }
    }

    fn duplicates_in(&mut self, object: &'static Object, lists: &[(&str, &Node)]) {
        let mut keys = Vec::new();
        for (name, node) in lists {
            let Some(Kind::List(list)) = object.field(name).map(|field| field.kind) else {
                continue;
            };
            for (index, entry) in node.list().unwrap_or_default().iter().enumerate() {
                let key = list.key.of(entry).unwrap_or_default();
                keys.push((key, entry.mark, format!("{name}.{index}")));
            }
        }
        self.duplicates(keys.into_iter());
    }

    fn duplicates(&mut self, keys: impl Iterator<Item = (String, Mark, String)>) {
        let mut seen: HashMap<String, String> = HashMap::new();
        for (key, mark, place) in keys {
            if let Some(first) = seen.get(&key) {
                let first = format!("{}.{first}", self.path);
                let path = format!("{}.{place}", self.path);
                let what =
                    if key.is_empty() { "without a name".to_owned() } else { format!("`{key}`") };
                let message = format!("a duplicate entry {what}: the first is {first}");
                self.report.error_at(&path, mark, message);
            } else {
                seen.insert(key, place);
            }
        }
    }
}

/// The known name that was probably meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
    let wanted = plain(name);
    let near = known.map(|candidate| (distance(&wanted, &plain(candidate)), candidate));
    let (distance, candidate) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + wanted.len() / 5).then_some(candidate)
}

/// How many letters must be added, removed, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = rows[i][j] + usize::from(x != y);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::document::{json, report::Sources};

    fn said(minor: u8, text: &str, expected: Expect) {
        let mut sources = Sources::default();
        let source = sources.add("a.ign", text);
        let mut node = json::parse(sources.text(source), source).unwrap();
        let mut report = Report::default();
        check(&mut node, minor, &mut report);
        expected.assert_eq(&report.display(&sources).to_string());
    }

    #[test]
    fn a_key_that_is_not_known_is_warned_of_with_the_nearest_that_is() {
        said(
            6,
            r#"{"storage": {"flies": [], "files": [{"path": "/a", "Mode": 420}]}}"#,
            expect![[r#"
                warning: unused key `flies`: it is not known here and has no effect
                  at a.ign:1:14, $.storage.flies
                    1 | {"storage": {"flies": [], "files": [{"path": "/a", "Mode": 420}]}}
                      |              ^
                  did you mean `files`?
                warning: unused key `Mode`: it is not known here and has no effect
                  at a.ign:1:52, $.storage.files.0.Mode
                    1 | {"storage": {"flies": [], "files": [{"path": "/a", "Mode": 420}]}}
                      |                                                    ^
                  did you mean `mode`?
            "#]],
        );
    }

    #[test]
    fn a_key_of_a_newer_specification_is_not_known_yet() {
        said(
            2,
            r#"{"kernelArguments": {}}"#,
            expect![[r#"
            warning: unused key `kernelArguments`: it is not known here and has no effect
              at a.ign:1:2, $.kernelArguments
                1 | {"kernelArguments": {}}
                  |  ^
              specification 3.3.0 has it, and this document says that it keeps to 3.2.0
        "#]],
        );
    }

    #[test]
    fn a_value_of_another_type_is_an_error() {
        said(
            6,
            r#"{"storage": {"files": [{"path": 1, "mode": "0644", "append": {}}, 3]}}"#,
            expect![[r#"
                error: expected a text, found a whole number
                  at a.ign:1:33, $.storage.files.0.path
                    1 | {"storage": {"files": [{"path": 1, "mode": "0644", "append": {}}, 3]}}
                      |                                 ^
                error: expected a whole number, found a text
                  at a.ign:1:44, $.storage.files.0.mode
                    1 | {"storage": {"files": [{"path": 1, "mode": "0644", "append": {}}, 3]}}
                      |                                            ^
                  write it without quotes
                error: expected a list, found a map
                  at a.ign:1:63, $.storage.files.0.append
                    1 | torage": {"files": [{"path": 1, "mode": "0644", "append": {}}, 3]}}
                      |                                                            ^
                  write it in brackets: `[...]`
                error: expected a map, found a whole number
                  at a.ign:1:67, $.storage.files.1
                    1 | ge": {"files": [{"path": 1, "mode": "0644", "append": {}}, 3]}}
                      |                                                            ^
            "#]],
        );
    }

    #[test]
    fn entries_of_one_name_are_errors_over_lists_that_share_names() {
        said(
            6,
            r#"{"storage": {"files": [{"path": "/a"}], "links": [{"path": "/a"}]},
                "passwd": {"users": [{"name": "a", "sshAuthorizedKeys": ["k", "k"]}, {"name": "a"}]}}"#,
            expect![[r#"
                error: a duplicate entry `/a`: the first is $.storage.files.0
                  at a.ign:1:52, $.storage.links.0
                    1 | {"storage": {"files": [{"path": "/a"}], "links": [{"path": "/a"}]},
                      |                                                    ^
                error: a duplicate entry `k`: the first is $.passwd.users.0.sshAuthorizedKeys.0
                  at a.ign:2:79, $.passwd.users.0.sshAuthorizedKeys.1
                    2 | sswd": {"users": [{"name": "a", "sshAuthorizedKeys": ["k", "k"]}, {"name": "a"}]}}
                      |                                                            ^
                error: a duplicate entry `a`: the first is $.passwd.users.0
                  at a.ign:2:87, $.passwd.users.1
                    2 | "users": [{"name": "a", "sshAuthorizedKeys": ["k", "k"]}, {"name": "a"}]}}
                      |                                                            ^
            "#]],
        );
    }

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["enabled", "mask", "contents", "dropins"];
        let nearest = |name| nearest(name, known.iter().copied());
        assert_eq!(nearest("enable"), Some("enabled"));
        assert_eq!(nearest("content"), Some("contents"));
        assert_eq!(nearest("drop-ins"), Some("dropins"));
        assert_eq!(nearest("msak"), Some("mask"));
        assert_eq!(nearest("something"), None);
    }
}
