//! Omaha 3, the update protocol that clients of CoreOS and Flatcar speak, as data: what a machine
//! asks and tells ([`Request`]), and what it is answered ([`Response`]). Both sides are here; nothing
//! touches a socket or a clock.
//!
//! What is not known is passed over, as clients differ in what they send. What is known has bounds:
//! anybody may send a request.

mod read;
mod write;

use std::fmt;

pub use read::Wrong;

/// No request is longer.
pub const MAX_BYTES: usize = 64 << 10;
/// Applications of one request: a machine of Flatcar asks about itself and its extensions.
pub const MAX_APPS: usize = 8;
/// Events of one application.
pub const MAX_EVENTS: usize = 16;
/// What Container Linux and Flatcar call themselves.
pub const COREOS: &str = "e96281a6-d1af-4bde-9a0a-97b76e56dc57";
/// What PithOS calls itself.
pub const PITHOS: &str = "b5a9e4d2-6f0c-4c1e-9d37-52a8c0f1e763";

/// What a machine sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Of what it runs.
    pub apps: Vec<App>,
}

/// One application of a machine: the operating system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// Which, as it was sent. [`App::is`] compares it.
    pub id: String,
    /// What runs.
    pub version: String,
    /// Where updates come from: `track`, which is GROUP of update.conf.
    pub channel: String,
    /// What it was made for.
    pub board: String,
    /// Which machine. Without it, nobody is known.
    pub machine: Option<String>,
    /// What the operator calls the machine.
    pub alias: Option<String>,
    /// Whether it says that it is there.
    pub ping: bool,
    /// Whether it wants to know if there is an update.
    pub check: bool,
    /// What happened.
    pub events: Vec<Event>,
}

/// Something that happened on a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// How it went.
    pub result: Outcome,
    /// Why it failed, by update_engine's numbers; 0 if it did not.
    pub code: u32,
    /// What ran before.
    pub previous: Option<String>,
    /// What the update is to.
    pub next: Option<String>,
    /// Why it failed, in words. Clients of ours alone send it.
    pub cause: Option<String>,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The payload is there.
    DownloadComplete,
    /// The payload is written.
    InstallComplete,
    /// The update is done, but for the reboot; with [`Outcome::Rebooted`], that is done, too.
    UpdateComplete,
    /// The payload is being fetched.
    DownloadStarted,
    /// The payload was fetched.
    DownloadFinished,
    /// Something else.
    Other(u32),
    /// Nothing that says what.
    #[default]
    Unknown,
}

/// How something went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Badly.
    #[default]
    Failed,
    /// Well.
    Success,
    /// Well, and the machine was rebooted.
    Rebooted,
    /// Something else.
    Other(u32),
}

/// What a machine is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Seconds since midnight, UTC.
    pub day_seconds: u32,
    /// For each application that was asked about.
    pub apps: Vec<AppAnswer>,
}

/// What is said of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppAnswer {
    /// Which, as it was asked.
    pub id: String,
    /// What is said, or that it is not known here.
    pub known: Option<Known>,
}

/// What is said of an application that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Whether there was a ping.
    pub ping: bool,
    /// What the check found, if there was one.
    pub check: Option<Check>,
    /// How many events there were.
    pub events: usize,
}

/// What a check finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing newer.
    NoUpdate,
    /// This.
    Update(Offer),
}

/// A payload that a machine may fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its version.
    pub version: String,
    /// Where it is: mirrors, each ending in a slash.
    pub codebases: Vec<String>,
    /// Its file there.
    pub package: String,
    /// Of the file.
    pub size_bytes: u64,
    /// SHA-1 of the file, base64.
    pub sha1: String,
    /// SHA-256 of the file, base64.
    pub sha256: String,
}

impl App {
    /// Whether it is that application. Clients differ in braces and case.
    pub fn is(&self, id: &str) -> bool {
        self.id.trim_matches(['{', '}']).eq_ignore_ascii_case(id)
    }
}

impl Kind {
    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Self::Unknown => 0,
            Self::DownloadComplete => 1,
            Self::InstallComplete => 2,
            Self::UpdateComplete => 3,
            Self::DownloadStarted => 13,
            Self::DownloadFinished => 14,
            Self::Other(number) => number,
        }
    }
}

impl From<u32> for Kind {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Unknown,
            1 => Self::DownloadComplete,
            2 => Self::InstallComplete,
            3 => Self::UpdateComplete,
            13 => Self::DownloadStarted,
            14 => Self::DownloadFinished,
            number => Self::Other(number),
        }
    }
}

impl Outcome {
    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Self::Failed => 0,
            Self::Success => 1,
            Self::Rebooted => 2,
            Self::Other(number) => number,
        }
    }
}

impl From<u32> for Outcome {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Failed,
            1 => Self::Success,
            2 => Self::Rebooted,
            number => Self::Other(number),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::DownloadComplete => "download complete",
            Kind::InstallComplete => "install complete",
            Kind::UpdateComplete => "update complete",
            Kind::DownloadStarted => "download started",
            Kind::DownloadFinished => "download finished",
            Kind::Unknown => "something",
            Kind::Other(number) => return write!(f, "event {number}.{}", self.result.number()),
        };
        match self.result {
            Outcome::Failed => write!(f, "{what}: error {}", self.code),
            Outcome::Success => f.write_str(what),
            Outcome::Rebooted => write!(f, "{what}, rebooted"),
            Outcome::Other(number) => write!(f, "{what}: result {number}"),
        }
    }
}

/// What a number of update_engine means, if it is one of those that machines send.
pub fn code_name(code: u32) -> Option<&'static str> {
    // The upper bits say how the payload was fetched, not what failed.
    let code = code & 0x0fff_ffff;
    Some(match code {
        1 => "error",
        2 => "metadata or request",
        4 => "the new version could not be made bootable",
        9 => "transfer",
        10 => "what came is not what was signed",
        11 => "size",
        12 | 18 => "signature",
        14 => "writing",
        15 => "what was read back is not what was written",
        20 | 21 => "not a payload",
        37 => "the server's answer",
        40 => "put off",
        44 => "went back to the version before",
        2000..=2999 => "status of HTTP",
        _ => return None,
    })
}
