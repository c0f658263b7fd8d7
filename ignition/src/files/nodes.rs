//! Directories, files and links: in which order, to whom they belong, and what may be there already.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use super::{
    Refused,
    accounts::Accounts,
    tree::{Found, Ids},
};
use crate::document::config::{Owner, Resource, Storage};

/// Something that a document wants to be at a path.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the document says so.
    pub at: String,
    /// The path.
    pub path: String,
    /// Whether what is there may be removed.
    pub overwrite: bool,
    /// To whom it shall belong.
    pub ids: Ids,
    /// What it is.
    pub want: Want,
}

/// What something is.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// A directory.
    Directory {
        /// Its permissions.
        mode: Option<u32>,
    },
    /// A file.
    File {
        /// Its permissions.
        mode: Option<u32>,
        /// What is in it; if not said, what is there stays, and else it is empty.
        contents: Option<Resource>,
        /// What comes behind that.
        append: Vec<Resource>,
    },
    /// A symbolic link.
    Link {
        /// What it says.
        target: String,
    },
    /// One more name.
    HardLink {
        /// For this.
        target: String,
    },
}

/// What to do at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Make it: nothing is there.
    Make,
    /// Make it in the place of what is there.
    Replace,
    /// It is there; its owner and permissions are set.
    Keep,
    /// A file is there: it is kept if it has the same content, else it is in the way.
    Compare,
}

/// Orders what a document wants: by depth, so that a directory is there before what is in it; hard
/// links last, so that what they name is there. `resolved` says where paths lead, every link on the
/// way followed.
pub fn plan(
    storage: &Storage,
    accounts: &Accounts,
    resolved: &BTreeMap<String, PathBuf>,
) -> Result<Vec<Node>, Refused> {
    let mut nodes = Vec::new();
    for (index, directory) in storage.directories.iter().enumerate() {
        let at = format!("$.storage.directories.{index}");
        let ids = ids(&at, &directory.user, &directory.group, accounts)?;
        let want = Want::Directory { mode: mode(directory.mode) };
        let overwrite = directory.overwrite == Some(true);
        nodes.push(Node { at, path: directory.path.clone(), overwrite, ids, want });
    }
    for (index, file) in storage.files.iter().enumerate() {
        let at = format!("$.storage.files.{index}");
        let ids = ids(&at, &file.user, &file.group, accounts)?;
        let contents = file.contents.source.is_some().then(|| file.contents.clone());
        let want = Want::File { mode: mode(file.mode), contents, append: file.append.clone() };
        let overwrite = file.overwrite == Some(true);
        nodes.push(Node { at, path: file.path.clone(), overwrite, ids, want });
    }
    for (index, link) in storage.links.iter().enumerate() {
        let at = format!("$.storage.links.{index}");
        let ids = ids(&at, &link.user, &link.group, accounts)?;
        let target = link.target.clone().unwrap_or_default();
        let want = match link.hard {
            Some(true) => Want::HardLink { target },
            _ => Want::Link { target },
        };
        let overwrite = link.overwrite == Some(true);
        nodes.push(Node { at, path: link.path.clone(), overwrite, ids, want });
    }
    let leads =
        |node: &Node| resolved.get(&node.path).cloned().unwrap_or(PathBuf::from(&node.path));
    let mut places: BTreeMap<PathBuf, &Node> = BTreeMap::new();
    for node in &nodes {
        if let Some(other) = places.insert(leads(node), node) {
            let why = format!(
                "`{}` and `{}` ({}) are one and the same: both lead to `{}`",
                node.path,
                other.path,
                other.at,
                leads(node).display()
            );
            return Err(Refused::new(format!("{}.path", node.at), why)
                .hint("a link on the way is followed; say the path that it leads to, once"));
        }
    }
    nodes.sort_by_cached_key(|node| {
        (matches!(node.want, Want::HardLink { .. }), leads(node).components().count())
    });
    Ok(nodes)
}

/// Decides, or says what is in the way.
pub fn decide(node: &Node, found: &Found) -> Result<Decision, String> {
    match (&node.want, found) {
        (_, Found::Nothing) => Ok(Decision::Make),
        (Want::Link { target }, Found::Link(old)) if clean(old) == clean(Path::new(target)) => {
            Ok(Decision::Keep)
        }
        // Whether it is the same file already is for the shell to see.
        (Want::HardLink { .. }, _) => Ok(Decision::Compare),
        (_, _) if node.overwrite => Ok(Decision::Replace),
        (Want::Directory { .. }, Found::Directory) => Ok(Decision::Keep),
        (Want::File { contents: None, .. }, Found::File) => Ok(Decision::Keep),
        (Want::File { contents: Some(_), .. }, Found::File) => Ok(Decision::Compare),
        (Want::Link { .. }, Found::Link(old)) => {
            Err(format!("a link to `{}` is there already", old.display()))
        }
        (Want::Directory { .. }, _) => Err(in_the_way(found)),
        (Want::File { .. }, _) => Err(in_the_way(found)),
        (Want::Link { .. }, _) => Err(in_the_way(found)),
    }
}

/// What is there, and may not be.
pub fn in_the_way(found: &Found) -> String {
    let what = match found {
        Found::Nothing => "nothing",
        Found::File => "a file",
        Found::Directory => "a directory",
        Found::Link(_) => "a symbolic link",
        Found::Other => "a device, a socket or a pipe",
    };
    format!("{what} is there already")
}

/// What to do about something in the way.
pub const OVERWRITE: &str = "say \"overwrite\": true to have it removed";

fn mode(mode: Option<i64>) -> Option<u32> {
    mode.and_then(|mode| u32::try_from(mode).ok()).map(|mode| mode & 0o7777)
}

fn ids(at: &str, user: &Owner, group: &Owner, accounts: &Accounts) -> Result<Ids, Refused> {
    Ok(Ids {
        user: owner(&format!("{at}.user"), user, "user", |name| accounts.user_id(name))?,
        group: owner(&format!("{at}.group"), group, "group", |name| accounts.group_id(name))?,
    })
}

fn owner(
    at: &str,
    owner: &Owner,
    what: &str,
    find: impl Fn(&str) -> Option<u32>,
) -> Result<Option<u32>, Refused> {
    match (owner.id, owner.name.as_deref()) {
        (Some(id), _) => match u32::try_from(id) {
            Ok(id) if id != u32::MAX => Ok(Some(id)),
            _ => Err(Refused::new(format!("{at}.id"), format!("{id} is no number of a {what}"))),
        },
        (None, None | Some("")) => Ok(None),
        (None, Some(name)) => match find(name) {
            Some(id) => Ok(Some(id)),
            None => Err(Refused::new(format!("{at}.name"), format!("there is no {what} `{name}`"))
                .hint(format!("let passwd.{what}s of the document make it, or say its id"))),
        },
    }
}

/// A path as its text says it: without `.`, double slashes and `..` behind a name.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        let can_go_up = matches!(clean.components().next_back(), Some(Component::Normal(_)));
        match component {
            Component::CurDir => {}
            Component::ParentDir if can_go_up => {
                clean.pop();
            }
            Component::ParentDir if clean.has_root() => {}
            component => clean.push(component),
        }
    }
    clean
}
