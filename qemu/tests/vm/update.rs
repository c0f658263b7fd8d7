//! Updates: from release to release, and back by itself from one that is bad.
//!
//! All of them together take half an hour on two processors. Those that are ignored are the long ones:
//! `./pith vm-test update -- --ignored`.

mod releases;
mod server;

use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use qemu::{Artifacts, Disk, Machine, Spec};

use crate::{harness, partition};
use releases::{BAD, FIRST, SECOND, THIRD};
use server::{Asked, Server};

/// How long a download and the writing of a slot may take, on a busy host without KVM.
const UPDATE: Duration = Duration::from_secs(900);
/// The same for three boots that fail, and one that does not.
const FALL_BACK: Duration = Duration::from_secs(1800);

/// A machine that runs the first release and follows a channel. It was given two files, one of
/// which the image has, too.
fn machine(
    name: &str,
    folder: &tempfile::TempDir,
    server: &Server,
    (channel, strategy): (&str, &str),
) -> Result<Spec> {
    let document = folder.path().join("machine.bu");
    let text = format!(
        "variant: pithos\nversion: 1.0.0\nstorage:\n  files:\n    - path: /etc/pithos/update.conf\n      \
         contents:\n        inline: |\n          GROUP={channel}\n          SERVER={}\n          \
         REBOOT_STRATEGY={strategy}\n          LOGIN_DELAY=0s\n    - path: /etc/example/stays\n      overwrite: true\n      \
         contents: {{inline: \"mine\"}}\n    - path: /var/lib/mine\n      contents: {{inline: \"mine\"}}\n",
        server.url()
    );
    std::fs::write(&document, text).context("writing a document")?;
    let image = Artifacts::find()?.image_named("image-first")?;
    // Of a panic, the usual half minute to read it would only be waited for here.
    Ok(Spec::named(&format!("test-update-{name}"))?
        .image(image)
        .document(&document)
        .kernel_arguments("panic=1"))
}

fn runs(machine: &Machine, version: &str) -> Result<()> {
    let found = machine.ask("sed -n s/^IMAGE_VERSION=//p /usr/lib/os-release")?;
    ensure!(found == version, "it runs {found}, expected {version}");
    Ok(())
}

/// The version that runs is healthy and has nothing to prove any more.
fn is_proven(machine: &Machine, version: &str) -> Result<()> {
    runs(machine, version)?;
    machine.ask(&format!(
        "until sudo test -e /boot/EFI/Linux/pithos_{version}.efi; do sleep 1; done"
    ))?;
    machine.ask("systemctl is-active update-engine-health.service update-engine.service")?;
    let failed = machine.ask("systemctl list-units --state=failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    let mine = machine.ask("cat /etc/example/stays /var/lib/mine")?;
    ensure!(mine == "minemine", "what was the machine's own is {mine:?}");
    Ok(())
}

/// Has the machine install what is there for it, as an operator would.
fn update(machine: &Machine) -> Result<String> {
    let said = machine.ssh_within("sudo update-engine-client update", b"", UPDATE)?;
    Ok(said.text()?)
}

/// Waits until the machine runs `version` again, however often it restarts.
fn comes_back(machine: &Machine, version: &str) -> Result<()> {
    let start = Instant::now();
    let ask = "sed -n s/^IMAGE_VERSION=//p /usr/lib/os-release; \
               systemctl is-active update-engine-health.service";
    while start.elapsed() < FALL_BACK {
        machine.still_runs()?;
        if machine.wait_for_reset(Duration::from_secs(5)).is_ok() {
            continue;
        }
        let said = machine.ssh_within(ask, b"", Duration::from_secs(20));
        if said.is_ok_and(|said| said.stdout.trim() == format!("{version}\nactive")) {
            return Ok(());
        }
    }
    bail!("machine {} does not come back to {version}", machine.name())
}

/// The machine is as it was, knows what was wrong with `bad`, and does not want it again.
fn has_left(machine: &Machine, bad: &str, reason: &str) -> Result<()> {
    is_proven(machine, FIRST)?;
    let why = machine.ask("update-engine-client why")?;
    ensure!(
        why.lines()
            .any(|line| line.starts_with(&format!("{bad} was bad")) && line.contains(reason)),
        "expected why {bad} is bad ({reason}): {why}"
    );
    let said = machine.ssh_within("sudo update-engine-client update", b"", UPDATE)?;
    let expected = format!("The newest version, {bad}, was bad on this machine");
    ensure!(!said.success() && said.stderr.contains(&expected), "{said:?}");
    let files = machine.ask("sudo ls /boot/EFI/Linux")?;
    ensure!(!files.contains(&format!("pithos_{bad}.efi")), "{files}");
    Ok(())
}

fn objects(asked: &[Asked]) -> Vec<&str> {
    let is_object = |asked: &&Asked| asked.path.starts_with("objects/");
    asked.iter().filter(is_object).map(|asked| asked.path.as_str()).collect()
}

#[test]
fn a_machine_goes_from_release_to_release_and_keeps_what_is_its_own() -> Result<()> {
    let _seat = harness::seats(1);
    let server = Server::of(releases::repository()?)?;
    let folder = tempfile::tempdir()?;
    let machine = machine("on", &folder, &server, ("stable", "off"))?.start()?;
    machine.wait_ready()?;
    is_proven(&machine, FIRST)?;
    let status = machine.ask("update_engine_client -status")?;
    ensure!(status.contains("CURRENT_OP=UPDATE_STATUS_IDLE"), "{status}");
    ensure!(machine.ask("cat /etc/example/arrives")? == "of the first");
    ensure!(objects(&server.asked()).is_empty(), "it fetched what nobody asked for");

    let said = update(&machine)?;
    ensure!(said.contains(&format!("reboot needed: {SECOND} boots next")), "{said}");
    let asked = server.asked();
    let fetched: usize = asked.iter().map(|asked| asked.bytes).sum();
    ensure!(fetched < 4 << 20, "patches of {fetched} bytes: {asked:?}");
    let status = machine.ask("update-engine-client -status; cat /run/reboot-required")?;
    ensure!(status.contains("CURRENT_OP=UPDATE_STATUS_UPDATED_NEED_REBOOT"), "{status}");
    ensure!(status.contains(&format!("NEW_VERSION={SECOND}")), "{status}");
    runs(&machine, FIRST)?;

    machine.reboot()?;
    is_proven(&machine, SECOND)?;
    ensure!(machine.ask("cat /etc/example/arrives")? == "of the second");
    // The engine looks every few seconds.
    machine.ask(&format!(
        "until update-engine-client why | grep 'updated from {FIRST} and is proven'; do sleep 1; done"
    ))?;

    let said = update(&machine)?;
    ensure!(said.contains(&format!("reboot needed: {THIRD} boots next")), "{said}");
    let asked = server.asked();
    let mut once = objects(&asked);
    let times = once.len();
    once.sort_unstable();
    once.dedup();
    ensure!(times == once.len() && times > 20, "{times} objects, {} different", once.len());
    machine.reboot()?;
    is_proven(&machine, THIRD)?;
    ensure!(machine.ask("cat /etc/example/arrives")? == "of the third");
    let said = update(&machine)?;
    ensure!(said.contains("No update available"), "{said}");
    machine.power_off()?;
    Ok(())
}

/// A release of which `update.conf` says that it is to be booted at once.
fn leaves(
    bad: &str,
    reason: &str,
    more: impl FnOnce(Spec) -> Spec,
    then: impl FnOnce(&Machine) -> Result<()>,
) -> Result<()> {
    let _seat = harness::seats(1);
    let server = Server::of(releases::repository()?)?;
    let folder = tempfile::tempdir()?;
    let (channel, version) =
        BAD.into_iter().find(|(name, _)| *name == bad).context("a release of that name")?;
    let spec = more(machine(bad, &folder, &server, (channel, "reboot"))?);
    let machine = spec.start()?;
    machine.wait_ready()?;
    is_proven(&machine, FIRST)?;
    machine.ask("sudo update-engine-client check")?;
    // The strategy waits for those who are logged in, and this is over at once.
    machine.wait_for_reset(UPDATE)?;
    comes_back(&machine, FIRST)?;
    has_left(&machine, version, reason)?;
    let console = machine.console().transcript();
    ensure!(console.contains(&format!("PithOS {version}")), "{version} was never booted");
    then(&machine)?;
    machine.power_off()?;
    Ok(())
}

#[test]
#[ignore = "one of the long ones"]
fn a_release_that_panics_is_left() -> Result<()> {
    leaves("panics", "never came up", |spec| spec, |_| Ok(()))
}

#[test]
#[ignore = "one of the long ones"]
fn a_release_that_is_not_healthy_is_left() -> Result<()> {
    leaves(
        "unhealthy",
        "nothing is ever good enough",
        |spec| spec,
        |machine| {
            // What comes later is another thing.
            machine.ask(
                "sudo sed -i s/GROUP=.*/GROUP=stable/ /etc/pithos/update.conf && \
             sudo systemctl reload update-engine.service",
            )?;
            machine.ask("sudo update-engine-client check")?;
            machine.wait_for_reset(UPDATE)?;
            machine.wait_ready()?;
            is_proven(machine, SECOND)
        },
    )
}

#[test]
#[ignore = "one of the long ones"]
fn a_release_that_hangs_is_left() -> Result<()> {
    leaves("hangs", "hangs.service", |spec| spec, |_| Ok(()))
}

#[test]
#[ignore = "one of the long ones"]
fn a_release_whose_service_manager_freezes_is_left_by_the_watchdog() -> Result<()> {
    let watchdog = |spec: Spec| {
        spec.argument("-device").argument("i6300esb").argument("-action").argument("watchdog=reset")
    };
    leaves("freezes", "never came up", watchdog, |_| Ok(()))
}

/// Damages what was installed while the machine is off, and expects it to be left.
fn leaves_damaged(name: &str, damage: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let _seat = harness::seats(1);
    let server = Server::of(releases::repository()?)?;
    let folder = tempfile::tempdir()?;
    let spec = machine(name, &folder, &server, ("stable", "off"))?.disk(Disk::Copy);
    let machine = spec.start()?;
    machine.wait_ready()?;
    update(&machine)?;
    let disk = machine.folder().join("disk.raw");
    let spec = machine.power_off()?;
    damage(&File::options().read(true).write(true).open(&disk)?)?;
    let machine = spec.start()?;
    comes_back(&machine, FIRST)?;
    has_left(&machine, SECOND, "never came up")?;
    machine.power_off()?;
    Ok(())
}

fn slot(disk: &File, label: &str) -> Result<partition::Entry> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(disk));
    let table = partition::table(path.as_ref())?;
    table.into_iter().find(|entry| entry.label == label).context("a slot of that version")
}

#[test]
#[ignore = "one of the long ones"]
fn a_release_whose_usr_is_damaged_on_the_disk_is_left() -> Result<()> {
    leaves_damaged("damaged-usr", |disk| {
        let usr = slot(disk, &format!("pithos_{SECOND}"))?;
        // Every programme has some blocks of these.
        for at in (usr.start + (1 << 20)..usr.start + usr.bytes / 3).step_by(64 << 10) {
            disk.write_all_at(b"not what was written", at)?;
        }
        Ok(())
    })
}

#[test]
#[ignore = "one of the long ones"]
fn a_release_that_init_cannot_open_is_left() -> Result<()> {
    leaves_damaged("damaged-tree", |disk| {
        let tree = slot(disk, &format!("pithos_{SECOND}_verity"))?;
        Ok(disk.write_all_at(&[0; 4096], tree.start)?)
    })
}

/// How often the power goes: `PITHOS_KILLS`.
const KILLS: u32 = 3;

#[test]
#[ignore = "one of the long ones"]
fn power_that_goes_at_any_moment_of_updates_leaves_a_machine_that_boots() -> Result<()> {
    let _seat = harness::seats(1);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = number("PITHOS_KILLS").map_or(KILLS, |kills| kills as u32);
    let clock = std::time::UNIX_EPOCH.elapsed()?.as_nanos() as u64;
    let mut random = number("PITHOS_SEED").unwrap_or(clock);
    println!("PITHOS_SEED={random} makes the same moments again");
    let server = Server::of(releases::repository()?)?;
    let folder = tempfile::tempdir()?;
    let fresh = || machine("power", &folder, &server, ("stable", "reboot"));
    let mut machine = fresh()?.start()?;
    machine.wait_ready()?;
    let mut seen = FIRST.to_owned();
    for kill in 1..=kills {
        // What an update takes here, with the reboot and half of the boot after it.
        let range = machine.since_boot() * 3;
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = range.mul_f64((random >> 40) as f64 / (1u64 << 24) as f64);
        machine.ask("sudo update-engine-client check")?;
        std::thread::sleep(moment);
        machine = machine.pull_plug().start()?;
        machine.wait_ready().with_context(|| format!("after kill {kill}"))?;
        let version = machine.ask("sed -n s/^IMAGE_VERSION=//p /usr/lib/os-release")?;
        println!("kill {kill}: {moment:.1?} after asking {seen} for an update: {version} boots");
        ensure!([FIRST, SECOND, THIRD].contains(&version.as_str()), "{version} runs");
        ensure!(version >= seen, "{version} runs, and before it was {seen}");
        is_proven(&machine, &version)?;
        let bad = machine.ask("update-engine-client status --json")?;
        ensure!(bad.contains(r#""bad": []"#), "power that goes is nobody's fault: {bad}");
        seen = version;
        if seen == THIRD && kill < kills {
            drop(machine.pull_plug());
            machine = fresh()?.start()?;
            machine.wait_ready()?;
            seen = FIRST.to_owned();
        }
    }
    machine.power_off()?;
    Ok(())
}
