//! Tells the kernel of one changed partition of a disk that is in use: re-reading the whole table
//! would be refused (EBUSY).

use std::{ffi::c_void, fs::File, io, os::fd::AsRawFd};

use nix::libc::{c_char, c_int, c_longlong};

/// `struct blkpg_partition` of `linux/blkpg.h`.
#[repr(C)]
struct BlkpgPartition {
    start: c_longlong,
    length: c_longlong,
    pno: c_int,
    devname: [c_char; 64],
    volname: [c_char; 64],
}

/// `struct blkpg_ioctl_arg` of `linux/blkpg.h`.
#[repr(C)]
struct BlkpgArg {
    op: c_int,
    flags: c_int,
    datalen: c_int,
    data: *mut c_void,
}

const ADD: c_int = 1;
const DELETE: c_int = 2;
const RESIZE: c_int = 3;

mod ioctl {
    use super::BlkpgArg;
    nix::ioctl_write_ptr_bad!(blkpg, 0x1269, BlkpgArg);
}

/// Adds partition `number`, both positions in bytes.
pub fn add(disk: &File, number: u32, start_bytes: u64, size_bytes: u64) -> io::Result<()> {
    call(disk, ADD, number, start_bytes, size_bytes)
}

/// Removes partition `number`. It must not be in use.
pub fn delete(disk: &File, number: u32) -> io::Result<()> {
    call(disk, DELETE, number, 0, 0)
}

/// Changes the length of partition `number`, which may be in use; it must start where it did.
pub fn resize(disk: &File, number: u32, start_bytes: u64, size_bytes: u64) -> io::Result<()> {
    call(disk, RESIZE, number, start_bytes, size_bytes)
}

fn call(disk: &File, op: c_int, number: u32, start: u64, length: u64) -> io::Result<()> {
    let mut partition = BlkpgPartition {
        start: c_longlong::try_from(start).map_err(io::Error::other)?,
        length: c_longlong::try_from(length).map_err(io::Error::other)?,
        pno: c_int::try_from(number).map_err(io::Error::other)?,
        devname: [0; 64],
        volname: [0; 64],
    };
    let arg = BlkpgArg {
        op,
        flags: 0,
        datalen: size_of::<BlkpgPartition>() as c_int,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: both structures have the kernel's layout and outlive the call; the kernel only reads
    // `datalen` bytes behind `data`.
    unsafe { ioctl::blkpg(disk.as_raw_fd(), &arg) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn the_structures_have_the_kernels_layout() {
        assert_eq!(size_of::<BlkpgPartition>(), 152);
        assert_eq!(offset_of!(BlkpgPartition, pno), 16);
        assert_eq!(offset_of!(BlkpgPartition, devname), 20);
        assert_eq!(offset_of!(BlkpgPartition, volname), 84);
        assert_eq!(size_of::<BlkpgArg>(), 24);
        assert_eq!(offset_of!(BlkpgArg, data), 16);
    }
}
