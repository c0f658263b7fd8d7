//! Makes what was planned, without ever writing to the source: a file is a hard link to its
//! source if it keeps its mode, and a copy if it does not.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, Permissions},
    io::{self, BufReader, Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt, symlink},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    Error,
    plan::Step,
    scan::{Kind, Tree, staged},
};

/// Makes `steps` below `usr`, which must not exist, from the files of `root`.
pub(crate) fn perform(
    steps: &BTreeMap<String, Step>,
    source: &Tree,
    root: &Path,
    usr: &Path,
) -> Result<(), Error> {
    let from_root = |path: &str| root.join(path.trim_start_matches('/'));
    let mut packed = vec![];
    make_dir(usr, 0o755)?;
    make_dir_all(&staged(usr, "/etc"))?;
    for (path, step) in steps {
        let to = staged(usr, path);
        match step {
            Step::Dir { mode } => match path.as_str() {
                "/usr" | "/etc" => {}
                _ => make_dir(&to, *mode)?,
            },
            Step::Link { target } => make_link(target, &to)?,
            Step::File { mode } => {
                place(&from_root(path), &to, *mode, source.nodes[path].mode == *mode)?;
            }
            Step::Decompress { from } => packed.push((from, to)),
        }
    }
    // The biggest first, so that no thread is left alone with one at the end.
    packed.sort_by_key(|(from, _)| match source.nodes[*from].kind {
        Kind::File { size_bytes } => std::cmp::Reverse(size_bytes),
        Kind::Dir | Kind::Link { .. } | Kind::Special => std::cmp::Reverse(0),
    });
    in_parallel(&packed, |(from, to)| decompress(&from_root(from), to))
}

/// Directories that exist already, as parents of the `/etc` that /usr carries, are fine.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    let made = match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    };
    // Not only at creation: the umask of whoever builds has no say.
    made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(|source| Error::Io { doing: "making the directory", path: path.into(), source })
}

pub(crate) fn make_dir_all(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), make_dir_all)?;
    make_dir(path, 0o755)
}

pub(crate) fn make_link(target: &str, path: &Path) -> Result<(), Error> {
    symlink(target, path).map_err(|source| Error::Io {
        doing: "making the link",
        path: path.into(),
        source,
    })
}

/// A new file with `mode`.
pub(crate) fn make_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))
    };
    write().map_err(|source| Error::Io { doing: "writing", path: path.into(), source })
}

/// Gives what a program made the modes that the image wants: the umask of whoever builds, which
/// programs follow, has no say.
pub(crate) fn settle_modes(path: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<(), Error> {
    let reading = |source| Error::Io { doing: "reading", path: path.into(), source };
    let meta = path.symlink_metadata().map_err(reading)?;
    if meta.is_dir() {
        for entry in fs::read_dir(path).map_err(reading)? {
            settle_modes(&entry.map_err(reading)?.path(), wanted)?;
        }
    }
    let mode = if meta.is_dir() { 0o755 } else { 0o644 };
    if meta.is_symlink() || meta.permissions().mode() & 0o7777 == mode || !wanted(path) {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|source| Error::Io {
        doing: "setting the mode of",
        path: path.into(),
        source,
    })
}

/// `to` becomes `from`'s content with `mode`; by hard link if `same_mode`.
pub(crate) fn place(from: &Path, to: &Path, mode: u32, same_mode: bool) -> Result<(), Error> {
    // A hard link may be refused for many reasons (another file system, too many links): then a
    // copy does, or says what is really wrong.
    if same_mode && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let copy = || {
        let (mut from, mut to) = (File::open(from)?, File::create_new(to)?);
        io::copy(&mut from, &mut to)?;
        to.set_permissions(Permissions::from_mode(mode))
    };
    copy().map_err(|source| Error::Io { doing: "copying to", path: to.into(), source })
}

fn decompress(from: &Path, to: &Path) -> Result<(), Error> {
    let unpack = || {
        let mut bytes = vec![];
        let from = BufReader::with_capacity(1 << 16, File::open(from)?);
        liblzma::bufread::XzDecoder::new(from).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = unpack().map_err(|source| Error::Io {
        doing: "decompressing",
        path: from.into(),
        source,
    })?;
    make_file(to, &bytes, 0o644)
}

/// Does `job` for every item, with as many threads as there are processors. The error of the
/// first item that failed, in the order of `items`.
fn in_parallel<T: Sync>(
    items: &[T],
    job: impl Fn(&T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some((number, item)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            items.get(number).map(|item| (number, item))
        } {
            if let Err(error) = job(item) {
                failed.lock().expect("no thread panics with the lock").insert(number, error);
                return;
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().expect("no thread panics with the lock");
    failed.into_values().next().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn lay_out(dir: &Path) -> (Tree, BTreeMap<String, Step>) {
        fs::create_dir_all(dir.join("root/usr/bin")).unwrap();
        fs::create_dir_all(dir.join("root/etc")).unwrap();
        let at = |path: &str| dir.join("root").join(path);
        make_file(&at("usr/bin/same"), b"same", 0o755).unwrap();
        make_file(&at("usr/bin/other"), b"other", 0o775).unwrap();
        let mut packed = vec![];
        let mut encoder = liblzma::write::XzEncoder::new(&mut packed, 1);
        encoder.write_all(b"module").unwrap();
        encoder.finish().unwrap();
        make_file(&at("usr/a.ko.xz"), &packed, 0o600).unwrap();
        make_file(&at("etc/hosts"), b"hosts", 0o644).unwrap();
        let steps = [
            ("/etc/hosts", Step::File { mode: 0o644 }),
            ("/usr/a.ko", Step::Decompress { from: "/usr/a.ko.xz".into() }),
            ("/usr/bin", Step::Dir { mode: 0o755 }),
            ("/usr/bin/other", Step::File { mode: 0o755 }),
            ("/usr/bin/same", Step::File { mode: 0o755 }),
            ("/usr/bin/x", Step::Link { target: "same".into() }),
        ];
        let steps = steps.into_iter().map(|(path, step)| (path.to_owned(), step)).collect();
        (Tree::of_root(&dir.join("root")).unwrap(), steps)
    }

    #[test]
    fn the_source_is_never_changed_through_a_hard_link() {
        let dir = tempfile::tempdir().unwrap();
        let (source, steps) = lay_out(dir.path());
        perform(&steps, &source, &dir.path().join("root"), &dir.path().join("usr")).unwrap();
        let meta = |path: &str| dir.path().join(path).metadata().unwrap();
        assert_eq!(meta("usr/bin/same").ino(), meta("root/usr/bin/same").ino());
        assert_ne!(meta("usr/bin/other").ino(), meta("root/usr/bin/other").ino());
        assert_eq!(meta("usr/bin/other").mode() & 0o7777, 0o755);
        assert_eq!(Tree::of_root(&dir.path().join("root")).unwrap().nodes, source.nodes);
        assert_eq!(fs::read(dir.path().join("usr/a.ko")).unwrap(), b"module");
        assert_eq!(fs::read(dir.path().join("usr/share/pithos/etc/hosts")).unwrap(), b"hosts");
    }

    #[test]
    fn a_corrupt_module_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (source, steps) = lay_out(dir.path());
        fs::write(dir.path().join("root/usr/a.ko.xz"), "not xz").unwrap();
        let made = perform(&steps, &source, &dir.path().join("root"), &dir.path().join("usr"));
        let error = made.unwrap_err().to_string();
        assert!(error.starts_with("decompressing /") && error.contains("usr/a.ko.xz"), "{error}");
    }
}
