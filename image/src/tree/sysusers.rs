//! `sysusers.d(5)`, with one rule more: every id is fixed. A machine never chooses one, so that
//! the owner of a file means the same on every machine and in every version.

use std::collections::{BTreeMap, BTreeSet};

/// A `*.conf` file: its path on a running machine and its text.
pub(crate) type Source<'a> = (&'a str, &'a str);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) description: String,
    pub(crate) home: String,
    pub(crate) shell: String,
    /// `u!`: not even by key.
    pub(crate) locked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Group {
    pub(crate) gid: u32,
    pub(crate) members: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Accounts {
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) groups: BTreeMap<String, Group>,
}

/// A line of a file.
#[derive(Clone, Debug)]
struct Line<'a> {
    place: String,
    kind: &'a str,
    name: String,
    id: String,
    rest: Vec<String>,
}

/// The accounts that the files define together, or everything that is wrong with them. Of two
/// lines for one name the first wins; files go by name, as `systemd-sysusers` reads them.
pub(crate) fn accounts(sources: &[Source<'_>]) -> Result<Accounts, Vec<String>> {
    let mut sources = sources.to_vec();
    sources.sort_by_key(|(path, _)| path.rsplit('/').next());
    let (mut lines, mut wrong) = (vec![], vec![]);
    for (path, text) in sources {
        for (number, text) in text.lines().enumerate() {
            match line(format!("{path}:{}", number + 1), text) {
                Ok(found) => lines.extend(found),
                Err(what) => wrong.push(what),
            }
        }
    }
    let mut made = Making { wrong, ..Making::default() };
    made.explicit_groups(&lines);
    made.users(&lines);
    made.members(&lines);
    if made.wrong.is_empty() { Ok(made.accounts) } else { Err(made.wrong) }
}

fn line(place: String, text: &str) -> Result<Option<Line<'_>>, String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (kind, fields) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let mut fields = words(fields).map_err(|what| format!("{place}: {what}"))?.into_iter();
    if !["u", "u!", "g", "m", "r"].contains(&kind) {
        return Err(format!("{place}: `{kind}` is no type of line: expected u, u!, g, m or r"));
    }
    let mut next = || fields.next().unwrap_or_else(|| "-".to_owned());
    let (name, id) = (next(), next());
    let rest: Vec<String> = fields.collect();
    if let Some(word) = [&name, &id].into_iter().chain(&rest).find(|word| word.contains('%')) {
        return Err(format!("{place}: `{word}` has a specifier, which only a machine knows"));
    }
    if let Some(word) = rest.iter().find(|word| word.contains(':')) {
        return Err(format!("{place}: `{word}` has a colon, which /etc/passwd cannot hold"));
    }
    if let "-" | "" = &*name
        && kind != "r"
    {
        return Err(format!("{place}: the name is missing"));
    }
    Ok(Some(Line { place, kind, name, id, rest }))
}

/// Words, some in quotes.
pub(crate) fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut chars) = (vec![], text.chars().peekable());
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(&first) = chars.peek() else { return Ok(words) };
        let quote = (first == '"' || first == '\'').then_some(first);
        let mut word = String::new();
        chars.next_if(|_| quote.is_some());
        loop {
            match chars.next() {
                None if quote.is_some() => return Err("a quote is not closed"),
                None => break,
                Some(c) if Some(c) == quote => break,
                Some(c) if quote.is_none() && c.is_whitespace() => break,
                Some('\\') => word.extend(chars.next()),
                Some(c) => word.push(c),
            }
        }
        words.push(word);
    }
}

impl Line<'_> {
    /// A later field; none if it is absent or `-`.
    fn field(&self, number: usize) -> Option<String> {
        self.rest.get(number).filter(|text| *text != "-" && !text.is_empty()).cloned()
    }

    fn not_fixed(&self) -> String {
        format!(
            "{}: `{}` has the id `{}`: expected a number; fix it in a file that sorts before \
             this one, such as sysusers.d/00-pithos.conf",
            self.place, self.name, self.id
        )
    }
}

#[derive(Default)]
struct Making {
    accounts: Accounts,
    /// Where each id was given out, to name both lines when two want the same.
    uids: BTreeMap<u32, String>,
    gids: BTreeMap<u32, String>,
    wrong: Vec<String>,
}

impl Making {
    fn explicit_groups(&mut self, lines: &[Line<'_>]) {
        let user_of =
            |name: &str| lines.iter().find(|line| line.kind.starts_with('u') && line.name == name);
        for line in lines.iter().filter(|line| line.kind == "g") {
            if self.accounts.groups.contains_key(&line.name) {
                continue;
            }
            let own: Option<u32> = line.id.parse().ok();
            // A group of a user of that name takes its id if it has none of its own.
            let gid = own.or_else(|| user_of(&line.name)?.id.split(':').next()?.parse().ok());
            match gid {
                Some(gid) => drop(self.group(line, gid)),
                None => {
                    self.wrong.push(line.not_fixed());
                    // Once is enough.
                    self.accounts.groups.insert(line.name.clone(), Group::default());
                }
            }
        }
    }

    fn group(&mut self, line: &Line<'_>, gid: u32) -> u32 {
        let here = format!("{} ({})", line.place, line.name);
        if let Some(there) = self.gids.insert(gid, here.clone()) {
            self.wrong.push(format!("two groups have the gid {gid}: {there} and {here}"));
        }
        self.accounts.groups.insert(line.name.clone(), Group { gid, ..Group::default() });
        gid
    }

    fn users(&mut self, lines: &[Line<'_>]) {
        let mut seen = BTreeSet::new();
        for line in lines.iter().filter(|line| line.kind.starts_with('u')) {
            if !seen.insert(&line.name) {
                continue;
            }
            let (uid, group) = line.id.split_once(':').unwrap_or((&line.id, ""));
            let Ok(uid) = uid.parse() else {
                self.wrong.push(line.not_fixed());
                continue;
            };
            let known = |groups: &BTreeMap<String, Group>, group: &str| {
                groups.get(group).map(|group| group.gid)
            };
            let gid = match (group, group.parse::<u32>()) {
                ("", _) => known(&self.accounts.groups, &line.name),
                (_, Ok(gid)) => Some(gid),
                (group, Err(_)) => match known(&self.accounts.groups, group) {
                    Some(gid) => Some(gid),
                    None => {
                        self.wrong.push(format!("{}: there is no group `{group}`", line.place));
                        continue;
                    }
                },
            };
            // A group of the user's own, unless the line names one that is there.
            let gid = match gid {
                Some(gid) if self.gids.contains_key(&gid) => gid,
                Some(gid) => self.group(line, gid),
                None => self.group(line, uid),
            };
            self.user(line, uid, gid);
        }
    }

    fn user(&mut self, line: &Line<'_>, uid: u32, gid: u32) {
        let here = format!("{} ({})", line.place, line.name);
        if let Some(there) = self.uids.insert(uid, here.clone()) {
            self.wrong.push(format!("two users have the uid {uid}: {there} and {here}"));
        }
        let (home, shell) = match uid {
            0 => ("/root", "/bin/bash"),
            _ => ("/", "/usr/sbin/nologin"),
        };
        let user = User {
            uid,
            gid,
            description: line.field(0).unwrap_or_default(),
            home: line.field(1).unwrap_or_else(|| home.to_owned()),
            shell: line.field(2).unwrap_or_else(|| shell.to_owned()),
            locked: line.kind == "u!",
        };
        self.accounts.users.insert(line.name.clone(), user);
    }

    fn members(&mut self, lines: &[Line<'_>]) {
        for line in lines.iter().filter(|line| line.kind == "m") {
            let known = self.accounts.users.contains_key(&line.name);
            match self.accounts.groups.get_mut(&line.id) {
                Some(group) if known => drop(group.members.insert(line.name.clone())),
                Some(_) | None => self.wrong.push(format!(
                    "{}: user `{}` and group `{}` must both have a line with a fixed id",
                    line.place, line.name, line.id
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(sources: &[Source<'_>], expected: Expect) {
        let said = match accounts(sources) {
            Err(wrong) => wrong.join("\n") + "\n",
            Ok(accounts) => {
                let users = accounts.users.iter().map(|(name, user)| {
                    let User { uid, gid, description, home, shell, locked } = user;
                    format!("u {name} {uid}:{gid} {description:?} {home} {shell} {locked}\n")
                });
                let groups = accounts
                    .groups
                    .iter()
                    .map(|(name, group)| format!("g {name} {} {:?}\n", group.gid, group.members));
                users.chain(groups).collect()
            }
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn an_earlier_file_fixes_the_ids_of_a_later_one() {
        check(
            &[
                ("/usr/lib/sysusers.d/sshd.conf", "u sshd -:nogroup 'other' /x\ng input -\n"),
                (
                    "/usr/lib/sysusers.d/00-pithos.conf",
                    "# ours\ng nogroup 65534\ng input 906\nu! sshd 911:65534 \"sshd user\" /run/sshd\n\
                     u core 500 - /home/core /bin/bash\nm core input\nu root 0\nr - 1-2\n",
                ),
            ],
            expect![[r#"
                u core 500:500 "" /home/core /bin/bash false
                u root 0:0 "" /root /bin/bash false
                u sshd 911:65534 "sshd user" /run/sshd /usr/sbin/nologin true
                g core 500 {}
                g input 906 {"core"}
                g nogroup 65534 {}
                g root 0 {}
            "#]],
        );
    }

    #[test]
    fn an_id_that_is_not_fixed_names_its_line() {
        check(
            &[("/usr/lib/sysusers.d/a.conf", "\nu a -\ng b -\ng b -\nu c -:b\ng a -\n")],
            expect![[r#"
                /usr/lib/sysusers.d/a.conf:3: `b` has the id `-`: expected a number; fix it in a file that sorts before this one, such as sysusers.d/00-pithos.conf
                /usr/lib/sysusers.d/a.conf:6: `a` has the id `-`: expected a number; fix it in a file that sorts before this one, such as sysusers.d/00-pithos.conf
                /usr/lib/sysusers.d/a.conf:2: `a` has the id `-`: expected a number; fix it in a file that sorts before this one, such as sysusers.d/00-pithos.conf
                /usr/lib/sysusers.d/a.conf:5: `c` has the id `-:b`: expected a number; fix it in a file that sorts before this one, such as sysusers.d/00-pithos.conf
            "#]],
        );
    }

    #[test]
    fn two_owners_of_one_id_are_both_named() {
        check(
            &[("/a.conf", "g wheel 10\nu uucp 10\nu b 7\nu c 7:8\n")],
            expect![[r#"
                two groups have the gid 10: /a.conf:1 (wheel) and /a.conf:2 (uucp)
                two users have the uid 7: /a.conf:3 (b) and /a.conf:4 (c)
            "#]],
        );
    }

    #[test]
    fn a_member_without_a_user_or_a_group_is_refused() {
        check(
            &[("/a.conf", "u a 1\nm a nobody\nm x a\nz a\nu b:c \"open\n")],
            expect![[r#"
                /a.conf:4: `z` is no type of line: expected u, u!, g, m or r
                /a.conf:5: a quote is not closed
                /a.conf:2: user `a` and group `nobody` must both have a line with a fixed id
                /a.conf:3: user `x` and group `a` must both have a line with a fixed id
            "#]],
        );
    }
}
