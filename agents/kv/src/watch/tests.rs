use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::api::{WatchCancelRequest, WatchProgressRequest};

const STREAM: StreamId = StreamId(7);
const LONG: Duration = Duration::from_secs(600);

/// A store with watches on it, and one client.
struct Bench {
    store: Store,
    watches: Watches,
}

impl Bench {
    fn new() -> Self {
        let store = Store::default();
        let mut watches = Watches::new(store.clone(), 1 << 20);
        watches.open(STREAM, LONG, Duration::ZERO);
        Self { store, watches }
    }

    /// Puts keys ("a=1") and deletes them ("a") in one revision.
    fn write(&mut self, writes: &[&str]) -> &mut Self {
        let mut writer = self.store.write();
        for write in writes {
            match write.split_once('=') {
                Some((key, value)) => drop(writer.put(key.as_bytes(), value.as_bytes(), 0)),
                None => drop(writer.delete(&KeyRange::One(write.as_bytes().to_vec().into()))),
            }
        }
        writer.finish();
        self.watches.changed(self.store.clone());
        self
    }

    fn compact(&mut self, revision: i64) -> &mut Self {
        self.store.compact(revision).expect("it can be compacted");
        while self.store.sweep(10) {}
        self.watches.changed(self.store.clone());
        self
    }

    fn watch(&mut self, create: WatchCreateRequest) -> &mut Self {
        self.ask(WatchAsk::Create(create))
    }

    fn ask(&mut self, ask: WatchAsk) -> &mut Self {
        self.watches.ask(STREAM, WatchRequest { request_union: Some(ask) });
        self
    }

    fn hear(&mut self) -> Option<WatchResponse> {
        loop {
            match self.watches.poll(STREAM) {
                Next::Response(response) => return Some(response),
                Next::Further => {}
                Next::Nothing => return None,
            }
        }
    }

    /// All that the client hears now.
    fn check(&mut self, expected: Expect) -> &mut Self {
        let heard: Vec<String> = std::iter::from_fn(|| self.hear()).map(|is| show(&is)).collect();
        expected.assert_eq(&heard.join("\n"));
        self
    }
}

fn show(response: &WatchResponse) -> String {
    let revision = response.header.as_ref().expect("a header").revision;
    let mut line = format!("watch {} at {revision}:", response.watch_id);
    if response.created {
        line += " created";
    }
    if response.canceled {
        line += " canceled";
    }
    if response.compact_revision != 0 {
        line += &format!(" compacted at {}", response.compact_revision);
    }
    if !response.cancel_reason.is_empty() {
        line += &format!(" {}", response.cancel_reason);
    }
    for event in &response.events {
        let text = |kv: &crate::api::KeyValue| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            format!("{}={}@{}", text(&kv.key), text(&kv.value), kv.mod_revision)
        };
        let kind = if event.r#type == EventType::Put as i32 { "put" } else { "delete" };
        line += &format!(" {kind} {}", text(event.kv.as_ref().expect("a key")));
        if let Some(before) = &event.prev_kv {
            line += &format!(" (was {})", text(before));
        }
    }
    if response.fragment {
        line += " to be continued";
    }
    line
}

fn of(key: &'static str, end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(key.as_bytes()),
        range_end: Bytes::from_static(end.as_bytes()),
        ..WatchCreateRequest::default()
    }
}

#[test]
fn a_watch_hears_of_what_comes_a_revision_at_a_time() {
    let mut bench = Bench::new();
    bench.write(&["a=0"]).watch(of("a", "c")).check(expect!["watch 0 at 2: created"]);
    bench.write(&["a=1", "b=2", "c=3"]).check(expect!["watch 0 at 3: put a=1@3 put b=2@3"]);
    bench.write(&["c=4"]).check(expect![""]);
    bench.write(&["a"]).write(&["b=5"]).check(expect!["watch 0 at 6: delete a=@5 put b=5@6"]);
}

#[test]
fn a_watch_from_an_earlier_revision_hears_of_it_first() {
    let mut bench = Bench::new();
    bench.write(&["a=1"]).write(&["a=2"]).write(&["a=3"]);
    bench.watch(WatchCreateRequest { start_revision: 3, prev_kv: true, ..of("a", "") });
    bench.write(&["a=4"]).check(expect![[r#"
        watch 0 at 4: created
        watch 0 at 5: put a=2@3 (was a=1@2) put a=3@4 (was a=2@3) put a=4@5 (was a=3@4)"#]]);
}

#[test]
fn a_watch_from_a_later_revision_hears_of_nothing_before() {
    let mut bench = Bench::new();
    bench.watch(WatchCreateRequest { start_revision: 4, ..of("a", "") });
    bench.ask(WatchAsk::Progress(WatchProgressRequest {}));
    bench.write(&["a=1"]).write(&["a=2"]).check(expect!["watch 0 at 1: created"]);
    bench.write(&["a=3"]).check(expect![[r#"
        watch 0 at 4: put a=3@4
        watch -1 at 4:"#]]);
}

#[test]
fn a_watch_behind_the_compaction_is_told_and_ends() {
    let mut bench = Bench::new();
    bench.write(&["a=1"]).write(&["a=2"]).write(&["a=3"]).compact(3);
    bench.watch(WatchCreateRequest { start_revision: 2, ..of("a", "") });
    bench.watch(WatchCreateRequest { start_revision: 3, prev_kv: true, ..of("a", "") });
    bench.check(expect![[r#"
        watch 0 at 4: created
        watch 1 at 4: created
        watch 0 at 4: canceled compacted at 3
        watch 1 at 4: put a=2@3 put a=3@4 (was a=2@3)"#]]);
    bench.write(&["a=4"]).check(expect!["watch 1 at 5: put a=4@5 (was a=3@4)"]);
}

#[test]
fn what_was_compacted_before_anybody_was_told_ends_the_watches() {
    let mut bench = Bench::new();
    bench.watch(of("a", "")).check(expect!["watch 0 at 1: created"]);
    for value in [b"1", b"2"] {
        let mut writer = bench.store.write();
        writer.put(b"a", value, 0);
        writer.finish();
    }
    bench.compact(3).check(expect!["watch 0 at 3: canceled compacted at 3"]);
}

#[test]
fn a_filter_leaves_events_out() {
    let mut bench = Bench::new();
    bench.watch(WatchCreateRequest { filters: vec![FilterType::NoPut as i32], ..of("a", "") });
    bench.watch(WatchCreateRequest { filters: vec![FilterType::NoDelete as i32], ..of("a", "") });
    bench.write(&["a=1"]).write(&["a"]).check(expect![[r#"
        watch 0 at 1: created
        watch 1 at 1: created
        watch 0 at 3: delete a=@3
        watch 1 at 3: put a=1@2"#]]);
}

#[test]
fn numbers_are_given_or_chosen() {
    let mut bench = Bench::new();
    for watch_id in [1, 0, 0, 1, 9] {
        bench.watch(WatchCreateRequest { watch_id, ..of("a", "") });
    }
    bench.check(expect![[r#"
        watch 1 at 1: created
        watch 0 at 1: created
        watch 2 at 1: created
        watch -1 at 1: created canceled mvcc: duplicate watch ID provided on the WatchStream
        watch 9 at 1: created"#]]);
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let mut bench = Bench::new();
    bench.watch(of("b", "a"));
    bench.watch(WatchCreateRequest { start_revision: -1, ..of("a", "") });
    bench.check(expect![[r#"
        watch -1 at 1: created canceled mvcc: watcher range is empty
        watch -1 at 1: created canceled etcdserver: mvcc: required revision has been compacted"#]]);
}

#[test]
fn a_canceled_watch_hears_nothing_more() {
    let mut bench = Bench::new();
    bench.watch(of("", "\0")).write(&["a=1"]);
    bench.ask(WatchAsk::Cancel(WatchCancelRequest { watch_id: 0 }));
    bench.ask(WatchAsk::Cancel(WatchCancelRequest { watch_id: 0 }));
    bench.write(&["a=2"]).check(expect![[r#"
        watch 0 at 1: created
        watch 0 at 2: canceled"#]]);
}

#[test]
fn progress_is_told_when_everything_else_was() {
    let mut bench = Bench::new();
    bench.watch(of("a", "")).write(&["a=1"]).write(&["b=1"]);
    bench.ask(WatchAsk::Progress(WatchProgressRequest {}));
    bench.check(expect![[r#"
        watch 0 at 1: created
        watch 0 at 3: put a=1@2
        watch -1 at 3:"#]]);
}

#[test]
fn who_wants_progress_hears_of_it_when_there_was_nothing_else() {
    let mut bench = Bench::new();
    bench.watch(WatchCreateRequest { progress_notify: true, ..of("a", "") }).watch(of("b", ""));
    bench.write(&["a=1"]).check(expect![[r#"
        watch 0 at 1: created
        watch 1 at 1: created
        watch 0 at 2: put a=1@2"#]]);
    assert!(bench.watches.tick(LONG).is_empty(), "it has heard something");
    bench.write(&["c=1"]).check(expect![""]);
    assert!(bench.watches.tick(LONG * 2 - Duration::from_secs(1)).is_empty(), "too early");
    assert!(bench.watches.tick(LONG * 2).contains(&STREAM));
    bench.check(expect!["watch 0 at 3:"]);
}

#[test]
fn only_a_watch_that_allows_it_hears_a_revision_in_parts() {
    let mut bench = Bench::new();
    bench.watches.most_bytes = 30;
    bench.watch(WatchCreateRequest { fragment: true, ..of("a", "z") }).watch(of("a", "z"));
    bench.write(&["a=1", "b=2", "c=3"]).write(&["d=4"]).check(expect![[r#"
        watch 0 at 1: created
        watch 1 at 1: created
        watch 0 at 2: put a=1@2 put b=2@2 to be continued
        watch 1 at 2: put a=1@2 put b=2@2 put c=3@2
        watch 0 at 3: put c=3@2 put d=4@3
        watch 1 at 3: put d=4@3"#]]);
}

#[test]
fn a_stream_that_is_closed_is_forgotten() {
    let mut bench = Bench::new();
    bench.watch(of("a", "")).watch(of("a", "z"));
    bench.watches.close(STREAM);
    bench.write(&["a=1"]).check(expect![""]);
    assert!(bench.watches.synced.keys.is_empty() && bench.watches.synced.ranges.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<String>),
    Compact,
    Hear(u8),
    Again,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec("[a-d](=[0-9])?", 1..5).prop_map(Step::Write),
        1 => Just(Step::Compact),
        4 => (1_u8..5).prop_map(Step::Hear),
        1 => Just(Step::Again),
    ]
}

proptest! {
    /// A client that comes back with the revision that it heard of last, however it is cut off and
    /// however slowly it listens, hears of everything once and in order.
    #[test]
    fn a_client_that_comes_back_hears_of_everything_once(
        steps in proptest::collection::vec(step(), 0..50),
        fragment in any::<bool>(),
        most_bytes in 1_usize..200,
    ) {
        let mut bench = Bench::new();
        bench.watches.most_bytes = most_bytes;
        let ask = |start| WatchCreateRequest { start_revision: start, fragment, ..of("a", "c") };
        bench.watch(ask(2));
        let (mut heard, mut parts, mut whole_to) = (Vec::new(), Vec::new(), 1);
        let mut expected = Vec::new();
        let everything = [Step::Hear(u8::MAX)];
        for step in steps.iter().chain(&everything) {
            match step {
                Step::Write(writes) => {
                    let before = bench.store.revision();
                    bench.write(&writes.iter().map(|is| &is[..]).collect::<Vec<_>>());
                    let from = Revision { main: before + 1, sub: 0 };
                    let new = bench.store.history_from(from).filter(|is| is.key < "c");
                    expected.extend(new.map(|is| (is.revision, is.key.clone(), is.value.clone())));
                }
                // Not what the client has not heard of.
                Step::Compact if whole_to > bench.store.compacted() => drop(bench.compact(whole_to)),
                Step::Compact => {}
                Step::Again => {
                    bench.watches.close(STREAM);
                    bench.watches.open(STREAM, LONG, Duration::ZERO);
                    bench.watch(ask(whole_to + 1));
                    parts.clear();
                }
                Step::Hear(times) => for _ in 0..*times {
                    let Some(response) = bench.hear() else { break };
                    prop_assert!(!response.canceled, "{}", show(&response));
                    if response.created {
                        continue;
                    }
                    prop_assert!(fragment || !response.fragment);
                    let is_part = response.fragment;
                    let revision = response.header.expect("a header").revision;
                    parts.extend(response.events.into_iter().map(|is| is.kv.expect("a key")));
                    if !is_part {
                        prop_assert!(revision > whole_to);
                        prop_assert!(parts.iter().all(|is| is.mod_revision <= revision));
                        whole_to = revision;
                        heard.append(&mut parts);
                    }
                },
            }
        }
        let heard: Vec<_> =
            heard.into_iter().map(|is| (is.mod_revision, is.key, is.value)).collect();
        let expected: Vec<_> =
            expected.into_iter().map(|(at, key, value)| (at.main, key, value)).collect();
        prop_assert_eq!(heard, expected);
    }
}
