//! Rules for files, directories and links.

use std::collections::HashSet;

use super::{Rules, path_problem};
use crate::document::{
    config::{Config, Link, Owner, Storage},
    node::At,
};

/// Where units of the machine's own are.
const UNITS: &str = "/etc/systemd/system";

impl Rules<'_> {
    /// Files, directories and links.
    pub(super) fn nodes(&mut self, storage: &Storage, at: &At<'_>) {
        let links: HashSet<&str> = storage.links.iter().map(|link| &*link.path).collect();
        let under_link = |path: &str| {
            let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
            parents
                .filter(|parent| !parent.is_empty())
                .find(|parent| links.contains(parent))
                .map(str::to_owned)
        };
        let files = at.key("files");
        for (index, file) in storage.files.iter().enumerate() {
            let at = files.index(index);
            self.refuse(&at.key("path"), path_problem(&file.path));
            self.below_link(&at, under_link(&file.path));
            self.mode(file.mode, &at.key("mode"));
            self.owners(&file.user, &file.group, &at);
            if file.overwrite == Some(true) && file.contents.source.is_none() {
                let message =
                    "it would remove what is there, and there is no source to put in its place";
                self.error(&at.key("overwrite"), message);
            }
            self.resource(&file.contents, &at.key("contents"));
            let append = at.key("append");
            for (index, resource) in file.append.iter().enumerate() {
                self.resource(resource, &append.index(index));
            }
        }
        let directories = at.key("directories");
        for (index, directory) in storage.directories.iter().enumerate() {
            let at = directories.index(index);
            self.refuse(&at.key("path"), path_problem(&directory.path));
            self.below_link(&at, under_link(&directory.path));
            self.mode(directory.mode, &at.key("mode"));
            self.owners(&directory.user, &directory.group, &at);
        }
        let paths: HashSet<&str> = storage.directories.iter().map(|d| &*d.path).collect();
        let at = at.key("links");
        for (index, link) in storage.links.iter().enumerate() {
            let at = at.index(index);
            self.refuse(&at.key("path"), path_problem(&link.path));
            self.below_link(&at, under_link(&link.path));
            self.owners(&link.user, &link.group, &at);
            self.link(link, &paths, &at);
        }
    }

    fn below_link(&mut self, at: &At<'_>, link: Option<String>) {
        if let Some(link) = link {
            let message =
                format!("the path leads through {link}, which this document makes a link");
            self.report.error(at, message).hint("name the place behind the link itself");
        }
    }

    fn mode(&mut self, mode: Option<i64>, at: &At<'_>) {
        let Some(mode) = mode else { return };
        if !(0..=0o7777).contains(&mode) {
            self.error(at, "not permissions: expected 0 to 4095 (octal 0 to 7777)");
        } else if self.minor < 6 && mode & 0o7000 != 0 {
            let message = "setuid, setgid and sticky have no effect before specification 3.6.0";
            self.warning(at, message);
        }
    }

    fn owners(&mut self, user: &Owner, group: &Owner, at: &At<'_>) {
        for (key, owner) in [("user", user), ("group", group)] {
            let at = at.key(key);
            if owner.id.is_some() && owner.name.as_ref().is_some_and(|name| !name.is_empty()) {
                self.error(&at, "an owner is given by id or by name, not by both");
            }
            self.not_negative(&at.key("id"), owner.id);
        }
    }

    fn link(&mut self, link: &Link, directories: &HashSet<&str>, at: &At<'_>) {
        let target = link.target.as_deref().unwrap_or_default();
        // The original takes an empty one before 3.3.0, and then the kernel refuses to make it.
        if target.is_empty() {
            self.error(&at.key("target"), "a link has a target");
            return;
        }
        if link.hard != Some(true) {
            return;
        }
        // As the original takes a relative one: from the link itself.
        let whole = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("{}/{target}", link.path)
        };
        if directories.contains(&*clean(&whole)) {
            self.error(at, "a hard link cannot lead to a directory");
        }
        for (key, owner) in [("user", &link.user), ("group", &link.group)] {
            let at = at.key(key);
            let given = [("id", owner.id.is_some()), ("name", owner.name.is_some())];
            for (key, _) in given.into_iter().filter(|(_, given)| *given) {
                self.warning(
                    &at.key(key),
                    "a hard link has the owner of its target; this has no effect",
                );
            }
        }
    }

    /// What is at the path of a unit cannot be described a second time.
    pub(super) fn paths_of_units(&mut self, config: &Config, storage: &At<'_>) {
        let filled =
            |contents: &Option<String>| contents.as_ref().is_some_and(|text| !text.is_empty());
        let mut paths = HashSet::new();
        for unit in &config.systemd.units {
            if filled(&unit.contents) {
                paths.insert(format!("{UNITS}/{}", unit.name));
            }
            for dropin in unit.dropins.iter().filter(|dropin| filled(&dropin.contents)) {
                paths.insert(format!("{UNITS}/{}.d/{}", unit.name, dropin.name));
            }
        }
        if paths.is_empty() {
            return;
        }
        let entries: [(&str, Vec<&String>); 3] = [
            ("files", config.storage.files.iter().map(|file| &file.path).collect()),
            ("directories", config.storage.directories.iter().map(|dir| &dir.path).collect()),
            ("links", config.storage.links.iter().map(|link| &link.path).collect()),
        ];
        for (key, list) in entries {
            let at = storage.key(key);
            for (index, _) in list.iter().enumerate().filter(|(_, path)| paths.contains(**path)) {
                let at = at.index(index);
                self.error(&at.key("path"), "a unit of this document is at this path");
            }
        }
    }
}

/// The same path without `.`, `..` and `//`.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
