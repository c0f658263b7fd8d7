//! What only Butane complains of: contradictions in its sugar, and what is probably not meant.

use super::{
    boot,
    dialect::{Dialect, Variant},
};
use crate::document::{
    node::{At, Node, Value},
    report::Report,
};

/// The boot disk of Fedora CoreOS, whose partitions have fixed numbers.
const BOOT_DISK: &str = "/dev/disk/by-id/coreos-boot-disk";

pub(super) fn check(document: &Node, dialect: Dialect, report: &mut Report) {
    let root = At::root(document);
    let storage = root.key("storage");
    each(&storage.key("files"), |at| {
        resource(&at.key("contents"), report);
        each(&at.key("append"), |at| resource(&at, report));
        mode(&at.key("mode"), false, report);
    });
    each(&storage.key("directories"), |at| mode(&at.key("mode"), true, report));
    each(&storage.key("luks"), |at| {
        resource(&at.key("key_file"), report);
        let clevis = at.key("clevis");
        let says = clevis.node().and_then(Node::map).is_some_and(|map| !map.0.is_empty());
        if says && dialect.variant == Variant::Flatcar {
            report.error(&clevis, "there is no clevis on the system of this variant");
        }
    });
    each(&storage.key("trees"), |at| {
        if text(&at, "local").is_empty() {
            report.error(&at, "expected `local`: which directory the tree is");
        }
        mode(&at.key("file_mode"), false, report);
        mode(&at.key("dir_mode"), true, report);
    });
    each(&storage.key("filesystems"), |at| filesystem(&at, dialect, report));
    documents(&root.key("ignition"), report);
    let systemd = root.key("systemd");
    each(&systemd.key("units"), |at| {
        contents(&at, report);
        each(&at.key("dropins"), |at| contents(&at, report));
    });
    partitions(&storage.key("disks"), &root, dialect, report);
    boot_device(&root.key("boot_device"), dialect, report);
    let grub = root.key("grub");
    each(&grub.key("users"), |at| {
        for key in ["name", "password_hash"] {
            if text(&at, key).is_empty() {
                report.error(&at, format!("expected `{key}`: a user of GRUB has to have one"));
            }
        }
    });
}

fn each(list: &At<'_>, mut check: impl FnMut(At<'_>)) {
    for index in 0..list.node().and_then(Node::list).map_or(0, <[Node]>::len) {
        check(list.index(index));
    }
}

fn text<'a>(at: &At<'a>, key: &str) -> &'a str {
    at.node().and_then(|node| node.get(key)).and_then(Node::text).unwrap_or_default()
}

fn is_true(at: &At<'_>, key: &str) -> bool {
    let node = at.node().and_then(|node| node.get(key));
    node.is_some_and(|node| node.value == Value::Bool(true))
}

fn integer(at: &At<'_>, key: &str) -> Option<i64> {
    match at.node().and_then(|node| node.get(key)).map(|node| &node.value) {
        Some(Value::Integer(integer)) => Some(*integer),
        _ => None,
    }
}

fn documents(ignition: &At<'_>, report: &mut Report) {
    let config = ignition.key("config");
    each(&config.key("merge"), |at| resource(&at, report));
    resource(&config.key("replace"), report);
    let security = ignition.key("security");
    let tls = security.key("tls");
    each(&tls.key("certificate_authorities"), |at| resource(&at, report));
}

fn resource(at: &At<'_>, report: &mut Report) {
    let keys = ["local", "inline", "source"].into_iter();
    let set: Vec<&str> = keys.filter(|key| at.key(key).node().is_some()).collect();
    if let [_, .., last] = set.as_slice() {
        let message = "only one of these can be set: inline, local, source";
        report.error(&at.key(last), message);
    }
}

fn contents(at: &At<'_>, report: &mut Report) {
    let beside = at.key("contents_local");
    if beside.node().is_some() && at.key("contents").node().is_some() {
        report.error(&beside, "only one of these can be set: contents, contents_local");
    }
}

fn filesystem(at: &At<'_>, dialect: Dialect, report: &mut Report) {
    if !is_true(at, "with_mount_unit") {
        return;
    }
    let swap = text(at, "format") == "swap" && dialect.minor >= 3;
    let path = at.key("path");
    if text(at, "format").is_empty() {
        let message = "expected a format, because there is `with_mount_unit`";
        report.error(&at.key("format"), message);
    } else if !swap && text(at, "path").is_empty() {
        let message = "expected a path to mount it at, because there is `with_mount_unit`";
        report.error(&path, message);
    }
    let checked = dialect.variant == Variant::Fcos && dialect.version >= 6;
    let below = |root: &str| {
        text(at, "path")
            .strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if checked && path.node().is_some() && !below("/etc") && !below("/var") {
        let message = "fcos mounts file systems below /etc and /var only";
        report.error(&path, message);
    }
}

fn partitions(disks: &At<'_>, root: &At<'_>, dialect: Dialect, report: &mut Report) {
    let checked = match dialect.variant {
        Variant::Fcos => dialect.version >= 6,
        // Here the number 0 means the partition of the label.
        Variant::Flatcar | Variant::Pithos => false,
    };
    let boot = root.key("boot_device");
    let mirror = boot.key("mirror");
    let mirrored = mirror.key("devices");
    let mirrored = mirrored.node().and_then(Node::list).unwrap_or_default();
    each(disks, |at| {
        let device = text(&at, "device");
        let is_mirrored = mirrored.iter().any(|node| node.text() == Some(device));
        if !checked || device == BOOT_DISK || is_true(&at, "wipe_table") || is_mirrored {
            return;
        }
        each(&at.key("partitions"), |at| {
            let label = at.key("label");
            if integer(&at, "number").unwrap_or(0) == 0 && label.node().is_some() {
                let message = "a partition is not found again by its label: every time that this \
                               is applied, another one is made";
                report
                    .warning(&at.key("number"), message)
                    .hint("give it a number, or the disk `wipe_table: true`");
            }
        });
    });
}

fn boot_device(at: &At<'_>, dialect: Dialect, report: &mut Report) {
    let (layout_at, luks, mirror) = (at.key("layout"), at.key("luks"), at.key("mirror"));
    let layout = layout_at.node().and_then(Node::text);
    let devices_at = mirror.key("devices");
    let devices = devices_at.node().and_then(Node::list).map_or(0, <[Node]>::len);
    let s390x = layout.is_some_and(|layout| layout.starts_with("s390x-"));
    if devices == 1 {
        report.error(&devices_at, "a mirror takes at least two devices");
    }
    if devices > 0 && layout.is_none() {
        let message = "a mirror should say for which layout it is: `boot_device.layout`";
        match dialect.version >= 7 {
            true => report.error(&mirror, message),
            false => report.warning(&mirror, message),
        };
    }
    let old: &[&str] = &["aarch64", "ppc64le", "x86_64"];
    let new = &["aarch64", "ppc64le", "s390x-eckd", "s390x-virt", "s390x-zfcp", "x86_64"];
    let known = if dialect.version >= 6 { new } else { old };
    if let Some(layout) = layout.filter(|layout| !known.contains(layout)) {
        let message = format!("the layout `{layout}` is not known");
        report.error(&layout_at, message).hint(format!("one of {}", known.join(", ")));
        return;
    }
    if s390x && devices > 0 {
        report.error(&layout_at, "a disk of an s390x machine cannot be mirrored");
    }
    let device = text(&luks, "device");
    let letter = |prefix: &str| {
        let rest = device.rsplit_once(prefix).map(|(_, rest)| rest.as_bytes());
        matches!(rest, Some([b'a'..=b'z']))
    };
    let named = match layout {
        Some("s390x-eckd") => letter("/dev/dasd"),
        Some("s390x-zfcp") => letter("/dev/sd"),
        _ => true,
    };
    if !named && device.is_empty() {
        report.error(&layout_at, "this layout needs to know the disk: `luks.device`");
    } else if !named {
        let message = "the disk of this layout is named /dev/dasda (s390x-eckd) or /dev/sda \
                       (s390x-zfcp), with another letter";
        report.error(&luks.key("device"), message);
    }
    let says_how = luks.node().is_some_and(boot::wants_luks);
    if dialect.version >= 7 && !device.is_empty() && !says_how {
        report.error(&luks, "expected how the key is kept: `tang`, `tpm2` or `cex`");
    }
    let cex = luks.key("cex");
    if is_true(&cex, "enabled") {
        if !s390x {
            report.error(&cex, "only s390x machines have a Crypto Express card");
        }
        let tang = luks.key("tang").node().and_then(Node::list).is_some_and(|t| !t.is_empty());
        if tang || is_true(&luks, "tpm2") {
            report.error(&luks, "the card keeps the key, or clevis does; not both");
        }
    }
}

/// What is probably not meant with the root partition of Fedora CoreOS.
pub(super) fn check_root(ignition: &Node, dialect: Dialect, report: &mut Report) {
    if dialect.variant != Variant::Fcos {
        return;
    }
    let root = At::root(ignition);
    let storage = root.key("storage");
    each(&storage.key("disks"), |disk| {
        let partitions = disk.key("partitions");
        let list = partitions.node().and_then(Node::list).unwrap_or_default();
        let wiped = is_true(&disk, "wipeTable");
        each(&partitions, |at| {
            let label_at = at.key("label");
            let label = text(&at, "label");
            let size = integer(&at, "sizeMiB").unwrap_or(0);
            let placed = |node: &Node| {
                !matches!(
                    node.get("startMiB").map(|start| &start.value),
                    None | Some(Value::Integer(0))
                )
            };
            let others = list
                .iter()
                .filter(|node| Some(*node as *const _) != at.node().map(|n| n as *const _));
            if dialect.version >= 3 && label == "root" && size == 0 && !others.clone().all(placed) {
                let message = "root is to fill the disk, but another partition is put behind it: \
                               root cannot grow";
                report.warning(&label_at, message);
            } else if dialect.version >= 3 && label == "root" && (1..8192).contains(&size) {
                let message = "root has less than 8 GiB: updates will run out of space";
                report.warning(&at.key("sizeMiB"), message);
            }
            let reserved = match label {
                "BIOS-BOOT" | "PowerPC-PReP-boot" => 1,
                "EFI-SYSTEM" => 2,
                "boot" => 3,
                "root" => 4,
                _ => return,
            };
            if !wiped && integer(&at, "number").unwrap_or(0) != reserved {
                let message = format!(
                    "the partition `{label}` of the system has the number {reserved}: this makes \
                     another one of the same label"
                );
                report.warning(&label_at, message);
            }
        });
    });
}

fn mode(at: &At<'_>, directory: bool, report: &mut Report) {
    let Some(Value::Integer(mode)) = at.node().map(|node| &node.value) else { return };
    let Some(octal) = u32::try_from(*mode).ok().and_then(read_as_octal) else { return };
    let Ok(mode) = u32::try_from(*mode) else { return };
    if !is_usual(mode, directory) && is_usual(octal, directory) {
        let message = format!("the mode {mode} is {mode:#o} in octal, which is unusual");
        report.warning(at, message).hint(format!("did you mean 0{mode}?"));
    }
}

/// What a decimal number would be, had it been meant as an octal one.
fn read_as_octal(mode: u32) -> Option<u32> {
    u32::from_str_radix(&mode.to_string(), 8).ok().filter(|mode| *mode <= 0o7777)
}

/// Whether people give such permissions: nobody may do what is denied to those closer to the file.
fn is_usual(mode: u32, directory: bool) -> bool {
    if mode == 0 {
        return true;
    }
    let (user, group, other) = (mode >> 6 & 7, mode >> 3 & 7, mode & 7);
    let widens = other & !group != 0 || group & !user != 0;
    // To write or to execute what one cannot read; to read what others only may execute.
    let odd = |bits: u32| bits & 3 != 0 && bits & 4 == 0;
    let reads_only = |inner: u32, outer: u32| inner & 1 != 0 && outer & 4 != 0 && outer & 1 == 0;
    if widens || [user, group, other].into_iter().any(odd) || user & 4 == 0 {
        return false;
    }
    if reads_only(user, group) || reads_only(group, other) || reads_only(user, other) {
        return false;
    }
    let (executed, written) = (mode & 0o111 != 0, mode & 0o222 != 0);
    match directory {
        true => executed && mode & 0o4000 == 0 && (mode & 0o3000 == 0 || written),
        false => {
            let special = mode & 0o6000 == 0 || executed && mode & 0o002 == 0;
            special && mode & 0o1000 == 0
        }
    }
}
