//! `update-engine-client`: the words of update_engine_client, and some of our own. What failed is
//! said with its cause, and the exit status is not 0 then.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::{bus::Client, engine::End, status::Status};

/// Where a bundle from elsewhere is kept: the engine's own folder.
const SPOOL: &str = "/var/lib/update-engine";
const POLL: Duration = Duration::from_secs(1);

/// Asks the update engine of this machine.
#[derive(Debug, Parser)]
#[command(
    name = "update-engine-client",
    version,
    after_help = "The words of update_engine_client are good, too:\n  \
        -status  -check_for_update  -update  -reset_status  -watch_for_updates\n\n\
        The exit status is 0 if all is well, 1 if something failed (the cause is said), 2 for a\n\
        word that is not known."
)]
pub struct Words {
    #[command(subcommand)]
    verb: Verb,
}

/// What is wanted.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// What the engine is at
    Status {
        /// All of it, for programs
        #[arg(long)]
        json: bool,
        /// For Prometheus
        #[arg(long, conflicts_with = "json")]
        metrics: bool,
    },
    /// Why it is as it is, in sentences
    Why,
    /// Look for an update and install it, without waiting for it
    Check,
    /// Look for an update, install it, and wait for that
    Update,
    /// Install from a bundle, or a folder with the files of a repository, and wait for that
    Apply {
        /// The bundle or the folder. The engine does not see /home, /root and /tmp; `-` is a bundle
        /// on standard input
        file: PathBuf,
    },
    /// Stop what is under way; take back what waits for a reboot
    Reset,
    /// Say what the engine is at, each time that it changes
    Watch,
}

impl Words {
    /// Reads them, those of update_engine_client among them.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut words: Vec<OsString> = words.into_iter().collect();
        if let Some(first) = words.get_mut(1) {
            let bare = first.to_str().map(|word| word.trim_start_matches('-')).unwrap_or_default();
            let verb = match bare {
                "status" => Some("status"),
                "check_for_update" => Some("check"),
                "update" => Some("update"),
                "reset_status" => Some("reset"),
                "watch_for_updates" => Some("watch"),
                _ => None,
            };
            if let Some(verb) = verb {
                *first = verb.into();
            }
        }
        Self::try_parse_from(words)
    }

    /// Does what they want.
    pub async fn run(self, client: &Client, print: &mut dyn FnMut(&str)) -> Result<ExitCode> {
        match self.verb {
            Verb::Status { json: true, .. } => {
                let status = client.status().await?;
                print(&format!("{}\n", serde_json::to_string_pretty(&status)?));
            }
            Verb::Status { metrics: true, .. } => print(&client.status().await?.metrics()),
            Verb::Status { .. } => print(&client.status().await?.lines()),
            Verb::Why => print(&client.status().await?.why()),
            Verb::Check => {
                client.attempt().await?;
                print("The engine looks for an update; `-status` and `-update` say how it goes.\n");
            }
            Verb::Update => {
                let before = client.status().await?;
                client.attempt().await?;
                let status = wait(client, &before).await?;
                print(&finish(&status)?);
            }
            Verb::Apply { file } => {
                let spool = (file.as_os_str() == "-").then(spool).transpose()?;
                let file = spool.as_ref().map_or(file.as_path(), |spool| spool.path());
                let path = std::path::absolute(file)
                    .with_context(|| format!("finding {}", file.display()))?;
                let path = path.to_str().context("the name of the file is not text")?;
                let before = client.status().await?;
                client.apply(path).await?;
                let status = wait(client, &before).await?;
                print(&finish(&status)?);
            }
            Verb::Reset => client.reset().await?,
            Verb::Watch => watch(client, print).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A bundle from standard input, kept until the update is over.
fn spool() -> Result<tempfile::NamedTempFile> {
    let mut spool = tempfile::Builder::new()
        .prefix("bundle-")
        .tempfile_in(SPOOL)
        .with_context(|| format!("keeping the bundle in {SPOOL} (this takes root)"))?;
    std::io::copy(&mut std::io::stdin().lock(), spool.as_file_mut())
        .context("reading the bundle")?;
    Ok(spool)
}

/// Waits until an update that was asked for after `before` is over.
async fn wait(client: &Client, before: &Status) -> Result<Status> {
    loop {
        let status = client.status().await?;
        let begun = status.attempts > before.attempts || !before.is_over();
        let done = status.operation == "UPDATE_STATUS_UPDATED_NEED_REBOOT";
        if status.is_over() && (begun || done) {
            return Ok(status);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What there is to say, or to complain about, when an update is over.
fn finish(status: &Status) -> Result<String> {
    if status.operation == "UPDATE_STATUS_UPDATED_NEED_REBOOT" {
        let version = status.new_version.as_deref().unwrap_or_default();
        return Ok(format!("Update succeeded -- reboot needed: {version} boots next.\n"));
    }
    match &status.last {
        Some(end) if end.is_success() => Ok(match end {
            End::Nothing(_) => format!("No update available. {}\n", end.sentence()),
            End::Installed { .. } | End::Failed(_) | End::Stopped | End::Discarded => {
                format!("{}\n", end.sentence())
            }
        }),
        Some(end) => bail!("{}", end.sentence()),
        None => bail!("the engine was started anew in the meantime"),
    }
}

async fn watch(client: &Client, print: &mut dyn FnMut(&str)) -> Result<()> {
    let mut seen = String::new();
    loop {
        let lines = client.status().await?.lines();
        if lines != seen {
            print(&lines);
            seen = lines;
        }
        tokio::time::sleep(POLL).await;
    }
}
