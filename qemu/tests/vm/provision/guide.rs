//! The documents of docs/first-boot.md, on one machine: each is a child that is merged, as it
//! stands. The kernel's arguments (02) and cloud-config (10) have tests of their own.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use qemu::{Machine, Spec};

use super::{HOST, disk, folder, no_unit_failed, server, write};
use crate::harness::{self, laws, laws_of};

const DOCUMENTS: &[&str] = &[
    "01-ssh-key.bu",
    "03-network.bu",
    "04-units.bu",
    "05-container.bu",
    "06-data-disk.bu",
    "07-raid-luks.bu",
    "08-root.bu",
    "09-merged.bu",
];

#[test]
fn the_documents_of_the_guide_make_a_machine() -> Result<()> {
    let _seat = harness::seats(1);
    let folder = folder()?;
    let mut text = "variant: pithos\nversion: 1.0.0\nignition:\n  config:\n    merge:\n".to_owned();
    for name in DOCUMENTS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/first-boot").join(name);
        let child = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let port = server(0, child)?;
        text.push_str(&format!("      - source: http://{HOST}:{port}/{name}\n"));
    }
    let document = write(folder.path(), "guide.bu", &text)?;
    let mut spec = Spec::named("test-guide")?.document(&document);
    for (name, mib) in [("data", 2048), ("one", 256), ("two", 256)] {
        spec = spec.spare_disk(name, &disk(folder.path(), name, mib << 20)?);
    }
    let machine = spec.start()?;
    machine.wait_ready()?;
    let all = laws_of![
        it_has_its_name_its_address_and_its_words,
        its_units_run_or_do_not,
        a_container_runs_from_its_quadlet,
        the_data_disk_is_mounted_and_swapped_to,
        the_mirror_is_encrypted_and_holds_its_file,
        root_is_xfs_and_leaves_the_rest_to_containers,
        no_unit_failed,
    ];
    let first = laws(&machine, all);
    machine.reboot()?;
    let second = laws(&machine, all);
    machine.power_off()?;
    first.and(second)
}

fn it_has_its_name_its_address_and_its_words(machine: &Machine) -> Result<()> {
    ensure!(machine.ask("hostname")? == "node-one");
    let addresses = machine.ask("ip -4 -o address show scope global")?;
    ensure!(addresses.contains("10.0.2.15/24") && !addresses.contains("dynamic"), "{addresses}");
    ensure!(machine.ask("cat /etc/motd")?.contains("A machine of the shop."));
    let keys = machine.ask("sudo cat /home/core/.ssh/authorized_keys.d/ignition")?;
    ensure!(keys.contains("you@example.org"), "{keys}");
    Ok(())
}

fn its_units_run_or_do_not(machine: &Machine) -> Result<()> {
    ensure!(machine.ask("systemctl is-active heartbeat.timer")? == "active");
    let said =
        machine.ask("systemctl is-enabled fstrim.timer systemd-timesyncd.service || true")?;
    ensure!(said == "disabled\nmasked", "{said}");
    ensure!(machine.ask("systemctl show -P MemoryMax ssh.service")? == "268435456");
    Ok(())
}

fn a_container_runs_from_its_quadlet(machine: &Machine) -> Result<()> {
    ensure!(machine.ask("systemctl is-active clock.service")? == "active");
    // `date` says what year it is.
    machine.ask(
        "timeout 60 sh -c 'until sudo journalctl -b -u clock -o cat | grep -q UTC; do sleep 1; done'",
    )?;
    let names = machine.ask("sudo podman ps --format '{{.Names}} {{.Status}}'")?;
    ensure!(names.contains("clock") && names.contains("Up"), "{names}");
    Ok(())
}

fn the_data_disk_is_mounted_and_swapped_to(machine: &Machine) -> Result<()> {
    let kind = |path| machine.ask(&format!("findmnt -no FSTYPE,OPTIONS {path}"));
    let (db, files) = (kind("/var/lib/db")?, kind("/var/lib/files")?);
    ensure!(db.starts_with("xfs"), "{db}");
    ensure!(files.starts_with("ext4") && files.contains("noatime"), "{files}");
    let swap = machine.ask("/usr/sbin/swapon --noheadings --show=NAME,SIZE")?;
    ensure!(swap.contains("256M"), "{swap}");
    ensure!(machine.ask("sudo stat -c '%U %G %a' /var/lib/db/main")? == "db db 700");
    Ok(())
}

fn the_mirror_is_encrypted_and_holds_its_file(machine: &Machine) -> Result<()> {
    let array = machine.ask("cat /proc/mdstat")?;
    ensure!(array.contains("raid1") && array.contains("[2/2]"), "{array}");
    let status = machine.ask("sudo cryptsetup status safe")?;
    ensure!(status.contains("type:    LUKS2") && status.contains("/dev/md"), "{status}");
    ensure!(machine.ask("cat /var/lib/safe/README")?.contains("both disks"));
    ensure!(machine.ask("findmnt -no SOURCE /var/lib/safe")? == "/dev/mapper/safe");
    Ok(())
}

fn root_is_xfs_and_leaves_the_rest_to_containers(machine: &Machine) -> Result<()> {
    ensure!(machine.ask("findmnt -no FSTYPE,SIZE / | tr -s ' '")?.starts_with("xfs"));
    let parts = machine.ask("lsblk -bnro PARTLABEL,SIZE /dev/vda")?;
    ensure!(parts.contains(&format!("root {}", 4096_u64 << 20)), "{parts}");
    ensure!(machine.ask("findmnt -no FSTYPE /var/lib/containers")? == "xfs");
    ensure!(parts.lines().any(|line| line.starts_with("containers ")), "{parts}");
    Ok(())
}
