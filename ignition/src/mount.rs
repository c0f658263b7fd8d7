//! The file systems of a document, mounted below the root of the machine while files are written.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use crate::document::Config;

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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

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
