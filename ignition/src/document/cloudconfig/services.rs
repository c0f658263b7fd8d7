//! Files and units that a cloud-config has, with those that its sections for services stand for.

use super::{rules, table::variable};
use crate::document::node::{Mark, Node, Value};

/// A file.
pub(super) struct File {
    pub(super) path: String,
    pub(super) mark: Mark,
    pub(super) content: Vec<u8>,
    pub(super) mode: i64,
    pub(super) owner: Option<String>,
}

/// A unit.
#[derive(Default)]
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) mark: Mark,
    pub(super) content: Option<Node>,
    pub(super) drop_ins: Vec<(String, Node)>,
    pub(super) mask: bool,
    pub(super) enable: bool,
    pub(super) runtime: bool,
    pub(super) command: Option<(String, Mark)>,
}

impl Unit {
    /// Whether it is for networkd, which is told by restarting it.
    pub(super) fn is_of_network(&self) -> bool {
        let kind = self.name.rsplit_once('.').map(|(_, kind)| kind);
        matches!(kind, Some("network" | "netdev" | "link"))
    }

    /// The directory of its kind.
    pub(super) fn directory(&self) -> String {
        let top = if self.runtime { "/run" } else { "/etc" };
        let kind = if self.is_of_network() { "network" } else { "system" };
        format!("{top}/systemd/{kind}")
    }
}

pub(super) fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.get(key).and_then(Node::text).filter(|text| !text.is_empty())
}

pub(super) fn flag(node: &Node, key: &str) -> bool {
    node.get(key).is_some_and(|node| node.value == Value::Bool(true))
}

pub(super) fn list<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    node.get(key).and_then(Node::list).unwrap_or_default()
}

fn section<'a>(config: &'a Node, name: &str) -> Option<&'a Node> {
    config.get("coreos").and_then(|coreos| coreos.get(name))
}

/// The variables that a section sets; what is empty, zero or false is not set.
pub(super) fn variables(config: &Node, name: &str) -> Vec<String> {
    let map = section(config, name).and_then(Node::map);
    let entries = map.map(|map| map.0.as_slice()).unwrap_or_default();
    let set = entries.iter().filter_map(|entry| {
        let value = match &entry.node.value {
            Value::String(text) if !text.is_empty() && text != "0" => text.clone(),
            Value::Integer(number) if *number != 0 => number.to_string(),
            Value::Bool(true) => "true".to_owned(),
            _ => return None,
        };
        // A line end would begin another variable, or another line of the unit.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        Some(format!("{}={value}", variable(name, &entry.key)))
    });
    let mut set: Vec<String> = set.collect();
    set.sort_unstable();
    set
}

/// The drop-in that sets the variables of a section.
pub(super) fn drop_in(config: &Node, name: &str, service: &str) -> Option<Unit> {
    let variables = variables(config, name);
    let mark = section(config, name)?.mark;
    if variables.is_empty() {
        return None;
    }
    let quoted = |line: &String| {
        // As systemd reads it: `%` begins a specifier, and `"` ends the assignment.
        let line = line.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        format!("Environment=\"{line}\"\n")
    };
    let content: String = variables.iter().map(quoted).collect();
    let content = Node::new(mark, format!("[Service]\n{content}"));
    Some(Unit {
        name: service.to_owned(),
        mark,
        drop_ins: vec![("20-cloudinit.conf".to_owned(), content)],
        runtime: true,
        ..Unit::default()
    })
}

/// The files that a config lists.
pub(super) fn files(config: &Node) -> Vec<File> {
    let mut all = Vec::new();
    for node in list(config, "write_files") {
        let Some(path) = text(node, "path") else { continue };
        let content = text(node, "content").unwrap_or_default();
        let encoding = text(node, "encoding").unwrap_or_default();
        // It was decoded before, to see whether it can be.
        let Ok(content) = rules::decode(content, encoding) else { continue };
        all.push(File {
            path: clean(path),
            mark: node.mark,
            content,
            mode: text(node, "permissions").and_then(rules::permissions).unwrap_or(0o644),
            owner: text(node, "owner").map(str::to_owned),
        });
    }
    all
}

/// As the original takes it: from the root, whatever it begins with.
fn clean(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.fold(String::new(), |path, part| format!("{path}/{part}"))
}

pub(super) fn plain(path: &str, mark: Mark, content: String) -> File {
    let content = content.into_bytes();
    File { path: path.to_owned(), mark, content, mode: 0o644, owner: None }
}

/// What of the system a config names.
pub(super) fn oem(config: &Node) -> Option<File> {
    let oem = section(config, "oem")?;
    let value = |key| text(oem, key).unwrap_or_default();
    let quoted = |key| value(key).replace('\\', "\\\\").replace('"', "\\\"");
    text(oem, "id")?;
    let content = format!(
        "ID={}\nVERSION_ID={}\nNAME=\"{}\"\nHOME_URL=\"{}\"\nBUG_REPORT_URL=\"{}\"\n",
        value("id"),
        value("version_id"),
        quoted("name"),
        quoted("home_url"),
        quoted("bug_report_url"),
    );
    Some(plain("/etc/oem-release", oem.mark, content))
}

/// The settings of updates: lines of the same name in `old` are replaced, others stay.
pub(super) fn update(config: &Node, old: &str) -> Option<File> {
    let update = section(config, "update")?;
    let keys = ["group", "reboot_strategy", "server"];
    let settings = keys.iter().filter_map(|key| {
        text(update, key).map(|value| (key.to_ascii_uppercase(), value.to_owned()))
    });
    let settings: Vec<(String, String)> = settings.collect();
    if settings.is_empty() {
        return None;
    }
    Some(plain("/etc/coreos/update.conf", update.mark, set(old, &settings)))
}

/// Sets variables in a text of `NAME=value` lines.
pub(super) fn set(old: &str, settings: &[(String, String)]) -> String {
    let mut open: Vec<&(String, String)> = settings.iter().collect();
    let mut text = String::new();
    for line in old.lines() {
        let name = line.split_once('=').map_or(line, |(name, _)| name).trim();
        match settings.iter().find(|(setting, _)| setting == name) {
            None => text.push_str(line),
            Some((setting, value)) => {
                text.push_str(&format!("{setting}={value}"));
                open.retain(|(other, _)| other != setting);
            }
        }
        text.push('\n');
    }
    for (name, value) in open {
        text.push_str(&format!("{name}={value}\n"));
    }
    text
}

/// The units that a config lists, and behind them those of its sections.
pub(super) fn units(config: &Node) -> Vec<Unit> {
    let mut all: Vec<Unit> = config.get("coreos").map(listed).unwrap_or_default();
    all.extend(drop_in(config, "etcd", "etcd.service"));
    all.extend(drop_in(config, "etcd2", "etcd2.service"));
    all.extend(drop_in(config, "fleet", "fleet.service"));
    all.extend(drop_in(config, "locksmith", "locksmithd.service"));
    let Some(update) = section(config, "update") else { return all };
    let mark = update.mark;
    let unit = |name: &str, command: &str| Unit {
        name: name.to_owned(),
        mark,
        command: Some((command.to_owned(), mark)),
        ..Unit::default()
    };
    if let Some(strategy) = text(update, "reboot_strategy") {
        let off = strategy == "off";
        let command = if off { "stop" } else { "restart" };
        all.push(Unit { runtime: true, mask: off, ..unit("locksmithd.service", command) });
    }
    if text(update, "group").or(text(update, "server")).is_some() {
        all.push(unit("update-engine.service", "restart"));
    }
    all
}

fn listed(coreos: &Node) -> Vec<Unit> {
    let each = list(coreos, "units").iter().map(|node| Unit {
        name: text(node, "name").unwrap_or_default().to_owned(),
        mark: node.mark,
        content: node.get("content").filter(|_| text(node, "content").is_some()).cloned(),
        drop_ins: list(node, "drop_ins")
            .iter()
            .filter_map(|node| {
                let content = node.get("content").filter(|_| text(node, "content").is_some())?;
                Some((text(node, "name")?.to_owned(), content.clone()))
            })
            .collect(),
        mask: flag(node, "mask"),
        enable: flag(node, "enable"),
        runtime: flag(node, "runtime"),
        command: text(node, "command")
            .map(|command| (command.to_owned(), node.get("command").map_or(node.mark, |n| n.mark))),
    });
    each.collect()
}
