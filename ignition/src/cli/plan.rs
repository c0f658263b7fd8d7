//! `ignition plan`.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, anyhow};
use clap::Args;
use ignition::{
    boot::Failure,
    disks::{self, Machine},
    document::{Config, Node, Sources},
    fetch::{Fetcher, Names},
    files::{self, tree::Root},
    journal::Silent,
    render::{self, Access, RenderError},
};

use super::{
    apply::By,
    input::{self, FilesDir},
};

/// Says which steps a document would take, and takes none.
#[derive(Args)]
pub(crate) struct Plan {
    /// The document.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    files: FilesDir,
    /// An image file that stands for a disk: /dev/vdb=disk.raw
    #[arg(long, value_name = "DEVICE=FILE")]
    disk: Vec<String>,
    /// The root of the machine.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// A document and all that it leads to; `None` if there is something wrong with it, which is said.
fn whole(
    file: &std::path::Path,
    dir: &FilesDir,
    access: &dyn Access,
    sources: &mut Sources,
) -> anyhow::Result<Option<Node>> {
    let document = input::read(file, dir, sources)?;
    let mut report = document.report;
    let rendered = document.node.map(|node| render::render(node, access, sources, &mut report));
    eprint!("{}", report.display(sources));
    match rendered {
        None | Some(Err(RenderError::Wrong)) => Ok(None),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(node)) => Ok(Some(node)),
    }
}

impl Plan {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut sources = Sources::default();
        let access = By(Fetcher::online(Names::System, &Silent));
        let Some(node) = whole(&self.file, &self.files, &access, &mut sources)? else {
            return Ok(ExitCode::FAILURE);
        };
        let config = Config::from_node(&node);
        let mut images = BTreeMap::new();
        for given in &self.disk {
            let (device, image) = given
                .split_once('=')
                .ok_or_else(|| anyhow!("--disk {given}: expected DEVICE=FILE"))?;
            images.insert(device.to_owned(), PathBuf::from(image));
        }
        let machine = Machine { images, patience: Duration::ZERO };
        let refused = |at: &str, error: &dyn std::error::Error, hint: Option<String>| {
            let failure = Failure::of("plan", at.to_owned(), error).hint(hint);
            eprint!("ignition: {}", failure.text(Some(&node), &sources));
            ExitCode::FAILURE
        };
        let facts = match machine.facts(&config) {
            Ok(facts) => facts,
            Err(trouble) => return Ok(refused(trouble.at(), &trouble, None)),
        };
        match disks::plan(&config, &facts) {
            Ok(steps) => steps.iter().for_each(|step| println!("{step}")),
            Err(error) => return Ok(refused(&error.path, &error, Some(error.hint.clone()))),
        }
        let root =
            Root::open(&self.root).with_context(|| format!("opening {}", self.root.display()))?;
        let options = files::Options::default();
        let steps = files::Facts::read(&root, &config, &options)
            .and_then(|facts| Ok(files::plan(&config, &facts)?));
        match steps {
            Ok(steps) => steps.iter().for_each(|step| println!("{step}")),
            Err(error) => return Ok(refused(error.at(), &error, error.hint().map(str::to_owned))),
        }
        Ok(ExitCode::SUCCESS)
    }
}
