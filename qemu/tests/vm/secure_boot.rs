//! Secure Boot: a firmware that takes its key from the image, and then starts what that key signed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use qemu::{Artifacts, Image, Machine, Spec};

use crate::{
    harness::{self, laws, laws_of},
    provision::no_unit_failed,
};

const DOCUMENT: &str = r#"{"ignition": {"version": "3.6.0"},
    "kernelArguments": {"shouldExist": ["panic=31"]}}"#;
/// Where the ESP of an image starts.
const ESP: &str = "@@1M";
const SOON: Duration = Duration::from_secs(60);

/// A test key, and what it signs.
struct Keys {
    repo: PathBuf,
    artifacts: Artifacts,
}

impl Keys {
    fn new() -> Result<Self> {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the checkout")?;
        Ok(Self { repo: repo.to_owned(), artifacts: Artifacts::find()? })
    }

    fn file(&self, name: &str) -> String {
        self.repo.join("image/tests/secure-boot").join(name).display().to_string()
    }

    /// Signs the newest image, as an operator does.
    fn image(&self, folder: &Path) -> Result<Image> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.repo);
        command.args(["run", "--quiet", "--profile=host", "--package=image", "--", "sign"]);
        command.args(["--enroll", "--disk-only", "--key", &self.file("key.pem")]);
        command.args(["--certificate", &self.file("certificate.pem"), "--to"]).arg(folder);
        run(&mut command)?;
        Ok(Image::open(folder)?)
    }

    /// An addon for the kernel's command line, signed.
    fn addon(&self, cmdline: &str, folder: &Path) -> Result<PathBuf> {
        let (plain, signed) = (folder.join("plain.efi"), folder.join("signed.efi"));
        let ukify = self.artifacts.program("ukify")?;
        let build = ukify.ancestors().nth(2).context("the build folder")?;
        let stub = build.join("tools/usr/lib/systemd/boot/efi/addonx64.efi.stub");
        let mut ukify = Command::new(&ukify);
        ukify.args(["build", "--cmdline", cmdline, "--efi-arch=x64", "--stub"]).arg(stub);
        run(ukify.arg("--output").arg(&plain))?;
        let mut sign = Command::new(self.artifacts.program("systemd-sbsign")?);
        sign.args(["sign", "--private-key", &self.file("key.pem"), "--certificate"]);
        run(sign.arg(self.file("certificate.pem")).arg("--output").arg(&signed).arg(&plain))?;
        Ok(signed)
    }

    /// One of mtools on the ESP of a disk.
    fn on_esp(&self, tool: &str, disk: &Path, words: &[&str]) -> Result<String> {
        let mut command = Command::new(self.artifacts.program(tool)?);
        command.arg("-i").arg(format!("{}{ESP}", disk.display())).args(words);
        run(&mut command)
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn what_the_key_signed_starts_and_nothing_else() -> Result<()> {
    let _seat = harness::seats(1);
    let keys = Keys::new()?;
    let folder = tempfile::tempdir().context("a folder")?;
    let image = keys.image(&folder.path().join("signed"))?;
    let (raw, unsigned) = (image.raw.clone(), keys.artifacts.image()?);
    let document = folder.path().join("machine.ign");
    fs::write(&document, DOCUMENT)?;
    let spec = harness::machine("secure-boot")?.image(image).disk(qemu::Disk::Direct);

    println!("a firmware without keys takes those of the image, and reboots");
    let machine = spec.secure_boot().document(&document).start()?;
    machine.wait_for("Enrolling secure boot keys", machine.patience())?;
    machine.wait_for_reset(SOON)?;
    println!("arguments of the kernel that nobody signed stop the first boot");
    machine.wait_for("Secure Boot is on, and an addon that is not signed", machine.patience())?;
    machine.wait_for("put an addon with these arguments", SOON)?;
    machine.wait_for("Stopped", SOON)?;
    let spec = machine.pull_plug();

    println!("with a signed addon it becomes what its document says");
    let addon = keys.addon("panic=31", folder.path())?.display().to_string();
    keys.on_esp("mmd", &raw, &["::/loader/addons"])?;
    keys.on_esp("mcopy", &raw, &[&addon, "::/loader/addons/panic.addon.efi"])?;
    let machine = spec.start()?;
    machine.wait_ready()?;
    laws(&machine, laws_of![secure_boot_is_on, the_signed_arguments_count, no_unit_failed])?;
    let spec = machine.power_off()?;

    println!("a UKI that nobody signed is refused");
    let listed = keys.on_esp("mdir", &raw, &["-b", "::/EFI/Linux"])?;
    let uki = listed.lines().find(|line| line.ends_with(".efi")).context("no UKI")?.trim();
    let plain = unsigned.raw.with_extension("efi").display().to_string();
    keys.on_esp("mcopy", &raw, &["-D", "o", &plain, uki])?;
    is_refused(spec)
}

fn secure_boot_is_on(machine: &Machine) -> Result<()> {
    let variable = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let bytes = machine.ask(&format!("od -An -tu1 {variable}"))?;
    ensure!(bytes.trim().ends_with('1'), "{bytes}");
    let log = machine.ask("sudo dmesg | grep -i 'secure *boot'")?;
    ensure!(log.contains("Secure boot enabled"), "{log}");
    Ok(())
}

fn the_signed_arguments_count(machine: &Machine) -> Result<()> {
    let words = machine.ask("cat /proc/cmdline")?;
    ensure!(words.split_whitespace().any(|word| word == "panic=31"), "{words}");
    let addons = machine.ask("sudo ls /boot/loader/addons")?;
    ensure!(addons == "panic.addon.efi", "{addons}");
    Ok(())
}

fn is_refused(spec: Spec) -> Result<()> {
    let machine = spec.start()?;
    machine.wait_for("Access denied", SOON)?;
    let said = machine.console().transcript();
    ensure!(!said.contains("EFI stub"), "and yet a kernel starts:\n{said}");
    drop(machine.pull_plug());
    Ok(())
}
