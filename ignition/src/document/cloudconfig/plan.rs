//! What a text means on a system that runs, on every boot, in the order in which it is done.
//!
//! First the host name, the users and their keys of all parts: whoever wants to see why something
//! fails can come in. Then, part after part: files, `/etc/environment`, units, one reload, networkd
//! if it has something new, and the commands of units in the order of the text.

use std::fmt;

use serde_json::json;

use super::{
    Checked, read_all,
    services::{self, File, Unit, flag, list, text},
    substitute::Addresses,
};
use crate::document::{
    Sources,
    butane::{data_url, follows},
    node::{Mark, Node, Value},
    report::Report,
};

/// What there is on the system, and what its platform says of it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its addresses.
    pub addresses: Addresses,
    /// The host name that the platform gives it.
    pub hostname: Option<String>,
    /// The keys that the platform gives it.
    pub keys: Vec<String>,
    /// The host name that it has.
    pub current_hostname: String,
    /// The users that it has.
    pub users: Vec<String>,
    /// What is in `/etc/environment`.
    pub environment: String,
    /// What is in the settings of updates, or in those that the system comes with.
    pub update_conf: String,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Give the running system a name.
    Hostname(String),
    /// Make what a piece of a configuration of Ignition says.
    Provision(Node),
    /// Remove what masks a unit, if it is masked here.
    Unmask {
        /// Where the link to `/dev/null` would be.
        path: String,
    },
    /// Call `systemctl`.
    Systemctl(Vec<String>),
    /// Run a script.
    Script {
        /// What it is called.
        name: String,
        /// All of it.
        text: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hostname(name) => write!(f, "hostname {name}"),
            Self::Provision(node) => {
                // Contents and keys are not for the log.
                let names = |list: &str, name: &str| -> Vec<String> {
                    let (top, list) = list.split_once('.').unwrap_or((list, ""));
                    let nodes = node.get(top).and_then(|top| top.get(list)).and_then(Node::list);
                    let names =
                        nodes.unwrap_or_default().iter().filter_map(|node| text(node, name));
                    names.map(str::to_owned).collect()
                };
                let mut all = names("passwd.users", "name");
                all.extend(names("storage.files", "path"));
                all.extend(names("storage.links", "path"));
                write!(f, "make {}", all.join(", "))
            }
            Self::Unmask { path } => write!(f, "unmask {path}"),
            Self::Systemctl(arguments) => write!(f, "systemctl {}", arguments.join(" ")),
            Self::Script { name, .. } => write!(f, "run script {name}"),
        }
    }
}

/// Plans what a text means. `name` is what complaints call it.
pub fn plan(
    name: &str,
    text: &str,
    facts: &Facts,
    sources: &mut Sources,
    report: &mut Report,
) -> Vec<Action> {
    let parts = read_all(name, text, Some(&facts.addresses), sources, report);
    let configs: Vec<&Node> = parts
        .iter()
        .filter_map(|part| match part {
            Checked::Config(config) => Some(config),
            Checked::Script { .. } => None,
        })
        .collect();
    let mut planner = Planner { facts, actions: Vec::new(), hostname: String::new() };
    planner.hostname(&configs);
    planner.users(&configs);
    planner.keys(&configs);
    for part in &parts {
        match part {
            Checked::Config(config) => planner.config(config),
            Checked::Script { name, text, .. } => {
                let script = Action::Script { name: name.clone(), text: text.clone() };
                planner.actions.push(script);
            }
        }
    }
    planner.actions
}

struct Planner<'a> {
    facts: &'a Facts,
    actions: Vec<Action>,
    hostname: String,
}

impl Planner<'_> {
    fn hostname(&mut self, configs: &[&Node]) {
        self.hostname.clone_from(&self.facts.current_hostname);
        let said = configs
            .iter()
            .find_map(|config| text(config, "hostname").map(|name| (name, config.mark)));
        let given = self.facts.hostname.as_deref().map(|name| (name, Mark::default()));
        let Some((name, mark)) = said.or(given) else { return };
        let name = short(name);
        if name.is_empty() {
            return;
        }
        let file = services::plain("/etc/hostname", mark, format!("{name}\n"));
        self.provision_files(&[file]);
        self.actions.push(Action::Hostname(name.clone()));
        self.hostname = name;
    }

    /// One by one: a user that cannot be does not keep the others out.
    fn users(&mut self, configs: &[&Node]) {
        for user in configs.iter().flat_map(|config| list(config, "users")) {
            let Some(name) = text(user, "name") else { continue };
            let exists = self.facts.users.iter().any(|known| known == name);
            self.provision("passwd", "users", vec![account(user, name, exists)]);
        }
    }

    /// Those of `core` come from everywhere.
    fn keys(&mut self, configs: &[&Node]) {
        let mut keys: Vec<String> = Vec::new();
        let mut mark = Mark::default();
        let own = configs.iter().flat_map(|config| {
            let core = list(config, "users").iter().filter(|u| text(u, "name") == Some("core"));
            let of_core = core.flat_map(|user| list(user, "ssh_authorized_keys"));
            list(config, "ssh_authorized_keys").iter().chain(of_core)
        });
        for node in own {
            mark = node.mark;
            keys.extend(node.text().map(str::to_owned));
        }
        keys.extend(self.facts.keys.iter().cloned());
        let mut seen = std::collections::HashSet::new();
        keys.retain(|key| !key.trim().is_empty() && seen.insert(key.clone()));
        if !keys.is_empty() {
            let core = follows(mark, json!({"name": "core", "sshAuthorizedKeys": keys}));
            self.provision("passwd", "users", vec![core]);
        }
    }

    fn config(&mut self, config: &Node) {
        let mut files = services::files(config);
        files.extend(services::oem(config));
        files.extend(services::update(config, &self.facts.update_conf));
        if text(config, "manage_etc_hosts").is_some() {
            let hosts = format!("127.0.0.1 {}\n", self.hostname);
            files.push(services::plain("/etc/hosts", config.mark, hosts));
        }
        let flannel = services::variables(config, "flannel");
        if !flannel.is_empty() {
            let content = flannel.join("\n") + "\n";
            files.push(services::plain("/run/flannel/options.env", config.mark, content));
        }
        if !files.iter().any(|file| file.path == "/etc/environment") {
            files.extend(self.environment(config.mark));
        }
        self.provision_files(&files);
        self.units(&services::units(config));
    }

    /// The addresses of the machine, for services to read.
    fn environment(&self, mark: Mark) -> Option<File> {
        let named = self.facts.addresses.named().into_iter();
        let settings: Vec<(String, String)> = named
            .filter_map(|(name, address)| {
                let address = address.filter(|address| !address.is_empty())?;
                Some((format!("COREOS_{}", name.to_ascii_uppercase()), address.to_owned()))
            })
            .collect();
        let text = services::set(&self.facts.environment, &settings);
        let changed = !settings.is_empty() && text != self.facts.environment;
        changed.then(|| services::plain("/etc/environment", mark, text))
    }

    fn units(&mut self, units: &[Unit]) {
        let (mut reload, mut networkd) = (false, false);
        let mut commands = Vec::new();
        for unit in units.iter().filter(|unit| !unit.name.is_empty()) {
            reload |= self.unit(unit);
            if unit.is_of_network() {
                networkd = true;
            } else if let Some((command, _)) = &unit.command {
                commands.push(vec![command.clone(), unit.name.clone()]);
            }
        }
        if reload {
            self.systemctl(&["daemon-reload"]);
        }
        if networkd {
            self.systemctl(&["restart", "systemd-networkd.service"]);
        }
        self.actions.extend(commands.into_iter().map(Action::Systemctl));
    }

    /// Plans one unit, but for its command; whether systemd has to read units again.
    fn unit(&mut self, unit: &Unit) -> bool {
        let path = format!("{}/{}", unit.directory(), unit.name);
        let file = |path: String, content: &Node| {
            let text = content.text().unwrap_or_default().to_owned();
            services::plain(&path, content.mark, text)
        };
        let content = unit.content.iter().filter(|_| !unit.mask);
        let mut files: Vec<File> = content.map(|content| file(path.clone(), content)).collect();
        let drop_ins = unit.drop_ins.iter();
        files.extend(drop_ins.map(|(name, content)| file(format!("{path}.d/{name}"), content)));
        self.provision_files(&files);
        if unit.mask {
            let link = json!({"path": path, "target": "/dev/null", "overwrite": true});
            self.provision("storage", "links", vec![follows(unit.mark, link)]);
        } else if unit.runtime {
            self.actions.push(Action::Unmask { path });
        }
        if unit.enable && !unit.is_of_network() {
            match unit.runtime {
                true => self.systemctl(&["enable", "--runtime", &unit.name]),
                false => self.systemctl(&["enable", &unit.name]),
            }
        }
        !files.is_empty() || unit.mask
    }

    fn systemctl(&mut self, arguments: &[&str]) {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.actions.push(Action::Systemctl(arguments));
    }

    fn provision_files(&mut self, files: &[File]) {
        self.provision("storage", "files", files.iter().map(file_node).collect());
    }

    fn provision(&mut self, top: &str, list: &str, nodes: Vec<Node>) {
        let Some(mark) = nodes.first().map(|node| node.mark) else { return };
        let mut node = follows(mark, json!({"ignition": {"version": "3.6.0"}, top: {}}));
        if let Value::Map(map) = &mut node.value
            && let Some(Value::Map(map)) = map.get_mut(top).map(|node| &mut node.value)
        {
            map.set(list, Node::new(mark, nodes));
        }
        self.actions.push(Action::Provision(node));
    }
}

/// Up to the first dot, and no more than the kernel takes.
fn short(name: &str) -> String {
    let label = name.split('.').next().unwrap_or_default().trim();
    label.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).take(63).collect()
}

/// A file as Ignition has it; what was there before is replaced.
pub(super) fn file_node(file: &File) -> Node {
    let (source, packed) = data_url(&file.content, false);
    let mut node = json!({
        "path": file.path,
        "overwrite": true,
        "mode": file.mode,
        "contents": {"source": source, "compression": if packed { "gzip" } else { "" }},
    });
    if let Some(owner) = &file.owner {
        let (user, group) = owner.split_once([':', '.']).unwrap_or((owner, ""));
        for (key, name) in [("user", user), ("group", group)] {
            match name.parse::<u32>() {
                _ if name.is_empty() => {}
                Ok(id) => node[key] = json!({"id": id}),
                Err(_) => node[key] = json!({"name": name}),
            }
        }
    }
    follows(file.mark, node)
}

/// A user as Ignition has it. One that exists only gets a password and keys.
pub(super) fn account(user: &Node, name: &str, exists: bool) -> Node {
    let mut account = json!({"name": name});
    let mut set = |key: &str, value: serde_json::Value| account[key] = value;
    let keys = list(user, "ssh_authorized_keys");
    if !keys.is_empty() {
        set("sshAuthorizedKeys", keys.iter().filter_map(Node::text).collect());
    }
    if let Some(hash) = text(user, "passwd") {
        set("passwordHash", hash.into());
    }
    if exists {
        return follows(user.mark, account);
    }
    let texts = [
        ("gecos", "gecos"),
        ("homedir", "homeDir"),
        ("primary_group", "primaryGroup"),
        ("shell", "shell"),
    ];
    for (from, to) in texts {
        if let Some(value) = text(user, from) {
            set(to, value.into());
        }
    }
    let flags = [
        ("no_create_home", "noCreateHome"),
        ("no_user_group", "noUserGroup"),
        ("no_log_init", "noLogInit"),
        ("system", "system"),
    ];
    for (from, to) in flags {
        if flag(user, from) {
            set(to, true.into());
        }
    }
    let groups = list(user, "groups");
    if !groups.is_empty() {
        set("groups", groups.iter().filter_map(Node::text).collect());
    }
    follows(user.mark, account)
}
