//! The thread that sends reports, one after the other. When many wait, the newest are not taken:
//! whoever could be reached would know them by the next one.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use http_client::{Client, Names, Proxies, Url, Wall};

use super::say;
use crate::report;

const WAITING: usize = 16;

/// Something to send, and what to do once it was taken.
struct Letter {
    url: Url,
    proxies: Proxies,
    text: String,
    taken: Box<dyn FnOnce() + Send>,
}

/// Whoever has something to report.
#[derive(Default)]
pub(super) struct Reports {
    /// Nobody listens before there is something to say.
    letters: Option<SyncSender<Letter>>,
}

impl Reports {
    /// Sends a text when its turn comes, and calls `taken` if it was taken.
    pub(super) fn send(
        &mut self,
        url: &Url,
        proxies: &Proxies,
        text: String,
        taken: impl FnOnce() + Send + 'static,
    ) {
        let (url, proxies) = (url.clone(), proxies.clone());
        let letter = Letter { url, proxies, text, taken: Box::new(taken) };
        let letters = self.letters.get_or_insert_with(|| {
            let (letters, waiting) = sync_channel(WAITING);
            std::thread::spawn(move || deliver(&waiting));
            letters
        });
        match letters.try_send(letter) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                say("a report is not sent: too many wait");
            }
        }
    }
}

fn deliver(letters: &Receiver<Letter>) {
    while let Ok(Letter { url, proxies, text, taken }) = letters.recv() {
        let client = Client { proxies, ..Client::new(Names::System) };
        match report::send(&client, &url, &text, &Wall) {
            Ok(()) => taken(),
            // The address may have a name and a password in it.
            Err(error) => say(&format!("reporting to {}: {error}", url.host)),
        }
    }
}
