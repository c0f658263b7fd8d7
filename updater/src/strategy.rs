//! When the machine reboots into what was installed.
//!
//! ```text
//!          needed            nothing in the way             had
//!   Calm ---------> Waiting ----------------------> Locking ----> (looks again) ----> Rebooting
//!    ^                 ^  inhibit file, window,        |  refused       | something is in the way
//!    |  not needed     |  somebody is logged in        v                v
//!    +-----------------+---------------------------- Waiting <----- lock released
//! ```
//!
//! A lock is never held while the machine waits for anything: others wait for it. So what was in the
//! way is looked at again once the lock is had, and the lock goes back if something is. After the
//! reboot it goes back when the new version is proven, not before.

pub mod lock;
pub mod window;

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use self::window::Window;
use crate::clock::Now;

/// How often what is in the way is looked at again, where nothing says when it will be gone.
const LOOK: Duration = Duration::from_secs(30);
/// A clock may be set while we wait for a window.
const LOOK_AT_WINDOW: Duration = Duration::from_secs(10 * 60);
const LOCK_FIRST: Duration = Duration::from_secs(5);
const LOCK_LONGEST: Duration = Duration::from_secs(5 * 60);
/// A machine that is still up after so long did not reboot.
const REBOOT: Duration = Duration::from_secs(15 * 60);

/// What `REBOOT_STRATEGY` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// As soon as nothing is in the way.
    Reboot,
    /// Never: somebody else does.
    Off,
    /// With the lock of the cluster where there is one, without where there is none.
    BestEffort,
    /// With the lock of the cluster.
    EtcdLock,
    /// With a lock by the protocol FleetLock.
    Fleetlock,
}

/// What the configuration says of reboots.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Who decides.
    pub strategy: Strategy,
    /// When; always, if there are none.
    pub windows: Vec<Window>,
    /// How long a reboot waits for those who are logged in.
    pub login_delay: Duration,
}

/// What may be in the way of a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Facts {
    /// The inhibit file that is there.
    pub inhibited: Option<String>,
    /// Who is logged in.
    pub sessions: Sessions,
}

/// Who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Sessions {
    /// Nobody.
    #[default]
    None,
    /// These users.
    Some(Vec<String>),
    /// Nobody could say. Somebody may be.
    Unknown(String),
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An installed version waits for a reboot.
    Needed,
    /// It does not any more.
    NotNeeded,
    /// The version that runs is proven.
    Healthy,
    /// What was asked for by [`Effect::Look`].
    Looked(Facts),
    /// The lock is ours.
    LockHad,
    /// It is not.
    LockRefused {
        /// Why.
        why: String,
        /// Whether there is somebody who keeps locks.
        keeper: bool,
    },
    /// The lock is not ours any more.
    Released,
    /// Nobody could be told that we do not need it any more.
    NotReleased(String),
    /// Time went by.
    Tick,
    /// The configuration is another.
    Configured(Policy),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Look whether something is in the way.
    Look,
    /// Tell those who are logged in.
    Warn {
        /// What will happen.
        text: String,
    },
    /// Get the lock. What asks for it must be kept over a reboot.
    Lock,
    /// Give the lock back.
    Unlock,
    /// Reboot.
    Reboot,
}

/// What a reboot waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Waits {
    Look,
    Operator,
    Inhibited(String),
    Window(Option<Timestamp>),
    Login { who: String, left: Duration },
    Lock { why: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Calm,
    Waiting {
        until: Duration,
        why: Waits,
    },
    Locking,
    /// The lock is had; what is in the way is looked at for the last time.
    Locked,
    Rebooting {
        since: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Free,
    /// Had before the reboot: it goes back when the version that runs is proven.
    Inherited,
    /// Had for the reboot that is to come.
    Held,
    /// It is to go back, and this is when to say so (again).
    Releasing {
        again: Duration,
    },
}

/// Decides when the machine reboots.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebooter {
    policy: Policy,
    state: State,
    lock: Lock,
    healthy: bool,
    /// Since when somebody is logged in while nothing else is in the way.
    login_since: Option<Duration>,
    /// After a refused lock.
    lock_wait: Duration,
}

impl Rebooter {
    /// One that has nothing to reboot for. `holds` is true where a lock was had before the reboot.
    pub fn new(policy: Policy, holds: bool) -> Self {
        Self {
            policy,
            state: State::Calm,
            lock: if holds { Lock::Inherited } else { Lock::Free },
            healthy: false,
            login_since: None,
            lock_wait: LOCK_FIRST,
        }
    }

    /// Takes what happened, and says what is to be done.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Effect> {
        match (&self.state, event) {
            (State::Calm, Event::Needed) => self.look(now),
            (
                State::Waiting { .. } | State::Locking | State::Locked | State::Rebooting { .. },
                Event::Needed,
            ) => vec![],
            (State::Rebooting { .. }, Event::NotNeeded) => vec![],
            (_, Event::NotNeeded) => {
                self.state = State::Calm;
                self.release(now)
            }
            (_, Event::Healthy) => {
                self.healthy = true;
                match self.lock {
                    Lock::Inherited => self.release(now),
                    Lock::Free | Lock::Held | Lock::Releasing { .. } => vec![],
                }
            }
            (State::Waiting { .. } | State::Locked, Event::Looked(facts)) => {
                self.decide(&facts, now)
            }
            (State::Calm | State::Locking | State::Rebooting { .. }, Event::Looked(_)) => vec![],
            (State::Locking, Event::LockHad) => {
                self.lock = Lock::Held;
                self.lock_wait = LOCK_FIRST;
                self.state = State::Locked;
                vec![Effect::Look]
            }
            // Too late: it was not needed any more.
            (State::Calm | State::Waiting { .. }, Event::LockHad) => {
                self.lock = Lock::Held;
                self.release(now)
            }
            (State::Locked | State::Rebooting { .. }, Event::LockHad) => vec![],
            (State::Locking, Event::LockRefused { why, keeper }) => {
                if !keeper && self.policy.strategy == Strategy::BestEffort {
                    return self.reboot(now);
                }
                let until = now.up + self.lock_wait;
                self.lock_wait = (self.lock_wait * 2).min(LOCK_LONGEST);
                self.state = State::Waiting { until, why: Waits::Lock { why } };
                vec![]
            }
            (
                State::Calm | State::Waiting { .. } | State::Locked | State::Rebooting { .. },
                Event::LockRefused { .. },
            ) => vec![],
            (_, Event::Released) => {
                if let Lock::Releasing { .. } = self.lock {
                    self.lock = Lock::Free;
                }
                vec![]
            }
            (_, Event::NotReleased(_)) => {
                if let Lock::Releasing { again } = &mut self.lock {
                    *again = now.up + LOCK_LONGEST;
                }
                vec![]
            }
            (_, Event::Tick) => self.tick(now),
            (state, Event::Configured(policy)) => {
                let waits = matches!(state, State::Waiting { .. });
                self.policy = policy;
                if waits { self.look(now) } else { vec![] }
            }
        }
    }

    /// When to say that time went by.
    pub fn wake(&self) -> Option<Duration> {
        let state = match &self.state {
            State::Waiting { until, .. } => Some(*until),
            State::Rebooting { since } => Some(*since + REBOOT),
            State::Calm | State::Locking | State::Locked => None,
        };
        let lock = match self.lock {
            Lock::Releasing { again } => Some(again),
            Lock::Free | Lock::Inherited | Lock::Held => None,
        };
        state.into_iter().chain(lock).min()
    }

    /// What the reboot waits for, for people.
    pub fn waiting(&self) -> Option<String> {
        match &self.state {
            State::Calm => None,
            State::Waiting { why, .. } => Some(why.to_string()),
            State::Locking | State::Locked => Some("the reboot lock".to_owned()),
            State::Rebooting { .. } => Some("the machine to go down".to_owned()),
        }
    }

    fn tick(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Lock::Releasing { again } = self.lock
            && again <= now.up
        {
            self.lock = Lock::Releasing { again: now.up + LOCK_LONGEST };
            effects.push(Effect::Unlock);
        }
        match &self.state {
            State::Waiting { until, .. } if *until <= now.up => effects.extend(self.look(now)),
            State::Rebooting { since } if *since + REBOOT <= now.up => {
                effects.extend(self.reboot(now));
            }
            State::Waiting { .. }
            | State::Rebooting { .. }
            | State::Calm
            | State::Locking
            | State::Locked => {}
        }
        effects
    }

    fn look(&mut self, now: Now) -> Vec<Effect> {
        if self.policy.strategy == Strategy::Off {
            return self.wait(Waits::Operator, LOOK_AT_WINDOW, now);
        }
        self.state = State::Waiting { until: now.up + LOOK, why: Waits::Look };
        vec![Effect::Look]
    }

    /// Nothing may be in the way: not the operator, not the time, not somebody at work.
    fn decide(&mut self, facts: &Facts, now: Now) -> Vec<Effect> {
        if self.policy.strategy == Strategy::Off {
            return self.wait(Waits::Operator, LOOK_AT_WINDOW, now);
        }
        if let Some(file) = &facts.inhibited {
            self.login_since = None;
            return self.wait(Waits::Inhibited(file.clone()), LOOK, now);
        }
        if !window::is_open(&self.policy.windows, now.wall) {
            self.login_since = None;
            let opens = window::next(&self.policy.windows, now.wall);
            let left = opens.and_then(|opens| opens.duration_since(now.wall).try_into().ok());
            let look = LOOK_AT_WINDOW.min(left.unwrap_or(LOOK_AT_WINDOW));
            return self.wait(Waits::Window(opens), look, now);
        }
        if let Some(effects) = self.wait_for_people(&facts.sessions, now) {
            return effects;
        }
        match (self.policy.strategy, self.lock) {
            (Strategy::Off | Strategy::Reboot, _) | (_, Lock::Held | Lock::Inherited) => {
                self.reboot(now)
            }
            (
                Strategy::BestEffort | Strategy::EtcdLock | Strategy::Fleetlock,
                Lock::Free | Lock::Releasing { .. },
            ) => {
                // Asked for again, it is ours whatever became of giving it back.
                self.lock = Lock::Free;
                self.state = State::Locking;
                vec![Effect::Lock]
            }
        }
    }

    fn wait_for_people(&mut self, sessions: &Sessions, now: Now) -> Option<Vec<Effect>> {
        let who = match sessions {
            Sessions::None => {
                self.login_since = None;
                return None;
            }
            Sessions::Some(users) => format!("{} logged in", users.join(", ")),
            Sessions::Unknown(why) => format!("it cannot be told who is logged in: {why}"),
        };
        let new = self.login_since.is_none();
        let since = *self.login_since.get_or_insert(now.up);
        let left = (since + self.policy.login_delay).saturating_sub(now.up);
        if left.is_zero() {
            return None;
        }
        let mut effects = self.wait(Waits::Login { who, left }, LOOK.min(left), now);
        if new {
            let minutes = left.as_secs().div_ceil(60);
            let text = format!(
                "This machine reboots into a new version in {minutes} min. To keep it from that: \
                 touch /run/pithos/update/inhibit"
            );
            effects.push(Effect::Warn { text });
        }
        Some(effects)
    }

    fn wait(&mut self, why: Waits, look: Duration, now: Now) -> Vec<Effect> {
        self.state = State::Waiting { until: now.up + look, why };
        self.release(now)
    }

    fn release(&mut self, now: Now) -> Vec<Effect> {
        match self.lock {
            Lock::Inherited if !self.healthy => vec![],
            Lock::Inherited | Lock::Held => {
                self.lock = Lock::Releasing { again: now.up + LOCK_LONGEST };
                vec![Effect::Unlock]
            }
            Lock::Free | Lock::Releasing { .. } => vec![],
        }
    }

    fn reboot(&mut self, now: Now) -> Vec<Effect> {
        self.state = State::Rebooting { since: now.up };
        vec![Effect::Reboot]
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look => f.write_str("a look at what may be in the way"),
            Self::Operator => f.write_str("somebody to reboot it (REBOOT_STRATEGY=off)"),
            Self::Inhibited(file) => write!(f, "{file} to go away"),
            Self::Window(None) => f.write_str("a reboot window"),
            Self::Window(Some(opens)) => write!(f, "its reboot window, from {opens}"),
            Self::Login { who, left } => {
                write!(f, "at most {} s more: {who}", left.as_secs())
            }
            Self::Lock { why } => write!(f, "the reboot lock: {why}"),
        }
    }
}

/// Why a text is not a strategy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` as REBOOT_STRATEGY; write reboot, off, best-effort, etcd-lock or fleetlock")]
pub struct NotAStrategy(String);

impl FromStr for Strategy {
    type Err = NotAStrategy;

    fn from_str(text: &str) -> Result<Self, NotAStrategy> {
        match text {
            "reboot" => Ok(Self::Reboot),
            "off" => Ok(Self::Off),
            "best-effort" => Ok(Self::BestEffort),
            "etcd-lock" => Ok(Self::EtcdLock),
            "fleetlock" | "fleet_lock" => Ok(Self::Fleetlock),
            other => Err(NotAStrategy(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
