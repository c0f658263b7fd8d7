//! What a document says of users and groups, done to the tables: what useradd, usermod, userdel and
//! their three sisters of groups would have done, in the same order and with the same refusals.

use std::collections::BTreeSet;

use super::{
    Accounts, Defaults, Row,
    check::{check_fields, check_hash, check_name},
    numbers::{add_range, free, id, is_free, taken, used_up},
};
use crate::{
    document::config::{Group, Passwd, User},
    files::Refused,
};

/// Somebody after the change: who must have a home, and keys to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Where the document speaks of them.
    pub at: String,
    /// Their name.
    pub name: String,
    /// Their number.
    pub user: u32,
    /// The number of their first group.
    pub group: u32,
    /// Their home.
    pub home: String,
    /// What is to happen to it.
    pub change: Change,
    /// Keys that may come in by SSH.
    pub keys: Vec<String>,
}

/// What is to happen to somebody's home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// It is made if it is not there.
    Make,
    /// It moves here.
    Move {
        /// From there.
        from: String,
    },
    /// What belonged to this user and this group in it is theirs now.
    Own {
        /// The user that they were.
        user: u32,
        /// The group that they were in.
        group: u32,
    },
    /// It goes, with them.
    Remove,
}

/// Changes the tables. `day` is today, in days since 1970.
pub fn change(
    accounts: &mut Accounts,
    passwd: &Passwd,
    defaults: &Defaults,
    day: u32,
) -> Result<Vec<Person>, Refused> {
    let goes = |user: &&User| user.should_exist == Some(false);
    let leaving: BTreeSet<&str> =
        passwd.users.iter().filter(goes).map(|user| &*user.name).collect();
    let mut changing = Changing { accounts, defaults, day };
    for (index, group) in passwd.groups.iter().enumerate() {
        changing.group(&format!("$.passwd.groups.{index}"), group, &leaving)?;
    }
    let mut people = Vec::new();
    for (index, user) in passwd.users.iter().enumerate() {
        people.extend(changing.user(format!("$.passwd.users.{index}"), user)?);
    }
    Ok(people)
}

struct Changing<'a> {
    accounts: &'a mut Accounts,
    defaults: &'a Defaults,
    day: u32,
}

impl Changing<'_> {
    fn group(&mut self, at: &str, group: &Group, leaving: &BTreeSet<&str>) -> Result<(), Refused> {
        let name = &*group.name;
        let old = self.accounts.group_id(name);
        if group.should_exist == Some(false) {
            let Some(gid) = old else { return Ok(()) };
            let is_in = |user: &&Row| user.number(3) == Some(gid) && !leaving.contains(user.name());
            if let Some(user) = self.accounts.passwd.rows().find(is_in) {
                let why = format!("`{name}` is the first group of the user `{}`", user.name());
                return Err(Refused::new(at, why).hint("give the user another primaryGroup first"));
            }
            self.remove_group(name);
            return Ok(());
        }
        check_name(&format!("{at}.name"), name)?;
        let hash = group.password_hash.as_deref().filter(|hash| !hash.is_empty());
        check_hash(&format!("{at}.passwordHash"), hash)?;
        let gid = id(&format!("{at}.gid"), group.gid)?;
        if let Some(gid) = gid.filter(|gid| Some(*gid) != old)
            && let Some(holder) = self.accounts.group.rows().find(|row| row.number(2) == Some(gid))
        {
            return Err(taken(&format!("{at}.gid"), "group", holder.name(), gid));
        }
        match old {
            Some(old) => {
                if let Some(gid) = gid {
                    self.renumber_group(name, old, gid);
                }
                if let Some(hash) = hash {
                    self.set_group_hash(name, hash);
                }
            }
            None => {
                let gid = match gid {
                    Some(gid) => gid,
                    None => self.free_group(at, group.system == Some(true), None)?,
                };
                self.add_group(name, gid, hash.unwrap_or("!"));
            }
        }
        Ok(())
    }

    fn user(&mut self, at: String, user: &User) -> Result<Option<Person>, Refused> {
        let name = &*user.name;
        if user.should_exist == Some(false) {
            return Ok(self.remove_user(at, name));
        }
        check_name(&format!("{at}.name"), name)?;
        check_fields(&at, user)?;
        let hash = match user.password_hash.as_deref() {
            Some("") => Some("*"),
            hash => hash,
        };
        check_hash(&format!("{at}.passwordHash"), hash)?;
        let uid = id(&format!("{at}.uid"), user.uid)?;
        let same_uid = |row: &&Row| row.number(2) == uid && row.name() != name;
        if let (Some(uid), Some(holder)) = (uid, self.accounts.passwd.rows().find(same_uid)) {
            return Err(taken(&format!("{at}.uid"), "user", holder.name(), uid));
        }
        let primary = given(&user.primary_group);
        let primary = primary.map(|group| self.find_group(&at, "primaryGroup", group));
        let primary = primary.transpose()?.map(|(_, gid)| gid);
        let groups: Result<BTreeSet<String>, Refused> =
            user.groups.iter().map(|group| Ok(self.find_group(&at, "groups", group)?.0)).collect();
        let asked = Asked { uid, primary, groups: groups?, hash };
        match self.accounts.passwd.get(name) {
            Some(row) => {
                let (old_uid, old_gid) = (row.number(2), row.number(3));
                let old = old_uid.zip(old_gid).ok_or_else(|| {
                    Refused::new(&at, format!("the line of `{name}` in /etc/passwd is broken"))
                })?;
                Ok(Some(self.change_user(at, user, &asked, old)))
            }
            None => self.add_user(at, user, &asked).map(Some),
        }
    }

    fn add_user(&mut self, at: String, user: &User, asked: &Asked) -> Result<Person, Refused> {
        let (name, defaults) = (&*user.name, self.defaults);
        let is_system = user.system == Some(true);
        let uid = match asked.uid {
            Some(uid) => uid,
            None => {
                let range = if is_system { &defaults.system_users } else { &defaults.users };
                let found = free(&self.accounts.passwd.numbers(), range, is_system);
                found.ok_or_else(|| used_up(&at, "users", range))?
            }
        };
        let own_group = defaults.user_groups && user.no_user_group != Some(true);
        let gid = match asked.primary {
            Some(gid) => gid,
            None if own_group && self.accounts.group.get(name).is_some() => {
                let why = format!("there is a group `{name}` already, and the user would get one");
                let hint = format!("say \"primaryGroup\": \"{name}\" to put the user into it");
                return Err(Refused::new(at, why).hint(hint));
            }
            None if own_group => {
                let gid = self.free_group(&at, is_system, Some(uid))?;
                self.add_group(name, gid, "!");
                gid
            }
            None => self.find_group(&at, "noUserGroup", &defaults.group)?.1,
        };
        let home = match given(&user.home_dir) {
            Some(home) => home.to_owned(),
            None => format!("{}/{name}", defaults.home),
        };
        let hash = asked.hash.unwrap_or("*");
        let shown = if self.accounts.shadow.is_some() { "x" } else { hash };
        let gecos = given(&user.gecos).unwrap_or_default();
        let shell = given(&user.shell).unwrap_or(&defaults.shell);
        let (uid_text, gid_text) = (uid.to_string(), gid.to_string());
        let row = Row::new([name, shown, &uid_text, &gid_text, gecos, &home, shell]);
        self.accounts.passwd.push(row);
        if let Some(shadow) = &mut self.accounts.shadow {
            // A line without a user may be left over from somebody who was removed by hand.
            shadow.remove(name);
            let [min, max, warn] = &defaults.password_days;
            let day = day_text(self.day);
            shadow.push(match is_system {
                true => Row::new([name, hash, &day, "", "", "", "", &defaults.expire, ""]),
                false => {
                    let (inactive, expire) = (&defaults.inactive, &defaults.expire);
                    Row::new([name, hash, &day, min, max, warn, inactive, expire, ""])
                }
            });
        }
        for group in &asked.groups {
            self.set_member(group, name, true);
        }
        if !is_system && defaults.users.contains(&uid) {
            let accounts = &mut *self.accounts;
            let tables = [
                (&mut accounts.subuid, &defaults.sub_users),
                (&mut accounts.subgid, &defaults.sub_groups),
            ];
            for (table, (range, count)) in tables {
                table.iter_mut().for_each(|table| add_range(table, name, range, *count));
            }
        }
        let change = if user.no_create_home == Some(true) { Change::Keep } else { Change::Make };
        Ok(self.person(at, user, (uid, gid), home, change))
    }

    fn change_user(
        &mut self,
        at: String,
        user: &User,
        asked: &Asked,
        (old_uid, old_gid): (u32, u32),
    ) -> Person {
        let name = &*user.name;
        let has_shadow = self.accounts.shadow.is_some();
        let row = self.accounts.passwd.get_mut(name).expect("who is changed is there");
        let (uid, gid) = (asked.uid.unwrap_or(old_uid), asked.primary.unwrap_or(old_gid));
        (row.0[2], row.0[3]) = (uid.to_string(), gid.to_string());
        let wishes = [(4, given(&user.gecos)), (6, given(&user.shell))];
        for (column, wish) in wishes {
            if let Some(wish) = wish {
                row.0[column] = wish.to_owned();
            }
        }
        let old_home = row.0[5].clone();
        let home = given(&user.home_dir).unwrap_or(&old_home).to_owned();
        row.0[5].clone_from(&home);
        if let Some(hash) = asked.hash {
            if has_shadow {
                row.0[1] = "x".to_owned();
                self.set_shadow_hash(name, hash);
            } else {
                row.0[1] = hash.to_owned();
            }
        }
        if !asked.groups.is_empty() {
            let all: Vec<String> =
                self.accounts.group.rows().map(|row| row.name().to_owned()).collect();
            for group in all {
                self.set_member(&group, name, asked.groups.contains(&group));
            }
        }
        let change = if home != old_home {
            Change::Move { from: old_home }
        } else if (uid, gid) != (old_uid, old_gid) {
            Change::Own { user: old_uid, group: old_gid }
        } else if !user.ssh_authorized_keys.is_empty() && user.no_create_home != Some(true) {
            // Whoever comes in by a key comes home: a user of the image may not have been there yet.
            Change::Make
        } else {
            Change::Keep
        };
        self.person(at, user, (uid, gid), home, change)
    }

    fn remove_user(&mut self, at: String, name: &str) -> Option<Person> {
        let row = self.accounts.passwd.get(name)?;
        let (uid, gid) = (row.number(2)?, row.number(3)?);
        let home = row.0[5].clone();
        let accounts = &mut *self.accounts;
        accounts.passwd.remove(name);
        for table in [&mut accounts.shadow, &mut accounts.subuid, &mut accounts.subgid] {
            table.iter_mut().for_each(|table| table.remove(name));
        }
        let all: Vec<String> = accounts.group.rows().map(|row| row.name().to_owned()).collect();
        for group in all {
            self.set_member(&group, name, false);
        }
        let accounts = &*self.accounts;
        let own = accounts.group.get(name).filter(|group| group.names(3).next().is_none());
        let others =
            || accounts.passwd.rows().any(|row| row.number(3) == own.and_then(|g| g.number(2)));
        if self.defaults.user_groups && own.is_some() && !others() {
            self.remove_group(name);
        }
        let inside = |row: &Row| std::path::Path::new(&row.0[5]).starts_with(&home);
        let shared = self.accounts.passwd.rows().any(inside);
        let change = if shared { Change::Keep } else { Change::Remove };
        let user = User { name: name.to_owned(), ..User::default() };
        Some(self.person(at, &user, (uid, gid), home, change))
    }

    fn person(
        &self,
        at: String,
        user: &User,
        (uid, gid): (u32, u32),
        home: String,
        change: Change,
    ) -> Person {
        let keys = user.ssh_authorized_keys.clone();
        Person { at, name: user.name.clone(), user: uid, group: gid, home, change, keys }
    }

    fn find_group(&self, at: &str, key: &str, name: &str) -> Result<(String, u32), Refused> {
        let by_name = self.accounts.group.get(name);
        let number = name.parse::<u32>().ok();
        let by_number =
            || self.accounts.group.rows().find(|row| number.is_some() && row.number(2) == number);
        let row = by_name.or_else(by_number);
        let found = row.and_then(|row| Some((row.name().to_owned(), row.number(2)?)));
        found.ok_or_else(|| {
            Refused::new(format!("{at}.{key}"), format!("there is no group `{name}`"))
                .hint("let passwd.groups of the document make it")
        })
    }

    fn free_group(&self, at: &str, is_system: bool, wish: Option<u32>) -> Result<u32, Refused> {
        let defaults = self.defaults;
        let range = if is_system { &defaults.system_groups } else { &defaults.groups };
        let taken = self.accounts.group.numbers();
        // A group of the system may have the number of its user below its own range.
        let first = if is_system { 1 } else { *range.start() };
        let wish = wish.filter(|id| (first..=*range.end()).contains(id) && is_free(&taken, *id));
        let found = wish.or_else(|| free(&taken, range, is_system));
        found.ok_or_else(|| used_up(at, "groups", range))
    }

    fn add_group(&mut self, name: &str, gid: u32, hash: &str) {
        let shown = if self.accounts.gshadow.is_some() { "x" } else { hash };
        self.accounts.group.push(Row::new([name, shown, &gid.to_string(), ""]));
        if let Some(gshadow) = &mut self.accounts.gshadow {
            gshadow.remove(name);
            gshadow.push(Row::new([name, hash, "", ""]));
        }
    }

    fn remove_group(&mut self, name: &str) {
        self.accounts.group.remove(name);
        self.accounts.gshadow.iter_mut().for_each(|table| table.remove(name));
    }

    fn renumber_group(&mut self, name: &str, old: u32, gid: u32) {
        if let Some(row) = self.accounts.group.get_mut(name) {
            row.0[2] = gid.to_string();
        }
        for user in self.accounts.passwd.rows_mut().filter(|user| user.number(3) == Some(old)) {
            user.0[3] = gid.to_string();
        }
    }

    fn set_group_hash(&mut self, name: &str, hash: &str) {
        let (open, secret) = match &mut self.accounts.gshadow {
            Some(gshadow) => match gshadow.get_mut(name) {
                Some(row) => ("x", Some(&mut row.0[1])),
                None => {
                    gshadow.push(Row::new([name, hash, "", ""]));
                    ("x", None)
                }
            },
            None => (hash, None),
        };
        if let Some(secret) = secret {
            *secret = hash.to_owned();
        }
        if let Some(row) = self.accounts.group.get_mut(name) {
            row.0[1] = open.to_owned();
        }
    }

    fn set_shadow_hash(&mut self, name: &str, hash: &str) {
        let Some(shadow) = &mut self.accounts.shadow else { return };
        let day = day_text(self.day);
        match shadow.get_mut(name) {
            // The day is when it changed: the same hash once more is no change.
            Some(row) if row.0[1] == hash => {}
            Some(row) => (row.0[1], row.0[2]) = (hash.to_owned(), day),
            None => {
                let [min, max, warn] = &self.defaults.password_days;
                shadow.push(Row::new([name, hash, &day, min, max, warn, "", "", ""]));
            }
        }
    }

    fn set_member(&mut self, group: &str, name: &str, is_in: bool) {
        if let Some(row) = self.accounts.group.get_mut(group) {
            row.set_member(3, name, is_in);
        }
        if let Some(row) = self.accounts.gshadow.as_mut().and_then(|table| table.get_mut(group)) {
            row.set_member(3, name, is_in);
        }
    }
}

/// What a document asks for, looked up.
struct Asked<'a> {
    uid: Option<u32>,
    primary: Option<u32>,
    groups: BTreeSet<String>,
    hash: Option<&'a str>,
}

pub(super) fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}

/// useradd leaves the day out where the clock says 1970: a clock that is not set says nothing.
fn day_text(day: u32) -> String {
    if day == 0 { String::new() } else { day.to_string() }
}
