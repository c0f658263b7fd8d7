//! A repository, a server that serves it, and somebody who asks.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp as Time};
use payload::{
    Channel,
    channel::{self, Entry, State},
    tuf::{
        Target,
        metadata::{Envelope, Meta, Snapshot, Targets, Timestamp},
    },
};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a repository, a state and a token.
pub(crate) struct Place(TempDir);

impl Place {
    /// Alpha has 1.0 and 1.1, stable has 1.0.
    pub(crate) fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        place.publish(&[("alpha", &["1.0", "1.1"]), ("stable", &["1.0"])]);
        fs::write(place.path("token"), TOKEN).unwrap();
        fs::set_permissions(place.path("token"), fs::Permissions::from_mode(0o600)).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file of the repository.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.path("repo").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Metadata as update-publish writes it, but for signatures: the server does not look at them.
    fn publish(&self, channels: &[(&str, &[&str])]) {
        let expires = Time::now() + SignedDuration::from_hours(24 * 7);
        let mut targets = BTreeMap::new();
        for (name, versions) in channels {
            let text = channel(name, versions).text();
            let target = Target::of(text.as_bytes());
            let path = Channel::target(name);
            self.put(&format!("targets/{}", target.location(&path, true)), text.as_bytes());
            targets.insert(path, target);
        }
        let targets = Envelope::of(&Targets { version: 1, expires, targets, delegations: None });
        let listed = |name: &str, envelope: &Envelope| {
            let meta = Meta::of(1, envelope.text().as_bytes());
            BTreeMap::from([(name.to_owned(), meta)])
        };
        let meta = listed("targets.json", &targets);
        let snapshot = Envelope::of(&Snapshot { version: 1, expires, meta });
        let meta = listed("snapshot.json", &snapshot);
        let timestamp = Envelope::of(&Timestamp { version: 1, expires, issued: None, meta });
        self.put("metadata/1.targets.json", targets.text().as_bytes());
        self.put("metadata/1.snapshot.json", snapshot.text().as_bytes());
        self.put("metadata/timestamp.json", timestamp.text().as_bytes());
    }

    /// Starts the server, with more words.
    pub(crate) fn serve(&self, more: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_update-server"))
            .args(["serve", "--listen", "127.0.0.1:0", "--operators", "127.0.0.1:0"])
            .arg("--state")
            .arg(self.path("state"))
            .args(more)
            .arg(self.path("repo"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |name: &str| -> SocketAddr {
            let line = lines.next().expect("the server says where it listens").unwrap();
            let url = line.strip_prefix(name).expect(&line);
            url.trim_start_matches(": http://").trim_end_matches('/').parse().unwrap()
        };
        let (machines, operators) = (address("machines"), address("operators"));
        Server { child, machines, operators }
    }

    /// With the token.
    pub(crate) fn serve_with_token(&self) -> Server {
        let token = self.path("token");
        self.serve(&["--token", token.to_str().unwrap()])
    }
}

pub(crate) fn channel(name: &str, versions: &[&str]) -> Channel {
    let entry = |version: &&str| Entry {
        version: version.parse().unwrap(),
        security_epoch: 0,
        variants: vec![],
        barrier: false,
        state: State::Open { waves: vec![] },
        countersignatures: vec![],
    };
    Channel {
        format: channel::FORMAT,
        name: name.to_owned(),
        releases: versions.iter().map(entry).collect(),
        downgrades: vec![],
        dead_ends: vec![],
    }
}

/// A server that runs.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) machines: SocketAddr,
    pub(crate) operators: SocketAddr,
}

impl Server {
    /// As a power cut would end it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A machine sends a request of Omaha.
    pub(crate) fn omaha(&self, request: &str) -> Answer {
        post(self.machines, "/v1/update/", &[("Content-Type", "text/xml")], request)
    }

    /// What scripts of operators read.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = get(self.operators, path, &[]);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

pub(crate) fn get(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(to, "GET", path, headers, "")
}

pub(crate) fn post(to: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    ask(to, "POST", path, headers, body)
}

pub(crate) fn ask(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let host = to.to_string();
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        text += &format!("Host: {host}\r\n");
    }
    headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    exchange(to, &format!("{text}\r\n{body}"))
}

/// Sends bytes as they are, and reads until the server ends.
pub(crate) fn exchange(to: SocketAddr, text: &str) -> Answer {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that has heard enough may close before all of it is sent.
    let _ = stream.write_all(text.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    answer(&bytes)
}

pub(crate) fn answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    Answer { status, headers: headers.collect(), body: bytes[end + 4..].to_vec() }
}

/// What a machine sends; `events` as XML.
pub(crate) fn request(machine: &str, version: &str, events: &str) -> String {
    format!(
        "<request protocol=\"3.0\"><app appid=\"{}\" version=\"{version}\" track=\"stable\" \
         board=\"cloud-x86_64\" machineid=\"{machine}\"><ping active=\"1\"/><updatecheck/>{events}\
         </app></request>",
        omaha::PITHOS
    )
}
