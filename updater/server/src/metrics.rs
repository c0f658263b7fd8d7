//! What the server counts, for Prometheus.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{overview::Overview, store};

/// A number that goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All that is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests, by what they were for and what was answered.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// Events, by what they say.
    events: Mutex<BTreeMap<(u32, u32), u64>>,
    /// Connections that were taken, and that ended.
    pub opened: Counter,
    /// See above.
    pub closed: Counter,
    /// Of the thread that writes.
    pub store: Arc<store::Counters>,
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self, what: &'static str, status: u16) {
        *self
            .requests
            .lock()
            .expect("counting does not panic")
            .entry((what, status))
            .or_default() += 1;
    }

    /// An event was heard of.
    pub fn event(&self, kind: u32, result: u32) {
        let mut events = self.events.lock().expect("counting does not panic");
        // Strangers may invent numbers; there is no end of them.
        if events.len() < 100 || events.contains_key(&(kind, result)) {
            *events.entry((kind, result)).or_default() += 1;
        }
    }

    /// As Prometheus reads it. `waiting` reports are yet to be written.
    pub fn text(&self, overview: &Overview, waiting: usize) -> String {
        let mut text = Text::default();
        let none = |value: u64| vec![(String::new(), value)];
        let requests = self.requests.lock().expect("counting does not panic").clone();
        let requests = requests
            .iter()
            .map(|((what, status), n)| (format!("{{for=\"{what}\",status=\"{status}\"}}"), *n));
        text.metric("requests_total", "counter", "Requests that were answered.", requests);
        let events = self.events.lock().expect("counting does not panic").clone();
        let events = events
            .iter()
            .map(|((kind, result), n)| (format!("{{type=\"{kind}\",result=\"{result}\"}}"), *n));
        text.metric(
            "events_total",
            "counter",
            "Events of machines, as Omaha numbers them.",
            events,
        );
        let open = self.opened.get().saturating_sub(self.closed.get());
        text.metric("connections", "gauge", "Connections that are open.", none(open));
        let batches = self.store.batches.get();
        text.metric("transactions_total", "counter", "Of the database.", none(batches));
        let reports = self.store.reports.get();
        text.metric("reports_total", "counter", "Reports in transactions.", none(reports));
        text.metric("reports_waiting", "gauge", "Reports yet to be written.", none(waiting as u64));
        let help = "Reports of machines that were too many to remember.";
        text.metric("strangers_total", "counter", help, none(self.store.strangers.get()));
        let machines = overview.groups.iter().map(|group| {
            let label = |name: &str, value: &str| format!("{name}=\"{}\"", escape(value));
            let labels = [
                label("family", &group.family),
                label("channel", &group.channel),
                label("version", &group.version),
                label("phase", group.phase.as_str()),
                label("target", &group.target),
            ];
            (format!("{{{}}}", labels.join(",")), group.machines)
        });
        text.metric("machines", "gauge", "Machines that were heard of lately.", machines);
        let silent = none(overview.silent);
        text.metric("machines_silent", "gauge", "Machines that were not heard of lately.", silent);
        let waiting = overview.requests.iter().filter(|asked| asked.is_waiting()).count();
        text.metric("requests_waiting", "gauge", "Yet to be signed.", none(waiting as u64));
        if let Some(expires) = overview.expires {
            let expires = u64::try_from(expires.as_second()).unwrap_or(0);
            let help = "When the metadata expires that does so first.";
            text.metric("metadata_expires_seconds", "gauge", help, none(expires));
        }
        text.0
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn metric(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) {
        let name = format!("update_server_{name}");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
