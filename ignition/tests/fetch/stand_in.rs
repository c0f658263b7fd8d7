//! Servers that stand in for those of the world: on loopback, one request at a time, each answer
//! written by the test.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET /path`, without the version.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        let found = headers.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }
}

/// A server, until the test ends.
pub(crate) struct StandIn {
    pub(crate) address: std::net::SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl StandIn {
    /// Starts one. What `answer` returns is sent as it is; nothing hangs up without an answer.
    pub(crate) fn new(answer: impl FnMut(usize, &Asked) -> String + Send + 'static) -> Self {
        Self::over(answer, |stream| Some(Box::new(stream)))
    }

    /// Starts one that speaks over what `wrap` makes of each connection.
    pub(crate) fn over(
        mut answer: impl FnMut(usize, &Asked) -> String + Send + 'static,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn ReadWrite>> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let Some(mut stream) = wrap(stream) else { continue };
                let Some(request) = read_request(&mut stream) else { continue };
                let count = {
                    let mut log = log.lock().unwrap();
                    log.push(request.clone());
                    log.len()
                };
                let bytes = answer(count, &request);
                let _ = stream.write_all(bytes.as_bytes());
                let _ = stream.flush();
            }
        });
        Self { address, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The lines of what was asked so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

pub(crate) trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

fn read_request(stream: &mut Box<dyn ReadWrite>) -> Option<Asked> {
    let mut from = BufReader::with_capacity(1, stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut lines = lines.into_iter();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let pair = |line: String| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_owned(), value.to_owned()))
    };
    Some(Asked { line, headers: lines.filter_map(pair).collect() })
}

/// A good answer.
pub(crate) fn ok(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

/// An answer without content.
pub(crate) fn status(code: u16) -> String {
    format!("HTTP/1.1 {code} So\r\nContent-Length: 0\r\n\r\n")
}

/// An answer that sends elsewhere.
pub(crate) fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
}
