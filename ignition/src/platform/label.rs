//! What a small volume is, and what it is called, by its first bytes.

use std::{io, os::unix::fs::FileExt};

/// A file system that volumes for machines have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// What the kernel calls it: `vfat`, `iso9660` or `udf`.
    pub kind: &'static str,
    /// What it is called; nothing for UDF, whose label is deep in it.
    pub label: String,
}

const ISO_BYTES: u64 = 32 * 1024;

/// Looks at a volume. One that is too short to be anything is nothing.
pub fn probe(volume: &impl FileExt) -> io::Result<Option<Labelled>> {
    let mut boot = [0; 512];
    if !read(volume, &mut boot, 0)? {
        return Ok(None);
    }
    if let Some(found) = vfat(&boot) {
        // A label that was given later is in the root directory, and the first word is stale.
        let label = root_label(volume, &boot)?.unwrap_or(found);
        return Ok(Some(Labelled { kind: "vfat", label }));
    }
    let mut descriptor = [0; 2048];
    if !read(volume, &mut descriptor, ISO_BYTES)? {
        return Ok(None);
    }
    match &descriptor[1..6] {
        b"CD001" if descriptor[0] == 1 => {
            Ok(Some(Labelled { kind: "iso9660", label: text(&descriptor[40..72]) }))
        }
        b"BEA01" => Ok(Some(Labelled { kind: "udf", label: String::new() })),
        _ => Ok(None),
    }
}

fn read(volume: &impl FileExt, buffer: &mut [u8], at: u64) -> io::Result<bool> {
    match volume.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn vfat(boot: &[u8; 512]) -> Option<String> {
    let is_boot = boot[510..] == [0x55, 0xaa] && matches!(boot[0], 0xeb | 0xe9);
    let sector = u16::from_le_bytes([boot[11], boot[12]]);
    if !is_boot || !matches!(sector, 512 | 1024 | 2048 | 4096) || !boot[13].is_power_of_two() {
        return None;
    }
    match (&boot[54..57], &boot[82..87]) {
        (_, b"FAT32") => Some(text(&boot[71..82])),
        (b"FAT", _) => Some(text(&boot[43..54])),
        _ => None,
    }
}

/// The label in the root directory: of its first cluster, where every tool puts it.
fn root_label(volume: &impl FileExt, boot: &[u8; 512]) -> io::Result<Option<String>> {
    let two = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let four = |at: usize| two(at) | two(at + 2) << 16;
    let (sector, cluster, reserved, copies) =
        (two(11), u64::from(boot[13]), two(14), u64::from(boot[16]));
    let is_32 = &boot[82..87] == b"FAT32";
    let table = if is_32 { four(36) } else { two(22) };
    let start = (reserved + copies * table) * sector;
    let (start, length) = match is_32 {
        true => {
            let first = four(44).saturating_sub(2);
            (start + first * cluster * sector, cluster * sector)
        }
        false => (start, two(17) * 32),
    };
    let mut entries = vec![0; usize::try_from(length.min(64 * 1024)).unwrap_or(0)];
    if !read(volume, &mut entries, start)? {
        return Ok(None);
    }
    const LABEL: u8 = 0x08;
    const LONG_NAME: u8 = 0x0f;
    let mut used = entries.chunks_exact(32).take_while(|entry| entry[0] != 0);
    let found = used.find(|entry| {
        entry[0] != 0xe5 && entry[11] & LABEL != 0 && entry[11] & LONG_NAME != LONG_NAME
    });
    Ok(found.map(|entry| text(&entry[..11])))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches(['\0', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use proptest::prelude::*;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_disc_is_known_by_its_descriptor() {
        let mut bytes = vec![0; 34 * 1024];
        bytes[32768..32774].copy_from_slice(b"\x01CD001");
        bytes[32808..32840].copy_from_slice(b"config-2                        ");
        let wanted = Labelled { kind: "iso9660", label: "config-2".to_owned() };
        assert_eq!(probe(&file(&bytes)).unwrap(), Some(wanted));
        assert_eq!(probe(&file(&bytes[..4096])).unwrap(), None);
        assert_eq!(probe(&file(b"")).unwrap(), None);
    }

    #[test]
    fn the_label_of_a_fat_is_the_one_of_its_root_directory() {
        let mut bytes = vec![0; 64 * 1024];
        bytes[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
        bytes[11..14].copy_from_slice(&[0, 2, 1]);
        bytes[14..19].copy_from_slice(&[1, 0, 2, 16, 0]);
        bytes[22] = 2;
        bytes[43..62].copy_from_slice(b"NO NAME    FAT12   ");
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        let root = (1 + 2 * 2) * 512;
        bytes[root..root + 12].copy_from_slice(b"CIDATA     \x08");
        let wanted = Labelled { kind: "vfat", label: "CIDATA".to_owned() };
        assert_eq!(probe(&file(&bytes)).unwrap(), Some(wanted));
    }

    proptest! {
        #[test]
        fn no_volume_breaks_the_reader(mut bytes in proptest::collection::vec(any::<u8>(), 512)) {
            bytes[0] = 0xeb;
            bytes[11..14].copy_from_slice(&[0, 2, 1]);
            bytes[510..].copy_from_slice(&[0x55, 0xaa]);
            probe(&file(&bytes)).unwrap();
            bytes[82..87].copy_from_slice(b"FAT32");
            probe(&file(&bytes)).unwrap();
        }
    }
}
