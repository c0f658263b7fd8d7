//! Libraries that only configuration names: modules of PAM, without which nobody logs in, and
//! services of NSS, without which names are not found.

use std::{fs, path::Path};

use super::{
    check::{Checker, LIBRARY_DIRS},
    scan::{Kind, staged},
};

const PAM_DIRS: [&str; 2] = ["/etc/pam.d/", "/usr/lib/pam.d/"];
/// In the C library itself.
const NSS_BUILT_IN: [&str; 2] = ["files", "dns"];

/// Checks that every module and service is there.
pub(crate) fn check(checker: &mut Checker<'_>, usr: &Path) {
    let tree = checker.tree;
    for (path, node) in &tree.nodes {
        let pam = PAM_DIRS.iter().any(|dir| path.starts_with(dir));
        if !matches!(node.kind, Kind::File { .. }) || !(pam || path == "/etc/nsswitch.conf") {
            continue;
        }
        let Ok(text) = fs::read_to_string(staged(usr, path)) else { continue };
        let wanted: Vec<String> = if pam {
            text.lines().filter_map(pam_file).collect()
        } else {
            // Debian names services that nobody has to have: glibc goes on to the next. What is
            // cut was had.
            let libraries = text.lines().flat_map(nss_libraries);
            libraries.filter(|library| checker.was_cut(library)).collect()
        };
        for file in wanted {
            let there = if file.starts_with('/') {
                checker.is_file(&file)
            } else {
                LIBRARY_DIRS.iter().any(|dir| checker.is_file(&format!("{dir}/{file}")))
            };
            if !there {
                checker.misses(path, "names", &file);
            }
        }
    }
}

/// The file that a line of pam.d(5) must have: `[-]TYPE CONTROL MODULE …` or `@include FILE`.
fn pam_file(line: &str) -> Option<String> {
    let line = line.split('#').next()?.trim();
    if let Some(file) = line.strip_prefix("@include") {
        return Some(format!("/etc/pam.d/{}", file.trim()));
    }
    // With a dash, the module may be missing.
    let (kind, rest) = line.split_once(char::is_whitespace)?;
    if kind.starts_with('-') {
        return None;
    }
    let rest = rest.trim_start();
    let (control, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => rest.split_once(char::is_whitespace)?,
    };
    let module = rest.split_whitespace().next()?;
    Some(match (control, module.starts_with('/')) {
        (_, true) => module.to_owned(),
        ("include" | "substack", false) => format!("/etc/pam.d/{module}"),
        (_, false) => format!("security/{module}"),
    })
}

/// The libraries of a line of nsswitch.conf(5): `DATABASE: SERVICE [ACTION] SERVICE …`
fn nss_libraries(line: &str) -> Vec<String> {
    let line = line.split('#').next().unwrap_or_default();
    let Some((_, services)) = line.split_once(':') else { return vec![] };
    let outside = services.split('[').flat_map(|part| match part.split_once(']') {
        Some((_, services)) => services.split_whitespace(),
        None => part.split_whitespace(),
    });
    let libraries = outside.filter(|service| !NSS_BUILT_IN.contains(service));
    libraries.map(|service| format!("libnss_{service}.so.2")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_pam_names_a_module_or_another_file() {
        for (line, expected) in [
            ("auth required pam_unix.so nullok", Some("security/pam_unix.so")),
            ("auth [success=1 default=ignore] pam_unix.so", Some("security/pam_unix.so")),
            ("-session optional pam_systemd.so", None),
            ("account substack common", Some("/etc/pam.d/common")),
            ("@include common-auth # and so on", Some("/etc/pam.d/common-auth")),
            ("# auth required pam_no.so", None),
            ("session required /usr/lib/x.so", Some("/usr/lib/x.so")),
        ] {
            assert_eq!(pam_file(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_line_of_nsswitch_names_libraries() {
        assert_eq!(
            nss_libraries("hosts: files resolve [!UNAVAIL=return] dns myhostname # x"),
            ["libnss_resolve.so.2", "libnss_myhostname.so.2"]
        );
        assert!(nss_libraries("# passwd: nis").is_empty());
    }
}
