//! The versions of the specification: which one a document keeps to, and from each to the newest.

use super::{
    node::{At, Node, Value},
    report::Report,
};

/// The newest minor version that there is: 3.6.0.
pub const NEWEST: u8 = 6;

/// The minor version of specification 3 that a document declares; what is wrong is reported.
pub fn version(node: &Node, report: &mut Report) -> Option<u8> {
    let root = At::root(node);
    let ignition = root.key("ignition");
    let at = ignition.key("version");
    let known = || (0..=NEWEST).map(|minor| format!("3.{minor}.0")).collect::<Vec<_>>().join(", ");
    let Some(declared) = at.node().and_then(Node::text) else {
        let found = match at.node() {
            Some(node) => format!("found {}", node.value.kind()),
            None => "it is not there".to_owned(),
        };
        let message = format!("expected the version of the specification as a text, {found}");
        report.error(&at, message).hint(format!("one of {}", known()));
        return None;
    };
    let minor = (0..=NEWEST).find(|minor| declared == format!("3.{minor}.0"));
    if minor.is_none() {
        let finding = if !is_semantic(declared) {
            report.error(&at, format!("`{declared}` is not a version as 3.{NEWEST}.0"))
        } else if declared.ends_with("-experimental") {
            report.error(&at, format!("the specification {declared} is not stable and not known"))
        } else if declared.starts_with("2.") || declared.starts_with("1.") {
            report.error(&at, format!("the specification {declared} is not known any more"))
        } else {
            report.error(&at, format!("the specification {declared} is not known"))
        };
        finding.hint(format!("one of {}", known()));
    }
    minor
}

/// Three numbers, perhaps something behind a dash or a plus (semver.org).
fn is_semantic(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let digits = |number: &&str| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    numbers.len() == 3 && numbers.iter().all(digits)
}

/// Makes a valid configuration of specification 3.`minor`.0 one of the newest.
pub fn translate(node: &mut Node, minor: u8) {
    let Value::Map(root) = &mut node.value else { return };
    if let Some(Value::Map(ignition)) = root.get_mut("ignition").map(|node| &mut node.value)
        && let Some(version) = ignition.get_mut("version")
    {
        version.value = format!("3.{NEWEST}.0").into();
    }
    if minor >= 6 {
        return;
    }
    // Before 3.6.0 the special bits had no effect, and they shall not get one by translation.
    let Some(Value::Map(storage)) = root.get_mut("storage").map(|node| &mut node.value) else {
        return;
    };
    for list in ["files", "directories"] {
        let Some(Value::List(entries)) = storage.get_mut(list).map(|node| &mut node.value) else {
            continue;
        };
        for entry in entries {
            if let Value::Map(map) = &mut entry.value
                && let Some(Value::Integer(mode)) = map.get_mut("mode").map(|node| &mut node.value)
            {
                *mode &= !0o7000;
            }
        }
    }
}
