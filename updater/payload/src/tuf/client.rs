//! The client's workflow (section 5 of the specification), one file at a time.

use std::{collections::BTreeMap, mem};

use jiff::Timestamp as Time;

use super::{
    metadata::{
        Malformed, Meta, Role, RoleKeys, Root, Signed, Snapshot, Target, Targets, Timestamp,
    },
    quote,
    search::Search,
};

/// The file in which a client keeps the latest time that it is sure of.
const TIME: &str = "time";

/// What a client begins with.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// The root that came with the image. It counts if it is newer than the stored one.
    pub root: Option<&'a [u8]>,
    /// What earlier refreshes said to store, by name.
    pub stored: BTreeMap<String, Vec<u8>>,
    /// What the machine's clock says.
    pub clock: Time,
    /// It is not earlier than this, whatever the clock says: the time that the image was built.
    pub built: Time,
    /// What to put up with.
    pub limits: Limits,
}

/// How much a client reads before it knows how long a file may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// New versions of the root in one refresh.
    pub roots: u32,
    /// Length of a root.
    pub root_bytes: u64,
    /// Length of a timestamp.
    pub timestamp_bytes: u64,
    /// Length of a snapshot whose length is not signed.
    pub snapshot_bytes: u64,
    /// Length of targets metadata whose length is not signed.
    pub targets_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            roots: 256,
            root_bytes: 512 << 10,
            timestamp_bytes: 16 << 10,
            snapshot_bytes: 2 << 20,
            targets_bytes: 5 << 20,
        }
    }
}

/// What was found out, and what is next.
#[derive(Debug)]
pub struct Step {
    /// To be made lasting, in this order, before anything else.
    pub store: Vec<Change>,
    /// What then.
    pub next: Next,
}

/// A change to what is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A file, whole.
    Put {
        /// Its name, safe as a file's.
        name: String,
        /// What is in it.
        bytes: Vec<u8>,
    },
    /// It is trusted no more.
    Remove {
        /// Its name.
        name: String,
    },
}

/// What a client needs or has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// A file of the metadata.
    Fetch(Fetch),
    /// Everything is current: ask for targets.
    Ready,
    /// The target that was asked for.
    Found(Target),
    /// There is no such target.
    NotFound,
}

/// A file to be fetched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// Relative to the metadata, ready for a URL.
    pub location: String,
    /// No more than this is to be read.
    pub max_bytes: u64,
}

/// What became of a [`Fetch`]. What may be better the next time (no connection, a server's error) is
/// no answer: the same refresh asks again, or is given up.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// This.
    Bytes(&'a [u8]),
    /// The server says that there is no such file.
    Missing,
}

/// Why a repository is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing says whom to believe.
    #[error("there is no root of trust: neither in the image nor stored")]
    NoRoot,
    /// It cannot be understood.
    #[error("{file} is not valid")]
    Malformed {
        /// Which.
        file: String,
        /// Why.
        source: Malformed,
    },
    /// Too few keys signed it.
    #[error("{file} is signed by {valid} of the keys that may sign it, and needs {threshold}")]
    Signatures {
        /// Which.
        file: String,
        /// Keys that did.
        valid: u64,
        /// Keys that have to.
        threshold: u64,
    },
    /// It is another version than was promised.
    #[error("{file} has the version {found}, expected {expected}")]
    Version {
        /// Which.
        file: String,
        /// What was promised.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// It is older than what was seen before: somebody plays back an old repository.
    #[error("{file} goes back: it says {found} of {of}, and {trusted} was seen before")]
    Rollback {
        /// Which.
        file: String,
        /// The file whose version goes back.
        of: String,
        /// What was seen.
        trusted: u64,
        /// What came.
        found: u64,
    },
    /// It is no longer valid: nobody signed it anew, or somebody holds the new one back.
    #[error("{file} expired at {expires}, and it is {now}")]
    Expired {
        /// Which.
        file: String,
        /// When.
        expires: Time,
        /// The time of this refresh.
        now: Time,
    },
    /// It is not what another file says of it.
    #[error("{file} has not the length or the hash that was signed")]
    Other {
        /// Which.
        file: String,
    },
    /// It is longer than it may be.
    #[error("{file} has more than {max_bytes} bytes")]
    Endless {
        /// Which.
        file: String,
        /// What it may have.
        max_bytes: u64,
    },
    /// It is not there.
    #[error("the server has no {file}")]
    Missing {
        /// Which.
        file: String,
    },
    /// The snapshot says nothing of it.
    #[error("the snapshot does not list {file}")]
    NotListed {
        /// Which.
        file: String,
    },
    /// There is no end of new roots.
    #[error("more than {0} new versions of the root at once")]
    Roots(u32),
    /// The root of trust that this began with is not signed by its own keys, or not understood.
    #[error("the root of trust cannot be used")]
    Trust(#[source] Box<Error>),
    /// A path that could lead out of where it belongs.
    #[error("the target `{0}` is no path: expected names with / between them")]
    Path(String),
}

/// A client of a repository, in the middle of a refresh or after it.
#[derive(Debug)]
pub struct Client {
    limits: Limits,
    clock: Time,
    built: Time,
    now: Time,
    stored: BTreeMap<String, Vec<u8>>,
    root: Root,
    timestamp: Option<Signed<Timestamp>>,
    snapshot: Option<Signed<Snapshot>>,
    targets: Option<Targets>,
    state: State,
    /// Of the step under way.
    changes: Vec<Change>,
}

/// What the next answer is about.
#[derive(Debug)]
enum State {
    Root { fetched: u32 },
    Timestamp,
    Snapshot { meta: Meta },
    Targets { meta: Meta },
    Ready,
    Search { search: Search, role: String, keys: Authority, meta: Meta },
    Failed,
}

/// Who speaks for a targets role.
#[derive(Clone, Debug)]
struct Authority {
    keys: BTreeMap<String, super::Key>,
    role: RoleKeys,
}

impl Client {
    /// Begins a refresh.
    pub fn begin(start: Start<'_>) -> Result<(Self, Step), Error> {
        let Start { root, stored, clock, built, limits } = start;
        let stored_root = stored.get("root.json").map(Vec::as_slice);
        let roots: Vec<Result<Signed<Root>, Error>> =
            [stored_root, root].into_iter().flatten().map(trusted_root).collect();
        let mut newest: Option<Root> = None;
        let mut refused = None;
        for root in roots {
            match root {
                Ok(root) if newest.as_ref().is_none_or(|n| n.version < root.signed.version) => {
                    newest = Some(root.signed);
                }
                Ok(_) => {}
                Err(error) => refused = Some(Error::Trust(Box::new(error))),
            }
        }
        let Some(root) = newest else { return Err(refused.unwrap_or(Error::NoRoot)) };
        let mut client = Self {
            limits,
            clock,
            built,
            now: clock.max(built),
            stored,
            root,
            timestamp: None,
            snapshot: None,
            targets: None,
            state: State::Root { fetched: 0 },
            changes: Vec::new(),
        };
        client.now = client.now.max(client.saved_time());
        let next = client.want_root();
        let step = client.step(next);
        Ok((client, step))
    }

    /// The time of this refresh: the machine's clock, unless that is known to be behind.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The root that is trusted now.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Where `target` is on a server, relative to the targets.
    pub fn location(&self, path: &str, target: &Target) -> String {
        target.location(path, self.root.consistent_snapshot)
    }

    /// Takes the answer to the last [`Next::Fetch`].
    ///
    /// An error ends the refresh. What earlier steps said to store stays stored: that is how the
    /// next refresh knows what was seen.
    ///
    /// # Panics
    /// When nothing was asked.
    pub fn answer(&mut self, answer: Answer<'_>) -> Result<Step, Error> {
        self.changes.clear();
        let next = match mem::replace(&mut self.state, State::Failed) {
            State::Root { fetched } => self.take_root(answer, fetched)?,
            State::Timestamp => self.take_timestamp(answer)?,
            State::Snapshot { meta } => self.take_snapshot(answer, &meta)?,
            State::Targets { meta } => {
                let keys = self.top(Targets::TYPE)?;
                let targets = self.take_targets(answer, Targets::TYPE, &keys, &meta)?;
                self.refreshed(targets)
            }
            State::Search { mut search, role, keys, meta } => {
                let targets = self.take_targets(answer, &role, &keys, &meta)?;
                match targets.targets.get(&search.path) {
                    Some(found) => {
                        self.state = State::Ready;
                        Next::Found(found.clone())
                    }
                    None => {
                        search.delegates(&role, targets);
                        self.search_on(search)?
                    }
                }
            }
            State::Ready | State::Failed => panic!("an answer to no question"),
        };
        Ok(self.step(next))
    }

    /// Looks for a target, which may take further files.
    ///
    /// # Panics
    /// Before everything is current.
    pub fn find(&mut self, path: &str) -> Result<Step, Error> {
        assert!(matches!(self.state, State::Ready), "a search before everything is current");
        self.changes.clear();
        check_path(path)?;
        let targets = self.targets.clone().expect("it is current");
        let next = match targets.targets.get(path) {
            Some(found) => Next::Found(found.clone()),
            None => {
                let mut search = Search::new(path);
                search.delegates(Targets::TYPE, targets);
                self.search_on(search)?
            }
        };
        Ok(self.step(next))
    }

    fn step(&mut self, next: Next) -> Step {
        Step { store: mem::take(&mut self.changes), next }
    }

    fn want_root(&self) -> Next {
        let next = self.root.version.saturating_add(1);
        fetch(format!("{next}.root.json"), self.limits.root_bytes)
    }

    fn take_root(&mut self, answer: Answer<'_>, fetched: u32) -> Result<Next, Error> {
        let expected = self.root.version.saturating_add(1);
        let file = format!("{expected}.root.json");
        let Answer::Bytes(bytes) = answer else { return self.last_root() };
        within(&file, bytes, self.limits.root_bytes)?;
        if fetched == self.limits.roots {
            return Err(Error::Roots(self.limits.roots));
        }
        let root: Signed<Root> = parse(&file, bytes)?;
        // By those who were trusted so far, and by those who will be.
        verify(&file, &root, &self.authority(&self.root, Root::TYPE)?)?;
        verify(&file, &root, &self.authority(&root.signed, Root::TYPE)?)?;
        is_version(&file, expected, root.signed.version)?;
        complete(&file, &root.signed)?;
        self.root = root.signed;
        self.put("root.json", bytes);
        self.state = State::Root { fetched: fetched + 1 };
        Ok(self.want_root())
    }

    /// There is no newer root.
    fn last_root(&mut self) -> Result<Next, Error> {
        self.timestamp = self.stored_role();
        self.snapshot = self.stored_role();
        let lost =
            |client: &Self, name: &str, found: bool| client.stored.contains_key(name) && !found;
        if lost(self, "timestamp.json", self.timestamp.is_some())
            || lost(self, "snapshot.json", self.snapshot.is_some())
        {
            // Their keys were replaced: what was signed with them counts no more, versions, time
            // and all, so that it cannot hold the repository back either.
            self.timestamp = None;
            self.snapshot = None;
            for name in ["timestamp.json", "snapshot.json", TIME] {
                self.remove(name);
            }
            self.now = self.clock.max(self.built);
        }
        self.in_time("root.json", self.root.expires)?;
        self.state = State::Timestamp;
        Ok(fetch("timestamp.json".into(), self.limits.timestamp_bytes))
    }

    /// A stored file of a role, if the trusted root's keys signed it.
    fn stored_role<T: Role>(&self) -> Option<Signed<T>> {
        let file = format!("{}.json", T::TYPE);
        let found = parse(&file, self.stored.get(&file)?).ok()?;
        verify(&file, &found, &self.top(T::TYPE).ok()?).ok()?;
        Some(found)
    }

    fn take_timestamp(&mut self, answer: Answer<'_>) -> Result<Next, Error> {
        let file = "timestamp.json";
        let bytes = present(file, answer)?;
        within(file, bytes, self.limits.timestamp_bytes)?;
        let found: Signed<Timestamp> = parse(file, bytes)?;
        verify(file, &found, &self.top(Timestamp::TYPE)?)?;
        let new = snapshot_meta(&found.signed)?;
        if let Some(trusted) = &self.timestamp {
            let old = snapshot_meta(&trusted.signed)?;
            let versions = [
                (file, trusted.signed.version, found.signed.version),
                ("snapshot.json", old.version, new.version),
            ];
            // The same version with another content is not news: what was seen first stays.
            let same = trusted.signed.version == found.signed.version;
            for (of, trusted, found) in versions {
                if !same && found < trusted {
                    return Err(rollback(file, of, trusted, found));
                }
            }
            if same {
                self.in_time(file, trusted.signed.expires)?;
                return self.want_snapshot();
            }
        }
        self.in_time(file, found.signed.expires)?;
        self.put(file, bytes);
        self.timestamp = Some(found);
        self.want_snapshot()
    }

    fn want_snapshot(&mut self) -> Result<Next, Error> {
        let timestamp = self.timestamp.as_ref().expect("it was taken");
        let meta = snapshot_meta(&timestamp.signed)?.clone();
        if let Some(snapshot) = &self.snapshot {
            let current = snapshot.signed.version == meta.version
                && meta.matches(&self.stored["snapshot.json"])
                && self.in_time("snapshot.json", snapshot.signed.expires).is_ok();
            if current {
                return self.want_targets();
            }
        }
        let next = self.want(Snapshot::TYPE, &meta, self.limits.snapshot_bytes);
        self.state = State::Snapshot { meta };
        Ok(next)
    }

    fn take_snapshot(&mut self, answer: Answer<'_>, meta: &Meta) -> Result<Next, Error> {
        let file = "snapshot.json";
        let bytes = present(file, answer)?;
        let found: Signed<Snapshot> =
            self.listed(file, bytes, &self.top(Snapshot::TYPE)?, meta, self.limits.snapshot_bytes)?;
        is_version(file, meta.version, found.signed.version)?;
        for (of, trusted) in self.snapshot.iter().flat_map(|trusted| &trusted.signed.meta) {
            let Some(new) = found.signed.meta.get(of) else {
                return Err(Error::NotListed { file: of.clone() });
            };
            if new.version < trusted.version {
                return Err(rollback(file, of, trusted.version, new.version));
            }
        }
        self.in_time(file, found.signed.expires)?;
        self.put(file, bytes);
        self.snapshot = Some(found);
        self.want_targets()
    }

    fn want_targets(&mut self) -> Result<Next, Error> {
        let meta = self.targets_meta(Targets::TYPE)?;
        if let Some(targets) = self.stored_targets(Targets::TYPE, &self.top(Targets::TYPE)?, &meta)
        {
            return Ok(self.refreshed(targets));
        }
        let next = self.want(Targets::TYPE, &meta, self.limits.targets_bytes);
        self.state = State::Targets { meta };
        Ok(next)
    }

    /// All four roles are current. Only now the time counts as seen: a clock that is far ahead would
    /// have found something expired.
    fn refreshed(&mut self, targets: Targets) -> Next {
        let timestamp = self.timestamp.as_ref().map(|found| &found.signed);
        let issued = timestamp.and_then(|found| Some(found.issued?.min(found.expires)));
        let seen = issued.map_or(self.now, |issued| self.now.max(issued));
        let text = format!("{seen}\n");
        if self.stored.get(TIME).map(Vec::as_slice) != Some(text.as_bytes()) {
            self.put(TIME, text.as_bytes());
        }
        self.targets = Some(targets);
        self.state = State::Ready;
        Next::Ready
    }

    fn take_targets(
        &mut self,
        answer: Answer<'_>,
        role: &str,
        keys: &Authority,
        meta: &Meta,
    ) -> Result<Targets, Error> {
        let file = format!("{role}.json");
        let bytes = present(&file, answer)?;
        let found: Signed<Targets> =
            self.listed(&file, bytes, keys, meta, self.limits.targets_bytes)?;
        is_version(&file, meta.version, found.signed.version)?;
        self.in_time(&file, found.signed.expires)?;
        self.put(&format!("{}.json", quote(role)), bytes);
        Ok(found.signed)
    }

    /// The stored file of a targets role, if it is still the right one for who asks now.
    fn stored_targets(&self, role: &str, keys: &Authority, meta: &Meta) -> Option<Targets> {
        let file = format!("{}.json", quote(role));
        let bytes = self.stored.get(&file)?;
        let found: Signed<Targets> = self.listed(&file, bytes, keys, meta, u64::MAX).ok()?;
        is_version(&file, meta.version, found.signed.version).ok()?;
        self.in_time(&file, found.signed.expires).ok()?;
        Some(found.signed)
    }

    fn search_on(&mut self, mut search: Search) -> Result<Next, Error> {
        self.state = State::Ready;
        while let Some((by, delegation)) = search.next() {
            let role = delegation.name;
            let keys = Authority {
                keys: search.roles[&by].delegations.clone().unwrap_or_default().keys,
                role: delegation.keys,
            };
            let meta = self.targets_meta(&role)?;
            match self.stored_targets(&role, &keys, &meta) {
                Some(targets) => match targets.targets.get(&search.path) {
                    Some(found) => return Ok(Next::Found(found.clone())),
                    None => search.delegates(&role, targets),
                },
                None => {
                    let next = self.want(&role, &meta, self.limits.targets_bytes);
                    self.state = State::Search { search, role, keys, meta };
                    return Ok(next);
                }
            }
        }
        Ok(Next::NotFound)
    }

    fn targets_meta(&self, role: &str) -> Result<Meta, Error> {
        let file = format!("{role}.json");
        // A delegated role of this name would be stored over a top-level one.
        let taken = [Root::TYPE, Timestamp::TYPE, Snapshot::TYPE].contains(&role);
        let snapshot = self.snapshot.as_ref().expect("it was taken before any targets");
        match snapshot.signed.meta.get(&file) {
            Some(meta) if !taken => Ok(meta.clone()),
            _ => Err(Error::NotListed { file }),
        }
    }

    fn want(&self, role: &str, meta: &Meta, limit: u64) -> Next {
        let role = quote(role);
        let location = if self.root.consistent_snapshot {
            format!("{}.{role}.json", meta.version)
        } else {
            format!("{role}.json")
        };
        fetch(location, meta.length.unwrap_or(limit).min(limit))
    }

    /// Reads a file that another one lists.
    fn listed<T: Role>(
        &self,
        file: &str,
        bytes: &[u8],
        keys: &Authority,
        meta: &Meta,
        limit: u64,
    ) -> Result<Signed<T>, Error> {
        within(file, bytes, meta.length.unwrap_or(limit).min(limit))?;
        if !meta.matches(bytes) {
            return Err(Error::Other { file: file.to_owned() });
        }
        let found = parse(file, bytes)?;
        verify(file, &found, keys)?;
        Ok(found)
    }

    fn top(&self, role: &str) -> Result<Authority, Error> {
        self.authority(&self.root, role)
    }

    fn authority(&self, root: &Root, role: &str) -> Result<Authority, Error> {
        let malformed = |source| Error::Malformed { file: "root.json".into(), source };
        let role = root.role(role).map_err(malformed)?.clone();
        Ok(Authority { keys: root.keys.clone(), role })
    }

    fn in_time(&self, file: &str, expires: Time) -> Result<(), Error> {
        let now = self.now;
        if expires > now {
            return Ok(());
        }
        Err(Error::Expired { file: file.to_owned(), expires, now })
    }

    fn saved_time(&self) -> Time {
        let text = self.stored.get(TIME).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(Time::MIN)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) {
        self.stored.insert(name.to_owned(), bytes.to_vec());
        self.changes.push(Change::Put { name: name.to_owned(), bytes: bytes.to_vec() });
    }

    fn remove(&mut self, name: &str) {
        if self.stored.remove(name).is_some() {
            self.changes.push(Change::Remove { name: name.to_owned() });
        }
    }
}

/// A root to begin with: whole, and signed by its own keys.
pub fn trusted_root(bytes: &[u8]) -> Result<Signed<Root>, Error> {
    let root: Signed<Root> = parse("root.json", bytes)?;
    let malformed = |source| Error::Malformed { file: "root.json".into(), source };
    let role = root.signed.role(Root::TYPE).map_err(malformed)?.clone();
    verify("root.json", &root, &Authority { keys: root.signed.keys.clone(), role })?;
    complete("root.json", &root.signed)?;
    Ok(root)
}

/// A root that names nobody for one of the roles would be the last one that ever counted.
fn complete(file: &str, root: &Root) -> Result<(), Error> {
    let malformed = |source| Error::Malformed { file: file.to_owned(), source };
    for role in [Root::TYPE, Timestamp::TYPE, Snapshot::TYPE, Targets::TYPE] {
        root.role(role).map_err(malformed)?;
    }
    Ok(())
}

fn fetch(location: String, max_bytes: u64) -> Next {
    Next::Fetch(Fetch { location, max_bytes })
}

fn present<'a>(file: &str, answer: Answer<'a>) -> Result<&'a [u8], Error> {
    match answer {
        Answer::Bytes(bytes) => Ok(bytes),
        Answer::Missing => Err(Error::Missing { file: file.to_owned() }),
    }
}

fn within(file: &str, bytes: &[u8], max_bytes: u64) -> Result<(), Error> {
    if bytes.len() as u64 <= max_bytes {
        return Ok(());
    }
    Err(Error::Endless { file: file.to_owned(), max_bytes })
}

fn parse<T: Role>(file: &str, bytes: &[u8]) -> Result<Signed<T>, Error> {
    Signed::parse(bytes).map_err(|source| Error::Malformed { file: file.to_owned(), source })
}

fn verify<T: Role>(file: &str, found: &Signed<T>, by: &Authority) -> Result<(), Error> {
    let threshold = by.role.threshold;
    let valid = found.valid(&by.keys, &by.role);
    if threshold > 0 && valid >= threshold {
        return Ok(());
    }
    Err(Error::Signatures { file: file.to_owned(), valid, threshold })
}

fn is_version(file: &str, expected: u64, found: u64) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Version { file: file.to_owned(), expected, found })
}

fn rollback(file: &str, of: &str, trusted: u64, found: u64) -> Error {
    Error::Rollback { file: file.to_owned(), of: of.to_owned(), trusted, found }
}

fn snapshot_meta(timestamp: &Timestamp) -> Result<&Meta, Error> {
    let missing = || Error::NotListed { file: "snapshot.json".into() };
    timestamp.meta.get("snapshot.json").ok_or_else(missing)
}

fn check_path(path: &str) -> Result<(), Error> {
    let bad = |part: &str| matches!(part, "" | "." | "..");
    let control = |c: char| c.is_control() || c == '\\';
    if path.split('/').any(bad) || path.contains(control) {
        return Err(Error::Path(path.to_owned()));
    }
    Ok(())
}
