//! The last steps: from the initramfs to the machine's own root, and to systemd.

use std::{
    convert::Infallible,
    ffi::CString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, chroot, execv},
};

use crate::root::{RootError, TREE, doing};

const NONE: Option<&str> = None;

/// The defaults of /etc as the image ships them.
const SHIPPED_ETC: &str = "/usr/share/pithos/etc";
/// Where the machine's changes to /etc are, on root.
pub(crate) const UPPER: &str = ".pithos/etc/upper";
/// The work directory of the overlay, on root.
pub(crate) const WORK: &str = ".pithos/etc/work";

/// `/usr` and `/etc` inside a root that is being filled, as the machine will see them.
pub(crate) struct Inside(());

impl Inside {
    /// Mounts them.
    pub(crate) fn mount() -> Result<Self, RootError> {
        let usr = format!("{TREE}/usr");
        mount(Some("/usr"), &*usr, NONE, MsFlags::MS_BIND, NONE)
            .map_err(|errno| doing(format!("mounting /usr on {usr}"))(errno.into()))?;
        let etc = format!("{TREE}/etc");
        let options = overlay_options(TREE);
        mount(Some("overlay"), &*etc, Some("overlay"), MsFlags::empty(), Some(&*options))
            .map_err(|errno| doing(format!("mounting an overlay on {etc}"))(errno.into()))?;
        Ok(Self(()))
    }

    /// Unmounts them.
    pub(crate) fn unmount(self) -> Result<(), RootError> {
        for below in ["etc", "usr"] {
            let at = format!("{TREE}/{below}");
            umount2(&*at, MntFlags::empty())
                .map_err(|errno| doing(format!("unmounting {at}"))(errno.into()))?;
        }
        Ok(())
    }
}

/// Frees what the initramfs holds, takes the mounts along, and makes the new root the root.
pub(crate) fn into_root() -> io::Result<()> {
    // What is removed is the machine's memory again. Both are on the initramfs itself: nothing is
    // mounted below them. What cannot be removed only costs some.
    let _ = fs::remove_dir_all("/modules");
    let _ = fs::remove_file("/init");
    for from in ["/usr", "/run", "/sys", "/proc", "/dev"] {
        let to = PathBuf::from(format!("{TREE}{from}"));
        mount(Some(from), &to, NONE, MsFlags::MS_MOVE, NONE)
            .map_err(|errno| io::Error::other(format!("moving {from}: {errno}")))?;
    }
    chdir(TREE)?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)
        .map_err(|errno| io::Error::other(format!("moving {TREE}: {errno}")))?;
    chroot(".")?;
    Ok(chdir("/")?)
}

/// Lays the machine's changes of /etc over the image's defaults. In the new root, so that the
/// paths that `findmnt /etc` shows are true.
pub(crate) fn overlay_etc() -> io::Result<()> {
    if !Path::new(SHIPPED_ETC).is_dir() {
        return Err(io::Error::other(format!("{SHIPPED_ETC} is not in this image")));
    }
    let options = overlay_options("");
    let etc = "/etc";
    Ok(mount(Some("overlay"), etc, Some("overlay"), MsFlags::empty(), Some(&*options))?)
}

/// The image's side changes with every version, which the kernel allows only without these three:
/// they keep notes of the lower side in the upper one.
fn overlay_options(root: &str) -> String {
    format!(
        "lowerdir={SHIPPED_ETC},upperdir={root}/{UPPER},workdir={root}/{WORK},index=off,\
         metacopy=off,redirect_dir=off"
    )
}

/// Becomes systemd, with the words that the kernel gave us.
pub(crate) fn into_systemd() -> io::Result<Infallible> {
    let systemd = CString::from(c"/usr/lib/systemd/systemd");
    let words = std::env::args_os().skip(1).filter_map(|word| CString::new(word.into_vec()).ok());
    let args: Vec<CString> = std::iter::once(systemd.clone()).chain(words).collect();
    Ok(execv(&systemd, &args)?)
}
