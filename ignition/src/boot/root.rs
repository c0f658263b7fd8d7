//! What a document says of the machine's root itself. `/init` makes that, so it is taken out of
//! what the disks stage does.

use std::{fmt, path::Path};

use crate::document::{
    Config, Node, Value,
    config::{Filesystem, Partition},
};

/// What documents call the boot disk.
pub const BOOT_DISK: &str = "/dev/disk/by-id/pithos-boot-disk";
/// All names that they call it by.
const BOOT_DISKS: [&str; 2] = ["/dev/disk/by-id/coreos-boot-disk", BOOT_DISK];
/// Names that documents call root by, wherever it is.
const ROOTS: [&str; 2] = ["/dev/disk/by-partlabel/root", "/dev/disk/by-label/root"];
/// The label of root's partition.
const LABEL: &str = "root";

/// What root shall be; what is not said is for `/init` to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootWish {
    /// `ext4`, `xfs` or `btrfs`.
    pub format: Option<String>,
    /// The label of the file system.
    pub label: Option<String>,
    /// Options for making it.
    pub options: Vec<String>,
    /// The length of the partition.
    pub size_mib: Option<i64>,
}

/// Takes what is about root out of a document, and calls the boot disk by the name that it has
/// here. An error has the path of its entry. The tree itself is changed, so that paths of what is
/// left still lead to their places.
pub fn take_wish(node: &mut Node, disk: &Path) -> Result<RootWish, (String, String)> {
    let mut wish = RootWish::default();
    let disk = disk.display().to_string();
    name_boot_disk(node, &disk);
    let storage = Config::from_node(node).storage;
    for (index, entry) in storage.disks.iter().enumerate().filter(|(_, d)| d.device == disk) {
        let at = format!("$.storage.disks.{index}");
        if entry.wipe_table == Some(true) {
            let why = "this is the disk that the machine boots from; its table cannot go";
            return Err((format!("{at}.wipeTable"), why.to_owned()));
        }
        let of_root = |partition: &Partition| partition.label.as_deref() == Some(LABEL);
        if let Some(place) = entry.partitions.iter().position(of_root) {
            let partition = &entry.partitions[place];
            let at = format!("{at}.partitions.{place}");
            if partition.should_exist == Some(false) {
                return Err((at, "a machine has a root".to_owned()));
            }
            wish.size_mib = partition.size_mib.filter(|size| *size > 0);
            remove(node, &at);
        }
    }
    let is_root =
        |entry: &Filesystem| entry.path.as_deref() == Some("/") || ROOTS.contains(&&*entry.device);
    if let Some(place) = storage.filesystems.iter().position(is_root) {
        let entry = storage.filesystems[place].clone();
        let at = format!("$.storage.filesystems.{place}");
        let format = entry.format.filter(|format| !format.is_empty());
        if let Some(format) = &format
            && !["ext4", "xfs", "btrfs"].contains(&&**format)
        {
            let why = format!("root cannot be {format}: expected ext4, xfs or btrfs");
            return Err((format!("{at}.format"), why));
        }
        (wish.format, wish.label, wish.options) = (format, entry.label, entry.options);
        remove(node, &at);
    }
    Ok(wish)
}

fn name_boot_disk(node: &mut Node, disk: &str) {
    let Some(Value::List(disks)) = find(node, "$.storage.disks").map(|node| &mut node.value) else {
        return;
    };
    for entry in disks {
        let device = find(entry, "$.device")
            .filter(|device| device.text().is_some_and(|device| BOOT_DISKS.contains(&device)));
        if let Some(device) = device {
            device.value = disk.into();
        }
    }
}

fn find<'a>(node: &'a mut Node, path: &str) -> Option<&'a mut Node> {
    path.split('.').skip(1).try_fold(node, |node, segment| match &mut node.value {
        Value::Map(map) => map.get_mut(segment),
        Value::List(list) => list.get_mut(segment.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Takes an entry out of its list.
fn remove(node: &mut Node, path: &str) {
    let Some((list, index)) = path.rsplit_once('.') else { return };
    if let (Some(Value::List(list)), Ok(index)) =
        (find(node, list).map(|node| &mut node.value), index.parse::<usize>())
    {
        list.remove(index);
    }
}

impl fmt::Display for RootWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "root: make {}", self.format.as_deref().unwrap_or("ext4"))?;
        self.label.iter().try_for_each(|label| write!(f, " `{label}`"))?;
        self.options.iter().try_for_each(|option| write!(f, " {option}"))?;
        self.size_mib.iter().try_for_each(|size| write!(f, ", at most {size} MiB"))
    }
}

impl RootWish {
    /// As `/init` reads it, a line each.
    pub fn lines(&self) -> String {
        let mut lines = String::new();
        let mut line = |key: &str, value: &str| lines.push_str(&format!("{key}={value}\n"));
        self.format.iter().for_each(|format| line("format", format));
        self.label.iter().for_each(|label| line("label", label));
        self.options.iter().for_each(|option| line("option", option));
        self.size_mib.iter().for_each(|size| line("size_mib", &size.to_string()));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::json;

    fn node(text: &str) -> Node {
        json::parse(text, 0).unwrap()
    }

    #[test]
    fn what_is_about_root_is_taken_out_and_told() {
        let mut node = node(
            r#"{"storage": {
                "disks": [{"device": "/dev/disk/by-id/coreos-boot-disk", "partitions": [
                    {"label": "root", "number": 6, "sizeMiB": 4096, "resize": true},
                    {"label": "var", "number": 0}]}],
                "filesystems": [{"device": "/dev/disk/by-partlabel/root", "format": "xfs", "options": ["-K"]},
                    {"device": "/dev/disk/by-partlabel/var", "format": "ext4", "path": "/var"}]}}"#,
        );
        let place_of_var =
            node.get("storage").unwrap().get("filesystems").unwrap().index(1).unwrap().mark;
        let wish = take_wish(&mut node, Path::new("/dev/vda")).unwrap();
        assert_eq!(wish.lines(), "format=xfs\noption=-K\nsize_mib=4096\n");
        assert_eq!(wish.to_string(), "root: make xfs -K, at most 4096 MiB");
        let storage = Config::from_node(&node).storage;
        assert_eq!(storage.disks[0].device, "/dev/vda");
        assert_eq!(storage.disks[0].partitions.len(), 1);
        assert_eq!(storage.filesystems.len(), 1);
        assert_eq!(crate::render::mark_of(&node, "$.storage.filesystems.0"), place_of_var);
    }

    #[test]
    fn the_disk_that_the_machine_boots_from_is_not_wiped() {
        let text = r#"{"storage": {"disks": [{"device": "/dev/vda", "wipeTable": true}]}}"#;
        let refused = take_wish(&mut node(text), Path::new("/dev/vda")).unwrap_err();
        assert_eq!(refused.0, "$.storage.disks.0.wipeTable");
        assert!(take_wish(&mut node(text), Path::new("/dev/vdb")).is_ok());
    }

    #[test]
    fn root_is_a_file_system_that_init_knows() {
        let text = r#"{"storage": {"filesystems": [
            {"device": "/dev/vdb", "format": "vfat", "path": "/"}]}}"#;
        let (at, why) = take_wish(&mut node(text), Path::new("/dev/vda")).unwrap_err();
        assert_eq!((&*at, why.contains("vfat")), ("$.storage.filesystems.0.format", true));
    }
}
