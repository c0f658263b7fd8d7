//! One changed byte in /usr on disk, in each of its parts: it is never taken for what was shipped.
//! In the way of the boot it stops the machine, which says so and restarts (so that the loader can
//! fall back); in a file it is an error to who reads that file.

use std::{fs::File, os::unix::fs::FileExt, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use qemu::{Artifacts, Disk, Machine};

use crate::harness;

/// How /init begins to say that it gives up.
const REPORT: &str = "PithOS could not start.";
const WHOLE_REPORT: Duration = Duration::from_secs(10);
/// Ten seconds to read the report, and some for a busy host.
const RESTARTS_WITHIN: Duration = Duration::from_secs(90);

/// Changes one byte of the machine's disk before it starts.
fn start_with_a_changed_byte(name: &str, at: u64) -> Result<Machine> {
    // The disk is made by starting; one that never ran is stopped before the firmware looks.
    let spec = harness::machine(name)?.disk(Disk::Copy).argument("-S").start()?.pull_plug();
    flip(&spec.copied_disk(), at)?;
    let machine = spec.start()?;
    machine.resume()?;
    Ok(machine)
}

fn flip(disk: &Path, at: u64) -> Result<()> {
    let file = File::options().read(true).write(true).open(disk)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x01], at)?;
    Ok(())
}

/// Where the partitions of /usr and of its hash tree start on the disk.
fn usr_and_tree() -> Result<(u64, u64)> {
    let manifest = harness::manifest()?;
    let (usr, tree) = manifest.usr_partitions().context("no /usr partitions in the manifest")?;
    Ok((usr.start_bytes, tree.start_bytes))
}

/// A machine that must not start, must say why, and must try again by itself.
fn is_refused(name: &str, at: u64) -> Result<()> {
    let _seat = harness::seats(1);
    let machine = start_with_a_changed_byte(name, at)?;
    machine.wait_for(REPORT, machine.patience())?;
    for word in ["step:", "/usr", "looked for:", "found:", "what to do:"] {
        machine.wait_for(word, WHOLE_REPORT)?;
    }
    machine.wait_for_reset(RESTARTS_WITHIN)?;
    let said = machine.console().transcript();
    ensure!(!said.contains("Welcome to"), "and yet systemd starts:\n{said}");
    Ok(())
}

#[test]
fn a_changed_superblock_of_the_file_system_is_refused() -> Result<()> {
    // Inside the erofs superblock, which starts at 1024: its checksum.
    is_refused("usr-superblock", usr_and_tree()?.0 + 1024 + 4)
}

#[test]
fn a_changed_superblock_of_the_hash_tree_is_refused() -> Result<()> {
    // The salt in the superblock of dm-verity.
    is_refused("tree-superblock", usr_and_tree()?.1 + 88)
}

#[test]
fn a_changed_hash_in_the_tree_is_refused() -> Result<()> {
    // The first hash of the top of the tree, in the block behind the superblock.
    is_refused("tree", usr_and_tree()?.1 + 4096)
}

#[test]
fn a_changed_byte_of_a_file_is_an_error_to_who_reads_it_and_to_nobody_else() -> Result<()> {
    // A program that the boot does not need.
    const VICTIM: &str = "bin/strace";
    let _seat = harness::seats(1);
    let at = usr_and_tree()?.0 + place_of(VICTIM)?;
    let machine = start_with_a_changed_byte("usr-data", at)?;
    machine.wait_ready()?;
    let read = machine.ssh(&format!("cp /usr/{VICTIM} /var/tmp/copy"))?;
    ensure!(!read.success(), "a changed file is served: {read:?}");
    ensure!(read.stderr.contains("Input/output error"), "{read:?}");
    let run = machine.ssh(&format!("/usr/{VICTIM} --version"))?;
    ensure!(!run.success(), "a changed program runs: {run:?}");
    // Whoever looks after the machine is told, and the rest of it goes on.
    machine.wait_for("is corrupted", WHOLE_REPORT)?;
    let status = machine.ask("sudo veritysetup status usr")?;
    ensure!(status.contains("corrupted"), "{status}");
    let failed = machine.ask("systemctl list-units --state=failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    machine.power_off()?;
    Ok(())
}

/// Where the second block of a file of /usr is in the file system, by erofs-utils.
fn place_of(path: &str) -> Result<u64> {
    let artifacts = Artifacts::find()?;
    let image = artifacts.image()?;
    let manifest = image.manifest.as_ref().context("no manifest")?;
    let start = manifest.usr_partitions().context("no /usr partitions")?.0.start_bytes;
    let output = Command::new(artifacts.program("dump.erofs")?)
        .args(["-e", &format!("--path=/{path}"), &format!("--offset={start}")])
        .arg(&image.raw)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    // A line of the table:  `0: 0.. 135168 | 135168 : 4096.. 139264 | 135168`
    let extent = said.lines().find(|line| line.trim_start().starts_with("0:"));
    let extent =
        extent.with_context(|| format!("dump.erofs shows no extent of {path}:\n{said}"))?;
    let physical = extent.split('|').nth(1).and_then(|part| part.split(':').nth(1));
    let first = physical.and_then(|part| part.split("..").next()).map(str::trim);
    let first: u64 = first.and_then(|n| n.parse().ok()).with_context(|| extent.to_owned())?;
    Ok(first + 4096 + 10)
}
