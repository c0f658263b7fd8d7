//! `ignition apply`: the files of a document onto a directory tree, for containers and tests.

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::Context;
use clap::Args;
use ignition::{
    causes::chain,
    document::{Config, Node, Report, Sources},
    fetch::{Fetcher, Names},
    files::{self, ApplyError, tree::Root},
    journal::{Journal, Silent},
    render::{Access, mark_of},
};

use super::{
    Printed,
    input::{By, FilesDir, whole},
    remark,
};

/// Makes what is below a directory what a document says: users and groups, directories, files,
/// links, units. Disks, file systems and the kernel's arguments are left alone.
#[derive(Args)]
pub(crate) struct Apply {
    /// The directory, as if it were `/`.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Only what needs no network.
    #[arg(long)]
    offline: bool,
    /// Nothing is printed of what was done.
    #[arg(long, short)]
    quiet: bool,
    /// The document.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    files: FilesDir,
}

impl Apply {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut sources = Sources::default();
        let by = By(match self.offline {
            true => Fetcher::offline(&Silent),
            false => Fetcher::online(Names::System, &Silent),
        });
        let Some(node) = whole(&self.file, &self.files, &by, &mut sources)? else {
            return Ok(ExitCode::FAILURE);
        };
        let applied = self.apply(&node, &by);
        if let Err(error) = &applied
            && let Some(error) = error.downcast_ref::<ApplyError>()
        {
            let mut report = Report::default();
            let message = without_place(error);
            let finding = report.error_at(error.at(), mark_of(&node, error.at()), message);
            if let Some(hint) = error.hint() {
                finding.hint(hint);
            }
            remark(&report.display(&sources));
            return Ok(ExitCode::FAILURE);
        }
        applied.map(|()| ExitCode::SUCCESS)
    }

    fn apply(&self, node: &Node, by: &By<'_>) -> anyhow::Result<()> {
        let config = Config::from_node(node);
        let root = Root::open(&self.root);
        let root = root.with_context(|| format!("opening {}", self.root.display()))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let day = u32::try_from(now.as_secs() / 86_400).unwrap_or_default();
        let options = files::Options { day, ..files::Options::default() };
        let fetch = by.of(&config.ignition)?;
        let journal: &dyn Journal = if self.quiet { &Silent } else { &Printed };
        files::apply(&root, &config, &*fetch, &options, journal)?;
        Ok(())
    }
}

/// The chain of causes in one line, without the place that the report shows.
fn without_place(error: &ApplyError) -> String {
    let text = chain(error);
    let place = format!("{}: ", error.at());
    text.strip_prefix(&place).unwrap_or(&text).to_owned()
}
