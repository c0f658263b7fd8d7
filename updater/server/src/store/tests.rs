use std::sync::Arc;

use jiff::SignedDuration;
use omaha::Event;
use payload::request::Change;
use tempfile::TempDir;

use super::*;
use crate::fleet::{Family, Report};

const KEEP: Keep = Keep {
    events: Duration::from_secs(3600),
    machines: Duration::from_secs(7200),
    max_machines: 3,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_secs(seconds)
}

fn report(machine: &str, version: &str, seconds: i64, events: &[(u32, u32)]) -> Report {
    Report {
        at: at(seconds),
        family: Family::Pithos,
        machine: machine.to_owned(),
        alias: String::new(),
        version: version.to_owned(),
        board: "cloud-x86_64".to_owned(),
        channel: "stable".to_owned(),
        events: events
            .iter()
            .map(|(kind, result)| Event {
                kind: (*kind).into(),
                result: (*result).into(),
                code: if *result == 0 { 10 } else { 0 },
                ..Event::default()
            })
            .collect(),
    }
}

fn wish() -> Wish {
    Wish { channel: "stable".to_owned(), version: "1.1".parse().unwrap(), change: Change::Resume }
}

/// A store in a folder, opened anew.
struct Store {
    writer: Writer,
    thread: std::thread::JoinHandle<()>,
    reader: Reader,
}

impl Store {
    fn open(folder: &TempDir) -> Self {
        let path = file(folder.path());
        let (writer, thread) = Writer::start(&path, KEEP, Arc::new(Counters::default())).unwrap();
        Self { writer, thread, reader: Reader::open(&path).unwrap() }
    }

    fn close(self) {
        drop(self.writer);
        self.thread.join().unwrap();
    }

    fn names(&self) -> Vec<String> {
        let all = self.reader.machines(&Which::default(), 100).unwrap();
        all.into_iter().map(|machine| machine.id).collect()
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(&folder);
    store.writer.report(vec![report("a", "1.0", 0, &[(13, 1)])]).await.unwrap();
    store.writer.report(vec![report("a", "1.0", 5, &[(3, 0)])]).await.unwrap();
    let request = store.writer.ask(at(6), wish()).await.unwrap();
    store.close();
    let store = Store::open(&folder);
    let machines = store.reader.machines(&Which::default(), 10).unwrap();
    assert_eq!(machines.len(), 1);
    assert_eq!((machines[0].first_seen, machines[0].last_seen), (at(0), at(5)));
    assert_eq!((machines[0].progress.phase, machines[0].progress.code), (Phase::Failed, 10));
    assert_eq!(store.reader.failures(at(0)).unwrap()[0].machines, 1);
    assert_eq!(store.reader.events("a", 10).unwrap().len(), 2);
    assert_eq!(store.reader.requests(10).unwrap(), [request]);
}

#[tokio::test]
async fn what_is_old_goes_and_strangers_do_not_fill_the_disk() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(&folder);
    for machine in ["a", "b", "c", "d"] {
        store.writer.report(vec![report(machine, "1.0", 0, &[(13, 1)])]).await.unwrap();
    }
    assert_eq!(store.names(), ["a", "b", "c"]);
    store.writer.report(vec![report("a", "1.1", 7000, &[])]).await.unwrap();
    store.writer.prune(at(7300));
    // There is room again.
    store.writer.report(vec![report("d", "1.0", 7300, &[])]).await.unwrap();
    assert_eq!(store.names(), ["a", "d"]);
    assert_eq!(store.reader.events("a", 10).unwrap(), []);
    assert_eq!(store.reader.silent(at(7200)).unwrap(), 1);
    assert_eq!(store.reader.groups(at(7200)).unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_is_asked_once_and_settled_once() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(&folder);
    let request = store.writer.ask(at(0), wish()).await.unwrap();
    assert_eq!(store.writer.ask(at(1), wish()).await.unwrap(), request);
    let fate = Fate::CarriedOut { at: at(2), said: "stable: 1.1 is open again".to_owned() };
    store.writer.settle(request.number, fate.clone()).await.unwrap();
    let again = store.writer.settle(request.number, fate.clone()).await;
    assert_eq!(again, Err(Busy::NotWaiting(request.number)));
    assert_eq!(store.writer.settle(99, fate).await, Err(Busy::NotWaiting(99)));
    // The same may be wanted again, later.
    assert_ne!(store.writer.ask(at(3), wish()).await.unwrap().number, request.number);
}

#[test]
fn a_database_of_somebody_else_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("other");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
    let error = open(&path).unwrap_err().to_string();
    assert!(error.contains("not one of update-server"), "{error}");
    let path = folder.path().join("newer");
    drop(open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = open(&path).unwrap_err().to_string();
    assert!(error.contains("has the schema 99, and this version knows"), "{error}");
    let path = folder.path().join("garbage");
    std::fs::write(&path, "not a database at all, but long enough to be looked at".repeat(9))
        .unwrap();
    assert!(open(&path).is_err());
}

/// Everything before a torn end of the log is there: what a power cut may leave.
#[tokio::test]
async fn a_log_that_ends_early_costs_what_is_behind_its_end() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(&folder);
    for machine in ["a", "b", "c"] {
        store.writer.report(vec![report(machine, "1.0", 0, &[])]).await.unwrap();
    }
    // Copies while it is open, as after a crash: nothing was moved out of the log.
    let copied = |log_bytes_less: usize| {
        let copy = TempDir::new().unwrap();
        let path = file(folder.path());
        std::fs::copy(&path, file(copy.path())).unwrap();
        let log = std::fs::read(path.with_extension("sqlite-wal")).unwrap();
        let log = &log[..log.len() - log_bytes_less];
        std::fs::write(file(copy.path()).with_extension("sqlite-wal"), log).unwrap();
        let store = Store::open(&copy);
        let names = store.names();
        store.close();
        names
    };
    assert_eq!(copied(0), ["a", "b", "c"]);
    assert_eq!(copied(100), ["a", "b"]);
}
