//! Block devices, their partition tables, and device-mapper: the calls of the kernel that take raw
//! memory, each behind a safe function. All `unsafe` of the project is here.

#![allow(unsafe_code)]

pub mod mapper;
pub mod partition;
pub mod table;

use std::{fs::File, io, os::fd::AsRawFd};

mod ioctl {
    nix::ioctl_read!(blkgetsize64, 0x12, 114, usize);
    nix::ioctl_read_bad!(blksszget, 0x1268, nix::libc::c_int);
}

/// What the kernel calls a partition of a disk: `vda1`, `nvme0n1p1`. As well for paths.
pub fn partition_name(disk: &str, number: u32) -> String {
    let p = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{p}{number}")
}

/// The size of a block device, in bytes.
pub fn size_bytes(device: &File) -> io::Result<u64> {
    let mut bytes = 0usize;
    // SAFETY: BLKGETSIZE64 writes one u64 through the pointer; usize is that u64 on every target
    // that we build.
    unsafe { ioctl::blkgetsize64(device.as_raw_fd(), &mut bytes) }?;
    Ok(bytes as u64)
}

/// The logical sector size of a block device, in bytes.
pub fn sector_bytes(device: &File) -> io::Result<u64> {
    let mut bytes = 0;
    // SAFETY: BLKSSZGET writes one int through the pointer.
    unsafe { ioctl::blksszget(device.as_raw_fd(), &mut bytes) }?;
    u64::try_from(bytes).map_err(io::Error::other)
}
