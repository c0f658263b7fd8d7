//! Every unit's programs exist: a unit whose program was cut fails on the machine where somebody
//! first starts it.

use std::{fs, path::Path};

use super::{
    check::Checker,
    scan::{Kind, staged},
};

/// Checks the `Exec…=` lines of services and their drop-ins.
pub(crate) fn check(checker: &mut Checker<'_>, usr: &Path) {
    let tree = checker.tree;
    for (path, node) in &tree.nodes {
        let unit = ["/usr/lib/systemd/", "/etc/systemd/"].iter().any(|dir| path.starts_with(dir));
        let service = path.ends_with(".service") || path.contains(".service.d/");
        if !unit || !service || !matches!(node.kind, Kind::File { .. }) {
            continue;
        }
        // Another encoding than UTF-8 is no unit file.
        let Ok(text) = fs::read_to_string(staged(usr, path)) else { continue };
        for program in programs(&text) {
            if !checker.finds_program(&program) {
                checker.misses(path, "starts", &program);
            }
        }
    }
}

/// The programs that a unit cannot do without.
fn programs(text: &str) -> Vec<String> {
    let mut lines = vec![];
    let mut continued = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if !continued {
            lines.push(line);
        }
        continued = line.ends_with('\\');
    }
    let settings: Vec<_> = lines.iter().filter_map(|line| line.split_once('=')).collect();
    // A unit that asks first is skipped on a machine without the program.
    let asked = |program: &str| {
        settings.iter().any(|(key, value)| {
            let asks = ["ConditionPathExists", "ConditionFileIsExecutable"].contains(&key.trim());
            asks && value.trim().trim_start_matches('|') == program
        })
    };
    let exec = settings.iter().filter(|(key, _)| key.starts_with("Exec") && !key.ends_with("Type"));
    exec.filter_map(|(_, value)| program(value)).filter(|program| !asked(program)).collect()
}

/// The program of a command line, unless it may fail or is only known on the machine.
fn program(command: &str) -> Option<String> {
    let first = command.split_ascii_whitespace().next()?;
    let program = first.trim_start_matches(['@', '-', ':', '+', '!', '|']);
    let may_fail = first[..first.len() - program.len()].contains('-');
    let program = program.trim_matches(['"', '\'']);
    let known = !program.is_empty() && !program.contains(['%', '$']);
    (known && !may_fail).then(|| program.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_must_be_there_are_asked_for() {
        let unit = "[Unit]\nConditionFileIsExecutable=/usr/bin/asked\n[Service]\nType=exec\n\
                    ExecStart=@!/usr/bin/one one \\\n  ExecStart=/no\n# ExecStart=/no\n\
                    ExecStartPre=-/usr/bin/may-fail\nExecStop=kill $MAINPID\nExecStart=\n\
                    ExecReload=/usr/bin/asked\nExecStart=/usr/bin/%i\nExecStart=\"/bin/q\" x\n";
        assert_eq!(programs(unit), ["/usr/bin/one", "kill", "/bin/q"]);
    }
}
