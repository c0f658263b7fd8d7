//! Putting a segment together out of what was fetched and what the machine has.
//!
//! Both ends are verified: the object before zstd sees a byte of it, and the segment before anybody
//! else does. Memory is bounded by the format: the range of the source (8 MiB at most), the segment
//! (4 MiB), the object.

use zstd::zstd_safe::{DCtx, get_error_name};

use crate::{
    Digest,
    release::{Choice, Form, Image, Object},
};

/// Why a segment could not be put together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// What was fetched is not what was signed.
    #[error(
        "the object {} is not what was signed: expected {} bytes, got {found_bytes} bytes with \
         SHA-256 {found}", expected.sha256, expected.size_bytes
    )]
    Object {
        /// What was signed.
        expected: Object,
        /// Length of what came.
        found_bytes: u64,
        /// Hash of what came.
        found: Digest,
    },
    /// zstd refused.
    #[error("unpacking a segment: {0}")]
    Unpack(&'static str),
    /// The result is another one than was signed: the source is damaged, or the publisher erred.
    #[error("the segment is not what was signed: expected SHA-256 {expected}, made {found}")]
    Segment {
        /// What was signed.
        expected: Digest,
        /// What came out.
        found: Digest,
    },
    /// The range of the source was not read whole.
    #[error("{found} bytes of the running image, expected {expected}")]
    Source {
        /// What the form says.
        expected: u64,
        /// What was given.
        found: u64,
    },
}

/// Verifies an object.
pub fn verify(object: &Object, bytes: &[u8]) -> Result<(), Error> {
    let found_bytes = bytes.len() as u64;
    let found = Digest::of(bytes);
    if found_bytes == object.size_bytes && found == object.sha256 {
        return Ok(());
    }
    Err(Error::Object { expected: *object, found_bytes, found })
}

/// Puts segment `index` of `image` together by `choice` from what was fetched (nothing for a copy)
/// and from the range of the running image (nothing for a full segment).
pub fn make(
    image: &Image,
    index: usize,
    choice: &Choice<'_>,
    object: &[u8],
    source: &[u8],
) -> Result<Vec<u8>, Error> {
    if let Some(expected) = &choice.object {
        verify(expected, object)?;
    }
    let (expected, found) = (choice.source.map_or(0, |(_, length)| length), source.len() as u64);
    if expected != found {
        return Err(Error::Source { expected, found });
    }
    let length = usize::try_from(image.place(index).1).expect("a segment has 4 MiB at most");
    let made = match choice.form {
        Form::Full { .. } => unpack(object, &[], length)?,
        Form::Patch { .. } => unpack(object, source, length)?,
        Form::Copy { .. } => source.to_vec(),
        Form::Later => unreachable!("no choice is made of it"),
    };
    let (expected, found) = (image.segments[index].sha256, Digest::of(&made));
    if expected == found { Ok(made) } else { Err(Error::Segment { expected, found }) }
}

/// Unpacks one frame into at most `length` bytes, in one go: zstd needs no window of its own then.
fn unpack(frame: &[u8], prefix: &[u8], length: usize) -> Result<Vec<u8>, Error> {
    let mut context = DCtx::create();
    let refused = |code| Error::Unpack(get_error_name(code));
    context.ref_prefix(prefix).map_err(refused)?;
    let mut made = Vec::with_capacity(length);
    context.decompress(&mut made, frame).map_err(refused)?;
    Ok(made)
}

#[cfg(test)]
mod tests;
