//! The words of the command line.

use std::{num::NonZeroU64, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp as Time;
use layout::Version;

use crate::repository::{Lifetimes, ROLES};

/// Makes releases of images of PithOS, signs them and puts them into a repository: a folder of
/// static files for any HTTP server.
#[derive(Debug, Parser)]
#[command(name = "update-publish", version)]
#[command(after_help = "\
From nothing to a fleet:
  update-publish keys new root.key          and so for targets.key and online.key
  update-publish init repo --root root.key --targets targets.key \\
      --snapshot online.key --timestamp online.key
  update-publish add repo build/image --channel alpha --key targets.key --key online.key
  update-publish promote repo 0.1.0 --from alpha --to stable --usual-from 2026-12-01T08:00:00Z \\
      --key targets.key --key online.key
  update-publish refresh repo --key online.key    every day")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Report in JSON, on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make keys, and show them.
    #[command(subcommand)]
    Keys(Keys),
    /// Begin a repository: who may sign what.
    Init(Init),
    /// Stage a new version of the root: other keys, other thresholds.
    #[command(after_help = "\
Examples:
  update-publish rotate repo --add timestamp=new.key --remove timestamp=old.key.pub --key root.key
  update-publish rotate repo --add root=b.pub --add root=c.pub --threshold root=2 --key a.key")]
    Rotate(Rotate),
    /// Sign a file of metadata, anywhere: for keys that never meet the repository.
    #[command(after_help = "\
Example:
  cp repo/staged/root.json /media/stick/     and on the machine that has the key:
  update-publish sign /media/stick/root.json --key root-2.key")]
    Sign(Sign),
    /// Take over signatures of what is staged, and publish if they are enough.
    AddSignature(AddSignature),
    /// Add a release of an image, and put it into a channel.
    #[command(after_help = "\
Examples:
  update-publish add repo build/image --channel alpha --key targets.key --key online.key
  update-publish add repo build/image --channel stable --usual-from 2026-12-01T08:00:00Z ...")]
    Add(Add),
    /// Take a release over from one channel into another.
    Promote(Promote),
    /// Say when a release opens to how many machines.
    #[command(after_help = "\
Examples:
  update-publish waves repo stable 0.2.0 --usual-from 2026-12-01T08:00:00Z --key ...
  update-publish waves repo stable 0.2.0 --wave 2026-12-01T08:00:00Z=10 \\
      --wave 2026-12-02T08:00:00Z=100 --key ...
  update-publish waves repo stable 0.2.0 --key ...    to all machines, now")]
    Waves(Waves),
    /// Stop a release for now.
    Pause(Stop),
    /// Open a paused release again.
    Resume(Entry),
    /// Stop a release for good.
    Withdraw(Stop),
    /// Make a release a barrier: older machines have to go through it.
    Barrier(Barrier),
    /// Say that there is no way on from a version.
    DeadEnd(Stop),
    /// Send the machines of one version back to another.
    Downgrade(Downgrade),
    /// Print a signature that an image was built here, too (for rebuilders).
    Countersign(Countersign),
    /// Add such signatures to a release.
    AddCountersignature(AddCountersignature),
    /// Put a release into one file, for machines without a network.
    #[command(after_help = "\
Examples:
  update-publish bundle repo stable.tar --channel stable
  update-publish bundle repo small.tar --channel stable --from 0.1.0-202611211553
  ssh core@HOST sudo update-engine-client apply - < stable.tar")]
    Bundle(Bundle),
    /// Show what operators asked an update-server for.
    #[command(after_help = "\
Example:
  update-publish requests --server http://127.0.0.1:8081")]
    Requests(Requests),
    /// Carry out what they asked for: sign it, publish it, and tell the server.
    #[command(after_help = "\
Example:
  update-publish carry-out repo 7-0123456789abcdef --server http://127.0.0.1:8081 --token token \\
      --key targets.key --key online.key")]
    CarryOut(CarryOut),
    /// Tell the server that it will not be done.
    Refuse(Refuse),
    /// Sign anew what would expire, and the timestamp in any case.
    Refresh(Refresh),
    /// Show what is in a repository.
    Status(Status),
    /// Read everything in a repository as a machine would.
    Check(Status),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make an ed25519 key: FILE, and its public half FILE.pub.
    New {
        /// Where to.
        file: PathBuf,
    },
    /// Show the name and the public half of keys.
    Show {
        /// Private or public ones.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// A repository, and what a change to it is signed with.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// A private key to sign with. Which of them sign what is said by the root.
    #[arg(long = "key", value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) lifetimes: Lifetimes,
}

#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// The repository.
    pub(crate) repository: PathBuf,
    /// The file to write.
    pub(crate) file: PathBuf,
    /// The channel that the machines follow.
    #[arg(long)]
    pub(crate) channel: String,
    /// A release; otherwise the newest of the channel.
    #[arg(long)]
    pub(crate) version: Option<Version>,
    /// Put patches for machines that run this version into it, too. Whole segments always are.
    #[arg(long, value_name = "VERSION")]
    pub(crate) from: Vec<Version>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// A folder that is not there yet, or empty.
    pub(crate) repository: PathBuf,
    /// A key of the root, private or public.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) root: Vec<PathBuf>,
    /// A key of channels and releases.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) targets: Vec<PathBuf>,
    /// A key of the snapshot.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) snapshot: Vec<PathBuf>,
    /// A key of the timestamp.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) timestamp: Vec<PathBuf>,
    /// How many keys of a role have to sign: `root=2`. One, if it is not said.
    #[arg(long, value_name = "ROLE=N")]
    pub(crate) threshold: Vec<Of<NonZeroU64>>,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The repository.
    pub(crate) repository: PathBuf,
    /// A key that a role gets.
    #[arg(long, value_name = "ROLE=FILE")]
    pub(crate) add: Vec<Of<PathBuf>>,
    /// A key that a role loses: its file, or its name.
    #[arg(long, value_name = "ROLE=FILE|ID")]
    pub(crate) remove: Vec<Of<PathBuf>>,
    /// How many keys of a role have to sign.
    #[arg(long, value_name = "ROLE=N")]
    pub(crate) threshold: Vec<Of<NonZeroU64>>,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The file.
    pub(crate) file: PathBuf,
    /// A private key to sign with.
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub(crate) keys: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AddSignature {
    /// The repository.
    pub(crate) repository: PathBuf,
    /// Files that were signed elsewhere; none to publish what is signed already.
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// From when on a release is open to how many.
#[derive(Debug, Args)]
pub(crate) struct Opening {
    /// The usual waves from then on: 1 % at once, 5 % after an hour, 15 % after 5 hours, 40 % after
    /// a day, 60 % after three, 90 % after a week, all after two.
    #[arg(long, value_name = "TIME", conflicts_with = "wave")]
    pub(crate) usual_from: Option<Time>,
    /// So many times slower than usual.
    #[arg(long, value_name = "N", requires = "usual_from", default_value_t = 1)]
    pub(crate) slower: u32,
    /// A wave: from then on, so many machines of a hundred.
    #[arg(long, value_name = "TIME=PERCENT")]
    pub(crate) wave: Vec<WaveAt>,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The repository.
    pub(crate) repository: PathBuf,
    /// What `image build` made: build/image.
    pub(crate) image: PathBuf,
    /// The channel.
    #[arg(long)]
    pub(crate) channel: String,
    /// Machines that have run this never go back to a lower one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) security_epoch: u32,
    /// Make deltas against so many of the last releases.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) deltas: usize,
    /// zstd's level for whole segments.
    #[arg(long, value_name = "LEVEL", default_value_t = 19, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub(crate) full_level: i32,
    /// zstd's level for patches.
    #[arg(long, value_name = "LEVEL", default_value_t = 19, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub(crate) patch_level: i32,
    /// Somebody who builds independently: their public key.
    #[arg(long, value_name = "FILE")]
    pub(crate) rebuilder: Vec<PathBuf>,
    /// So many of them have to have built the same before a machine takes the release.
    #[arg(long, value_name = "N", requires = "rebuilder")]
    pub(crate) rebuilders: Option<u32>,
    #[command(flatten)]
    pub(crate) opening: Opening,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// The repository.
    pub(crate) repository: PathBuf,
    /// The release.
    pub(crate) version: Version,
    /// The channel that has it.
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) from: String,
    /// The channel that gets it.
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) opening: Opening,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// A release in a channel.
#[derive(Debug, Args)]
pub(crate) struct Entry {
    /// The repository.
    pub(crate) repository: PathBuf,
    /// The channel.
    pub(crate) channel: String,
    /// The release.
    pub(crate) version: Version,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Args)]
pub(crate) struct Waves {
    #[command(flatten)]
    pub(crate) entry: Entry,
    #[command(flatten)]
    pub(crate) opening: Opening,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) entry: Entry,
    /// Why: operators read it.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Barrier {
    #[command(flatten)]
    pub(crate) entry: Entry,
    /// Take the barrier away.
    #[arg(long)]
    pub(crate) remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Downgrade {
    #[command(flatten)]
    pub(crate) entry: Entry,
    /// The version to go back to.
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Version,
}

#[derive(Debug, Args)]
pub(crate) struct Countersign {
    /// What `image build` made: build/image.
    pub(crate) image: PathBuf,
    /// The rebuilder's private key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct AddCountersignature {
    #[command(flatten)]
    pub(crate) entry: Entry,
    /// What `update-publish countersign` printed.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Requests {
    /// The update-server, as operators reach it.
    #[arg(long, value_name = "URL")]
    pub(crate) server: String,
}

/// An update-server that is told something.
#[derive(Debug, Args)]
pub(crate) struct Telling {
    #[command(flatten)]
    pub(crate) of: Requests,
    /// The file with its token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CarryOut {
    /// The repository.
    pub(crate) repository: PathBuf,
    /// Names of requests, as `requests` lists them.
    #[arg(required = true)]
    pub(crate) requests: Vec<String>,
    #[command(flatten)]
    pub(crate) telling: Telling,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Args)]
pub(crate) struct Refuse {
    /// Names of requests, as `requests` lists them.
    #[arg(required = true)]
    pub(crate) requests: Vec<String>,
    /// Why: operators read it.
    #[arg(long)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) telling: Telling,
}

#[derive(Debug, Args)]
pub(crate) struct Refresh {
    /// The repository.
    pub(crate) repository: PathBuf,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The repository.
    pub(crate) repository: PathBuf,
}

/// `ROLE=VALUE`.
#[derive(Clone, Debug)]
pub(crate) struct Of<T> {
    pub(crate) role: String,
    pub(crate) value: T,
}

impl<T: FromStr> FromStr for Of<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || format!("expected ROLE=VALUE, ROLE one of {}", ROLES.join(" "));
        let (role, value) = text.split_once('=').ok_or_else(expected)?;
        if !ROLES.contains(&role) {
            return Err(expected());
        }
        let value =
            value.parse().map_err(|_| format!("`{value}` cannot be the value of {role}"))?;
        Ok(Self { role: role.to_owned(), value })
    }
}

/// `TIME=PERCENT`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaveAt(pub(crate) payload::channel::Wave);

impl FromStr for WaveAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || "expected TIME=PERCENT, such as 2026-12-01T08:00:00Z=10".to_owned();
        let (time, percent) = text.rsplit_once('=').ok_or_else(expected)?;
        let from = time.parse().map_err(|_| expected())?;
        match percent.parse() {
            Ok(percent @ 0..=100) => Ok(Self(payload::channel::Wave { from, percent })),
            _ => Err(expected()),
        }
    }
}
