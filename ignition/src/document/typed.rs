//! From a tree to types, without a copy of it in between: a tree is a serde deserializer.

use serde::{
    Deserialize,
    de::{
        Deserializer, IntoDeserializer, Visitor,
        value::{Error, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    Config,
    node::{Node, Value},
};

impl Config {
    /// The configuration of a tree that [`super::schema::check`] went through.
    pub fn from_node(node: &Node) -> Self {
        Self::deserialize(node).expect("its shape was checked")
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::List(list) => visitor.visit_seq(SeqDeserializer::new(list.iter())),
            Value::Map(map) => {
                let pairs = map.0.iter().map(|entry| (entry.key.as_str(), &entry.node));
                visitor.visit_map(MapDeserializer::new(pairs))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::json;

    #[test]
    fn a_tree_becomes_what_the_same_json_becomes() {
        let text = r#"{"ignition": {"version": "3.6.0", "timeouts": {"httpTotal": 3}},
            "passwd": {"users": [{"name": "a", "uid": null, "system": true}]},
            "storage": {"disks": [{"device": "/dev/a", "partitions": [{"sizeMiB": 4}]}],
                "files": [{"path": "/a", "append": [{"source": "data:,"}]}]}}"#;
        let theirs: Config = serde_json::from_str(text).unwrap();
        assert_eq!(Config::from_node(&json::parse(text, 0).unwrap()), theirs);
    }
}
