//! What a link may be called. The kernel says `eth0`; udev, which is not there yet, will call it
//! `enp1s0` or `ens3`, and that is what people write into `ip=`.

use std::{fs, path::Path};

use super::rtnetlink::Link;

/// What sysfs says of the device of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    /// As in `0000:01:00.0`.
    pub(super) pci: Option<String>,
    /// Whether the device has more than one function.
    pub(super) several_functions: bool,
    /// The number of the slot that it is in.
    pub(super) slot: Option<u32>,
    /// The number that the firmware gave it.
    pub(super) onboard: Option<u32>,
}

/// Whether a link is the one that is meant.
pub(super) fn is_meant(link: &Link, device: &Device, wanted: &str) -> bool {
    let wanted = wanted.to_ascii_lowercase();
    let mac = link.mac.map(|byte| format!("{byte:02x}"));
    wanted == link.name.to_ascii_lowercase()
        || wanted == mac.join("-")
        || wanted == mac.join(":")
        || wanted == format!("enx{}", mac.concat())
        || predictable(device).contains(&wanted)
}

/// The names that udev would choose from.
fn predictable(device: &Device) -> Vec<String> {
    let mut names = Vec::new();
    names.extend(device.onboard.map(|number| format!("eno{number}")));
    let Some((domain, bus, slot, function)) = device.pci.as_deref().and_then(pci) else {
        return names;
    };
    let function = match device.several_functions || function > 0 {
        true => format!("f{function}"),
        false => String::new(),
    };
    names.extend(device.slot.map(|number| format!("ens{number}{function}")));
    let domain = if domain > 0 { format!("P{domain}") } else { String::new() };
    names.push(format!("en{domain}p{bus}s{slot}{function}").to_ascii_lowercase());
    names
}

/// `DOMAIN:BUS:SLOT.FUNCTION`, hexadecimal.
fn pci(text: &str) -> Option<(u32, u32, u32, u32)> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let (domain, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (slot, function) = rest.split_once('.')?;
    Some((hex(domain)?, hex(bus)?, hex(slot)?, hex(function)?))
}

/// Reads what there is to know of the device of a link.
pub(super) fn device(link: &str, sys: &Path) -> Device {
    let path = fs::canonicalize(sys.join("class/net").join(link).join("device"));
    let Ok(path) = path else { return Device::default() };
    // A virtio card is a child of the PCI device that its name comes from.
    let is_pci = |path: &&Path| path.file_name().is_some_and(|name| pci_name(name).is_some());
    let Some(pci_path) = path.ancestors().find(is_pci) else { return Device::default() };
    let name = pci_path.file_name().and_then(pci_name).map(str::to_owned);
    let number = |file: &str| {
        let text = fs::read_to_string(pci_path.join(file)).ok()?;
        text.trim().parse().ok().filter(|number| *number > 0)
    };
    let bare = name.as_deref().and_then(|name| name.split_once('.')).map(|(bare, _)| bare);
    let other = bare.and_then(|bare| {
        let folder = pci_path.parent()?;
        (1..8).find(|function| folder.join(format!("{bare}.{function}")).exists())
    });
    Device {
        several_functions: other.is_some(),
        slot: bare.and_then(|bare| slot(bare, sys)),
        onboard: number("acpi_index").or_else(|| number("index")),
        pci: name,
    }
}

fn pci_name(name: &std::ffi::OsStr) -> Option<&str> {
    name.to_str().filter(|name| pci(name).is_some())
}

fn slot(address: &str, sys: &Path) -> Option<u32> {
    let slots = fs::read_dir(sys.join("bus/pci/slots")).ok()?;
    let found = slots.flatten().find(|slot| {
        fs::read_to_string(slot.path().join("address")).is_ok_and(|text| text.trim() == address)
    })?;
    found.file_name().to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_answers_to_all_its_names() {
        let mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            mac,
            mtu: 1500,
            is_up: false,
            has_carrier: false,
        };
        let device = Device {
            pci: Some("0000:0a:03.0".to_owned()),
            several_functions: false,
            slot: Some(3),
            onboard: Some(1),
        };
        for name in [
            "eth0",
            "52-54-00-12-34-56",
            "52:54:00:12:34:56",
            "enx525400123456",
            "enp10s3",
            "ens3",
            "eno1",
        ] {
            assert!(is_meant(&link, &device, name), "{name}");
        }
        for name in ["eth1", "enp1s3", "ens4", "52-54-00-12-34-57"] {
            assert!(!is_meant(&link, &device, name), "{name}");
        }
        let second = Device { pci: Some("0001:02:00.1".to_owned()), ..Device::default() };
        assert_eq!(predictable(&second), ["enp1p2s0f1"]);
    }
}
