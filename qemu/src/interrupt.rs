//! Ctrl-C and a polite kill: every wait ends, and what was made is taken away on the way out.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{SigSet, Signal};

use crate::error::{Doing, Error};

/// Signals that come within this are one.
const SAME_TIME: Duration = Duration::from_secs(1);

static ASKED: AtomicBool = AtomicBool::new(false);

/// Starts to listen for SIGINT, SIGTERM and SIGHUP. To be called before any thread is started: the
/// others inherit that these signals are not for them.
pub fn watch() -> Result<(), Error> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().doing(|| "blocking signals".into())?;
    thread::spawn(move || {
        let mut first: Option<Instant> = None;
        while signals.wait().is_ok() {
            ASKED.store(true, Ordering::SeqCst);
            // Later a second time: somebody means it. The machines die with us, their files stay.
            // At once a second time: only somebody who signals us and our whole group, as `timeout`
            // does.
            if first.get_or_insert_with(Instant::now).elapsed() > SAME_TIME {
                std::process::exit(130);
            }
        }
    });
    Ok(())
}

/// Whether somebody wants us to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// An error if somebody wants us to stop.
pub(crate) fn check() -> Result<(), Error> {
    if asked() { Err(Error::Broke("interrupted".into())) } else { Ok(()) }
}
