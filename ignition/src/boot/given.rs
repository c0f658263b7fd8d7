//! The documents that there are: those of the image, and the one that was given to the machine.

use std::{fs, path::Path};

use super::{Esp, drivers};
use crate::journal::Journal;

/// Documents of the image.
const BASE: &str = "/usr/lib/ignition/base.d";

/// A document.
#[derive(Debug)]
pub(super) struct Given {
    /// What complaints call it.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// Given by whoever runs the machine.
    pub(super) is_users: bool,
}

/// All, in the order in which each changes those before.
pub(super) fn find(esp: Option<&Esp>, journal: &dyn Journal) -> Vec<Given> {
    let mut all = of_image();
    drivers::load("qemu_fw_cfg");
    let places = [
        (
            "QEMU's fw_cfg opt/org.pithos/config",
            "/sys/firmware/qemu_fw_cfg/by_name/opt/org.pithos/config/raw".into(),
        ),
        (
            "QEMU's fw_cfg opt/com.coreos/config",
            "/sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw".into(),
        ),
        (
            "pithos/config of the ESP",
            esp.map(|esp| esp.path().join("pithos/config")).unwrap_or_default(),
        ),
    ];
    for (name, path) in places {
        let path: &Path = Path::new(&path);
        match fs::read(path) {
            Ok(bytes) if !bytes.is_empty() => {
                all.push(Given { name: name.to_owned(), bytes, is_users: true });
                break;
            }
            _ => journal.say(&format!("fetch: {name}: none")),
        }
    }
    all
}

fn of_image() -> Vec<Given> {
    let entries = fs::read_dir(BASE).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    let given = |path: std::path::PathBuf| {
        let bytes = fs::read(&path).ok()?;
        Some(Given { name: path.display().to_string(), bytes, is_users: false })
    };
    files.into_iter().filter_map(given).collect()
}
