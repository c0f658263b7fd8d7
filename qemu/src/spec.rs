//! The description of a machine, before it runs.
//!
//! ```no_run
//! # fn main() -> Result<(), qemu::Error> {
//! let machine = qemu::Spec::named("one")?.memory_mib(512).bus(qemu::Bus::Nvme).start()?;
//! machine.wait_ready()?;
//! assert_eq!(machine.ssh("id -un")?.text()?, "core");
//! machine.power_off()?;
//! # Ok(()) }
//! ```

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use crate::{
    accel::Accel,
    artifacts::{Artifacts, Image},
    error::Error,
    folder::Folder,
    machine::Machine,
};

/// What the disk hangs on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bus {
    /// virtio-blk: /dev/vda.
    Virtio,
    /// virtio-scsi: /dev/sda.
    Scsi,
    /// NVMe: /dev/nvme0n1.
    Nvme,
    /// SATA on AHCI: /dev/sda.
    Ahci,
}

impl FromStr for Bus {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "virtio-blk" => Ok(Self::Virtio),
            "virtio-scsi" => Ok(Self::Scsi),
            "nvme" => Ok(Self::Nvme),
            "ahci" => Ok(Self::Ahci),
            _ => Err(format!("`{word}` is none of virtio-blk, virtio-scsi, nvme, ahci")),
        }
    }
}

/// How the machine's disk comes from the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disk {
    /// Writes go to a qcow2 file in the machine's folder; the image is only read. Starts at once.
    Overlay,
    /// A raw copy in the machine's folder: can be looked at and changed from outside between runs,
    /// and does not need the image afterwards.
    Copy,
    /// The image itself, which cannot be written.
    ReadOnly,
    /// The image itself. What the machine writes stays there.
    Direct,
}

/// A card on a network between machines.
#[derive(Clone, Debug)]
pub struct Nic {
    /// Its address.
    pub mac: String,
    /// The socket of the switch.
    pub socket: PathBuf,
}

/// The description of a machine.
#[derive(Clone, Debug)]
pub struct Spec {
    pub(crate) name: String,
    pub(crate) artifacts: Artifacts,
    pub(crate) image: Option<Image>,
    pub(crate) disk: Disk,
    pub(crate) disk_bytes: Option<u64>,
    pub(crate) bus: Bus,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    pub(crate) accel: Option<Accel>,
    pub(crate) icount: Option<u8>,
    pub(crate) offline: bool,
    /// The firmware starts what it has keys for, once it has any.
    pub(crate) secure_boot: bool,
    pub(crate) nics: Vec<Nic>,
    pub(crate) credentials: BTreeMap<String, String>,
    pub(crate) kernel_arguments: Option<String>,
    pub(crate) extra: Vec<OsString>,
    /// Leave the disk in the folder when the machine is gone, and start from it again.
    pub(crate) keep: bool,
    /// The folder of the machine that this is the next life of.
    pub(crate) rests_in: Option<Arc<Folder>>,
}

impl Spec {
    /// A machine of the newest image, with nothing special. The name is that of its folder.
    pub fn named(name: &str) -> Result<Self, Error> {
        Ok(Self::in_build(name, Artifacts::find()?))
    }

    /// The same in another build folder.
    pub fn in_build(name: &str, artifacts: Artifacts) -> Self {
        Self {
            name: name.to_owned(),
            artifacts,
            image: None,
            disk: Disk::Overlay,
            disk_bytes: None,
            bus: Bus::Virtio,
            memory_mib: 1024,
            cpus: 2,
            accel: None,
            icount: None,
            offline: false,
            secure_boot: false,
            nics: Vec::new(),
            credentials: BTreeMap::new(),
            kernel_arguments: None,
            extra: Vec::new(),
            keep: false,
            rests_in: None,
        }
    }

    /// Boots this image instead of the newest.
    pub fn image(mut self, image: Image) -> Self {
        self.image = Some(image);
        self
    }

    /// How the disk comes from the image.
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }

    /// A larger disk than the image's.
    pub fn disk_bytes(mut self, bytes: u64) -> Self {
        self.disk_bytes = Some(bytes);
        self
    }

    /// What the disk hangs on.
    pub fn bus(mut self, bus: Bus) -> Self {
        self.bus = bus;
        self
    }

    /// Memory.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Processors.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// This accelerator, whatever works best here.
    pub fn accel(mut self, accel: Accel) -> Self {
        self.accel = Some(accel);
        self
    }

    /// Counts instructions: the guest's clock advances by 2^shift ns with each, on one thread of
    /// TCG, and sleeping takes no time. For measuring.
    pub fn icount(mut self, shift: u8) -> Self {
        self.icount = Some(shift);
        self.accel = Some(Accel::Tcg);
        self
    }

    /// No way out of the user network (SSH from the host still gets in).
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// A firmware with Secure Boot. It has no keys yet, so that it takes those that it is given.
    pub fn secure_boot(mut self) -> Self {
        self.secure_boot = true;
        self
    }

    /// One more card, in a socket of a [`Switch`](crate::Switch).
    pub fn plugged_into(mut self, mac: &str, socket: PathBuf) -> Self {
        self.nics.push(Nic { mac: mac.to_owned(), socket });
        self
    }

    /// A systemd credential, handed over by the firmware's tables (SMBIOS type 11).
    pub fn credential(mut self, name: &str, value: &str) -> Self {
        self.credentials.insert(name.to_owned(), value.to_owned());
        self
    }

    /// More words on the kernel's command line, in place of those that were given before: the stub of
    /// the UKI takes them from the firmware's tables.
    pub fn kernel_arguments(mut self, words: &str) -> Self {
        self.kernel_arguments = Some(words.to_owned());
        self
    }

    /// What the host sends over the user network is held back, until
    /// [`Machine::let_through`](crate::Machine::let_through): DHCP is not answered, nothing is.
    pub fn deaf(self) -> Self {
        self.argument("-object").argument(
            // In microseconds, and longer than any test.
            "filter-buffer,id=deaf,netdev=outside,queue=tx,interval=3600000000",
        )
    }

    /// The document that the machine becomes on its first boot, by QEMU's fw_cfg.
    pub fn document(self, file: &Path) -> Self {
        let file = file.to_string_lossy().replace(',', ",,");
        self.argument("-fw_cfg").argument(format!("name=opt/org.pithos/config,file={file}"))
    }

    /// One more disk, a raw file; the machine sees it as `/dev/disk/by-id/virtio-NAME`.
    pub fn spare_disk(self, name: &str, file: &Path) -> Self {
        let file = file.to_string_lossy().replace(',', ",,");
        self.argument("-drive")
            .argument(format!("if=none,id={name},format=raw,cache=writeback,file={file}"))
            .argument("-device")
            .argument(format!("virtio-blk-pci,drive={name},serial={name}"))
    }

    /// Logs `core` in on the console without asking. For machines that only we can reach.
    pub fn console_login(self) -> Self {
        self.credential("agetty.autologin", "core").credential("login.noauth", "yes")
    }

    /// One more argument for QEMU.
    pub fn argument(mut self, word: impl Into<OsString>) -> Self {
        self.extra.push(word.into());
        self
    }

    /// Starts from the disk that the last run left in the folder, and leaves it there again.
    pub fn kept(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its files are.
    pub fn folder(&self) -> PathBuf {
        self.artifacts.machine(&self.name)
    }

    /// The raw file of a [`Disk::Copy`], once the machine has been started.
    pub fn copied_disk(&self) -> PathBuf {
        self.folder().join(DISK_COPY)
    }

    /// Switches it on.
    pub fn start(self) -> Result<Machine, Error> {
        Machine::start(self)
    }
}

/// The file of a [`Disk::Copy`] in the machine's folder.
pub(crate) const DISK_COPY: &str = "disk.raw";
/// The file of a [`Disk::Overlay`].
pub(crate) const DISK_OVERLAY: &str = "overlay.qcow2";
/// The firmware's variables.
pub(crate) const VARIABLES: &str = "vars.fd";
