//! A container image made from nothing: one static program of our own, in the form that
//! `docker save` writes.

use sha2::{Digest, Sha256};

/// What the program says.
pub(crate) const HELLO: &str = "hello from a container\n";
/// How it ends.
pub(crate) const STATUS: u8 = 42;

/// The archive of an image named `localhost/hello`.
pub(crate) fn docker_archive() -> Vec<u8> {
    let layer = tar(&[("hello", 0o755, &program())]);
    let digest = hex(&Sha256::digest(&layer));
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Entrypoint":["/hello"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{digest}"]}}}}"#
    );
    let manifest = r#"[{"Config":"config.json","RepoTags":["localhost/hello:latest"],"Layers":["layer.tar"]}]"#;
    tar(&[
        ("layer.tar", 0o644, &layer),
        ("config.json", 0o644, config.as_bytes()),
        ("manifest.json", 0o644, manifest.as_bytes()),
    ])
}

/// An ELF file that calls write(1, HELLO) and exit(STATUS).
fn program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: usize = 64 + 56;
    let mut code: Vec<u8> = Vec::new();
    code.extend([0xb8, 1, 0, 0, 0]); // mov eax, 1 (write)
    code.extend([0xbf, 1, 0, 0, 0]); // mov edi, 1
    code.extend([0x48, 0x8d, 0x35, 19, 0, 0, 0]); // lea rsi, [rip + 19]: behind the code
    code.extend([0xba, HELLO.len() as u8, 0, 0, 0]); // mov edx, length
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0xb8, 60, 0, 0, 0]); // mov eax, 60 (exit)
    code.extend([0xbf, STATUS, 0, 0, 0]); // mov edi, status
    code.extend([0x0f, 0x05]); // syscall
    let body = [&code, HELLO.as_bytes()].concat();
    let size = (HEADERS + body.len()) as u64;

    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]); // an executable for x86-64, version 1
    elf.extend((BASE + HEADERS as u64).to_le_bytes()); // entry point
    elf.extend(64_u64.to_le_bytes()); // program headers
    elf.extend(0_u64.to_le_bytes()); // no section headers
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]); // flags, sizes, counts
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]); // one segment to load, to be read and executed
    for number in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(number.to_le_bytes());
    }
    assert_eq!(elf.len(), HEADERS);
    elf.extend(body);
    elf
}

/// A tar archive (ustar) of plain files.
fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, mode, content) in files {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        let mut put = |at: usize, text: &str| {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(148, "        "); // the checksum counts itself as spaces
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(*content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_program_in_the_container_runs_on_this_host_too() {
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hello");
    fs::write(&path, program()).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    let output = Command::new(&path).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), HELLO);
    assert_eq!(output.status.code(), Some(i32::from(STATUS)));
}

#[test]
fn the_archive_is_one_that_tar_reads() {
    use std::{fs, process::Command};

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("archive.tar");
    fs::write(&path, docker_archive()).expect("a file");
    let output = Command::new("tar").arg("-tf").arg(&path).output().expect("tar");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "layer.tar\nconfig.json\nmanifest.json\n");
}
