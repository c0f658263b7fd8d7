//! `/etc/.ignition-result.json`: that a machine was made by a document, and when.

use serde_json::{Map, Value};

/// Where it is.
pub const PATH: &str = "/etc/.ignition-result.json";

/// A run, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The id of the boot.
    pub boot_id: String,
    /// The time, as RFC 3339 has it.
    pub date: String,
    /// Whether an operator gave a document, or only the image.
    pub user_config_provided: bool,
}

/// The text of the file, with what it said before in it.
pub fn text(run: &Run, old: Option<&str>) -> String {
    let mut report = Map::new();
    report.insert("provisioningBootID".to_owned(), run.boot_id.clone().into());
    report.insert("provisioningDate".to_owned(), run.date.clone().into());
    report.insert("userConfigProvided".to_owned(), run.user_config_provided.into());
    // What cannot be read any more is kept as a text: it is the past, and nobody's error.
    let old = old.map(|old| serde_json::from_str(old).unwrap_or_else(|_| Value::from(old)));
    if let Some(old) = old {
        report.insert("previousReport".to_owned(), old);
    }
    let text = serde_json::to_string_pretty(&Value::Object(report));
    text.expect("a map of texts is JSON") + "\n"
}
