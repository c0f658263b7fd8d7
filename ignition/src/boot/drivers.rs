//! Drivers of devices that the start of the machine did without: /usr is there now, and with it
//! every module and the program that finds the right one.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
};

const MODPROBE: &str = "/usr/sbin/modprobe";
const BUSES: &str = "/sys/bus";

/// Loads a module by its name; what is built in, or not there, is no error.
pub(super) fn load(name: &str) {
    modprobe(&["-q", "-b", name]);
}

/// What the devices of this machine ask for. Each driver is tried once.
#[derive(Debug, Default)]
pub(super) struct Drivers {
    tried: Mutex<BTreeSet<String>>,
}

impl Drivers {
    /// Loads what is asked for, and what the devices ask for that came by that, until none is new:
    /// a controller brings a drive, and the drive wants a driver of its own.
    pub(super) fn load_all(&self) {
        let mut tried = self.tried.lock().expect("nobody panics with the lock");
        settle(Path::new(BUSES), &mut tried, |wanted| {
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            modprobe(&[&["-q", "-b", "-a"][..], &wanted].concat());
        });
    }
}

fn settle(buses: &Path, tried: &mut BTreeSet<String>, mut load: impl FnMut(&[String])) {
    loop {
        let mut wanted = wanted(buses);
        wanted.retain(|alias| tried.insert(alias.clone()));
        if wanted.is_empty() {
            return;
        }
        load(&wanted);
    }
}

/// What devices without a driver ask for.
fn wanted(buses: &Path) -> Vec<String> {
    let mut wanted = Vec::new();
    for bus in names(buses) {
        let devices = buses.join(bus).join("devices");
        for device in names(&devices) {
            let device = devices.join(device);
            // What has a driver already needs none.
            if device.join("driver").exists() {
                continue;
            }
            let alias = fs::read_to_string(device.join("modalias")).unwrap_or_default();
            wanted.push(alias.trim().to_owned());
        }
    }
    wanted.retain(|alias| !alias.is_empty());
    wanted
}

fn modprobe(words: &[&str]) {
    // A module that does not load shows where its device is missed.
    let quiet = Stdio::null;
    let _ = Command::new(MODPROBE).args(words).stdout(quiet()).stderr(quiet()).status();
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_loaded_until_no_device_asks_for_another() {
        let buses = tempfile::tempdir().unwrap();
        let device = |path: &str, alias: &str| {
            let path = buses.path().join(path);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("modalias"), format!("{alias}\n")).unwrap();
        };
        device("pci/devices/0000:00:1f.2", "pci:ahci");
        device("pci/devices/0000:00:02.0", "pci:nobody");
        device("pci/devices/0000:00:03.0", "pci:served");
        fs::create_dir(buses.path().join("pci/devices/0000:00:03.0/driver")).unwrap();
        let (mut tried, mut loaded) = (BTreeSet::new(), Vec::new());
        settle(buses.path(), &mut tried, |wanted| {
            // The controller, once it is served, finds a drive; the other device has no driver.
            if wanted.contains(&"pci:ahci".to_owned()) {
                fs::create_dir(buses.path().join("pci/devices/0000:00:1f.2/driver")).unwrap();
                device("scsi/devices/0:0:0:0", "scsi:cd");
            }
            loaded.push(wanted.join(" "));
        });
        assert_eq!(loaded, ["pci:nobody pci:ahci", "scsi:cd"]);
        settle(buses.path(), &mut tried, |wanted| panic!("{wanted:?} a second time"));
    }
}
