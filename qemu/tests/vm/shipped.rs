//! A machine as it is shipped: what it is, who gets in, what it runs, and what it remembers.

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use qemu::{Disk, Machine, Report};

use crate::{
    archive,
    harness::{self, laws, laws_of},
    partition,
};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_machine_as_shipped() -> Result<()> {
    let _seat = harness::seats(1);
    let machine = harness::machine("shipped")?.disk(Disk::Copy).start()?;
    let ready = machine.wait_ready()?;
    let report = Report::ask(&machine, &ready, Some(&harness::manifest()?))?;
    ensure!(report.good(), "\n{report}");
    let first_boot = laws(
        &machine,
        laws_of![
            it_boots_by_firmware_and_loader_to_a_login_with_no_failed_unit,
            usr_is_what_the_manifest_says_and_cannot_be_changed,
            the_machine_says_which_version_it_is,
            core_may_look_around_and_become_root,
            ssh_takes_no_password,
            ssh_takes_no_other_key,
            the_console_lets_nobody_in,
            a_container_runs_from_an_archive_without_a_network,
            the_kernel_has_nothing_to_complain_about,
        ],
    );
    let before = RefCell::new(identity(&machine)?);
    remember(&machine)?;
    machine.reboot()?;
    let second_boot = laws(
        &machine,
        &[
            ("what_was_written_to_etc_and_var_is_there_after_a_reboot", &|machine| {
                is_remembered(machine)
            }),
            ("machine_id_and_host_keys_are_the_same_after_a_reboot", &|machine| {
                ensure!(identity(machine)? == *before.borrow());
                Ok(())
            }),
            ("a_second_boot_has_no_failed_unit_either", &no_unit_failed),
        ],
    );
    let off = machine.power_off()?;
    first_boot.and(second_boot).and(a_clean_power_off_leaves_a_clean_root(&off))
}

fn it_boots_by_firmware_and_loader_to_a_login_with_no_failed_unit(machine: &Machine) -> Result<()> {
    no_unit_failed(machine)?;
    let bootctl = machine.ask("sudo bootctl status --no-pager 2>&1")?;
    ensure!(bootctl.contains("systemd-boot"), "bootctl says:\n{bootctl}");
    machine.wait_for("login:", SOON)?;
    Ok(())
}

fn no_unit_failed(machine: &Machine) -> Result<()> {
    let failed = machine.ask("systemctl list-units --state=failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    Ok(())
}

fn usr_is_what_the_manifest_says_and_cannot_be_changed(machine: &Machine) -> Result<()> {
    let source = machine.ask("findmnt -n -o SOURCE,FSTYPE --mountpoint /usr")?;
    let (device, kind) = source.split_once(char::is_whitespace).context("two words")?;
    ensure!(kind.trim() == "erofs", "{source}");
    let name = "$(cat /sys/dev/block/$(mountpoint -d /usr)/dm/name)";
    let status = machine.ask(&format!("sudo veritysetup status {name}"))?;
    let hash = harness::manifest()?.usr.root_hash;
    ensure!(status.contains(&hash), "the manifest says {hash}, the machine:\n{status}");
    for attempt in [
        "touch /usr/lib/x",
        "mount -o remount,rw /usr && touch /usr/lib/x",
        &format!("dd if=/dev/zero of={device} bs=4096 count=1 oflag=direct"),
    ] {
        let output = machine.ssh(&format!("sudo sh -c '{attempt}'"))?;
        ensure!(!output.success(), "`{attempt}` works");
    }
    Ok(())
}

fn the_machine_says_which_version_it_is(machine: &Machine) -> Result<()> {
    let manifest = harness::manifest()?;
    let said = machine
        .ask(". /etc/os-release; echo $ID/$VERSION_ID/$IMAGE_ID/$IMAGE_VERSION/$BUILD_ID")?;
    let words: Vec<&str> = said.split('/').collect();
    let [id, version_id, image_id, image_version, build_id] = words[..] else { bail!("{said}") };
    ensure!((id, image_id) == ("pithos", "pithos"), "{said}");
    ensure!(image_version == manifest.version, "{said}, and not {}", manifest.version);
    ensure!(!version_id.is_empty() && !build_id.is_empty(), "{said}");
    Ok(())
}

fn core_may_look_around_and_become_root(machine: &Machine) -> Result<()> {
    for command in [
        "ping -c 1 -W 10 127.0.0.1",
        "ss -tlnp",
        "ip addr",
        "lsblk",
        "journalctl -n 1",
        "less --version",
        "nano --version",
        "strace -V",
    ] {
        machine.ask(command).with_context(|| command.to_owned())?;
    }
    ensure!(machine.ask("sudo id -u")? == "0");
    Ok(())
}

/// An attempt to get in by the host's ssh with other means than the machine's key.
fn knock(machine: &Machine, user: &str, options: &[&str], password: &str) -> Result<Output> {
    let folder = tempfile::tempdir()?;
    let asked = folder.path().join("askpass");
    fs::write(&asked, format!("#!/bin/sh\necho '{password}'\n"))?;
    fs::set_permissions(&asked, fs::Permissions::from_mode(0o700))?;
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "/dev/null", "-o", "UserKnownHostsFile=/dev/null"]);
    ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "IdentityAgent=none"]);
    ssh.args(["-o", "NumberOfPasswordPrompts=1", "-o", "ConnectTimeout=60"]);
    ssh.args(options).args(["-p", &machine.ssh_port().to_string()]);
    ssh.arg(format!("{user}@127.0.0.1")).arg("id");
    ssh.env("SSH_ASKPASS", asked).env("SSH_ASKPASS_REQUIRE", "force");
    Ok(ssh.output()?)
}

fn is_refused(output: &Output) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(255), "it lets in: {output:?}");
    ensure!(said.contains("Permission denied (publickey)."), "{said}");
    Ok(())
}

fn ssh_takes_no_password(machine: &Machine) -> Result<()> {
    let (password, by_password) =
        ("correct-horse", "PreferredAuthentications=password,keyboard-interactive");
    for user in ["core", "root"] {
        // A password that is right, so that only the door can be what says no.
        machine.ask(&format!("echo {user}:{password} | sudo chpasswd"))?;
        let options = ["-o", by_password, "-o", "PubkeyAuthentication=no"];
        is_refused(&knock(machine, user, &options, password)?).with_context(|| user.to_owned())?;
        machine.ask(&format!("sudo passwd -l {user}"))?;
    }
    Ok(())
}

fn ssh_takes_no_other_key(machine: &Machine) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key").to_string_lossy().into_owned();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    ensure!(keygen.status()?.success(), "{keygen:?}");
    for user in ["core", "root"] {
        let options = ["-i", &key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"];
        is_refused(&knock(machine, user, &options, "")?).with_context(|| user.to_owned())?;
    }
    Ok(())
}

fn the_console_lets_nobody_in(machine: &Machine) -> Result<()> {
    for user in ["core", "root"] {
        machine.console().write_line(user)?;
        machine.wait_for("Password:", SOON)?;
        machine.console().write_line("")?;
        machine.wait_for("Login incorrect", SOON)?;
        machine.wait_for("login:", SOON)?;
    }
    Ok(())
}

fn a_container_runs_from_an_archive_without_a_network(machine: &Machine) -> Result<()> {
    let archive = archive::docker_archive();
    machine.ssh_within("cat > /var/tmp/hello.tar", &archive, SOON)?.text()?;
    for (who, podman) in [("root", "sudo podman"), ("core", "podman"), ("docker", "sudo docker")] {
        let load = format!("{podman} load -q -i /var/tmp/hello.tar");
        machine.ssh(&load)?.text().with_context(|| who.to_owned())?;
        for network in ["--network=none", ""] {
            let command = format!("{podman} run --rm {network} localhost/hello");
            let output = machine.ssh(&command)?;
            ensure!(
                output.stdout == archive::HELLO && output.status == i32::from(archive::STATUS),
                "{who}: {output:?}"
            );
        }
    }
    Ok(())
}

/// Errors in the kernel's log that come with the hardware that QEMU plays.
const HARMLESS: &[&str] = &[];

fn the_kernel_has_nothing_to_complain_about(machine: &Machine) -> Result<()> {
    let log = machine.ask("sudo dmesg --level=emerg,alert,crit,err")?;
    let new: Vec<&str> =
        log.lines().filter(|line| !HARMLESS.iter().any(|known| line.contains(known))).collect();
    ensure!(new.is_empty(), "{}", new.join("\n"));
    Ok(())
}

/// What makes a machine itself: its id and its host keys.
pub(crate) fn identity(machine: &Machine) -> Result<Vec<String>> {
    let id = machine.ask("cat /etc/machine-id")?;
    ensure!(id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()), "machine-id: `{id}`");
    let keys = machine.ask("cat /etc/ssh/ssh_host_*_key.pub")?;
    ensure!(keys.contains("ssh-ed25519 "), "host keys: {keys}");
    // Without the comment, which is the host's name.
    let keys = keys.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned);
    Ok([id].into_iter().chain(keys).collect())
}

fn remember(machine: &Machine) -> Result<()> {
    machine.ask(
        "echo new | sudo tee /etc/new.conf && echo changed | sudo tee -a /etc/hosts \
         && sudo rm /etc/issue && echo kept | sudo tee /var/lib/kept && echo mine > ~/mine",
    )?;
    Ok(())
}

fn is_remembered(machine: &Machine) -> Result<()> {
    let said = machine.ask("cat /etc/new.conf /var/lib/kept ~/mine && tail -n 1 /etc/hosts")?;
    ensure!(said == "new\nkept\nmine\nchanged", "{said}");
    ensure!(!machine.ssh("test -e /etc/issue")?.success(), "what was removed is back");
    Ok(())
}

fn a_clean_power_off_leaves_a_clean_root(off: &qemu::Spec) -> Result<()> {
    let disk = off.copied_disk();
    let table = partition::table(&disk)?;
    let root = table.iter().find(|entry| entry.label == "root").context("a root partition")?;
    let state = partition::ext4(&disk, root)?;
    ensure!(state.clean && !state.needs_recovery, "{state:?}");
    let e2fsck = qemu::Artifacts::find()?.program("e2fsck")?;
    let output = Command::new(e2fsck)
        .arg("-fn")
        .arg(format!("{}?offset={}", disk.display(), root.start))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
