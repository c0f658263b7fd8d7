//! First boots with arguments of the kernel, with file systems of every kind, and with what the
//! image has no tool for.

use anyhow::{Result, ensure};
use qemu::Machine;

use super::{SOON, disk, folder, no_unit_failed, write};
use crate::harness;

/// What the firmware says once in each boot.
const BOOT: &str = "BdsDxe: starting";

const FILESYSTEMS: &str = "\
storage:
  disks:
    - device: /dev/disk/by-id/virtio-data
      partitions:
        - {label: tree, number: 1, size_mib: 512}
        - {label: exchange, number: 2, size_mib: 128}
        - {label: swap, number: 3}
  filesystems:
    - device: /dev/disk/by-partlabel/tree
      format: btrfs
      label: TREE
      path: /var/lib/tree
      with_mount_unit: true
    - device: /dev/disk/by-partlabel/exchange
      format: vfat
      label: EXCHANGE
      uuid: 2E24-EC82
      path: /var/lib/exchange
      with_mount_unit: true
    - device: /dev/disk/by-partlabel/swap
      format: swap
      label: SWAP
      uuid: 7f2f5b3c-58a5-4f39-9a86-d0e54e4ab5d2
      with_mount_unit: true
";

fn document(arguments: &str, filesystems: &str) -> String {
    format!("variant: pithos\nversion: 1.0.0\nkernel_arguments:\n  {arguments}\n{filesystems}")
}

#[test]
fn arguments_take_one_more_start_and_every_kind_of_file_system_is_made() -> Result<()> {
    let _seat = harness::seats(1);
    let folder = folder()?;
    let data = disk(folder.path(), "data", 1 << 30)?;
    let first = document("should_exist: [panic=31, \"transparent_hugepage=madvise\"]", FILESYSTEMS);
    let path = write(folder.path(), "machine.bu", &first)?;
    let spec = harness::machine("provision-again")?.document(&path).spare_disk("data", &data);
    let machine = spec.start()?;
    machine.wait_ready()?;
    arguments_are_there_after_one_restart(&machine, 2)?;
    ensure!(holds(&machine)? == "btrfs TREE\nvfat EXCHANGE 2E24-EC82\nswap SWAP 7f2f5b3c");
    machine.power_off()?;
    Ok(())
}

fn boots(machine: &Machine) -> usize {
    machine.console().transcript().matches(BOOT).count()
}

fn arguments_are_there_after_one_restart(machine: &Machine, expected: usize) -> Result<()> {
    let words = machine.ask("cat /proc/cmdline")?;
    ensure!(
        words.contains(" panic=31") && words.contains("transparent_hugepage=madvise"),
        "{words}"
    );
    ensure!(boots(machine) == expected, "{} boots", boots(machine));
    let addon = machine.ask("sudo ls /boot/loader/addons")?;
    ensure!(addon == "ignition.addon.efi", "{addon}");
    no_unit_failed(machine)
}

/// What is on the three partitions, and that it is in use.
fn holds(machine: &Machine) -> Result<String> {
    let mounted = machine.ask(
        "findmnt -no FSTYPE /var/lib/tree; findmnt -no FSTYPE /var/lib/exchange; \
         /usr/sbin/swapon --noheadings --show=TYPE",
    )?;
    ensure!(mounted == "btrfs\nvfat\npartition", "{mounted}");
    Ok(machine.ask(
        "for part in 1 2 3; do sudo blkid -p -o export /dev/vdb$part > /tmp/found; . /tmp/found; \
         echo $TYPE $LABEL $UUID; done | sed -e 's/^btrfs TREE .*/btrfs TREE/' -e 's/-58a5.*//'",
    )?)
}

#[test]
fn what_the_image_has_no_tool_for_is_refused_before_anything_is_done() -> Result<()> {
    let _seat = harness::seats(1);
    let folder = folder()?;
    let data = disk(folder.path(), "data", 64 << 20)?;
    let document = write(
        folder.path(),
        "clevis.bu",
        "variant: pithos\nversion: 1.0.0\nstorage:\n  luks:\n    - name: secret\n      \
         device: /dev/disk/by-id/virtio-data\n      clevis: {tpm2: true}\n",
    )?;
    let spec = harness::machine("provision-clevis")?.document(&document).spare_disk("data", &data);
    let machine = spec.start()?;
    machine.wait_for("this image comes without /usr/bin/clevis", machine.patience())?;
    machine.wait_for(":5:7, $.storage.luks.0", SOON)?;
    machine.wait_for("Stopped", SOON)?;
    drop(machine.pull_plug());
    let bytes = std::fs::read(&data)?;
    ensure!(bytes.iter().all(|byte| *byte == 0), "the disk was written to");
    Ok(())
}
