//! HTTP/1.1 on the wire, as far as a client needs it that asks one question and hangs up.

use std::io::{self, BufRead, Read, Write};

/// A server that sends more before the content is not one of ours.
const HEAD_BYTES: u64 = 64 * 1024;

/// What a server says before the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Headers,
}

/// Headers, in order. Names are compared without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

/// How long the content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// So many bytes.
    Known(u64),
    /// In chunks that say how long they are.
    Chunked,
    /// Until the server hangs up; nobody can tell whether it was all.
    UntilClosed,
}

impl Headers {
    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Puts a value in the place of all that had its name.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.0.push((name.to_owned(), value.to_owned()));
    }
}

/// Writes a request.
pub(crate) fn write_request(
    to: &mut dyn Write,
    method: &str,
    target: &str,
    host: &str,
    headers: &Headers,
    content: &[u8],
) -> io::Result<()> {
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    // Who sets a host of his own means it.
    if headers.get("host").is_none() {
        text.push_str(&format!("Host: {host}\r\n"));
    }
    for (name, value) in &headers.0 {
        if !is_token(name) || value.contains(['\r', '\n', '\0']) {
            let why = format!("the header {name:?} cannot be sent");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if matches!(method, "PUT" | "POST") {
        text.push_str(&format!("Content-Length: {}\r\n", content.len()));
    }
    if method != "CONNECT" {
        text.push_str("Connection: close\r\n");
    }
    text.push_str("\r\n");
    to.write_all(text.as_bytes())?;
    to.write_all(content)?;
    to.flush()
}

/// Reads what comes before the content, and skips provisional answers.
pub(crate) fn read_head(from: &mut dyn BufRead) -> io::Result<Head> {
    let mut left = HEAD_BYTES;
    loop {
        let head = read_one_head(from, &mut left)?;
        if head.status >= 200 || head.status == 101 {
            return Ok(head);
        }
    }
}

fn read_one_head(from: &mut dyn BufRead, left: &mut u64) -> io::Result<Head> {
    let first = read_line(from, left)?;
    let mut words = first.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|status| status.parse().ok());
    let Some(status) = status.filter(|_| version.starts_with("HTTP/1.")) else {
        return Err(nonsense(format!("`{}` instead of a status", cut(&first))));
    };
    let reason = words.next().unwrap_or_default().to_owned();
    let mut headers = Vec::<(String, String)>::new();
    loop {
        let line = read_line(from, left)?;
        if line.is_empty() {
            return Ok(Head { status, reason, headers: Headers(headers) });
        }
        match (line.split_once(':'), headers.last_mut()) {
            (_, Some((_, value))) if line.starts_with([' ', '\t']) => {
                value.push(' ');
                value.push_str(line.trim());
            }
            (Some((name, value)), _) if is_token(name) => {
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
            _ => return Err(nonsense(format!("`{}` instead of a header", cut(&line)))),
        }
    }
}

fn read_line(from: &mut dyn BufRead, left: &mut u64) -> io::Result<String> {
    let mut line = Vec::new();
    let count = from.take(*left).read_until(b'\n', &mut line)?;
    *left -= count as u64;
    if line.pop() != Some(b'\n') {
        return Err(match *left {
            0 => nonsense(format!("more than {HEAD_BYTES} bytes of headers")),
            _ => io::ErrorKind::UnexpectedEof.into(),
        });
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

impl Head {
    /// How long the content is that follows.
    pub(crate) fn length(&self, method: &str) -> io::Result<Length> {
        if method == "HEAD" || matches!(self.status, 204 | 304) {
            return Ok(Length::Known(0));
        }
        if let Some(coding) = self.headers.get("transfer-encoding") {
            return match coding.eq_ignore_ascii_case("chunked") {
                true => Ok(Length::Chunked),
                false => Err(nonsense(format!("the transfer encoding `{}`", cut(coding)))),
            };
        }
        match self.headers.get("content-length") {
            None => Ok(Length::UntilClosed),
            Some(text) => match text.parse() {
                Ok(bytes) => Ok(Length::Known(bytes)),
                Err(_) => Err(nonsense(format!("the length `{}`", cut(text)))),
            },
        }
    }
}

/// The content of an answer. Its end is told from a connection that broke.
pub(crate) struct Content<R> {
    from: R,
    left: Left,
}

enum Left {
    /// Of all, or of a chunk.
    Bytes {
        count: u64,
        chunked: bool,
    },
    /// The next line says how long the next chunk is.
    Chunk {
        first: bool,
    },
    Close,
    Nothing,
}

impl<R: BufRead> Content<R> {
    pub(crate) fn new(from: R, length: Length) -> Self {
        let left = match length {
            Length::Known(count) => Left::Bytes { count, chunked: false },
            Length::Chunked => Left::Chunk { first: true },
            Length::UntilClosed => Left::Close,
        };
        Self { from, left }
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<Left> {
        let mut room = HEAD_BYTES;
        if !first && !read_line(&mut self.from, &mut room)?.is_empty() {
            return Err(nonsense("a chunk that does not end where it said".to_owned()));
        }
        let line = read_line(&mut self.from, &mut room)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let plain = size.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u64::from_str_radix(size, 16) {
            Ok(0) => {
                while !read_line(&mut self.from, &mut room)?.is_empty() {}
                Ok(Left::Nothing)
            }
            Ok(count) if plain => Ok(Left::Bytes { count, chunked: true }),
            _ => Err(nonsense(format!("a chunk of `{}` bytes", cut(size)))),
        }
    }
}

impl<R: BufRead> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.left {
                Left::Nothing => return Ok(0),
                Left::Close => return self.from.read(buffer),
                Left::Chunk { first } => self.left = self.next_chunk(first)?,
                Left::Bytes { count: 0, chunked: true } => self.left = Left::Chunk { first: false },
                Left::Bytes { count: 0, chunked: false } => self.left = Left::Nothing,
                Left::Bytes { count, chunked } => {
                    let room = usize::try_from(count).unwrap_or(usize::MAX).min(buffer.len());
                    let read = self.from.read(&mut buffer[..room])?;
                    if read == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.left = Left::Bytes { count: count - read as u64, chunked };
                    return Ok(read);
                }
            }
        }
    }
}

fn is_token(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(plain)
}

fn nonsense(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}

fn cut(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { '.' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn read(mut bytes: &[u8]) -> io::Result<(u16, String)> {
        let head = read_head(&mut bytes)?;
        let length = head.length("GET")?;
        let mut text = String::new();
        Content::new(bytes, length).read_to_string(&mut text)?;
        Ok((head.status, text))
    }

    fn check(bytes: &str, expect: Expect) {
        expect.assert_eq(&match read(bytes.as_bytes()) {
            Ok((status, text)) => format!("{status} {text:?}"),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn a_request_is_a_few_lines() {
        let mut bytes = Vec::new();
        let mut headers = Headers(vec![("Accept".to_owned(), "*/*".to_owned())]);
        write_request(&mut bytes, "PUT", "/a", "host", &headers, &[]).unwrap();
        expect![[r#"
            PUT /a HTTP/1.1
            Host: host
            Accept: */*
            Content-Length: 0
            Connection: close

        "#]]
        .assert_eq(&String::from_utf8(bytes).unwrap().replace('\r', ""));
        headers.set("X", "a\r\nY: b");
        let error = write_request(&mut Vec::new(), "GET", "/", "host", &headers, &[]).unwrap_err();
        assert_eq!(error.to_string(), "the header \"X\" cannot be sent");
    }

    #[test]
    fn the_content_ends_where_the_server_said() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", expect![[r#"200 "ab""#]]);
        check("HTTP/1.0 200 OK\n\nabc", expect![[r#"200 "abc""#]]);
        check("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", expect![[r#"204 """#]]);
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n\
             3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nrest",
            expect![[r#"200 "abc0123456789""#]],
        );
    }

    #[test]
    fn a_broken_connection_is_not_an_end() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", expect!["unexpected end of file"]);
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            expect!["unexpected end of file"],
        );
        check("HTTP/1.1 200 OK\r\nA: b\r\n", expect!["unexpected end of file"]);
    }

    #[test]
    fn what_is_not_http_is_shown() {
        check(
            "SSH-2.0-OpenSSH\r\n",
            expect!["the server sent `SSH-2.0-OpenSSH` instead of a status"],
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
            expect!["the server sent the length `-4`"],
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            expect!["the server sent a chunk of `x` bytes"],
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            expect!["the server sent a chunk that does not end where it said"],
        );
        let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n", "b".repeat(70_000));
        check(&long, expect!["the server sent more than 65536 bytes of headers"]);
    }

    proptest! {
        #[test]
        fn no_answer_breaks_the_reader(bytes: Vec<u8>, chunks in "[0-9a-fA-F\\r\\n;: x]*") {
            let _ = read(&bytes);
            let _ = read(format!("HTTP/1.1 200 OK\r\n{chunks}").as_bytes());
            let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            let _ = read(text.as_bytes());
        }
    }
}
