//! TFTP (RFC 1350), for reading: each block is acknowledged before the next one comes. Without
//! options, which half of the servers do not know.

use std::{
    io::{self, Read},
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use http_client::url::{Url, unescape};

const BLOCK_BYTES: usize = 512;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const SILENCES: u32 = 6;

/// A transfer, without the socket.
#[derive(Debug)]
struct Transfer {
    /// The number of the block that is to come.
    next: u16,
    /// What is sent again when nothing comes.
    sent: Vec<u8>,
    silences: u32,
}

/// What happens to a transfer.
enum Event<'a> {
    Packet(&'a [u8]),
    Silence,
}

/// What a transfer wants.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Send what is to be sent (again), and wait.
    Send,
    /// Wait on.
    Wait,
    /// Take these bytes and send the acknowledgement.
    Take { bytes: Vec<u8>, last: bool },
    /// The server has no such file.
    NotFound(String),
    /// There is no hope.
    Failed(String),
}

impl Transfer {
    fn new(file: &str) -> Self {
        let mut sent = vec![0, 1];
        sent.extend(file.as_bytes());
        sent.extend(b"\0octet\0");
        Self { next: 1, sent, silences: 0 }
    }

    fn step(&mut self, event: Event<'_>) -> Step {
        let packet = match event {
            Event::Packet(packet) => packet,
            Event::Silence => {
                self.silences += 1;
                return match self.silences < SILENCES {
                    true => Step::Send,
                    false => Step::Failed(format!("no answer to {SILENCES} requests")),
                };
            }
        };
        match packet {
            [0, 3, high, low, data @ ..] if data.len() <= BLOCK_BYTES => {
                let number = u16::from_be_bytes([*high, *low]);
                if number == self.next.wrapping_sub(1) {
                    // Our acknowledgement was lost. But only the server's own timer may repeat:
                    // answering each copy would double all that follows.
                    return Step::Wait;
                }
                if number != self.next {
                    return Step::Wait;
                }
                self.next = number.wrapping_add(1);
                self.sent = vec![0, 4, *high, *low];
                self.silences = 0;
                Step::Take { bytes: data.to_vec(), last: data.len() < BLOCK_BYTES }
            }
            [0, 5, high, low, message @ ..] => {
                let message = message.split(|&byte| byte == 0).next().unwrap_or_default();
                let message = String::from_utf8_lossy(message);
                let code = u16::from_be_bytes([*high, *low]);
                let text = format!("the server says {code}: {message}");
                if code == 1 { Step::NotFound(text) } else { Step::Failed(text) }
            }
            _ => Step::Wait,
        }
    }
}

/// A file that is being read from a server.
pub(super) struct File {
    socket: UdpSocket,
    server: SocketAddr,
    /// Each transfer has a port of its own, which the server chooses.
    port_chosen: bool,
    transfer: Transfer,
    wait: Duration,
    end: Instant,
    ready: Vec<u8>,
    read: usize,
    last: bool,
}

impl File {
    /// Asks for a file, and waits until it begins to come.
    pub(super) fn open(url: &Url, server: SocketAddr, end: Instant) -> io::Result<Self> {
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let file = unescape(url.path().trim_start_matches('/'));
        if file.contains('\0') {
            let why = "a file has no zero byte in its name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut file = Self {
            socket: UdpSocket::bind(any)?,
            server,
            port_chosen: false,
            transfer: Transfer::new(&file),
            wait: FIRST_WAIT,
            end,
            ready: Vec::new(),
            read: 0,
            last: false,
        };
        file.send()?;
        file.next()?;
        Ok(file)
    }

    fn send(&self) -> io::Result<()> {
        self.socket.send_to(&self.transfer.sent, self.server).map(drop)
    }

    fn next(&mut self) -> io::Result<()> {
        let mut buffer = [0; 2048];
        self.wait = FIRST_WAIT;
        let mut until = Instant::now() + self.wait;
        loop {
            let now = Instant::now();
            if now >= self.end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let left = until.min(self.end).saturating_duration_since(now);
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let step = match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) if self.is_server(from) => {
                    self.transfer.step(Event::Packet(&buffer[..length]))
                }
                Ok(_) => Step::Wait,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait *= 2;
                    until = Instant::now() + self.wait;
                    self.transfer.step(Event::Silence)
                }
                Err(error) => return Err(error),
            };
            match step {
                Step::Wait => {}
                Step::Send => self.send()?,
                Step::Take { bytes, last } => {
                    (self.ready, self.read, self.last) = (bytes, 0, last);
                    return self.send();
                }
                Step::NotFound(why) => return Err(io::Error::new(io::ErrorKind::NotFound, why)),
                Step::Failed(why) => return Err(io::Error::other(why)),
            }
        }
    }

    fn is_server(&mut self, from: SocketAddr) -> bool {
        if from.ip() != self.server.ip() {
            return false;
        }
        if !self.port_chosen {
            self.server.set_port(from.port());
            self.port_chosen = true;
        }
        from.port() == self.server.port()
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.ready.len() {
            if self.last {
                return Ok(0);
            }
            self.next()?;
        }
        let count = (self.ready.len() - self.read).min(buffer.len());
        buffer[..count].copy_from_slice(&self.ready[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(number: u16, length: usize) -> Vec<u8> {
        let mut packet = vec![0, 3];
        packet.extend(number.to_be_bytes());
        packet.resize(4 + length, b'x');
        packet
    }

    #[test]
    fn blocks_are_taken_in_order_and_the_short_one_is_the_last() {
        let mut transfer = Transfer::new("a");
        assert_eq!(transfer.sent, b"\0\x01a\0octet\0");
        let step = transfer.step(Event::Packet(&data(1, 512)));
        assert_eq!(step, Step::Take { bytes: vec![b'x'; 512], last: false });
        assert_eq!(transfer.sent, [0, 4, 0, 1]);
        assert_eq!(transfer.step(Event::Packet(&data(1, 512))), Step::Wait);
        assert_eq!(transfer.step(Event::Packet(&data(3, 512))), Step::Wait);
        assert_eq!(transfer.step(Event::Packet(&[])), Step::Wait);
        let step = transfer.step(Event::Packet(&data(2, 0)));
        assert_eq!(step, Step::Take { bytes: Vec::new(), last: true });
    }

    #[test]
    fn numbers_of_blocks_go_round() {
        let mut transfer = Transfer::new("a");
        transfer.next = 0xffff;
        transfer.step(Event::Packet(&data(0xffff, 512)));
        let step = transfer.step(Event::Packet(&data(0, 1)));
        assert_eq!(step, Step::Take { bytes: vec![b'x'], last: true });
    }

    #[test]
    fn silence_is_answered_by_asking_again_and_at_last_by_giving_up() {
        let mut transfer = Transfer::new("a");
        for _ in 1..SILENCES {
            assert_eq!(transfer.step(Event::Silence), Step::Send);
        }
        let step = transfer.step(Event::Silence);
        assert_eq!(step, Step::Failed("no answer to 6 requests".to_owned()));
    }

    #[test]
    fn what_the_server_says_is_passed_on() {
        let mut transfer = Transfer::new("a");
        let step = transfer.step(Event::Packet(b"\0\x05\0\x01none\0"));
        assert_eq!(step, Step::NotFound("the server says 1: none".to_owned()));
        let step = transfer.step(Event::Packet(b"\0\x05\0\x02no"));
        assert_eq!(step, Step::Failed("the server says 2: no".to_owned()));
    }
}
