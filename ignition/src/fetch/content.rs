//! The content of an answer that may come in several tries.

use std::io::{self, Read};

use http_client::Answer;

use super::{FetchError, Shown};
use crate::journal::Journal;

/// How often a connection may break in the middle of the content.
const BREAKS: u32 = 8;

/// The content of an answer, which goes on after the connection broke: the same is asked for again,
/// and what we have of it already is skipped.
pub(super) struct Content<'c> {
    answer: Answer,
    reopen: &'c dyn Fn() -> Result<Answer, FetchError>,
    offset: u64,
    breaks: u32,
    shown: &'c Shown,
    journal: &'c dyn Journal,
}

impl<'c> Content<'c> {
    pub(super) fn new(
        answer: Answer,
        reopen: &'c dyn Fn() -> Result<Answer, FetchError>,
        shown: &'c Shown,
        journal: &'c dyn Journal,
    ) -> Self {
        Self { answer, reopen, offset: 0, breaks: 0, shown, journal }
    }

    fn reopen(&mut self, why: &io::Error) -> io::Result<()> {
        let (shown, offset) = (self.shown, self.offset);
        self.journal.say(&format!("fetching {shown}: broken after {offset} bytes: {why}"));
        let new = (self.reopen)().map_err(io::Error::other)?;
        for name in ["content-length", "etag", "last-modified"] {
            if new.headers.get(name) != self.answer.headers.get(name) {
                let why = format!("it changed between two tries (its {name} is another)");
                return Err(io::Error::other(FetchError::Refused { url: shown.clone(), why }));
            }
        }
        self.answer = new;
        let mut skipped = self.answer.content.by_ref().take(self.offset);
        match io::copy(&mut skipped, &mut io::sink())? {
            bytes if bytes == offset => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut error = match self.answer.content.read(buffer) {
            Ok(count) => {
                self.offset += count as u64;
                return Ok(count);
            }
            Err(error) => error,
        };
        while self.breaks < BREAKS {
            self.breaks += 1;
            match self.reopen(&error) {
                Ok(()) => return self.read(buffer),
                Err(final_one) if is_ours(&final_one) => return Err(final_one),
                Err(next) => error = next,
            }
        }
        Err(error)
    }
}

fn is_ours(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<FetchError>())
}
