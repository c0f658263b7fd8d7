//! Documents that are named on the command line.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use ignition::{
    document::{self, Directory, Document, Node, Nowhere, Sources, config::Ignition},
    fetch::{Fetch, FetchError, Fetcher},
    render::{self, Access, RenderError},
};

use super::remark;

/// Where files are that documents name.
#[derive(Args)]
pub(crate) struct FilesDir {
    /// Where the files are that Butane's `local` names.
    #[arg(long, short = 'd', value_name = "DIR")]
    files_dir: Option<PathBuf>,
}

/// How a document's resources are had.
pub(super) struct By<'a>(pub(super) Fetcher<'a>);

impl Access for By<'_> {
    fn of(&self, ignition: &Ignition) -> Result<Box<dyn Fetch + '_>, FetchError> {
        Ok(Box::new(self.0.for_document(ignition)?))
    }
}

/// Reads one and all that it leads to; `None` if there is something wrong with it, which is said.
pub(super) fn whole(
    file: &Path,
    dir: &FilesDir,
    access: &dyn Access,
    sources: &mut Sources,
) -> anyhow::Result<Option<Node>> {
    let document = read(file, dir, sources)?;
    let mut report = document.report;
    let rendered = document.node.map(|node| render::render(node, access, sources, &mut report));
    remark(&report.display(sources));
    match rendered {
        None | Some(Err(RenderError::Wrong)) => Ok(None),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(node)) => Ok(Some(node)),
    }
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
