//! Device-mapper: one device with one target, as `/init` needs it (`linux/dm-ioctl.h`, version 4).

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd,
};

/// `struct dm_ioctl`, 312 bytes, followed by a target where one is loaded.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`, 40 bytes, followed by its parameters and a NUL.
#[repr(C)]
#[derive(Clone, Copy)]
struct TargetSpec {
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    target_type: [u8; 16],
}

const PARAMS_BYTES: usize = 2048;

#[repr(C)]
struct Message {
    header: Header,
    target: TargetSpec,
    params: [u8; PARAMS_BYTES],
}

const READ_ONLY: u32 = 1;

mod ioctl {
    use super::Header;
    nix::ioctl_readwrite!(dev_create, 0xfd, 3, Header);
    nix::ioctl_readwrite!(dev_remove, 0xfd, 4, Header);
    nix::ioctl_readwrite!(dev_suspend, 0xfd, 6, Header);
    nix::ioctl_readwrite!(table_load, 0xfd, 9, Header);
}

/// The control device of device-mapper.
pub struct Mapper(File);

/// One target: what a mapped device is made of.
pub struct Target<'a> {
    /// Name of the target, such as `verity`.
    pub kind: &'a str,
    /// Length in sectors of 512 bytes.
    pub sectors: u64,
    /// Parameters, as in a table line of dmsetup(8).
    pub params: &'a str,
}

impl Mapper {
    /// Opens `/dev/mapper/control`.
    pub fn open() -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open("/dev/mapper/control").map(Self)
    }

    /// Makes the read-only device `name` of one target and starts it. Gives its minor number: it
    /// is `/dev/dm-MINOR`.
    pub fn create(&self, name: &str, uuid: &str, target: &Target<'_>) -> io::Result<u64> {
        let mut message = Message::new(name, uuid)?;
        // SAFETY: see `call`; all four take the same message.
        unsafe { self.call(ioctl::dev_create, &mut message) }?;
        let device = message.header.dev;
        let started = self.load_and_resume(name, target);
        if started.is_err() {
            let mut message = Message::new(name, "")?;
            // SAFETY: as above. Its own error would hide the one that matters.
            let _ = unsafe { self.call(ioctl::dev_remove, &mut message) };
        }
        started.map(|()| minor(device))
    }

    fn load_and_resume(&self, name: &str, target: &Target<'_>) -> io::Result<()> {
        let mut message = Message::new(name, "")?;
        message.header.flags = READ_ONLY;
        message.header.target_count = 1;
        message.target.length = target.sectors;
        copy(target.kind, &mut message.target.target_type)?;
        copy(target.params, &mut message.params)?;
        // SAFETY: as above.
        unsafe { self.call(ioctl::table_load, &mut message) }?;
        let mut message = Message::new(name, "")?;
        message.header.flags = READ_ONLY;
        // SAFETY: as above; DM_DEV_SUSPEND without the suspend flag resumes.
        unsafe { self.call(ioctl::dev_suspend, &mut message) }
    }

    /// # Safety
    /// `request` must be a device-mapper ioctl that takes a `struct dm_ioctl`.
    unsafe fn call(
        &self,
        request: unsafe fn(i32, *mut Header) -> nix::Result<i32>,
        message: &mut Message,
    ) -> io::Result<()> {
        // SAFETY: the pointer is to a whole `Message` whose `data_size` says its length, so the
        // kernel reads and writes inside it only. It is derived from the message, not from its
        // header alone, so its provenance covers all of it.
        unsafe { request(self.0.as_raw_fd(), (&raw mut *message).cast()) }?;
        Ok(())
    }
}

impl Message {
    fn new(name: &str, uuid: &str) -> io::Result<Self> {
        let mut header = Header {
            version: [4, 0, 0],
            data_size: size_of::<Self>() as u32,
            data_start: size_of::<Header>() as u32,
            target_count: 0,
            open_count: 0,
            flags: 0,
            event_nr: 0,
            padding: 0,
            dev: 0,
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
        };
        copy(name, &mut header.name)?;
        copy(uuid, &mut header.uuid)?;
        let target =
            TargetSpec { sector_start: 0, length: 0, status: 0, next: 0, target_type: [0; 16] };
        Ok(Self { header, target, params: [0; PARAMS_BYTES] })
    }
}

/// Copies text into a field, a NUL behind it.
fn copy(text: &str, field: &mut [u8]) -> io::Result<()> {
    if text.len() >= field.len() || text.contains('\0') {
        return Err(io::Error::other(format!("`{text}` does not fit device-mapper's field")));
    }
    field[..text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}

/// The minor number of a device in the kernel's `huge_encode_dev` form.
fn minor(dev: u64) -> u64 {
    (dev & 0xff) | ((dev >> 12) & 0xf_ff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minor_number_is_taken_out_of_the_kernels_encoding() {
        assert_eq!(minor(0xfd00), 0);
        assert_eq!(minor(0xfd07), 7);
        assert_eq!(minor(0x10_fd01), 0x101);
    }

    #[test]
    fn the_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Header>(), 312);
        assert_eq!(size_of::<TargetSpec>(), 40);
        assert_eq!(std::mem::offset_of!(Message, target), 312);
        assert_eq!(std::mem::offset_of!(Message, params), 352);
    }
}
