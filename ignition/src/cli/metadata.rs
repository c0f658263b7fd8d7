//! `ignition metadata`: what metadata.service runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use ignition::{
    attributes::{Facts, plan},
    fetch::{Fetcher, Names},
    files::tree::Root,
    journal::Journal,
    platform::{self, metadata},
};

use super::Printed;

/// Asks the platform about this machine: attributes go to /run/metadata, for units to use; its name
/// and the SSH keys of `core` are applied. Only a platform that was named is asked.
#[derive(Args)]
pub(crate) struct Metadata {
    /// The platform, instead of the one that the kernel's command line names.
    #[arg(long, value_name = "ID")]
    platform: Option<String>,
    /// A tree of files, instead of the running system; its name is not changed.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

impl Metadata {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let id = match self.platform {
            Some(id) => platform::plan(&format!("ignition.platform.id={id}"))?.id,
            None => platform::plan(&cmdline)?.id,
        };
        let found = match &id {
            None => None,
            Some(id) => metadata::ask(id, &Fetcher::online(Names::System, &Printed))
                .with_context(|| format!("asking the platform {id}"))?,
        };
        if found.is_none() {
            let whose = id.map_or("no platform is named".to_owned(), |id| format!("{id} has none"));
            Printed.say(&format!("attributes: {whose}: the file stays empty"));
        }
        let root = Root::open(&self.root);
        let root = root.with_context(|| format!("opening {}", self.root.display()))?;
        let plan = plan(&found.unwrap_or_default(), &Facts::read(&root)?);
        plan.perform(&root, &Printed)?;
        if self.root == Path::new("/")
            && let Err(error) = plan.name()
        {
            Printed.say(&format!("naming the machine: {error}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}
