//! A cloud-config as a configuration of Ignition: once, on the first boot, instead of on each.
//!
//! What has no equivalent on a system that is not running yet is warned of. A unit that was to be
//! started gets a link that starts it on every boot; a script gets a unit that runs it.

use std::collections::HashMap;

use serde_json::json;

use super::{
    Checked, plan, read_all,
    services::{self, File, Unit, list, text},
};
use crate::document::{
    Sources,
    butane::follows,
    node::{Mark, Node, Value},
    report::Report,
};

/// Makes a configuration of Ignition 3.6.0, to be held against the specification like any other.
pub fn convert(name: &str, text: &str, sources: &mut Sources, report: &mut Report) -> Option<Node> {
    let parts = read_all(name, text, None, sources, report);
    let mut converter = Converter { report, made: Made::default() };
    for part in &parts {
        match part {
            Checked::Config(config) => converter.config(config),
            Checked::Script { name, text, mark } => converter.script(name, text, *mark),
        }
    }
    (!converter.report.has_errors()).then(|| converter.made.node())
}

#[derive(Default)]
struct Made {
    users: Vec<Node>,
    files: Vec<Node>,
    links: Vec<Node>,
    units: Vec<Node>,
}

impl Made {
    fn node(self) -> Node {
        let mut node = follows(
            Mark::default(),
            json!({
                "ignition": {"version": "3.6.0"},
                "passwd": {"users": []},
                "storage": {"files": [], "links": []},
                "systemd": {"units": []},
            }),
        );
        let lists = [
            ("passwd", "users", self.users),
            ("storage", "files", last_wins(self.files, "path")),
            ("storage", "links", last_wins(self.links, "path")),
            ("systemd", "units", self.units),
        ];
        for (top, key, list) in lists {
            if let Value::Map(map) = &mut node.value
                && let Some(Value::Map(map)) = map.get_mut(top).map(|node| &mut node.value)
            {
                let mark = list.first().map_or(Mark::default(), |node| node.mark);
                map.set(key, Node::new(mark, list));
            }
        }
        node
    }
}

/// A file that is written twice is what was written last.
fn last_wins(nodes: Vec<Node>, key: &str) -> Vec<Node> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Node> = Vec::new();
    for node in nodes {
        let name = text(&node, key).unwrap_or_default().to_owned();
        match places.get(&name) {
            Some(at) => kept[*at] = node,
            None => {
                places.insert(name, kept.len());
                kept.push(node);
            }
        }
    }
    kept
}

struct Converter<'a> {
    report: &'a mut Report,
    made: Made,
}

impl Converter<'_> {
    fn warn(&mut self, path: &str, mark: Mark, message: impl Into<String>) {
        self.report.warning_at(path, mark, message);
    }

    fn config(&mut self, config: &Node) {
        for user in list(config, "users") {
            if let Some(name) = text(user, "name") {
                let account = plan::account(user, name, false);
                self.user(account);
            }
        }
        let keys = list(config, "ssh_authorized_keys");
        if let Some(mark) = keys.first().map(|key| key.mark) {
            let keys: Vec<&str> = keys.iter().filter_map(Node::text).collect();
            self.user(follows(mark, json!({"name": "core", "sshAuthorizedKeys": keys})));
        }
        for file in services::files(config) {
            self.file(&file);
        }
        let hostname = text(config, "hostname");
        if let Some(name) = hostname {
            self.file(&services::plain("/etc/hostname", config.mark, format!("{name}\n")));
        }
        match (text(config, "manage_etc_hosts"), hostname) {
            (Some(_), Some(name)) => {
                let hosts = format!("127.0.0.1 {name}\n");
                self.file(&services::plain("/etc/hosts", config.mark, hosts));
            }
            (Some(_), None) => {
                let mark = config.get("manage_etc_hosts").map_or(config.mark, |node| node.mark);
                let message = "the host name is not known yet: /etc/hosts is left as it is";
                self.warn("$.manage_etc_hosts", mark, message);
            }
            (None, _) => {}
        }
        for file in [services::oem(config), services::update(config, "")].into_iter().flatten() {
            self.file(&file);
        }
        for unit in services::units(config) {
            self.unit(unit);
        }
        if let Some(unit) = services::drop_in(config, "flannel", "flanneld.service") {
            self.unit(unit);
        }
    }

    fn user(&mut self, account: Node) {
        let same = |node: &&mut Node| text(node, "name") == text(&account, "name");
        let Some(known) = self.made.users.iter_mut().find(same) else {
            self.made.users.push(account);
            return;
        };
        let mut keys = list(known, "sshAuthorizedKeys").to_vec();
        for key in list(&account, "sshAuthorizedKeys") {
            if !keys.iter().any(|other| other.text() == key.text()) {
                keys.push(key.clone());
            }
        }
        if let Value::Map(map) = &mut known.value
            && !keys.is_empty()
        {
            map.set("sshAuthorizedKeys", Node::new(account.mark, keys));
        }
    }

    fn file(&mut self, file: &File) {
        if file.path.starts_with("/run/") {
            let message = format!("{} is gone on the second boot: it is left out", file.path);
            self.warn("$.write_files", file.mark, message);
            return;
        }
        self.made.files.push(plan::file_node(file));
    }

    fn unit(&mut self, unit: Unit) {
        let Unit { name, mark, content, drop_ins, mask, enable, command, .. } = &unit;
        if unit.is_of_network() {
            let directory = "/etc/systemd/network";
            let content = content.iter().map(|node| (format!("{directory}/{name}"), node));
            let drop_ins = drop_ins
                .iter()
                .map(|(drop_in, node)| (format!("{directory}/{name}.d/{drop_in}"), node));
            for (path, node) in content.chain(drop_ins) {
                let text = node.text().unwrap_or_default().to_owned();
                self.file(&services::plain(&path, node.mark, text));
            }
            if *mask {
                let path = format!("{directory}/{name}");
                let link = json!({"path": path, "target": "/dev/null", "overwrite": true});
                self.made.links.push(follows(*mark, link));
            }
            return;
        }
        let mut node = json!({"name": name});
        if let Some(content) = content.as_ref().and_then(Node::text).filter(|_| !mask) {
            node["contents"] = content.into();
        }
        if *mask {
            node["mask"] = true.into();
        } else if *enable {
            node["enabled"] = true.into();
        }
        let drop_ins = drop_ins.iter().map(
            |(name, content)| json!({"name": name, "contents": content.text().unwrap_or_default()}),
        );
        let drop_ins: Vec<serde_json::Value> = drop_ins.collect();
        if !drop_ins.is_empty() {
            node["dropins"] = drop_ins.into();
        }
        if node.as_object().is_some_and(|node| node.len() > 1) {
            self.put_unit(follows(content.as_ref().map_or(*mark, |node| node.mark), node));
        }
        if let Some((command, mark)) = command {
            self.command(name, command, *mark, *mask);
        }
    }

    /// Sections may change a unit that is listed, too.
    fn put_unit(&mut self, unit: Node) {
        let same = |node: &&mut Node| text(node, "name") == text(&unit, "name");
        let Some(known) = self.made.units.iter_mut().find(same) else {
            self.made.units.push(unit);
            return;
        };
        let (Value::Map(known), Value::Map(unit)) = (&mut known.value, unit.value) else { return };
        for entry in unit.0 {
            match (known.get_mut(&entry.key).map(|node| &mut node.value), entry.node.value) {
                (Some(Value::List(ours)), Value::List(theirs)) => ours.extend(theirs),
                (_, value) => known.set(&entry.key, Node { mark: entry.node.mark, value }),
            }
        }
    }

    fn command(&mut self, name: &str, command: &str, mark: Mark, masked: bool) {
        let starts = matches!(command, "start" | "restart" | "reload-or-restart");
        let path = "$.coreos.units";
        if starts && !masked && !matches!(name, "locksmithd.service" | "update-engine.service") {
            let wanted = format!("/etc/systemd/system/multi-user.target.wants/{name}");
            let target = format!("../{name}");
            let link = json!({"path": wanted, "target": target, "overwrite": true});
            self.made.links.push(follows(mark, link));
            let message =
                format!("`{command}` of {name} became: multi-user.target starts it on every boot");
            self.warn(path, mark, message);
        } else if command == "stop" && !masked {
            let message =
                format!("`stop` of {name} has no equivalent: before the boot, nothing runs");
            self.warn(path, mark, message);
        } else if !starts && command != "stop" {
            let message =
                format!("`{command}` of {name} has no effect: before the boot, nothing runs");
            self.warn(path, mark, message);
        }
    }

    fn script(&mut self, name: &str, text: &str, mark: Mark) {
        let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
        let name: String = letters.take(64).collect();
        let path = format!("/var/lib/cloud-config/script-{name}");
        let file = File { mode: 0o755, ..services::plain(&path, mark, text.to_owned()) };
        self.made.files.push(plan::file_node(&file));
        let contents = format!(
            "[Unit]\nDescription=Script {name} of the cloud-config\nWants=network-online.target\n\
             After=network-online.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
             ExecStart={path}\n\n[Install]\nWantedBy=multi-user.target\n"
        );
        let name = format!("cloud-config-script-{name}.service");
        let unit = json!({"name": name, "enabled": true, "contents": contents});
        self.made.units.push(follows(mark, unit));
    }
}
