//! What happens while it happens, a line each: to the console and the log of the machine, or into a
//! list in tests. What a function returns as an error it does not say here, too.

use std::sync::Mutex;

/// Somebody who is told.
pub trait Journal: Sync {
    /// Takes a line, without its end.
    fn say(&self, line: &str);

    /// The same of something that keeps whoever looks at the machine waiting: why it takes so long.
    fn delay(&self, line: &str) {
        self.say(line);
    }
}

/// Forgets everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Journal for Silent {
    fn say(&self, _: &str) {}
}

/// Keeps everything, to be looked at later.
#[derive(Debug, Default)]
pub struct Lines(Mutex<Vec<String>>);

impl Lines {
    /// Takes what was said so far.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("nobody panics with the lock"))
    }
}

impl Journal for Lines {
    fn say(&self, line: &str) {
        self.0.lock().expect("nobody panics with the lock").push(line.to_owned());
    }
}
