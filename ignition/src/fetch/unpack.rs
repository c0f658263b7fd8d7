//! From what a server gives to what the document means: unpacked, and with the hash that it wants.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use sha2::{Digest, Sha256, Sha512};

use super::{FetchError, Shown};
use crate::document::config::Resource;

/// How much is read at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// How far back zstd may refer: what every level but `--ultra` and `--long` keeps to.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// How a resource is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The hash that a document wants.
#[derive(Clone, PartialEq, Eq)]
struct Wanted {
    hash: Hash,
    hex: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha512,
}

/// What a resource must go through, known before anything is asked for: a document that wants a
/// hash that nobody can compute fails without a byte of traffic.
#[derive(Clone)]
pub(super) struct Unpacking {
    url: Shown,
    compression: Compression,
    wanted: Option<Wanted>,
}

impl Unpacking {
    pub(super) fn of(resource: &Resource, url: Shown) -> Result<Self, FetchError> {
        let compression = match resource.compression.as_deref() {
            None | Some("") => Compression::None,
            Some("gzip") => Compression::Gzip,
            Some("zstd") => Compression::Zstd,
            Some(other) => {
                return Err(FetchError::Unpack {
                    url,
                    compression: other.to_owned(),
                    source: io::Error::other("known are gzip and zstd"),
                });
            }
        };
        let wanted = match resource.verification.hash.as_deref() {
            None => None,
            Some(text) => Some(Wanted::parse(text).map_err(|why| FetchError::HashUnknown {
                url: url.clone(),
                hash: text.to_owned(),
                why,
            })?),
        };
        Ok(Self { url, compression, wanted })
    }

    /// Writes what `from` is when it is unpacked. The hash is compared last.
    pub(super) fn pour(&self, from: &mut dyn Read, to: &mut dyn Write) -> Result<u64, FetchError> {
        let mut from = BufReader::with_capacity(CHUNK_BYTES, from);
        match self.compression {
            Compression::None => self.copy(&mut from, to),
            Compression::Gzip => self.copy(&mut MultiGzDecoder::new(from), to),
            Compression::Zstd => self.copy(&mut Zstd::new(from), to),
        }
    }

    fn copy(&self, from: &mut dyn Read, to: &mut dyn Write) -> Result<u64, FetchError> {
        let mut digest = self.wanted.as_ref().map(|wanted| wanted.hash.start());
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut total = 0;
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.unreadable(error)),
            };
            let chunk = &buffer[..count];
            if let Some(digest) = &mut digest {
                digest.update(chunk);
            }
            let written = to.write_all(chunk);
            written.map_err(|source| FetchError::Write { url: self.url.clone(), source })?;
            total += count as u64;
        }
        let (Some(wanted), Some(digest)) = (&self.wanted, digest) else { return Ok(total) };
        let found = digest.finish();
        if found != wanted.hex {
            let named = |hex| format!("{}-{hex}", wanted.hash);
            return Err(FetchError::Hash {
                url: self.url.clone(),
                wanted: named(&wanted.hex),
                found: named(&found),
            });
        }
        Ok(total)
    }

    /// What the source itself says travels inside of an I/O error; anything else comes from the
    /// unpacking.
    fn unreadable(&self, error: io::Error) -> FetchError {
        let error = match error.downcast::<FetchError>() {
            Ok(inner) => return inner,
            Err(error) => error,
        };
        let url = self.url.clone();
        let compression = match self.compression {
            Compression::None => return FetchError::Failed { url, source: error.into() },
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        FetchError::Unpack { url, compression: compression.to_owned(), source: error }
    }
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, hex) = text.split_once('-').ok_or("it is not of the form sha512-HEX")?;
        let (hash, length) = match name {
            "sha256" => (Hash::Sha256, 64),
            "sha512" => (Hash::Sha512, 128),
            _ => return Err("known are sha256 and sha512"),
        };
        if hex.len() != length || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("sha256 has 64 hexadecimal digits, sha512 has 128");
        }
        Ok(Self { hash, hex: hex.to_ascii_lowercase() })
    }
}

/// A hash in the making.
enum Running {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hash {
    fn start(self) -> Running {
        match self {
            Self::Sha256 => Running::Sha256(Sha256::new()),
            Self::Sha512 => Running::Sha512(Sha512::new()),
        }
    }
}

impl Running {
    fn update(&mut self, chunk: &[u8]) {
        match self {
            Self::Sha256(digest) => digest.update(chunk),
            Self::Sha512(digest) => digest.update(chunk),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Sha256(digest) => hex(&digest.finalize()),
            Self::Sha512(digest) => hex(&digest.finalize()),
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        })
    }
}

/// Bytes as small hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One or more zstd frames, one behind the other, as `zstd` and `pzstd` write them.
enum Zstd<R: Read> {
    Between(R),
    Inside(Box<StreamingDecoder<R, FrameDecoder>>),
    Done,
}

impl<R: Read> Zstd<R> {
    fn new(from: R) -> Self {
        Self::Between(from)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(self, Self::Done) {
                Self::Done => return Ok(0),
                Self::Between(mut from) => {
                    if from.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    let decoder = StreamingDecoder::new_with_max_window_size(from, WINDOW_BYTES)
                        .map_err(io::Error::other)?;
                    *self = Self::Inside(Box::new(decoder));
                }
                Self::Inside(mut decoder) => match decoder.read(buffer)? {
                    0 => *self = Self::Between(decoder.into_inner()),
                    count => {
                        *self = Self::Inside(decoder);
                        return Ok(count);
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use flate2::{Compression as Level, write::GzEncoder};

    use super::*;
    use crate::document::config::Verification;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn pour(compression: &str, hash: Option<String>, bytes: &[u8]) -> Result<String, FetchError> {
        let resource = Resource {
            compression: Some(compression.to_owned()),
            verification: Verification { hash },
            ..Resource::default()
        };
        let mut out = Vec::new();
        let unpacking = Unpacking::of(&resource, Shown::new("http://host/a"))?;
        unpacking.pour(&mut &*bytes, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn refused(compression: &str, hash: Option<&str>, bytes: &[u8], expect: Expect) {
        let error = pour(compression, hash.map(str::to_owned), bytes).unwrap_err();
        expect.assert_eq(&error.to_string());
    }

    #[test]
    fn the_hash_is_of_what_is_unpacked() {
        let sha256 = || Some(format!("sha256-{}", hex(&Sha256::digest("hello"))));
        let sha512 = || Some(format!("sha512-{}", hex(&Sha512::digest("hello")).to_uppercase()));
        assert_eq!(pour("", sha512(), b"hello").unwrap(), "hello");
        assert_eq!(pour("gzip", sha512(), &gzip(b"hello")).unwrap(), "hello");
        assert_eq!(pour("zstd", sha256(), &zstd(b"hello")).unwrap(), "hello");
    }

    #[test]
    fn packed_parts_one_behind_the_other_are_one_text() {
        assert_eq!(pour("gzip", None, &[gzip(b"a"), gzip(b"b")].concat()).unwrap(), "ab");
        assert_eq!(pour("zstd", None, &[zstd(b"a"), zstd(b"b")].concat()).unwrap(), "ab");
        assert_eq!(pour("zstd", None, b"").unwrap(), "");
    }

    #[test]
    fn a_wrong_hash_names_both() {
        let wanted = format!("sha256-{}", "0".repeat(64));
        refused(
            "",
            Some(&wanted),
            b"",
            expect![
                "http://host/a has the hash sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, and the document wants sha256-0000000000000000000000000000000000000000000000000000000000000000: one of them is wrong"
            ],
        );
    }

    #[test]
    fn a_hash_that_nobody_can_compute_is_refused_first() {
        refused(
            "",
            Some("md5-0"),
            b"",
            expect![
                "the hash `md5-0` of http://host/a cannot be checked: known are sha256 and sha512"
            ],
        );
        refused(
            "",
            Some("sha256-zz"),
            b"",
            expect![
                "the hash `sha256-zz` of http://host/a cannot be checked: sha256 has 64 hexadecimal digits, sha512 has 128"
            ],
        );
    }

    #[test]
    fn what_is_not_packed_as_it_should_is_refused() {
        refused("xz", None, b"", expect!["unpacking http://host/a as `xz`"]);
        refused("gzip", None, b"hello", expect!["unpacking http://host/a as `gzip`"]);
        refused("zstd", None, b"hello", expect!["unpacking http://host/a as `zstd`"]);
        let cut = gzip(b"hello");
        refused("gzip", None, &cut[..cut.len() - 4], expect!["unpacking http://host/a as `gzip`"]);
    }
}
