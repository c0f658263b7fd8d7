//! A machine that is provisioned once more, on disks that were another's: root was forgotten, and the
//! document is a new one.

use anyhow::{Result, ensure};
use qemu::Machine;

use super::{SOON, disk, folder, no_unit_failed, write};
use crate::harness;

/// Both lives have the key of the volume from their document.
const KEY: &str = "data:,correct%20horse";

/// What the machine is first.
const FIRST: &str = r#"
variant: pithos
version: 1.0.0
storage:
  files:
    - path: /etc/first
  disks:
    - device: /dev/disk/by-id/virtio-data
      wipe_table: true
      partitions:
        - {label: kept, number: 1, size_mib: 256}
        - {label: emptied, number: 2, size_mib: 256}
        - {label: other, number: 3, size_mib: 512}
        - {label: safe, number: 4, size_mib: 256}
        - {label: gone, number: 5}
  luks:
    - name: safe
      device: /dev/disk/by-partlabel/safe
      label: SAFE
      key_file: {source: "KEY"}
      options: [--pbkdf, pbkdf2, --pbkdf-force-iterations, "1000"]
  filesystems:
    - {device: /dev/disk/by-partlabel/kept, format: ext4, label: KEPT, path: /var/lib/kept, with_mount_unit: true}
    - {device: /dev/disk/by-partlabel/emptied, format: ext4, path: /var/lib/emptied, with_mount_unit: true}
    - {device: /dev/disk/by-partlabel/other, format: ext4, path: /var/lib/other, with_mount_unit: true}
    - {device: /dev/disk/by-partlabel/gone, format: ext4}
    - {device: /dev/mapper/safe, format: ext4, path: /var/lib/safe, with_mount_unit: true}
"#;

/// What it is then: one file system is taken over, one is wiped, one becomes of another kind, the
/// volume is opened with the same key, and the last partition goes.
const SECOND: &str = r#"
variant: pithos
version: 1.0.0
storage:
  files:
    - path: /etc/second
  disks:
    - device: /dev/disk/by-id/virtio-data
      partitions:
        - {label: kept, number: 1, size_mib: 256}
        - {number: 5, should_exist: false, wipe_partition_entry: true}
  luks:
    - name: safe
      device: /dev/disk/by-partlabel/safe
      label: SAFE
      key_file: {source: "KEY"}
  filesystems:
    - {device: /dev/disk/by-partlabel/kept, format: ext4, label: KEPT, path: /var/lib/kept, with_mount_unit: true}
    - {device: /dev/disk/by-partlabel/emptied, format: ext4, wipe_filesystem: true, path: /var/lib/emptied, with_mount_unit: true}
    - {device: /dev/disk/by-partlabel/other, format: xfs, WIPE, path: /var/lib/other, with_mount_unit: true}
    - {device: /dev/mapper/safe, format: ext4, path: /var/lib/safe, with_mount_unit: true}
"#;

const PLACES: [&str; 4] = ["kept", "emptied", "other", "safe"];

#[test]
fn a_machine_whose_root_was_forgotten_becomes_another_on_the_same_disks() -> Result<()> {
    let _seat = harness::seats(1);
    let folder = folder()?;
    let data = disk(folder.path(), "data", 2 << 30)?;
    let document = write(folder.path(), "machine.bu", &FIRST.replace("KEY", KEY))?;
    let spec = harness::machine("provision-anew")?.document(&document);
    let machine = spec.spare_disk("data", &data).start()?;
    machine.wait_ready()?;
    for place in PLACES {
        machine.ask(&format!("echo mine | sudo tee /var/lib/{place}/mark"))?;
    }
    let before = uuids(&machine)?;
    let id = machine.ask("cat /etc/machine-id")?;
    machine.ask("sudo sfdisk --quiet --force --no-reread --delete /dev/vda 6")?;
    let spec = machine.power_off()?;

    println!("an ext4 that shall be xfs is not made one without a word");
    let second = SECOND.replace("KEY", KEY);
    write(folder.path(), "machine.bu", &second.replace(" WIPE,", ""))?;
    let machine = spec.start()?;
    machine.wait_for("$.storage.filesystems.2", machine.patience())?;
    machine.wait_for("Stopped", SOON)?;
    let spec = machine.pull_plug();

    println!("with the word it is");
    write(folder.path(), "machine.bu", &second.replace("WIPE", "wipe_filesystem: true"))?;
    let machine = spec.start()?;
    machine.wait_ready()?;
    let marks = PLACES.map(|place| format!("/var/lib/{place}/mark")).join(" ");
    let found = machine.ask(&format!("ls {marks} 2>/dev/null || true"))?;
    ensure!(found == "/var/lib/kept/mark\n/var/lib/safe/mark", "{found}");
    let kinds = PLACES.map(|place| format!("findmnt -no FSTYPE /var/lib/{place}")).join("; ");
    let kinds = machine.ask(&kinds)?;
    ensure!(kinds == "ext4\next4\nxfs\next4", "{kinds}");
    let after = uuids(&machine)?;
    let same: Vec<bool> =
        before.iter().zip(&after).map(|(before, after)| before == after).collect();
    ensure!(same == [true, false, false, true], "{before:?}, and then {after:?}");
    ensure!(machine.ask("ls /dev/vdb?")?.ends_with("/dev/vdb4"), "the fifth partition is there");
    // Root is a fresh one: another machine, as far as anybody can tell.
    ensure!(machine.ask("ls /etc/first /etc/second 2>/dev/null || true")? == "/etc/second");
    ensure!(machine.ask("cat /etc/machine-id")? != id);
    no_unit_failed(&machine)?;
    machine.power_off()?;
    Ok(())
}

/// UUIDs of what is in the first four partitions.
fn uuids(machine: &Machine) -> Result<Vec<String>> {
    let said =
        machine.ask("for n in 1 2 3 4; do sudo blkid -p -s UUID -o value /dev/vdb$n; done")?;
    let uuids: Vec<String> = said.lines().map(str::to_owned).collect();
    ensure!(uuids.len() == 4, "{said}");
    Ok(uuids)
}
