//! A name in a directory of a root: what is there, and what can be done about it.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat, renameat},
    sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstatat, mkdirat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat},
};

/// The name that a file has until it is whole. One at a time, and what a lost run left of it is
/// removed by the next.
const UNFINISHED: &str = ".ignition-unfinished";

/// A name in an open directory: something is there, or could be.
#[derive(Debug)]
pub struct Place {
    pub(super) directory: OwnedFd,
    pub(super) name: OsString,
    /// The path from the root, with every link on the way followed.
    pub path: PathBuf,
}

/// What is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, and what it says.
    Link(PathBuf),
    /// A device, a socket, a pipe.
    Other,
}

/// Who something belongs to; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub user: Option<u32>,
    /// The group.
    pub group: Option<u32>,
}

impl Ids {
    /// Both.
    pub fn both(user: u32, group: u32) -> Self {
        Self { user: Some(user), group: Some(group) }
    }

    fn raw(self) -> (Option<Uid>, Option<Gid>) {
        (self.user.map(Uid::from_raw), self.group.map(Gid::from_raw))
    }
}

impl Place {
    /// What is there.
    pub fn found(&self) -> io::Result<Found> {
        found(self.directory.as_fd(), &self.name)
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.path == Path::new("/")
    }

    /// The place of a name in the directory that is here; no link is followed on the way.
    pub fn below(&self, name: impl Into<OsString>) -> io::Result<Self> {
        let name = name.into();
        let directory = enter(self.directory.as_fd(), &self.name)?;
        let path = self.path.join(&name);
        Ok(Self { directory, name, path })
    }

    /// Opens the file or directory that is here for reading; a link is not followed.
    pub fn open(&self) -> io::Result<File> {
        self.open_for(OFlag::O_RDONLY)
    }

    /// Opens the file that is here for writing at its end; a link is not followed.
    pub fn open_end(&self) -> io::Result<File> {
        self.open_for(OFlag::O_WRONLY | OFlag::O_APPEND)
    }

    fn open_for(&self, how: OFlag) -> io::Result<File> {
        let flags = how | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(openat(&self.directory, &*self.name, flags, Mode::empty())?.into())
    }

    /// The names in the directory that is here, sorted.
    pub fn entries(&self) -> io::Result<Vec<OsString>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut directory = Dir::openat(&self.directory, &*self.name, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// What the kernel knows of what is here, and of no link's target.
    pub fn stat(&self) -> io::Result<FileStat> {
        Ok(fstatat(&self.directory, &*self.name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Makes a directory here.
    pub fn make_directory(&self, mode: u32) -> io::Result<()> {
        make_directory(self.directory.as_fd(), &self.name, mode)
    }

    /// Makes a symbolic link here.
    pub fn make_link(&self, target: &Path) -> io::Result<()> {
        Ok(symlinkat(target, &self.directory, &*self.name)?)
    }

    /// Makes one more name for what is at another place, be it a link.
    pub fn make_hard_link(&self, to: &Self) -> io::Result<()> {
        let flags = AtFlags::empty();
        Ok(linkat(&to.directory, &*to.name, &self.directory, &*self.name, flags)?)
    }

    /// Gives a file or directory an owner and, after that, a mode: a change of owner may take the
    /// set-user-id bit away. What is as it should be is not touched.
    pub fn set(&self, ids: Ids, mode: Option<u32>) -> io::Result<()> {
        set(&self.open()?, ids, mode)
    }

    /// Gives a link, or anything else, an owner.
    pub fn set_owner(&self, ids: Ids) -> io::Result<()> {
        let (user, group) = ids.raw();
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        Ok(fchownat(&self.directory, &*self.name, user, group, flags)?)
    }

    /// Starts a file that will be here once it is [finished](Unfinished::finish).
    pub fn start_file(&self) -> io::Result<Unfinished<'_>> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let private = Mode::from_bits_truncate(0o600);
        let create = || openat(&self.directory, UNFINISHED, flags, private);
        let file = match create() {
            Err(Errno::EEXIST) => {
                unlinkat(&self.directory, UNFINISHED, UnlinkatFlags::NoRemoveDir)?;
                create()?
            }
            file => file?,
        };
        Ok(Unfinished { place: self, file: file.into(), has_name: true })
    }

    /// Moves what is here to another place of the same file system.
    pub fn rename(&self, to: &Self) -> io::Result<()> {
        Ok(renameat(&self.directory, &*self.name, &to.directory, &*to.name)?)
    }

    /// Removes what is here, a directory with all that is in it; a link is removed, not followed.
    pub fn remove(&self) -> io::Result<()> {
        match self.found()? {
            Found::Nothing => Ok(()),
            Found::Directory if self.is_root() => {
                Err(io::Error::other("the root itself cannot be removed"))
            }
            Found::Directory => {
                for name in self.entries()? {
                    self.below(name)?.remove()?;
                }
                Ok(unlinkat(&self.directory, &*self.name, UnlinkatFlags::RemoveDir)?)
            }
            Found::File | Found::Link(_) | Found::Other => {
                Ok(unlinkat(&self.directory, &*self.name, UnlinkatFlags::NoRemoveDir)?)
            }
        }
    }

    /// Calls `visit` for what is here and for all that is below, directories before what they hold.
    pub fn visit(&self, visit: &mut dyn FnMut(&Self) -> io::Result<()>) -> io::Result<()> {
        visit(self)?;
        if self.found()? == Found::Directory {
            for name in self.entries()? {
                self.below(name)?.visit(visit)?;
            }
        }
        Ok(())
    }
}

/// Gives an open file an owner and a mode, where they are not as they should be.
fn set(file: &File, ids: Ids, mode: Option<u32>) -> io::Result<()> {
    let now = file.metadata()?;
    let user = ids.user.filter(|user| *user != now.uid());
    let group = ids.group.filter(|group| *group != now.gid());
    if user.is_some() || group.is_some() {
        let (user, group) = Ids { user, group }.raw();
        fchown(file, user, group)?;
    }
    match mode {
        Some(mode) if file.metadata()?.mode() & 0o7777 != mode => {
            Ok(fchmod(file, Mode::from_bits_truncate(mode))?)
        }
        _ => Ok(()),
    }
}

/// A file that is being written: until it is finished it has another name, and if it is dropped
/// before that it is gone.
#[derive(Debug)]
pub struct Unfinished<'a> {
    place: &'a Place,
    /// What is written to.
    pub file: File,
    has_name: bool,
}

impl Unfinished<'_> {
    /// Puts the file in its place on a file system that knows no owners and no permissions.
    pub fn finish_plain(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.take_name()
    }

    /// Puts the file in its place, with an owner and a mode from the first moment that it has its
    /// name. What was there is replaced; only a directory is in the way.
    pub fn finish(mut self, ids: Ids, mode: u32) -> io::Result<()> {
        set(&self.file, ids, Some(mode))?;
        if self.place.found()? != Found::Nothing {
            // The old content may not be lost before the new one is safe. Where there is none, the
            // sync at the end of all is early enough.
            self.file.sync_all()?;
        }
        self.take_name()
    }

    fn take_name(&mut self) -> io::Result<()> {
        let (directory, name) = (&self.place.directory, &*self.place.name);
        renameat(directory, UNFINISHED, directory, name)?;
        self.has_name = false;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.has_name {
            let directory = &self.place.directory;
            // There is nobody to tell; the next file of this directory removes it.
            let _ = unlinkat(directory, UNFINISHED, UnlinkatFlags::NoRemoveDir);
        }
    }
}

impl Write for Unfinished<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

pub(super) fn enter(here: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(here, name, flags, Mode::empty())?)
}

/// The mode is what was asked for, whatever the umask.
pub(super) fn make_directory(here: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(mode);
    mkdirat(here, name, mode)?;
    Ok(fchmodat(here, name, mode, FchmodatFlags::FollowSymlink)?)
}

pub(super) fn found(here: BorrowedFd<'_>, name: &OsStr) -> io::Result<Found> {
    let stat = match fstatat(here, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(Found::Nothing),
        stat => stat?,
    };
    Ok(match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Found::File,
        SFlag::S_IFDIR => Found::Directory,
        SFlag::S_IFLNK => Found::Link(readlinkat(here, name)?.into()),
        _ => Found::Other,
    })
}
