//! First boots for which the network is late, gone, or brings something else.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use qemu::{Disk, Spec};
use sha2::{Digest, Sha256};

use super::{HOST, SOON, folder, is_in_the_report, no_unit_failed, server, write};
use crate::{archive::hex, harness};

#[test]
fn a_network_that_answers_after_twenty_seconds_is_waited_for() -> Result<()> {
    let _seat = harness::seats(1);
    let (folder, port) = (folder()?, server(0, super::CHILD)?);
    let text = format!(
        "variant: pithos\nversion: 1.0.0\nignition:\n  config:\n    merge:\n      \
         - source: http://{HOST}:{port}/child.ign\n"
    );
    let document = write(folder.path(), "late.bu", &text)?;
    let machine = Spec::named("test-provision-late")?.document(&document).deaf().start()?;
    // Messages 1 to 5 are sent in the first fifteen seconds.
    machine.wait_for("asking by DHCP, message 5", machine.patience())?;
    thread::sleep(Duration::from_secs(5));
    machine.let_through()?;
    machine.wait_ready()?;
    ensure!(machine.ask("cat /etc/child")? == "from afar");
    let log = machine.ask("sudo journalctl -b -t ignition -o cat")?;
    ensure!(log.contains("offers 10.0.2.15") && log.contains("network: up after"), "{log}");
    no_unit_failed(&machine)?;
    machine.power_off()?;
    Ok(())
}

#[test]
fn what_cannot_be_fetched_stops_the_machine_and_is_had_by_a_later_boot() -> Result<()> {
    let _seat = harness::seats(1);
    let (folder, port) = (folder()?, server(0, "the real thing")?);
    let document = |hash: &str| {
        let text = format!(
            "variant: pithos\nversion: 1.0.0\nstorage:\n  files:\n    - path: /etc/first\n    \
             - path: /etc/thing\n      contents:\n        source: http://{HOST}:{port}/thing\n        \
             verification:\n          hash: sha256-{hash}\n"
        );
        write(folder.path(), "thing.bu", &text)
    };
    let wrong = "0".repeat(64);
    let spec = Spec::named("test-provision-unfetched")?.disk(Disk::Copy);
    let machine = spec.document(&document(&wrong)?).start()?;
    machine.wait_for("PithOS could not start", machine.patience())?;
    machine.wait_for(&format!("sha256-{wrong}"), SOON)?;
    machine.wait_for("$.storage.files.1", SOON)?;
    machine.wait_for("Stopped", SOON)?;
    is_in_the_report(&machine, &[r#""stage": "files""#, r#""path": "$.storage.files.1"#, &wrong])?;

    // The document is mended, and there is no network: the boot ends, as it was told to.
    document(&hex(&Sha256::digest("the real thing")))?;
    let spec = machine.pull_plug().deaf().kernel_arguments("pithos.network-timeout=8");
    let machine = spec.start()?;
    machine.wait_for("no network within 8 s; ", machine.patience())?;
    machine.wait_for("DHCP messages sent and 0 heard", SOON)?;
    machine.wait_for("Stopped", SOON)?;
    is_in_the_report(&machine, &["no network within 8 s", &format!("http://{HOST}:{port}/thing")])?;
    let words = "pithos.network-timeout=8 pithos.on-failure=reboot";
    let machine = machine.pull_plug().kernel_arguments(words).start()?;
    machine.wait_for("no network within 8 s; ", machine.patience())?;
    machine.wait_for_reset(machine.patience())?;
    machine.let_through()?;
    machine.wait_ready()?;
    ensure!(machine.ask("cat /etc/thing")? == "the real thing");
    let reports = machine.ask("sudo ls /boot/pithos 2>&1 || true")?;
    ensure!(!reports.contains("first-boot-failed"), "{reports}");
    no_unit_failed(&machine)?;
    machine.power_off()?;
    Ok(())
}
