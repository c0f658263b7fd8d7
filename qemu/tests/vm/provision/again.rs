//! First boots of a machine that has been another one: arguments of the kernel, and disks with
//! something on them. Root is taken away in between, as docs/first-boot.md says.

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
WIPE
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
fn a_machine_that_begins_anew_keeps_what_the_document_describes() -> Result<()> {
    let _seat = harness::seats(1);
    let folder = folder()?;
    let data = disk(folder.path(), "data", 1 << 30)?;
    let first = document(
        "should_exist: [panic=31, \"transparent_hugepage=madvise\"]",
        &FILESYSTEMS.replace("WIPE\n", ""),
    );
    let path = write(folder.path(), "machine.bu", &first)?;
    let spec = harness::machine("provision-again")?.document(&path).spare_disk("data", &data);
    let machine = spec.start()?;
    machine.wait_ready()?;
    arguments_are_there_after_one_restart(&machine, 2)?;
    ensure!(holds(&machine)? == "btrfs TREE\nvfat EXCHANGE 2E24-EC82\nswap SWAP 7f2f5b3c");
    let tree = uuid_of_tree(&machine)?;
    machine.ask("echo old | sudo tee /var/lib/tree/kept /var/lib/exchange/kept /var/lib/gone")?;

    // An argument goes, and what is on the tree; all else on the disk is described as it is.
    let second = document(
        "should_not_exist: [panic=31]",
        &FILESYSTEMS.replace("WIPE", "      wipe_filesystem: true"),
    );
    write(folder.path(), "machine.bu", &second)?;
    begin_anew(&machine)?;
    machine.wait_ready()?;
    let words = machine.ask("cat /proc/cmdline")?;
    ensure!(!words.contains("panic=31"), "{words}");
    ensure!(words.contains("transparent_hugepage=madvise"), "{words}");
    ensure!(boots(&machine) == 4, "{} boots instead of one more restart", boots(&machine));
    ensure!(holds(&machine)? == "btrfs TREE\nvfat EXCHANGE 2E24-EC82\nswap SWAP 7f2f5b3c");
    ensure!(uuid_of_tree(&machine)? != tree, "the tree was not made anew");
    ensure!(machine.ask("cat /var/lib/exchange/kept")? == "old");
    let gone = machine.ask("ls /var/lib/tree/kept /var/lib/gone 2>&1 || true")?;
    ensure!(gone.matches("No such file").count() == 2, "{gone}");
    no_unit_failed(&machine)?;

    // What is described as something else is refused, before anything is done.
    let third = FILESYSTEMS.replace("EXCHANGE", "OTHER").replace("WIPE\n", "");
    write(folder.path(), "machine.bu", &document("should_exist: []", &third))?;
    begin_anew(&machine)?;
    machine.wait_for("holds vfat `EXCHANGE` (2E24-EC82), but vfat label `OTHER`", SOON * 10)?;
    machine.wait_for("$.storage.filesystems.1", SOON)?;
    machine.wait_for("set wipeFilesystem: true to replace it", SOON)?;
    machine.wait_for("Stopped", SOON)?;
    Ok(())
}

/// Takes root away, and starts.
fn begin_anew(machine: &Machine) -> Result<()> {
    machine.ask("sudo sfdisk --quiet --force --no-reread --no-tell-kernel --delete /dev/vda 6")?;
    machine.ask("sudo sync")?;
    machine.reset()?;
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

fn uuid_of_tree(machine: &Machine) -> Result<String> {
    Ok(machine.ask("sudo blkid -p -s UUID -o value /dev/vdb1")?)
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
