//! Rules for users and groups. The original has none: what useradd and groupadd would refuse in
//! the middle of a boot is refused here.

use super::Rules;
use crate::document::{authorized, config::Passwd, hash::is_hash, node::At};

impl Rules<'_> {
    /// Users and groups.
    pub(super) fn passwd(&mut self, passwd: &Passwd, at: &At<'_>) {
        let users = at.key("users");
        for (index, user) in passwd.users.iter().enumerate() {
            let at = users.index(index);
            self.refuse(&at.key("name"), name_problem(&user.name));
            self.id(user.uid, &at.key("uid"));
            self.password(user.password_hash.as_deref(), &at.key("passwordHash"));
            for (key, path) in [("homeDir", &user.home_dir), ("shell", &user.shell)] {
                match path.as_deref() {
                    None | Some("") => {}
                    Some(path) if !path.starts_with('/') => {
                        self.error(&at.key(key), "expected an absolute path");
                    }
                    Some(path) => self.one_line(path, &at.key(key)),
                }
            }
            self.one_line(user.gecos.as_deref().unwrap_or_default(), &at.key("gecos"));
            let keys = at.key("sshAuthorizedKeys");
            for (index, key) in user.ssh_authorized_keys.iter().enumerate() {
                self.authorized_key(key, &keys.index(index));
            }
            let groups = at.key("groups");
            for (index, group) in user.groups.iter().enumerate() {
                self.refuse(&groups.index(index), name_problem(group));
            }
        }
        let groups = at.key("groups");
        for (index, group) in passwd.groups.iter().enumerate() {
            let at = groups.index(index);
            self.refuse(&at.key("name"), name_problem(&group.name));
            self.id(group.gid, &at.key("gid"));
            self.password(group.password_hash.as_deref(), &at.key("passwordHash"));
        }
    }

    /// The greatest number means "unchanged" to chown, so nobody can have it.
    fn id(&mut self, id: Option<i64>, at: &At<'_>) {
        if let Some(id) = id.filter(|id| !(0..i64::from(u32::MAX)).contains(id)) {
            self.report.error(at, format!("{id} is no id: expected 0 to 4294967294"));
        }
    }

    /// What is no key is not refused: the original takes it, and sshd passes over it.
    fn authorized_key(&mut self, key: &str, at: &At<'_>) {
        if key.trim_end_matches('\n').contains(['\n', '\r', '\0']) {
            self.error(at, "several lines in one key; write an entry each");
        } else if !authorized::is_key(key) {
            self.report
                .warning(at, "this is not a public key of SSH: nobody can log in with it")
                .hint("expected the line of a file `*.pub`: `ssh-ed25519 AAAA... comment`");
        }
    }

    fn one_line(&mut self, text: &str, at: &At<'_>) {
        if text.contains([':', '\n', '\r', '\0']) {
            self.error(at, "a field of /etc/passwd cannot hold `:` or the end of a line");
        }
    }

    /// An empty one stands for none.
    fn password(&mut self, hash: Option<&str>, at: &At<'_>) {
        if hash.is_some_and(|hash| !hash.is_empty() && !is_hash(hash)) {
            self.report
                .error(at, "this is not the hash of a password (crypt(3))")
                .hint("`mkpasswd --method=yescrypt` or `openssl passwd -6` make one");
        }
    }
}

/// What is wrong with the name of a user or a group.
fn name_problem(name: &str) -> Option<&'static str> {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    // A machine account of Samba ends with a dollar sign.
    let rest = name.strip_suffix('$').unwrap_or(name);
    let good = rest.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let digits = name.chars().all(|c| c.is_ascii_digit());
    if name.is_empty() {
        Some("a name is missing here")
    } else if !first || !good || digits {
        Some("expected a name of letters, digits, `_`, `-` and `.`, not of digits alone")
    } else if name.len() > 32 {
        Some("a name has at most 32 characters")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::document::{Nowhere, Sources, read};

    #[test]
    fn a_password_and_half_a_hash_are_refused_before_anything_is_made() {
        let mut sources = Sources::default();
        let text = r#"{"ignition": {"version": "3.6.0"}, "passwd": {
            "users": [{"name": "a", "passwordHash": "secret"},
                {"name": "b", "passwordHash": "$6$salt"},
                {"name": "c", "passwordHash": "*a"},
                {"name": "d", "passwordHash": "!*"},
                {"name": "e", "passwordHash": ""}],
            "groups": [{"name": "f", "passwordHash": "_short"}]}}"#;
        let report = read("a.ign", text.as_bytes(), &Nowhere, &mut sources).report;
        let paths: Vec<&str> = report.findings.iter().map(|found| &*found.path).collect();
        expect![[r#"
            $.passwd.users.0.passwordHash
            $.passwd.users.1.passwordHash
            $.passwd.users.2.passwordHash
            $.passwd.groups.0.passwordHash"#]]
        .assert_eq(&paths.join("\n"));
        let first = report.findings[0].message.as_str();
        assert_eq!(first, "this is not the hash of a password (crypt(3))");
    }
}
