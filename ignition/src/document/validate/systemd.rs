//! Rules for units.

use std::collections::HashMap;

use super::Rules;
use crate::document::{
    config::{Systemd, Unit},
    node::At,
    unit,
};

const TYPES: [&str; 12] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "snapshot",
    "slice",
    "scope",
];

impl Rules<'_> {
    /// Units.
    pub(super) fn systemd(&mut self, systemd: &Systemd, at: &At<'_>) {
        let at = at.key("units");
        let templates: HashMap<&str, &Unit> =
            systemd.units.iter().map(|unit| (&*unit.name, unit)).collect();
        for (index, unit) in systemd.units.iter().enumerate() {
            let at = at.index(index);
            self.unit_name(&unit.name, &at.key("name"));
            let parsed = self.unit_text(unit.contents.as_deref(), &at.key("contents"));
            if unit.enabled == Some(true) && unit.mask != Some(true) {
                self.install(unit, parsed.as_ref(), &templates, &at.key("contents"));
            }
            let dropins = at.key("dropins");
            for (index, dropin) in unit.dropins.iter().enumerate() {
                let at = dropins.index(index);
                self.unit_text(dropin.contents.as_deref(), &at.key("contents"));
                if dropin.name.contains('/') {
                    self.error(&at.key("name"), "the name of a file, not a path");
                } else if !dropin.name.ends_with(".conf") {
                    self.error(&at.key("name"), "the name of a drop-in ends with `.conf`");
                }
            }
        }
    }

    fn unit_name(&mut self, name: &str, at: &At<'_>) {
        let known = |(_, kind): (&str, &str)| TYPES.contains(&kind);
        if name.contains(['/', '\0']) || name.starts_with('.') {
            self.error(at, "the name of a unit, not a path");
        } else if !name.rsplit_once('.').is_some_and(known) {
            let message = format!("the name of a unit ends with one of .{}", TYPES.join(" ."));
            self.report.error(at, message);
        }
    }

    fn unit_text(&mut self, text: Option<&str>, at: &At<'_>) -> Option<unit::Unit> {
        match unit::parse(text?) {
            Ok(unit) => Some(unit),
            Err(problem) => {
                self.report.error(at, problem.to_string());
                None
            }
        }
    }

    /// A unit that shall start by itself says in `[Install]` what for.
    fn install(
        &mut self,
        unit: &Unit,
        parsed: Option<&unit::Unit>,
        templates: &HashMap<&str, &Unit>,
        at: &At<'_>,
    ) {
        let installs = |unit: &unit::Unit| unit.has("Install");
        if unit.contents.as_ref().is_some_and(|text| !text.is_empty()) {
            if parsed.is_some_and(|unit| !installs(unit)) {
                let message = format!(
                    "`{}` is enabled, but has no [Install] section: enabling it has no effect",
                    unit.name
                );
                self.report.warning(at, message);
            }
            return;
        }
        let Some(name) = unit::template_of(&unit.name) else { return };
        let Some(template) = templates.get(&*name) else { return };
        let text = template.contents.as_deref().unwrap_or_default();
        if !text.is_empty() && unit::parse(text).is_ok_and(|unit| !installs(&unit)) {
            let message = format!(
                "`{}` is enabled, but its template `{name}` has no [Install] section: enabling it \
                 has no effect",
                unit.name
            );
            self.report.warning(at, message);
        }
    }
}
