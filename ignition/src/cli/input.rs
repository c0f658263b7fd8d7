//! Documents that are named on the command line.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use ignition::document::{self, Directory, Document, Nowhere, Sources};

/// Where files are that documents name.
#[derive(Args)]
pub(crate) struct FilesDir {
    /// Where the files are that Butane's `local` names.
    #[arg(long, short = 'd', value_name = "DIR")]
    files_dir: Option<PathBuf>,
}

/// Reads one; `-` is standard input.
pub(super) fn read(file: &Path, dir: &FilesDir, sources: &mut Sources) -> anyhow::Result<Document> {
    let (name, bytes) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).context("reading standard input")?;
        ("standard input".to_owned(), bytes)
    } else {
        let name = file.display().to_string();
        (name.clone(), fs::read(file).with_context(|| format!("reading {name}"))?)
    };
    Ok(match &dir.files_dir {
        Some(dir) => document::read(&name, &bytes, &Directory(dir.clone()), sources),
        None => document::read(&name, &bytes, &Nowhere, sources),
    })
}
