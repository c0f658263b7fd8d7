//! What login.defs(5) and useradd(8) say of what a document leaves open, with the defaults of
//! these where they are silent.

use std::ops::RangeInclusive;

/// What is taken where a document says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Numbers of users.
    pub users: RangeInclusive<u32>,
    /// Numbers of users of the system.
    pub system_users: RangeInclusive<u32>,
    /// Numbers of groups.
    pub groups: RangeInclusive<u32>,
    /// Numbers of groups of the system.
    pub system_groups: RangeInclusive<u32>,
    /// Numbers that are given to users for their containers, and how many each gets.
    pub sub_users: (RangeInclusive<u32>, u32),
    /// The same for groups.
    pub sub_groups: (RangeInclusive<u32>, u32),
    /// Whether each user gets a group of its name.
    pub user_groups: bool,
    /// Days that a password is kept at least, kept at most, and warned of: three columns of shadow.
    pub password_days: [String; 3],
    /// Days that an old password still opens: a column of shadow.
    pub inactive: String,
    /// The day when an account ends: a column of shadow.
    pub expire: String,
    /// The mode of a home directory.
    pub home_mode: u32,
    /// Where home directories are.
    pub home: String,
    /// What is in a new home directory.
    pub skeleton: String,
    /// The shell.
    pub shell: String,
    /// The group of users that get none of their own, by name or number.
    pub group: String,
}

impl Defaults {
    /// Reads /etc/login.defs and /etc/default/useradd.
    pub fn parse(login_defs: &str, useradd: &str) -> Self {
        let login = |key: &str| {
            let words = login_defs.lines().map(str::split_whitespace);
            let pairs = words.map(|mut words| (words.next(), words.next()));
            let found = pairs.filter(|(found, _)| *found == Some(key));
            found.filter_map(|(_, value)| value).next_back()
        };
        let number = |key: &str, default: u32| login(key).and_then(parse_number).unwrap_or(default);
        let useradd = |key: &str, default: &str| {
            let values = useradd.lines().filter_map(|line| line.trim().strip_prefix(key));
            let mut values = values.filter_map(|value| value.strip_prefix('='));
            let value = values.next_back().map(|value| value.trim().trim_matches('"'));
            value.filter(|value| !value.is_empty()).unwrap_or(default).to_owned()
        };
        // Negative is how useradd says "never".
        let day = |text: String| if text.starts_with('-') { String::new() } else { text };
        let days = |key: &str, default: &str| day(login(key).unwrap_or(default).to_owned());
        let (first_user, first_group) = (number("UID_MIN", 1000), number("GID_MIN", 1000));
        let last_system = |key: &str, first: u32| number(key, first.saturating_sub(1));
        let sub = |first: &str, last: &str, count: &str| {
            let range = number(first, 100_000)..=number(last, 600_100_000);
            (range, number(count, 65_536))
        };
        Self {
            users: first_user..=number("UID_MAX", 60_000),
            system_users: number("SYS_UID_MIN", 101).max(1)
                ..=last_system("SYS_UID_MAX", first_user),
            groups: first_group..=number("GID_MAX", 60_000),
            system_groups: number("SYS_GID_MIN", 101).max(1)
                ..=last_system("SYS_GID_MAX", first_group),
            sub_users: sub("SUB_UID_MIN", "SUB_UID_MAX", "SUB_UID_COUNT"),
            sub_groups: sub("SUB_GID_MIN", "SUB_GID_MAX", "SUB_GID_COUNT"),
            user_groups: login("USERGROUPS_ENAB")
                .is_none_or(|value| value.eq_ignore_ascii_case("yes")),
            password_days: [
                days("PASS_MIN_DAYS", "0"),
                days("PASS_MAX_DAYS", "99999"),
                days("PASS_WARN_AGE", "7"),
            ],
            inactive: day(useradd("INACTIVE", "")),
            expire: day(useradd("EXPIRE", "")),
            home_mode: number("HOME_MODE", 0o700) & 0o7777,
            home: useradd("HOME", "/home"),
            skeleton: useradd("SKEL", "/etc/skel"),
            shell: useradd("SHELL", "/bin/bash"),
            group: useradd("GROUP", "100"),
        }
    }
}

/// A number as C writes them: with `0` before octal ones and `0x` before hexadecimal ones.
fn parse_number(text: &str) -> Option<u32> {
    match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(hex), _) => u32::from_str_radix(hex, 16).ok(),
        (None, Some(octal)) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        (None, _) => text.parse().ok(),
    }
}
