//! Rules for disks, arrays, encrypted volumes and file systems.

use std::collections::HashMap;

use super::{Rules, path_problem};
use crate::document::{
    config::{Clevis, ClevisCustom, Disk, Filesystem, Luks, Partition, Raid, Storage, Tang},
    json,
    node::At,
};

/// A number of mebibytes that is still a number of bytes.
const MAX_MIB: i64 = i64::MAX >> 20;

impl Rules<'_> {
    /// From disks to file systems.
    pub(super) fn disks(&mut self, storage: &Storage, at: &At<'_>) {
        let disks = at.key("disks");
        for (index, disk) in storage.disks.iter().enumerate() {
            self.disk(disk, &disks.index(index));
        }
        let raids = at.key("raid");
        for (index, raid) in storage.raid.iter().enumerate() {
            self.raid(raid, &raids.index(index));
        }
        let volumes = at.key("luks");
        for (index, luks) in storage.luks.iter().enumerate() {
            self.luks(luks, &volumes.index(index));
        }
        let by_device: HashMap<&str, &Disk> =
            storage.disks.iter().map(|disk| (&*disk.device, disk)).collect();
        let mut mounted: HashMap<&str, usize> = HashMap::new();
        let filesystems = at.key("filesystems");
        for (index, filesystem) in storage.filesystems.iter().enumerate() {
            let at = filesystems.index(index);
            self.filesystem(filesystem, &at);
            match by_device.get(&*filesystem.device) {
                Some(disk) if !disk.partitions.is_empty() => {
                    let message =
                        "a file system on a whole disk whose partitions this document describes";
                    self.warning(&at.key("device"), message);
                }
                Some(disk)
                    if disk.wipe_table == Some(true)
                        && filesystem.wipe_filesystem != Some(true) =>
                {
                    let message = "`wipeTable` of this disk removes the file system, too";
                    self.warning(&at.key("device"), message);
                }
                _ => {}
            }
            let Some(path) = filesystem.path.as_deref().filter(|path| !path.is_empty()) else {
                continue;
            };
            if let Some(first) = mounted.insert(path, index) {
                let message = format!("$.storage.filesystems.{first} is mounted here already");
                self.report.error(&at.key("path"), message);
            }
        }
    }

    fn disk(&mut self, disk: &Disk, at: &At<'_>) {
        if disk.device.is_empty() {
            self.error(&at.key("device"), "a device is missing here");
            return;
        }
        self.refuse(&at.key("device"), path_problem(&disk.device));
        let partitions = at.key("partitions");
        for (index, partition) in disk.partitions.iter().enumerate() {
            self.partition(partition, &partitions.index(index));
        }
        let complaints = [
            (same_number(disk), "another partition of this disk has the same number"),
            (overlap(disk), "this partition and another one of this disk overlap"),
            (same_label(disk), "another partition of this disk has the same label"),
            (
                removed_beside_unnumbered(disk),
                "a partition cannot be removed beside one with the \
                number 0: which numbers are free is not known before",
            ),
        ];
        for (index, message) in complaints {
            if let Some(index) = index {
                self.error(&partitions.index(index), message);
            }
        }
    }

    fn partition(&mut self, partition: &Partition, at: &At<'_>) {
        let Partition { guid, label, number, size_mib, start_mib, type_guid, .. } = partition;
        let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let described = label.is_some()
            || filled(guid)
            || filled(type_guid)
            || start_mib.is_some()
            || size_mib.is_some();
        if partition.should_exist == Some(false) && described {
            self.error(at, "a partition that shall not exist is given by its number alone");
        }
        if *number == 0 && label.is_none() {
            self.error(at, "a partition has a number from 1 on, or a label");
        }
        self.not_negative(&at.key("number"), Some(*number));
        for (key, value) in [("sizeMiB", size_mib), ("startMiB", start_mib)] {
            self.not_negative(&at.key(key), *value);
            if value.is_some_and(|value| value > MAX_MIB) {
                self.error(&at.key(key), "more bytes than a number can hold");
            }
        }
        if let Some(label) = label {
            if label.len() > 36 {
                self.error(&at.key("label"), "a label of a partition has at most 36 characters");
            } else if label.contains(':') {
                self.error(&at.key("label"), "a label of a partition cannot hold `:`");
            }
        }
        for (key, guid) in [("guid", guid), ("typeGuid", type_guid)] {
            if guid.as_ref().is_some_and(|guid| !is_guid(guid)) {
                let message = "expected a GUID as 01234567-89AB-CDEF-EDCB-A98765432101";
                self.error(&at.key(key), message);
            }
        }
    }

    fn raid(&mut self, raid: &Raid, at: &At<'_>) {
        let name = &raid.name;
        if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
            self.error(&at.key("name"), "expected a name: a word without `/`");
        }
        let level = raid.level.as_deref().unwrap_or_default();
        let problem = match level {
            "" => Some("a level is missing here"),
            "linear" | "raid0" | "0" | "stripe" if raid.spares.unwrap_or(0) != 0 => {
                Some("this level cannot make use of spares")
            }
            "linear" | "raid0" | "0" | "stripe" | "raid1" | "1" | "mirror" | "raid4" | "4"
            | "raid5" | "5" | "raid6" | "6" | "raid10" | "10" => None,
            _ => Some("expected linear, raid0, raid1, raid4, raid5, raid6 or raid10"),
        };
        self.refuse(&at.key("level"), problem);
        let devices = at.key("devices");
        if raid.devices.is_empty() {
            self.error(&devices, "the devices of the array are missing");
        }
        for (index, device) in raid.devices.iter().enumerate() {
            self.refuse(&devices.index(index), path_problem(device));
        }
        self.not_negative(&at.key("spares"), raid.spares);
    }

    fn luks(&mut self, luks: &Luks, at: &At<'_>) {
        let name = &luks.name;
        if name.contains('/') {
            self.error(&at.key("name"), "the name of a volume cannot hold `/`");
        } else if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '\0') {
            self.error(&at.key("name"), "expected a name: a word without blanks");
        }
        if luks.label.as_ref().is_some_and(|label| label.len() > 47) {
            self.error(&at.key("label"), "a label of LUKS2 has at most 47 bytes");
        }
        match luks.device.as_deref().unwrap_or_default() {
            "" => self.error(&at.key("device"), "a device is missing here"),
            device => self.refuse(&at.key("device"), path_problem(device)),
        }
        self.resource(&luks.key_file, &at.key("keyFile"));
        self.clevis(&luks.clevis, &at.key("clevis"));
        if luks.cex.enabled == Some(true) {
            let at = at.key("cex");
            if has_pins(&luks.clevis) {
                self.error(&at, "a Crypto Express card and clevis exclude each other");
            }
            if luks.key_file.source.as_ref().is_some_and(|source| !source.is_empty()) {
                self.error(&at, "a Crypto Express card and a key file exclude each other");
            }
        }
    }

    fn clevis(&mut self, clevis: &Clevis, at: &At<'_>) {
        let ClevisCustom { config, needs_network, pin } = &clevis.custom;
        let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
        let threshold = clevis.threshold.unwrap_or(0);
        let others = !clevis.tang.is_empty() || clevis.tpm2 == Some(true) || threshold != 0;
        if !empty(pin) && others {
            self.error(at, "a custom pin excludes tang, tpm2 and threshold");
        }
        self.not_negative(&at.key("threshold"), clevis.threshold);
        let custom = at.key("custom");
        if !empty(pin) || !empty(config) || *needs_network == Some(true) {
            let known = ["tpm2", "tang", "sss"];
            match pin.as_deref().unwrap_or_default() {
                "" => self.error(&custom.key("pin"), "the name of the pin is missing"),
                pin if self.minor < 6 && !known.contains(&pin) => {
                    self.error(&custom.key("pin"), "before specification 3.6.0: tpm2, tang or sss");
                }
                _ => {}
            }
            if empty(config) {
                self.error(&custom.key("config"), "the configuration of the pin is missing");
            }
        }
        let servers = at.key("tang");
        for (index, tang) in clevis.tang.iter().enumerate() {
            let at = servers.index(index);
            let Tang { advertisement, thumbprint, url } = tang;
            self.tang_url(url, &at.key("url"));
            if empty(thumbprint) {
                self.error(
                    &at.key("thumbprint"),
                    "a thumbprint is missing here: without it, anybody could answer",
                );
            }
            let advertisement = advertisement.as_deref().unwrap_or_default();
            if !advertisement.is_empty() && json::parse(advertisement, 0).is_err() {
                self.error(&at.key("advertisement"), "an advertisement is JSON");
            }
        }
    }

    fn filesystem(&mut self, filesystem: &Filesystem, at: &At<'_>) {
        let Filesystem { device, format, label, path, uuid, .. } = filesystem;
        let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if filled(path) {
            self.refuse(&at.key("path"), path.as_deref().and_then(path_problem));
        }
        self.refuse(&at.key("device"), path_problem(device));
        let others = filled(path)
            || filled(label)
            || filled(uuid)
            || filesystem.wipe_filesystem == Some(true)
            || !filesystem.mount_options.is_empty()
            || !filesystem.options.is_empty();
        let mut formats = vec!["ext4", "btrfs", "xfs", "swap", "vfat"];
        if self.minor >= 3 {
            formats.push("none");
        }
        let limit = match format.as_deref().unwrap_or_default() {
            "" => {
                if others {
                    self.error(
                        &at.key("format"),
                        "a format is missing: what else is said here needs one",
                    );
                }
                if filled(label) {
                    self.error(&at.key("label"), "a label needs a format");
                }
                return;
            }
            known if !formats.contains(&known) => {
                let message = format!("expected one of {}", formats.join(", "));
                self.refuse(&at.key("format"), Some(message));
                return;
            }
            "ext4" => 16,
            "btrfs" => 256,
            "xfs" => 12,
            "swap" => 15,
            "vfat" => 11,
            _ => usize::MAX,
        };
        if label.as_ref().is_some_and(|label| label.len() > limit) {
            let message = format!("a label of this format has at most {limit} bytes");
            self.refuse(&at.key("label"), Some(message));
        }
    }
}

fn has_pins(clevis: &Clevis) -> bool {
    clevis.custom.pin.as_ref().is_some_and(|pin| !pin.is_empty())
        || !clevis.tang.is_empty()
        || clevis.tpm2 == Some(true)
        || clevis.threshold.unwrap_or(0) != 0
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let hex = groups.iter().all(|group| group.bytes().all(|b| b.is_ascii_hexdigit()));
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    text.is_empty() || hex && lengths == [8, 4, 4, 4, 12]
}

fn same_number(disk: &Disk) -> Option<usize> {
    let number = |index: usize| disk.partitions[index].number;
    let earlier = |index: usize| (0..index).any(|other| number(other) == number(index));
    (0..disk.partitions.len()).find(|index| number(*index) != 0 && earlier(*index))
}

fn same_label(disk: &Disk) -> Option<usize> {
    let label = |index: usize| disk.partitions[index].label.as_ref();
    let earlier = |index: usize| (0..index).any(|other| label(other) == label(index));
    (0..disk.partitions.len()).find(|index| label(*index).is_some() && earlier(*index))
}

fn removed_beside_unnumbered(disk: &Disk) -> Option<usize> {
    let unnumbered = disk.partitions.iter().any(|partition| partition.number == 0);
    let removed = |partition: &Partition| partition.should_exist == Some(false);
    disk.partitions.iter().position(|partition| unnumbered && removed(partition))
}

/// The first partition that another one, of which all is said too, overlaps.
fn overlap(disk: &Disk) -> Option<usize> {
    let range = |partition: &Partition| {
        let start = partition.start_mib.filter(|start| *start > 0)?;
        // 0 is up to where there is room: the first mebibyte of it, at least.
        let size = partition.size_mib?.max(1);
        Some(start..start.saturating_add(size))
    };
    let ranges: Vec<_> = disk.partitions.iter().map(range).collect();
    ranges.iter().enumerate().find_map(|(first, one)| {
        let one = one.as_ref()?;
        let touches = |other: &std::ops::Range<i64>| other.start < one.end && one.start < other.end;
        let rest = ranges.iter().enumerate().filter(|(index, _)| *index != first);
        rest.filter_map(|(index, other)| Some((index, other.as_ref()?)))
            .find(|(_, other)| touches(other))
            .map(|(index, _)| index)
    })
}
