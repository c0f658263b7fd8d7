//! Holds the YAML of a cloud-config against the table. `-` and `_` are the same in keys. Nothing
//! here is an error, but for a key that is there in both spellings: a boot is not stopped by what
//! can be left out.

use std::borrow::Cow;

use super::table::{ROOT, deprecated};
use crate::document::{
    node::{Map, Node, Value},
    report::Report,
    schema::{Field, Kind, Object, nearest},
    yaml::{self, Found, Words},
};

pub(super) fn read(node: &Node, text: &str, report: &mut Report) -> Node {
    let read = yaml::read(node, Kind::Map(&ROOT), text, &CloudConfig, report);
    read.unwrap_or(Node::new(node.mark, Map::default()))
}

struct CloudConfig;

impl Words for CloudConfig {
    const EMPTY: Option<Value> = None;

    fn keys(&self, _: &str, object: &'static Object) -> Vec<(String, &'static Field)> {
        object.fields.iter().map(|field| (field.name.to_owned(), field)).collect()
    }

    fn spelt<'k>(&self, key: &'k str) -> Cow<'k, str> {
        key.replace('-', "_").into()
    }

    fn known(&self, found: &Found<'_>, report: &mut Report) -> bool {
        let (name, mark, path) = (found.name, found.entry.mark, found.path);
        let place = [found.place, name].join(if found.place.is_empty() { "" } else { "." });
        if let Some(why) = deprecated(&place) {
            let message = format!("`{}` is not used any more: {why}", found.entry.key);
            report.warning_at(path, mark, message);
        }
        let is_second = found.before.0.iter().any(|other| other.key == name);
        if is_second {
            let message = format!("`{name}` is here a second time, with `-` and with `_`");
            report.error_at(path, mark, message);
        }
        !is_second
    }

    fn unknown(&self, found: &Found<'_>, report: &mut Report) {
        let key = &found.entry.key;
        let message = format!("unused key `{key}`: it is not known here and has no effect");
        let finding = report.warning_at(found.path, found.entry.mark, message);
        let here = found.keys.iter().map(|(name, _)| name.as_str());
        if (found.place, found.name) == ("coreos", "write_files") {
            finding.hint("write_files belongs on top, not under coreos");
        } else if let Some(name) = nearest(found.name, here) {
            finding.hint(format!("did you mean `{name}`?"));
        }
    }

    fn mistyped(&self, path: &str, node: &Node, expected: Kind, report: &mut Report) {
        let message = expected.instead_of(&node.value);
        report.warning_at(path, node.mark, format!("{message}: it has no effect"));
    }
}
