//! One line per step into the kernel log, with the time that it took.

use std::{
    fs::OpenOptions,
    io::Write,
    sync::Mutex,
    time::{Duration, Instant},
};

/// The step that is running, for the report of a panic.
static STEP: Mutex<&str> = Mutex::new("start");

/// Times the steps of one boot.
pub(crate) struct Log {
    start: Instant,
}

impl Log {
    pub(crate) fn start() -> Self {
        write_line("start");
        Self { start: Instant::now() }
    }

    /// Runs a step; says what came of it and how long it took.
    pub(crate) fn step<T, E>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> Result<(T, String), E>,
    ) -> Result<T, E> {
        *STEP.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = name;
        let start = Instant::now();
        let (value, what) = work()?;
        write_line(&line(name, start.elapsed(), &what));
        Ok(value)
    }

    /// The last line.
    pub(crate) fn done(&self) {
        write_line(&format!("done in {} ms, starting systemd", self.start.elapsed().as_millis()));
    }
}

fn line(name: &str, took: Duration, what: &str) -> String {
    format!("{name}: {} ms ({what})", took.as_millis())
}

/// The step that is running.
pub(crate) fn current_step() -> &'static str {
    *STEP.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A line outside of any step.
pub(crate) fn write_line(text: &str) {
    write(6, text);
}

/// What keeps the machine waiting. As an error: the consoles show nothing below (`loglevel=4`).
pub(crate) fn delay(text: &str) {
    write(3, text);
}

fn write(level: u8, text: &str) {
    // Without /dev there is nowhere to say it; the failure that follows goes to the console.
    if let Ok(mut kmsg) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = kmsg.write_all(format!("<{level}>pithos-init: {text}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_step_time_and_what_came_of_it() {
        let said = line("mount /usr", Duration::from_micros(12_345), "erofs");
        assert_eq!(said, "mount /usr: 12 ms (erofs)");
    }
}
