//! A directory that is taken for `/`: whatever is reached through a [`Root`] is below it.
//!
//! A path is walked name by name, each from the open directory before it and never through a link:
//! a link is read, and what it says is walked from here, an absolute one from the root. `..` goes
//! back to the directory that we came from, and stays at the root there. So no link leads out, also
//! none that somebody puts there while we walk, and the kernel needs to be no newer than `openat`.

mod place;

use std::{
    ffi::OsString,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

pub use place::{Found, Ids, Place, Unfinished};
use place::{enter, found, make_directory};

/// More links on one path are a loop, as the kernel has it.
const MAX_LINKS: usize = 40;

/// What directories get on the way to something else.
const PARENT_MODE: u32 = 0o755;

/// A directory that is taken for `/`.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

/// Whether directories on the way are made where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parents {
    /// They are.
    Make,
    /// They have to be there.
    Need,
}

/// What to do about a link at the very end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// It is what is meant.
    Itself,
    /// It is followed.
    Follow,
}

/// Where a path leads.
enum Walk {
    Place(Place),
    /// A directory on the way is missing.
    Missing(PathBuf),
}

impl Root {
    /// Takes a directory for the root.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Self { directory })
    }

    /// The place of a path; `.` in the directory itself where the path ends in one (`/`, `a/..`).
    pub fn place(&self, path: &Path, last: Last, parents: Parents) -> io::Result<Place> {
        match self.walk(path, last, parents)? {
            Walk::Place(place) => Ok(place),
            Walk::Missing(_) => Err(Errno::ENOENT.into()),
        }
    }

    /// Where a path leads, every link on the way to its last name followed, and what is there; it
    /// leads somewhere also where directories on the way are missing.
    pub fn leads(&self, path: &Path) -> io::Result<(PathBuf, Found)> {
        match self.walk(path, Last::Itself, Parents::Need)? {
            Walk::Place(place) => Ok((place.path.clone(), place.found()?)),
            Walk::Missing(path) => Ok((path, Found::Nothing)),
        }
    }

    fn walk(&self, path: &Path, last: Last, parents: Parents) -> io::Result<Walk> {
        let mut ahead = names(path);
        let mut walked: Vec<(OsString, OwnedFd)> = Vec::new();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                walked.pop();
                continue;
            }
            let here = walked.last().map_or(self.directory.as_fd(), |(_, fd)| fd.as_fd());
            match found(here, &name)? {
                Found::Link(target) if !ahead.is_empty() || last == Last::Follow => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::ELOOP.into());
                    }
                    if target.is_absolute() {
                        walked.clear();
                    }
                    ahead.extend(names(&target));
                }
                _ if ahead.is_empty() => {
                    let directory = here.try_clone_to_owned()?;
                    let path = path_of(&walked).join(&name);
                    return Ok(Walk::Place(Place { directory, name, path }));
                }
                Found::Nothing if parents == Parents::Need => {
                    let mut path = path_of(&walked).join(&name);
                    for name in ahead.iter().rev() {
                        match name == ".." {
                            true => {
                                path.pop();
                            }
                            false => path.push(name),
                        }
                    }
                    return Ok(Walk::Missing(path));
                }
                Found::Nothing => {
                    make_directory(here, &name, PARENT_MODE)?;
                    let next = enter(here, &name)?;
                    walked.push((name, next));
                }
                Found::Directory => {
                    let next = enter(here, &name)?;
                    walked.push((name, next));
                }
                Found::File | Found::Other | Found::Link(_) => return Err(Errno::ENOTDIR.into()),
            }
        }
        let path = path_of(&walked);
        let here = walked.last().map_or(self.directory.as_fd(), |(_, fd)| fd.as_fd());
        let directory = here.try_clone_to_owned()?;
        Ok(Walk::Place(Place { directory, name: OsString::from("."), path }))
    }

    /// What is in a file, if it is there.
    pub fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let place = match self.place(path, Last::Follow, Parents::Need) {
            Err(error) if is_absence(&error) => return Ok(None),
            place => place?,
        };
        match place.found()? {
            Found::File => {}
            Found::Nothing => return Ok(None),
            _ => return Err(io::Error::other("it is not a regular file")),
        }
        let mut bytes = Vec::new();
        place.open()?.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The text of a file, if it is there. What is not UTF-8 in it is replaced.
    pub fn read_text(&self, path: &Path) -> io::Result<Option<String>> {
        let bytes = self.read(path)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The names in a directory, sorted; none if it is not there.
    pub fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let place = match self.place(path, Last::Follow, Parents::Need) {
            Err(error) if is_absence(&error) => return Ok(Vec::new()),
            place => place?,
        };
        match place.found()? {
            Found::Directory => place.entries(),
            _ => Ok(Vec::new()),
        }
    }

    /// Makes all that was written safe from a loss of power.
    pub fn sync(&self) -> io::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = openat(&self.directory, ".", flags, Mode::empty())?;
        Ok(nix::unistd::syncfs(directory)?)
    }
}

/// Whether something, or a directory on the way to it, is not there.
pub fn is_absence(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOENT | Errno::ENOTDIR))
}

/// The names of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

fn path_of(walked: &[(OsString, OwnedFd)]) -> PathBuf {
    Path::new("/").join(walked.iter().map(|(name, _)| name).collect::<PathBuf>())
}
