//! `storage.trees`: a directory beside the document becomes entries of it, one for each file.

use std::collections::HashMap;

use serde_json::json;

use super::{
    files::{Files, What, inside},
    translate::{child_mut, follows, list_mut, no_file, put_content},
};
use crate::document::{
    node::{At, Map, Mark, Node, Value},
    report::Report,
};

const LISTS: [&str; 3] = ["files", "directories", "links"];

/// What is at which path of the document: the list that it is in, and where in it.
pub(super) struct Nodes(HashMap<String, (&'static str, usize)>);

impl Nodes {
    pub(super) fn of(ignition: &Node) -> Self {
        let mut nodes = HashMap::new();
        for name in LISTS {
            let list = ignition.get("storage").and_then(|storage| storage.get(name));
            for (index, node) in list.and_then(Node::list).unwrap_or_default().iter().enumerate() {
                let path = node.get("path").and_then(Node::text).unwrap_or_default();
                nodes.insert(path.to_owned(), (name, index));
            }
        }
        Self(nodes)
    }

    /// The entry for a path in a list: one that is there and has nothing of its own under `key`
    /// yet, or a new one.
    pub(super) fn entry<'a>(
        &mut self,
        ignition: &'a mut Node,
        list: &'static str,
        new: Node,
        key: &[&str],
    ) -> Option<&'a mut Node> {
        let path = new.get("path").and_then(Node::text).unwrap_or_default().to_owned();
        let mark = new.mark;
        let entries = list_mut(child_mut(ignition, "storage", mark), list, mark);
        match self.0.get(&path) {
            Some((of, index)) if *of == list => {
                let entry = entries.get_mut(*index)?;
                let own = key.iter().try_fold(&*entry, |node, key| node.get(key));
                let taken =
                    key.is_empty() || own.and_then(Node::text).is_some_and(|own| !own.is_empty());
                (!taken).then_some(entry)
            }
            Some(_) => None,
            None => {
                self.0.insert(path, (list, entries.len()));
                entries.push(new);
                entries.last_mut()
            }
        }
    }
}

/// Puts all trees of a document into its configuration.
pub(super) fn grow(document: &Node, ignition: &mut Node, files: &dyn Files, report: &mut Report) {
    let root = At::root(document);
    let storage = root.key("storage");
    let trees = storage.key("trees");
    let count = trees.node().and_then(Node::list).map_or(0, <[Node]>::len);
    let mut nodes = Nodes::of(ignition);
    for index in 0..count {
        grow_one(&trees.index(index), ignition, &mut nodes, files, report);
    }
}

fn grow_one(
    at: &At<'_>,
    ignition: &mut Node,
    nodes: &mut Nodes,
    files: &dyn Files,
    report: &mut Report,
) {
    let place = at.key("local");
    let path = place.node().and_then(Node::text).unwrap_or_default();
    let all = inside(path).and_then(|path| Ok((files.tree(&path)?, path)));
    let (all, local) = match all {
        Ok(found) => found,
        Err(error) => return no_file(&place, &error, report),
    };
    if all.first().is_none_or(|root| root.what != What::Directory) {
        report.error(&place, format!("`{path}` is not a directory: a tree has to be one"));
        return;
    }
    let tree = Tree { at, mark: place.mark() };
    let base = at.key("path");
    let base = base.node().and_then(Node::text).unwrap_or_default().trim_end_matches('/');
    for found in &all {
        let target = match found.path.as_str() {
            "" if base.is_empty() => "/".to_owned(),
            "" => base.to_owned(),
            below => format!("{base}/{below}"),
        };
        let content = match found.what {
            What::File { .. } => {
                let path = format!("{local}/{}", found.path);
                match files.read(path.trim_start_matches('/')) {
                    Ok(content) => content,
                    Err(error) => {
                        no_file(&place, &error, report);
                        continue;
                    }
                }
            }
            What::Directory | What::Link { .. } | What::Other => Vec::new(),
        };
        if !tree.plant(&found.what, &target, &content, ignition, nodes) {
            let message = match found.what {
                What::Other => {
                    format!("`{}` is no file, directory or symbolic link", found.path)
                }
                _ => format!(
                    "`{}` of the tree would be {target}, and the document has that already, with \
                     contents or as something else",
                    found.path
                ),
            };
            report.error(&place, message);
        }
    }
}

struct Tree<'a> {
    at: &'a At<'a>,
    mark: Mark,
}

impl Tree<'_> {
    fn own(&self, name: &str) -> Option<Node> {
        self.at.node().and_then(|tree| tree.get(name)).cloned()
    }

    /// A new entry, with the owner that the tree gives to its own.
    fn new_entry(&self, path: &str) -> Node {
        let mut entry = follows(self.mark, json!({"path": path}));
        for name in ["user", "group"] {
            if let Some(owner) = self.own(name) {
                *child_mut(&mut entry, name, self.mark) = owner;
            }
        }
        entry
    }

    /// Puts one thing into the document; false if it cannot be there.
    fn plant(
        &self,
        what: &What,
        path: &str,
        content: &[u8],
        ignition: &mut Node,
        nodes: &mut Nodes,
    ) -> bool {
        let mode = |name, default: i64| {
            self.own(name).unwrap_or(Node::new(self.mark, Value::Integer(default)))
        };
        match what {
            What::Directory => {
                let asked =
                    ["user", "group", "dir_mode"].iter().any(|name| self.own(name).is_some());
                if !asked {
                    return true;
                }
                let new = self.new_entry(path);
                let Some(entry) = nodes.entry(ignition, "directories", new, &[]) else {
                    return false;
                };
                *child_mut(entry, "mode", self.mark) = mode("dir_mode", 0o755);
            }
            What::File { executable } => {
                let new = self.new_entry(path);
                let own = ["contents", "source"];
                let Some(entry) = nodes.entry(ignition, "files", new, &own) else { return false };
                let contents = child_mut(entry, "contents", self.mark);
                if contents.map().is_none() {
                    contents.value = Map::default().into();
                }
                if let Value::Map(resource) = &mut contents.value {
                    put_content(resource, self.mark, content);
                }
                if entry.get("mode").is_none() {
                    let default = if *executable { 0o755 } else { 0o644 };
                    *child_mut(entry, "mode", self.mark) = mode("file_mode", default);
                }
            }
            What::Link { target } => {
                let new = self.new_entry(path);
                let Some(entry) = nodes.entry(ignition, "links", new, &["target"]) else {
                    return false;
                };
                *child_mut(entry, "target", self.mark) = Node::new(self.mark, target.as_str());
            }
            What::Other => return false,
        }
        true
    }
}
