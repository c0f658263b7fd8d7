//! What is done below the root, a step at a time, and each step in words.

use std::fmt;

use super::{
    accounts::{Change, FILES, Kind, Person},
    nodes::{Node, Want},
};

/// A step, and where the document asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The place, as `$.storage.files.3`.
    pub at: String,
    /// What is done.
    pub act: Act,
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// One of the files of users and groups is written.
    Accounts {
        /// Which.
        kind: Kind,
        /// What is in it.
        text: String,
    },
    /// The home of somebody is made, moved, given away or removed.
    Home {
        /// Whose.
        person: Person,
        /// What is in a new one.
        skeleton: String,
        /// The permissions of a new one.
        mode: u32,
    },
    /// The keys of somebody are written.
    Keys {
        /// Whose.
        person: Person,
        /// Into which file beside that of the user, if into one. There, no keys are no file.
        fragment: Option<&'static str>,
    },
    /// A directory, a file or a link.
    Node(Node),
    /// A text of ours is written, whatever file was there.
    Text {
        /// Where.
        path: String,
        /// What is in it.
        text: String,
        /// Its permissions.
        mode: u32,
    },
    /// A unit can no longer be started.
    Mask {
        /// Where it would be.
        path: String,
    },
    /// A unit can be started again, if all that kept it from it is its mask.
    Unmask {
        /// Where it was masked.
        path: String,
    },
    /// A unit starts by itself.
    Enable {
        /// The link that says so.
        link: String,
        /// The unit.
        target: String,
    },
    /// A unit does no longer start by itself.
    Disable {
        /// The link that said so.
        link: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.act {
            Act::Accounts { kind, .. } => {
                let path = FILES.iter().find(|(_, one)| one == kind).map_or("", |(path, _)| path);
                write!(f, "change {path}")
            }
            Act::Home { person, .. } => {
                let Person { name, home, .. } = person;
                match &person.change {
                    Change::Keep => write!(f, "leave the home of {name} alone"),
                    Change::Make => {
                        write!(f, "make {home}, the home of {name}, if it is not there")
                    }
                    Change::Move { from } => {
                        write!(f, "move the home of {name} from {from} to {home}")
                    }
                    Change::Own { .. } => write!(f, "give {home} to {name} under the new number"),
                    Change::Remove => write!(f, "remove {home}, the home of {name}"),
                }
            }
            Act::Keys { person, fragment: Some(file) } if person.keys.is_empty() => {
                write!(f, "let nobody come in as {} by keys of `{file}`", person.name)
            }
            Act::Keys { person, .. } => {
                write!(f, "let {} come in by {} SSH keys", person.name, person.keys.len())
            }
            Act::Node(node) => {
                let verb = if node.overwrite { "replace by" } else { "make" };
                match &node.want {
                    Want::Directory { .. } => write!(f, "{verb} the directory {}", node.path),
                    Want::File { contents: None, append, .. } if !append.is_empty() => {
                        write!(f, "append to the file {}", node.path)
                    }
                    Want::File { .. } => write!(f, "{verb} the file {}", node.path),
                    Want::Link { target } => write!(f, "{verb} the link {} to {target}", node.path),
                    Want::HardLink { target } => {
                        write!(f, "{verb} {}, another name of {target}", node.path)
                    }
                }
            }
            Act::Text { path, .. } => write!(f, "write {path}"),
            Act::Mask { path } => write!(f, "mask {path}"),
            Act::Unmask { path } => write!(f, "unmask {path}"),
            Act::Enable { link, target } => write!(f, "enable {target} by {link}"),
            Act::Disable { link } => write!(f, "remove {link}, by which a unit was enabled"),
        }
    }
}
