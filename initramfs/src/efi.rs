//! What the firmware and the boot loader say in EFI variables: whether Secure Boot is on, and
//! which partition the loader came from.

use std::{fs, io, path::Path};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};
use uuid::Uuid;

const SECURE_BOOT: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Boot Loader Interface of systemd-boot.
const LOADER_PARTITION: &str = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// A variable starts with its attributes.
const ATTRIBUTES_BYTES: usize = 4;

/// Whether the firmware enforces signatures. In doubt, yes.
pub(crate) fn secure_boot() -> bool {
    Path::new("/sys/firmware/efi").exists() && is_enforced(variable(SECURE_BOOT))
}

fn is_enforced(variable: io::Result<Vec<u8>>) -> bool {
    match variable {
        Ok(value) => value != [0],
        // A firmware without Secure Boot has no such variable.
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The PARTUUID of the EFI system partition that the boot loader was read from, if it says so.
pub(crate) fn loader_partition() -> Option<Uuid> {
    partition(&variable(LOADER_PARTITION).ok()?)
}

/// UTF-16 text with a NUL behind it.
fn partition(value: &[u8]) -> Option<Uuid> {
    let units: Vec<u16> =
        value.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    String::from_utf16_lossy(&units).trim_end_matches('\0').parse().ok()
}

fn variable(name: &str) -> io::Result<Vec<u8>> {
    let none: Option<&str> = None;
    let at = "/sys/firmware/efi/efivars";
    match mount(Some("efivarfs"), at, Some("efivarfs"), MsFlags::MS_RDONLY, none) {
        Ok(()) | Err(Errno::EBUSY) => {}
        // Not "no such variable": nobody looked.
        Err(errno) => return Err(io::Error::other(format!("mounting efivarfs: {errno}"))),
    }
    let bytes = fs::read(Path::new(at).join(name))?;
    Ok(bytes.get(ATTRIBUTES_BYTES..).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secure_boot_is_off_only_where_the_firmware_says_so() {
        assert!(!is_enforced(Ok(vec![0])));
        assert!(!is_enforced(Err(io::ErrorKind::NotFound.into())));
        assert!(is_enforced(Ok(vec![1])));
        assert!(is_enforced(Ok(vec![])));
        assert!(is_enforced(Err(io::Error::other("mounting efivarfs: ENODEV"))));
    }

    #[test]
    fn the_loader_names_its_partition_in_utf_16() {
        let text = "7130C94A-213A-4E5A-8E26-6CCE9662F132";
        let value: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        assert_eq!(partition(&value), text.parse().ok());
        assert_eq!(partition(b"junk"), None);
    }
}
