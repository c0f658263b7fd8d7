//! What an image says of every machine, under what the machine's own document says.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The documents of an image, in the order in which they are merged: those for every platform, then
/// those for this one; each by name.
pub fn documents(folder: &Path, platform: Option<&str>) -> io::Result<Vec<PathBuf>> {
    let mut documents = list(&folder.join("base.d"))?;
    // A platform is a name, and never a way out of the folder.
    let name = platform.filter(|id| !id.is_empty() && !id.contains('/') && !id.starts_with('.'));
    if let Some(id) = name {
        documents.extend(list(&folder.join("base.platform.d").join(id))?);
    }
    Ok(documents)
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_document = path.extension().is_some_and(|kind| kind == "ign" || kind == "bu");
        if is_document {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_general_comes_before_the_particular() {
        let folder = tempfile::tempdir().unwrap();
        let platform = folder.path().join("base.platform.d/qemu");
        fs::create_dir_all(&platform).unwrap();
        fs::create_dir_all(folder.path().join("base.d")).unwrap();
        for name in ["base.d/b.ign", "base.d/a.bu", "base.d/README", "base.platform.d/qemu/0.ign"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |platform: Option<&str>| -> Vec<String> {
            let paths = documents(folder.path(), platform).unwrap();
            let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            paths.iter().map(name).collect()
        };
        assert_eq!(names(Some("qemu")), ["a.bu", "b.ign", "0.ign"]);
        assert_eq!(names(Some("../base.d")), ["a.bu", "b.ign"]);
        assert_eq!(names(None), ["a.bu", "b.ign"]);
        let none = folder.path().join("none");
        assert_eq!(documents(&none, None).unwrap(), Vec::<PathBuf>::new());
    }
}
