//! YAML as a tree of nodes that know where they were written.
//!
//! What a plain scalar is, is decided as users of Butane expect: `true` and `false` are the only
//! truths, a whole number may be octal as in YAML 1.1 (`0644`) and in 1.2 (`0o644`). A text that
//! looks like another value is read back with [`written`] by those who know that they want a text.
//!
//! Refused, because each of them has hidden a mistake or stopped a machine: a key that is written
//! twice, a second document behind the first, tags of one's own, aliases that would fill the
//! memory. Merge keys (`<<`) and aliases have the place where the value itself was written.

mod read;
mod scalar;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

pub(super) use self::read::{Found, Words, read};
use self::scalar::plain;
pub use self::scalar::{truth, written};
use super::node::{Entry, Map, Mark, Node, Value};

/// Deeper nesting is refused, before the stack is.
const MAX_DEPTH: usize = 128;

/// What all aliases of a text may add to it, in bytes.
const MAX_COPIED: usize = 8 << 20;

/// About what a node takes in memory, besides its text.
const NODE_BYTES: usize = size_of::<Entry>();

/// What is wrong with a text that is not YAML, or not the YAML of a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotYaml {
    /// Where.
    pub mark: Mark,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<&'static str>,
}

/// Parses a whole text. One without anything in it is a null.
pub fn parse(text: &str, source: u32) -> Result<Node, NotYaml> {
    let mut loader = Loader {
        text,
        source,
        behind: 0,
        open: Vec::new(),
        anchors: HashMap::new(),
        copied: 0,
        root: None,
    };
    let options = granit_parser::options! { emit_comments: false };
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                loader.event(event, &span)?;
                loader.behind = span.end.byte_offset().unwrap_or(loader.behind);
            }
            Err(error) => {
                let offset = error.marker().byte_offset().unwrap_or(loader.behind);
                let wrong = loader.wrong(offset, format!("this is not YAML: {}", error.info()));
                return Err(NotYaml { hint: advice(&error.info()), ..wrong });
            }
        }
    }
    let nothing = Node { mark: loader.mark(0), value: Value::Null };
    Ok(loader.root.unwrap_or(nothing))
}

/// What a person can do about what the parser says in the words of YAML's grammar.
fn advice(info: &str) -> Option<&'static str> {
    let all: [(&[&str], &str); 6] = [
        (&["tab"], "indent with spaces: YAML has no tabs there"),
        (
            &["mapping values are not allowed", "illegal placement of ':'"],
            "either the line is indented further than the one above it, or a text with `: ` in it \
             needs quotes",
        ),
        (&["quoted scalar"], "look for a quote that is left open, here or in a line above"),
        (
            &["expected '-' indicator", "expected key", "invalid indentation"],
            "keys of one map begin in the same column, and so do the `-` of one list",
        ),
        (&["recursion limit"], "so many maps and lists inside each other are no document"),
        (
            &["unexpected eof", "unexpected EOF", "<document start>", "cannot start any token"],
            "a text that begins with `[`, `{`, `%`, `@` or a quote needs quotes around it, and what \
             is opened has to be closed",
        ),
    ];
    let found = all.into_iter().find(|(parts, _)| parts.iter().any(|part| info.contains(part)));
    found.map(|(_, hint)| hint)
}

struct Loader<'a> {
    text: &'a str,
    source: u32,
    /// Where the last event ended.
    behind: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    copied: usize,
    root: Option<Node>,
}

/// A collection whose end was not seen yet.
struct Open {
    mark: Mark,
    anchor: usize,
    what: Collection,
}

enum Collection {
    List(Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    map: Map,
    keys: HashSet<String>,
    /// The key whose value comes next.
    key: Option<(Key, Mark)>,
    merged: Vec<Map>,
}

enum Key {
    Named(String),
    Merge,
}

struct Anchored {
    node: Node,
    bytes: usize,
    depth: usize,
}

impl Loader<'_> {
    fn mark(&self, offset: usize) -> Mark {
        Mark { source: self.source, offset: u32::try_from(offset).unwrap_or(u32::MAX) }
    }

    fn wrong(&self, offset: usize, message: impl Into<String>) -> NotYaml {
        NotYaml { mark: self.mark(offset), message: message.into(), hint: None }
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), NotYaml> {
        let at = span.start.byte_offset().unwrap_or(self.behind);
        let mark = self.mark(at);
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Comment(..) => {}
            Event::DocumentStart(..) if self.root.is_none() => {}
            Event::DocumentStart(..) => {
                let message = "a second document begins here; there can be only one in a text";
                return Err(self.wrong(at, message));
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.known_collection(tag, "seq", at)?;
                self.start(mark, anchor, Collection::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.known_collection(tag, "map", at)?;
                self.start(mark, anchor, Collection::Map(OpenMap::default()))?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { mark, anchor, what }) = self.open.pop() else { return Ok(()) };
                let node = match what {
                    Collection::List(list) => Node::new(mark, list),
                    Collection::Map(map) => Node::new(mark, map.close()),
                };
                self.put(node, anchor)?;
            }
            Event::Alias(anchor) => self.alias(anchor, at)?,
            Event::Scalar(text, style, anchor, tag) => {
                let at = match style {
                    ScalarStyle::Literal | ScalarStyle::Folded => self.block(at),
                    _ => at,
                };
                match self.waiting_map() {
                    Some(_) => self.key(&text, style == ScalarStyle::Plain, at, span.is_empty())?,
                    None => {
                        let value = self.scalar(text, style == ScalarStyle::Plain, tag, at)?;
                        self.put(Node { mark: self.mark(at), value }, anchor)?;
                    }
                }
            }
            _ => return Err(self.wrong(at, "a kind of YAML that is not known here")),
        }
        Ok(())
    }

    /// Where the `|` or `>` of a text over several lines is: its span begins below it.
    fn block(&self, at: usize) -> usize {
        let between = self.text.get(self.behind..at).unwrap_or_default();
        between.find(['|', '>']).map_or(at, |found| self.behind + found)
    }

    /// The map that is open, if what comes next is a key of it.
    fn waiting_map(&mut self) -> Option<&mut OpenMap> {
        match self.open.last_mut().map(|open| &mut open.what) {
            Some(Collection::Map(map)) if map.key.is_none() => Some(map),
            _ => None,
        }
    }

    fn key(&mut self, text: &str, plain: bool, at: usize, empty: bool) -> Result<(), NotYaml> {
        if empty && plain {
            return Err(self.wrong(at, "there is no key before the `:`"));
        }
        let mark = self.mark(at);
        let name = match plain && text == "<<" {
            true => Key::Merge,
            false => Key::Named(text.to_owned()),
        };
        if let Some(map) = self.waiting_map() {
            if !map.keys.insert(text.to_owned()) {
                let message = format!("the key {text:?} is here a second time; which one counts?");
                return Err(self.wrong(at, message));
            }
            map.key = Some((name, mark));
        }
        Ok(())
    }

    fn start(&mut self, mark: Mark, anchor: usize, what: Collection) -> Result<(), NotYaml> {
        if self.waiting_map().is_some() {
            return Err(self.wrong(mark.offset as usize, "expected a text as a key"));
        }
        if self.open.len() >= MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} maps and lists inside each other");
            return Err(self.wrong(mark.offset as usize, message));
        }
        self.open.push(Open { mark, anchor, what });
        Ok(())
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), NotYaml> {
        if anchor != 0 {
            let (bytes, depth) = measure(&node);
            self.anchors.insert(anchor, Anchored { node: node.clone(), bytes, depth });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.what {
            Collection::List(list) => list.push(node),
            Collection::Map(map) => match map.key.take() {
                Some((Key::Named(key), mark)) => map.map.0.push(Entry { key, mark, node }),
                Some((Key::Merge, mark)) if !map.merge(node) => {
                    let message = "expected a map, or a list of maps, to be merged";
                    return Err(self.wrong(mark.offset as usize, message));
                }
                Some((Key::Merge, _)) | None => {}
            },
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: usize) -> Result<(), NotYaml> {
        let Some(Anchored { node, bytes, depth }) = self.anchors.get(&anchor) else {
            return Err(self.wrong(at, "this alias is within what it stands for"));
        };
        if self.open.len() + depth > MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} maps and lists inside each other");
            return Err(self.wrong(at, message));
        }
        self.copied += bytes;
        if self.copied > MAX_COPIED {
            let message = format!("aliases make more than {} MiB out of this", MAX_COPIED >> 20);
            return Err(self.wrong(at, message));
        }
        let node = node.clone();
        match (self.waiting_map().is_some(), &node.value) {
            (true, Value::String(text)) => self.key(text, false, at, false),
            (true, _) => Err(self.wrong(at, "expected a text as a key")),
            (false, _) => self.put(node, 0),
        }
    }

    fn known_collection(
        &self,
        tag: Option<Cow<'_, Tag>>,
        known: &str,
        at: usize,
    ) -> Result<(), NotYaml> {
        match tag {
            Some(tag) if core_tag(&tag).as_deref() != Some(known) => {
                Err(self.unknown_tag(&tag, at))
            }
            _ => Ok(()),
        }
    }

    fn unknown_tag(&self, tag: &Tag, at: usize) -> NotYaml {
        self.wrong(at, format!("the tag `{tag}` has no meaning here"))
    }

    fn scalar(
        &self,
        text: Cow<'_, str>,
        is_plain: bool,
        tag: Option<Cow<'_, Tag>>,
        at: usize,
    ) -> Result<Value, NotYaml> {
        let Some(tag) = tag else {
            return Ok(if is_plain { plain(&text) } else { Value::String(text.into_owned()) });
        };
        let value = plain(&text);
        match (core_tag(&tag).as_deref(), &value) {
            (Some("str"), _) => Ok(Value::String(text.into_owned())),
            (Some("int"), Value::Integer(_))
            | (Some("float"), Value::Float(_))
            | (Some("bool"), Value::Bool(_))
            | (Some("null"), Value::Null) => Ok(value),
            (Some("float"), Value::Integer(integer)) => Ok(Value::Float(*integer as f64)),
            (Some("binary"), _) => {
                let digits: String = text.split_whitespace().collect();
                let bytes = BASE64_STANDARD.decode(digits);
                let bytes =
                    bytes.map_err(|error| self.wrong(at, format!("not base64: {error}")))?;
                String::from_utf8(bytes).map(Value::String).map_err(|_| {
                    self.wrong(at, "binary data that is no text; use a `data:` URL as the source")
                })
            }
            (Some("int" | "float" | "bool" | "null"), _) => {
                Err(self.wrong(at, format!("this is not what its tag `{tag}` says")))
            }
            _ => Err(self.unknown_tag(&tag, at)),
        }
    }
}

/// The name of a tag of YAML itself.
fn core_tag(tag: &Tag) -> Option<Cow<'_, str>> {
    match tag.handle() {
        // `! 12`: not what it looks like, but a text.
        "" | "!" if tag.suffix().is_empty() || tag.suffix() == "!" => Some("str".into()),
        _ => tag.suffix_in_namespace("tag:yaml.org,2002:"),
    }
}

impl OpenMap {
    /// Takes what is to be merged, if it is what can be.
    fn merge(&mut self, node: Node) -> bool {
        let maps = match node.value {
            Value::List(list) => list,
            value => vec![Node { mark: node.mark, value }],
        };
        maps.into_iter().all(|node| match node.value {
            Value::Map(map) => {
                self.merged.push(map);
                true
            }
            _ => false,
        })
    }

    /// What is written in a map counts before what is merged into it; of what is merged, the first.
    fn close(self) -> Map {
        let Self { mut map, mut keys, merged, .. } = self;
        for entry in merged.into_iter().flat_map(|merged| merged.0) {
            if keys.insert(entry.key.clone()) {
                map.0.push(entry);
            }
        }
        map
    }
}

fn measure(node: &Node) -> (usize, usize) {
    let (mut bytes, mut depth) = (NODE_BYTES, 0);
    let mut add = |key: usize, node: &Node| {
        let (more, deep) = measure(node);
        bytes += key + more;
        depth = depth.max(deep);
    };
    match &node.value {
        Value::String(text) => return (NODE_BYTES + text.len(), 0),
        Value::List(list) => list.iter().for_each(|node| add(0, node)),
        Value::Map(map) => map.0.iter().for_each(|entry| add(entry.key.len(), &entry.node)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => return (bytes, 0),
    }
    (bytes, depth + 1)
}

#[cfg(test)]
mod tests;
