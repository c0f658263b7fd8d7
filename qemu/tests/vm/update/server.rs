//! Static files over HTTP on loopback, and who asked for which.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use anyhow::{Context, Result};

/// A server of a folder, for as long as the tests run.
#[derive(Clone)]
pub(crate) struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A file that was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) bytes: usize,
}

impl Server {
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listening on loopback")?;
        let port = listener.local_addr()?.port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (folder, log) = (folder.to_owned(), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, log) = (folder.clone(), log.clone());
                // Whoever hangs up in the middle is no concern of ours.
                thread::spawn(move || drop(answer(&stream, &folder, &log)));
            }
        });
        Ok(Self { port, asked })
    }

    /// Its address, as a machine on QEMU's own network sees it.
    pub(crate) fn url(&self) -> String {
        format!("http://10.0.2.2:{}", self.port)
    }

    /// What was sent since the last time that somebody looked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().expect("no panic under the lock"))
    }
}

fn answer(stream: &TcpStream, folder: &Path, log: &Mutex<Vec<Asked>>) -> Result<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let Some(request) = lines.next().transpose()? else { return Ok(()) };
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let is_plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let found = if is_plain { fs::read(PathBuf::from(folder).join(&path)).ok() } else { None };
        let (status, body) = match &found {
            Some(body) => ("200 OK", body.as_slice()),
            None => ("404 Not Found", &b""[..]),
        };
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len())?;
        stream.write_all(body)?;
        let bytes = body.len();
        log.lock().expect("no panic under the lock").push(Asked { path, bytes });
    }
}
