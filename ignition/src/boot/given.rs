//! The documents that there are: those of the image, and the one that was given to the machine.

use std::{fs, path::Path};

use super::{
    Esp, Failure,
    drivers::{self, Drivers},
    lazy::Lazy,
};
use crate::{
    fetch::Fetcher,
    journal::Journal,
    platform::{
        self, Found, Mounted, Plan, PlatformError, Volume, Volumes, base, vmware::Backdoor,
    },
};

/// Documents of the image.
const BASE: &str = "/usr/lib/ignition";
const VBOXCONTROL: &str = "/usr/bin/VBoxControl";

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
pub(super) fn find(
    plan: &Plan,
    esp: Option<&Esp>,
    memory: &Path,
    drivers: &Drivers,
    network: &Lazy<'_>,
    journal: &dyn Journal,
) -> Result<Vec<Given>, Failure> {
    let fail = |error: &dyn std::error::Error| Failure::of("fetch", "$".to_owned(), error);
    let mut all = Vec::new();
    let files = base::documents(Path::new(BASE), plan.id.as_deref());
    for path in files.map_err(|error| fail(&error))? {
        let name = path.display().to_string();
        let bytes = fs::read(&path).map_err(|error| fail(&error))?;
        all.push(Given { name, bytes, is_users: false });
    }
    drivers::load("qemu_fw_cfg");
    let mounted = Mounted {
        list: "/sys/class/block".into(),
        devices: "/dev".into(),
        at: memory.join("volume"),
    };
    let volumes = WithDrivers { mounted, drivers };
    let machine = platform::Machine {
        sys: Path::new("/sys"),
        esp: esp.map(Esp::path),
        volumes: &volumes,
        guestinfo: &Backdoor,
        vboxcontrol: Path::new(VBOXCONTROL),
    };
    let offline = Fetcher::offline(journal);
    let mut connect = || {
        network.online().map_err(|why| PlatformError::Encoding {
            from: plan.id.clone().unwrap_or_else(|| "the network".to_owned()),
            why,
        })
    };
    let found = platform::find(plan, &machine, &offline, &mut connect, journal);
    if let Some(found) = found.map_err(|error| fail(&error))? {
        all.push(Given { name: found.from, bytes: found.bytes, is_users: true });
    }
    Ok(all)
}

/// Volumes are often on controllers that the start of the machine did without.
struct WithDrivers<'a> {
    mounted: Mounted,
    drivers: &'a Drivers,
}

impl Volumes for WithDrivers<'_> {
    fn find(&self, volume: &Volume) -> std::io::Result<Option<Found>> {
        self.drivers.load_all();
        self.mounted.find(volume)
    }
}
