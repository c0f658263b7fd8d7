//! Objects that a server exchanges, lengthens or leaves out.

use payload::{
    Digest,
    release::{Form, Image, Object, Segment},
    segment::{Error, make},
};

fn object(bytes: &[u8]) -> Object {
    Object { sha256: Digest::of(bytes), size_bytes: bytes.len() as u64 }
}

/// An image of two segments, and their objects.
fn image() -> (Image, [Vec<u8>; 2]) {
    let parts = [vec![1; 4 << 20], vec![2; 4096]];
    let objects = [0, 1].map(|part: usize| zstd::encode_all(&parts[part][..], 3).unwrap());
    let segments = parts.iter().zip(&objects).map(|(part, frame)| Segment {
        sha256: Digest::of(part),
        forms: vec![Form::Full { object: object(frame) }],
    });
    (Image { size_bytes: (4 << 20) + 4096, segments: segments.collect() }, objects)
}

#[test]
fn swapped_segments_are_refused() {
    let (image, objects) = image();
    for (index, other) in [(0, 1), (1, 0)] {
        let choice = image.choices(index, None)[0];
        assert!(make(&image, index, &choice, &objects[index], &[]).is_ok());
        let made = make(&image, index, &choice, &objects[other], &[]);
        assert!(matches!(made, Err(Error::Object { .. })));
    }
}

#[test]
fn an_object_with_more_behind_it_is_refused() {
    let (image, objects) = image();
    let mut longer = objects[0].clone();
    longer.push(0);
    let made = make(&image, 0, &image.choices(0, None)[0], &longer, &[]);
    assert!(matches!(made, Err(Error::Object { .. })));
}

#[test]
fn a_signed_object_of_the_wrong_segment_is_refused_by_the_segment_s_own_hash() {
    // The publisher erred: the object is what was signed, and its content is not.
    let (mut image, objects) = image();
    image.segments[0].forms = image.segments[1].forms.clone();
    let made = make(&image, 0, &image.choices(0, None)[0], &objects[1], &[]);
    assert!(matches!(made, Err(Error::Segment { .. })));
}
