//! A member at work: one thread that takes what is asked, has it agreed on, does it and answers; and
//! copies of what it keeps for everybody who only reads.
//!
//! The order is what promises rest on. What is agreed on is done; then all can read it; then the
//! watches hear that it is there; only then is anybody answered. So whoever was answered finds what
//! he did, wherever he looks.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};

use crate::{
    api::{
        AlarmAction, AlarmRequest, AlarmType, LeaseCheckpointRequest, LeaseRevokeRequest,
        WatchRequest,
    },
    consensus::{Committed, Consensus, Mark, Standing},
    lessor::{Lessor, Renewal},
    log::{self, Owner},
    refusal::Refusal,
    snapshot::Snapshot,
    state::{Answer, Ask, Command, State},
    watch::{Next, StreamId, Watches},
};

/// How many requests wait at the most; who comes then is told so.
const WAITING: usize = 8192;
/// How many commands are agreed on at once, and how many bytes of them.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 4 << 20;
/// How often leases, watches and room are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How many records a compaction looks at between two batches.
const SWEEP: usize = 1000;
/// How many leases end at once.
const LEASES: usize = 100;

/// What a member is told about itself.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many bytes it keeps, or less than 0 for as many as there are.
    pub quota_bytes: i64,
    /// How large a response to a watch is, roughly.
    pub watch_bytes: usize,
    /// How often a watch that wants to is told how far it is.
    pub progress_every: Duration,
}

/// What everybody reads: always of one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// What is kept.
    pub state: State,
    /// How far the members are.
    pub standing: Standing,
}

/// Why a member stopped.
#[derive(Debug, Error)]
pub enum Stopped {
    /// The log is not what it should be.
    #[error("the log")]
    Log(#[from] log::Error),
    /// A later version was here.
    #[error(
        "what was agreed on as {index} is no command that this version knows: run the later one"
    )]
    Unknown {
        /// Where it is.
        index: u64,
    },
}

type Reply = oneshot::Sender<Result<Answer, Refusal>>;

/// A member, for those who ask it.
#[derive(Clone, Debug)]
pub struct Member(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    owner: Owner,
    limits: Limits,
    started: Instant,
    asks: SyncSender<(Ask, Option<Reply>)>,
    view: Mutex<View>,
    watches: Mutex<Watches>,
    /// Who is to be told that a stream has something to hear.
    streams: Mutex<HashMap<StreamId, Arc<Notify>>>,
    next_stream: AtomicU64,
    lessor: Mutex<Lessor>,
    next_lease: AtomicI64,
}

/// Nothing is left half done by who panics with a lock.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a snapshot down: what does it, is told by who makes a member.
pub type Save = Arc<dyn Fn(&Snapshot) -> Result<(), log::Error> + Send + Sync>;

/// A snapshot that is being written: of where, and how it went.
type Saving = (Mark, JoinHandle<Result<(), log::Error>>);

/// The part that works.
pub struct Work<C> {
    member: Member,
    save: Save,
    saving: Option<Saving>,
    asks: Receiver<(Ask, Option<Reply>)>,
    consensus: C,
    state: State,
    number: u64,
    replies: HashMap<u64, Reply>,
}

impl Member {
    /// A member that keeps this, and what works for it. `random` is a random number.
    pub fn new<C: Consensus>(
        owner: Owner,
        state: State,
        consensus: C,
        save: Save,
        limits: Limits,
        random: u64,
    ) -> (Self, Work<C>) {
        let (sender, asks) = sync_channel(WAITING);
        let view = View { state: state.clone(), standing: consensus.standing() };
        let member = Self(Arc::new(Shared {
            owner,
            limits,
            started: Instant::now(),
            asks: sender,
            watches: Mutex::new(Watches::new(state.store().clone(), limits.watch_bytes)),
            streams: Mutex::default(),
            next_stream: AtomicU64::new(0),
            lessor: Mutex::new(Lessor::begin(state.leases(), Duration::ZERO, Duration::ZERO)),
            next_lease: AtomicI64::new((random >> 1) as i64 | 1),
            view: Mutex::new(view),
        }));
        let work = Work {
            member: member.clone(),
            save,
            saving: None,
            asks,
            consensus,
            state,
            number: 0,
            replies: HashMap::new(),
        };
        (member, work)
    }

    /// Who it is.
    pub fn owner(&self) -> Owner {
        self.0.owner
    }

    /// What it was told about itself.
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// What there is now.
    pub fn view(&self) -> View {
        lock(&self.0.view).clone()
    }

    /// Has something done, and comes back when it is and will stay so.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.0.asks.try_send((ask, Some(reply))).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::TooManyRequests,
            TrySendError::Disconnected(_) => Refusal::Stopped,
        })?;
        answer.await.unwrap_or(Err(Refusal::Stopped))
    }

    /// Whether there is room for so much more; where there is not, the alarm rings.
    pub async fn check_room(&self, cost: u64) -> Result<(), Refusal> {
        let Ok(quota) = u64::try_from(self.0.limits.quota_bytes) else { return Ok(()) };
        if cost == 0 || self.view().state.size_bytes() + cost < quota {
            return Ok(());
        }
        self.ask(self.no_space(AlarmAction::Activate)).await?;
        Err(Refusal::NoSpace)
    }

    /// A number for a lease that nobody has chosen one for.
    pub fn new_lease(&self) -> i64 {
        let leases = self.view().state;
        loop {
            let id = self.0.next_lease.fetch_add(1, Ordering::Relaxed) & i64::MAX;
            if id != 0 && leases.leases().get(id).is_none() {
                return id;
            }
        }
    }

    /// Renews a lease, and tells how long it lasts: 0 where there is none.
    pub async fn renew(&self, id: i64) -> Result<i64, Refusal> {
        loop {
            let state = self.view().state;
            let renewal = lock(&self.0.lessor).renew(id, state.leases().get(id), self.now());
            match renewal {
                Renewal::Renewed { ttl, noted } => {
                    if noted {
                        let note = crate::api::LeaseCheckpoint { id, remaining_ttl: 0 };
                        let checkpoints = vec![note];
                        self.ask(Ask::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints }))
                            .await?;
                    }
                    return Ok(ttl);
                }
                Renewal::Unknown => return Ok(0),
                // Whoever hears that it is gone is to find that its keys are.
                Renewal::Expired => tokio::time::sleep(TICK).await,
            }
        }
    }

    /// How long a lease has left.
    pub fn remaining(&self, id: i64) -> Option<Duration> {
        lock(&self.0.lessor).remaining(id, self.now())
    }

    /// Opens a stream of watches. `jitter` makes it be told of its progress later than others.
    pub fn open_stream(&self, jitter: Duration) -> WatchStream {
        let id = StreamId(self.0.next_stream.fetch_add(1, Ordering::Relaxed));
        let notify = Arc::new(Notify::new());
        lock(&self.0.streams).insert(id, Arc::clone(&notify));
        lock(&self.0.watches).open(id, self.0.limits.progress_every + jitter, self.now());
        WatchStream { member: self.clone(), id, notify }
    }

    fn no_space(&self, action: AlarmAction) -> Ask {
        Ask::Alarm(AlarmRequest {
            action: action as i32,
            member_id: self.0.owner.member,
            alarm: AlarmType::NoSpace as i32,
        })
    }

    fn now(&self) -> Duration {
        self.0.started.elapsed()
    }

    fn wake(&self, streams: impl IntoIterator<Item = StreamId>) {
        let all = lock(&self.0.streams);
        streams.into_iter().filter_map(|id| all.get(&id)).for_each(|notify| notify.notify_one());
    }
}

/// The watches of a client.
#[derive(Debug)]
pub struct WatchStream {
    member: Member,
    id: StreamId,
    notify: Arc<Notify>,
}

impl WatchStream {
    /// The client asks for something.
    pub fn ask(&self, request: WatchRequest) {
        lock(&self.member.0.watches).ask(self.id, request);
    }

    /// What the client hears next, without waiting.
    pub fn poll(&self) -> Next {
        lock(&self.member.0.watches).poll(self.id)
    }

    /// Comes back when there may be something to hear.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        lock(&self.member.0.watches).close(self.id);
        lock(&self.member.0.streams).remove(&self.id);
    }
}

impl<C: Consensus> Work<C> {
    /// Works until nobody can ask any more, or nothing would last.
    pub fn run(mut self) -> Result<(), Stopped> {
        let mut next_tick = Instant::now();
        let mut is_sweeping = false;
        loop {
            let wait = if is_sweeping { Duration::ZERO } else { TICK };
            match self.asks.recv_timeout(wait) {
                Ok(first) => self.take(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if next_tick <= Instant::now() {
                next_tick = Instant::now() + TICK;
                self.tick();
            }
            self.commit()?;
            if self.state.store().is_sweeping() {
                is_sweeping = self.state.sweep(SWEEP);
                // Also that it is over: who asked for it to be done waits to see it.
                self.publish();
            }
            self.shorten()?;
        }
    }

    /// Writes down what is kept when the log is long, beside everything else, and then lets the log
    /// before go.
    fn shorten(&mut self) -> Result<(), Stopped> {
        if let Some((mark, saving)) = self.saving.take_if(|(_, saving)| saving.is_finished()) {
            saving.join().expect("writing a snapshot does not panic")?;
            self.consensus.forget(mark)?;
        }
        if self.saving.is_none() && self.consensus.is_long(self.state.size_bytes()) {
            let (mark, save) = (self.consensus.mark(), Arc::clone(&self.save));
            let snapshot = Snapshot { place: mark.place, state: self.state.clone() };
            self.saving = Some((mark, std::thread::spawn(move || save(&snapshot))));
        }
        Ok(())
    }

    /// Proposes what is asked, and what else waits.
    fn take(&mut self, first: (Ask, Option<Reply>)) {
        let mut bytes = self.propose(first);
        let mut commands = 1;
        while commands < BATCH
            && bytes < BATCH_BYTES
            && let Ok(next) = self.asks.try_recv()
        {
            bytes += self.propose(next);
            commands += 1;
        }
    }

    fn propose(&mut self, (ask, reply): (Ask, Option<Reply>)) -> usize {
        self.number += 1;
        let (member, number) = (self.member.0.owner.member, self.number);
        let command = Command { member, number, ask: Some(ask) }.encode_to_vec();
        let bytes = command.len();
        if let Some(reply) = reply {
            self.replies.insert(number, reply);
        }
        self.consensus.propose(Bytes::from(command));
        bytes
    }

    /// Has agreed on what was proposed, does it, shows it, and answers.
    fn commit(&mut self) -> Result<(), Stopped> {
        let committed = self.consensus.advance()?;
        if committed.is_empty() {
            return Ok(());
        }
        let mut answers = Vec::new();
        for one in committed {
            let (number, ask) = understand(&one)?;
            let clock = match &ask {
                Ask::LeaseGrant(grant) => Some((grant.id, Some(grant.ttl))),
                Ask::LeaseRevoke(revoke) => Some((revoke.id, None)),
                _ => None,
            };
            let answer = self.state.apply(ask);
            if let (Some((id, ttl)), Ok(_)) = (clock, &answer) {
                let mut lessor = lock(&self.member.0.lessor);
                match ttl {
                    Some(ttl) => lessor.granted(id, ttl, self.member.now()),
                    None => lessor.revoked(id),
                }
            }
            answers.extend(self.replies.remove(&number).map(|reply| (reply, answer)));
        }
        self.publish();
        for (reply, answer) in answers {
            // Who does not wait any more need not be told.
            let _ = reply.send(answer);
        }
        Ok(())
    }

    fn publish(&self) {
        let shared = &self.member.0;
        *lock(&shared.view) =
            View { state: self.state.clone(), standing: self.consensus.standing() };
        let wake = lock(&shared.watches).changed(self.state.store().clone());
        self.member.wake(wake);
    }

    fn tick(&mut self) {
        let shared = Arc::clone(&self.member.0);
        let now = self.member.now();
        let due = lock(&shared.lessor).due(now, LEASES);
        for id in due.expired {
            self.propose((Ask::LeaseRevoke(LeaseRevokeRequest { id }), None));
        }
        if !due.checkpoints.is_empty() {
            let checkpoints = due.checkpoints;
            self.propose((Ask::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints }), None));
        }
        // Room enough is less than what the alarm began at, or it would ring on and off.
        let quota = u64::try_from(shared.limits.quota_bytes).unwrap_or(u64::MAX);
        let rings = self
            .state
            .alarms()
            .any(|is| is.alarm == AlarmType::NoSpace as i32 && is.member_id == shared.owner.member);
        if rings && self.state.size_bytes() < quota / 10 * 9 {
            self.propose((self.member.no_space(AlarmAction::Deactivate), None));
        }
        let wake = lock(&shared.watches).tick(now);
        self.member.wake(wake);
    }
}

/// The number that a member has for a command, and what is to be done.
pub fn understand(committed: &Committed) -> Result<(u64, Ask), Stopped> {
    match Command::decode(committed.command.clone()) {
        Ok(Command { number, ask: Some(ask), .. }) => Ok((number, ask)),
        Ok(_) | Err(_) => Err(Stopped::Unknown { index: committed.index }),
    }
}
