//! The plain part: names of the specification in place of those of YAML, and what a resource, a
//! unit or a user takes from the document itself or from a file, put where the specification has it.

use super::{
    dialect::Dialect,
    files::{Files, NoFile, inside},
    table::{DOCUMENT_KIND, is_resource},
    url::data_url,
};
use crate::document::{
    node::{At, Entry, Map, Mark, Node, Value},
    report::Report,
    schema::{Kind, Object},
};

pub(super) fn translate(
    document: &Node,
    dialect: Dialect,
    files: &dyn Files,
    report: &mut Report,
) -> Node {
    let mut translator = Translator { files, report, place: String::new() };
    let mut ignition = translator
        .value(&At::root(document), DOCUMENT_KIND)
        .unwrap_or(Node::new(document.mark, Map::default()));
    let mark = document.get("version").map_or(document.mark, |version| version.mark);
    let head = child_mut(&mut ignition, "ignition", mark);
    *child_mut(head, "version", mark) = Node::new(mark, format!("3.{}.0", dialect.minor));
    ignition
}

/// What a file beside the document has in it; why it has nothing is reported.
pub(super) fn local(at: &At<'_>, files: &dyn Files, report: &mut Report) -> Option<Vec<u8>> {
    let path = at.node()?.text()?;
    match inside(path).and_then(|path| files.read(&path)) {
        Ok(content) => Some(content),
        Err(error) => {
            no_file(at, &error, report);
            None
        }
    }
}

/// Reports that there is no such file.
pub(super) fn no_file(at: &At<'_>, error: &NoFile, report: &mut Report) {
    let finding = report.error(at, error.to_string());
    if let NoFile::Nowhere = error {
        finding.hint("`ignition convert --files-dir DIR` puts local files into a document");
    }
}

/// A tree of its own, all of which follows from what is at `mark`.
pub(crate) fn follows(mark: Mark, json: serde_json::Value) -> Node {
    let value = match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => value.into(),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Array(list) => {
            list.into_iter().map(|json| follows(mark, json)).collect::<Vec<_>>().into()
        }
        serde_json::Value::Object(object) => {
            let entry = |(key, json)| Entry { key, mark, node: follows(mark, json) };
            Map(object.into_iter().map(entry).collect()).into()
        }
    };
    Node { mark, value }
}

/// The value of a key, made if it is not there.
pub(super) fn child_mut<'a>(node: &'a mut Node, key: &str, mark: Mark) -> &'a mut Node {
    if node.map().is_none() {
        node.value = Map::default().into();
    }
    let Value::Map(map) = &mut node.value else { unreachable!("it was just made a map") };
    if map.get_mut(key).is_none() {
        map.set(key, Node { mark, value: Value::Null });
    }
    map.get_mut(key).expect("it was just put there")
}

/// The list that is the value of a key, made if it is not there.
pub(super) fn list_mut<'a>(node: &'a mut Node, key: &str, mark: Mark) -> &'a mut Vec<Node> {
    let node = child_mut(node, key, mark);
    if node.list().is_none() {
        node.value = Vec::new().into();
    }
    let Value::List(list) = &mut node.value else { unreachable!("it was just made a list") };
    list
}

struct Translator<'a> {
    files: &'a dyn Files,
    report: &'a mut Report,
    /// Where in the table: `storage.files`.
    place: String,
}

impl Translator<'_> {
    fn value(&mut self, at: &At<'_>, kind: Kind) -> Option<Node> {
        let node = at.node()?;
        let value = match (&node.value, kind) {
            (Value::Map(map), Kind::Map(object)) => self.map(at, map, object).into(),
            (Value::List(list), Kind::List(of)) => {
                let entries =
                    (0..list.len()).filter_map(|index| self.value(&at.index(index), of.item));
                Value::List(entries.collect())
            }
            (value, _) => value.clone(),
        };
        Some(Node { mark: node.mark, value })
    }

    fn map(&mut self, at: &At<'_>, map: &Map, object: &'static Object) -> Map {
        let mut to = Map::default();
        for field in object.fields {
            let snake = field.snake();
            let Some(entry) = map.0.iter().find(|entry| entry.key == snake) else { continue };
            let place = self.place.len();
            self.place.push_str(if place == 0 { "" } else { "." });
            self.place.push_str(&snake);
            if let Some(node) = self.value(&at.key(&snake), field.kind) {
                to.0.push(Entry { key: field.name.to_owned(), mark: entry.mark, node });
            }
            self.place.truncate(place);
        }
        if is_resource(object) {
            self.content(at, &mut to);
        }
        match self.place.as_str() {
            "passwd.users" => self.keys(at, &mut to),
            "systemd.units" | "systemd.units.dropins" => self.contents(at, &mut to),
            _ => {}
        }
        to
    }

    /// What is in a resource, said in the document or beside it.
    fn content(&mut self, at: &At<'_>, resource: &mut Map) {
        let (inline, beside) = (at.key("inline"), at.key("local"));
        let (mark, content) = if let Some(text) = inline.node().and_then(Node::text) {
            (inline.mark(), text.as_bytes().to_vec())
        } else if let Some(content) = local(&beside, self.files, self.report) {
            (beside.mark(), content)
        } else {
            return;
        };
        put_content(resource, mark, &content);
    }

    /// Keys, one a line of a file.
    fn keys(&mut self, at: &At<'_>, user: &mut Map) {
        let beside = at.key("ssh_authorized_keys_local");
        let count = beside.node().and_then(Node::list).map_or(0, <[Node]>::len);
        let mut keys = Vec::new();
        for index in 0..count {
            let at = beside.index(index);
            let Some(content) = local(&at, self.files, self.report) else { continue };
            let Some(text) = self.text(&at, content) else { continue };
            let lines = text.lines().filter(|line| !line.is_empty());
            keys.extend(lines.map(|line| Node::new(at.mark(), line)));
        }
        if let Some(Value::List(list)) =
            user.get_mut("sshAuthorizedKeys").map(|node| &mut node.value)
        {
            list.append(&mut keys);
        } else if !keys.is_empty() {
            user.set("sshAuthorizedKeys", Node::new(beside.mark(), keys));
        }
    }

    fn contents(&mut self, at: &At<'_>, unit: &mut Map) {
        let beside = at.key("contents_local");
        if let Some(content) = local(&beside, self.files, self.report)
            && let Some(text) = self.text(&beside, content)
        {
            unit.set("contents", Node::new(beside.mark(), text));
        }
    }

    fn text(&mut self, at: &At<'_>, content: Vec<u8>) -> Option<String> {
        let text = String::from_utf8(content).ok();
        if text.is_none() {
            self.report.error(at, "the file is not text (UTF-8)");
        }
        text
    }
}

/// Puts content into a resource, as a URL. Its packing is always said, so that a child of another
/// document does not get that of its parent.
pub(super) fn put_content(resource: &mut Map, mark: Mark, content: &[u8]) {
    let said = resource.get("compression").and_then(Node::text).unwrap_or_default();
    let packed_by_hand = !said.is_empty();
    let (url, packed) = data_url(content, packed_by_hand);
    resource.set("source", Node::new(mark, url));
    if !packed_by_hand {
        resource.set("compression", Node::new(mark, if packed { "gzip" } else { "" }));
    }
}
