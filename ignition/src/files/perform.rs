//! Steps, done: the thin part. What may be done was decided before; what is there is looked at once
//! more here, because steps change what later ones find.

use std::{
    error::Error,
    io::{self, BufReader, Read, Seek, Write},
    path::Path,
};

use super::{
    accounts::{Change, FILES, Kind, Person},
    nodes::{Decision, Node, OVERWRITE, Want, decide, in_the_way},
    step::{Act, Step},
    tree::{Found, Ids, Last, Parents, Place, Root, is_absence},
};
use crate::fetch::Fetch;

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something is other than it was.
    Done,
    /// All was as it should be.
    AsItWas,
}

/// A step that could not be done.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {doing}")]
pub struct Failed {
    /// The place in the document.
    pub at: String,
    /// What was to be done.
    pub doing: String,
    /// Why it could not.
    pub source: Box<dyn Error + Send + Sync>,
    /// What to do about it, if that is known.
    pub hint: Option<String>,
}

/// Why a step could not be done.
#[derive(Debug)]
struct Cause {
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Cause {
    fn from(error: E) -> Self {
        Self { error: error.into(), hint: None }
    }
}

fn hinted(error: impl Into<Box<dyn Error + Send + Sync>>, hint: &str) -> Cause {
    Cause { error: error.into(), hint: Some(hint.to_owned()) }
}

/// Does a step below the root.
pub fn perform(root: &Root, step: &Step, fetch: &dyn Fetch) -> Result<Outcome, Failed> {
    let done = match &step.act {
        Act::Accounts { kind, text } => accounts(root, *kind, text),
        Act::Home { person, skeleton, mode } => home(root, person, skeleton, *mode),
        Act::Keys { person, fragment } => keys(root, person, *fragment),
        Act::Node(node) => self::node(root, node, fetch),
        Act::Text { path, text, mode } => self::text(root, path, text, *mode),
        Act::Mask { path } => link(root, path, "/dev/null"),
        Act::Unmask { path } => unlink(root, path, |target| target == Path::new("/dev/null")),
        Act::Enable { link, target } => self::link(root, link, target),
        Act::Disable { link } => unlink(root, link, |_| true),
    };
    done.map_err(|Cause { error, hint }| Failed {
        at: step.at.clone(),
        doing: step.to_string(),
        source: error,
        hint,
    })
}

fn at(root: &Root, path: &str) -> io::Result<Place> {
    root.place(Path::new(path), Last::Itself, Parents::Make)
}

/// The files of users and groups keep the owner and the permissions that they have.
fn accounts(root: &Root, kind: Kind, text: &str) -> Result<Outcome, Cause> {
    let path = FILES.iter().find(|(_, one)| *one == kind).map_or("", |(path, _)| path);
    // Where a link stands for it, it is somewhere else, and the link stays.
    let place = root.place(Path::new(path), Last::Follow, Parents::Make)?;
    let (ids, mode) = match place.found()? {
        Found::Nothing => (Ids::default(), kind.mode()),
        _ => {
            let stat = place.stat()?;
            (Ids::both(stat.st_uid, stat.st_gid), stat.st_mode & 0o7777)
        }
    };
    let mut file = place.start_file()?;
    file.write_all(text.as_bytes())?;
    file.finish(ids, mode)?;
    Ok(Outcome::Done)
}

/// A text takes the place of whatever file or link was there.
fn text(root: &Root, path: &str, text: &str, mode: u32) -> Result<Outcome, Cause> {
    let place = at(root, path)?;
    if place.found()? == Found::File && same(&place, &mut text.as_bytes())? {
        place.set(Ids::default(), Some(mode))?;
        return Ok(Outcome::AsItWas);
    }
    let mut file = place.start_file()?;
    file.write_all(text.as_bytes())?;
    file.finish(Ids::default(), mode)?;
    Ok(Outcome::Done)
}

/// A link of ours takes the place of whatever was there, but for a directory.
fn link(root: &Root, path: &str, target: &str) -> Result<Outcome, Cause> {
    let place = at(root, path)?;
    match place.found()? {
        Found::Link(old) if old == Path::new(target) => return Ok(Outcome::AsItWas),
        found @ Found::Directory => return Err(in_the_way(&found).into()),
        _ => place.remove()?,
    }
    place.make_link(Path::new(target))?;
    Ok(Outcome::Done)
}

fn unlink(root: &Root, path: &str, is_it: impl Fn(&Path) -> bool) -> Result<Outcome, Cause> {
    let place = match root.place(Path::new(path), Last::Itself, Parents::Need) {
        Err(error) if is_absence(&error) => return Ok(Outcome::AsItWas),
        place => place?,
    };
    match place.found()? {
        Found::Link(target) if is_it(&target) => {
            place.remove()?;
            Ok(Outcome::Done)
        }
        _ => Ok(Outcome::AsItWas),
    }
}

fn node(root: &Root, node: &Node, fetch: &dyn Fetch) -> Result<Outcome, Cause> {
    let place = at(root, &node.path)?;
    let found = place.found()?;
    let decision = decide(node, &found).map_err(|why| hinted(why, OVERWRITE))?;
    match &node.want {
        Want::Directory { mode } => {
            if decision == Decision::Replace {
                place.remove()?;
            }
            if decision != Decision::Keep {
                place.make_directory(0o755)?;
            }
            let before = place.stat()?;
            place.set(node.ids, *mode)?;
            let after = place.stat()?;
            let key = |stat: &nix::sys::stat::FileStat| (stat.st_uid, stat.st_gid, stat.st_mode);
            let is_same = decision == Decision::Keep && key(&before) == key(&after);
            Ok(if is_same { Outcome::AsItWas } else { Outcome::Done })
        }
        Want::File { mode, contents, append } => {
            let sources = contents.iter().chain(append);
            if decision == Decision::Keep {
                let mut outcome = Outcome::AsItWas;
                for source in sources {
                    let mut piece = place.start_file()?;
                    fetch.fetch(source, &mut piece)?;
                    piece.file.rewind()?;
                    io::copy(&mut piece.file, &mut place.open_end()?)?;
                    outcome = Outcome::Done;
                }
                place.set(node.ids, *mode)?;
                return Ok(outcome);
            }
            let mut file = place.start_file()?;
            for source in sources {
                fetch.fetch(source, &mut file)?;
            }
            file.file.rewind()?;
            if found == Found::File && same(&place, &mut file.file)? {
                drop(file);
                let mode = if node.overwrite { Some(mode.unwrap_or(0o644)) } else { *mode };
                place.set(node.ids, mode)?;
                return Ok(Outcome::AsItWas);
            }
            if decision == Decision::Compare {
                let why = "a file with another content is there already";
                return Err(hinted(why, OVERWRITE));
            }
            if found == Found::Directory {
                place.remove()?;
            }
            file.finish(node.ids, mode.unwrap_or(0o644))?;
            Ok(Outcome::Done)
        }
        Want::Link { target } => {
            if decision == Decision::Keep {
                return Ok(Outcome::AsItWas);
            }
            place.remove()?;
            place.make_link(Path::new(target))?;
            place.set_owner(node.ids)?;
            Ok(Outcome::Done)
        }
        Want::HardLink { target } => {
            let target = root.place(Path::new(target), Last::Itself, Parents::Need)?;
            if target.found()? == Found::Nothing {
                return Err(format!("{} is not there", target.path.display()).into());
            }
            if found != Found::Nothing {
                let (this, that) = (place.stat()?, target.stat()?);
                if (this.st_dev, this.st_ino) == (that.st_dev, that.st_ino) {
                    return Ok(Outcome::AsItWas);
                }
                if !node.overwrite {
                    return Err(hinted(in_the_way(&found), OVERWRITE));
                }
                place.remove()?;
            }
            place.make_hard_link(&target)?;
            Ok(Outcome::Done)
        }
    }
}

/// Whether a file has this content.
fn same(place: &Place, content: &mut dyn Read) -> io::Result<bool> {
    let (mut old, mut new) = (BufReader::new(place.open()?), BufReader::new(content));
    let (mut one, mut other) = ([0; 8192], [0; 8192]);
    loop {
        let length = fill(&mut old, &mut one)?;
        if length != fill(&mut new, &mut other)? || one[..length] != other[..length] {
            return Ok(false);
        }
        if length < one.len() {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or there is no more.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn home(root: &Root, person: &Person, skeleton: &str, mode: u32) -> Result<Outcome, Cause> {
    let place = root.place(Path::new(&person.home), Last::Follow, Parents::Make)?;
    let theirs = Ids::both(person.user, person.group);
    match &person.change {
        Change::Keep => Ok(Outcome::AsItWas),
        Change::Make => {
            if place.found()? != Found::Nothing {
                return Ok(Outcome::AsItWas);
            }
            place.make_directory(mode)?;
            let skeleton = root.place(Path::new(skeleton), Last::Follow, Parents::Need);
            match skeleton {
                Err(error) if is_absence(&error) => {}
                skeleton => {
                    let skeleton = skeleton?;
                    if skeleton.found()? == Found::Directory {
                        copy_content(&skeleton, &place, theirs)?;
                    }
                }
            }
            place.set(theirs, Some(mode))?;
            Ok(Outcome::Done)
        }
        Change::Move { from } => {
            let old = root.place(Path::new(from), Last::Itself, Parents::Make)?;
            match (old.found()?, place.found()?) {
                (Found::Directory, Found::Nothing) => old.rename(&place)?,
                // There is nothing to move, and somebody has to live somewhere.
                (Found::Nothing, Found::Nothing) => {
                    let person = Person { change: Change::Make, ..person.clone() };
                    return home(root, &person, skeleton, mode);
                }
                (Found::Nothing, Found::Directory) => {}
                (_, Found::Nothing) => return Err(format!("{from} is not a directory").into()),
                (_, found) => {
                    let hint = "move what is there out of the way, or leave homeDir as it is";
                    return Err(hinted(format!("{}: {}", person.home, in_the_way(&found)), hint));
                }
            }
            place.visit(&mut |place| place.set_owner(theirs))?;
            Ok(Outcome::Done)
        }
        Change::Own { user, group } => {
            if place.found()? != Found::Directory {
                return Ok(Outcome::AsItWas);
            }
            place.visit(&mut |place| {
                let stat = place.stat()?;
                let new = Ids {
                    user: (stat.st_uid == *user).then_some(person.user),
                    group: (stat.st_gid == *group).then_some(person.group),
                };
                if new == Ids::default() { Ok(()) } else { place.set_owner(new) }
            })?;
            Ok(Outcome::Done)
        }
        Change::Remove => {
            // Homes of users of the system are often directories that others need.
            let is_theirs =
                place.found()? == Found::Directory && place.stat()?.st_uid == person.user;
            if !is_theirs || person.user == 0 || place.is_root() {
                return Ok(Outcome::AsItWas);
            }
            place.remove()?;
            Ok(Outcome::Done)
        }
    }
}

/// Copies what is in a directory to another; all of it belongs to one user there.
fn copy_content(from: &Place, to: &Place, ids: Ids) -> io::Result<()> {
    for name in from.entries()? {
        let (source, copy) = (from.below(&name)?, to.below(&name)?);
        let mode = source.stat()?.st_mode & 0o7777;
        match source.found()? {
            Found::Directory => {
                copy.make_directory(mode)?;
                copy_content(&source, &copy, ids)?;
                copy.set(ids, Some(mode))?;
            }
            Found::File => {
                let mut file = copy.start_file()?;
                io::copy(&mut source.open()?, &mut file.file)?;
                file.finish(ids, mode)?;
            }
            Found::Link(target) => {
                copy.make_link(&target)?;
                copy.set_owner(ids)?;
            }
            Found::Nothing | Found::Other => {}
        }
    }
    Ok(())
}

/// Writes keys. The home may be anywhere; in it, nothing that its owner could have put there is
/// followed: root would write where they may not.
fn keys(root: &Root, person: &Person, fragment: Option<&str>) -> Result<Outcome, Cause> {
    if let Some(name) = fragment.filter(|_| person.keys.is_empty()) {
        return no_keys(root, person, name);
    }
    let home = root.place(Path::new(&person.home), Last::Follow, Parents::Make)?;
    let theirs = Ids::both(person.user, person.group);
    if home.found()? == Found::Nothing {
        home.make_directory(0o700)?;
        home.set(theirs, Some(0o700))?;
    }
    let mut directory = home.below(".ssh")?;
    make_private(&directory, theirs)?;
    if fragment.is_some() {
        directory = directory.below("authorized_keys.d")?;
        make_private(&directory, theirs)?;
    }
    let place = directory.below(fragment.unwrap_or("authorized_keys"))?;
    let mut text = person.keys.join("\n");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if place.found()? == Found::File && same(&place, &mut text.as_bytes())? {
        place.set(theirs, Some(0o600))?;
        return Ok(Outcome::AsItWas);
    }
    let mut file = place.start_file()?;
    file.write_all(text.as_bytes())?;
    file.finish(theirs, 0o600)?;
    Ok(Outcome::Done)
}

/// Removes a file of keys, if it is there.
fn no_keys(root: &Root, person: &Person, name: &str) -> Result<Outcome, Cause> {
    let home = root.place(Path::new(&person.home), Last::Follow, Parents::Need);
    let mut place = match home {
        Err(error) if is_absence(&error) => return Ok(Outcome::AsItWas),
        home => home?,
    };
    for below in [".ssh", "authorized_keys.d", name] {
        if place.found()? != Found::Directory {
            return Ok(Outcome::AsItWas);
        }
        place = place.below(below)?;
    }
    match place.found()? {
        Found::File => {
            place.remove()?;
            Ok(Outcome::Done)
        }
        _ => Ok(Outcome::AsItWas),
    }
}

fn make_private(place: &Place, ids: Ids) -> Result<(), Cause> {
    match place.found()? {
        Found::Directory => Ok(()),
        Found::Nothing => {
            place.make_directory(0o700)?;
            Ok(place.set(ids, Some(0o700))?)
        }
        found => {
            let why = format!("{}: {}", place.path.display(), in_the_way(&found));
            Err(hinted(why, "make it a directory: no link of a user is followed for keys"))
        }
    }
}
