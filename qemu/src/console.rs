//! The serial console of a machine: everything it ever said, kept in memory and in serial.log, and
//! a way to type.

use std::{
    fmt::Write as _,
    fs::File,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Doing, Error},
    interrupt,
};

/// Lines shown when something went wrong.
const TAIL_LINES: usize = 30;

/// A serial console.
pub struct Console {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// All bytes, as they came.
    said: Vec<u8>,
    /// Where what nobody has waited for yet starts.
    cursor: usize,
    to: Option<UnixStream>,
    closed: bool,
}

impl Console {
    /// Listens on a socket that QEMU connects to, and keeps the log at `log`.
    pub(crate) fn listen(socket: &Path, log: &Path) -> Result<Self, Error> {
        let listener = UnixListener::bind(socket)
            .doing(|| format!("making the socket of the console {}", socket.display()))?;
        let log = File::create(log).doing(|| format!("making {}", log.display()))?;
        let shared =
            Arc::new(Shared { state: Mutex::new(State::default()), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                theirs.listen(stream, log);
            }
            theirs.lock().closed = true;
            theirs.changed.notify_all();
        });
        Ok(Self { shared })
    }

    /// Waits until the machine says `text`, from where the last wait ended on.
    pub fn wait_for(&self, text: &str, limit: Duration) -> Result<(), Error> {
        self.wait_for_any(&[text], limit).map(|_| ())
    }

    /// Waits for the first of several texts and says which it was.
    pub fn wait_for_any(&self, texts: &[&str], limit: Duration) -> Result<usize, Error> {
        let start = Instant::now();
        let what = || format!("waiting for `{}` on the serial console", texts.join("` or `"));
        let mut state = self.shared.lock();
        loop {
            let fresh = &state.said[state.cursor..];
            let found = texts.iter().enumerate().filter_map(|(number, text)| {
                let at = find(fresh, text.as_bytes())?;
                Some((at + text.len(), number))
            });
            if let Some((end, number)) = found.min() {
                state.cursor += end;
                return Ok(number);
            }
            if state.closed {
                return Err(Error::Broke(format!("{}: QEMU is gone", what())));
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(Error::TimedOut { what: what(), limit });
            }
            interrupt::check()?;
            let nap = left.min(Duration::from_millis(250));
            state = self.shared.changed.wait_timeout(state, nap).expect("no panic").0;
        }
    }

    /// Whether it said `text` after its first `mark` bytes.
    pub fn has_said_since(&self, mark: usize, text: &str) -> bool {
        find(&self.shared.lock().said[mark..], text.as_bytes()).is_some()
    }

    /// How many bytes it said so far.
    pub fn length(&self) -> usize {
        self.shared.lock().said.len()
    }

    /// Everything it said so far.
    pub fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().said).into_owned()
    }

    /// Types.
    pub fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let to = match &self.shared.lock().to {
            Some(to) => to.try_clone().doing(|| "reaching the console".into())?,
            None => return Err(Error::Broke("the console is not connected yet".into())),
        };
        (&to).write_all(bytes).doing(|| "typing on the console".into())
    }

    /// Types a line.
    pub fn write_line(&self, line: &str) -> Result<(), Error> {
        self.write(format!("{line}\r").as_bytes())
    }

    /// The bytes after `from`, once there are some. None: there will be no more.
    pub fn follow(&self, from: usize, limit: Duration) -> Option<Vec<u8>> {
        let state = self.shared.lock();
        let waiting = |state: &mut State| state.said.len() <= from && !state.closed;
        let (state, _) =
            self.shared.changed.wait_timeout_while(state, limit, waiting).expect("no panic");
        match state.said.len() <= from && state.closed {
            true => None,
            false => Some(state.said[from..].to_vec()),
        }
    }

    /// The end of what it said, readable, indented.
    pub fn tail(&self) -> String {
        tail(&self.transcript())
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }

    fn listen(&self, mut stream: UnixStream, mut log: File) {
        self.lock().to = stream.try_clone().ok();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            // A full disk must not stop the machine; the transcript is in memory too.
            let _ = log.write_all(&buffer[..length]);
            self.lock().said.extend_from_slice(&buffer[..length]);
            self.changed.notify_all();
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn tail(transcript: &str) -> String {
    let plain = without_escapes(transcript);
    let lines: Vec<&str> =
        plain.split(['\n', '\r']).map(str::trim_end).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return "  its serial console said nothing".into();
    }
    let mut text = String::from("  the end of its serial console:");
    for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
        let _ = write!(text, "\n  | {line}");
    }
    text
}

/// Without the control sequences by which a firmware paints its screen.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\x1b' {
            if !c.is_control() || c == '\n' || c == '\r' {
                plain.push(c);
            }
            continue;
        }
        match rest.next() {
            // CSI ends at its first letter.
            Some('[') => while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
            // OSC ends with BEL or with ESC \.
            Some(']') => while rest.next().is_some_and(|c| c != '\x07' && c != '\x1b') {},
            Some(_) | None => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const BOUND: Duration = Duration::from_secs(5);

    fn connected() -> (tempfile::TempDir, Console, UnixStream) {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("serial.sock");
        let console =
            Console::listen(&socket, &folder.path().join("serial.log")).expect("a console");
        let machine = UnixStream::connect(socket).expect("it listens");
        (folder, console, machine)
    }

    #[test]
    fn a_wait_goes_on_where_the_last_one_ended() {
        let (_folder, console, mut machine) = connected();
        machine.write_all(b"login: \r\nlog").expect("a socket");
        console.wait_for("login:", BOUND).expect("said before");
        console.wait_for("login:", SOON).expect_err("said only once");
        machine.write_all(b"in: ").expect("a socket");
        console.wait_for("login:", BOUND).expect("said in two pieces");
    }

    #[test]
    fn the_first_of_several_texts_wins_whatever_their_order() {
        let (_folder, console, mut machine) = connected();
        machine.write_all(b"could not start; login:").expect("a socket");
        assert_eq!(console.wait_for_any(&["login:", "could not"], BOUND).expect("both"), 1);
    }

    #[test]
    fn a_machine_that_is_gone_ends_the_wait_at_once() {
        let (_folder, console, machine) = connected();
        drop(machine);
        let error = console.wait_for("login:", Duration::from_secs(600)).expect_err("gone");
        assert!(error.to_string().contains("login:"), "{error}");
    }

    #[test]
    fn what_is_said_is_in_the_log_and_what_is_typed_arrives() {
        let (folder, console, mut machine) = connected();
        machine.write_all(b"hello\r\n").expect("a socket");
        console.wait_for("hello", BOUND).expect("said");
        console.write_line("id").expect("connected");
        let mut typed = [0; 3];
        machine.read_exact(&mut typed).expect("typed");
        assert_eq!(&typed, b"id\r");
        let log = std::fs::read(folder.path().join("serial.log")).expect("a log");
        assert_eq!(log, b"hello\r\n");
    }

    #[test]
    fn the_tail_is_readable() {
        let said =
            "\x1b[2J\x1b[01;01HBdsDxe: starting\r\n\x1b]0;title\x07\x1b[0;32m[  OK  ]\x1b[0m x\r\n";
        assert_eq!(
            tail(said),
            "  the end of its serial console:\n  | BdsDxe: starting\n  | [  OK  ] x"
        );
        assert_eq!(tail("\x1b[2J\r\n"), "  its serial console said nothing");
        assert_eq!(tail(&"line\n".repeat(1000)).lines().count(), TAIL_LINES + 1);
    }
}
