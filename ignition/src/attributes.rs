//! What the platform says of this machine, put where a running system looks for it: attributes for
//! units, a name, and who may come in by SSH.
//!
//! ```text
//! Metadata + Facts --(plan)--> steps, as those of the files stage, and a name
//! ```
//!
//! It is done at every boot, and the last word is the platform's: a key that was taken back there
//! is gone here. Keys of the document and of the operator are in files of their own.

use std::{fs, io, path::Path};

use crate::{
    causes::chain,
    fetch::Fetcher,
    files::{
        ApplyError,
        accounts::{Accounts, FILES, Person, Texts},
        nodes::{Node, Want},
        perform::{Failed, perform},
        reads_fragments,
        step::{Act, Step},
        tree::{Ids, Root},
    },
    journal::{Journal, Silent},
    platform::metadata::Metadata,
};

/// The attributes.
const FILE: &str = "/run/metadata/pithos";
/// Other names of that file, which units of Fedora CoreOS, CoreOS and Flatcar read.
const ALIASES: [&str; 3] = ["afterburn", "coreos", "flatcar"];
/// Who gets the keys.
const OPERATOR: &str = "core";
/// The file of keys, beside those of the operator and of the document.
const KEYS: &str = "afterburn";
/// The name of the running system.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// The system, as far as attributes change it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whether somebody gave the machine a name: the document, or who runs it.
    pub is_named: bool,
    /// The account that gets the keys.
    pub operator: Option<Person>,
    /// Whether sshd reads the file of keys.
    pub reads_keys: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The attributes, without which units cannot do.
    pub attributes: Vec<Step>,
    /// The keys.
    pub keys: Option<Step>,
    /// The name.
    pub hostname: Option<String>,
    /// What is left alone, and why.
    pub notes: Vec<String>,
}

impl Facts {
    /// Looks at a system.
    pub fn read(root: &Root) -> Result<Self, ApplyError> {
        let read = |path: &str| {
            root.read_text(Path::new(path)).map_err(|source| {
                let doing = format!("reading {path}");
                ApplyError::Root { doing, source }
            })
        };
        let mut texts = Texts::new();
        for (path, kind) in FILES {
            texts.insert(kind, read(path)?);
        }
        let name = read("/etc/hostname")?.unwrap_or_default();
        let says = |line: &str| !line.trim().is_empty() && !line.starts_with('#');
        Ok(Self {
            is_named: name.lines().any(says),
            operator: Accounts::parse(&texts).person(OPERATOR),
            reads_keys: reads_fragments(root, KEYS)?,
        })
    }
}

/// What is to be done with what a platform says.
pub fn plan(metadata: &Metadata, facts: &Facts) -> Plan {
    let step = |act| Step { at: "the platform".to_owned(), act };
    let text = Act::Text { path: FILE.to_owned(), text: metadata.environment(), mode: 0o644 };
    let mut attributes = vec![step(text)];
    attributes.extend(ALIASES.map(|alias| {
        let (folder, target) = FILE.rsplit_once('/').expect("it is in a folder");
        let want = Want::Link { target: target.to_owned() };
        let (at, path) = ("the platform".to_owned(), format!("{folder}/{alias}"));
        step(Act::Node(Node { at, path, overwrite: true, ids: Ids::default(), want }))
    }));
    let mut plan = Plan { attributes, keys: None, hostname: None, notes: Vec::new() };
    match &facts.operator {
        Some(person) if facts.reads_keys => {
            let person = Person { keys: metadata.ssh_keys.clone(), ..person.clone() };
            plan.keys = Some(step(Act::Keys { person, fragment: Some(KEYS) }));
        }
        None if metadata.ssh_keys.is_empty() => {}
        None => plan.notes.push(format!("no key is let in: there is no account `{OPERATOR}`")),
        Some(_) => plan.notes.push(format!(
            "no key is let in: AuthorizedKeysFile of sshd does not name authorized_keys.d/{KEYS}"
        )),
    }
    match &metadata.hostname {
        Some(name) if facts.is_named => {
            plan.notes.push(format!("not called {name}: /etc/hostname says another name"));
        }
        name => plan.hostname.clone_from(name),
    }
    plan
}

impl Plan {
    /// Does it below a root. Attributes must be there; what else fails is said, for units that wait
    /// for attributes need no more.
    pub fn perform(&self, root: &Root, journal: &dyn Journal) -> Result<(), Failed> {
        let fetch = Fetcher::offline(&Silent);
        for step in &self.attributes {
            perform(root, step, &fetch)?;
            journal.say(&step.to_string());
        }
        if let Some(step) = &self.keys {
            journal.say(&match perform(root, step, &fetch) {
                Ok(_) => step.to_string(),
                Err(error) => chain(&error),
            });
        }
        self.notes.iter().for_each(|note| journal.say(note));
        Ok(())
    }

    /// Gives the running system its name.
    pub fn name(&self) -> io::Result<()> {
        match &self.hostname {
            Some(name) if fs::read_to_string(HOSTNAME)?.trim_end() != name => {
                fs::write(HOSTNAME, name)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use expect_test::expect;

    use super::*;
    use crate::journal::Lines;

    const SSHD: &str = "AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys.d/afterburn\n";

    /// A system whose operator is whoever runs the test.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let owner = tree.path().metadata().unwrap();
        let passwd = format!("core:x:{}:{}::/home/core:/bin/bash\n", owner.uid(), owner.gid());
        let all = files.iter().copied().chain([("etc/passwd", passwd.as_str())]);
        for (path, text) in all {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree
    }

    fn metadata(keys: &[&str]) -> Metadata {
        Metadata {
            attributes: [("AFTERBURN_AWS_REGION".to_owned(), "north".to_owned())].into(),
            hostname: Some("node-7".to_owned()),
            ssh_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        }
    }

    fn done(tree: &tempfile::TempDir, metadata: &Metadata) -> String {
        let root = Root::open(tree.path()).unwrap();
        let plan = super::plan(metadata, &Facts::read(&root).unwrap());
        let lines = Lines::default();
        plan.perform(&root, &lines).unwrap();
        let name = plan.hostname.map_or("no name".to_owned(), |name| format!("name {name}"));
        format!("{}\n{name}\n", lines.take().join("\n"))
    }

    #[test]
    fn units_find_attributes_under_every_name_and_keys_come_and_go() {
        let tree = system(&[("etc/ssh/sshd_config.d/10.conf", SSHD)]);
        expect![[r#"
            write /run/metadata/pithos
            replace by the link /run/metadata/afterburn to pithos
            replace by the link /run/metadata/coreos to pithos
            replace by the link /run/metadata/flatcar to pithos
            let core come in by 1 SSH keys
            name node-7
        "#]]
        .assert_eq(&done(&tree, &metadata(&["ssh-ed25519 A a"])));
        for name in ["pithos", "afterburn", "coreos", "flatcar"] {
            let path = tree.path().join("run/metadata").join(name);
            let text = fs::read_to_string(path).unwrap();
            assert_eq!(text, "AFTERBURN_AWS_REGION=north\nCOREOS_EC2_REGION=north\n");
        }
        let keys = tree.path().join("home/core/.ssh/authorized_keys.d/afterburn");
        assert_eq!(fs::read_to_string(&keys).unwrap(), "ssh-ed25519 A a\n");
        assert_eq!(keys.metadata().unwrap().mode() & 0o777, 0o600);
        // The same once more changes nothing; a key that was taken back is gone.
        done(&tree, &metadata(&["ssh-ed25519 A a"]));
        assert_eq!(fs::read_to_string(&keys).unwrap(), "ssh-ed25519 A a\n");
        done(&tree, &metadata(&[]));
        assert!(!keys.exists());
    }

    #[test]
    fn a_name_that_was_given_stays_and_keys_are_not_written_where_nobody_reads_them() {
        let tree = system(&[("etc/hostname", "mine\n")]);
        expect![[r#"
            write /run/metadata/pithos
            replace by the link /run/metadata/afterburn to pithos
            replace by the link /run/metadata/coreos to pithos
            replace by the link /run/metadata/flatcar to pithos
            no key is let in: AuthorizedKeysFile of sshd does not name authorized_keys.d/afterburn
            not called node-7: /etc/hostname says another name
            no name
        "#]]
        .assert_eq(&done(&tree, &metadata(&["ssh-ed25519 A a"])));
        assert!(!tree.path().join("home").exists());
    }
}
