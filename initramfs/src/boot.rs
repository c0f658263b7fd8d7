//! The steps of a boot, in order. Each says in its failure what it looked for and what it saw.

use std::{
    convert::Infallible,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use block::mapper::{Mapper, Target};
use layout::{RootHash, cmdline, verity::Superblock};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};

use crate::{
    disks::{self, Choice, Disk},
    drivers::Drivers,
    efi,
    log::{self, Log},
    provision::{Prepared, Provisioner, RootWish},
    report::{self, Failure, chain},
    root::{self, RootError},
    switch, verity,
};

/// How long to wait for the disk when the command line does not say.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often to look at the disks where none is announced: a driver may be silent about a disk
/// that was there but could not be read yet.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How often to say what is waited for.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// Modules that no device asks for: what /usr and /etc are made of. That of root is in /usr.
const BY_NAME: &[&str] = &["erofs", "dm_verity", "overlay"];

/// Boots. On success this process is systemd and nothing is returned.
pub(crate) fn run() -> Result<Infallible, Failure> {
    mount_kernel_file_systems()?;
    let log = Log::start();
    let wish = log.step("read the command line", read_cmdline)?;
    let mut drivers = log.step("load modules", load_modules)?;
    let (disk, usr, tree) = log.step("find the disk", || find_disk(&wish, &mut drivers))?;
    log.step("open /usr with dm-verity", || open_usr(&wish.root_hash, &disk, usr, tree))?;
    log.step("mount root", || mount_root(&disk))?;
    log.step("switch to root", || {
        let done = switch::into_root().map_err(|error| Failure {
            step: "switch to root",
            looked_for: "the mounts of the initramfs, to take them along".to_owned(),
            found: error.to_string(),
            to_do: REPORT.to_owned(),
        });
        done.map(|()| ((), "the initramfs is gone".to_owned()))
    })?;
    log.step("overlay /etc", || {
        let done = switch::overlay_etc().map_err(|error| Failure {
            step: "overlay /etc",
            looked_for: "/usr/share/pithos/etc below, /.pithos/etc above".to_owned(),
            found: error.to_string(),
            to_do: format!("{REPORT}; changes of /etc are in /.pithos/etc/upper of root"),
        });
        done.map(|()| ((), "the machine's changes over the image's defaults".to_owned()))
    })?;
    log.done();
    switch::into_systemd().map_err(|error| Failure {
        step: "start systemd",
        looked_for: "/usr/lib/systemd/systemd in the verified /usr".to_owned(),
        found: error.to_string(),
        to_do: "boot another version; this image is not a PithOS".to_owned(),
    })
}

/// What to do where no operator can have caused it.
const REPORT: &str = "boot another version, and report this with the kernel's log";

/// What the command line asks for.
struct Wish {
    root_hash: RootHash,
    timeout: Duration,
}

fn mount_kernel_file_systems() -> Result<(), Failure> {
    let none: Option<&str> = None;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mounts = [
        ("proc", "/proc", plain, none),
        ("sysfs", "/sys", plain, none),
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID, Some("mode=0755")),
        ("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755")),
    ];
    for (kind, at, flags, options) in mounts {
        match mount(Some(kind), at, Some(kind), flags, options) {
            // The kernel mounts /dev itself where it is built so.
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(errno) => {
                return Err(Failure {
                    step: "mount the kernel's file systems",
                    looked_for: format!("{kind} on {at}"),
                    found: errno.to_string(),
                    to_do: "boot another version; this kernel lacks it".to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn read_cmdline() -> Result<(Wish, String), Failure> {
    let failure = |looked_for: &str, found: String, to_do: &str| Failure {
        step: "read the command line",
        looked_for: looked_for.to_owned(),
        found,
        to_do: to_do.to_owned(),
    };
    let text = fs::read_to_string("/proc/cmdline")
        .map_err(|error| failure("/proc/cmdline", error.to_string(), "boot another version"))?;
    let one_hash = "one usrhash=, the verity root hash of /usr";
    let image_says = "boot a UKI as the image builder made it, or give usrhash= by hand";
    let mut hashes = cmdline::values(&text, cmdline::USRHASH);
    hashes.dedup();
    let root_hash = match hashes[..] {
        [hash] => hash.parse().map_err(|error: layout::hash::NotARootHash| {
            failure(one_hash, error.to_string(), image_says)
        })?,
        [] => return Err(failure(one_hash, format!("none in `{}`", text.trim()), image_says)),
        _ => return Err(failure(one_hash, format!("{hashes:?}"), image_says)),
    };
    let timeout = match cmdline::values(&text, cmdline::DEVICE_TIMEOUT).last() {
        None => DEVICE_TIMEOUT,
        Some(seconds) => Duration::from_secs(seconds.parse().map_err(|_| {
            let looked_for = "pithos.device-timeout=SECONDS, a whole number";
            failure(looked_for, format!("`{seconds}`"), "correct it on the command line")
        })?),
    };
    Ok((Wish { root_hash, timeout }, format!("root hash {root_hash}")))
}

fn load_modules() -> Result<(Drivers, String), Failure> {
    let failure = |error: io::Error| Failure {
        step: "load modules",
        looked_for: "the lists of modules in /modules, and the devices of this machine".to_owned(),
        found: error.to_string(),
        to_do: "boot another version; this initramfs is not whole".to_owned(),
    };
    let mut drivers = Drivers::new().map_err(failure)?;
    // Devices first, the processor among them: what checksums and hashes with its own instructions
    // must be there before the file systems that choose among what is there.
    drivers.serve_present().map_err(failure)?;
    BY_NAME.iter().for_each(|name| drivers.insert(name));
    let what = drivers.describe();
    Ok((drivers, what))
}

fn find_disk(wish: &Wish, drivers: &mut Drivers) -> Result<((Disk, u32, u32), String), Failure> {
    let start = Instant::now();
    let (end, mut remark) = (start + wish.timeout, start);
    loop {
        let mut disks = disks::scan();
        let loader = || {
            drivers.insert("efivarfs");
            efi::loader_partition()
        };
        match disks::choose(&disks, &wish.root_hash, loader) {
            // Perhaps a copy of the one that is meant, which is on a controller that was put off.
            Choice::One { disk, .. }
                if drivers.has_put_off() && !is_loaders(&disks[disk], drivers) =>
            {
                drivers.serve_put_off().map_err(|error| not_announced(&error))?;
                continue;
            }
            Choice::One { disk, usr, verity } => {
                let disk = disks.swap_remove(disk);
                let mut what = format!("{}, partitions {usr} and {verity}", disk.name);
                let announced = announce(&disk).map_err(|error| no_devices(&disk, &error))?;
                if announced > 0 {
                    what.push_str(&format!("; {announced} that the kernel did not find"));
                }
                return Ok(((disk, usr, verity), what));
            }
            Choice::Several(names) => {
                return Err(Failure {
                    step: "find the disk",
                    looked_for: looked_for(&wish.root_hash),
                    found: format!(
                        "several disks that carry both: {}; and the boot loader does not say \
                         which of them it came from",
                        names.join(", ")
                    ),
                    to_do: "detach all but one".to_owned(),
                });
            }
            Choice::None => {}
        }
        if drivers.serve_put_off().map_err(|error| not_announced(&error))? {
            continue;
        }
        let now = Instant::now();
        let left = end.saturating_duration_since(now);
        if left.is_zero() {
            return Err(no_disk(wish, &disks, drivers));
        }
        if now >= remark {
            remark = now + SAY_AGAIN;
            let (waited, limit) = (now.duration_since(start).as_secs(), wish.timeout.as_secs());
            let what = looked_for(&wish.root_hash);
            log::delay(&format!("find the disk: waiting for {what} ({waited} s of {limit})"));
        }
        drivers.serve_announced(left.min(LOOK_AGAIN)).map_err(|error| not_announced(&error))?;
    }
}

/// Whether the boot loader came from this disk; where it does not say, it may have.
fn is_loaders(disk: &Disk, drivers: &mut Drivers) -> bool {
    drivers.insert("efivarfs");
    let Some(loader) = efi::loader_partition() else { return true };
    disk.table.as_ref().is_ok_and(|table| table.entries().values().any(|e| e.guid == loader))
}

fn not_announced(error: &io::Error) -> Failure {
    Failure {
        step: "find the disk",
        looked_for: "announcements of devices by the kernel".to_owned(),
        found: error.to_string(),
        to_do: REPORT.to_owned(),
    }
}

/// Tells the kernel of partitions that it did not find by itself: it does not look at the backup
/// table where the primary one is torn.
fn announce(disk: &Disk) -> io::Result<usize> {
    let Ok(table) = &disk.table else { return Ok(0) };
    let mut entries = table.entries();
    entries.retain(|number, _| !disk.partition(*number).exists());
    if !entries.is_empty() {
        let device = File::options().read(true).write(true).open(disk.path())?;
        for (number, entry) in &entries {
            // One that ends behind the disk is what the plan of root, or verity, complains of.
            let _ = block::partition::add(&device, *number, entry.start_bytes, entry.size_bytes);
        }
    }
    Ok(entries.len())
}

fn no_devices(disk: &Disk, error: &io::Error) -> Failure {
    Failure {
        step: "find the disk",
        looked_for: format!("devices for the partitions of {}", disk.name),
        found: format!("{error}\n{}", disk.describe()),
        to_do: REPORT.to_owned(),
    }
}

fn looked_for(hash: &RootHash) -> String {
    format!(
        "a disk with partitions of PARTUUID {} and {} (usrhash={hash})",
        hash.usr_partuuid(),
        hash.verity_partuuid()
    )
}

fn no_disk(wish: &Wish, disks: &[Disk], drivers: &Drivers) -> Failure {
    let mut found: Vec<String> = disks.iter().map(Disk::describe).collect();
    if found.is_empty() {
        found.push("no disk at all".to_owned());
    }
    found.extend(drivers.failures());
    Failure {
        step: "find the disk",
        looked_for: looked_for(&wish.root_hash),
        found: found.join("\n"),
        to_do: format!(
            "attach the disk that this UKI belongs to; if it is slow to come, give more than {} s \
             by pithos.device-timeout=",
            wish.timeout.as_secs()
        ),
    }
}

fn open_usr(hash: &RootHash, disk: &Disk, usr: u32, tree: u32) -> Result<((), String), Failure> {
    let (data, tree) = (disk.partition(usr), disk.partition(tree));
    let failure = |found: String| Failure {
        step: "open /usr with dm-verity",
        looked_for: format!(
            "an erofs on {} that verifies with the hash tree on {} against {hash}",
            data.display(),
            tree.display()
        ),
        found,
        to_do: "this slot is damaged: boot the other version, or write the image anew".to_owned(),
    };
    let mut bytes = [0; Superblock::BYTES];
    let read = File::open(&tree).and_then(|file| file.read_exact_at(&mut bytes, 0));
    read.map_err(|error| failure(format!("reading {}: {error}", tree.display())))?;
    let superblock = Superblock::parse(&bytes)
        .map_err(|error| failure(format!("{}: {error}", tree.display())))?;
    let (data, tree) = (data.display().to_string(), tree.display().to_string());
    let params = verity::params(&superblock, &data, &tree, hash);
    let sectors = verity::sectors(&superblock);
    let target = Target { kind: "verity", sectors, params: &params };
    let minor = Mapper::open()
        .and_then(|mapper| mapper.create("usr", &format!("CRYPT-VERITY-{hash}-usr"), &target))
        .map_err(|error| failure(format!("device-mapper: {error}, table: {params}")))?;
    let device = format!("/dev/dm-{minor}");
    let none: Option<&str> = None;
    mount(Some(&*device), "/usr", Some("erofs"), MsFlags::MS_RDONLY | MsFlags::MS_NODEV, none)
        .map_err(|errno| failure(format!("mounting {device} as erofs: {errno}")))?;
    Ok(((), format!("{device}, erofs")))
}

fn mount_root(disk: &Disk) -> Result<((), String), Failure> {
    let plan = plan_root(disk)?;
    let failure = |error: &RootError, plan: &root::Plan| {
        let to_do = match (error, plan) {
            (RootError::Provisioning(_), _) => {
                "correct the document that describes this machine, and start it once more: it \
                 begins anew"
            }
            (_, root::Plan::Make { .. }) => {
                "start once more: a root that is not whole is made anew"
            }
            (_, root::Plan::Use { .. }) => {
                "boot with pithos.on-failure=shell and repair it, or attach the disk elsewhere"
            }
        };
        let is_document = matches!(error, RootError::Provisioning(_));
        Failure {
            step: if is_document { PROVISION } else { "mount root" },
            looked_for: if is_document {
                "a machine as its first-boot document says".to_owned()
            } else {
                looked_for_root(disk)
            },
            found: chain(error),
            to_do: to_do.to_owned(),
        }
    };
    let nothing = RootWish::default();
    if let root::Plan::Use { .. } = plan {
        let table = disk.table.as_ref().expect("the plan is of its table");
        let (what, _) = root::perform(&plan, disk, table, &nothing, || Ok(()))
            .map_err(|error| failure(&error, &plan))?;
        return Ok(((), what));
    }
    // First boot: before root is made, the document has its say on all disks.
    let mut provisioner = Provisioner::start(disk).map_err(|error| failure(&error, &plan))?;
    let wish = match provisioner.prepared().map_err(|error| failure(&error, &plan))? {
        Prepared::Root(wish) => wish,
        Prepared::Reboot => report::reboot_now("other kernel arguments, as the document says"),
    };
    let name = disk.name.clone();
    let disk = disks::look(name).ok_or_else(|| Failure {
        step: "mount root",
        looked_for: "the disk, after the document had its say".to_owned(),
        found: "it is gone".to_owned(),
        to_do: REPORT.to_owned(),
    })?;
    let plan = plan_root(&disk)?.of_at_most(wish.size_mib);
    let table = disk.table.as_ref().expect("the plan is of its table");
    let (what, provisioner) = root::perform(&plan, &disk, table, &wish, || {
        let tree = switch::Inside::mount()?;
        let filled = provisioner.fill();
        tree.unmount().and(filled)
    })
    .map_err(|error| failure(&error, &plan))?;
    if let Some(provisioner) = provisioner {
        provisioner.finish();
    }
    Ok(((), what))
}

/// The step of the first boot that belongs to whoever wrote the document.
pub(crate) const PROVISION: &str = "provision";

fn looked_for_root(disk: &Disk) -> String {
    format!("the root partition of {}, or room to make one", disk.name)
}

fn plan_root(disk: &Disk) -> Result<root::Plan, Failure> {
    let table = disk.table.as_ref().map_err(|why| why.clone());
    let found = table.and_then(|table| {
        root::plan(disk.bytes, &table.entries())
            .map_err(|refused| format!("{refused}\n{}", disk.describe()))
    });
    found.map_err(|found| Failure {
        step: "mount root",
        looked_for: looked_for_root(disk),
        found,
        to_do: "give the disk more room, or remove the partitions that are in the way".to_owned(),
    })
}
