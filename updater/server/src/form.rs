//! What a person fills in on the page: pure.

use jiff::{SignedDuration, Timestamp};
use payload::request::{Change, Wish};

use crate::catalog::Catalog;

/// The fields of a form or a query. A field that is there twice counts the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads them.
    pub fn read(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// A field; empty, if it is not there.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map_or("", |(_, value)| value.trim())
    }

    /// What is wanted. The button says `pause CHANNEL VERSION`, or another change.
    pub fn wish(&self, catalog: &Catalog, now: Timestamp) -> Result<Wish, String> {
        let words: Vec<&str> = self.get("wish").split(' ').collect();
        let [change, channel, version] = words.as_slice() else {
            return Err("press one of the buttons of a release".to_owned());
        };
        let wish = match *change {
            "pause" => {
                let reason = self.get("reason").to_owned();
                self.about(channel, version, Change::Pause { reason })
            }
            "resume" => self.about(channel, version, Change::Resume),
            "promote" => {
                let usual_from = match self.get("opening") {
                    "all" => None,
                    "usual" | "" => Some(when(self.get("from"), now)?),
                    other => return Err(format!("`{other}` is no way to open a release")),
                };
                let change = Change::Promote { from: (*channel).to_owned(), usual_from };
                self.about(self.get("to"), version, change)
            }
            other => Err(format!("`{other}` is not a change; expected pause, resume or promote")),
        }?;
        check(&wish, catalog)?;
        Ok(wish)
    }

    fn about(&self, channel: &str, version: &str, change: Change) -> Result<Wish, String> {
        let version = version.parse().map_err(|error| format!("{error}"))?;
        Ok(Wish { channel: channel.to_owned(), version, change })
    }
}

/// Whether a wish is about something that is there. The publisher looks once more.
pub fn check(wish: &Wish, catalog: &Catalog) -> Result<(), String> {
    let Wish { channel, version, change } = wish;
    let source = match change {
        Change::Promote { from, .. } if from == channel => {
            return Err(format!("{version} is in {from} already: promote it to another channel"));
        }
        Change::Promote { from, .. } => from,
        Change::Pause { reason } if reason.is_empty() || reason.len() > 200 => {
            return Err("say in up to 200 characters why it is paused: operators of machines \
                        read it"
                .to_owned());
        }
        Change::Pause { reason } if reason.contains(char::is_control) => {
            return Err("the reason has to be one line".to_owned());
        }
        Change::Pause { .. } | Change::Resume => channel,
    };
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if channel.is_empty() || channel.len() > 64 || !channel.chars().all(good) {
        return Err(format!("`{channel}` is no name for a channel: expected a-z 0-9 -"));
    }
    let names: Vec<&str> = catalog.channels.iter().map(|found| found.name.as_str()).collect();
    let Some(found) = catalog.channels.iter().find(|found| found.name == *source) else {
        return Err(format!("there is no channel {source}, but {}", names.join(" ")));
    };
    match found.releases.iter().any(|entry| entry.version == *version) {
        true => Ok(()),
        false => Err(format!("{version} is not in the channel {source}")),
    }
}

/// Now, a time, or so many hours from now: `+24`.
fn when(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong = || {
        format!("`{text}` is no time; write 2026-12-01T08:00:00Z, or +24 for in a day, or nothing")
    };
    let time = match text.strip_prefix('+') {
        None if text.is_empty() => now,
        None => text.parse().map_err(|_| wrong())?,
        Some(hours) => {
            let hours: u16 = hours.parse().map_err(|_| wrong())?;
            now + SignedDuration::from_hours(hours.into())
        }
    };
    // What is signed has whole seconds.
    Timestamp::from_second(time.as_second()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use payload::{
        Channel,
        channel::{self, Entry, State},
    };

    use super::*;

    fn catalog() -> Catalog {
        let entry = |version: &str| Entry {
            version: version.parse().unwrap(),
            security_epoch: 0,
            variants: vec![],
            barrier: false,
            state: State::Open { waves: vec![] },
            countersignatures: vec![],
        };
        let channel = |name: &str, releases| Channel {
            format: channel::FORMAT,
            name: name.to_owned(),
            releases,
            downgrades: vec![],
            dead_ends: vec![],
        };
        let channels = vec![
            channel("alpha", vec![entry("1.0"), entry("1.1")]),
            channel("stable", vec![entry("1.0")]),
        ];
        Catalog { channels, ..Catalog::default() }
    }

    fn check(text: &str, expect: Expect) {
        let wish = Fields::read(text.as_bytes()).wish(&catalog(), Timestamp::UNIX_EPOCH);
        expect.assert_eq(&wish.map_or_else(|error| error, |wish| wish.to_string()));
    }

    #[test]
    fn a_button_is_a_wish() {
        check(
            "wish=pause+stable+1.0&reason=it+hangs+%3Con%3E+boot",
            expect!["pause 1.0 in stable: it hangs <on> boot"],
        );
        check("wish=resume+stable+1.0", expect!["open 1.0 in stable again"]);
        check(
            "wish=promote+alpha+1.1&to=stable&opening=usual&from=%2B24",
            expect![
                "promote 1.1 from alpha to stable, in the usual waves from 1970-01-02T00:00:00Z"
            ],
        );
        check(
            "wish=promote+alpha+1.1&to=stable&from=2026-12-01T08:00:00.5Z",
            expect![
                "promote 1.1 from alpha to stable, in the usual waves from 2026-12-01T08:00:00Z"
            ],
        );
        check(
            "wish=promote+alpha+1.1&to=stable&opening=all",
            expect!["promote 1.1 from alpha to stable, to all machines at once"],
        );
        check(
            "wish=promote+alpha+1.1&to=new-one&opening=all",
            expect!["promote 1.1 from alpha to new-one, to all machines at once"],
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        check("", expect!["press one of the buttons of a release"]);
        check(
            "wish=pause+stable+1.0",
            expect!["say in up to 200 characters why it is paused: operators of machines read it"],
        );
        check("wish=pause+stable+1.0&reason=a%0Ab", expect!["the reason has to be one line"]);
        check("wish=pause+stable+1.1&reason=x", expect!["1.1 is not in the channel stable"]);
        check(
            "wish=pause+beta+1.1&reason=x",
            expect!["there is no channel beta, but alpha stable"],
        );
        check(
            "wish=pause+stable+..&reason=x",
            expect![
                "`..` is not a version: expected 1 to 22 characters of a-z 0-9 . -, starting with a digit"
            ],
        );
        check(
            "wish=destroy+stable+1.0",
            expect!["`destroy` is not a change; expected pause, resume or promote"],
        );
        check(
            "wish=promote+alpha+1.1&to=alpha",
            expect!["1.1 is in alpha already: promote it to another channel"],
        );
        check(
            "wish=promote+alpha+1.1&to=../x",
            expect!["`../x` is no name for a channel: expected a-z 0-9 -"],
        );
        check(
            "wish=promote+alpha+1.1&to=",
            expect!["`` is no name for a channel: expected a-z 0-9 -"],
        );
        check(
            "wish=promote+alpha+1.1&to=stable&from=soon",
            expect![
                "`soon` is no time; write 2026-12-01T08:00:00Z, or +24 for in a day, or nothing"
            ],
        );
        check(
            "wish=promote+alpha+1.1&to=stable&opening=none",
            expect!["`none` is no way to open a release"],
        );
    }
}
