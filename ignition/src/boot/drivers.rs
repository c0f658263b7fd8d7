//! Drivers of devices that the start of the machine did without: /usr is there now, and with it
//! every module and the program that finds the right one.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

const MODPROBE: &str = "/usr/sbin/modprobe";

/// Loads a module by its name; what is built in, or not there, is no error.
pub(super) fn load(name: &str) {
    modprobe(&["-q", "-b", name]);
}

/// Loads what the devices of this machine ask for.
pub(super) fn load_all() {
    let mut wanted = Vec::new();
    for bus in names(Path::new("/sys/bus")) {
        let devices = Path::new("/sys/bus").join(bus).join("devices");
        for device in names(&devices) {
            let device = devices.join(device);
            // What has a driver already needs none.
            if device.join("driver").exists() {
                continue;
            }
            if let Ok(alias) = fs::read_to_string(device.join("modalias")) {
                wanted.push(alias.trim().to_owned());
            }
        }
    }
    wanted.retain(|alias| !alias.is_empty());
    wanted.sort();
    wanted.dedup();
    if !wanted.is_empty() {
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        modprobe(&[&["-q", "-b", "-a"][..], &wanted].concat());
    }
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
