//! A repository as a machine sees it: metadata that says what is new, targets that it vouches for,
//! and objects that a release names by their hash.
//!
//! What the metadata says to remember is kept before the next question is asked, so that nobody can
//! tell this machine tomorrow what was true yesterday.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::PathBuf,
};

use http_client::{Clock, Shown};
use jiff::Timestamp;
use payload::{
    release::Object,
    segment,
    tuf::{self, Answer, Change, Client, Next, Start, Step},
};

use crate::{
    bundle::{Bundle, NotABundle},
    fetch::{Absent, Fetcher, File, Missed, NotFetched, Why},
    install::media::Folder,
};

/// No stored file has more.
const STORED_BYTES: usize = 8 << 20;

/// Somebody who has files of a repository.
pub trait Source {
    /// A file that `check` finds good; none, if there is none and that is an answer.
    fn get(
        &self,
        file: File<'_>,
        check: &dyn Fn(&[u8]) -> Result<(), String>,
    ) -> Result<Option<Vec<u8>>, NotFetched>;

    /// Asks somebody else first from now on. Returns how many there are.
    fn turn(&self) -> usize;
}

impl Source for Fetcher<'_> {
    fn get(
        &self,
        file: File<'_>,
        check: &dyn Fn(&[u8]) -> Result<(), String>,
    ) -> Result<Option<Vec<u8>>, NotFetched> {
        Fetcher::get(self, file, check)
    }

    fn turn(&self) -> usize {
        Fetcher::turn(self)
    }
}

/// A repository that somebody brought along.
#[derive(Debug)]
pub struct Brought {
    path: PathBuf,
    bundle: Option<Bundle>,
}

impl Brought {
    /// A folder, or a bundle.
    pub fn open(path: PathBuf) -> Result<Self, NotABundle> {
        let bundle = if path.is_dir() { None } else { Some(Bundle::open(&path)?) };
        Ok(Self { path, bundle })
    }

    /// A file of it, or one byte more than `max_bytes` of one that is longer.
    fn read(&self, file: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        let limit = max_bytes.saturating_add(1);
        match &self.bundle {
            Some(bundle) => bundle.read(file, limit),
            None => {
                let mut bytes = Vec::new();
                let found = fs::File::open(self.path.join(file))?;
                found.take(limit).read_to_end(&mut bytes).map(|_| bytes)
            }
        }
    }
}

impl Source for Brought {
    fn get(
        &self,
        file: File<'_>,
        check: &dyn Fn(&[u8]) -> Result<(), String>,
    ) -> Result<Option<Vec<u8>>, NotFetched> {
        let missed = |why| NotFetched::GivenUp {
            path: file.path.to_owned(),
            tries: 1,
            seconds: 0,
            source: Missed { mirror: Shown::new(&self.path.display().to_string()), why },
        };
        match self.read(file.path, file.max_bytes) {
            Ok(bytes) if bytes.len() as u64 > file.max_bytes => {
                Err(missed(Why::TooLong(file.max_bytes)))
            }
            Ok(bytes) => match check(&bytes) {
                Ok(()) => Ok(Some(bytes)),
                Err(why) => Err(missed(Why::Wrong(why))),
            },
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && file.absent == Absent::IsAnAnswer =>
            {
                Ok(None)
            }
            Err(error) => Err(missed(Why::Io(error))),
        }
    }

    fn turn(&self) -> usize {
        1
    }
}

/// A repository whose metadata is current.
pub struct Repository<'r> {
    client: Client,
    source: &'r dyn Source,
    store: &'r dyn Folder,
}

/// What a machine believes before it asks.
#[derive(Clone, Copy)]
pub struct Trust<'t> {
    /// The root of the image.
    pub root: &'t [u8],
    /// When the image was built.
    pub built: Timestamp,
    /// What earlier times left behind.
    pub store: &'t dyn Folder,
}

/// Why a repository is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be had.
    #[error(transparent)]
    Fetch(#[from] NotFetched),
    /// It is not believed.
    #[error("the metadata of the repository")]
    Metadata(#[source] tuf::Error),
    /// What was said cannot be kept.
    #[error("keeping the metadata of the repository in /var/lib/update-engine/tuf")]
    Store(#[source] io::Error),
    /// It lacks something.
    #[error("the repository has no {0}")]
    Absent(String),
}

impl<'r> Repository<'r> {
    /// Brings the metadata up to date. A mirror that is not believed is passed over.
    pub fn refresh(
        trust: Trust<'r>,
        source: &'r dyn Source,
        clock: &dyn Clock,
    ) -> Result<Self, Error> {
        let mut tried = 1;
        loop {
            match Self::refresh_once(trust, source, clock) {
                Err(Error::Metadata(error)) => {
                    tried += 1;
                    if tried > source.turn() {
                        return Err(Error::Metadata(error));
                    }
                }
                other => return other,
            }
        }
    }

    fn refresh_once(
        trust: Trust<'r>,
        source: &'r dyn Source,
        clock: &dyn Clock,
    ) -> Result<Self, Error> {
        let start = Start {
            root: Some(trust.root),
            stored: stored(trust.store).map_err(Error::Store)?,
            clock: Timestamp::try_from(clock.date()).unwrap_or(Timestamp::UNIX_EPOCH),
            built: trust.built,
            limits: tuf::Limits::default(),
        };
        let (client, step) = Client::begin(start).map_err(Error::Metadata)?;
        let mut repository = Self { client, source, store: trust.store };
        match repository.follow(step)? {
            Next::Ready => Ok(repository),
            Next::Fetch(_) | Next::Found(_) | Next::NotFound => {
                unreachable!("a refresh ends when everything is current")
            }
        }
    }

    /// The time of the refresh, which no clock puts back.
    pub fn now(&self) -> Timestamp {
        self.client.now()
    }

    /// Something that the metadata vouches for.
    pub fn target(&mut self, path: &str, max_bytes: u64) -> Result<Vec<u8>, Error> {
        let step = self.client.find(path).map_err(Error::Metadata)?;
        let Next::Found(target) = self.follow(step)? else {
            return Err(Error::Absent(path.to_owned()));
        };
        let location = format!("targets/{}", self.client.location(path, &target));
        let max_bytes = max_bytes.min(target.length);
        let file = File { path: &location, max_bytes, absent: Absent::IsAnError };
        let bytes = self.source.get(file, &|bytes| match target.matches(bytes) {
            true => Ok(()),
            false => Err("it has not the length or the hash that was signed".to_owned()),
        })?;
        bytes.ok_or(Error::Absent(location))
    }

    /// An object of a release.
    pub fn object(&self, object: &Object, absent: Absent) -> Result<Option<Vec<u8>>, Error> {
        let path = object.path();
        let file = File { path: &path, max_bytes: object.size_bytes, absent };
        let check = |bytes: &[u8]| segment::verify(object, bytes).map_err(|e| e.to_string());
        Ok(self.source.get(file, &check)?)
    }

    /// Goes on until no file of the metadata is wanted any more.
    fn follow(&mut self, mut step: Step) -> Result<Next, Error> {
        loop {
            for change in &step.store {
                match change {
                    Change::Put { name, bytes } => self.store.replace(name, bytes),
                    Change::Remove { name } => {
                        self.store.remove(name).and_then(|()| self.store.sync())
                    }
                }
                .map_err(Error::Store)?;
            }
            let Next::Fetch(fetch) = step.next else { return Ok(step.next) };
            let path = format!("metadata/{}", fetch.location);
            let absent = Absent::IsAnAnswer;
            let file = File { path: &path, max_bytes: fetch.max_bytes, absent };
            let bytes = self.source.get(file, &|_| Ok(()))?;
            let answer = bytes.as_deref().map_or(Answer::Missing, Answer::Bytes);
            step = self.client.answer(answer).map_err(Error::Metadata)?;
        }
    }
}

fn stored(store: &dyn Folder) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut stored = BTreeMap::new();
    for file in store.list()? {
        if let Some(bytes) = store.load(&file.name, STORED_BYTES.min(file.size_bytes as usize))? {
            stored.insert(file.name, bytes);
        }
    }
    Ok(stored)
}
