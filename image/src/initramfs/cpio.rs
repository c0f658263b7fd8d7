//! A cpio archive ("newc", what the kernel unpacks) of the same bytes for the same entries.

use std::collections::BTreeMap;

/// What an archive holds, by path without a leading slash. Sorted, so that a directory comes
/// before what is in it: the kernel makes entries in the order of the archive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpio {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    Dir,
    File { bytes: Vec<u8>, mode: u32 },
    Link { target: String },
}

impl Cpio {
    pub(crate) fn dir(&mut self, path: &str) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::Dir);
    }

    pub(crate) fn file(&mut self, path: &str, bytes: Vec<u8>, mode: u32) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::File { bytes, mode });
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::Link { target: target.to_owned() });
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entries.entry(path[..at].to_owned()).or_insert(Entry::Dir);
        }
    }

    /// Sizes of the files, by path.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&str, usize)> {
        self.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::File { bytes, .. } => Some((&**path, bytes.len())),
            Entry::Dir | Entry::Link { .. } => None,
        })
    }

    /// The archive. Everything belongs to root and is as old as the epoch of Unix: no program
    /// of the initramfs looks at times, and so none of its bytes depends on a clock.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut archive = vec![];
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            match entry {
                Entry::Dir => put(&mut archive, number, path, 0o040_755, 2, b""),
                Entry::File { bytes, mode } => {
                    put(&mut archive, number, path, 0o100_000 | mode, 1, bytes);
                }
                Entry::Link { target } => {
                    put(&mut archive, number, path, 0o120_777, 1, target.as_bytes());
                }
            }
        }
        put(&mut archive, 0, "TRAILER!!!", 0, 1, b"");
        archive
    }
}

fn put(archive: &mut Vec<u8>, number: u32, path: &str, mode: u32, links: u32, bytes: &[u8]) {
    let size = u32::try_from(bytes.len()).expect("no file of an initramfs has 4 GiB");
    let name_size = u32::try_from(path.len() + 1).expect("a path is short");
    let fields: [u32; 13] = [
        number, mode, /* owner and group */ 0, 0, links, /* time */ 0, size,
        /* device */ 0, 0, /* device of a node */ 0, 0, name_size, /* checksum */ 0,
    ];
    archive.extend(b"070701");
    for field in fields {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(path.bytes());
    archive.push(0);
    pad(archive);
    archive.extend(bytes);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them() {
        let mut cpio = Cpio::default();
        cpio.file("modules/kernel/a.ko", b"abc".to_vec(), 0o644);
        cpio.link("bin", "usr/bin");
        cpio.file("init", b"x".to_vec(), 0o755);
        let bytes = cpio.bytes();
        assert_eq!(bytes.len() % 4, 0);
        let shown: String =
            bytes.iter().map(|&byte| if byte == 0 { '.' } else { char::from(byte) }).collect();
        expect![[r#"

            070701 000000010000a1ff0000000000000000000000010000000000000007000000000000000000000000000000000000000400000000bin...usr/bin.
            070701 00000002000081ed0000000000000000000000010000000000000001000000000000000000000000000000000000000500000000init..x...
            070701 00000003000041ed0000000000000000000000020000000000000000000000000000000000000000000000000000000800000000modules...
            070701 00000004000041ed0000000000000000000000020000000000000000000000000000000000000000000000000000000f00000000modules/kernel....
            070701 00000005000081a40000000000000000000000010000000000000003000000000000000000000000000000000000001400000000modules/kernel/a.ko...abc.
            070701 00000000000000000000000000000000000000010000000000000000000000000000000000000000000000000000000b00000000TRAILER!!!...."#]].assert_eq(&shown.replace("070701", "\n070701 "));
    }
}
