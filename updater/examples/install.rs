//! Installs an update on a disk in a file, and says how long that took and how much memory: for
//! `./pith bench`. Everything but the machine around it is as in the engine.

use std::{
    cell::Cell, collections::BTreeSet, fs, path::PathBuf, sync::atomic::AtomicBool, time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use http_client::Wall;
use updater::{
    attempt::Attempt,
    engine::{End, Event},
    identity::Identity,
    install::machine::{Directory, Machine},
    records::Bad,
    repository::{Brought, Trust},
};

/// Installs what a repository has for a machine that is only files.
#[derive(Parser)]
struct Arguments {
    /// Its disk, a file.
    #[arg(long)]
    disk: PathBuf,
    /// /EFI/Linux of its ESP, a folder.
    #[arg(long)]
    esp: PathBuf,
    /// What it says of itself: usr/lib/os-release, proc/cmdline, etc/machine-id, root.json.
    #[arg(long)]
    machine: PathBuf,
    /// The repository, a folder.
    #[arg(long)]
    repository: PathBuf,
    /// The channel.
    #[arg(long)]
    channel: String,
}

fn main() -> Result<()> {
    let words = Arguments::parse();
    let identity = Identity::read(&words.machine)?;
    let root = identity.root.clone().context("the machine has no root.json")?;
    let state = words.machine.join("state");
    fs::create_dir_all(state.join("tuf"))?;
    let machine = Machine::at(&words.disk, &words.esp, &state)?;
    let (store, source) = (Directory(state.join("tuf")), Brought::open(words.repository)?);
    let (available, fetched) = (Cell::new(None), Cell::new(0));
    let end = Attempt {
        identity: &identity,
        channel: &words.channel,
        trust: Trust { root: &root, built: identity.built, store: &store },
        security_epoch: 0,
        bad: &Bad::default(),
        failing: &BTreeSet::new(),
        source: &source,
        media: &machine,
        clock: &Wall,
        stop: &AtomicBool::new(false),
        tell: &|event| {
            if let Event::Offered { size_bytes, .. } = event {
                available.set(Some(Instant::now()));
                fetched.set(size_bytes);
            }
        },
    }
    .run();
    let (Some(available), End::Installed { .. }) = (available.get(), &end) else {
        bail!("{}", end.sentence());
    };
    let seconds = available.elapsed().as_secs_f64();
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak.and_then(|kib| kib.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    println!(
        "{}",
        serde_json::json!({
            "seconds": seconds, "fetched_bytes": fetched.get(), "peak_bytes": peak << 10
        })
    );
    Ok(())
}
