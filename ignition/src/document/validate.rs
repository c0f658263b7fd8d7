//! The rules that a configuration must keep to, beyond its shape: those of the specification,
//! each by the version that the document declares, and a few of ours where the original has a
//! hole (docs/first-boot.md lists them).

mod disks;
mod nodes;
mod passwd;
mod resource;
mod systemd;
#[cfg(test)]
mod tests;

pub use resource::source_problem;

use super::{
    config::{Config, Ignition, KernelArguments},
    node::{At, Node},
    report::Report,
};

/// Says what is wrong with a configuration that was made of `node`, by the rules of specification
/// 3.`minor`.0.
pub fn validate(config: &Config, node: &Node, minor: u8, report: &mut Report) {
    let mut rules = Rules { minor, report };
    let root = At::root(node);
    rules.ignition(&config.ignition, &root.key("ignition"));
    rules.kernel_arguments(&config.kernel_arguments, &root.key("kernelArguments"));
    rules.passwd(&config.passwd, &root.key("passwd"));
    let storage = root.key("storage");
    rules.nodes(&config.storage, &storage);
    rules.disks(&config.storage, &storage);
    rules.systemd(&config.systemd, &root.key("systemd"));
    rules.paths_of_units(config, &storage);
}

/// The rules, and where complaints go.
struct Rules<'a> {
    minor: u8,
    report: &'a mut Report,
}

impl Rules<'_> {
    fn error(&mut self, at: &At<'_>, message: &str) {
        self.report.error(at, message);
    }

    fn warning(&mut self, at: &At<'_>, message: &str) {
        self.report.warning(at, message);
    }

    /// Complains where there is something to complain of.
    fn refuse(&mut self, at: &At<'_>, problem: Option<impl Into<String>>) {
        if let Some(problem) = problem {
            self.report.error(at, problem);
        }
    }

    fn not_negative(&mut self, at: &At<'_>, value: Option<i64>) {
        if let Some(value) = value.filter(|value| *value < 0) {
            self.report.error(at, format!("{value} is less than 0"));
        }
    }

    fn ignition(&mut self, ignition: &Ignition, at: &At<'_>) {
        let config = at.key("config");
        let merge = config.key("merge");
        for (index, resource) in ignition.config.merge.iter().enumerate() {
            self.resource_that_is(resource, &merge.index(index));
        }
        self.resource(&ignition.config.replace, &config.key("replace"));
        let security = at.key("security");
        let tls = security.key("tls");
        let authorities = tls.key("certificateAuthorities");
        for (index, resource) in ignition.security.tls.certificate_authorities.iter().enumerate() {
            self.resource_that_is(resource, &authorities.index(index));
        }
        self.proxy(&ignition.proxy, &at.key("proxy"));
        let timeouts = at.key("timeouts");
        let given = &ignition.timeouts;
        self.not_negative(&timeouts.key("httpResponseHeaders"), given.http_response_headers);
        self.not_negative(&timeouts.key("httpTotal"), given.http_total);
    }

    fn kernel_arguments(&mut self, arguments: &KernelArguments, at: &At<'_>) {
        let lists = [
            ("shouldExist", &arguments.should_exist),
            ("shouldNotExist", &arguments.should_not_exist),
        ];
        for (key, list) in lists {
            let at = at.key(key);
            for (index, argument) in list.iter().enumerate() {
                if argument.contains(|c: char| c.is_control()) {
                    self.error(&at.index(index), "a kernel argument with a control character");
                }
            }
        }
    }
}

/// What is wrong with a path that must be absolute and clean.
fn path_problem(path: &str) -> Option<&'static str> {
    let clean = || path == "/" || path[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
    if path.is_empty() {
        Some("a path is missing here")
    } else if !path.starts_with('/') {
        Some("expected an absolute path: one that starts with `/`")
    } else if !clean() {
        Some("expected a clean path: without `//`, `.`, `..` and `/` at its end")
    } else if path.contains('\0') {
        Some("a path with a zero byte in it")
    } else {
        None
    }
}
