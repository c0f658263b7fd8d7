//! What a running build says: a bar on a terminal, plain lines in a log.
//!
//! Everything goes to standard error, so that standard output stays for reports. Lines that matter
//! (what was rebuilt and why, how long it took) are printed in both modes; what only moves (bytes
//! so far, seconds so far) is a bar on a terminal and one line every ten seconds in a log.

use std::{
    io::IsTerminal,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

const LOG_EVERY: Duration = Duration::from_secs(10);
const REDRAW_EVERY: Duration = Duration::from_millis(120);

/// The one place where a build prints.
#[derive(Clone, Debug)]
pub struct Progress {
    bars: MultiProgress,
    terminal: bool,
}

/// Something that takes a while. Its bar goes when it is dropped.
#[derive(Debug)]
pub struct Task {
    bar: ProgressBar,
    what: String,
    total_bytes: Option<u64>,
    done_bytes: AtomicU64,
    plain: Option<Mutex<Plain>>,
}

#[derive(Debug)]
struct Plain {
    begun: Instant,
    said: Instant,
}

impl Progress {
    /// Bars if standard error is a terminal, else lines.
    pub fn stderr() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), terminal }
    }

    /// Says nothing at all: for tests.
    pub fn silent() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Self { bars, terminal: true }
    }

    /// A line that stays.
    pub fn line(&self, text: impl AsRef<str>) {
        if self.bars.is_hidden() {
            if !self.terminal {
                eprintln!("{}", text.as_ref());
            }
        } else {
            self.bars.suspend(|| eprintln!("{}", text.as_ref()));
        }
    }

    /// Many bytes, of which we know the number.
    pub fn transfer(&self, what: &str, total_bytes: u64) -> Task {
        let style = "  {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        self.task(what, Some(total_bytes), style, ProgressBar::new(total_bytes))
    }

    /// Something of which we know only that it goes on.
    pub fn wait(&self, what: &str) -> Task {
        self.task(what, None, "  {spinner} {msg} {elapsed}", ProgressBar::new_spinner())
    }

    fn task(&self, what: &str, total_bytes: Option<u64>, style: &str, bar: ProgressBar) -> Task {
        let style = ProgressStyle::with_template(style).expect("the templates above are valid");
        let bar = self.bars.add(bar.with_style(style).with_message(what.to_owned()));
        let now = Instant::now();
        let plain = (!self.terminal).then(|| Mutex::new(Plain { begun: now, said: now }));
        if self.terminal {
            bar.enable_steady_tick(REDRAW_EVERY);
        }
        Task { bar, what: what.to_owned(), total_bytes, done_bytes: AtomicU64::new(0), plain }
    }
}

impl Task {
    /// So many bytes more are done.
    pub fn more(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.with(0);
    }

    /// So many bytes are under way, beyond those that are done.
    pub fn with(&self, bytes: u64) {
        let bytes = self.done_bytes.load(Ordering::Relaxed) + bytes;
        self.bar.set_position(bytes);
        let so_far = self.total_bytes.map(|total| format!("{} of {}", size(bytes), size(total)));
        self.log(&so_far.unwrap_or_else(|| size(bytes)));
    }

    /// It is at `what` now.
    pub fn doing(&self, what: &str) {
        self.bar.set_message(format!("{}: {what}", self.what));
        self.log(what);
    }

    fn log(&self, news: &str) {
        let Some(plain) = &self.plain else { return };
        let mut plain = plain.lock().expect("printing a line does not panic");
        if plain.said.elapsed() >= LOG_EVERY {
            plain.said = Instant::now();
            eprintln!("  {}: {news} ({})", self.what, took(plain.begun.elapsed()));
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A number of bytes for people: `999 B`, `12.3 MB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A time for people: `0.3 s`, `74 s`, `2 min 5 s`.
pub fn took(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..100 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_said_in_units_that_a_person_reads() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(12_345_678), "12.3 MB");
        assert_eq!(size(8_589_934_592), "8.59 GB");
        assert_eq!(took(Duration::from_millis(340)), "0.3 s");
        assert_eq!(took(Duration::from_secs(125)), "2 min 5 s");
    }
}
