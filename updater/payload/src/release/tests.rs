use super::*;

fn object(of: u8, size_bytes: u64) -> Object {
    Object { sha256: Digest([of; 32]), size_bytes }
}

/// A release of two segments of `/usr` and one of the UKI, with one source.
pub(crate) fn example() -> Release {
    let range = |offset_bytes| Range { source: 0, offset_bytes, length_bytes: SOURCE_MAX_BYTES };
    Release {
        format: FORMAT,
        id: "pithos".into(),
        version: "0.2.0".parse().unwrap(),
        variant: Variant { flavor: "cloud".into(), architecture: "x86_64".into() },
        security_epoch: 1,
        built: "2026-11-21T09:30:00Z".parse().unwrap(),
        usr: Usr {
            root_hash: RootHash([1; 32]),
            verity: Verity { salt: [2; 32], uuid: Uuid::from_u128(3), size_bytes: 45056 },
            image: Image {
                size_bytes: SEGMENT_BYTES + 4096,
                segments: vec![
                    Segment {
                        sha256: Digest([4; 32]),
                        forms: vec![
                            Form::Full { object: object(5, 1000) },
                            Form::Patch { range: range(0), object: object(6, 100) },
                        ],
                    },
                    Segment {
                        sha256: Digest([7; 32]),
                        forms: vec![
                            Form::Full { object: object(8, 50) },
                            Form::Copy { source: 0, offset_bytes: 8192 },
                        ],
                    },
                ],
            },
        },
        uki: Uki {
            sha256: Digest([9; 32]),
            image: Image {
                size_bytes: 10,
                segments: vec![Segment {
                    sha256: Digest([9; 32]),
                    forms: vec![Form::Full { object: object(10, 19) }],
                }],
            },
        },
        sources: vec![Source {
            version: "0.1.0".parse().unwrap(),
            usr_root_hash: RootHash([11; 32]),
            usr_size_bytes: SOURCE_MAX_BYTES,
            uki_sha256: Digest([12; 32]),
            uki_size_bytes: 10,
        }],
        rebuilders: None,
    }
}

#[test]
fn what_is_written_is_read() {
    let release = example();
    assert_eq!(Release::parse(release.text().as_bytes()).unwrap(), release);
}

#[test]
fn a_machine_that_runs_a_source_fetches_patches_and_others_fetch_all() {
    let release = example();
    let running = |usr, uki| Running { usr, uki };
    assert_eq!(release.fetch_bytes(&running(None, None)), 1000 + 50 + 19);
    let source = Some(RootHash([11; 32]));
    assert_eq!(release.fetch_bytes(&running(source, None)), 100 + 19);
    // The kernel is there already.
    assert_eq!(release.fetch_bytes(&running(source, Some(Digest([9; 32])))), 100);
}

#[test]
fn the_last_choice_needs_nothing_of_the_machine() {
    let release = example();
    for index in 0..2 {
        for source in [None, Some(0), Some(7)] {
            let choices = release.usr.image.choices(index, source);
            assert!(matches!(choices.last().unwrap().form, Form::Full { .. }));
            assert_eq!(choices.len(), if source == Some(0) { 2 } else { 1 });
        }
    }
}

#[test]
fn a_patch_that_is_dearer_than_the_whole_is_no_choice() {
    let mut release = example();
    release.usr.image.segments[0].forms[0] = Form::Full { object: object(5, 99) };
    assert_eq!(release.usr.image.choices(0, Some(0)).len(), 1);
}

#[test]
fn a_form_of_a_later_version_is_passed_over() {
    let text = example().text().replace("\"form\":\"patch\"", "\"form\":\"brotli\"");
    let release = Release::parse(text.as_bytes()).unwrap();
    assert_eq!(release.usr.image.segments[0].forms[1], Form::Later);
    assert_eq!(release.usr.image.choices(0, Some(0)).len(), 1);
}

#[test]
fn another_format_is_refused_before_its_fields() {
    assert_eq!(
        Release::parse(b"{\"format\": 2}").unwrap_err().to_string(),
        "the release description is of format 2, and this version reads format 1: install the \
         releases in between first"
    );
}

/// What is said of the example after `change`.
fn said(change: impl FnOnce(&mut Release)) -> String {
    let mut release = example();
    change(&mut release);
    match Release::parse(release.text().as_bytes()).unwrap_err() {
        Error::Wrong { source, .. } => source.to_string(),
        other => panic!("{other}"),
    }
}

#[test]
fn what_would_need_more_memory_or_leave_its_bounds_is_refused() {
    let patch = |length_bytes, offset_bytes| {
        said(|release| {
            let range = Range { source: 0, offset_bytes, length_bytes };
            release.usr.image.segments[0].forms[1] = Form::Patch { range, object: object(1, 1) };
        })
    };
    assert_eq!(
        patch(SOURCE_MAX_BYTES + 1, 0),
        "usr segment 0: a patch against 8388609 bytes, expected 1 to 8388608"
    );
    assert_eq!(
        patch(10, u64::MAX),
        "usr segment 0: 10 bytes at 18446744073709551615 of a source of 8388608 bytes"
    );
    assert_eq!(
        said(|release| release.uki.image.segments[0].forms[0] =
            Form::Full { object: object(1, 5 << 20) }),
        "uki segment 0: an object of 5242880 bytes, expected 1 to 4259840"
    );
    assert_eq!(said(|release| release.sources.clear()), "usr segment 0: source 0 of a list of 0");
    assert_eq!(
        said(|release| release.usr.image.size_bytes += SEGMENT_BYTES),
        "usr: 2 segments, expected 3 for 8392704 bytes"
    );
    assert_eq!(
        said(|release| release.usr.image.segments[1].forms.truncate(0)),
        "usr segment 1: no full form to fall back on"
    );
}

#[test]
fn names_that_are_not_safe_in_a_path_are_refused() {
    assert_eq!(
        said(|release| release.variant.flavor = "../x".into()),
        "flavor: `../x`, expected 1 to 32 characters of a-z 0-9 _"
    );
    let object = object(0xab, 1);
    assert!(object.path().starts_with("objects/ab/abab"));
}
