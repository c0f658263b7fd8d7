//! Content as a `data:` URL, in the shortest of three ways.

use std::io::Write;

use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::{Compression, write::GzEncoder};

/// What gzip makes of nothing, in bytes.
const GZIP_LEAST: usize = 20;

/// A URL with the content in it, and whether that was packed with gzip on the way: only done where
/// the content is not `packed` already.
pub fn data_url(content: &[u8], packed: bool) -> (String, bool) {
    let escaped: usize = content.iter().map(|byte| if is_plain(*byte) { 1 } else { 3 }).sum();
    let base64 = ";base64".len() + content.len().div_ceil(3) * 4;
    let least = escaped.min(base64);
    // The frame of gzip alone is longer than a short text: most are not even tried.
    if !packed && least > ";base64".len() + GZIP_LEAST.div_ceil(3) * 4 + "gzip".len() {
        let gzip = gzip(content);
        // The name of the packing takes room in the document, too.
        if ";base64".len() + gzip.len().div_ceil(3) * 4 + "gzip".len() < least {
            return (format!("data:;base64,{}", BASE64_STANDARD.encode(gzip)), true);
        }
    }
    if base64 < escaped {
        return (format!("data:;base64,{}", BASE64_STANDARD.encode(content)), false);
    }
    let mut url = String::with_capacity("data:,".len() + escaped);
    url.push_str("data:,");
    for byte in content {
        match is_plain(*byte) {
            true => url.push(char::from(*byte)),
            false => url.push_str(&format!("%{byte:02X}")),
        }
    }
    (url, false)
}

/// Those that RFC 2396 calls unreserved.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.expect("memory takes what it is given")
}
