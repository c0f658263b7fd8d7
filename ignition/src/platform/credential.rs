//! Credentials that the hypervisor hands over as OEM strings (SMBIOS type 11), as systemd reads
//! them: `io.systemd.credential:NAME=TEXT`, or `io.systemd.credential.binary:NAME=BASE64`.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};

/// The credential of a name, if the hypervisor handed one over.
pub fn find(sys: &Path, name: &str) -> Option<Vec<u8>> {
    let mut entries: Vec<_> = fs::read_dir(sys.join("firmware/dmi/entries"))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("11-"))
        })
        .collect();
    entries.sort();
    entries.iter().find_map(|entry| {
        let raw = fs::read(entry.join("raw")).ok()?;
        strings(&raw).find_map(|text| value(text, name))
    })
}

/// The strings behind a structure of SMBIOS.
fn strings(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    let length = raw.get(1).copied().map_or(0, usize::from);
    let rest = raw.get(length..).unwrap_or_default();
    rest.split(|&byte| byte == 0).take_while(|text| !text.is_empty())
}

fn value(text: &[u8], name: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix(b"io.systemd.credential")?;
    let (text, binary) = match text.strip_prefix(b".binary") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let value = text.strip_prefix(b":")?.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    if binary { STANDARD.decode(value).ok() } else { Some(value.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_of_the_name_is_found_among_the_strings() {
        let raw = b"\x0b\x05\0\0\x03hello\0io.systemd.credential:a.b=x=y\0\
                    io.systemd.credential.binary:c=aGk=\0\0";
        let find = |name: &str| strings(raw).find_map(|text| value(text, name));
        assert_eq!(find("a.b").as_deref(), Some(&b"x=y"[..]));
        assert_eq!(find("c").as_deref(), Some(&b"hi"[..]));
        assert_eq!(find("a"), None);
        assert_eq!(strings(&[]).count(), 0);
    }

    #[test]
    fn strings_are_read_from_sysfs() {
        let sys = tempfile::tempdir().unwrap();
        let entry = sys.path().join("firmware/dmi/entries/11-0");
        fs::create_dir_all(&entry).unwrap();
        fs::write(entry.join("raw"), b"\x0b\x05\0\0\x01io.systemd.credential:n=v\0\0").unwrap();
        assert_eq!(find(sys.path(), "n").as_deref(), Some(&b"v"[..]));
        assert_eq!(find(sys.path(), "m"), None);
    }
}
