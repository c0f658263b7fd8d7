//! The last steps: from the initramfs to the machine's own root, and to systemd.

use std::{
    convert::Infallible,
    ffi::CString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    unistd::{chdir, chroot, execv},
};

use crate::root::TREE;

const NONE: Option<&str> = None;

/// The defaults of /etc as the image ships them.
const SHIPPED_ETC: &str = "/usr/share/pithos/etc";
/// Where the machine's changes to /etc are, on root.
pub(crate) const UPPER: &str = ".pithos/etc/upper";
/// The work directory of the overlay, on root.
pub(crate) const WORK: &str = ".pithos/etc/work";

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
    let options = overlay_options();
    let etc = "/etc";
    Ok(mount(Some("overlay"), etc, Some("overlay"), MsFlags::empty(), Some(&*options))?)
}

/// The image's side changes with every version, which the kernel allows only without these three:
/// they keep notes of the lower side in the upper one.
fn overlay_options() -> String {
    format!(
        "lowerdir={SHIPPED_ETC},upperdir=/{UPPER},workdir=/{WORK},index=off,metacopy=off,\
         redirect_dir=off"
    )
}

/// Becomes systemd, with the words that the kernel gave us.
pub(crate) fn into_systemd() -> io::Result<Infallible> {
    let systemd = CString::from(c"/usr/lib/systemd/systemd");
    let words = std::env::args_os().skip(1).filter_map(|word| CString::new(word.into_vec()).ok());
    let args: Vec<CString> = std::iter::once(systemd.clone()).chain(words).collect();
    Ok(execv(&systemd, &args)?)
}
