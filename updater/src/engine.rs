//! What the engine does next: pure, with time and randomness as arguments.
//!
//! ```text
//!          time, operator             offered          room is made
//!   Idle ----------------> Checking ---------> Available ----------> Downloading -> Verifying
//!    ^  ^                     |                   |                      |              |
//!    |  |    nothing for us   |      failed       v                      v              v
//!    |  +---------------------+            Reporting <---------------- (any) <----- Finalizing
//!    |                                        |  written down                           |
//!    +----------------------------------------+                                         v
//!    |  taken back                                                                 NeedReboot
//!    +------------ Discarding <---------------------------------------------- reset ----+
//! ```
//!
//! (Checking to Finalizing are phases of one state, `Working`.)
//!
//! Somebody else works: he is told what to do ([`Effect::Work`], [`Effect::Stop`]), tells how far he
//! is, and ends each work with exactly one [`End`]. A reset while he works is `Stopping` until then,
//! so that there are never two at work.

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use layout::Version;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::clock::Now;

const FIRST_CHECK: Duration = Duration::from_secs(7 * 60);
const CHECK: Duration = Duration::from_secs(45 * 60);
/// A check is up to half of this earlier or later, so that a fleet does not come at once.
const FUZZ: Duration = Duration::from_secs(10 * 60);
const LONGEST_WAIT: Duration = Duration::from_secs(4 * 60 * 60);

/// What there is to update from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// A server, and files.
    All,
    /// Files that an operator brings.
    Files {
        /// Why no server.
        why: String,
    },
    /// Nothing: what is offered cannot be verified.
    Nothing {
        /// Why.
        why: String,
    },
}

/// Who wants a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was time.
    Schedule,
    /// An operator.
    Operator,
    /// An operator, with a file that has the release in it.
    File(PathBuf),
}

/// Something to do that takes its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Look for a release, and install it if it is for this machine.
    Update(Asked),
    /// Make the slot that was written empty again.
    Discard,
}

/// What a check may find, if not a release to install.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "kebab-case")]
pub enum Found {
    /// This is the newest.
    UpToDate,
    /// A release is for this machine later.
    Later {
        /// Which.
        version: String,
        /// From when on, if that is known.
        from: Option<Timestamp>,
    },
    /// The newest release was tried and was bad.
    KnownBad {
        /// Which.
        version: String,
        /// What was bad about it.
        reason: String,
    },
    /// There is no way on from this version.
    DeadEnd {
        /// What the publisher says.
        reason: String,
    },
}

/// Why an update failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind.
    pub code: Code,
    /// What happened, with its causes.
    pub cause: String,
}

/// Kinds of failures, by the numbers that update_engine has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Something else.
    Error = 1,
    /// The metadata cannot be had or is not valid.
    Metadata = 2,
    /// The transfer broke, on every mirror.
    Transfer = 9,
    /// What came is not what was signed.
    Hash = 10,
    /// The slot or the ESP cannot be written.
    Write = 14,
    /// What was written is not what was read back.
    Readback = 15,
    /// It was installed, did not come up or was not healthy, and is not tried again.
    Rollback = 44,
}

/// How work ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    /// There was nothing to install.
    Nothing(Found),
    /// A version is in the other slot and boots next.
    Installed {
        /// Which.
        #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
        version: Version,
    },
    /// It did not work.
    Failed(Failure),
    /// It was told to stop.
    Stopped,
    /// The other slot is empty.
    Discarded,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time went by.
    Tick,
    /// An operator wants an update.
    Attempt(Asked),
    /// An operator wants what is under way, or was installed, to be undone.
    Reset,
    /// There is a release for this machine.
    Offered {
        /// Which.
        version: Version,
        /// What is to be fetched.
        size_bytes: u64,
    },
    /// So much of it is fetched and written.
    Fetched {
        /// Of what was said to be fetched.
        bytes: u64,
    },
    /// What was written is read back.
    Verifying,
    /// It is made bootable.
    Finalizing,
    /// Work is over.
    Ended(End),
    /// What [`Effect::Record`] said is written down.
    Recorded,
    /// The configuration is another.
    Configured(Means),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Begin to work.
    Work(Work),
    /// Stop working as soon as possible.
    Stop,
    /// Write down how it ended.
    Record(End),
    /// The installed version waits for a reboot.
    NeedReboot(Version),
    /// Nothing waits for a reboot any more.
    NoReboot,
    /// The operator does not get what he wants.
    Refuse(String),
    /// Tell everybody who listens.
    Publish,
}

/// What the engine is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Idle {
        /// When to check next, if there is a server.
        next: Option<Duration>,
    },
    /// An update is under way.
    Working {
        /// For whom.
        asked: Asked,
        /// How far it is.
        phase: Phase,
    },
    /// It is done, but for the reboot.
    NeedReboot {
        /// What boots next.
        version: Version,
    },
    /// What failed is written down.
    Reporting {
        /// What to do then.
        then: Then,
    },
    /// Work is told to stop.
    Stopping {
        /// What to do then.
        then: Then,
    },
    /// What was installed is taken back.
    Discarding {
        /// What that was.
        version: Version,
        /// What to do then.
        then: Then,
    },
}

/// How far an update is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It looks for a release.
    Checking,
    /// It found one, and makes room for it.
    Available(Target),
    /// It fetches and writes.
    Downloading {
        /// What.
        target: Target,
        /// How much of it is done.
        bytes: u64,
    },
    /// It reads back what it wrote.
    Verifying(Target),
    /// It makes it bootable.
    Finalizing(Target),
}

/// What is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its version.
    pub version: Version,
    /// What has to be fetched for it.
    pub size_bytes: u64,
}

/// What comes after something that has to end first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Waiting for the next check.
    Wait,
    /// An update that an operator asked for in the meantime.
    Update(Asked),
}

/// The state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    state: State,
    means: Means,
    /// Updates that ended without success, one after the other.
    failures: u32,
    /// When the server was last asked with success.
    last_checked: Option<Timestamp>,
    /// How many updates were begun, and how the last one ended.
    attempts: u64,
    last: Option<End>,
    random: u64,
}

impl Engine {
    /// One that begins. `installed` waits for a reboot since before; `seed` is any number.
    pub fn new(means: Means, installed: Option<Version>, seed: u64, now: Now) -> Self {
        let mut engine = Self {
            state: State::Idle { next: None },
            means,
            failures: 0,
            last_checked: None,
            attempts: 0,
            last: None,
            random: seed,
        };
        engine.state = match installed {
            Some(version) => State::NeedReboot { version },
            None => engine.idle(FIRST_CHECK, now),
        };
        engine
    }

    /// What it is at.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What there is to update from.
    pub fn means(&self) -> &Means {
        &self.means
    }

    /// When the server was last asked with success.
    pub fn last_checked(&self) -> Option<Timestamp> {
        self.last_checked
    }

    /// How many updates were begun.
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// How the last update ended.
    pub fn last(&self) -> Option<&End> {
        self.last.as_ref()
    }

    /// How many failed since the last that did not.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When to say that time went by.
    pub fn wake(&self) -> Option<Duration> {
        match &self.state {
            State::Idle { next } => *next,
            State::Working { .. }
            | State::NeedReboot { .. }
            | State::Reporting { .. }
            | State::Stopping { .. }
            | State::Discarding { .. } => None,
        }
    }

    /// Takes what happened, and says what is to be done.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Effect> {
        match event {
            Event::Tick => match self.state {
                State::Idle { next: Some(next) } if next <= now.up => self.begin(Asked::Schedule),
                State::Idle { .. }
                | State::Working { .. }
                | State::NeedReboot { .. }
                | State::Reporting { .. }
                | State::Stopping { .. }
                | State::Discarding { .. } => vec![],
            },
            Event::Attempt(asked) => self.attempt(asked),
            Event::Reset => self.reset(now),
            Event::Offered { version, size_bytes } => {
                self.advance(|_| Some(Phase::Available(Target { version, size_bytes })))
            }
            Event::Fetched { bytes } => self.advance(|phase| {
                let target = phase.target()?.clone();
                Some(Phase::Downloading { bytes: bytes.min(target.size_bytes), target })
            }),
            Event::Verifying => {
                self.advance(|phase| Some(Phase::Verifying(phase.target()?.clone())))
            }
            Event::Finalizing => {
                self.advance(|phase| Some(Phase::Finalizing(phase.target()?.clone())))
            }
            Event::Ended(end) => self.end(end, now),
            Event::Recorded => match &self.state {
                State::Reporting { then } => self.go_on(then.clone(), now),
                State::Idle { .. }
                | State::Working { .. }
                | State::NeedReboot { .. }
                | State::Stopping { .. }
                | State::Discarding { .. } => vec![],
            },
            Event::Configured(means) => self.configure(means, now),
        }
    }

    fn attempt(&mut self, asked: Asked) -> Vec<Effect> {
        match (&self.means, &asked) {
            (Means::All, _) | (Means::Files { .. }, Asked::File(_)) => {}
            (Means::Files { why }, Asked::Schedule | Asked::Operator)
            | (Means::Nothing { why }, _) => return vec![Effect::Refuse(why.clone())],
        }
        match (&mut self.state, asked) {
            (State::Idle { .. }, asked) => self.begin(asked),
            // What is under way, or done, is what was asked for; but not if it is about a file.
            (
                State::Working { .. } | State::NeedReboot { .. },
                Asked::Schedule | Asked::Operator,
            ) => vec![],
            (State::Working { .. }, Asked::File(_)) => {
                let why = "an update is under way; `-reset_status` stops it";
                vec![Effect::Refuse(why.to_owned())]
            }
            (State::NeedReboot { version }, Asked::File(_)) => vec![Effect::Refuse(format!(
                "{version} is installed and waits for a reboot; `-reset_status` takes it back"
            ))],
            (
                State::Reporting { then }
                | State::Stopping { then }
                | State::Discarding { then, .. },
                asked,
            ) => {
                *then = Then::Update(asked);
                vec![]
            }
        }
    }

    fn reset(&mut self, now: Now) -> Vec<Effect> {
        match &mut self.state {
            State::Idle { .. } => {
                self.failures = 0;
                self.state = self.idle(CHECK, now);
                vec![Effect::Publish]
            }
            State::Working { .. } => self.stop(),
            State::NeedReboot { version } => {
                self.state = State::Discarding { version: version.clone(), then: Then::Wait };
                vec![Effect::NoReboot, Effect::Work(Work::Discard), Effect::Publish]
            }
            State::Reporting { then }
            | State::Stopping { then }
            | State::Discarding { then, .. } => {
                *then = Then::Wait;
                vec![]
            }
        }
    }

    fn stop(&mut self) -> Vec<Effect> {
        self.state = State::Stopping { then: Then::Wait };
        vec![Effect::Stop, Effect::Publish]
    }

    /// Takes what somebody at work says on his way. What he says after he was told to stop is late.
    fn advance(&mut self, next: impl FnOnce(&Phase) -> Option<Phase>) -> Vec<Effect> {
        let phase = match &mut self.state {
            State::Working { phase, .. } => phase,
            State::Idle { .. }
            | State::NeedReboot { .. }
            | State::Reporting { .. }
            | State::Stopping { .. }
            | State::Discarding { .. } => return vec![],
        };
        let Some(next) = next(phase) else { return vec![] };
        let before = std::mem::replace(phase, next);
        // Nobody reads a line for each segment.
        let same = before.percent().is_some() && before.percent() == phase.percent();
        if same { vec![] } else { vec![Effect::Publish] }
    }

    fn end(&mut self, end: End, now: Now) -> Vec<Effect> {
        let (then, discarding) = match &self.state {
            State::Working { .. } => (Then::Wait, None),
            State::Stopping { then } => (then.clone(), None),
            State::Discarding { version, then } => (then.clone(), Some(version.clone())),
            State::Idle { .. } | State::NeedReboot { .. } | State::Reporting { .. } => {
                return vec![];
            }
        };
        match end {
            // It may have been too late to stop: what boots next is a fact, and is said as one.
            End::Installed { version } => {
                self.failures = 0;
                self.last_checked = Some(now.wall);
                self.need_reboot(version.clone(), End::Installed { version })
            }
            End::Failed(failure) => {
                self.failures = self.failures.saturating_add(1);
                let end = End::Failed(failure);
                if let Some(version) = discarding {
                    // It still boots next.
                    return self.need_reboot(version, end);
                }
                self.state = State::Reporting { then };
                vec![self.record(end), Effect::Publish]
            }
            End::Nothing(found) => {
                self.failures = 0;
                self.last_checked = Some(now.wall);
                let wait = wait_for(&found, now);
                let mut effects = vec![self.record(End::Nothing(found))];
                effects.extend(self.go_on(then, now));
                if let State::Idle { .. } = self.state {
                    self.state = self.idle(wait, now);
                }
                effects
            }
            End::Stopped => {
                let mut effects = vec![self.record(End::Stopped)];
                effects.extend(self.go_on(then, now));
                effects
            }
            End::Discarded => self.go_on(then, now),
        }
    }

    fn need_reboot(&mut self, version: Version, end: End) -> Vec<Effect> {
        self.state = State::NeedReboot { version: version.clone() };
        vec![self.record(end), Effect::NeedReboot(version), Effect::Publish]
    }

    fn record(&mut self, end: End) -> Effect {
        self.last = Some(end.clone());
        Effect::Record(end)
    }

    fn configure(&mut self, means: Means, now: Now) -> Vec<Effect> {
        let same = self.means == means;
        self.means = means;
        match &self.state {
            State::Idle { .. } if !same => {
                self.state = self.idle(FIRST_CHECK, now);
                vec![Effect::Publish]
            }
            // What was begun with a server that is none any more has to stop.
            State::Working { asked: Asked::Schedule | Asked::Operator, .. }
                if self.means != Means::All =>
            {
                self.stop()
            }
            State::Idle { .. }
            | State::Working { .. }
            | State::NeedReboot { .. }
            | State::Reporting { .. }
            | State::Stopping { .. }
            | State::Discarding { .. } => vec![],
        }
    }

    fn begin(&mut self, asked: Asked) -> Vec<Effect> {
        self.attempts += 1;
        self.state = State::Working { asked: asked.clone(), phase: Phase::Checking };
        vec![Effect::Work(Work::Update(asked)), Effect::Publish]
    }

    fn go_on(&mut self, then: Then, now: Now) -> Vec<Effect> {
        let wait = CHECK.saturating_mul(1 << self.failures.saturating_sub(1).min(8));
        self.state = self.idle(wait.min(LONGEST_WAIT), now);
        match then {
            Then::Wait => vec![Effect::Publish],
            // The configuration may be another by now.
            Then::Update(asked) => self.attempt(asked),
        }
    }

    fn idle(&mut self, wait: Duration, now: Now) -> State {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let fuzz = Duration::from_secs((mixed ^ (mixed >> 31)) % FUZZ.as_secs());
        let wait = (wait + fuzz).saturating_sub(FUZZ / 2);
        let next = match self.means {
            Means::All => Some(now.up + wait),
            Means::Files { .. } | Means::Nothing { .. } => None,
        };
        State::Idle { next }
    }
}

fn wait_for(found: &Found, now: Now) -> Duration {
    match found {
        Found::Later { from: Some(from), .. } => {
            let left = Duration::try_from(from.duration_since(now.wall)).unwrap_or_default();
            CHECK.min(left + FUZZ)
        }
        Found::UpToDate
        | Found::Later { from: None, .. }
        | Found::KnownBad { .. }
        | Found::DeadEnd { .. } => CHECK,
    }
}

impl Phase {
    /// What is installed, once that is known.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Checking => None,
            Self::Available(target)
            | Self::Downloading { target, .. }
            | Self::Verifying(target)
            | Self::Finalizing(target) => Some(target),
        }
    }

    fn percent(&self) -> Option<u64> {
        match self {
            Self::Downloading { target, bytes } => {
                Some((bytes * 100).checked_div(target.size_bytes).unwrap_or(100))
            }
            Self::Checking | Self::Available(_) | Self::Verifying(_) | Self::Finalizing(_) => None,
        }
    }
}

impl State {
    /// What update_engine calls it.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Idle { .. } | Self::Stopping { .. } | Self::Discarding { .. } => {
                "UPDATE_STATUS_IDLE"
            }
            Self::Working { phase, .. } => match phase {
                Phase::Checking => "UPDATE_STATUS_CHECKING_FOR_UPDATE",
                Phase::Available(_) => "UPDATE_STATUS_UPDATE_AVAILABLE",
                Phase::Downloading { .. } => "UPDATE_STATUS_DOWNLOADING",
                Phase::Verifying(_) => "UPDATE_STATUS_VERIFYING",
                Phase::Finalizing(_) => "UPDATE_STATUS_FINALIZING",
            },
            Self::NeedReboot { .. } => "UPDATE_STATUS_UPDATED_NEED_REBOOT",
            Self::Reporting { .. } => "UPDATE_STATUS_REPORTING_ERROR_EVENT",
        }
    }
}

fn as_text<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests;
