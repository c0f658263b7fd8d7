//! The four files of accounts that the image ships, from what sysusers.d defines.

use std::collections::BTreeSet;

use super::{rules::Missing, sysusers::Accounts};

/// Name, mode and text of `passwd`, `group`, `shadow` and `gshadow`, sorted by id.
pub(crate) fn files(accounts: &Accounts) -> [(&'static str, u32, String); 4] {
    let mut users: Vec<_> = accounts.users.iter().collect();
    users.sort_by_key(|(_, user)| user.uid);
    let mut groups: Vec<_> = accounts.groups.iter().collect();
    groups.sort_by_key(|(_, group)| group.gid);
    let (mut passwd, mut shadow) = (String::new(), String::new());
    for (name, user) in users {
        let (uid, gid) = (user.uid, user.gid);
        passwd +=
            &format!("{name}:x:{uid}:{gid}:{}:{}:{}\n", user.description, user.home, user.shell);
        // No password fits `!*`. A day in the past as the account's last shuts out keys as well.
        let last_day = if user.locked { "1" } else { "" };
        shadow += &format!("{name}:!*::::::{last_day}:\n");
    }
    let (mut group_file, mut gshadow) = (String::new(), String::new());
    for (name, group) in groups {
        let members = group.members.iter().cloned().collect::<Vec<_>>().join(",");
        group_file += &format!("{name}:x:{}:{members}\n", group.gid);
        gshadow += &format!("{name}:!*::{members}\n");
    }
    [
        ("passwd", 0o644, passwd),
        ("group", 0o644, group_file),
        ("shadow", 0o600, shadow),
        ("gshadow", 0o600, gshadow),
    ]
}

/// Accounts that packages made as they were installed, and that sysusers.d does not know: the
/// packages' files and units may name them.
pub(crate) fn forgotten(
    users: &BTreeSet<String>,
    groups: &BTreeSet<String>,
    accounts: &Accounts,
    missing: &Missing,
) -> Vec<String> {
    let say = |file: &str, kind: &str, name: &String| {
        format!(
            "{file}: a package made the {kind} `{name}`, which no sysusers.d file defines: give \
             it a fixed id in sysusers.d/00-pithos.conf, or excuse it in missing.list"
        )
    };
    let users = users.iter().filter(|name| !accounts.users.contains_key(*name));
    let users = users.filter(|name| !missing.excuses("/etc/passwd", name));
    let groups = groups.iter().filter(|name| !accounts.groups.contains_key(*name));
    let groups = groups.filter(|name| !missing.excuses("/etc/group", name));
    let mut said: Vec<String> = users.map(|name| say("/etc/passwd", "user", name)).collect();
    said.extend(groups.map(|name| say("/etc/group", "group", name)));
    said
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::sysusers::accounts;
    use super::*;

    #[test]
    fn nobody_has_a_password_and_everything_is_sorted_by_id() {
        let source = "u core 500 \"PithOS operator\" /home/core /bin/bash\ng sudo 27\n\
                      m core sudo\nu root 0\nu! net 9\n";
        let files = files(&accounts(&[("/a.conf", source)]).unwrap());
        let said: String =
            files.iter().map(|(name, mode, text)| format!("{name} {mode:o}\n{text}")).collect();
        expect![[r#"
            passwd 644
            root:x:0:0::/root:/bin/bash
            net:x:9:9::/:/usr/sbin/nologin
            core:x:500:500:PithOS operator:/home/core:/bin/bash
            group 644
            root:x:0:
            net:x:9:
            sudo:x:27:core
            core:x:500:
            shadow 600
            root:!*:::::::
            net:!*::::::1:
            core:!*:::::::
            gshadow 600
            root:!*::
            net:!*::
            sudo:!*::core
            core:!*::
        "#]]
        .assert_eq(&said);
    }

    #[test]
    fn an_account_that_only_a_package_knows_is_named() {
        let known = accounts(&[("/a.conf", "u root 0\n")]).unwrap();
        let names = ["root".to_owned(), "tcpdump".to_owned()].into();
        let said = forgotten(&names, &names, &known, &Missing::default());
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("user `tcpdump`") && said[1].contains("group `tcpdump`"));
    }
}
