//! What a format comes apart into: named fields, named parts, and what every byte belongs to.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use super::source::Source;

/// An artefact, taken apart.
#[derive(Default)]
pub(super) struct Anatomy {
    pub(super) fields: Vec<Field>,
    pub(super) parts: Vec<Part>,
    /// Names for ranges of bytes, for a difference that no field and no part explains. Where
    /// several hold a byte, the last one counts.
    pub(super) places: Vec<(Range<u64>, String)>,
}

/// A value with a name.
pub(super) struct Field {
    pub(super) name: Cow<'static, str>,
    pub(super) value: String,
    /// Whether it follows from others (an offset, a checksum): of interest only if nothing else
    /// differs.
    pub(super) follows: bool,
}

/// A part with a name.
pub(super) struct Part {
    /// What finds its counterpart.
    pub(super) key: String,
    /// What it is called in a report.
    pub(super) title: String,
    pub(super) fields: Vec<Field>,
    pub(super) content: Option<Content>,
    /// Whether it follows from others, as above.
    pub(super) follows: bool,
}

/// The bytes of a part, and how to look at them.
pub(super) enum Content {
    /// Whatever it turns out to be.
    Any(Source),
    /// Just bytes.
    Bytes(Source),
    /// Equal blocks of so many bytes, each of which is called so.
    Blocks(Source, u64, &'static str),
}

/// A field that says something.
pub(super) fn field(name: impl Into<Cow<'static, str>>, value: impl ToString) -> Field {
    Field { name: name.into(), value: value.to_string(), follows: false }
}

/// A field that follows from others.
pub(super) fn follows(name: impl Into<Cow<'static, str>>, value: impl ToString) -> Field {
    Field { follows: true, ..field(name, value) }
}

impl Part {
    pub(super) fn new(title: impl Into<String>, fields: Vec<Field>) -> Self {
        let title = title.into();
        Self { key: title.clone(), title, fields, content: None, follows: false }
    }

    pub(super) fn any(self, content: Source) -> Self {
        Self { content: Some(Content::Any(content)), ..self }
    }

    pub(super) fn content(self, content: Content) -> Self {
        Self { content: Some(content), ..self }
    }

    pub(super) fn key(self, key: impl Into<String>) -> Self {
        Self { key: key.into(), ..self }
    }

    pub(super) fn follows(self) -> Self {
        Self { follows: true, ..self }
    }
}

impl Content {
    pub(super) fn source(&self) -> &Source {
        match self {
            Self::Any(source) | Self::Bytes(source) | Self::Blocks(source, ..) => source,
        }
    }
}

impl Anatomy {
    pub(super) fn of(fields: Vec<Field>) -> Self {
        Self { fields, ..Self::default() }
    }

    /// Numbers parts of the same name, so that each finds its counterpart.
    pub(super) fn with_distinct_keys(mut self) -> Self {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for part in &mut self.parts {
            let count = seen.entry(part.key.clone()).or_default();
            *count += 1;
            if *count > 1 {
                let number = format!(" #{count}");
                part.key += &number;
                part.title += &number;
            }
        }
        self
    }

    /// What the byte at `offset` belongs to.
    pub(super) fn place(&self, offset: u64) -> Option<&str> {
        let place = self.places.iter().rev().find(|(range, _)| range.contains(&offset));
        place.map(|(_, name)| name.as_str())
    }
}
