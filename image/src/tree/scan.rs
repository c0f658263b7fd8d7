//! A tree as it will be seen on a running machine: `/usr/…` and `/etc/…` by name, and where a
//! path leads through its symbolic links.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::Error;

/// Where the image ships the defaults of `/etc`; `/init` lays the machine's own over them.
pub(crate) const ETC_IN_USR: &str = "/usr/share/pithos/etc";

/// Everything below `/usr` and `/etc`, by its path on a running machine. Sorted, so that a
/// directory comes before what is in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: BTreeMap<String, Node>,
}

/// One file of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub(crate) mode: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    File {
        size_bytes: u64,
    },
    Link {
        target: String,
    },
    /// A device, socket or pipe: none belongs into an image.
    Special,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    /// To this path, which is no link.
    To(String),
    /// To this path, where there is nothing.
    Nowhere(String),
    /// Out of `/usr` and `/etc`: to what only a running machine has.
    Out,
}

impl Tree {
    /// Reads the tree of `root`, which has `usr` and `etc`.
    pub(crate) fn of_root(root: &Path) -> Result<Self, Error> {
        let mut tree = Self::default();
        tree.add(&root.join("usr"), "/usr")?;
        tree.add(&root.join("etc"), "/etc")?;
        Ok(tree)
    }

    /// Reads a staged `/usr`, with the `/etc` that it carries.
    pub(crate) fn of_usr(usr: &Path) -> Result<Self, Error> {
        let mut tree = Self::default();
        tree.add(usr, "/usr")?;
        let below = format!("{ETC_IN_USR}/");
        let (etc, rest) = tree.nodes.into_iter().partition(|(path, _)| path.starts_with(&below));
        tree.nodes = rest;
        for (path, node) in BTreeMap::<_, _>::into_iter(etc) {
            tree.nodes.insert(format!("/etc/{}", &path[below.len()..]), node);
        }
        tree.nodes.insert("/etc".to_owned(), Node { kind: Kind::Dir, mode: 0o755 });
        Ok(tree)
    }

    fn add(&mut self, host: &Path, path: &str) -> Result<(), Error> {
        let reading = |source| Error::Io { doing: "reading", path: host.to_owned(), source };
        let meta = host.symlink_metadata().map_err(reading)?;
        let kind = if meta.is_dir() {
            for entry in fs::read_dir(host).map_err(reading)? {
                let name = entry.map_err(reading)?.file_name();
                let name = name.to_str().ok_or_else(|| {
                    let source = io::Error::other("the name is not UTF-8");
                    Error::Io { doing: "reading", path: host.join(&name), source }
                })?;
                self.add(&host.join(name), &format!("{path}/{name}"))?;
            }
            Kind::Dir
        } else if meta.is_file() {
            Kind::File { size_bytes: meta.size() }
        } else if meta.is_symlink() {
            let target = fs::read_link(host).map_err(reading)?;
            let target = target
                .into_os_string()
                .into_string()
                .map_err(|_| reading(io::Error::other("the link's target is not UTF-8")))?;
            Kind::Link { target }
        } else {
            Kind::Special
        };
        let mode = meta.permissions().mode() & 0o7777;
        self.nodes.insert(path.to_owned(), Node { kind, mode });
        Ok(())
    }

    /// Follows every link on the way of `path`.
    pub(crate) fn resolve(&self, path: &str) -> Leads {
        let mut path = path.to_owned();
        // As many links as the kernel follows.
        'link: for _ in 0..40 {
            path = normal(&path);
            if !path.starts_with("/usr/") && !path.starts_with("/etc/") {
                let top = path == "/usr" || path == "/etc";
                return if top { Leads::To(path) } else { Leads::Out };
            }
            let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
            for end in ends {
                match self.nodes.get(&path[..end]).map(|node| &node.kind) {
                    None => return Leads::Nowhere(path),
                    Some(Kind::Link { target }) => {
                        path = format!("{}{}", from_link(&path[..end], target), &path[end..]);
                        continue 'link;
                    }
                    Some(_) => {}
                }
            }
            return Leads::To(path);
        }
        Leads::Nowhere(path)
    }

    /// Whether a running machine finds a file at `path`, or may find one there.
    pub(crate) fn has(&self, path: &str) -> bool {
        !matches!(self.resolve(path), Leads::Nowhere(_))
    }
}

/// The absolute path that the link at `link` names.
pub(crate) fn from_link(link: &str, target: &str) -> String {
    if target.starts_with('/') { normal(target) } else { normal(&format!("{link}/../{target}")) }
}

/// Without `.`, `..` and double slashes; `/bin` and its like as the directories of the merged
/// `/usr`; the defaults of `/etc` as `/etc`.
pub(crate) fn normal(path: &str) -> String {
    let mut names: Vec<&str> = vec![];
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    if let Some(&"bin" | &"sbin" | &"lib" | &"lib32" | &"lib64") = names.first() {
        names.insert(0, "usr");
    }
    let path = format!("/{}", names.join("/"));
    match path.strip_prefix(ETC_IN_USR) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/etc{rest}"),
        _ => path,
    }
}

/// `target` as seen from the directory of `link`; both absolute.
pub(crate) fn relative(link: &str, target: &str) -> String {
    let names = |path: &str| path.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let (mut link, target) = (names(link), names(target));
    link.pop();
    let common = link.iter().zip(&target).take_while(|(a, b)| a == b).count();
    // A link to a directory above itself must not become an empty text.
    let common = common.min(target.len() - 1);
    let up = link[common..].iter().map(|_| "..".to_owned());
    up.chain(target[common..].iter().cloned()).collect::<Vec<_>>().join("/")
}

/// Where a path of a running machine is, below a staged `/usr`.
pub(crate) fn staged(usr: &Path, path: &str) -> PathBuf {
    match path.strip_prefix("/etc") {
        Some(rest) => usr.join(&ETC_IN_USR["/usr/".len()..]).join(rest.trim_start_matches('/')),
        None => usr.join(path.strip_prefix("/usr").unwrap_or(path).trim_start_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_as_on_a_running_machine() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for path in ["usr/bin", "usr/share/pithos", "etc/alternatives"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        fs::write(at("usr/bin/mawk"), "x").unwrap();
        for (target, link) in [
            ("/etc/alternatives/awk", "usr/bin/awk"),
            ("/bin/mawk", "etc/alternatives/awk"),
            ("../nowhere/x", "usr/bin/gone"),
            ("/run/x", "usr/bin/runtime"),
            ("loop", "usr/bin/loop"),
            ("../bin", "usr/sbin"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        let tree = Tree::of_root(dir.path()).unwrap();
        assert_eq!(tree.resolve("/usr/sbin/awk"), Leads::To("/usr/bin/mawk".into()));
        assert_eq!(tree.resolve("/sbin/gone"), Leads::Nowhere("/usr/nowhere/x".into()));
        assert_eq!(tree.resolve("/usr/bin/runtime"), Leads::Out);
        assert_eq!(tree.resolve("/usr/bin/loop"), Leads::Nowhere("/usr/bin/loop".into()));
        assert!(tree.has("/var/lib") && !tree.has("/usr/bin/mawk/below"));
    }

    #[test]
    fn the_etc_that_a_staged_usr_carries_is_etc() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("share/pithos/etc/ssh")).unwrap();
        let tree = Tree::of_usr(dir.path()).unwrap();
        let paths: Vec<_> = tree.nodes.keys().map(|path| &**path).collect();
        assert_eq!(
            paths,
            [
                "/etc",
                "/etc/ssh",
                "/usr",
                "/usr/share",
                "/usr/share/pithos",
                "/usr/share/pithos/etc"
            ]
        );
        assert_eq!(staged(dir.path(), "/etc/ssh"), dir.path().join("share/pithos/etc/ssh"));
        assert_eq!(staged(dir.path(), "/usr/bin/x"), dir.path().join("bin/x"));
        assert_eq!(normal("/usr/share/pithos/etc/../etc/ssh"), "/etc/ssh");
    }

    #[test]
    fn a_relative_link_leads_where_the_absolute_one_did() {
        for (link, target, expected) in [
            ("/usr/bin/awk", "/usr/bin/mawk", "mawk"),
            ("/usr/bin/x", "/usr/lib/a/x", "../lib/a/x"),
            ("/usr/lib/a/b", "/usr/lib", "../../lib"),
            ("/usr/lib/a", "/usr/lib/a", "a"),
        ] {
            assert_eq!(relative(link, target), expected);
            assert_eq!(from_link(link, expected), target);
        }
    }
}
