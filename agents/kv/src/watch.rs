//! Watches: who hears of which changes, in which order, and when.
//!
//! ```text
//!   a request ---> ask ----+                       +--> poll ---> a response
//!   a change ----> changed-+-> streams, watches ---+    (when the client takes one)
//!   time --------> tick ---+
//! ```
//!
//! Nothing is kept for a client that is slow: a watch is a place in history, and what is next is read
//! from there when the client has room for it. So a watch costs the same however far behind it is,
//! and events come in order, once, and whole revisions at a time; one that is overtaken by a
//! compaction is told so and ends. A watch that knows all there is costs nothing when something else
//! changes.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;

use crate::{
    api::{
        Event, EventType, FilterType, ResponseHeader, WatchAsk, WatchCreateRequest, WatchRequest,
        WatchResponse,
    },
    refusal::Refusal,
    store::{KeyRange, Record, Revision, Store},
};

/// The number in a response that is about no watch, or about all of them.
pub const NO_WATCH: i64 = -1;

/// How many records are looked at for one response, roughly.
const RECORDS: usize = 1000;

/// A stream of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// What there is for a client to hear.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// This.
    Response(WatchResponse),
    /// Nothing in what was looked at, but there is more to look at.
    Further,
    /// Nothing, until its stream is named again.
    Nothing,
}

/// All streams of a member.
#[derive(Debug)]
pub struct Watches {
    store: Store,
    streams: HashMap<StreamId, Stream>,
    /// The watches that know all there is, by what they watch.
    synced: Interest,
    /// How many bytes of events a response has, if one revision has not more of them.
    most_bytes: usize,
}

#[derive(Debug)]
struct Stream {
    watches: BTreeMap<i64, Watch>,
    next_id: i64,
    /// Answers to requests, which come before events.
    answers: VecDeque<WatchResponse>,
    /// The watches that have something to hear, each once.
    behind: VecDeque<i64>,
    /// Whether the client asked how far it is, and has not heard.
    progress_asked: bool,
    progress_every: Duration,
    next_progress: Duration,
}

#[derive(Debug)]
struct Watch {
    range: KeyRange,
    /// What it was created for; it knows nothing of what was before.
    start: i64,
    /// The first write that it has not heard of, where it is behind.
    place: Option<Revision>,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    fragment: bool,
    /// Whether it is told how far it is when there is nothing else to tell.
    progress_notify: bool,
    /// Whether it was told anything since the last time that it was due.
    heard: bool,
    progress_due: bool,
}

impl Watches {
    /// None yet. A response has so many bytes of events, where one revision has not more.
    pub fn new(store: Store, most_bytes: usize) -> Self {
        Self { store, streams: HashMap::new(), synced: Interest::default(), most_bytes }
    }

    /// A client opens a stream. It is told every so often how far its watches are.
    pub fn open(&mut self, id: StreamId, progress_every: Duration, now: Duration) {
        let stream = Stream {
            watches: BTreeMap::new(),
            next_id: 0,
            answers: VecDeque::new(),
            behind: VecDeque::new(),
            progress_asked: false,
            progress_every,
            next_progress: now + progress_every,
        };
        self.streams.insert(id, stream);
    }

    /// A client is gone.
    pub fn close(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            for (number, watch) in stream.watches {
                self.synced.remove(&watch.range, (id, number));
            }
        }
    }

    /// A client asks for something.
    pub fn ask(&mut self, id: StreamId, request: WatchRequest) {
        let store = &self.store;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match request.request_union {
            Some(WatchAsk::Create(create)) => {
                let answer = stream.create(id, create, store, &mut self.synced);
                stream.answers.push_back(answer);
            }
            Some(WatchAsk::Cancel(cancel)) => {
                if let Some(watch) = stream.remove(cancel.watch_id) {
                    self.synced.remove(&watch.range, (id, cancel.watch_id));
                    stream.answers.push_back(WatchResponse {
                        watch_id: cancel.watch_id,
                        canceled: true,
                        ..response(store.revision())
                    });
                }
            }
            Some(WatchAsk::Progress(_)) => stream.progress_asked = !stream.watches.is_empty(),
            None => {}
        }
    }

    /// The store has changed: the streams that have something to hear.
    pub fn changed(&mut self, store: Store) -> BTreeSet<StreamId> {
        let from = Revision { main: self.store.revision() + 1, sub: 0 };
        self.store = store;
        let mut wake = BTreeSet::new();
        let mut to_hear = Vec::new();
        if from.main < self.store.compacted() {
            // What is new is compacted already, and may be gone: who is concerned cannot be told.
            to_hear.extend(self.synced.take_all().into_iter().map(|who| (from, who)));
        }
        for record in self.store.history_from(from) {
            let place = Revision { main: record.revision.main, sub: 0 };
            to_hear.extend(self.synced.take(&record.key).into_iter().map(|who| (place, who)));
        }
        for (place, (id, number)) in to_hear {
            let stream = self.streams.get_mut(&id).expect("a watch has a stream");
            let watch = stream.watches.get_mut(&number).expect("a stream has its watches");
            watch.place = Some(place);
            stream.behind.push_back(number);
            wake.insert(id);
        }
        // Who asked how far he is may have waited for a revision to come.
        wake.extend(self.streams.iter().filter(|(_, is)| is.progress_asked).map(|(id, _)| *id));
        wake
    }

    /// Time has passed: the streams that have something to hear.
    pub fn tick(&mut self, now: Duration) -> BTreeSet<StreamId> {
        let mut wake = BTreeSet::new();
        for (id, stream) in self.streams.iter_mut().filter(|(_, is)| is.next_progress <= now) {
            stream.next_progress = now + stream.progress_every;
            for watch in stream.watches.values_mut().filter(|watch| watch.progress_notify) {
                watch.progress_due = !std::mem::take(&mut watch.heard);
                if watch.progress_due {
                    wake.insert(*id);
                }
            }
        }
        wake
    }

    /// What a client hears next.
    pub fn poll(&mut self, id: StreamId) -> Next {
        let store = &self.store;
        let Some(stream) = self.streams.get_mut(&id) else { return Next::Nothing };
        if let Some(answer) = stream.answers.pop_front() {
            return Next::Response(answer);
        }
        let Some(number) = stream.behind.pop_front() else {
            return stream.progress(store.revision()).map_or(Next::Nothing, Next::Response);
        };
        let watch = stream.watches.get_mut(&number).expect("a stream has its watches");
        let place = watch.place.expect("a watch that is behind has a place");
        if place.main < store.compacted() {
            stream.watches.remove(&number);
            return Next::Response(WatchResponse {
                watch_id: number,
                canceled: true,
                compact_revision: store.compacted(),
                ..response(store.revision())
            });
        }
        let batch = watch.next_batch(place, store, self.most_bytes);
        watch.place = batch.next;
        match batch.next {
            Some(_) => stream.behind.push_back(number),
            None => self.synced.add(watch.range.clone(), (id, number)),
        }
        if batch.events.is_empty() {
            return Next::Further;
        }
        watch.heard = true;
        watch.progress_due = false;
        Next::Response(WatchResponse {
            watch_id: number,
            fragment: batch.is_part,
            events: batch.events,
            ..response(batch.revision)
        })
    }
}

impl Stream {
    fn create(
        &mut self,
        id: StreamId,
        ask: WatchCreateRequest,
        store: &Store,
        synced: &mut Interest,
    ) -> WatchResponse {
        let refuse = |reason: &str| WatchResponse {
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..response(store.revision())
        };
        if ask.start_revision < 0 {
            return refuse(&Refusal::Compacted.to_string());
        }
        let key = if ask.key.is_empty() { Bytes::from_static(&[0]) } else { ask.key };
        let range = KeyRange::new(key, ask.range_end);
        if range.is_empty() {
            return refuse("mvcc: watcher range is empty");
        }
        let number = match ask.watch_id {
            0 => {
                while self.watches.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id
            }
            taken if self.watches.contains_key(&taken) => {
                return refuse("mvcc: duplicate watch ID provided on the WatchStream");
            }
            chosen => chosen,
        };
        if ask.watch_id == 0 {
            self.next_id += 1;
        }
        let filters = |filter: FilterType| ask.filters.contains(&(filter as i32));
        let is_behind = ask.start_revision != 0 && ask.start_revision <= store.revision();
        let watch = Watch {
            range: range.clone(),
            start: ask.start_revision,
            place: is_behind.then_some(Revision { main: ask.start_revision, sub: 0 }),
            no_put: filters(FilterType::NoPut),
            no_delete: filters(FilterType::NoDelete),
            prev_kv: ask.prev_kv,
            fragment: ask.fragment,
            progress_notify: ask.progress_notify,
            heard: false,
            progress_due: false,
        };
        if is_behind {
            self.behind.push_back(number);
        } else {
            synced.add(range, (id, number));
        }
        self.watches.insert(number, watch);
        WatchResponse { watch_id: number, created: true, ..response(store.revision()) }
    }

    fn remove(&mut self, number: i64) -> Option<Watch> {
        self.behind.retain(|behind| *behind != number);
        self.watches.remove(&number)
    }

    /// How far the watches are, where somebody is to hear of it and there is nothing else to hear.
    fn progress(&mut self, revision: i64) -> Option<WatchResponse> {
        let reached = |watch: &Watch| watch.start <= revision;
        if self.progress_asked && self.watches.values().all(reached) {
            self.progress_asked = false;
            if !self.watches.is_empty() {
                return Some(WatchResponse { watch_id: NO_WATCH, ..response(revision) });
            }
        }
        let mut due = self.watches.iter_mut().filter(|(_, is)| is.progress_due && reached(is));
        let (number, watch) = due.next()?;
        watch.progress_due = false;
        Some(WatchResponse { watch_id: *number, ..response(revision) })
    }
}

/// What a watch hears at once.
struct Batch {
    events: Vec<Event>,
    /// Up to where it has heard everything then.
    revision: i64,
    /// Where it goes on, if there may be more.
    next: Option<Revision>,
    /// Whether the revision goes on in the next one.
    is_part: bool,
}

impl Watch {
    fn next_batch(&self, place: Revision, store: &Store, most_bytes: usize) -> Batch {
        let (mut events, mut bytes, mut main) = (Vec::new(), 0, place.main);
        for (looked_at, record) in store.history_from(place).enumerate() {
            let is_new = record.revision.main != main;
            if is_new && (looked_at >= RECORDS || bytes >= most_bytes) {
                let next = Some(Revision { main: record.revision.main, sub: 0 });
                return Batch { events, revision: record.revision.main - 1, next, is_part: false };
            }
            main = record.revision.main;
            let Some(event) = self.event(record, store) else { continue };
            let size = event.encoded_len();
            if self.fragment && !events.is_empty() && bytes + size > most_bytes {
                // Between revisions, what was heard is whole.
                let is_part = !is_new;
                let revision = if is_part { main } else { main - 1 };
                return Batch { events, revision, next: Some(record.revision), is_part };
            }
            bytes += size;
            events.push(event);
        }
        Batch { events, revision: store.revision(), next: None, is_part: false }
    }

    /// A record as this watch hears of it, if it does.
    fn event(&self, record: &Record, store: &Store) -> Option<Event> {
        let filtered = if record.is_tombstone() { self.no_delete } else { self.no_put };
        if filtered || record.revision.main < self.start || !self.range.contains(&record.key) {
            return None;
        }
        let revision = record.revision.main;
        let is_new = record.create_revision == revision;
        let before = (self.prev_kv && !is_new && revision > store.compacted())
            .then(|| store.get(&record.key, revision - 1))
            .flatten();
        let kind = if record.is_tombstone() { EventType::Delete } else { EventType::Put };
        Some(Event {
            r#type: kind as i32,
            kv: Some(record.key_value()),
            prev_kv: before.map(|before| before.key_value()),
        })
    }
}

/// Who is to hear of which keys. Watches of the same range are looked at together.
#[derive(Debug, Default)]
struct Interest {
    keys: HashMap<Bytes, HashSet<(StreamId, i64)>>,
    ranges: BTreeMap<KeyRange, HashSet<(StreamId, i64)>>,
}

impl Interest {
    fn add(&mut self, range: KeyRange, who: (StreamId, i64)) {
        match range {
            KeyRange::One(key) => self.keys.entry(key).or_default().insert(who),
            KeyRange::Span(..) | KeyRange::From(_) => {
                self.ranges.entry(range).or_default().insert(who)
            }
        };
    }

    fn remove(&mut self, range: &KeyRange, who: (StreamId, i64)) {
        if let KeyRange::One(key) = range {
            if let Some(all) = self.keys.get_mut(key) {
                all.remove(&who);
                if all.is_empty() {
                    self.keys.remove(key);
                }
            }
        } else if let Some(all) = self.ranges.get_mut(range) {
            all.remove(&who);
            if all.is_empty() {
                self.ranges.remove(range);
            }
        }
    }

    /// Takes out everybody.
    fn take_all(&mut self) -> Vec<(StreamId, i64)> {
        let keys = std::mem::take(&mut self.keys).into_values();
        let ranges = std::mem::take(&mut self.ranges).into_values();
        in_order(keys.chain(ranges).flatten().collect())
    }

    /// Takes out all who are to hear of a key.
    fn take(&mut self, key: &[u8]) -> Vec<(StreamId, i64)> {
        let mut all: Vec<_> = self.keys.remove(key).into_iter().flatten().collect();
        for (_, who) in self.ranges.extract_if(.., |range, _| range.contains(key)) {
            all.extend(who);
        }
        in_order(all)
    }
}

/// By streams and watches, not as a table has them.
fn in_order(mut all: Vec<(StreamId, i64)>) -> Vec<(StreamId, i64)> {
    all.sort_unstable();
    all
}

fn response(revision: i64) -> WatchResponse {
    let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
    WatchResponse { header, ..WatchResponse::default() }
}
