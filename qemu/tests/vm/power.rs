//! Power that goes away at bad moments.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use qemu::Disk;

use crate::{harness, partition};

#[test]
fn pulling_the_plug_in_the_middle_of_writes_does_not_stop_the_next_boot() -> Result<()> {
    let _seat = harness::seats(1);
    let machine = harness::machine("plug")?.start()?;
    machine.wait_ready()?;
    machine.ask("echo safe | sudo tee /etc/safe /var/lib/safe && sync")?;
    // Files that come, grow and go, and the journal with them.
    machine.ask(
        "sudo systemd-run --unit=writer sh -c 'while :; do n=$((n + 1)); \
         dd if=/dev/urandom of=/var/lib/busy-$((n % 7)) bs=64k count=40 conv=fsync; \
         cp -a /etc/ssh /etc/busy-$n; rm -rf /etc/busy-$((n - 3)); done'",
    )?;
    thread::sleep(Duration::from_secs(5));
    ensure!(machine.ask("systemctl is-active writer")? == "active", "nobody writes");
    let machine = machine.pull_plug().start()?;
    machine.wait_ready()?;
    ensure!(machine.ask("cat /etc/safe /var/lib/safe")? == "safe\nsafe");
    let failed = machine.ask("systemctl list-units --state=failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    machine.power_off()?;
    Ok(())
}

#[test]
fn pulling_the_plug_while_root_is_made_makes_it_anew() -> Result<()> {
    let _seat = harness::seats(1);
    let machine = harness::machine("half-made")?.disk(Disk::Copy).start()?;
    let disk = machine.folder().join("disk.raw");
    let (start, limit) = (Instant::now(), machine.patience());
    // Written by the guest, visible to the host at once: the same pages of memory.
    let unfinished = loop {
        let last = partition::table(&disk)?.pop().context("an empty table")?;
        match last.label.as_str() {
            "root-unfinished" => break last,
            "root" => bail!("root was never marked as unfinished while it was made"),
            _ => machine.still_runs()?,
        }
        ensure!(
            start.elapsed() < limit,
            "{}",
            machine
                .about(qemu::Error::TimedOut { what: "waiting for root to be made".into(), limit })
        );
        thread::sleep(Duration::from_millis(5));
    };
    let machine = machine.pull_plug().start()?;
    machine.wait_ready()?;
    let table = partition::table(&disk)?;
    let root: Vec<_> = table.iter().filter(|entry| entry.label.starts_with("root")).collect();
    ensure!(root.len() == 1 && root[0].label == "root", "{table:?}");
    ensure!((root[0].start, root[0].bytes) == (unfinished.start, unfinished.bytes), "{table:?}");
    let failed = machine.ask("systemctl list-units --state=failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    machine.power_off()?;
    Ok(())
}
