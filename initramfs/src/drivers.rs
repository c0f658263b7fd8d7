//! Loads kernel modules: those that a device asks for by its `MODALIAS`, and those that no device
//! asks for, by name.

use std::{
    collections::HashSet,
    ffi::CString,
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
};

use crate::{
    modules::{Found, Index},
    uevents::Uevents,
};

/// Where the initramfs has its modules.
const MODULES: &str = "/modules";

/// The buses that disks, keyboards and randomness hang on. Others are not looked at: `memory` and
/// `cpu` of a big machine have thousands of devices that nothing is loaded for.
const BUSES: &[&str] =
    &["acpi", "hid", "mmc", "pci", "platform", "scsi", "usb", "virtio", "vmbus", "xen"];

/// What the processor can do is announced like a device; it is on no bus.
const PROCESSOR: &str = "/sys/devices/system/cpu/modalias";

/// The kernel modules of the initramfs, and which of them are in the kernel by now.
pub(crate) struct Drivers {
    index: Index,
    uevents: Uevents,
    loaded: HashSet<String>,
    /// What did not load, for the report.
    failed: Vec<String>,
    /// Announcements that were served already.
    seen: HashSet<String>,
    /// Announcements of devices that are looked at only where the disk is on none of the others.
    put_off: Vec<String>,
    puts_off: bool,
}

impl Drivers {
    /// Reads the lists of modules and listens for devices from here on.
    pub(crate) fn new() -> io::Result<Self> {
        let read = |name: &str| {
            let path = Path::new(MODULES).join(name);
            fs::read_to_string(&path)
                .map_err(|error| io::Error::other(format!("reading {}: {error}", path.display())))
        };
        let index = Index::parse(
            &read("modules.dep")?,
            &read("modules.alias")?,
            &read("modules.softdep")?,
            &read("modules.builtin")?,
        );
        let (loaded, failed, seen, put_off) = Default::default();
        let uevents = Uevents::open()?;
        Ok(Self { index, uevents, loaded, failed, seen, put_off, puts_off: true })
    }

    /// How many modules are in the kernel because of us, and what did not load.
    pub(crate) fn describe(&self) -> String {
        let failed = self.failed.iter().map(|why| format!(", not {why}"));
        format!("{} modules{}", self.loaded.len(), failed.collect::<String>())
    }

    /// What did not load, a line each.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        self.failed.iter().map(|why| format!("module {why}"))
    }

    /// Loads a module and what it depends on. One that fails is noted: it may not be needed.
    pub(crate) fn insert(&mut self, name: &str) {
        let files = match self.index.files(name) {
            Found::Builtin => return,
            Found::Nothing => return self.failed.push(format!("{name}: not in the initramfs")),
            Found::Files(files) => files,
        };
        for file in files {
            if self.loaded.contains(&file) {
                continue;
            }
            match load(&file) {
                Ok(()) => drop(self.loaded.insert(file)),
                // Two drivers for one thing: this machine is not the second one's.
                Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => {}
                Err(why) => self.failed.push(format!("{file}: {why}")),
            }
        }
    }

    /// Serves the processor, and every device that is there by now.
    pub(crate) fn serve_present(&mut self) -> io::Result<()> {
        self.serve(&read_alias(Path::new(PROCESSOR)));
        self.walk();
        self.serve_announced(Duration::ZERO)
    }

    /// Serves the devices that were put off. Whether there were any.
    pub(crate) fn serve_put_off(&mut self) -> io::Result<bool> {
        self.puts_off = false;
        let put_off = std::mem::take(&mut self.put_off);
        for modalias in &put_off {
            self.load_for(modalias);
        }
        self.serve_announced(Duration::ZERO)?;
        Ok(!put_off.is_empty())
    }

    /// Whether there are devices that were put off.
    pub(crate) fn has_put_off(&self) -> bool {
        !self.put_off.is_empty()
    }

    /// Waits at most `limit` for a device, and serves all that were announced. A driver announces
    /// what it finds before it is loaded (but for those that look around in the background).
    pub(crate) fn serve_announced(&mut self, limit: Duration) -> io::Result<()> {
        let mut limit = limit;
        loop {
            let heard = self.uevents.wait(limit)?;
            if heard.nothing() {
                return Ok(());
            }
            if heard.some_were_lost {
                self.walk();
            }
            for modalias in &heard.modaliases {
                self.serve(modalias);
            }
            limit = Duration::ZERO;
        }
    }

    fn walk(&mut self) {
        for bus in BUSES {
            let devices = fs::read_dir(format!("/sys/bus/{bus}/devices"));
            for device in devices.into_iter().flatten().flatten() {
                self.serve(&read_alias(&device.path().join("modalias")));
            }
        }
    }

    fn serve(&mut self, modalias: &str) {
        if modalias.is_empty() || !self.seen.insert(modalias.to_owned()) {
            return;
        }
        if self.puts_off && is_slow(modalias) {
            self.put_off.push(modalias.to_owned());
        } else {
            self.load_for(modalias);
        }
    }

    fn load_for(&mut self, modalias: &str) {
        let names: Vec<String> =
            self.index.matching(modalias).into_iter().map(str::to_owned).collect();
        for name in names {
            self.insert(&name);
        }
    }
}

/// Controllers of ATA and of USB. Looking for disks on them costs as much as all the rest of
/// `/init`, and most machines that have them boot from another disk. (PCI class codes, as
/// `modules.alias` writes them.)
fn is_slow(modalias: &str) -> bool {
    let classes = ["bc01sc01", "bc01sc05", "bc01sc06", "bc0Csc03"];
    modalias.starts_with("pci:") && classes.iter().any(|class| modalias.contains(class))
}

fn read_alias(path: &Path) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn load(file: &str) -> io::Result<()> {
    let module = File::open(Path::new(MODULES).join(file))?;
    match finit_module(&module, &CString::default(), ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_that_take_long_are_put_off_and_no_others() {
        let ahci = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
        let usb = "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30";
        assert!(is_slow(ahci) && is_slow(usb));
        let virtio = "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00";
        let nvme = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
        assert!(!is_slow(virtio) && !is_slow(nvme) && !is_slow("virtio:d00000002v00001AF4"));
    }
}
