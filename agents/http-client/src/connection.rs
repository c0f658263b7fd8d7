//! Connections: by TCP, by TLS, through proxies, each wait with an end.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, SocketAddrV6, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{names::Names, trust::Trust, url::Url};

const CONNECT: Duration = Duration::from_secs(30);
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);

/// What bytes go through.
pub(crate) trait Pipe: Read + Write + Send {}

impl<T: Read + Write + Send> Pipe for T {}

/// What is waited for, and for how long at most.
#[derive(Clone, Debug)]
pub(crate) struct Patience(Arc<Mutex<Phase>>);

#[derive(Clone, Copy, Debug)]
struct Phase {
    what: &'static str,
    /// For each wait, if `end` is not earlier.
    each: Duration,
    end: Instant,
    seconds: u64,
}

impl Patience {
    pub(crate) fn new(end: Instant) -> Self {
        let phase = Phase { what: "connection", each: CONNECT, end, seconds: CONNECT.as_secs() };
        Self(Arc::new(Mutex::new(phase)))
    }

    /// Something must be there as a whole after `limit`.
    pub(crate) fn whole(&self, what: &'static str, limit: Duration, end: Instant) {
        let until = end.min(Instant::now() + limit);
        self.set(Phase { what, each: limit, end: until, seconds: limit.as_secs() });
    }

    /// Something must go on after `limit` each time.
    pub(crate) fn each(&self, what: &'static str, limit: Duration, end: Instant) {
        self.set(Phase { what, each: limit, end, seconds: limit.as_secs() });
    }

    fn set(&self, phase: Phase) {
        *self.0.lock().expect("nobody panics with the lock") = phase;
    }

    fn phase(&self) -> Phase {
        *self.0.lock().expect("nobody panics with the lock")
    }

    fn left(&self) -> io::Result<Duration> {
        let Phase { each, end, .. } = self.phase();
        let left = end.saturating_duration_since(Instant::now()).min(each);
        if left.is_zero() { Err(self.over()) } else { Ok(left) }
    }

    fn over(&self) -> io::Error {
        let Phase { what, seconds, end, each } = self.phase();
        let why = match Instant::now() < end || each.as_secs() == seconds && seconds > 0 {
            true => format!("no {what} within {seconds} s"),
            false => format!("no {what} in time"),
        };
        io::Error::new(io::ErrorKind::TimedOut, why)
    }
}

/// A socket whose waits end.
struct Timed {
    socket: TcpStream,
    patience: Patience,
}

impl Timed {
    fn explain(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.patience.over(),
            _ => error,
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.patience.left()?))?;
        self.socket.read(buffer).map_err(|error| self.explain(error))
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.patience.left()?))?;
        self.socket.write(buffer).map_err(|error| self.explain(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Connects to the host of an address, by the first of its addresses that answers.
pub(crate) fn tcp(
    url: &Url,
    names: &Names,
    patience: &Patience,
    end: Instant,
) -> io::Result<Box<dyn Pipe>> {
    let addresses = addresses(url, names, end.min(Instant::now() + CONNECT))?;
    let end = end.min(Instant::now() + CONNECT);
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", url.host));
    for (index, address) in addresses.iter().enumerate() {
        // Each gets its share of the time that is left: one that is silent must not take it all.
        let share = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let limit = end.saturating_duration_since(Instant::now()) / share;
        if limit.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, limit) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(Box::new(Timed { socket, patience: patience.clone() }));
            }
            Err(error) => {
                let why = format!("connecting to {address}: {error}");
                last = io::Error::new(error.kind(), why);
            }
        }
    }
    Err(last)
}

/// Puts TLS over a connection.
pub(crate) fn tls(
    pipe: Box<dyn Pipe>,
    host: &str,
    trust: &Trust,
    patience: &Patience,
    end: Instant,
) -> io::Result<Box<dyn Pipe>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(trust.config()?, name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, pipe);
    patience.whole("end of the TLS handshake", HANDSHAKE, end);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Box::new(stream))
}

/// Whether asking again cannot help: the certificate stays what it is.
pub fn is_final(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
        || error.kind() == io::ErrorKind::InvalidInput
}

/// The addresses of a host, with the port, in the order in which they should be tried.
pub fn addresses(url: &Url, names: &Names, end: Instant) -> io::Result<Vec<SocketAddr>> {
    let port = url.port();
    if let Some(address) = url.address() {
        return Ok(vec![(address, port).into()]);
    }
    // A link-local address is only good together with its link.
    if let Some((address, link)) = url.host.split_once('%') {
        let address = address.parse().map_err(io::Error::other)?;
        let index = match link.parse() {
            Ok(index) => index,
            Err(_) => link_index(link)?,
        };
        return Ok(vec![SocketAddrV6::new(address, port, 0, index).into()]);
    }
    let with_port = |address: IpAddr| SocketAddr::from((address, port));
    Ok(names.addresses(&url.host, end)?.into_iter().map(with_port).collect())
}

fn link_index(link: &str) -> io::Result<u32> {
    let index = nix::net::if_::if_nametoindex(link);
    index.map_err(|errno| io::Error::other(format!("the link {link}: {errno}")))
}
