//! The kernel's own announcements of devices, so that waiting is not polling.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};

/// Group 1: what the kernel says; group 2 would be udev's.
const KERNEL: u32 = 1;

/// Where the kernel announces devices.
pub(crate) struct Uevents(OwnedFd);

/// What was announced, as far as we care.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// `MODALIAS` of each device that has one.
    pub(crate) modaliases: Vec<String>,
    /// There were more than the kernel keeps for us.
    pub(crate) some_were_lost: bool,
    count: usize,
}

impl Heard {
    pub(crate) fn nothing(&self) -> bool {
        self.count == 0 && !self.some_were_lost
    }

    fn add(&mut self, message: &[u8]) {
        self.count += 1;
        let mut fields = message.split(|&byte| byte == 0);
        let modalias = fields.find_map(|field| field.strip_prefix(b"MODALIAS="));
        self.modaliases.extend(modalias.map(|text| String::from_utf8_lossy(text).into_owned()));
    }
}

impl Uevents {
    pub(crate) fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
        Ok(Self(fd))
    }

    /// Waits at most `limit` for an announcement and gives all that came.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<Heard> {
        // Rounded up: a limit below a millisecond must not become a busy loop.
        let millis = limit.as_micros().div_ceil(1000);
        let millis = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let mut heard = Heard::default();
        if !limit.is_zero() {
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], millis) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let mut buffer = [0; 8192];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => heard.add(&buffer[..length]),
                Err(Errno::EAGAIN) => return Ok(heard),
                Err(Errno::ENOBUFS) => heard.some_were_lost = true,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_give_the_aliases_of_devices_that_have_one() {
        let mut heard = Heard::default();
        assert!(heard.nothing());
        heard.add(b"add@/devices/x\0ACTION=add\0SUBSYSTEM=pci\0MODALIAS=pci:v1\0SEQNUM=1\0");
        heard.add(b"add@/devices/y\0ACTION=add\0SUBSYSTEM=block\0");
        assert_eq!(heard.modaliases, ["pci:v1"]);
        assert!(!heard.nothing());
    }
}
