//! What was found, and where.

use std::fmt;

use serde::Serialize;

/// One difference, and the way to it from outside in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The file, the partition, the path in its file system, the section...
    pub path: Vec<String>,
    /// What differs there.
    #[serde(flatten)]
    pub what: What,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// A value with a name.
    Field {
        /// Its name.
        name: String,
        /// Its value in the first artefact.
        a: String,
        /// Its value in the second.
        b: String,
    },
    /// Something that the other one has not.
    OnlyIn {
        /// Which has it.
        side: Side,
        /// What it is called.
        name: String,
    },
    /// The same things in another order.
    Order {
        /// Position, from 1.
        position: usize,
        /// What the first artefact has there.
        a: String,
        /// What the second has there.
        b: String,
    },
    /// A line of text.
    Line {
        /// Number, from 1.
        number: usize,
        /// The line of the first artefact, cut to where it differs.
        a: String,
        /// The line of the second.
        b: String,
    },
    /// Bytes without a name.
    Bytes {
        /// Offset of the first that differs.
        offset: u64,
        /// Sixteen bytes around it in the first artefact.
        a: String,
        /// Sixteen bytes around it in the second.
        b: String,
    },
}

/// One of the two artefacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.iter().try_for_each(|step| write!(f, "{step}: "))?;
        match &self.what {
            What::Field { name, a, b } => write!(f, "field {name}: {a} != {b}"),
            What::OnlyIn { side, name } => write!(f, "only in {side:?}: {name}"),
            What::Order { position, a, b } => write!(f, "order: {a} != {b} at {position}"),
            What::Line { number, a, b } => write!(f, "line {number}: {a} != {b}"),
            What::Bytes { offset, a, b } => write!(f, "byte {offset}: {a} != {b}"),
        }
    }
}

/// Collects differences on the way down and up again.
pub(super) struct Report {
    path: Vec<String>,
    found: Vec<Difference>,
    max: usize,
}

impl Report {
    pub(super) fn new(max: usize) -> Self {
        Self { path: Vec::new(), found: Vec::new(), max: max.max(1) }
    }

    pub(super) fn into_found(self) -> Vec<Difference> {
        self.found
    }

    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// Whether there is no point in looking further.
    pub(super) fn full(&self) -> bool {
        self.found.len() >= self.max
    }

    /// Looks into the part `name`.
    pub(super) fn within<T>(&mut self, name: &str, look: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(name.to_owned());
        let result = look(self);
        self.path.pop();
        result
    }

    pub(super) fn push(&mut self, what: What) {
        if !self.full() {
            self.found.push(Difference { path: self.path.clone(), what });
        }
    }

    /// Two values, if they differ.
    pub(super) fn field(&mut self, name: &str, a: &str, b: &str) {
        if a != b {
            let (a, b) = excerpts(a, b);
            self.push(What::Field { name: name.to_owned(), a, b });
        }
    }

    pub(super) fn only_in(&mut self, side: Side, name: &str) {
        self.push(What::OnlyIn { side, name: name.to_owned() });
    }
}

/// Two texts, cut to the surroundings of where they differ if they are long.
pub(super) fn excerpts(a: &str, b: &str) -> (String, String) {
    const BEFORE: usize = 40;
    const LENGTH: usize = 100;
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let start = if same > LENGTH / 2 { same - BEFORE } else { 0 };
    let cut = |text: &str| {
        let part: String = text.chars().skip(start).take(LENGTH).collect();
        let before = if start > 0 { "..." } else { "" };
        let after = if text.chars().count() > start + LENGTH { "..." } else { "" };
        format!("{before}{part}{after}")
    };
    (cut(a), cut(b))
}
