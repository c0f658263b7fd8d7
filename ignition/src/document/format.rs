//! Which kind of document a text is, told from the text alone.

use std::io::Read;

use super::{Mark, Report, Sources, butane, cloudconfig, json, yaml};

/// More than this is no document (uncompressed, bytes).
const MAX_BYTES: u64 = 64 << 20;

/// A kind of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Ignition JSON.
    Ignition,
    /// Butane YAML.
    Butane,
    /// CoreOS cloud-config, a script, or several of them in one MIME message.
    CloudConfig,
}

/// Why bytes are no text at all.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not what its first bytes say.
    #[error("it starts as {compression}, but cannot be unpacked: {source}")]
    Unpack {
        /// `gzip` or `zstd`.
        compression: &'static str,
        /// What the unpacking says.
        source: std::io::Error,
    },
    /// It would fill the memory.
    #[error("more than {} MiB are no document; large files can be fetched: `source`", MAX_BYTES >> 20)]
    TooLarge,
}

/// Unpacks a document that was packed with gzip or zstd; others are as they are.
pub fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let unpacked = |compression, reader: &mut dyn Read| {
        let mut unpacked = Vec::new();
        match reader.take(MAX_BYTES + 1).read_to_end(&mut unpacked) {
            Ok(_) if unpacked.len() as u64 > MAX_BYTES => Err(Unreadable::TooLarge),
            Ok(_) => Ok(unpacked),
            Err(source) => Err(Unreadable::Unpack { compression, source }),
        }
    };
    match bytes {
        [0x1f, 0x8b, ..] => unpacked("gzip", &mut flate2::read::MultiGzDecoder::new(bytes)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let wrong = |error: ruzstd::decoding::errors::FrameDecoderError| Unreadable::Unpack {
                compression: "zstd",
                source: std::io::Error::other(error),
            };
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(wrong)?;
            unpacked("zstd", &mut decoder)
        }
        _ if bytes.len() as u64 > MAX_BYTES => Err(Unreadable::TooLarge),
        _ => Ok(bytes.to_vec()),
    }
}

/// The text of a document, and its kind.
pub(super) fn text_of(
    name: &str,
    bytes: &[u8],
    sources: &mut Sources,
) -> Result<(Format, u32), Report> {
    let mut report = Report::default();
    let bytes = unpack(bytes).map_err(|unreadable| {
        let source = sources.add(name, "");
        let mut report = Report::default();
        report.error_at("$", Mark { source, offset: 0 }, unreadable.to_string());
        report
    })?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let source = sources.add(name, text);
            let offset = u32::try_from(valid).unwrap_or(u32::MAX);
            let message = "this is not text: a byte that UTF-8 cannot have";
            report.error_at("$", Mark { source, offset }, message).hint("save it as UTF-8");
            return Err(report);
        }
    };
    // Some editors begin with a mark that says that this is UTF-8.
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    let empty = text.trim().is_empty();
    let is_cloud_config = cloudconfig::is_cloud_config(&text)
        || cloudconfig::is_script(&text)
        || cloudconfig::is_multipart(&text);
    let format = match is_cloud_config {
        true => Format::CloudConfig,
        false if is_ignition(&text) => Format::Ignition,
        false => Format::Butane,
    };
    let source = sources.add(name, text);
    if empty {
        report.error_at("$", Mark { source, offset: 0 }, "the document is empty");
        return Err(report);
    }
    Ok((format, source))
}

/// Butane is YAML, in which maps may be written with braces, too; it has a `variant`.
fn is_ignition(text: &str) -> bool {
    if !text.trim_start().starts_with('{') {
        return false;
    }
    // Parsing it is half of all the work.
    if !text.contains("variant") {
        return true;
    }
    match json::parse(text, 0) {
        Ok(node) => !butane::is_butane(&node),
        // What is wrong is said of it as JSON, unless it is YAML.
        Err(_) => !yaml::parse(text, 0).is_ok_and(|node| butane::is_butane(&node)),
    }
}
