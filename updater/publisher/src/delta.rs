//! An image as segments, each in its forms: whole, and against each of the images before it.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use image::progress::Task;
use payload::{
    Digest,
    release::{Form, Image, Object, Range, SEGMENT_BYTES, SOURCE_MAX_BYTES, Segment},
};
use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

use crate::{
    matching::{Index, Proposal},
    objects::Objects,
};

/// Segments whole: nothing is before them, and the segment itself fits.
const FULL_WINDOW_LOG: u32 = 23;
/// A range and a segment: 12 MiB.
const PATCH_WINDOW_LOG: u32 = 24;
/// What ranges are compared at. With long matches it finds what is alike, in a hundredth of the time.
const TRIAL_LEVEL: i32 = 3;
/// A patch of that size is not worth trying harder.
const SMALL_BYTES: usize = 64 << 10;

/// How hard zstd tries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Levels {
    /// For whole segments.
    pub(crate) full: i32,
    /// For patches.
    pub(crate) patch: i32,
}

/// An earlier image.
pub(crate) struct Before {
    /// Its place among the sources of the release.
    pub(crate) source: usize,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

/// Segments whose whole form is in the repository already.
pub(crate) type Known = HashMap<Digest, Object>;

/// Makes all segments of `image`, and writes the objects that are not there yet.
pub(crate) fn make(
    image: &[u8],
    before: &[Before],
    known: &Known,
    levels: Levels,
    objects: &Objects,
    task: &Task,
) -> Result<Image> {
    let maker = Maker {
        before: before.iter().map(|image| (image.source, Index::new(&image.bytes))).collect(),
        known,
        levels,
        objects,
    };
    let parts: Vec<&[u8]> = image.chunks(SEGMENT_BYTES as usize).collect();
    let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(index) else { return Ok(()) };
            let segment = maker.segment(part, index as u64 * SEGMENT_BYTES)?;
            task.more(part.len() as u64);
            made.lock().expect("nobody panics with it").push((index, segment));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        running.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    let mut made = made.into_inner().expect("nobody panics with it");
    made.sort_unstable_by_key(|(index, _)| *index);
    let segments = made.into_iter().map(|(_, segment)| segment).collect();
    Ok(Image { size_bytes: image.len() as u64, segments })
}

struct Maker<'a> {
    before: Vec<(usize, Index<'a>)>,
    known: &'a Known,
    levels: Levels,
    objects: &'a Objects,
}

impl Maker<'_> {
    fn segment(&self, part: &[u8], offset: u64) -> Result<Segment> {
        let sha256 = Digest::of(part);
        let full = match self.known.get(&sha256) {
            Some(object) => *object,
            None => {
                let frame = compress(part, &[], self.levels.full, FULL_WINDOW_LOG)?;
                self.objects.put(&frame)?
            }
        };
        let mut forms = vec![Form::Full { object: full }];
        for (source, index) in &self.before {
            forms.extend(self.against(part, offset, *source, index, full)?);
        }
        Ok(Segment { sha256, forms })
    }

    /// The form of a segment on a machine that runs `source`, if it is cheaper than the whole.
    fn against(
        &self,
        part: &[u8],
        offset: u64,
        source: usize,
        index: &Index<'_>,
        full: Object,
    ) -> Result<Option<Form>> {
        let ranges = match index.propose(part, offset) {
            Proposal::Copy { offset_bytes } => {
                return Ok(Some(Form::Copy { source, offset_bytes }));
            }
            Proposal::Patch(ranges) => ranges,
        };
        let patch = |(start, length): (u64, u64), level| {
            compress(part, index.range(start, length), level, PATCH_WINDOW_LOG)
        };
        let mut best: Option<(Vec<u8>, (u64, u64))> = None;
        for range in ranges {
            let frame = patch(range, TRIAL_LEVEL)?;
            if best.as_ref().is_none_or(|(smallest, _)| frame.len() < smallest.len()) {
                best = Some((frame, range));
            }
        }
        let Some((mut frame, range)) = best else { return Ok(None) };
        if frame.len() > SMALL_BYTES {
            let harder = patch(range, self.levels.patch)?;
            if harder.len() < frame.len() {
                frame = harder;
            }
        }
        if frame.len() as u64 >= full.size_bytes {
            return Ok(None);
        }
        let object = self.objects.put(&frame)?;
        let (offset_bytes, length_bytes) = range;
        let range = Range { source, offset_bytes, length_bytes };
        Ok(Some(Form::Patch { range, object }))
    }
}

/// One zstd frame of `part`, with `prefix` before it.
fn compress(part: &[u8], prefix: &[u8], level: i32, window_log: u32) -> Result<Vec<u8>> {
    debug_assert!(prefix.len() as u64 <= SOURCE_MAX_BYTES);
    let mut context = CCtx::create();
    let mut frame = Vec::with_capacity(compress_bound(part.len()));
    let compressed = context
        .set_parameter(CParameter::CompressionLevel(level))
        .and_then(|_| context.set_parameter(CParameter::WindowLog(window_log)))
        // The quick levels would not look at all of a prefix otherwise.
        .and_then(|_| {
            let long = CParameter::EnableLongDistanceMatching(!prefix.is_empty());
            context.set_parameter(long)
        })
        .and_then(|_| context.set_parameter(CParameter::ContentSizeFlag(true)))
        // The object is verified by its SHA-256 before zstd sees it.
        .and_then(|_| context.set_parameter(CParameter::ChecksumFlag(false)))
        .and_then(|_| context.ref_prefix(prefix))
        .and_then(|_| context.compress2(&mut frame, part));
    match compressed {
        Ok(_) => Ok(frame),
        Err(code) => Err(anyhow::anyhow!(get_error_name(code))).context("compressing a segment"),
    }
}
