//! A repository in one file: a tar archive of its folder, or of what somebody needs of it. It is
//! read where it is. What is in it is believed no more than what comes from a server.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader},
    os::unix::fs::FileExt,
    path::{Component, Path, PathBuf},
};

/// No bundle has more parts.
const PARTS_MAX: usize = 100_000;

/// An archive, open, and what is in it.
#[derive(Debug)]
pub struct Bundle {
    file: File,
    parts: BTreeMap<PathBuf, Part>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    offset_bytes: u64,
    size_bytes: u64,
}

/// Why a file is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum NotABundle {
    /// It cannot be read as an archive.
    #[error("expected a tar archive, as `update-publish bundle` writes it")]
    Archive(#[source] io::Error),
    /// A part is not what a repository consists of.
    #[error("{} in it is {problem}", path.display())]
    Part {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It has too many.
    #[error("it has more than {PARTS_MAX} parts")]
    Parts,
    /// It has none.
    #[error("nothing is in it: expected metadata/, targets/ and objects/")]
    Empty,
}

impl Bundle {
    /// Reads where everything is in it.
    pub fn open(path: &Path) -> Result<Self, NotABundle> {
        let file = File::open(path).map_err(NotABundle::Archive)?;
        let mut archive = tar::Archive::new(BufReader::new(&file));
        let mut parts = BTreeMap::new();
        for entry in archive.entries_with_seek().map_err(NotABundle::Archive)? {
            let entry = entry.map_err(NotABundle::Archive)?;
            let path = entry.path().map_err(NotABundle::Archive)?.into_owned();
            let kind = entry.header().entry_type();
            if kind.is_dir() || kind.is_pax_global_extensions() {
                continue;
            }
            let wrong = |problem| NotABundle::Part { path: path.clone(), problem };
            if !kind.is_file() {
                return Err(wrong("neither a file nor a folder"));
            }
            let plain: Option<PathBuf> = path
                .components()
                .filter(|part| *part != Component::CurDir)
                .map(|part| matches!(part, Component::Normal(_)).then_some(part))
                .collect();
            let plain = plain.ok_or_else(|| wrong("outside of the archive"))?;
            let part = Part { offset_bytes: entry.raw_file_position(), size_bytes: entry.size() };
            if parts.insert(plain, part).is_some() {
                return Err(wrong("there twice"));
            }
            if parts.len() > PARTS_MAX {
                return Err(NotABundle::Parts);
            }
        }
        if parts.is_empty() {
            return Err(NotABundle::Empty);
        }
        Ok(Self { file, parts })
    }

    /// A part of it, of which at most `max_bytes` are read.
    pub fn read(&self, path: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        let part = self.parts.get(Path::new(path)).ok_or(io::ErrorKind::NotFound)?;
        let length = part.size_bytes.min(max_bytes);
        // What the archive says of its size is not believed before the bytes are there.
        let end = part.offset_bytes.saturating_add(length);
        if end > self.file.metadata()?.len() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the bundle ends before it"));
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, part.offset_bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// An archive whose header of `name` is written as it is, tricks and all.
    fn archive(parts: &[(&str, &[u8], tar::EntryType)]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes, kind) in parts {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_entry_type(*kind);
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        file.write_all(&builder.into_inner().unwrap()).unwrap();
        file
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;

    fn refused(parts: &[(&str, &[u8], tar::EntryType)]) -> String {
        Bundle::open(archive(parts).path()).unwrap_err().to_string()
    }

    #[test]
    fn parts_are_read_by_their_paths_and_no_further_than_asked() {
        let file = archive(&[
            ("./metadata/", b"", tar::EntryType::Directory),
            ("./metadata/timestamp.json", b"now", FILE),
            ("objects/ab/abc", b"object", FILE),
        ]);
        let bundle = Bundle::open(file.path()).unwrap();
        assert_eq!(bundle.read("metadata/timestamp.json", 100).unwrap(), b"now");
        assert_eq!(bundle.read("objects/ab/abc", 3).unwrap(), b"obj");
        let missing = bundle.read("objects/ab", 3).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn tricks_are_refused_by_name() {
        assert_eq!(refused(&[("../x", b"", FILE)]), "../x in it is outside of the archive");
        assert_eq!(refused(&[("/etc/x", b"", FILE)]), "/etc/x in it is outside of the archive");
        assert_eq!(
            refused(&[("a/../../x", b"", FILE)]),
            "a/../../x in it is outside of the archive"
        );
        let link = tar::EntryType::Symlink;
        assert_eq!(refused(&[("x", b"", link)]), "x in it is neither a file nor a folder");
        assert_eq!(refused(&[("x", b"1", FILE), ("./x", b"2", FILE)]), "./x in it is there twice");
    }

    #[test]
    fn a_file_that_is_none_or_cut_short_is_told_so() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let empty = Bundle::open(file.path()).unwrap_err().to_string();
        assert!(empty.starts_with("nothing is in it"), "{empty}");
        file.write_all(&[7; 2048]).unwrap();
        let other = Bundle::open(file.path()).unwrap_err().to_string();
        assert!(other.starts_with("expected a tar archive"), "{other}");

        let file = archive(&[("objects/a", &[1; 5000], FILE)]);
        file.as_file().set_len(4000).unwrap();
        let bundle = Bundle::open(file.path()).unwrap();
        let cut = bundle.read("objects/a", 5000).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
