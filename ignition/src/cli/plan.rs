//! `ignition plan`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::Args;
use ignition::{
    boot::{BOOT_DISK, Failure, RootWish, take_wish},
    disks::{self, Machine},
    document::{Config, Sources},
    fetch::{Fetcher, Names},
    files::{self, tree::Root},
    journal::Silent,
};

use super::{
    answer,
    input::{By, FilesDir, whole},
    remark,
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

fn of(at: &str, error: &dyn std::error::Error, hint: Option<&str>) -> Failure {
    Failure::of("plan", at.to_owned(), error).hint(hint.map(str::to_owned))
}

impl Plan {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut sources = Sources::default();
        let access = By(Fetcher::online(Names::System, &Silent));
        let Some(mut node) = whole(&self.file, &self.files, &access, &mut sources)? else {
            return Ok(ExitCode::FAILURE);
        };
        // Root is made by /init, on the boot disk, whatever that is called here.
        let wish = take_wish(&mut node, Path::new(BOOT_DISK));
        let config = Config::from_node(&node);
        let mut images = BTreeMap::new();
        for given in &self.disk {
            let (device, image) = given
                .split_once('=')
                .ok_or_else(|| anyhow!("--disk {given}: expected DEVICE=FILE"))?;
            images.insert(device.to_owned(), PathBuf::from(image));
        }
        let machine = Machine { images, patience: Duration::ZERO };
        let refused = |failure: &Failure| {
            remark(&format!("ignition: {}", failure.text(Some(&node), &sources)));
            ExitCode::FAILURE
        };
        let wish = match wish {
            Ok(wish) => wish,
            Err((at, why)) => return Ok(refused(&Failure::new("plan", at, why))),
        };
        let facts = match machine.facts(&config, &Silent) {
            Ok(facts) => facts,
            Err(trouble) => return Ok(refused(&of(trouble.at(), &trouble, trouble.hint()))),
        };
        match disks::plan(&config, &facts) {
            Ok(steps) => {
                steps.iter().try_for_each(|step| answer(&step.to_string()))?;
                if wish != RootWish::default() {
                    answer(&wish.to_string())?;
                }
            }
            Err(error) => {
                return Ok(refused(&of(&error.path, &error, Some(&error.hint))));
            }
        }
        let root =
            Root::open(&self.root).with_context(|| format!("opening {}", self.root.display()))?;
        let options = files::Options::default();
        let steps = files::Facts::read(&root, &config, &options)
            .and_then(|facts| Ok(files::plan(&config, &facts)?));
        match steps {
            Ok(steps) => steps.iter().try_for_each(|step| answer(&step.to_string()))?,
            Err(error) => return Ok(refused(&of(error.at(), &error, error.hint()))),
        }
        Ok(ExitCode::SUCCESS)
    }
}
