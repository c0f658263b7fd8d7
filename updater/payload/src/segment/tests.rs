use std::io::Write;

use super::*;
use crate::release::{Range, SEGMENT_BYTES, Segment};

/// A segment that ends in `tail`, behind bytes that zstd cannot shorten.
fn content(tail: &[u8]) -> Vec<u8> {
    let mut state = 1u64;
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(100_000)
    .collect();
    bytes.extend_from_slice(tail);
    bytes
}

fn patch(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::with_ref_prefix(Vec::new(), 3, old).unwrap();
    encoder.write_all(new).unwrap();
    encoder.finish().unwrap()
}

fn object(bytes: &[u8]) -> Object {
    Object { sha256: Digest::of(bytes), size_bytes: bytes.len() as u64 }
}

/// An image of one segment, `new`, with a full form, a patch against `old`, and a copy of it.
fn image(old: &[u8], new: &[u8]) -> (Image, Vec<u8>, Vec<u8>) {
    let (full, patch) = (zstd::encode_all(new, 3).unwrap(), patch(old, new));
    let range = Range { source: 0, offset_bytes: 0, length_bytes: old.len() as u64 };
    let forms = vec![
        Form::Full { object: object(&full) },
        Form::Patch { range, object: object(&patch) },
        Form::Copy { source: 0, offset_bytes: 0 },
    ];
    let segments = vec![Segment { sha256: Digest::of(new), forms }];
    (Image { size_bytes: new.len() as u64, segments }, full, patch)
}

#[test]
fn every_form_gives_the_same_segment() {
    let (old, new) = (content(b"old"), content(b"new"));
    let (image, full, patch) = image(&old, &new);
    assert!(patch.len() < 100, "{} bytes", patch.len());
    let choices = image.choices(0, Some(0));
    let [copy, by_patch, whole] = &choices[..] else { panic!("{choices:?}") };
    assert_eq!(make(&image, 0, by_patch, &patch, &old).as_ref(), Ok(&new));
    assert_eq!(make(&image, 0, whole, &full, &[]).as_ref(), Ok(&new));
    assert_eq!(make(&image, 0, copy, &[], &new).as_ref(), Ok(&new));
    // A running image that is not what the publisher saw.
    assert!(matches!(make(&image, 0, copy, &[], &old), Err(Error::Segment { .. })));
    let mut damaged = old.clone();
    damaged[1000] ^= 1;
    let made = make(&image, 0, by_patch, &patch, &damaged);
    assert!(matches!(made, Err(Error::Segment { .. } | Error::Unpack(_))));
    assert_eq!(
        make(&image, 0, by_patch, &patch, &old[1..]),
        Err(Error::Source { expected: 100_003, found: 100_002 })
    );
}

#[test]
fn an_object_is_refused_before_it_is_unpacked_if_any_byte_differs() {
    let (image, full, _) = image(b"old", b"new");
    let choices = image.choices(0, None);
    for at in 0..full.len() {
        let mut flipped = full.clone();
        flipped[at] ^= 1;
        let made = make(&image, 0, &choices[0], &flipped, &[]);
        assert!(matches!(made, Err(Error::Object { .. })), "byte {at}: {made:?}");
        let made = make(&image, 0, &choices[0], &full[..at], &[]);
        assert!(matches!(made, Err(Error::Object { .. })), "cut at {at}: {made:?}");
    }
}

#[test]
fn a_frame_that_unpacks_to_more_than_a_segment_is_refused() {
    let bomb = zstd::encode_all(&vec![0; 2 * SEGMENT_BYTES as usize][..], 3).unwrap();
    let forms = vec![Form::Full { object: object(&bomb) }];
    let segments = vec![Segment { sha256: Digest::of(b""), forms }];
    let image = Image { size_bytes: SEGMENT_BYTES, segments };
    let made = make(&image, 0, &image.choices(0, None)[0], &bomb, &[]);
    assert_eq!(made, Err(Error::Unpack("Destination buffer is too small")));
}
