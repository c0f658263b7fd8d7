//! Compares two artefacts, or two folders of them, and names where they differ: not a hash, but
//! `pithos-1.raw: partition 1 (esp): /EFI/Linux/a.efi: section .initrd: usr/x: field mtime: 12 != 13`.
//!
//! ```text
//! bytes differ? --no--> equal, nothing is parsed            (source.rs: holes are skipped)
//!      | yes
//! what is it, by its magic?                                 (kind.rs)
//!      | GPT FAT erofs verity qcow2 PE ELF cpio zstd gzip   (one file each: bytes -> Anatomy)
//!      | JSON, text                                         (text.rs: values, lines)
//! its fields, then its parts, each again from the top       (walk.rs)
//!      | none of them differs
//! what only follows from them (offsets, checksums), else the first byte, and what it belongs to
//! ```
//!
//! A format is only taken apart here, never judged: whether an image is a good one is `verify`'s
//! question. Every parser takes garbage for an answer and never panics.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;

use report::Report;
pub use report::{Difference, Side, What};
use source::{Source, first_difference};

mod anatomy;
mod cpio;
mod elf;
mod erofs;
mod fat;
mod gpt;
mod kind;
mod numbers;
mod pe;
mod qcow2;
mod report;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod unpack;
mod verity;
mod walk;

/// Differences that are reported if nobody asks for more.
pub const MAX: usize = 20;

/// Why two artefacts could not be compared at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of the two cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder and a file have nothing in common.
    #[error("{} is a folder and {} is a file: compare two of a kind", folder.display(), file.display())]
    Unlike {
        /// The folder.
        folder: PathBuf,
        /// The file.
        file: PathBuf,
    },
}

/// The first [`MAX`] differences between two files, or between two folders of them.
pub fn compare(a: &Path, b: &Path) -> Result<Vec<Difference>, Error> {
    compare_up_to(a, b, MAX)
}

/// The first `max` differences between two files, or between two folders of them: every file that
/// differs has its share of them, and at least one.
pub fn compare_up_to(a: &Path, b: &Path, max: usize) -> Result<Vec<Difference>, Error> {
    match (is_folder(a)?, is_folder(b)?) {
        (true, true) => folders(a, b, max),
        (false, false) => {
            let name = a.file_name().unwrap_or(a.as_os_str()).to_string_lossy().into_owned();
            files(a, b, &name, max)
        }
        (true, false) => Err(Error::Unlike { folder: a.into(), file: b.into() }),
        (false, true) => Err(Error::Unlike { folder: b.into(), file: a.into() }),
    }
}

fn files(a: &Path, b: &Path, name: &str, max: usize) -> Result<Vec<Difference>, Error> {
    let (x, y) = (open(a)?, open(b)?);
    let mut report = Report::new(max);
    match report.within(name, |report| walk::sources(report, &x, &y)) {
        Ok(()) => Ok(report.into_found()),
        Err(source) => Err(Error::Read { path: a.into(), source }),
    }
}

fn folders(a: &Path, b: &Path, max: usize) -> Result<Vec<Difference>, Error> {
    let (in_a, in_b) = (entries(a)?, entries(b)?);
    let mut report = Report::new(max);
    let mut differing = Vec::new();
    for (name, what) in &in_a {
        match (what, in_b.get(name)) {
            (_, None) => report.only_in(Side::A, name),
            (Entry::File, Some(Entry::File)) => {
                let (x, y) = (open(&a.join(name))?, open(&b.join(name))?);
                let first = first_difference(&x, &y)
                    .map_err(|source| Error::Read { path: a.join(name), source })?;
                if first.is_some() {
                    differing.push(name);
                }
            }
            (Entry::Other(x), Some(Entry::Other(y))) if x == y => {}
            (x, Some(y)) => {
                report.within(name, |report| report.field("file", x.as_str(), y.as_str()));
            }
        }
    }
    for name in in_b.keys().filter(|name| !in_a.contains_key(*name)) {
        report.only_in(Side::B, name);
    }
    let mut found = report.into_found();
    let share = (max.saturating_sub(found.len()) / differing.len().max(1)).max(1);
    for name in differing {
        found.extend(files(&a.join(name), &b.join(name), name, share)?);
    }
    Ok(found)
}

/// What a folder has under a name.
enum Entry {
    File,
    Other(String),
}

impl Entry {
    fn as_str(&self) -> &str {
        match self {
            Self::File => "regular file",
            Self::Other(what) => what,
        }
    }
}

/// Everything below a folder, by relative path. Modes and times of artefacts are the file system's
/// that they lie on: not compared.
fn entries(root: &Path) -> Result<BTreeMap<String, Entry>, Error> {
    let mut found = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        let path = root.join(&folder);
        let failed = |source| Error::Read { path: path.clone(), source };
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = folder.join(entry.file_name());
            let kind = entry.file_type().map_err(failed)?;
            let what = if kind.is_dir() {
                todo.push(name);
                continue;
            } else if kind.is_file() {
                Entry::File
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path()).map_err(failed)?;
                Entry::Other(format!("symlink to {}", target.display()))
            } else {
                Entry::Other("special file".into())
            };
            found.insert(name.to_string_lossy().into_owned(), what);
        }
    }
    Ok(found)
}

fn is_folder(path: &Path) -> Result<bool, Error> {
    let found = fs::metadata(path).map_err(|source| Error::Read { path: path.into(), source })?;
    Ok(found.is_dir())
}

fn open(path: &Path) -> Result<Source, Error> {
    Source::open(path).map_err(|source| Error::Read { path: path.into(), source })
}

/// `image compare`: where do two artefacts, or two folders of artefacts, differ?
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// A file or folder.
    pub a: PathBuf,
    /// Another one.
    pub b: PathBuf,
    /// Print a JSON array of differences.
    #[arg(long)]
    pub json: bool,
    /// Differences to print.
    #[arg(long, default_value_t = MAX, value_name = "N")]
    pub max: usize,
}

/// Prints where two artefacts differ. Success if they do not.
pub fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let found = compare_up_to(&args.a, &args.b, args.max)
        .with_context(|| format!("comparing {} with {}", args.a.display(), args.b.display()))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else if found.is_empty() {
        println!("equal");
    } else {
        found.iter().for_each(|difference| println!("{difference}"));
        if found.len() >= args.max {
            println!("(stopped after {}; --max N prints more)", found.len());
        }
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
