//! What a description has to keep so that a machine may rely on it: numbers that add up, bounds
//! that memory was planned with, names that are safe in a path.
//!
//! A signed description that breaks these is a mistake of the publisher, not an attack; it is
//! refused before anything is fetched.

use layout::{
    disk::{USR_BYTES, VERITY_BYTES},
    verity::BLOCK_BYTES,
};

use super::{
    Form, Image, OBJECT_MAX_BYTES, Object, Range, Release, SEGMENT_BYTES, SOURCE_MAX_BYTES, Variant,
};

/// What is wrong with a description.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {problem}")]
pub struct Wrong {
    /// `usr segment 3`.
    pub place: String,
    /// What was found, and what was expected.
    pub problem: String,
}

/// The largest UKI: half of an ESP, because two have to fit.
const UKI_MAX_BYTES: u64 = 256 << 20;

impl Release {
    /// Whether it is consistent.
    pub fn check(&self) -> Result<(), Wrong> {
        let wrong = |place: &str, problem: String| Err(Wrong { place: place.into(), problem });
        if self.id != "pithos" {
            return wrong("id", format!("expected `pithos`, found `{}`", self.id));
        }
        self.variant.check()?;
        if self.usr.verity.size_bytes > VERITY_BYTES {
            let size = self.usr.verity.size_bytes;
            return wrong("usr", format!("a hash tree of {size} bytes, at most {VERITY_BYTES}"));
        }
        let size = self.usr.image.size_bytes;
        if !size.is_multiple_of(BLOCK_BYTES) {
            return wrong("usr", format!("{size} bytes, expected whole blocks of {BLOCK_BYTES}"));
        }
        let usr: Vec<u64> = self.sources.iter().map(|source| source.usr_size_bytes).collect();
        let uki: Vec<u64> = self.sources.iter().map(|source| source.uki_size_bytes).collect();
        self.usr.image.check("usr", USR_BYTES, &usr)?;
        let (tree, expected) = (self.usr.verity.size_bytes, self.usr.superblock().size_bytes());
        if tree != expected {
            return wrong("usr", format!("a hash tree of {tree} bytes, expected {expected}"));
        }
        self.uki.image.check("uki", UKI_MAX_BYTES, &uki)?;
        if let Some(rebuilders) = &self.rebuilders {
            let (threshold, keys) = (rebuilders.threshold, rebuilders.keys.len());
            if threshold == 0 || threshold as usize > keys {
                return wrong("rebuilders", format!("{threshold} of {keys} can never be met"));
            }
        }
        Ok(())
    }
}

impl Variant {
    fn check(&self) -> Result<(), Wrong> {
        for (place, name) in [("flavor", &self.flavor), ("architecture", &self.architecture)] {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || name.len() > 32 || !name.chars().all(good) {
                return Err(Wrong {
                    place: place.into(),
                    problem: format!("`{name}`, expected 1 to 32 characters of a-z 0-9 _"),
                });
            }
        }
        Ok(())
    }
}

impl Image {
    fn check(&self, name: &str, max_bytes: u64, sources: &[u64]) -> Result<(), Wrong> {
        let size = self.size_bytes;
        if size == 0 || size > max_bytes {
            let problem = format!("{size} bytes, expected 1 to {max_bytes}");
            return Err(Wrong { place: name.into(), problem });
        }
        let expected = size.div_ceil(SEGMENT_BYTES);
        if self.segments.len() as u64 != expected {
            let found = self.segments.len();
            let problem = format!("{found} segments, expected {expected} for {size} bytes");
            return Err(Wrong { place: name.into(), problem });
        }
        for (index, segment) in self.segments.iter().enumerate() {
            let wrong = |problem| Wrong { place: format!("{name} segment {index}"), problem };
            let (_, length) = self.place(index);
            for form in &segment.forms {
                check_form(form, length, sources).map_err(wrong)?;
            }
            if !segment.forms.iter().any(|form| matches!(form, Form::Full { .. })) {
                return Err(wrong("no full form to fall back on".into()));
            }
        }
        Ok(())
    }
}

fn check_form(form: &Form, length: u64, sources: &[u64]) -> Result<(), String> {
    match *form {
        Form::Full { object } => check_object(object),
        Form::Patch { range, object } => {
            let Range { length_bytes, .. } = range;
            if length_bytes == 0 || length_bytes > SOURCE_MAX_BYTES {
                return Err(format!(
                    "a patch against {length_bytes} bytes, expected 1 to {SOURCE_MAX_BYTES}"
                ));
            }
            check_range(range, sources)?;
            check_object(object)
        }
        Form::Copy { source, offset_bytes } => {
            check_range(Range { source, offset_bytes, length_bytes: length }, sources)
        }
        Form::Later => Ok(()),
    }
}

fn check_range(range: Range, sources: &[u64]) -> Result<(), String> {
    let Range { source, offset_bytes, length_bytes } = range;
    let size = sources
        .get(source)
        .ok_or_else(|| format!("source {source} of a list of {}", sources.len()))?;
    match offset_bytes.checked_add(length_bytes) {
        Some(end) if end <= *size => Ok(()),
        _ => Err(format!("{length_bytes} bytes at {offset_bytes} of a source of {size} bytes")),
    }
}

fn check_object(object: Object) -> Result<(), String> {
    match object.size_bytes {
        1..=OBJECT_MAX_BYTES => Ok(()),
        size => Err(format!("an object of {size} bytes, expected 1 to {OBJECT_MAX_BYTES}")),
    }
}
