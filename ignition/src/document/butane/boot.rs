//! `boot_device` and `grub` of Fedora CoreOS: the layout of its boot disk, mirrored or encrypted,
//! and the users of its boot loader.

use serde_json::{Value as Json, json};

use super::translate::{child_mut, follows, list_mut, put_content};
use crate::document::{
    merge,
    node::{Map, Mark, Node, Value},
};

const RESERVED: &str = "8DA63339-0007-60C0-C436-083AC8230908";
const BIOS: &str = "21686148-6449-6E6F-744E-656564454649";
const PREP: &str = "9E1A2D38-C612-4316-AA26-8B49521E5A8B";
const ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";

/// Puts what `boot_device` stands for under the document: what the document itself says wins.
pub(super) fn device(document: &Node, ignition: Node) -> Node {
    let Some(boot) = document.get("boot_device") else { return ignition };
    let mirror = boot.get("mirror").and_then(|mirror| mirror.get("devices"));
    let devices = mirror.and_then(Node::list).unwrap_or_default();
    let luks = boot.get("luks").filter(|luks| wants_luks(luks));
    if devices.is_empty() && luks.is_none() {
        return ignition;
    }
    let layout = boot.get("layout").and_then(Node::text).unwrap_or("x86_64");
    let mut parent = Node::new(boot.mark, Map::default());
    if let Some(mirror) = boot.get("mirror").filter(|_| !devices.is_empty()) {
        mirrored(&mut parent, mirror.mark, devices, layout);
    }
    if let Some(luks) = luks {
        let volume = encrypted(luks, layout, !devices.is_empty());
        push(&mut parent, luks.mark, "luks", volume);
    }
    let root = if luks.is_some() { "/dev/mapper/root" } else { "/dev/md/md-root" };
    push(
        &mut parent,
        boot.mark,
        "filesystems",
        follows(boot.mark, filesystem(root, "xfs", "root")),
    );
    merge(parent, ignition)
}

/// Whether `boot_device.luks` says how the key is kept.
pub(super) fn wants_luks(luks: &Node) -> bool {
    let is_true = |node: Option<&Node>| node.is_some_and(|node| node.value == Value::Bool(true));
    let tang = luks.get("tang").and_then(Node::list).is_some_and(|tang| !tang.is_empty());
    tang || is_true(luks.get("tpm2")) || is_true(luks.get("cex").and_then(|cex| cex.get("enabled")))
}

fn push(parent: &mut Node, mark: Mark, list: &str, node: Node) {
    list_mut(child_mut(parent, "storage", mark), list, mark).push(node);
}

fn filesystem(device: &str, format: &str, label: &str) -> Json {
    json!({"device": device, "format": format, "label": label, "wipeFilesystem": true})
}

/// Every disk gets the partitions of the original, for the boot loader of each kind of machine.
fn mirrored(parent: &mut Node, mark: Mark, devices: &[Node], layout: &str) {
    let partition = |label: String, size: i64, kind: &str| json!({"label": label, "sizeMiB": size, "typeGuid": kind});
    let efi = matches!(layout, "x86_64" | "aarch64");
    for (device, number) in devices.iter().zip(1..) {
        let reserved = || partition(format!("reserved-{number}"), 1, RESERVED);
        let first = match layout {
            "x86_64" => partition(format!("bios-{number}"), 1, BIOS),
            "ppc64le" => partition(format!("prep-{number}"), 4, PREP),
            _ => reserved(),
        };
        let second = match efi {
            true => partition(format!("esp-{number}"), 127, ESP),
            false => reserved(),
        };
        let disk = json!({
            "device": device.text().unwrap_or_default(),
            "wipeTable": true,
            "partitions": [
                first,
                second,
                {"label": format!("boot-{number}"), "sizeMiB": 384},
                {"label": format!("root-{number}")},
            ],
        });
        push(parent, device.mark, "disks", follows(device.mark, disk));
        if efi {
            let label = format!("esp-{number}");
            let esp = filesystem(&format!("/dev/disk/by-partlabel/{label}"), "vfat", &label);
            push(parent, device.mark, "filesystems", follows(device.mark, esp));
        }
    }
    let parts = |label: &str| -> Vec<String> {
        let numbers = 1..=devices.len();
        numbers.map(|number| format!("/dev/disk/by-partlabel/{label}-{number}")).collect()
    };
    // The superblock is at the end, so that a boot loader that knows nothing of RAID finds /boot.
    let boot = json!({
        "name": "md-boot",
        "level": "raid1",
        "devices": parts("boot"),
        "options": ["--metadata=1.0"],
    });
    let root = json!({"name": "md-root", "level": "raid1", "devices": parts("root")});
    push(parent, mark, "raid", follows(mark, boot));
    push(parent, mark, "raid", follows(mark, root));
    let boot = filesystem("/dev/md/md-boot", "ext4", "boot");
    push(parent, mark, "filesystems", follows(mark, boot));
}

fn encrypted(luks: &Node, layout: &str, mirrored: bool) -> Node {
    let disk = luks.get("device").and_then(Node::text).unwrap_or_default();
    let device = match layout {
        "s390x-eckd" => format!("{disk}2"),
        "s390x-zfcp" => format!("{disk}4"),
        _ if mirrored => "/dev/md/md-root".to_owned(),
        _ => "/dev/disk/by-partlabel/root".to_owned(),
    };
    let volume =
        json!({"name": "root", "label": "luks-root", "device": device, "wipeVolume": true});
    let mut volume = follows(luks.mark, volume);
    if let Some(discard) = luks.get("discard") {
        *child_mut(&mut volume, "discard", discard.mark) = discard.clone();
    }
    let enabled = luks.get("cex").and_then(|cex| cex.get("enabled"));
    if let Some(cex) = luks
        .get("cex")
        .filter(|_| enabled.is_some_and(|enabled| enabled.value == Value::Bool(true)))
    {
        *child_mut(&mut volume, "cex", cex.mark) = cex.clone();
        return volume;
    }
    let clevis = child_mut(&mut volume, "clevis", luks.mark);
    // Their names are the same in both spellings.
    for key in ["tang", "threshold", "tpm2"] {
        if let Some(node) = luks.get(key) {
            *child_mut(clevis, key, node.mark) = node.clone();
        }
    }
    volume
}

/// Puts the users of GRUB where the boot loader of Fedora CoreOS reads them.
pub(super) fn grub(document: &Node, ignition: Node) -> Node {
    let users = document.get("grub").and_then(|grub| grub.get("users"));
    let Some(node) = users else { return ignition };
    let users = node.list().unwrap_or_default();
    if users.is_empty() {
        return ignition;
    }
    let text = |user: &Node, key| user.get(key).and_then(Node::text).unwrap_or_default().to_owned();
    let names: Vec<String> = users.iter().map(|user| text(user, "name")).collect();
    let mut config = format!("# Generated by Butane\n\nset superusers=\"{}\"\n", names.join(" "));
    for user in users {
        let (name, hash) = (text(user, "name"), text(user, "password_hash"));
        config.push_str(&format!("password_pbkdf2 {name} {hash}\n"));
    }
    let mut resource = Map::default();
    put_content(&mut resource, node.mark, config.as_bytes());
    let mut parent = follows(
        node.mark,
        json!({"storage": {
            "filesystems": [
                {"device": "/dev/disk/by-label/boot", "format": "ext4", "path": "/boot"},
            ],
        }}),
    );
    let mut file = follows(node.mark, json!({"path": "/boot/grub2/user.cfg"}));
    list_mut(&mut file, "append", node.mark).push(Node::new(node.mark, resource));
    push(&mut parent, node.mark, "files", file);
    merge(parent, ignition)
}
