//! The file systems of a document, mounted below the root of the machine while files are written.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use crate::{
    disks::{
        Machine, Trouble,
        facts::Place,
        machine::doing,
        perform::Node,
        programs,
        steps::{DEVICE, Program},
    },
    document::Config,
    journal::Silent,
};

/// A file system to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The path of the document's entry.
    pub at: String,
    /// The device, as the document calls it.
    pub device: String,
    /// Where, in the machine.
    pub path: String,
    /// Its format.
    pub format: String,
    /// Options, as mount(8) takes them.
    pub options: String,
}

/// What is mounted, in order: what is deeper comes later. To unmount, go backwards.
pub fn plan(config: &Config) -> Vec<Mount> {
    let mut mounts = vec![];
    for (index, entry) in config.storage.filesystems.iter().enumerate() {
        let (Some(path), Some(format)) = (&entry.path, &entry.format) else { continue };
        if path.is_empty() || matches!(format.as_str(), "" | "none" | "swap") {
            continue;
        }
        mounts.push(Mount {
            at: format!("$.storage.filesystems.{index}"),
            device: entry.device.clone(),
            path: path.clone(),
            format: format.clone(),
            options: entry.mount_options.join(","),
        });
    }
    mounts.sort_by_key(|mount| depth(&mount.path));
    mounts
}

fn depth(path: &str) -> usize {
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).count()
}

/// Makes the directories of a mount point that are missing, with mode 0755, and says which those
/// are. What is there must be directories: a link might lead out of the root.
pub fn make_mount_point(root: &Path, path: &str) -> io::Result<Vec<PathBuf>> {
    let (mut at, mut made) = (root.to_owned(), vec![]);
    for part in Path::new(path).components() {
        match part {
            Component::RootDir => continue,
            Component::Normal(name) => at.push(name),
            Component::Prefix(_) | Component::CurDir | Component::ParentDir => {
                return Err(io::Error::other(format!("{path} is not a clean path")));
            }
        }
        match at.symlink_metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(io::Error::other(format!("{} is not a directory", at.display())));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&at)?;
                fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
                made.push(at.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// What was mounted.
#[derive(Default)]
pub struct Mounted {
    /// Directories that were made for it, with mode 0755: who owns what is below may change them.
    pub made: Vec<PathBuf>,
    /// Each mount, and the device, which may be there for the time of the mount only.
    mounts: Vec<(Mount, PathBuf, Node)>,
}

/// Mounts what the document says below the root of the machine, which is mounted at `root`.
pub fn mount(config: &Config, machine: &Machine, root: &Path) -> Result<Mounted, Trouble> {
    let mut mounted = Mounted::default();
    let mut mounts = plan(config);
    // The root itself is made and mounted by who started us.
    mounts.retain(|mount| depth(&mount.path) > 0);
    if mounts.is_empty() {
        return Ok(mounted);
    }
    // The stage before waited for all of them.
    let facts = machine.facts(config, &Silent)?;
    for mount in mounts {
        let done = one(&mount, facts.device(&mount.device).place.as_ref(), root, &mut mounted.made);
        match done {
            Ok((path, node)) => mounted.mounts.push((mount, path, node)),
            Err(error) => {
                // The first error is what counts.
                let _ = mounted.unmount();
                return Err(error);
            }
        }
    }
    Ok(mounted)
}

fn one(
    mount: &Mount,
    place: Option<&Place>,
    root: &Path,
    made: &mut Vec<PathBuf>,
) -> Result<(PathBuf, Node), Trouble> {
    let Mount { at, device, path, format, options } = mount;
    let opened = place.ok_or_else(|| io::Error::other("it is not there")).and_then(Node::of);
    let node = opened.map_err(doing(at, format!("opening {device}")))?;
    let directories = make_mount_point(root, path);
    made.extend(directories.map_err(doing(at, format!("making the mount point {path}")))?);
    let point = root.join(path.trim_start_matches('/'));
    let mut program = Program::new("/usr/bin/mount", &["-t", format]);
    if !options.is_empty() {
        program = program.with(&["-o", options]);
    }
    programs::run(at, &program.with(&[DEVICE]), &[(DEVICE, &node.path)], &[&point])?;
    Ok((point, node))
}

impl Mounted {
    /// Unmounts all of it, what is deepest first; what was written is on the disks then.
    pub fn unmount(mut self) -> Result<(), Trouble> {
        while let Some((mount, point, node)) = self.mounts.pop() {
            programs::run(&mount.at, &Program::new("/usr/bin/umount", &[]), &[], &[&point])?;
            drop(node);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::symlink, process::Command, time::Duration};

    use super::*;
    use crate::disks::{Supplies, apply};

    fn is_possible() -> bool {
        let is_root = Command::new("/usr/bin/id").arg("-u").output();
        let can_loop = Command::new("/usr/sbin/losetup").arg("--find").output();
        is_root.is_ok_and(|said| said.stdout == b"0\n")
            && can_loop.is_ok_and(|said| said.status.success())
    }

    #[test]
    fn a_file_system_is_below_the_root_for_a_time() {
        if !is_possible() {
            return println!("skipped: only root mounts, with loop devices");
        }
        let folder = tempfile::tempdir().unwrap();
        let (image, root) = (folder.path().join("image"), folder.path().join("root"));
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        fs::create_dir(&root).unwrap();
        let text = r#"{"storage": {"filesystems": [{"device": "/dev/data", "format": "ext4",
            "path": "/var/lib/data", "mountOptions": ["noatime"]}]}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        let images = BTreeMap::from([("/dev/data".to_owned(), image)]);
        let machine = Machine { images, patience: Duration::ZERO };
        apply(&config, &machine, &Supplies::default(), &Silent).unwrap();
        let data = root.join("var/lib/data");
        let mounted = mount(&config, &machine, &root).unwrap();
        assert_eq!(mounted.made.len(), 3);
        assert!(data.join("lost+found").exists());
        fs::write(data.join("file"), "kept").unwrap();
        mounted.unmount().unwrap();
        assert!(!data.join("file").exists());
        let mounted = mount(&config, &machine, &root).unwrap();
        assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "kept");
        mounted.unmount().unwrap();
    }

    #[test]
    fn what_is_deeper_is_mounted_later() {
        let text = r#"{"storage": {"filesystems": [
            {"device": "/dev/c", "path": "/var/lib/data", "format": "ext4", "mountOptions": ["ro", "noexec"]},
            {"device": "/dev/s", "path": "/swap", "format": "swap"},
            {"device": "/dev/n", "path": "/nothing", "format": "none"},
            {"device": "/dev/w", "format": "xfs"},
            {"device": "/dev/b", "path": "/var", "format": "xfs"},
            {"device": "/dev/a", "path": "/", "format": "ext4"}]}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        let mounts = plan(&config);
        let order: Vec<_> = mounts.iter().map(|mount| mount.path.as_str()).collect();
        assert_eq!(order, ["/", "/var", "/var/lib/data"]);
        assert_eq!(mounts[2].options, "ro,noexec");
        assert_eq!(mounts[2].at, "$.storage.filesystems.0");
    }

    #[test]
    fn a_mount_point_is_made_of_directories_only() {
        let root = tempfile::tempdir().unwrap();
        let made = make_mount_point(root.path(), "/var/lib/x").unwrap();
        assert_eq!(made.len(), 3);
        assert_eq!(make_mount_point(root.path(), "/var/lib/y").unwrap().len(), 1);
        symlink("/etc", root.path().join("out")).unwrap();
        let error = make_mount_point(root.path(), "/out/x").unwrap_err();
        assert!(error.to_string().ends_with("/out is not a directory"), "{error}");
    }
}
