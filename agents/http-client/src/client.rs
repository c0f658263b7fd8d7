//! HTTP as the rest of us sees it: a question, an answer, and its content as a stream.
//!
//! It is our own because of what the known clients do not do: a plain proxy asked plainly (and not
//! by CONNECT, which most forbid for port 80), headers that are dropped on redirection, and name
//! servers that only DHCP knows. One connection for each question: few are asked.

use std::{
    io::{self, BufReader, Read},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    connection::{self, HANDSHAKE, Patience, Pipe},
    names::Names,
    proxy::Proxies,
    trust::Trust,
    url::{Url, unescape},
    wire::{self, Content, Headers},
};

const REDIRECTIONS: u32 = 10;
const HEADERS: Duration = Duration::from_secs(10);
const STALL: Duration = Duration::from_secs(30);

/// Somebody who can ask.
#[derive(Clone, Debug)]
pub struct Client {
    /// Who knows the addresses of names.
    pub names: Names,
    /// Whom to go through.
    pub proxies: Proxies,
    /// Who is trusted by TLS.
    pub trust: Trust,
    /// How long to wait for the headers of an answer.
    pub headers: Duration,
    /// A server that sends nothing for so long in the middle of the content is gone.
    pub stall: Duration,
}

/// A question.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `HEAD`, `PUT` or `POST`.
    pub method: &'static str,
    /// Where.
    pub url: Url,
    /// With what.
    pub headers: Headers,
    /// What a `PUT` or `POST` brings along.
    pub content: Vec<u8>,
}

/// An answer; the content is yet to be read.
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// What the server says of it.
    pub reason: String,
    /// What it says before the content.
    pub headers: Headers,
    /// The content: an end that came too early is an error.
    pub content: Box<dyn Read + Send>,
}

impl Request {
    /// Gets what is there.
    pub fn get(url: Url) -> Self {
        Self { method: "GET", url, headers: Headers::default(), content: Vec::new() }
    }

    /// With a header, in the place of all of its name.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.set(name, value);
        self
    }
}

impl Client {
    /// One that asks directly, trusts whom the image trusts, and has the usual patience.
    pub fn new(names: Names) -> Self {
        let (proxies, trust) = (Proxies::default(), Trust::image());
        Self { names, proxies, trust, headers: HEADERS, stall: STALL }
    }

    /// Asks, and goes where it is sent: the headers of the question are for who was asked, not for
    /// whom he names, so that only `plain` ones go along.
    pub fn follow(&self, request: &Request, plain: &Headers, end: Instant) -> io::Result<Answer> {
        let mut request = request.clone();
        for _ in 0..=REDIRECTIONS {
            let answer = self.ask(&request, end)?;
            let location = match answer.status {
                301 | 302 | 303 | 307 | 308 => answer.headers.get("location"),
                _ => None,
            };
            let Some(location) = location.filter(|_| request.method == "GET") else {
                return Ok(answer);
            };
            let url = request.url.join(location).ok();
            let known = |url: &Url| url.scheme == "http" || url.scheme == "https";
            request.url = url.filter(known).ok_or_else(|| {
                let why = format!("it sends us to `{location}`, which is not http or https");
                io::Error::new(io::ErrorKind::InvalidInput, why)
            })?;
            request.headers = plain.clone();
        }
        let why = format!("it sends us from one address to the next, {REDIRECTIONS} times");
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// Asks once.
    pub fn ask(&self, request: &Request, end: Instant) -> io::Result<Answer> {
        let Request { method, url, headers, content } = request;
        let patience = Patience::new(end);
        let mut headers = headers.clone();
        let mut target = url.target.clone();
        let mut pipe = match self.proxies.for_url(url) {
            None => connection::tcp(url, &self.names, &patience, end)?,
            Some(proxy) => {
                let pipe = self.reach(proxy, &patience, end)?;
                if url.scheme == "https" {
                    tunnel(pipe, proxy, url, &patience, end)?
                } else {
                    target = format!("http://{}{}", url.authority(), url.target);
                    if let Some(word) = authorization(proxy) {
                        headers.set("Proxy-Authorization", &word);
                    }
                    pipe
                }
            }
        };
        if url.scheme == "https" {
            pipe = connection::tls(pipe, &url.host, &self.trust, &patience, end)?;
        }
        if let (Some(word), None) = (authorization(url), headers.get("authorization")) {
            headers.set("Authorization", &word);
        }
        patience.whole("headers of an answer", self.headers, end);
        wire::write_request(&mut pipe, method, &target, &url.authority(), &headers, content)?;
        let mut from = BufReader::new(pipe);
        let head = wire::read_head(&mut from)?;
        let length = head.length(method)?;
        patience.each("more of the content", self.stall, end);
        Ok(Answer {
            status: head.status,
            reason: head.reason,
            headers: head.headers,
            content: Box::new(Content::new(from, length)),
        })
    }

    fn reach(&self, proxy: &Url, patience: &Patience, end: Instant) -> io::Result<Box<dyn Pipe>> {
        let explain = |error: io::Error| {
            io::Error::new(error.kind(), format!("the proxy {}: {error}", proxy.authority()))
        };
        let pipe = connection::tcp(proxy, &self.names, patience, end).map_err(explain)?;
        match proxy.scheme.as_str() {
            "https" => connection::tls(pipe, &proxy.host, &self.trust, patience, end),
            _ => Ok(pipe),
        }
    }
}

/// Asks a proxy for a connection to somebody else.
fn tunnel(
    mut pipe: Box<dyn Pipe>,
    proxy: &Url,
    to: &Url,
    patience: &Patience,
    end: Instant,
) -> io::Result<Box<dyn Pipe>> {
    let mut place = to.clone();
    place.port = Some(to.port());
    let place = place.authority();
    let mut headers = Headers::default();
    if let Some(word) = authorization(proxy) {
        headers.set("Proxy-Authorization", &word);
    }
    patience.whole("answer of the proxy", HANDSHAKE, end);
    wire::write_request(&mut pipe, "CONNECT", &place, &place, &headers, &[])?;
    // Byte by byte: what follows the headers is not ours to read.
    let mut from = BufReader::with_capacity(1, pipe);
    let head = wire::read_head(&mut from)?;
    if !(200..300).contains(&head.status) {
        let proxy = proxy.authority();
        let why = format!("the proxy {proxy} does not connect: {} {}", head.status, head.reason);
        return Err(io::Error::other(why));
    }
    Ok(from.into_inner())
}

fn authorization(url: &Url) -> Option<String> {
    let (user, word) = url.user.split_once(':').unwrap_or((&url.user, ""));
    let both = format!("{}:{}", unescape(user), unescape(word));
    (!url.user.is_empty()).then(|| format!("Basic {}", STANDARD.encode(both)))
}
