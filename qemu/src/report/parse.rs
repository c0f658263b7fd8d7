//! From what `gather.sh` prints to facts. Pure; what is not there is empty, never a guess.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// What a machine says about itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// `running`, `degraded`, ...
    pub state: String,
    /// Units that failed.
    pub failed_units: Vec<String>,
    /// PRETTY_NAME of os-release.
    pub os_name: String,
    /// IMAGE_VERSION of os-release.
    pub image_version: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// The kernel's command line.
    pub cmdline: String,
    /// What the loader calls itself.
    pub loader: String,
    /// Which of its entries was taken.
    pub entry: String,
    /// What the firmware calls itself.
    pub firmware: String,
    /// What is mounted on /usr.
    pub usr: Option<Mount>,
    /// The hash by which /usr is verified.
    pub verity_root_hash: Option<String>,
    /// What device-mapper says of it: `verified`, or `corrupted`.
    pub verity_status: String,
    /// What is mounted on /.
    pub root: Option<Mount>,
    /// The disks and their partitions.
    pub disks: Vec<Disk>,
    /// All memory.
    pub memory_total_kib: u64,
    /// What is not available any more.
    pub memory_used_kib: u64,
    /// The parts of the boot.
    pub times: Times,
    /// What /init wrote to the kernel's log, with its time.
    pub init: Vec<String>,
    /// Open sockets.
    pub listeners: Vec<Listener>,
}

/// A mounted file system.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Mount {
    /// The device.
    pub source: String,
    /// The file system's type.
    #[serde(rename(deserialize = "fstype"))]
    pub kind: String,
    /// Its size.
    #[serde(rename(deserialize = "size"), default)]
    pub size_bytes: u64,
    /// What is in use.
    #[serde(rename(deserialize = "used"), default)]
    pub used_bytes: u64,
    /// How it is mounted.
    pub options: String,
}

/// A disk.
#[derive(Clone, Debug, Serialize)]
pub struct Disk {
    /// `vda`.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// In the order of the table.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, Serialize)]
pub struct Partition {
    /// `vda1`.
    pub name: String,
    /// Its number in the table.
    pub number: u64,
    /// Its name in the table: of a slot, the version in it.
    pub label: String,
    /// What the type of the table stands for.
    pub kind: String,
    /// Its size.
    pub size_bytes: u64,
    /// What is on it.
    pub filesystem: String,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = format!("{} MiB", self.size_bytes >> 20);
        let filesystem = if self.filesystem.is_empty() { "-" } else { &self.filesystem };
        write!(f, "{} {:<32} {size:>10}  {filesystem:<20} {}", self.number, self.label, self.kind)
    }
}

/// The parts of the boot in seconds. Of the firmware and the loader the guest knows only what the
/// loader could measure.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// From power-on to the loader.
    pub firmware: Option<f64>,
    /// From the loader to the kernel.
    pub loader: Option<f64>,
    /// From the kernel's start to that of /init.
    pub kernel: Option<f64>,
    /// From the start of /init to that of systemd.
    pub init: Option<f64>,
    /// From the start of systemd to the end of the boot.
    pub userspace: Option<f64>,
}

/// An open socket.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The address and the port.
    pub local: String,
    /// Who holds it.
    pub program: String,
}

impl Listener {
    /// Whether somebody outside can reach it.
    pub fn is_outward(&self) -> bool {
        !(self.local.starts_with("127.") || self.local.starts_with("[::1]"))
    }

    /// SSH, and the ports to which DHCP servers answer.
    pub fn is_expected(&self) -> bool {
        let port = self.local.rsplit(':').next().unwrap_or_default();
        match &*self.protocol {
            "tcp" => port == "22",
            "udp" => self.program == "systemd-network" && ["68", "546"].contains(&port),
            _ => false,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.protocol, self.local, self.program)
    }
}

/// Reads what the script printed.
pub(super) fn facts(text: &str) -> Facts {
    let mut parts: BTreeMap<&str, &str> = BTreeMap::new();
    for part in text.split("\n=== ").map(|part| part.trim_start_matches("=== ")) {
        let (name, body) = part.split_once('\n').unwrap_or((part, ""));
        parts.insert(name.trim(), body.trim());
    }
    let part = |name: &str| parts.get(name).copied().unwrap_or_default();
    let text = |name: &str| part(name).to_owned();
    let os = |key: &str| {
        let line = part("os").lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let init: Vec<String> = part("init").lines().map(str::to_owned).collect();
    let (total, used) = memory(part("memory"));
    Facts {
        state: text("state"),
        failed_units: part("failed").lines().filter_map(first_word).collect(),
        os_name: os("PRETTY_NAME").unwrap_or_default(),
        image_version: os("IMAGE_VERSION"),
        kernel: text("kernel"),
        cmdline: text("cmdline"),
        loader: text("loader"),
        entry: text("entry"),
        firmware: text("firmware"),
        usr: mount(part("usr")),
        verity_root_hash: field(part("verity"), "root hash:"),
        verity_status: field(part("verity"), "status:").unwrap_or_default(),
        root: mount(part("root")),
        disks: disks(part("disks")),
        memory_total_kib: total,
        memory_used_kib: used,
        times: times(part("times"), &init),
        init,
        listeners: part("sockets").lines().filter_map(listener).collect(),
    }
}

fn first_word(line: &str) -> Option<String> {
    line.split_whitespace().next().map(str::to_owned)
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.trim().strip_prefix(name)?.trim().to_owned()))
}

fn mount(json: &str) -> Option<Mount> {
    #[derive(Deserialize)]
    struct Findmnt {
        filesystems: Vec<Mount>,
    }
    // More than one is mounted over the other; the last one is what programs see.
    serde_json::from_str::<Findmnt>(json).ok()?.filesystems.pop()
}

fn disks(json: &str) -> Vec<Disk> {
    #[derive(Deserialize)]
    struct Lsblk {
        blockdevices: Vec<Device>,
    }
    #[derive(Deserialize)]
    struct Device {
        name: String,
        r#type: String,
        size: u64,
        partn: Option<u64>,
        partlabel: Option<String>,
        parttypename: Option<String>,
        fstype: Option<String>,
        #[serde(default)]
        children: Vec<Device>,
    }
    let devices = serde_json::from_str::<Lsblk>(json).map(|lsblk| lsblk.blockdevices);
    let is = |kind| move |device: &Device| device.r#type == kind;
    let partition = |device: Device| Partition {
        number: device.partn.unwrap_or_default(),
        name: device.name,
        label: device.partlabel.unwrap_or_default(),
        kind: device.parttypename.unwrap_or_default(),
        size_bytes: device.size,
        filesystem: device.fstype.unwrap_or_default(),
    };
    let disk = |device: Device| Disk {
        name: device.name,
        size_bytes: device.size,
        partitions: device.children.into_iter().filter(is("part")).map(partition).collect(),
    };
    devices.unwrap_or_default().into_iter().filter(is("disk")).map(disk).collect()
}

fn memory(meminfo: &str) -> (u64, u64) {
    let of = |name: &str| -> u64 {
        let value = field(meminfo, name).unwrap_or_default();
        value.trim_end_matches("kB").trim().parse().unwrap_or_default()
    };
    let (total, available) = (of("MemTotal:"), of("MemAvailable:"));
    (total, total.saturating_sub(available))
}

/// systemd counts in microseconds from the kernel's start; the firmware and the loader before it
/// count backwards.
fn times(shown: &str, init: &[String]) -> Times {
    let numbers: Vec<f64> =
        shown.lines().filter_map(|line| Some(line.trim().parse::<f64>().ok()? / 1e6)).collect();
    let [firmware, loader, systemd, end] = numbers[..] else { return Times::default() };
    let some = |value: f64| (value > 0.0).then_some(value);
    let said = |words: &str| init.iter().find(|line| line.contains(words)).and_then(|l| stamp(l));
    let start = said("pithos-init: start");
    Times {
        firmware: some(firmware).map(|firmware| firmware - loader),
        loader: some(loader),
        kernel: start.or(some(systemd)),
        init: start.map(|start| systemd - start),
        userspace: some(end - systemd),
    }
}

/// The seconds at the start of a line of the kernel's log: `[    1.234567] ...`.
fn stamp(line: &str) -> Option<f64> {
    line.trim_start().strip_prefix('[')?.split(']').next()?.trim().parse().ok()
}

/// A line of `ss -Hltunp`.
fn listener(line: &str) -> Option<Listener> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let program = line.split('"').nth(1).unwrap_or("-").to_owned();
    Some(Listener {
        protocol: (*words.first()?).to_owned(),
        local: (*words.get(4)?).to_owned(),
        program,
    })
}
