//! What every kind of document is first: a tree of values that know where they were written.

use std::fmt;

/// A place in a text: which text, and how many bytes into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The number of the text in [`super::Sources`].
    pub source: u32,
    /// Bytes before the place.
    pub offset: u32,
}

/// A value and where it was written: a scalar at its first byte, a map or a list just behind its
/// opening bracket (where the original has it, too; what is missing in it would be there).
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it was written.
    pub mark: Mark,
    /// What it is.
    pub value: Value,
}

/// A value, as JSON has them.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing; the same as not being there.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    String(String),
    /// Values in order.
    List(Vec<Node>),
    /// Values by key.
    Map(Map),
}

/// Values by key, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(pub Vec<Entry>);

/// A value of a [`Map`].
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Where the key was written.
    pub mark: Mark,
    /// The value.
    pub node: Node,
}

impl Map {
    /// The value of a key; a null is none.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let node = self.0.iter().find(|entry| entry.key == key).map(|entry| &entry.node);
        node.filter(|node| node.value != Value::Null)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node)
    }

    /// Puts a value in the place of what was there under its key, else at the end.
    pub fn set(&mut self, key: &str, node: Node) {
        match self.get_mut(key) {
            Some(old) => *old = node,
            None => self.0.push(Entry { key: key.to_owned(), mark: node.mark, node }),
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        let at = self.0.iter().position(|entry| entry.key == key)?;
        Some(self.0.remove(at).node)
    }
}

impl Node {
    /// A value that was written at `mark`, or follows from what was.
    pub fn new(mark: Mark, value: impl Into<Value>) -> Self {
        Self { mark, value: value.into() }
    }

    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.map().and_then(|map| map.get(key))
    }

    /// The value of an index, if this is a list that has it.
    pub fn index(&self, index: usize) -> Option<&Node> {
        self.list().and_then(|list| list.get(index))
    }

    /// The map that this is.
    pub fn map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The list that this is.
    pub fn list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// The text that this is.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The same without the marks.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::String(text) => text.as_str().into(),
            Value::List(list) => list.iter().map(Self::to_json).collect(),
            Value::Map(map) => {
                let pair = |entry: &Entry| (entry.key.clone(), entry.node.to_json());
                serde_json::Value::Object(map.0.iter().map(pair).collect())
            }
        }
    }
}

impl Value {
    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number that is not whole",
            Self::String(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl From<Vec<Node>> for Value {
    fn from(list: Vec<Node>) -> Self {
        Self::List(list)
    }
}

/// A place in a tree, whether or not something is there: the chain of keys from the root, held by
/// the frames of the functions that walk down.
///
/// ```
/// # use ignition::document::{node::At, json, Sources};
/// # let mut sources = Sources::default();
/// # let source = sources.add("a.ign", r#"{"storage": {"files": [{}]}}"#);
/// # let node = json::parse(sources.text(source), source).unwrap();
/// let root = At::root(&node);
/// let storage = root.key("storage");
/// let files = storage.key("files");
/// let file = files.index(0);
/// assert_eq!(file.key("path").to_string(), "$.storage.files.0.path");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    segment: Segment<'a>,
    node: Option<&'a Node>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// The root of a tree.
    pub fn root(node: &'a Node) -> Self {
        Self { parent: None, segment: Segment::Root, node: Some(node) }
    }

    /// The value of a key.
    pub fn key(&'a self, key: &'a str) -> Self {
        let node = self.node.and_then(|node| node.get(key));
        Self { parent: Some(self), segment: Segment::Key(key), node }
    }

    /// The value of an index.
    pub fn index(&'a self, index: usize) -> Self {
        let node = self.node.and_then(|node| node.index(index));
        Self { parent: Some(self), segment: Segment::Index(index), node }
    }

    /// What is there.
    pub fn node(&self) -> Option<&'a Node> {
        self.node
    }

    /// Where it was written; what is not there would be in the nearest that is.
    pub fn mark(&self) -> Mark {
        match (self.node, self.parent) {
            (Some(node), _) => node.mark,
            (None, Some(parent)) => parent.mark(),
            (None, None) => Mark::default(),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Root => f.write_str("$"),
            Segment::Key(key) => write!(f, ".{key}"),
            Segment::Index(index) => write!(f, ".{index}"),
        }
    }
}
