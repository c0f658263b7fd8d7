//! A network between machines, without privileges: a layer-2 switch inside this process.
//!
//! Each port is a unix socket that a machine's second network card is plugged into. The forwarding
//! is [`core`], which is pure; here are the sockets and the clock around it.
//!
//! ```text
//!   QEMU ──stream socket──▶ reader ─┐           ┌─▶ writer ──▶ QEMU
//!                                   ├─▶ core ───┤
//!   QEMU ──stream socket──▶ reader ─┘  (1 thread)└─▶ writer ──▶ QEMU
//! ```
//! A machine that reads nothing loses frames at its own port and disturbs no other.

use std::{
    io::Write,
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

pub mod cable;
pub mod core;
mod framing;

use cable::Cable;
use core::{Effect, Event, Port};

use crate::error::{Doing, Error};

/// Frames that wait for a machine to read them, before they are dropped.
const WAITING: usize = 1024;

/// A running switch. It stops when it is dropped.
pub struct Switch {
    inbox: Sender<Input>,
    ports: Mutex<Vec<(PathBuf, Cable)>>,
    folder: tempfile::TempDir,
    stopping: Arc<AtomicBool>,
    seed: u64,
}

/// What the thread of the switch is told.
enum Input {
    Port,
    Connected { port: Port, to: SyncSender<Vec<u8>> },
    Happened(Event),
    Stop,
}

impl Switch {
    /// Starts a switch. The seed decides which frames lossy cables lose.
    pub fn start(seed: u64) -> Result<Self, Error> {
        // Not in the build folder: the path of a unix socket has 107 bytes at most.
        let folder = tempfile::Builder::new()
            .prefix("pithos-switch-")
            .tempdir()
            .doing(|| "making a folder for the sockets of the switch".into())?;
        let (inbox, outbox) = mpsc::channel();
        thread::spawn(move || run(seed, &outbox));
        let stopping = Arc::new(AtomicBool::new(false));
        Ok(Self { inbox, ports: Mutex::default(), folder, stopping, seed })
    }

    /// What it was started with, to lose the same frames again.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A new port, and the socket to plug a machine into
    /// ([`Spec::plugged_into`](crate::Spec::plugged_into)).
    pub fn plug(&self) -> Result<(Port, PathBuf), Error> {
        let mut ports = self.ports.lock().expect("no panic under the lock");
        let port = ports.len();
        let path = self.folder.path().join(format!("port{port}.sock"));
        let listener = UnixListener::bind(&path)
            .doing(|| format!("making the socket {} of the switch", path.display()))?;
        ports.push((path.clone(), Cable::default()));
        let _ = self.inbox.send(Input::Port);
        let (inbox, stopping) = (self.inbox.clone(), Arc::clone(&self.stopping));
        thread::spawn(move || accept(port, &listener, &inbox, &stopping));
        Ok((port, path))
    }

    /// The cable of a port, as it is.
    pub fn cable(&self, port: Port) -> Cable {
        self.ports.lock().expect("no panic under the lock")[port].1
    }

    /// Changes the cable of a port, from the next frame on.
    pub fn set_cable(&self, port: Port, cable: Cable) {
        self.ports.lock().expect("no panic under the lock")[port].1 = cable;
        let _ = self.inbox.send(Input::Happened(Event::Cable { port, cable }));
    }

    /// Nothing gets through to the machine on this port or from it.
    pub fn cut(&self, port: Port) {
        self.set_cable(port, Cable { cut: true, ..self.cable(port) });
    }

    /// A new, perfect cable for this port.
    pub fn mend(&self, port: Port) {
        self.set_cable(port, Cable::default());
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = self.inbox.send(Input::Stop);
        for (path, _) in self.ports.lock().expect("no panic under the lock").iter() {
            let _ = UnixStream::connect(path); // Wakes the thread that waits for a machine.
        }
    }
}

/// The thread of a port: takes machines as they come and reads what they send.
fn accept(port: Port, listener: &UnixListener, inbox: &Sender<Input>, stopping: &AtomicBool) {
    let mut last: Option<UnixStream> = None;
    for machine in listener.incoming() {
        // A cable has one end: whoever was plugged in before is not any more.
        if let Some(last) = last.take() {
            let _ = last.shutdown(Shutdown::Both);
        }
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut from) = machine else { continue };
        let (Ok(mut to), Ok(kept)) = (from.try_clone(), from.try_clone()) else { continue };
        last = Some(kept);
        let (queue, frames) = mpsc::sync_channel::<Vec<u8>>(WAITING);
        let _ = inbox.send(Input::Connected { port, to: queue });
        thread::spawn(move || {
            for frame in frames {
                if framing::write(&mut to, &frame).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
        });
        let inbox = inbox.clone();
        thread::spawn(move || {
            while let Ok(Some(frame)) = framing::read(&mut from) {
                if inbox.send(Input::Happened(Event::Frame { from: port, frame })).is_err() {
                    return;
                }
            }
        });
    }
}

/// The thread of the switch.
fn run(seed: u64, outbox: &Receiver<Input>) {
    let start = Instant::now();
    let mut switch = core::Switch::new(seed);
    let mut machines: Vec<Option<SyncSender<Vec<u8>>>> = Vec::new();
    let mut wake: Option<Duration> = None;
    loop {
        let patience =
            wake.map_or(Duration::from_secs(3600), |at| at.saturating_sub(start.elapsed()));
        let event = match outbox.recv_timeout(patience) {
            Ok(Input::Happened(event)) => event,
            Err(RecvTimeoutError::Timeout) => Event::Tick,
            Ok(Input::Port) => {
                switch.plug();
                machines.push(None);
                continue;
            }
            Ok(Input::Connected { port, to }) => {
                machines[port] = Some(to);
                continue;
            }
            Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        };
        wake = None;
        for effect in switch.step(event, start.elapsed()) {
            match effect {
                Effect::WakeAt(at) => wake = Some(at),
                Effect::Deliver { to, frame } => {
                    if let Some(machine) = &machines[to] {
                        let _ = machine.try_send(frame); // Full or gone: a lost frame.
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(5);

    fn plug(switch: &Switch) -> (Port, UnixStream) {
        let (port, path) = switch.plug().expect("a port");
        let machine = UnixStream::connect(path).expect("the switch listens");
        machine.set_read_timeout(Some(BOUND)).expect("a time limit");
        (port, machine)
    }

    fn frame(to: u8, from: u8, text: &str) -> Vec<u8> {
        [&[2, 0, 0, 0, 0, to][..], &[2, 0, 0, 0, 0, from], &[8, 0], text.as_bytes()].concat()
    }

    /// Says `text` until the other hears it: sockets are plugged in asynchronously.
    fn reaches(from: &mut UnixStream, to: &mut UnixStream, text: &str) {
        to.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
        for _ in 0..100 {
            framing::write(from, &frame(2, 1, text)).expect("the switch reads");
            if let Ok(Some(heard)) = framing::read(to) {
                assert_eq!(heard, frame(2, 1, text));
                to.set_read_timeout(Some(BOUND)).expect("a time limit");
                return;
            }
        }
        panic!("`{text}` does not get across");
    }

    #[test]
    fn two_machines_on_sockets_hear_each_other_until_the_cable_is_cut() {
        let switch = Switch::start(1).expect("a switch");
        let ((_, mut one), (port, mut two)) = (plug(&switch), plug(&switch));
        reaches(&mut one, &mut two, "hello");
        switch.cut(port);
        framing::write(&mut one, &frame(2, 1, "lost")).expect("the switch reads");
        thread::sleep(Duration::from_millis(100));
        switch.mend(port);
        reaches(&mut one, &mut two, "again");
    }

    #[test]
    fn a_machine_that_comes_back_takes_the_place_of_the_old_one() {
        let switch = Switch::start(1).expect("a switch");
        let ((_, mut one), (_, two)) = (plug(&switch), plug(&switch));
        drop(two);
        let path = switch.ports.lock().expect("a lock")[1].0.clone();
        let mut again = UnixStream::connect(path).expect("the switch listens");
        reaches(&mut one, &mut again, "welcome back");
    }

    #[test]
    fn a_machine_that_reads_nothing_does_not_stop_the_others() {
        let switch = Switch::start(1).expect("a switch");
        let ((_, mut one), (_, mut two), (_, _deaf)) =
            (plug(&switch), plug(&switch), plug(&switch));
        let bulk = frame(9, 1, &"x".repeat(4000)); // Nobody has address 9: it goes to all.
        let count = 4 * WAITING;
        let reader = thread::spawn(move || {
            let mut heard = 0;
            while let Ok(Some(frame)) = framing::read(&mut two) {
                if frame.ends_with(b"end") {
                    return heard;
                }
                heard += 1;
            }
            panic!("the end does not come through after {heard} frames");
        });
        for _ in 0..count {
            framing::write(&mut one, &bulk).expect("the switch reads");
            thread::sleep(Duration::from_micros(20));
        }
        thread::sleep(Duration::from_millis(200));
        framing::write(&mut one, &frame(9, 1, "end")).expect("the switch reads");
        assert!(reader.join().expect("the reader") > WAITING);
    }

    #[test]
    fn the_sockets_go_with_the_switch() {
        let switch = Switch::start(1).expect("a switch");
        let (_, path) = switch.plug().expect("a port");
        drop(switch);
        assert!(!path.exists());
    }
}
