//! The shape of a configuration as a table: which keys there are, since which specification, of
//! which type, and what makes two entries of a list the same. Checking, merging and the other
//! spellings (Butane's) all read it here.

mod check;
mod table;

pub use check::{check, nearest};
pub use table::ROOT;

use super::node::{Node, Value};

/// A map with known keys.
#[derive(Debug)]
pub struct Object {
    /// Its keys.
    pub fields: &'static [Field],
    /// Lists whose entries share one space of names: an entry of one hides that of another.
    pub shared: &'static [&'static str],
}

/// A key.
#[derive(Debug)]
pub struct Field {
    /// How Ignition spells it.
    pub name: &'static str,
    /// The minor version of the first specification that has it: 0 for 3.0.0.
    pub since: u8,
    /// What it holds.
    pub kind: Kind,
}

/// What a key, or an entry of a list, holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Integer,
    /// True or false.
    Flag,
    /// A map.
    Map(&'static Object),
    /// A list.
    List(&'static List),
}

/// A list.
#[derive(Debug)]
pub struct List {
    /// What its entries are.
    pub item: Kind,
    /// What tells two entries apart.
    pub key: Key,
}

/// What makes two entries of a list the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The value of a key of theirs.
    Field(&'static str),
    /// The entry itself.
    Itself,
    /// The number of a partition, or its label where it has none.
    Partition,
    /// Nothing: the list is one of things in order, and a child's come behind the parent's.
    Nothing,
}

impl Kind {
    /// What it is, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Integer => "a whole number",
            Self::Flag => "true or false",
            Self::Map(_) => "a map",
            Self::List(_) => "a list",
        }
    }

    /// What to say of a value that is something else.
    pub(super) fn instead_of(self, found: &Value) -> String {
        format!("expected {}, found {}", self.words(), found.kind())
    }
}

/// What to do where another type was expected; `is_yaml` says how the document is written.
pub(crate) fn hint_for_type(found: &Value, expected: Kind, is_yaml: bool) -> Option<&'static str> {
    let text = match found {
        Value::String(text) => Some(text.trim()),
        _ => None,
    };
    match (expected, text) {
        (Kind::Integer, Some(text)) if text.parse::<f64>().is_ok() => {
            Some("write it without quotes")
        }
        (Kind::Flag, Some("true" | "false")) => Some("write it without quotes"),
        (Kind::List(_), _) if is_yaml => Some("each entry of a list begins with `- `"),
        (Kind::List(_), _) => Some("write it in brackets: `[...]`"),
        (Kind::Map(object), Some(_)) if object.field("source").is_some() && is_yaml => {
            Some("write `{inline: ...}` for a text, `{source: ...}` for an address")
        }
        (Kind::Map(object), Some(_)) if object.field("source").is_some() => {
            Some("write `{\"source\": ...}`; a text is `data:,` and the text with %XX in it")
        }
        _ => None,
    }
}

impl Object {
    /// A key of it.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Field {
    /// How YAML documents spell it: `sshAuthorizedKeys` is `ssh_authorized_keys`.
    pub fn snake(&self) -> String {
        let mut snake = String::new();
        for letter in self.name.replace("MiB", "Mib").chars() {
            if letter.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        }
        snake
    }
}

impl Key {
    /// What tells this entry from others.
    pub fn of(self, entry: &Node) -> Option<String> {
        let text = |node: Option<&Node>| match node.map(|node| &node.value) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Integer(number)) => number.to_string(),
            _ => String::new(),
        };
        match self {
            Self::Field(name) => Some(text(entry.get(name))),
            Self::Itself => Some(text(Some(entry))),
            Self::Partition => match entry.get("number").map(|node| &node.value) {
                Some(Value::Integer(number)) if *number != 0 => Some(number.to_string()),
                _ => Some(format!("label {}", text(entry.get("label")))),
            },
            Self::Nothing => None,
        }
    }
}
