//! `systemd.quadlets`: containers and their like, which Podman makes units of.

use serde_json::json;

use super::{
    files::Files,
    translate::{child_mut, follows, local, put_content},
    trees::Nodes,
};
use crate::document::{
    node::{At, Map, Node, Value},
    report::Report,
};

const KINDS: [&str; 8] =
    ["container", "volume", "network", "kube", "image", "build", "pod", "artifact"];

/// Puts all quadlets of a document into its files and links.
pub(super) fn place(document: &Node, ignition: &mut Node, files: &dyn Files, report: &mut Report) {
    let root = At::root(document);
    let systemd = root.key("systemd");
    let quadlets = systemd.key("quadlets");
    let count = quadlets.node().and_then(Node::list).map_or(0, <[Node]>::len);
    let mut nodes = Nodes::of(ignition);
    for index in 0..count {
        let at = quadlets.index(index);
        let name_at = at.key("name");
        let name = name_at.node().and_then(Node::text).unwrap_or_default();
        let rootful = at.key("rootful").node().is_some_and(|n| n.value == Value::Bool(true));
        let directory = match rootful {
            true => "/etc/containers/systemd",
            false => "/etc/containers/systemd/users",
        };
        if !check(&at, name, report) {
            continue;
        }
        let path = format!("{directory}/{name}");
        let mark = name_at.mark();
        let placed = match template(name) {
            Some(template) => {
                let link = follows(mark, json!({"path": path, "target": template}));
                nodes.entry(ignition, "links", link, &[]).is_some()
            }
            None => file(&at, &path, ignition, &mut nodes, files, report),
        };
        if !placed {
            report.error(&name_at, format!("the document has {path} already"));
        }
        let dropins = at.key("dropins");
        let count = dropins.node().and_then(Node::list).map_or(0, <[Node]>::len);
        for index in 0..count {
            let at = dropins.index(index);
            let name_at = at.key("name");
            let name = name_at.node().and_then(Node::text).unwrap_or_default();
            if !is_file_name(name) || !name.ends_with(".conf") {
                report.error(&name_at, format!("`{name}` is not the name of a drop-in: a.conf"));
                continue;
            }
            let path = format!("{path}.d/{name}");
            if one_source(&at, report) && !file(&at, &path, ignition, &mut nodes, files, report) {
                report.error(&name_at, format!("the document has {path} already"));
            }
        }
    }
}

fn check(at: &At<'_>, name: &str, report: &mut Report) -> bool {
    let kind = name.rsplit_once('.').map(|(_, kind)| kind).unwrap_or_default();
    if !is_file_name(name) || !KINDS.contains(&kind) {
        let message = format!("`{name}` is not the name of a quadlet");
        let hint = format!("a name, and one of .{}", KINDS.join(", ."));
        report.error(&at.key("name"), message).hint(hint);
        return false;
    }
    if template(name).is_none() {
        return one_source(at, report);
    }
    let keys = ["contents", "contents_local"];
    let extra = keys.into_iter().find(|key| at.key(key).node().is_some());
    if let Some(key) = extra {
        let message = "an instance of a template has the contents of the template";
        report.error(&at.key(key), message);
    }
    extra.is_none()
}

fn one_source(at: &At<'_>, report: &mut Report) -> bool {
    let both = at.key("contents").node().is_some() && at.key("contents_local").node().is_some();
    if both {
        let message = "only one of these can be set: contents, contents_local";
        report.error(&at.key("contents_local"), message);
    }
    !both
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

/// The template that a name is an instance of: `a@.container` for `a@b.container`.
fn template(name: &str) -> Option<String> {
    let (base, rest) = name.split_once('@')?;
    let (instance, kind) = rest.rsplit_once('.')?;
    (!instance.is_empty()).then(|| format!("{base}@.{kind}"))
}

fn file(
    at: &At<'_>,
    path: &str,
    ignition: &mut Node,
    nodes: &mut Nodes,
    files: &dyn Files,
    report: &mut Report,
) -> bool {
    let (said, beside) = (at.key("contents"), at.key("contents_local"));
    let content = match said.node().and_then(Node::text) {
        Some(text) => text.as_bytes().to_vec(),
        None => local(&beside, files, report).unwrap_or_default(),
    };
    let mark = said.node().or(beside.node()).map_or(at.mark(), |node| node.mark);
    let new = follows(mark, json!({"path": path, "mode": 0o644}));
    let Some(entry) = nodes.entry(ignition, "files", new, &["contents", "source"]) else {
        return false;
    };
    let mut resource = Map::default();
    put_content(&mut resource, mark, &content);
    *child_mut(entry, "contents", mark) = Node::new(mark, resource);
    true
}
