//! Which crates a program is made of, out of Cargo.lock. It is read line by line: Cargo writes it,
//! and always in the same way.

use std::collections::{BTreeMap, BTreeSet};

/// A crate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    /// SHA-256 of its archive; none for our own.
    pub(super) checksum: Option<String>,
    /// `name` or `name version`.
    dependencies: Vec<String>,
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lock(Vec<Crate>);

/// What is wrong with a lock.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Another format, or no lock.
    #[error("expected `version = 4` in front of the packages: Cargo writes another format now")]
    Format,
    /// A name that nothing bears.
    #[error("there is no package `{0}`")]
    Missing(String),
}

impl Lock {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = text.split("[[package]]\n");
        let head = parts.next().unwrap_or_default();
        if !head.lines().any(|line| line == "version = 4") {
            return Err(Error::Format);
        }
        Ok(Self(parts.map(krate).collect()))
    }

    /// The crates below a member of the workspace, itself included, sorted. What its Cargo.toml
    /// wants for tests only is left out: the lock does not tell.
    pub(super) fn closure(
        &self,
        member: &str,
        cargo_tomls: &BTreeMap<String, String>,
    ) -> Result<Vec<&Crate>, Error> {
        let mut found = BTreeMap::new();
        let mut todo = vec![member.to_owned()];
        while let Some(wanted) = todo.pop() {
            let krate = self.find(&wanted)?;
            if found.insert((&krate.name, &krate.version), krate).is_some() {
                continue;
            }
            let own = krate.checksum.is_none();
            let toml = cargo_tomls.get(&krate.name).filter(|_| own);
            let tests_only = toml.map(|toml| tests_only(toml)).unwrap_or_default();
            let name = |wanted: &str| wanted.split(' ').next().unwrap_or_default().to_owned();
            let wanted = krate.dependencies.iter().filter(|one| !tests_only.contains(&name(one)));
            todo.extend(wanted.cloned());
        }
        Ok(found.into_values().collect())
    }

    fn find(&self, wanted: &str) -> Result<&Crate, Error> {
        let mut words = wanted.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let fits =
            |krate: &&Crate| krate.name == name && version.is_none_or(|v| krate.version == v);
        self.0.iter().find(fits).ok_or_else(|| Error::Missing(wanted.to_owned()))
    }
}

fn krate(text: &str) -> Crate {
    let mut krate = Crate::default();
    for line in text.lines() {
        let value = |line: &str| line.trim_matches(['"', ',', ' ']).to_owned();
        match line.split_once(" = ") {
            Some(("name", name)) => krate.name = value(name),
            Some(("version", version)) => krate.version = value(version),
            Some(("checksum", checksum)) => krate.checksum = Some(value(checksum)),
            Some(_) => {}
            None if line.starts_with(" \"") => krate.dependencies.push(value(line)),
            None => {}
        }
    }
    krate
}

/// Names under `[dev-dependencies]` that are under no other dependencies.
fn tests_only(cargo_toml: &str) -> BTreeSet<String> {
    let (mut tests, mut others) = (BTreeSet::new(), BTreeSet::new());
    let mut section = "";
    for line in cargo_toml.lines() {
        let key: String =
            line.chars().take_while(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect();
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if section.ends_with("dev-dependencies") {
            tests.insert(key);
        } else if section.ends_with("dependencies") {
            others.insert(key);
        }
    }
    tests.difference(&others).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"version = 4

[[package]]
name = "a"
version = "1.0.0"
dependencies = [
 "b 2.0.0",
 "t",
]

[[package]]
name = "b"
version = "1.0.0"
source = "registry"
checksum = "11"

[[package]]
name = "b"
version = "2.0.0"
source = "registry"
checksum = "22"
dependencies = [
 "c",
]

[[package]]
name = "c"
version = "1.0.0"
source = "registry"
checksum = "33"
dependencies = [
 "b 2.0.0",
]

[[package]]
name = "t"
version = "1.0.0"
source = "registry"
checksum = "44"
"#;

    #[test]
    fn the_right_versions_are_followed_and_tests_are_left_out() {
        let lock = Lock::parse(LOCK).unwrap();
        let names = |toml: &str| -> Vec<String> {
            let tomls = BTreeMap::from([("a".to_owned(), toml.to_owned())]);
            let closure = lock.closure("a", &tomls).unwrap();
            closure.iter().map(|krate| format!("{} {}", krate.name, krate.version)).collect()
        };
        let toml = "[dependencies]\nb = \"2\"\n[dev-dependencies]\nt.workspace = true\nb = \"2\"\n";
        assert_eq!(names(toml), ["a 1.0.0", "b 2.0.0", "c 1.0.0"]);
        assert_eq!(names(""), ["a 1.0.0", "b 2.0.0", "c 1.0.0", "t 1.0.0"]);
        assert_eq!(
            lock.closure("x", &BTreeMap::new()).unwrap_err().to_string(),
            "there is no package `x`"
        );
        assert_eq!(Lock::parse("version = 9\n"), Err(Error::Format));
    }

    #[test]
    fn our_own_lock_is_read() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let lock = Lock::parse(&std::fs::read_to_string(root.join("Cargo.lock")).unwrap()).unwrap();
        let toml = |member: &str, folder: &str| {
            let toml = std::fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap();
            (member.to_owned(), toml)
        };
        let tomls = BTreeMap::from([toml("initramfs", "initramfs"), toml("block", "agents/block")]);
        let crates = lock.closure("initramfs", &tomls).unwrap();
        assert!(crates.iter().any(|krate| krate.name == "nix"));
        assert!(!crates.iter().any(|krate| krate.name == "gpt"), "that is for its tests");
    }
}
