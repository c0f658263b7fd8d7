//! The other disks that a machine may have, each with one thing more that needs a machine of its
//! own. virtio-blk is what everything else boots from; virtio-scsi is in `command`.

use anyhow::{Context, Result, ensure};
use qemu::{Bus, Machine, Report};

use crate::harness;

/// Waits until it has booted and looks at it as a whole.
fn boots(machine: &Machine, disk: &str) -> Result<Report> {
    let ready = machine.wait_ready()?;
    let report = Report::ask(machine, &ready, Some(&harness::manifest()?))?;
    ensure!(report.good(), "\n{report}");
    let found = report.facts.disks.iter().find(|seen| seen.name == disk);
    found.with_context(|| format!("no disk {disk} in\n{report}"))?;
    Ok(report)
}

#[test]
fn it_boots_from_ahci_and_512_mib_of_memory_are_enough() -> Result<()> {
    let _seat = harness::seats(1);
    let machine = harness::machine("ahci")?.bus(Bus::Ahci).memory_mib(512).start()?;
    let report = boots(&machine, "sda")?;
    ensure!(report.facts.memory_total_kib < 512 << 10, "{report}");
    let killed = machine.ssh("sudo dmesg | grep -i 'out of memory'")?;
    ensure!(!killed.success(), "{}", killed.stdout);
    machine.power_off()?;
    Ok(())
}

#[test]
fn it_boots_from_nvme_and_a_grown_disk_gets_all_its_space_into_root() -> Result<()> {
    const SIZE: u64 = 20 << 30;
    let _seat = harness::seats(1);
    let machine = harness::machine("nvme")?.bus(Bus::Nvme).disk_bytes(SIZE).start()?;
    let report = boots(&machine, "nvme0n1")?;
    let disk = &report.facts.disks[0];
    ensure!(disk.size_bytes == SIZE, "{report}");
    let root = disk.partitions.iter().find(|entry| entry.label == "root").context("no root")?;
    let others: u64 = disk.partitions.iter().map(|entry| entry.size_bytes).sum::<u64>();
    // The tables at both ends, the gap before the first partition, the room for two signatures.
    ensure!(SIZE - others < 8 << 20, "{} bytes are in no partition\n{report}", SIZE - others);
    let mounted = report.facts.root.clone().context("no root")?;
    // ext4 counts its own tables as not there.
    ensure!(mounted.size_bytes > root.size_bytes / 100 * 95, "{report}");
    let table = machine.ask("sudo sfdisk --verify /dev/nvme0n1 2>&1")?;
    ensure!(table.contains("No errors detected"), "{table}");
    machine.power_off()?;
    Ok(())
}
