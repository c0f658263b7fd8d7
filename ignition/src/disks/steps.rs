//! What is done to the disks of a machine, as data; and in words.

use std::{fmt, slice};

use uuid::Uuid;

use super::room::amount;

/// A program of /usr and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its path.
    pub path: &'static str,
    /// What it is told; [`DEVICE`] and [`KEY`] stand for what is only known when it is run.
    pub args: Vec<String>,
}

/// Stands for the node of the device in [`Program::args`].
pub const DEVICE: &str = "{device}";
/// Stands for the file of the key in [`Program::args`].
pub const KEY: &str = "{key}";

impl Program {
    pub(crate) fn new(path: &'static str, args: &[&str]) -> Self {
        Self { path, args: args.iter().map(|arg| (*arg).to_owned()).collect() }
    }

    pub(crate) fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    pub(crate) fn with_all(mut self, args: &[String]) -> Self {
        self.args.extend_from_slice(args);
        self
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path.rsplit('/').next().unwrap_or(self.path))?;
        self.args.iter().try_for_each(|arg| match arg.contains(char::is_whitespace) {
            true => write!(f, " '{arg}'"),
            false => write!(f, " {arg}"),
        })
    }
}

/// A step. `at` is the path of the document's entry that asks for it, `device` the name that the
/// entry calls the device by.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Change the table of a disk, all at once.
    Table {
        /// Of the disk.
        at: String,
        /// The disk.
        device: String,
        /// Forget what is there first.
        wipe: bool,
        /// What changes, deletions first.
        changes: Vec<Change>,
    },
    /// Make an array.
    MakeArray {
        /// Of the array.
        at: String,
        /// Its name.
        name: String,
        /// What it is made on.
        members: Vec<String>,
        /// As it will be in the superblock.
        level: i32,
        /// How many of the members work, the others are spare.
        disks: u32,
        /// How; the nodes of the members follow.
        program: Program,
    },
    /// Start an array that is as the document says.
    AssembleArray {
        /// Of the array.
        at: String,
        /// Its name.
        name: String,
        /// What it is on.
        members: Vec<String>,
        /// How; the nodes of the members follow.
        program: Program,
    },
    /// Make an encrypted volume and open it.
    MakeVolume {
        /// Of the volume.
        at: String,
        /// Its name.
        name: String,
        /// What it is made on.
        device: String,
        /// Its label.
        label: Option<String>,
        /// Its UUID.
        uuid: Option<String>,
        /// Whether its key is made up here.
        generate_key: bool,
        /// How it is formatted, opened, and given to what keeps its key.
        programs: Vec<Program>,
    },
    /// Open a volume that is as the document says.
    OpenVolume {
        /// Of the volume.
        at: String,
        /// Its name.
        name: String,
        /// What it is on.
        device: String,
        /// How.
        program: Program,
    },
    /// Make a file system, or remove all traces of one.
    MakeFilesystem {
        /// Of the file system.
        at: String,
        /// What it is made on.
        device: String,
        /// Its format.
        format: String,
        /// Its label.
        label: Option<String>,
        /// Its UUID.
        uuid: Option<String>,
        /// Remove all traces of what is there first.
        wipe: bool,
        /// How; none for `none`.
        program: Option<Program>,
        /// What is on the device is not known yet: if it is what is wanted, it is kept.
        if_not_there: bool,
    },
}

/// A change of one entry of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Remove it.
    Delete {
        /// Its number.
        number: u32,
    },
    /// Add it.
    Create {
        /// Its number.
        number: u32,
        /// The GUID of its type.
        kind: Uuid,
        /// Its own GUID; a random one if there is none.
        guid: Option<Uuid>,
        /// Its label.
        label: String,
        /// Its first byte.
        start_bytes: u64,
        /// Its length.
        size_bytes: u64,
    },
    /// Change its length.
    Resize {
        /// Its number.
        number: u32,
        /// Its first byte, as it is.
        start_bytes: u64,
        /// Its length.
        size_bytes: u64,
    },
}

impl Step {
    /// The path of the document's entry that asks for it.
    pub fn at(&self) -> &str {
        match self {
            Self::Table { at, .. }
            | Self::MakeArray { at, .. }
            | Self::AssembleArray { at, .. }
            | Self::MakeVolume { at, .. }
            | Self::OpenVolume { at, .. }
            | Self::MakeFilesystem { at, .. } => at,
        }
    }

    /// What is run for it.
    pub fn programs(&self) -> &[Program] {
        match self {
            Self::Table { .. } => &[],
            Self::MakeVolume { programs, .. } => programs,
            Self::MakeArray { program, .. }
            | Self::AssembleArray { program, .. }
            | Self::OpenVolume { program, .. } => slice::from_ref(program),
            Self::MakeFilesystem { program, .. } => program.as_slice(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table { device, wipe, changes, .. } => {
                if *wipe {
                    write!(f, "{device}: forget the partition table")?;
                }
                let first = if *wipe { "\n" } else { "" };
                changes.iter().enumerate().try_for_each(|(index, change)| {
                    let separator = if index == 0 { first } else { "\n" };
                    write!(f, "{separator}{device}: {change}")
                })
            }
            Self::MakeArray { name, members, program, .. } => {
                write!(f, "array {name}: make it on {} ({program})", members.join(", "))
            }
            Self::AssembleArray { name, members, .. } => {
                write!(f, "array {name}: start it from {}", members.join(", "))
            }
            Self::MakeVolume { name, device, programs, .. } => {
                write!(f, "volume {name}: make it on {device}")?;
                programs.iter().try_for_each(|program| write!(f, "\n  {program}"))
            }
            Self::OpenVolume { name, device, .. } => {
                write!(f, "volume {name}: open it on {device}")
            }
            Self::MakeFilesystem { device, format, wipe, program, if_not_there, .. } => {
                let wiped = if *wipe { "remove all traces of what is there, " } else { "" };
                let kept = if *if_not_there { ", unless it is there" } else { "" };
                match program {
                    Some(program) => write!(f, "{device}: {wiped}make {format}{kept} ({program})"),
                    None if *if_not_there => write!(f, "{device}: see that nothing is there"),
                    None => write!(f, "{device}: remove all traces of what is there"),
                }
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: &u64| amount(*bytes);
        match self {
            Self::Delete { number } => write!(f, "delete partition {number}"),
            Self::Create { number, label, start_bytes, size_bytes, .. } => {
                let (start, size) = (mib(start_bytes), mib(size_bytes));
                write!(f, "create partition {number} `{label}`, {size} at {start}")
            }
            Self::Resize { number, size_bytes, .. } => {
                write!(f, "resize partition {number} to {}", mib(size_bytes))
            }
        }
    }
}
