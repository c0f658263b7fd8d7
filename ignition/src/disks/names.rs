//! The names of devices below /dev/disk and the like: what udev(7) makes links of, said from the
//! facts that it makes them of. The initramfs has no udev.

use std::collections::BTreeMap;

/// A block device, as /sys and its first bytes describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The kernel's name for it, as in `vda1`.
    pub name: String,
    /// The disk that it is a partition of.
    pub disk: Option<String>,
    /// Its number there.
    pub number: Option<u32>,
    /// Where it hangs, as a path below /sys/devices.
    pub path: String,
    /// Its attributes, by their path in its folder, as in `device/model`.
    pub attributes: BTreeMap<String, String>,
    /// What is said of it by what is on it: `label`, `uuid`, `partlabel`, `partuuid`.
    pub marks: BTreeMap<String, String>,
}

/// All the names of a device. Those of its disk are needed for those of a partition.
pub fn names(block: &Block, disk: Option<&Block>) -> Vec<String> {
    let mut all = vec![format!("/dev/{}", block.name)];
    for (mark, text) in &block.marks {
        all.push(format!("/dev/disk/by-{mark}/{}", encoded(text)));
    }
    match (disk, block.number) {
        (Some(disk), Some(number)) => {
            let part = |name: String| format!("{name}-part{number}");
            all.extend(hardware(disk).into_iter().map(part));
        }
        _ => all.extend(hardware(block)),
    }
    all
}

/// The devices that a name means.
pub fn resolve<'a>(name: &str, blocks: &'a [Block]) -> Vec<&'a Block> {
    let disk = |block: &Block| {
        block.disk.as_ref().and_then(|disk| blocks.iter().find(|other| other.name == *disk))
    };
    blocks.iter().filter(|block| names(block, disk(block)).iter().any(|one| one == name)).collect()
}

/// The names by id and by path.
fn hardware(block: &Block) -> Vec<String> {
    let attribute = |key: &str| {
        let text = block.attributes.get(key).map(|text| text.trim()).unwrap_or_default();
        (!text.is_empty()).then_some(text)
    };
    let mut ids = vec![];
    let mut all = vec![];
    if let Some(name) = attribute("dm/name") {
        all.push(format!("/dev/mapper/{name}"));
        ids.push(format!("dm-name-{name}"));
        ids.extend(attribute("dm/uuid").map(|uuid| format!("dm-uuid-{uuid}")));
    }
    if block.name.starts_with("vd") {
        ids.extend(attribute("serial").map(|serial| format!("virtio-{}", joined(serial))));
    } else if block.name.starts_with("nvme") {
        if let (Some(model), Some(serial)) = (attribute("device/model"), attribute("device/serial"))
        {
            let id = format!("nvme-{}_{}", joined(model), joined(serial));
            ids.extend(attribute("nsid").map(|nsid| format!("{id}_{nsid}")));
            ids.push(id);
        }
        ids.extend(attribute("wwid").map(|wwid| format!("nvme-{}", joined(wwid))));
    } else if let (Some(vendor), Some(model)) =
        (attribute("device/vendor"), attribute("device/model"))
    {
        let serial = attribute("device/vpd_pg80");
        if let Some(serial) = serial {
            let (vendor, model, serial) = (joined(vendor), joined(model), joined(serial));
            match vendor == "ATA" {
                true => ids.push(format!("ata-{model}_{serial}")),
                false => ids.push(format!("scsi-0{vendor}_{model}_{serial}")),
            }
            ids.extend((vendor == "Google").then(|| format!("google-{serial}")));
        }
        if let Some(wwn) = attribute("device/wwid").and_then(|wwid| wwid.strip_prefix("naa.")) {
            ids.push(format!("wwn-0x{wwn}"));
            ids.push(format!("scsi-3{wwn}"));
        }
    }
    all.extend(ids.into_iter().map(|id| format!("/dev/disk/by-id/{id}")));
    all.extend(by_path(block).into_iter().map(|path| format!("/dev/disk/by-path/{path}")));
    all
}

/// Where the device hangs: the last device of PCI on the way, and what follows it.
fn by_path(block: &Block) -> Vec<String> {
    let parts: Vec<&str> = block.path.split('/').collect();
    let is_pci = |part: &&str| {
        let mut fields = part.split([':', '.']);
        let lengths = [4, 2, 2, 1].map(|length| {
            fields.next().is_some_and(|field| {
                field.len() == length && field.chars().all(|c| c.is_ascii_hexdigit())
            })
        });
        lengths == [true; 4] && fields.next().is_none()
    };
    let Some(at) = parts.iter().rposition(is_pci) else { return vec![] };
    let pci = format!("pci-{}", parts[at]);
    let below = &parts[at + 1..];
    // Its own address behind the host: HOST:CHANNEL:TARGET:LUN, the host's number is a chance.
    let scsi = below.iter().rev().find_map(|part| {
        let fields: Vec<_> = part.split(':').collect();
        (fields.len() == 4 && fields.iter().all(|f| f.parse::<u32>().is_ok()))
            .then(|| fields[1..].join(":"))
    });
    let ata = below.iter().find_map(|part| {
        let number = part.strip_prefix("ata")?;
        number.parse::<u32>().ok()
    });
    let is_virtio = below.iter().any(|part| part.starts_with("virtio"));
    match (ata, scsi) {
        (Some(number), _) => vec![format!("{pci}-ata-{number}"), format!("{pci}-ata-{number}.0")],
        (None, Some(address)) => vec![format!("{pci}-scsi-0:{address}")],
        (None, None) if below.contains(&"nvme") => {
            let namespace = block.name.rsplit('n').next().unwrap_or("1");
            vec![format!("{pci}-nvme-{namespace}")]
        }
        (None, None) if is_virtio => vec![pci.clone(), format!("virtio-{pci}")],
        (None, None) => vec![],
    }
}

/// White space as udev has it in ids: one line below for each run.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join("_")
}

/// A label as udev has it in the name of a link.
pub(crate) fn encoded(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii() {
            true => name.push(c),
            false => name.push_str(&format!("\\x{:02x}", c as u32)),
        }
    }
    name
}

/// The number and the disk's name, if a name is that of a partition by the rules for naming them.
pub(crate) fn of_partition(name: &str) -> Vec<(String, u32)> {
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (base, number) = name.split_at(name.len() - digits);
    let Ok(number) = number.parse() else { return vec![] };
    let mut all = vec![];
    if let Some(disk) = base.strip_suffix("-part") {
        all.push((disk.to_owned(), number));
    }
    let of_numbered = base.strip_suffix('p');
    match of_numbered.filter(|disk| disk.ends_with(|c: char| c.is_ascii_digit())) {
        Some(disk) => all.push((disk.to_owned(), number)),
        None => all.push((base.to_owned(), number)),
    }
    all
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn check(name: &str, path: &str, attributes: &[(&str, &str)], expected: Expect) {
        let (name, path, attributes) = (name.to_owned(), path.to_owned(), map(attributes));
        let block = Block { name, path, attributes, ..Block::default() };
        expected.assert_eq(&(names(&block, None).join("\n") + "\n"));
    }

    #[test]
    fn a_disk_of_virtio_has_its_serial_and_its_slot() {
        let path = "pci0000:00/0000:00:04.0/virtio1/block/vdb";
        check(
            "vdb",
            path,
            &[("serial", "data 1")],
            expect![[r#"
            /dev/vdb
            /dev/disk/by-id/virtio-data_1
            /dev/disk/by-path/pci-0000:00:04.0
            /dev/disk/by-path/virtio-pci-0000:00:04.0
        "#]],
        );
    }

    #[test]
    fn a_disk_of_nvme_has_model_and_serial_and_its_world_wide_name() {
        let path = "pci0000:00/0000:00:1e.0/nvme/nvme0/nvme0n1";
        let attributes = [
            ("device/model", "Amazon Elastic Block Store    "),
            ("device/serial", "vol0123"),
            ("wwid", "nvme.1d0f-766f"),
            ("nsid", "1"),
        ];
        check(
            "nvme0n1",
            path,
            &attributes,
            expect![[r#"
            /dev/nvme0n1
            /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123_1
            /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123
            /dev/disk/by-id/nvme-nvme.1d0f-766f
            /dev/disk/by-path/pci-0000:00:1e.0-nvme-1
        "#]],
        );
    }

    #[test]
    fn disks_that_speak_scsi_have_vendor_model_and_serial() {
        let path = "pci0000:00/0000:00:03.0/virtio0/host0/target0:0:2/0:0:2:0/block/sdb";
        let attributes = [
            ("device/vendor", "Google  "),
            ("device/model", "PersistentDisk  "),
            ("device/vpd_pg80", "data"),
        ];
        check(
            "sdb",
            path,
            &attributes,
            expect![[r#"
            /dev/sdb
            /dev/disk/by-id/scsi-0Google_PersistentDisk_data
            /dev/disk/by-id/google-data
            /dev/disk/by-path/pci-0000:00:03.0-scsi-0:0:2:0
        "#]],
        );
        let path = "pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda";
        let attributes = [
            ("device/vendor", "ATA     "),
            ("device/model", "QEMU HARDDISK   "),
            ("device/vpd_pg80", "QM00001"),
            ("device/wwid", "naa.5000c500a0b0c0d0"),
        ];
        check(
            "sda",
            path,
            &attributes,
            expect![[r#"
            /dev/sda
            /dev/disk/by-id/ata-QEMU_HARDDISK_QM00001
            /dev/disk/by-id/wwn-0x5000c500a0b0c0d0
            /dev/disk/by-id/scsi-35000c500a0b0c0d0
            /dev/disk/by-path/pci-0000:00:1f.2-ata-1
            /dev/disk/by-path/pci-0000:00:1f.2-ata-1.0
        "#]],
        );
    }

    #[test]
    fn partitions_are_found_by_their_disk_and_by_what_is_on_them() {
        let disk = Block {
            name: "vda".to_owned(),
            attributes: map(&[("serial", "boot")]),
            ..Block::default()
        };
        let part = |number: u32, label: &str| Block {
            name: format!("vda{number}"),
            disk: Some("vda".to_owned()),
            number: Some(number),
            marks: map(&[("partlabel", label), ("uuid", "2E24-EC82")]),
            ..Block::default()
        };
        let blocks = [disk, part(1, "my data"), part(2, "other")];
        let found = |name: &str| {
            let found = resolve(name, &blocks);
            found.iter().map(|block| block.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("/dev/vda2"), "vda2");
        assert_eq!(found("/dev/disk/by-id/virtio-boot"), "vda");
        assert_eq!(found("/dev/disk/by-id/virtio-boot-part2"), "vda2");
        assert_eq!(found("/dev/disk/by-partlabel/my\\x20data"), "vda1");
        assert_eq!(found("/dev/disk/by-uuid/2E24-EC82"), "vda1 vda2");
        assert_eq!(found("/dev/disk/by-label/none"), "");
    }

    #[test]
    fn a_name_can_be_that_of_a_partition_in_three_ways() {
        let one = |disk: &str, number| vec![(disk.to_owned(), number)];
        assert_eq!(of_partition("/dev/vda1"), one("/dev/vda", 1));
        assert_eq!(of_partition("/dev/nvme0n1p12"), one("/dev/nvme0n1", 12));
        assert_eq!(of_partition("/dev/disk/by-id/virtio-x-part3").len(), 2);
        assert_eq!(of_partition("/dev/disk/by-id/virtio-x-part3")[0].0, "/dev/disk/by-id/virtio-x");
        assert_eq!(of_partition("/dev/vda"), vec![]);
        assert_eq!(of_partition("/dev/vda99999999999"), vec![]);
    }
}
