//! The one thread that writes. It takes what waits, writes it in one transaction, and answers all of
//! it: so ten thousand machines cost as many waits for the disk as it can do, and not one each.

use std::{path::Path, sync::Arc, thread::JoinHandle, time::Duration};

use jiff::Timestamp;
use payload::request::{Fate, Request, Wish};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::{mpsc, oneshot};

use super::{StoreError, open, request};
use crate::{
    fleet::{Phase, Progress, Report},
    metrics::Counter,
};

/// Reports that may wait; then machines are told to come again.
const QUEUE: usize = 32_768;
/// Reports of one transaction: no reader of the log waits longer for them than a moment.
const BATCH: usize = 2_000;
/// Rows that are removed at once, so that reports do not wait for it.
const PRUNED_AT_ONCE: i64 = 2_000;

/// For how long, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Events.
    pub events: Duration,
    /// Machines that are not heard of.
    pub machines: Duration,
    /// As many machines are known at once. A stranger who invents some does not fill the disk.
    pub max_machines: u64,
}

/// Why something was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// More is waiting than may.
    #[error("too many reports are waiting to be written")]
    Full,
    /// The database says so.
    #[error("the report could not be written: {0}")]
    Failed(String),
    /// There is no such request, or it was settled.
    #[error("the request {0} is not waiting")]
    NotWaiting(u64),
    /// The server ends, or the database failed before it was its turn.
    #[error("it was not written: the server is ending, or its database failed")]
    Ending,
}

enum Job {
    Reports(Vec<Report>, oneshot::Sender<Result<(), Busy>>),
    Ask(Timestamp, Wish, oneshot::Sender<Result<Request, Busy>>),
    Settle(u64, Fate, oneshot::Sender<Result<(), Busy>>),
    Prune(Timestamp),
}

/// Whoever has something to be written.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
}

/// What the thread counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Transactions.
    pub batches: Counter,
    /// Reports in them.
    pub reports: Counter,
    /// Machines that were too many.
    pub strangers: Counter,
}

impl Writer {
    /// Opens the database and starts the thread. It ends when every writer is gone and all that was
    /// taken is written.
    pub fn start(
        path: &Path,
        keep: Keep,
        counters: Arc<Counters>,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let connection = open(path)?;
        let (jobs, mut waiting) = mpsc::channel(QUEUE);
        let mut thread = Thread { connection, keep, machines: 0, counters };
        thread.machines = thread.count().map_err(|source| StoreError::Sqlite {
            doing: "reading",
            path: path.to_owned(),
            source,
        })?;
        let handle = std::thread::spawn(move || {
            while let Some(first) = waiting.blocking_recv() {
                let mut jobs = vec![first];
                while jobs.len() < BATCH
                    && let Ok(job) = waiting.try_recv()
                {
                    jobs.push(job);
                }
                thread.write(jobs);
            }
            // What is in the log goes into the file, so that a copy of it alone is whole.
            if let Err(error) = thread.connection.close() {
                eprintln!("closing the database: {}", error.1);
            }
        });
        Ok((Self { jobs }, handle))
    }

    /// Keeps what machines said. Once this is well, it is there after a power cut.
    pub async fn report(&self, reports: Vec<Report>) -> Result<(), Busy> {
        self.do_it(|done| Job::Reports(reports, done)).await
    }

    /// Keeps what an operator wants.
    pub async fn ask(&self, at: Timestamp, wish: Wish) -> Result<Request, Busy> {
        self.do_it(|done| Job::Ask(at, wish, done)).await
    }

    /// Keeps what became of a request.
    pub async fn settle(&self, number: u64, fate: Fate) -> Result<(), Busy> {
        self.do_it(|done| Job::Settle(number, fate, done)).await
    }

    /// Removes what is too old. What does not fit is removed the next time.
    pub fn prune(&self, now: Timestamp) {
        // A full queue is no time for it.
        let _ = self.jobs.try_send(Job::Prune(now));
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        QUEUE - self.jobs.capacity()
    }

    async fn do_it<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Busy>>) -> Job,
    ) -> Result<T, Busy> {
        let (done, answer) = oneshot::channel();
        self.jobs.try_send(job(done)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Busy::Full,
            mpsc::error::TrySendError::Closed(_) => Busy::Ending,
        })?;
        answer.await.unwrap_or(Err(Busy::Ending))
    }
}

struct Thread {
    connection: Connection,
    keep: Keep,
    /// How many are known.
    machines: u64,
    counters: Arc<Counters>,
}

/// Says whether what it is about is on the disk.
type Answer = Box<dyn FnOnce(Result<(), Busy>)>;

impl Thread {
    fn count(&self) -> rusqlite::Result<u64> {
        let sql = "SELECT count(*) FROM machine";
        self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|count| count as u64)
    }

    /// All of it, or none.
    fn write(&mut self, jobs: Vec<Job>) {
        let before = self.machines;
        let mut answers: Vec<Answer> = Vec::with_capacity(jobs.len());
        let written = || -> rusqlite::Result<()> {
            let transaction = self.connection.transaction()?;
            for job in jobs {
                let room = self.keep.max_machines.saturating_sub(self.machines);
                match job {
                    Job::Reports(reports, done) => {
                        self.counters.reports.add(reports.len() as u64);
                        answers.push(Box::new(|result| drop(done.send(result))));
                        for report in &reports {
                            match keep(&transaction, report, room > 0)? {
                                Kept::Known => {}
                                Kept::New => self.machines += 1,
                                Kept::Stranger => self.counters.strangers.add(1),
                            }
                        }
                    }
                    Job::Ask(at, wish, done) => {
                        let request = ask(&transaction, at, wish)?;
                        answers.push(Box::new(|result| {
                            drop(done.send(result.map(|()| request)));
                        }));
                    }
                    Job::Settle(number, fate, done) => {
                        let settled = settle(&transaction, number, &fate)?;
                        answers.push(Box::new(move |result| {
                            let settled =
                                if settled { Ok(()) } else { Err(Busy::NotWaiting(number)) };
                            drop(done.send(result.and(settled)));
                        }));
                    }
                    Job::Prune(now) => self.machines -= prune(&transaction, self.keep, now)?,
                }
            }
            transaction.commit()
        };
        let result = written();
        self.counters.batches.add(1);
        if let Err(error) = &result {
            eprintln!("writing to the database: {error}");
            self.machines = before;
        }
        let result = result.map_err(|error| Busy::Failed(error.to_string()));
        // Whoever asked may be gone. Those whose job was not reached hear that nothing was done.
        answers.into_iter().for_each(|answer| answer(result.clone()));
    }
}

enum Kept {
    Known,
    New,
    Stranger,
}

fn keep(db: &Transaction<'_>, report: &Report, room: bool) -> rusqlite::Result<Kept> {
    let Report { at, family, machine, alias, version, board, channel, events } = report;
    let (family, at) = (family.as_str(), at.as_millisecond());
    let known = db
        .prepare_cached(
            "SELECT version, phase, target, code, cause FROM machine WHERE family = ? AND id = ?",
        )?
        .query_row(params![family, machine], |row| {
            let progress = Progress {
                phase: Phase::read(row.get_ref(1)?.as_str()?),
                target: row.get(2)?,
                code: row.get(3)?,
                cause: row.get(4)?,
            };
            Ok((row.get::<_, String>(0)?, progress))
        })
        .optional()?;
    let kept = match (&known, room) {
        (Some(_), _) => Kept::Known,
        (None, true) => Kept::New,
        (None, false) => return Ok(Kept::Stranger),
    };
    let ran = known.as_ref().map(|(ran, _)| ran.clone());
    let before = known.map(|(_, progress)| progress).unwrap_or_default();
    let target = before.target.clone();
    let progress = before.after(ran.as_deref(), report);
    let sql = match kept {
        Kept::Known => {
            "UPDATE machine SET alias = ?3, version = ?4, board = ?5, channel = ?6, last_seen = ?7,
                phase = ?8, target = ?9, code = ?10, cause = ?11 WHERE family = ?1 AND id = ?2"
        }
        Kept::New | Kept::Stranger => {
            "INSERT INTO machine (family, id, alias, version, board, channel, first_seen,
                last_seen, phase, target, code, cause)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9, ?10, ?11)"
        }
    };
    let Progress { phase, target: next, code, cause } = &progress;
    db.prepare_cached(sql)?.execute(params![
        family,
        machine,
        alias,
        version,
        board,
        channel,
        at,
        phase.as_str(),
        next,
        code,
        cause
    ])?;
    for event in events {
        db.prepare_cached(
            "INSERT INTO event (at, family, machine, version, target, kind, result, code, cause)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            at,
            family,
            machine,
            version,
            event.next.as_deref().unwrap_or(&target),
            event.kind.number(),
            event.result.number(),
            event.code,
            event.cause.as_deref().unwrap_or_default()
        ])?;
    }
    Ok(kept)
}

fn ask(db: &Transaction<'_>, at: Timestamp, wish: Wish) -> rusqlite::Result<Request> {
    let text = |value: serde_json::Result<String>| value.expect("texts and times become JSON");
    let fate = text(serde_json::to_string(&Fate::Waiting));
    let wish = text(serde_json::to_string(&wish));
    // Who presses a button twice means it once.
    let same = "SELECT number, at, wish, fate FROM request WHERE wish = ? AND fate = ?";
    let found = db.query_row(same, params![wish, fate], request).optional()?;
    if let Some(found) = found {
        return Ok(found);
    }
    db.query_row(
        "INSERT INTO request (at, wish, fate) VALUES (?, ?, ?) RETURNING number, at, wish, fate",
        params![at.as_millisecond(), wish, fate],
        request,
    )
}

fn settle(db: &Transaction<'_>, number: u64, fate: &Fate) -> rusqlite::Result<bool> {
    let sql = "SELECT number, at, wish, fate FROM request WHERE number = ?";
    let found = db.query_row(sql, params![number as i64], request).optional()?;
    if found.is_none_or(|found| found.fate != Fate::Waiting) {
        return Ok(false);
    }
    let fate = serde_json::to_string(fate).expect("texts and times become JSON");
    let sql = "UPDATE request SET fate = ? WHERE number = ?";
    db.execute(sql, params![fate, number as i64]).map(|changed| changed == 1)
}

/// How many machines went.
fn prune(db: &Transaction<'_>, keep: Keep, now: Timestamp) -> rusqlite::Result<u64> {
    let before = |age: Duration| (now - age).as_millisecond();
    db.execute(
        "DELETE FROM event WHERE number IN (SELECT number FROM event WHERE at < ? LIMIT ?)",
        params![before(keep.events), PRUNED_AT_ONCE],
    )?;
    let gone = db.execute(
        "DELETE FROM machine WHERE (family, id) IN
            (SELECT family, id FROM machine WHERE last_seen < ? LIMIT ?)",
        params![before(keep.machines), PRUNED_AT_ONCE],
    )?;
    Ok(gone as u64)
}
