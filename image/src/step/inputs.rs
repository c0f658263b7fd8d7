//! What a step reads, by name and hash: its key, and the reason for running it again.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
    str::FromStr,
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

const KEY_LEN: usize = 16;
/// Values up to this length are kept as they are, so that a change can be shown, not only named.
const SHORT: usize = 64;

/// The named inputs of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A value: a version, an option, the key of another step.
    pub fn value(mut self, name: &str, value: impl Display) -> Self {
        let text = value.to_string();
        let short = text.len() <= SHORT && !text.contains(['\n', '\t']);
        let kept = if short { text } else { hex::encode(Sha256::digest(text)) };
        self.0.insert(name.replace(['\n', '\t'], " "), kept);
        self
    }

    /// A file, by what is in it.
    pub fn file(self, name: &str, path: &Path) -> Result<Self> {
        let hash = sha256_of(path)?;
        Ok(self.value(name, format!("sha256:{}", &hash[..32])))
    }

    /// A folder: every file below it, with its content and mode. A folder that is not there is one
    /// without files.
    pub fn tree(mut self, name: &str, path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(self);
        }
        let reading = || format!("reading {}", path.display());
        for entry in fs::read_dir(path).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            let path = entry.path();
            let data = fs::symlink_metadata(&path).with_context(reading)?;
            let mode = data.permissions().mode() & 0o7777;
            self = if data.is_symlink() {
                let target = fs::read_link(&path).with_context(reading)?;
                self.value(&name, format!("-> {}", target.display()))
            } else if data.is_dir() {
                self.value(&name, format!("folder {mode:o}")).tree(&name, &path)?
            } else {
                let hash = sha256_of(&path)?;
                self.value(&name, format!("{mode:o} sha256:{}", &hash[..32]))
            };
        }
        Ok(self)
    }

    /// The hash of all of them.
    pub fn key(&self) -> String {
        hex::encode(Sha256::digest(self.to_string()))[..KEY_LEN].to_owned()
    }

    /// What is different from `before`, as phrases: `epoch changed (1, now 2)`.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, value) in &self.0 {
            match before.0.get(name) {
                None => changes.push(format!("{name} is new")),
                Some(old) if old == value => {}
                // A hash says nothing to a person.
                Some(old) if [old, value].iter().any(|text| is_hash(text)) => {
                    changes.push(format!("{name} changed"));
                }
                Some(old) => changes.push(format!("{name} changed ({old}, now {value})")),
            }
        }
        let gone = before.0.keys().filter(|name| !self.0.contains_key(*name));
        changes.extend(gone.map(|name| format!("{name} is gone")));
        changes
    }
}

/// One `name<tab>value` per line, sorted: what the key is the hash of.
impl Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{name}\t{value}"))
    }
}

impl FromStr for Inputs {
    type Err = std::convert::Infallible;

    /// Reads what was written by us. A line that is not ours is left out: it can only make a
    /// reason less exact.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pairs = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

/// The SHA-256 of a file, in hex.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

pub(super) fn is_key(text: &str) -> bool {
    text.len() == KEY_LEN && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn is_hash(text: &str) -> bool {
    text.contains("sha256:")
        || (text.len() >= KEY_LEN && text.chars().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_named_and_shown_where_a_person_can_read_it() {
        let before =
            Inputs::new().value("epoch", 1).value("gone", "x").value("tree", "0123456789abcdef");
        let now =
            Inputs::new().value("epoch", 2).value("new", "y").value("tree", "fedcba9876543210");
        assert_eq!(
            now.changes_since(&before),
            ["epoch changed (1, now 2)", "new is new", "tree changed", "gone is gone"]
        );
    }

    #[test]
    fn a_file_of_a_tree_counts_by_its_content_and_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("unit");
        let key = || Inputs::new().tree("usr", folder.path()).unwrap().key();
        fs::write(&file, "a").unwrap();
        let first = key();
        fs::write(&file, "b").unwrap();
        let second = key();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let third = key();
        assert!(first != second && second != third);
        assert_eq!(third, key());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let inputs = Inputs::new().value("a", "1 2").value("long", "x".repeat(100));
        assert_eq!(inputs.to_string().parse::<Inputs>().unwrap(), inputs);
    }
}
