//! Documents that are named on the command line.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use anyhow::Context;
use ignition::document::{self, Document, Sources};

/// Reads one; `-` is standard input.
pub(super) fn read(file: &Path, sources: &mut Sources) -> anyhow::Result<Document> {
    let (name, bytes) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).context("reading standard input")?;
        ("standard input".to_owned(), bytes)
    } else {
        let name = file.display().to_string();
        (name.clone(), fs::read(file).with_context(|| format!("reading {name}"))?)
    };
    Ok(document::read(&name, &bytes, sources))
}
