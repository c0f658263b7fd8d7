//! From the description of a machine to the words that QEMU is started with. Pure.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    accel::Accel,
    spec::{Bus, Disk, Spec},
};

/// Everything outside of the description that shows in the arguments.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) accel: Accel,
    pub(crate) firmware_code: PathBuf,
    pub(crate) firmware_variables: PathBuf,
    /// The file that is the disk, and what is in it.
    pub(crate) disk: PathBuf,
    /// We listen there, QEMU connects.
    pub(crate) serial: PathBuf,
    /// QEMU listens there, we connect.
    pub(crate) qmp: PathBuf,
}

/// The words after the program's name.
pub(crate) fn arguments(spec: &Spec, around: &Surroundings) -> Vec<OsString> {
    let mut words = Words::default();
    words.option("-name", format!("{},process=qemu:{}", quoted(&spec.name), quoted(&spec.name)));
    words.flag("-nodefaults").flag("-no-user-config");
    words.option("-display", "none");
    // Only in system management mode may variables be written that Secure Boot trusts. The firmware
    // without it has no use for that mode.
    let smm = if spec.secure_boot { "on" } else { "off" };
    words.option("-machine", format!("q35,smm={smm},vmport=off"));
    if spec.secure_boot {
        words.option("-global", "driver=cfi.pflash01,property=secure,value=on");
    }
    accelerator(spec, around, &mut words);
    words.option("-smp", spec.cpus.to_string());
    words.option("-m", format!("{}M", spec.memory_mib));
    words.option("-rtc", format!("base=utc{}", clock(spec)));
    flash(0, &around.firmware_code, "on", &mut words);
    flash(1, &around.firmware_variables, "off", &mut words);
    disk(spec, &around.disk, &mut words);
    network(spec, &mut words);
    words.option("-device", "virtio-rng-pci");
    words.option("-chardev", format!("socket,id=serial0,path={}", path(&around.serial)));
    words.option("-serial", "chardev:serial0");
    words.option("-qmp", format!("unix:{},server=on,wait=off", path(&around.qmp)));
    for (name, value) in &spec.credentials {
        let value = STANDARD.encode(value);
        words.option(
            "-smbios",
            format!("type=11,value=io.systemd.credential.binary:{}={value}", quoted(name)),
        );
    }
    if let Some(more) = &spec.kernel_arguments {
        let value = format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={}", quoted(more));
        words.option("-smbios", value);
    }
    words.0.extend(spec.extra.iter().cloned());
    words.0
}

fn clock(spec: &Spec) -> &'static str {
    // With counted instructions the date must not come from outside either.
    if spec.icount.is_some() { ",clock=vm" } else { "" }
}

fn accelerator(spec: &Spec, around: &Surroundings, words: &mut Words) {
    match (around.accel, spec.icount) {
        (Accel::Kvm, _) => {
            words.option("-accel", "kvm").option("-cpu", "host");
        }
        (Accel::Tcg, None) => {
            words.option("-accel", "tcg,thread=multi,tb-size=512").option("-cpu", TCG_CPU);
        }
        (Accel::Tcg, Some(shift)) => {
            words.option("-accel", "tcg,thread=single,tb-size=512").option("-cpu", TCG_CPU);
            words.option("-icount", format!("shift={shift},sleep=off"));
        }
    }
}

/// What boots fastest in software. See docs: measured.
const TCG_CPU: &str = "max";

fn flash(unit: u8, file: &Path, readonly: &str, words: &mut Words) {
    let file = path(file);
    words.option(
        "-drive",
        format!("if=pflash,format=raw,unit={unit},readonly={readonly},file={file}"),
    );
}

fn disk(spec: &Spec, file: &Path, words: &mut Words) {
    let (format, readonly) = match spec.disk {
        Disk::Overlay => ("qcow2", "off"),
        Disk::Copy | Disk::Direct => ("raw", "off"),
        Disk::ReadOnly => ("raw", "on"),
    };
    // writeback, not unsafe: a pulled plug must lose what a real one loses and no more.
    words.option(
        "-drive",
        format!(
            "if=none,id=disk,format={format},readonly={readonly},cache=writeback,discard=unmap,\
             file={}",
            path(file)
        ),
    );
    let device = match spec.bus {
        Bus::Virtio => "virtio-blk-pci,drive=disk,serial=pithos,bootindex=0",
        Bus::Scsi => {
            words.option("-device", "virtio-scsi-pci,id=scsi");
            "scsi-hd,bus=scsi.0,drive=disk,serial=pithos,bootindex=0"
        }
        Bus::Nvme => "nvme,drive=disk,serial=pithos,bootindex=0",
        Bus::Ahci => "ide-hd,bus=ide.0,drive=disk,serial=pithos,bootindex=0",
    };
    words.option("-device", device);
}

fn network(spec: &Spec, words: &mut Words) {
    let restrict = if spec.offline { "on" } else { "off" };
    // Port 0: the kernel picks a free one, and we ask QEMU which (see `machine`).
    words.option(
        "-netdev",
        format!("user,id=outside,restrict={restrict},hostfwd=tcp:127.0.0.1:0-:22"),
    );
    // Without the card's own boot program: the machine boots from its disk.
    words.option("-device", "virtio-net-pci,netdev=outside,mac=52:54:00:00:00:01,romfile=");
    for (number, nic) in spec.nics.iter().enumerate() {
        let socket = path(&nic.socket);
        words.option(
            "-netdev",
            format!("stream,id=cable{number},server=off,addr.type=unix,addr.path={socket}"),
        );
        words.option(
            "-device",
            format!("virtio-net-pci,netdev=cable{number},mac={},romfile=", nic.mac),
        );
    }
}

/// In QEMU's option lists a comma that is meant is doubled.
fn quoted(text: &str) -> String {
    text.replace(',', ",,")
}

fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }

    fn option(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.0.push(name.into());
        self.0.push(value.into().into());
        self
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::artifacts::Artifacts;

    fn spec() -> Spec {
        Spec::in_build("one", Artifacts::at("/build"))
    }

    fn check(spec: &Spec, accel: Accel, only: &[&str], expected: Expect) {
        let around = Surroundings {
            accel,
            firmware_code: "/fw/code.fd".into(),
            firmware_variables: "/run/one/vars.fd".into(),
            disk: "/run/one/disk".into(),
            serial: "/tmp/s/serial".into(),
            qmp: "/tmp/s/qmp".into(),
        };
        let words = arguments(spec, &around);
        let mut picture = String::new();
        for pair in words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().windows(2) {
            if pair[0].starts_with('-') && (only.is_empty() || only.contains(&&*pair[0])) {
                let value = if pair[1].starts_with('-') { "" } else { &pair[1] };
                picture += format!("{} {value}", pair[0]).trim_end();
                picture.push('\n');
            }
        }
        expected.assert_eq(&picture);
    }

    #[test]
    fn a_machine_with_nothing_special() {
        check(
            &spec(),
            Accel::Tcg,
            &[],
            expect![[r#"
            -name one,process=qemu:one
            -nodefaults
            -no-user-config
            -display none
            -machine q35,smm=off,vmport=off
            -accel tcg,thread=multi,tb-size=512
            -cpu max
            -smp 2
            -m 1024M
            -rtc base=utc
            -drive if=pflash,format=raw,unit=0,readonly=on,file=/fw/code.fd
            -drive if=pflash,format=raw,unit=1,readonly=off,file=/run/one/vars.fd
            -drive if=none,id=disk,format=qcow2,readonly=off,cache=writeback,discard=unmap,file=/run/one/disk
            -device virtio-blk-pci,drive=disk,serial=pithos,bootindex=0
            -netdev user,id=outside,restrict=off,hostfwd=tcp:127.0.0.1:0-:22
            -device virtio-net-pci,netdev=outside,mac=52:54:00:00:00:01,romfile=
            -device virtio-rng-pci
            -chardev socket,id=serial0,path=/tmp/s/serial
            -serial chardev:serial0
            -qmp unix:/tmp/s/qmp,server=on,wait=off
        "#]],
        );
    }

    #[test]
    fn each_bus_has_its_device_and_all_boot_from_it_first() {
        for (bus, expected) in [
            (
                Bus::Virtio,
                expect![[r#"
                -device virtio-blk-pci,drive=disk,serial=pithos,bootindex=0
                -device virtio-net-pci,netdev=outside,mac=52:54:00:00:00:01,romfile=
                -device virtio-rng-pci
            "#]],
            ),
            (
                Bus::Scsi,
                expect![[r#"
                -device virtio-scsi-pci,id=scsi
                -device scsi-hd,bus=scsi.0,drive=disk,serial=pithos,bootindex=0
                -device virtio-net-pci,netdev=outside,mac=52:54:00:00:00:01,romfile=
                -device virtio-rng-pci
            "#]],
            ),
            (
                Bus::Nvme,
                expect![[r#"
                -device nvme,drive=disk,serial=pithos,bootindex=0
                -device virtio-net-pci,netdev=outside,mac=52:54:00:00:00:01,romfile=
                -device virtio-rng-pci
            "#]],
            ),
            (
                Bus::Ahci,
                expect![[r#"
                -device ide-hd,bus=ide.0,drive=disk,serial=pithos,bootindex=0
                -device virtio-net-pci,netdev=outside,mac=52:54:00:00:00:01,romfile=
                -device virtio-rng-pci
            "#]],
            ),
        ] {
            check(&spec().bus(bus).offline(), Accel::Tcg, &["-device"], expected);
        }
    }

    #[test]
    fn the_image_is_written_to_only_where_that_was_asked_for() {
        for (disk, expected) in [
            (
                Disk::Overlay,
                expect![[r#"
                -drive if=pflash,format=raw,unit=0,readonly=on,file=/fw/code.fd
                -drive if=pflash,format=raw,unit=1,readonly=off,file=/run/one/vars.fd
                -drive if=none,id=disk,format=qcow2,readonly=off,cache=writeback,discard=unmap,file=/run/one/disk
            "#]],
            ),
            (
                Disk::Copy,
                expect![[r#"
                -drive if=pflash,format=raw,unit=0,readonly=on,file=/fw/code.fd
                -drive if=pflash,format=raw,unit=1,readonly=off,file=/run/one/vars.fd
                -drive if=none,id=disk,format=raw,readonly=off,cache=writeback,discard=unmap,file=/run/one/disk
            "#]],
            ),
            (
                Disk::ReadOnly,
                expect![[r#"
                -drive if=pflash,format=raw,unit=0,readonly=on,file=/fw/code.fd
                -drive if=pflash,format=raw,unit=1,readonly=off,file=/run/one/vars.fd
                -drive if=none,id=disk,format=raw,readonly=on,cache=writeback,discard=unmap,file=/run/one/disk
            "#]],
            ),
            (
                Disk::Direct,
                expect![[r#"
                -drive if=pflash,format=raw,unit=0,readonly=on,file=/fw/code.fd
                -drive if=pflash,format=raw,unit=1,readonly=off,file=/run/one/vars.fd
                -drive if=none,id=disk,format=raw,readonly=off,cache=writeback,discard=unmap,file=/run/one/disk
            "#]],
            ),
        ] {
            check(&spec().disk(disk), Accel::Tcg, &["-drive"], expected);
        }
    }

    #[test]
    fn kvm_shows_the_processor_and_counting_needs_one_thread() {
        check(
            &spec(),
            Accel::Kvm,
            &["-accel", "-cpu"],
            expect![[r#"
            -accel kvm
            -cpu host
        "#]],
        );
        let words = ["-accel", "-cpu", "-icount", "-rtc"];
        check(
            &spec().icount(0),
            Accel::Tcg,
            &words,
            expect![[r#"
            -accel tcg,thread=single,tb-size=512
            -cpu max
            -icount shift=0,sleep=off
            -rtc base=utc,clock=vm
        "#]],
        );
    }

    #[test]
    fn secure_boot_keeps_its_variables_from_the_system() {
        let words = ["-machine", "-global"];
        check(
            &spec().secure_boot(),
            Accel::Tcg,
            &words,
            expect![[r#"
            -machine q35,smm=on,vmport=off
            -global driver=cfi.pflash01,property=secure,value=on
        "#]],
        );
    }

    #[test]
    fn credentials_cards_and_extra_words_come_through_whole() {
        let spec = spec()
            .credential("network.network.50-cluster", "[Match]\nName=a,b\n")
            .plugged_into("52:54:00:77:00:01", "/tmp/a,b/port0.sock".into())
            .kernel_arguments("quiet ip=a,b")
            .argument("-trace")
            .argument("x");
        let words = ["-smbios", "-netdev", "-device", "-trace"];
        check(
            &spec,
            Accel::Tcg,
            &words,
            expect![[r#"
            -device virtio-blk-pci,drive=disk,serial=pithos,bootindex=0
            -netdev user,id=outside,restrict=off,hostfwd=tcp:127.0.0.1:0-:22
            -device virtio-net-pci,netdev=outside,mac=52:54:00:00:00:01,romfile=
            -netdev stream,id=cable0,server=off,addr.type=unix,addr.path=/tmp/a,,b/port0.sock
            -device virtio-net-pci,netdev=cable0,mac=52:54:00:77:00:01,romfile=
            -device virtio-rng-pci
            -smbios type=11,value=io.systemd.credential.binary:network.network.50-cluster=W01hdGNoXQpOYW1lPWEsYgo=
            -smbios type=11,value=io.systemd.stub.kernel-cmdline-extra=quiet ip=a,,b
            -trace x
        "#]],
        );
    }
}
