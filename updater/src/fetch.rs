//! Files of a repository, from whichever of its mirrors has them: asked for again with longer waits,
//! never longer than they may be, never faster than the operator wants, and checked before anybody
//! sees a byte of them. A mirror may die, stall, drip, lie about a length or send for ever: it only
//! costs time.

mod rate;

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    io::{self, Read},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use http_client::{Client, Clock, Headers, Names, Proxies, Request, Shown, Tries, Url, connection};

use self::rate::Rate;

/// For one file, with every try.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// One try may take this, and a second for each [`SLOWEST`] bytes: a server that sends a byte now
/// and then would else hold an update up for ever.
const ONE_TRY: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 1024;
const LONGEST_TRY: Duration = Duration::from_secs(24 * 60 * 60);
/// How much is read before it is looked whether to go on.
const PIECE_BYTES: usize = 64 * 1024;

/// Somebody who gets files.
pub struct Fetcher<'a> {
    client: Client,
    mirrors: Vec<Url>,
    /// The mirror that was good last.
    good: Cell<usize>,
    headers: Headers,
    rate: RefCell<Rate>,
    clock: &'a dyn Clock,
    stop: &'a AtomicBool,
    say: &'a dyn Fn(&str),
    fetched_bytes: Cell<u64>,
}

/// What is to be had.
#[derive(Clone, Copy, Debug)]
pub struct File<'f> {
    /// Relative to the repository.
    pub path: &'f str,
    /// More than that is not read.
    pub max_bytes: u64,
    /// What it means if no mirror has it.
    pub absent: Absent,
}

/// What it means that a file is on no mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// There is none.
    IsAnAnswer,
    /// There should be one, and there may be soon.
    IsAnError,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum NotFetched {
    /// Nobody wants it any more.
    #[error("told to stop")]
    Stopped,
    /// No mirror gave it.
    #[error("fetching {path}: given up after {tries} tries in {seconds} s")]
    GivenUp {
        /// Which.
        path: String,
        /// How often each mirror was asked.
        tries: u32,
        /// For how long.
        seconds: u64,
        /// What the last one said.
        source: Missed,
    },
}

/// Why a mirror did not give a file.
#[derive(Debug, thiserror::Error)]
#[error("{mirror}: {why}")]
pub struct Missed {
    /// Which.
    pub mirror: Shown,
    /// Why.
    pub why: Why,
}

/// Why a try came to nothing.
#[derive(Debug)]
pub enum Why {
    /// It is not there.
    Absent(u16),
    /// The server says something else.
    Status(u16, String),
    /// It is longer than it may be.
    TooLong(u64),
    /// It is not what was promised.
    Wrong(String),
    /// The way there.
    Io(io::Error),
}

enum Once {
    Stopped,
    Why(Why),
}

impl<'a> Fetcher<'a> {
    /// For the files of `mirrors`, until `stop` is true. What happens on the way is said to `say`.
    pub fn new(
        mirrors: Vec<Url>,
        proxies: Proxies,
        clock: &'a dyn Clock,
        stop: &'a AtomicBool,
        say: &'a dyn Fn(&str),
    ) -> Self {
        let agent = concat!("update-engine/", env!("CARGO_PKG_VERSION"), " (PithOS)");
        let headers = [("Accept", "*/*"), ("Accept-Encoding", "identity"), ("User-Agent", agent)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            client: Client { proxies, ..Client::new(Names::System) },
            mirrors,
            good: Cell::new(0),
            headers: Headers(headers.to_vec()),
            rate: RefCell::new(Rate::unlimited()),
            clock,
            stop,
            say,
            fetched_bytes: Cell::new(0),
        }
    }

    /// At most so many bytes in a second.
    pub fn limited(mut self, bytes: Option<u64>) -> Self {
        self.rate = RefCell::new(bytes.map_or_else(Rate::unlimited, Rate::new));
        self
    }

    /// With a name and a password for mirrors that do not say one in their address.
    pub fn as_user(mut self, account: Option<&(String, String)>) -> Self {
        if let Some((user, password)) = account {
            for mirror in self.mirrors.iter_mut().filter(|mirror| mirror.user.is_empty()) {
                let escape = |text| http_client::url::escape(text, "");
                mirror.user = format!("{}:{}", escape(user), escape(password));
            }
        }
        self
    }

    /// With another patience for servers that send nothing: tests have none to spare.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        (self.client.headers, self.client.stall) = (patience, patience);
        self
    }

    /// How much came so far, that was good or not.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.get()
    }

    /// Asks another mirror first from now on. Returns how many there are.
    pub fn turn(&self) -> usize {
        self.good.set((self.good.get() + 1) % self.mirrors.len());
        self.mirrors.len()
    }

    /// Gets a file that `check` finds good. None: no mirror has one, if that is an answer.
    pub fn get(
        &self,
        file: File<'_>,
        check: &dyn Fn(&[u8]) -> Result<(), String>,
    ) -> Result<Option<Vec<u8>>, NotFetched> {
        let mut tries = Tries::new(self.clock.now(), PATIENCE);
        loop {
            let missed = match self.round(file, check)? {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(missed) => missed,
            };
            let absent = missed.iter().all(|missed| matches!(missed.why, Why::Absent(_)));
            if absent && file.absent == Absent::IsAnAnswer {
                return Ok(None);
            }
            let hopeless = missed.iter().all(|missed| missed.why.is_final());
            let last = missed.into_iter().next_back().expect("there is a mirror");
            let now = self.clock.now();
            let wait = tries.failed(now).filter(|_| !hopeless);
            let Some(wait) = wait else {
                return Err(NotFetched::GivenUp {
                    path: file.path.to_owned(),
                    tries: tries.count(),
                    seconds: tries.seconds(now),
                    source: last,
                });
            };
            let (count, wait_ms) = (tries.count(), wait.as_millis());
            (self.say)(&format!("{}, try {count}: {last}; again in {wait_ms} ms", file.path));
            self.clock.sleep(wait);
        }
    }

    /// Asks each mirror once, beginning with the one that was good.
    fn round(
        &self,
        file: File<'_>,
        check: &dyn Fn(&[u8]) -> Result<(), String>,
    ) -> Result<Result<Vec<u8>, Vec<Missed>>, NotFetched> {
        let (count, good) = (self.mirrors.len(), self.good.get());
        let mut all = Vec::new();
        for index in (good..good + count).map(|index| index % count) {
            let mirror = &self.mirrors[index];
            let tried = self.once(mirror, file).and_then(|bytes| match check(&bytes) {
                Ok(()) => Ok(bytes),
                Err(why) => Err(Once::Why(Why::Wrong(why))),
            });
            match tried {
                Ok(bytes) => {
                    self.good.set(index);
                    return Ok(Ok(bytes));
                }
                Err(Once::Stopped) => return Err(NotFetched::Stopped),
                Err(Once::Why(why)) => {
                    all.push(Missed { mirror: Shown::new(&mirror.to_string()), why });
                }
            }
        }
        Ok(Err(all))
    }

    fn once(&self, mirror: &Url, file: File<'_>) -> Result<Vec<u8>, Once> {
        self.go_on()?;
        let mut url = mirror.clone();
        let folder = mirror.path().trim_end_matches('/');
        url.target = format!("{folder}/{}", file.path);
        let request = Request { headers: self.headers.clone(), ..Request::get(url) };
        let slowest =
            self.rate.borrow().bytes().map_or(SLOWEST, |bytes| SLOWEST.min(bytes / 2 + 1));
        // The connection has the clock of the machine, whatever clock the test has.
        let longest = Duration::from_secs(file.max_bytes / slowest).min(LONGEST_TRY);
        let end = Instant::now() + ONE_TRY + longest;
        let io = |error| Once::Why(Why::Io(error));
        let answer = self.client.follow(&request, &self.headers, end).map_err(io)?;
        match answer.status {
            200 => self.read(answer.content, file.max_bytes),
            status @ (403 | 404 | 410) => Err(Once::Why(Why::Absent(status))),
            status => {
                let reason = answer.reason.chars().filter(|c| !c.is_control()).take(80).collect();
                Err(Once::Why(Why::Status(status, reason)))
            }
        }
    }

    /// Reads piece by piece. What a server says of a length is not believed.
    fn read(&self, content: impl Read, max_bytes: u64) -> Result<Vec<u8>, Once> {
        let mut content = content.take(max_bytes.saturating_add(1));
        let mut bytes = Vec::new();
        loop {
            self.go_on()?;
            let piece = content.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut bytes);
            let count = piece.map_err(|error| Once::Why(Why::Io(error)))? as u64;
            self.fetched_bytes.set(self.fetched_bytes.get() + count);
            if bytes.len() as u64 > max_bytes {
                return Err(Once::Why(Why::TooLong(max_bytes)));
            }
            if count == 0 {
                return Ok(bytes);
            }
            let wait = self.rate.borrow_mut().take(count, self.clock.now());
            if !wait.is_zero() {
                self.clock.sleep(wait);
            }
        }
    }

    fn go_on(&self) -> Result<(), Once> {
        if self.stop.load(Ordering::Relaxed) { Err(Once::Stopped) } else { Ok(()) }
    }
}

impl Why {
    /// Whether asking the same mirror again cannot help.
    fn is_final(&self) -> bool {
        match self {
            Self::Io(error) => connection::is_final(error),
            Self::Absent(_) | Self::Status(..) | Self::TooLong(_) | Self::Wrong(_) => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(status) => write!(f, "there is no such file ({status})"),
            Self::Status(status, reason) => {
                write!(f, "the server says {}", format!("{status} {reason}").trim_end())
            }
            Self::TooLong(max_bytes) => write!(f, "more than the {max_bytes} bytes it may have"),
            Self::Wrong(why) => f.write_str(why),
            Self::Io(error) => {
                write!(f, "{error}")?;
                let causes = std::iter::successors(error.source(), |error| (*error).source());
                causes.into_iter().try_for_each(|cause| write!(f, ": {cause}"))
            }
        }
    }
}

impl fmt::Debug for Fetcher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mirrors: Vec<Shown> =
            self.mirrors.iter().map(|mirror| Shown::new(&mirror.to_string())).collect();
        f.debug_struct("Fetcher").field("mirrors", &mirrors).finish_non_exhaustive()
    }
}
