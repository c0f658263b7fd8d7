//! What is known of machines, and what operators asked for, in SQLite.
//!
//! One thread writes ([`writer`]), and whoever reports is answered when the transaction with his
//! report is on the disk. Readers have a connection of their own, which waits for nobody.

mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use jiff::Timestamp;
use payload::request::{Fate, Request, Wish};
use rusqlite::{Connection, OpenFlags, Row, params};
use serde::Serialize;

pub use self::writer::{Busy, Counters, Keep, Writer};
use crate::fleet::{Phase, Progress};

/// Marks a database as ours.
const APPLICATION: i32 = 0x5055_5356;
/// What each version of the schema adds to the one before. A line here is never changed.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE machine (
        family TEXT NOT NULL,
        id TEXT NOT NULL,
        alias TEXT NOT NULL,
        version TEXT NOT NULL,
        board TEXT NOT NULL,
        channel TEXT NOT NULL,
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL,
        phase TEXT NOT NULL,
        target TEXT NOT NULL,
        code INTEGER NOT NULL,
        cause TEXT NOT NULL,
        PRIMARY KEY (family, id)
    ) WITHOUT ROWID;
    CREATE TABLE event (
        number INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        family TEXT NOT NULL,
        machine TEXT NOT NULL,
        version TEXT NOT NULL,
        target TEXT NOT NULL,
        kind INTEGER NOT NULL,
        result INTEGER NOT NULL,
        code INTEGER NOT NULL,
        cause TEXT NOT NULL
    );
    CREATE INDEX event_of_machine ON event (family, machine, number);
    CREATE INDEX event_at ON event (at);
    CREATE TABLE request (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        wish TEXT NOT NULL,
        fate TEXT NOT NULL
    );
"];

/// Why the store does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite says so.
    #[error("{doing} the database {}", path.display())]
    Sqlite {
        /// What was wanted.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// It is somebody else's.
    #[error(
        "{} is a database, but not one of update-server: name another folder with --state",
        path.display()
    )]
    Foreign {
        /// Where.
        path: PathBuf,
    },
    /// It is of a later version of this program.
    #[error(
        "{} has the schema {found}, and this version knows {known}: run the newer update-server \
         that made it, or begin anew with another folder",
        path.display()
    )]
    Newer {
        /// Where.
        path: PathBuf,
        /// What it says.
        found: usize,
        /// What is known here.
        known: usize,
    },
}

/// Machines of a channel that run the same, and are equally far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// What kind of system.
    pub family: String,
    /// Their channel.
    pub channel: String,
    /// What they run.
    pub version: String,
    /// How far they are.
    pub phase: Phase,
    /// What they go to.
    pub target: String,
    /// How many.
    pub machines: u64,
}

/// Machines that failed for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// What kind of system.
    pub family: String,
    /// Their channel.
    pub channel: String,
    /// What they run.
    pub version: String,
    /// What they should have gone to.
    pub target: String,
    /// Why not, by number.
    pub code: u32,
    /// And in words.
    pub cause: String,
    /// How many.
    pub machines: u64,
    /// When the last of them was heard of.
    pub last_seen: Timestamp,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// What kind of system.
    pub family: String,
    /// Which.
    pub id: String,
    /// What the operator calls it.
    pub alias: String,
    /// What it runs.
    pub version: String,
    /// What it was made for.
    pub board: String,
    /// Its channel.
    pub channel: String,
    /// When it was first heard of.
    pub first_seen: Timestamp,
    /// When it was last heard of.
    pub last_seen: Timestamp,
    /// Its update.
    pub progress: Progress,
}

/// Something that happened on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// When it was heard of.
    pub at: Timestamp,
    /// What the machine ran.
    pub version: String,
    /// What it went to.
    pub target: String,
    /// What, as Omaha numbers it.
    pub kind: u32,
    /// How, as Omaha numbers it.
    pub result: u32,
    /// Why not, by number.
    pub code: u32,
    /// And in words.
    pub cause: String,
}

/// Which machines to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// Of this channel; of all, if it is empty.
    pub channel: String,
    /// With this version; with any, if it is empty.
    pub version: String,
    /// This far; anywhere, if it is empty.
    pub phase: String,
    /// Behind this machine: a page after the other.
    pub after: String,
}

/// Somebody who reads.
pub struct Reader {
    path: PathBuf,
    connection: Mutex<Connection>,
}

/// The file of a state folder.
pub fn file(state: &Path) -> PathBuf {
    state.join("fleet.sqlite")
}

/// Opens a database to write to; makes it, or brings it to the newest schema.
fn open(path: &Path) -> Result<Connection, StoreError> {
    let failed = |doing| move |source| StoreError::Sqlite { doing, path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(failed("opening"))?;
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application = pragma("application_id").map_err(failed("reading"))?;
    let version = pragma("user_version").map_err(failed("reading"))?;
    let tables: i32 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed("reading"))?;
    if application != APPLICATION && (application != 0 || version != 0 || tables != 0) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let (found, known) = (usize::try_from(version).unwrap_or(usize::MAX), MIGRATIONS.len());
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    configure(&connection).map_err(failed("configuring"))?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        migrate(&mut connection, index + 1, migration).map_err(failed("migrating"))?;
    }
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What was acknowledged is there after a power cut. Many reports share a transaction.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.busy_timeout(Duration::from_secs(10))
}

fn migrate(connection: &mut Connection, version: usize, text: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(text)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", version as i64)?;
    transaction.commit()
}

impl Reader {
    /// Reads the database at `path`, which is there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Sqlite { doing: "opening", path: path.into(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    /// Who runs what, of those that were heard of since.
    pub fn groups(&self, since: Timestamp) -> Result<Vec<Group>, StoreError> {
        let sql = "SELECT family, channel, version, phase, target, count(*) FROM machine
            WHERE last_seen >= ? GROUP BY 1, 2, 3, 4, 5";
        self.all(sql, params![since.as_millisecond()], |row| {
            Ok(Group {
                family: row.get(0)?,
                channel: row.get(1)?,
                version: row.get(2)?,
                phase: Phase::read(row.get_ref(3)?.as_str()?),
                target: row.get(4)?,
                machines: row.get::<_, i64>(5)? as u64,
            })
        })
    }

    /// How many were not heard of since.
    pub fn silent(&self, since: Timestamp) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM machine WHERE last_seen < ?";
        let count = self.all(sql, params![since.as_millisecond()], |row| row.get::<_, i64>(0))?;
        Ok(count.first().map_or(0, |count| *count as u64))
    }

    /// What failed, of those that were heard of since; what most machines have is first.
    pub fn failures(&self, since: Timestamp) -> Result<Vec<Failures>, StoreError> {
        let sql = "SELECT family, channel, version, target, code, cause, count(*), max(last_seen)
            FROM machine WHERE phase = 'failed' AND last_seen >= ?
            GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 7 DESC, 1, 2, 3, 4, 5, 6 LIMIT 100";
        self.all(sql, params![since.as_millisecond()], |row| {
            Ok(Failures {
                family: row.get(0)?,
                channel: row.get(1)?,
                version: row.get(2)?,
                target: row.get(3)?,
                code: row.get(4)?,
                cause: row.get(5)?,
                machines: row.get::<_, i64>(6)? as u64,
                last_seen: time(row, 7)?,
            })
        })
    }

    /// At most `limit` machines, by name.
    pub fn machines(&self, which: &Which, limit: u32) -> Result<Vec<Machine>, StoreError> {
        let sql = "SELECT family, id, alias, version, board, channel, first_seen, last_seen,
            phase, target, code, cause FROM machine
            WHERE (?1 = '' OR channel = ?1) AND (?2 = '' OR version = ?2)
                AND (?3 = '' OR phase = ?3) AND id > ?4 ORDER BY id, family LIMIT ?5";
        let Which { channel, version, phase, after } = which;
        self.all(sql, params![channel, version, phase, after, limit], |row| {
            Ok(Machine {
                family: row.get(0)?,
                id: row.get(1)?,
                alias: row.get(2)?,
                version: row.get(3)?,
                board: row.get(4)?,
                channel: row.get(5)?,
                first_seen: time(row, 6)?,
                last_seen: time(row, 7)?,
                progress: Progress {
                    phase: Phase::read(row.get_ref(8)?.as_str()?),
                    target: row.get(9)?,
                    code: row.get(10)?,
                    cause: row.get(11)?,
                },
            })
        })
    }

    /// What happened on a machine, the newest first.
    pub fn events(&self, machine: &str, limit: u32) -> Result<Vec<Happened>, StoreError> {
        let sql = "SELECT at, version, target, kind, result, code, cause FROM event
            WHERE machine = ? ORDER BY number DESC LIMIT ?";
        self.all(sql, params![machine, limit], |row| {
            Ok(Happened {
                at: time(row, 0)?,
                version: row.get(1)?,
                target: row.get(2)?,
                kind: row.get(3)?,
                result: row.get(4)?,
                code: row.get(5)?,
                cause: row.get(6)?,
            })
        })
    }

    /// What operators asked for, the newest first.
    pub fn requests(&self, limit: u32) -> Result<Vec<Request>, StoreError> {
        let sql = "SELECT number, at, wish, fate FROM request ORDER BY number DESC LIMIT ?";
        self.all(sql, params![limit], request)
    }

    fn all<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let connection = self.connection.lock().expect("a reader does not panic");
        let rows = || -> rusqlite::Result<Vec<T>> {
            connection.prepare_cached(sql)?.query_map(values, read)?.collect()
        };
        rows().map_err(|source| StoreError::Sqlite {
            doing: "reading",
            path: self.path.clone(),
            source,
        })
    }
}

fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Timestamp> {
    let milliseconds: i64 = row.get(index)?;
    Ok(Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn request(row: &Row<'_>) -> rusqlite::Result<Request> {
    fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
        let text = row.get_ref(index)?.as_str()?;
        serde_json::from_str(text).map_err(|error| {
            let kind = rusqlite::types::Type::Text;
            rusqlite::Error::FromSqlConversionFailure(index, kind, Box::new(error))
        })
    }
    Ok(Request {
        number: row.get::<_, i64>(0)? as u64,
        at: time(row, 1)?,
        wish: json::<Wish>(row, 2)?,
        fate: json::<Fate>(row, 3)?,
    })
}

#[cfg(test)]
mod tests;
