//! Users and groups that the tree's files name are all defined: what systemd-tmpfiles, a unit or
//! udev cannot resolve fails at boot.

use std::{fs, path::Path};

use super::{
    check::Checker,
    scan::{Kind, Tree, staged},
    sysusers::{Accounts, words},
};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Whose {
    User,
    Group,
}

type Names = Vec<(Whose, String)>;

/// Checks tmpfiles.d, units and rules of udev.
pub(crate) fn check(checker: &mut Checker<'_>, usr: &Path, accounts: &Accounts) {
    let tree = checker.tree;
    for (path, node) in &tree.nodes {
        let Some(names) = reader(tree, path) else { continue };
        if !matches!(node.kind, Kind::File { .. }) {
            continue;
        }
        let Ok(text) = fs::read_to_string(staged(usr, path)) else { continue };
        let mut wanted = names(&text);
        wanted.sort();
        wanted.dedup();
        for (whose, name) in wanted {
            let (known, kind) = match whose {
                Whose::User => (accounts.users.contains_key(&name), "user"),
                Whose::Group => (accounts.groups.contains_key(&name), "group"),
            };
            let number = name.bytes().all(|byte| byte.is_ascii_digit());
            // What has a specifier is only known on a machine.
            if known || number || name.contains('%') || checker.missing.excuses(path, &name) {
                continue;
            }
            checker.findings.push(format!(
                "{path} names the {kind} `{name}`, which no sysusers.d file defines"
            ));
        }
    }
}

/// How to read the names of the file at `path`, if it may have any and is not overridden.
fn reader(tree: &Tree, path: &str) -> Option<fn(&str) -> Names> {
    let (dir, file) = path.rsplit_once('/')?;
    let overridden = |kind: &str| {
        path.starts_with("/usr") && tree.nodes.contains_key(&format!("/etc/{kind}/{file}"))
    };
    match dir {
        "/usr/lib/tmpfiles.d" | "/etc/tmpfiles.d" if !overridden("tmpfiles.d") => Some(of_tmpfiles),
        "/usr/lib/udev/rules.d" | "/etc/udev/rules.d" if !overridden("udev/rules.d") => {
            Some(of_udev)
        }
        "/usr/lib/systemd/system" | "/etc/systemd/system" if !overridden("systemd/system") => {
            Some(of_unit)
        }
        _ => None,
    }
}

/// `TYPE PATH MODE USER GROUP …`
fn of_tmpfiles(text: &str) -> Names {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let mut names = vec![];
    for fields in lines.filter_map(|line| words(line).ok()) {
        for (number, whose) in [(3, Whose::User), (4, Whose::Group)] {
            let name = fields.get(number).map_or("", |name| name.trim_start_matches(':'));
            if !name.is_empty() && name != "-" {
                names.push((whose, name.to_owned()));
            }
        }
    }
    names
}

/// `OWNER="…"` and `GROUP="…"`
fn of_udev(text: &str) -> Names {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let assignments = lines.flat_map(|line| line.split(','));
    let names = assignments.filter_map(|assignment| {
        let (key, value) = assignment.split_once('=')?;
        let whose = match key.trim().trim_end_matches([':', '+']) {
            "OWNER" => Whose::User,
            "GROUP" => Whose::Group,
            _ => return None,
        };
        let name = value.trim().trim_matches('"');
        // `==` compares, and a substitution is only known on a machine.
        let plain = !name.is_empty() && !name.contains(['=', '$', '\\', ' ']);
        plain.then(|| (whose, name.to_owned()))
    });
    names.collect()
}

/// `User=`, `Group=`, `SupplementaryGroups=` and their like of sockets.
fn of_unit(text: &str) -> Names {
    let settings: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let dynamic = settings.iter().any(|(key, value)| {
        *key == "DynamicUser" && ["yes", "true", "1", "on"].contains(&value.trim())
    });
    let names = settings.iter().flat_map(|(key, value)| {
        let whose = match *key {
            "User" | "Group" if dynamic => None,
            "User" | "SocketUser" => Some(Whose::User),
            "Group" | "SocketGroup" | "SupplementaryGroups" => Some(Whose::Group),
            _ => None,
        };
        let names = value.split_whitespace().map(str::to_owned);
        names.filter_map(move |name| Some((whose?, name)))
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &[(Whose, String)]) -> Vec<String> {
        names.iter().map(|(whose, name)| format!("{whose:?} {name}")).collect()
    }

    #[test]
    fn tmpfiles_name_owners_in_the_fourth_and_fifth_field() {
        let text =
            "# d /x 0755 no no\nd /run/a 0755 root :adm -\nL /b - - - - /c\nd \"/d e\" - x\n";
        assert_eq!(shown(&of_tmpfiles(text)), ["User root", "Group adm", "User x"]);
    }

    #[test]
    fn rules_of_udev_name_owners_by_assignment() {
        let text = "# GROUP=\"no\"\nSUBSYSTEM==\"x\", GROUP=\"video\", OWNER:=\"root\"\n\
                    GROUP==\"no\", GROUP=\"$env{X}\"\n";
        assert_eq!(shown(&of_udev(text)), ["Group video", "User root"]);
    }

    #[test]
    fn a_unit_names_who_runs_it_unless_systemd_invents_them() {
        let text = "[Service]\nUser=a\nSupplementaryGroups=b c\n[Socket]\nSocketGroup=d\n";
        assert_eq!(shown(&of_unit(text)), ["User a", "Group b", "Group c", "Group d"]);
        assert_eq!(shown(&of_unit("User=a\nDynamicUser=yes\nSupplementaryGroups=b")), ["Group b"]);
    }
}
