//! cloud-config of CoreOS, scripts, and both of them in one MIME message.
//!
//! ```text
//! text --(parts)--> cloud-configs and scripts --(read, rules)--> trees of known keys
//!      --(convert)--> a configuration of Ignition, for the first boot
//!      --(plan)-----> actions, for every boot, on the system that runs; (apply) does them
//! ```
//!
//! A cloud-config never stops a boot: what is not known is warned of, and what fails is said.

pub mod apply;
mod convert;
mod parts;
mod plan;
mod read;
mod rules;
mod services;
mod substitute;
mod table;

use self::substitute::leave;
pub use self::{
    convert::convert,
    parts::{Kind, Part, is_cloud_config, is_multipart, is_script, parts},
    plan::{Action, Facts, plan},
    substitute::{Addresses, substitute},
};
use super::{
    Sources,
    node::{Mark, Node},
    report::Report,
    yaml,
};

/// A part that was read.
#[derive(Clone, Debug)]
enum Checked {
    /// A cloud-config: known keys only, with `_`.
    Config(Node),
    /// A script.
    Script {
        /// What its message calls it, or its number.
        name: String,
        /// All of it.
        text: String,
        /// Where it is.
        mark: Mark,
    },
}

/// Reads all parts of a text; a part with errors is left out.
fn read_all(
    name: &str,
    text: &str,
    addresses: Option<&Addresses>,
    sources: &mut Sources,
    report: &mut Report,
) -> Vec<Checked> {
    let found = match parts(text) {
        Ok(found) => found,
        Err(error) => {
            let source = sources.add(name, text);
            report.error_at("$", Mark { source, offset: error.offset }, error.message);
            return Vec::new();
        }
    };
    let single = found.len() == 1;
    let each = found.into_iter().zip(1..).filter_map(|(part, number)| {
        let (text, left) = match addresses {
            Some(addresses) => (substitute(&part.text, addresses), Vec::new()),
            None => leave(&part.text),
        };
        let title = match (single, part.name.is_empty()) {
            (true, _) => name.to_owned(),
            (false, true) => format!("{name} (part {number})"),
            (false, false) => format!("{name} ({})", part.name),
        };
        let source = sources.add(title, text.as_str());
        for (name, at) in left {
            let mark = Mark { source, offset: u32::try_from(at).unwrap_or(0) };
            let message = format!("${name} stays as it is: no address is known before the boot");
            report.warning_at("$", mark, message);
        }
        match part.kind {
            Kind::CloudConfig => config(&text, source, report).map(Checked::Config),
            Kind::Script => {
                let name = if part.name.is_empty() { number.to_string() } else { part.name };
                Some(Checked::Script { name, text, mark: Mark { source, offset: 0 } })
            }
            Kind::Other => {
                let mark = Mark { source, offset: 0 };
                let message = "this part is neither a cloud-config nor a script: it has no effect";
                report.warning_at("$", mark, message);
                None
            }
        }
    });
    each.collect()
}

fn config(text: &str, source: u32, report: &mut Report) -> Option<Node> {
    let node = match yaml::parse(text, source) {
        Ok(node) => node,
        Err(error) => {
            report.error_at("$", error.mark, error.message).hint = error.hint.map(str::to_owned);
            return None;
        }
    };
    let mut found = Report::default();
    let node = read::read(&node, text, &mut found);
    rules::check(&node, &mut found);
    let failed = found.has_errors();
    report.append(found);
    (!failed).then_some(node)
}

#[cfg(test)]
mod tests;
