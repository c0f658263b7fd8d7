//! A request: a change to a channel that somebody wants, who cannot sign it. The server keeps it, the
//! publisher shows what it would change, and signs.
//!
//! The publisher does not trust who keeps requests. A request's name has the sum of what it asks for
//! in it, so what is carried out is what was looked at.

use std::fmt;

use jiff::Timestamp;
use layout::Version;
use serde::{Deserialize, Serialize};

use crate::{Digest, text};

/// Something that somebody wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Its number where it is kept.
    pub number: u64,
    /// When it was asked for.
    pub at: Timestamp,
    /// What is wanted.
    pub wish: Wish,
    /// What became of it.
    #[serde(default)]
    pub fate: Fate,
}

/// A change to a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wish {
    /// The channel that changes.
    pub channel: String,
    /// The release that it is about.
    #[serde(with = "text")]
    pub version: Version,
    /// How.
    #[serde(flatten)]
    pub change: Change,
}

/// How a release's place in a channel changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// It is open to nobody for now.
    Pause {
        /// Why: operators read it.
        reason: String,
    },
    /// It is open again.
    Resume,
    /// It comes in from another channel.
    Promote {
        /// Which.
        from: String,
        /// In the usual waves from then on; none is to all machines at once.
        usual_from: Option<Timestamp>,
    },
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Fate {
    /// Nothing yet.
    #[default]
    Waiting,
    /// It is signed and published.
    CarriedOut {
        /// When.
        at: Timestamp,
        /// What the publisher says.
        said: String,
    },
    /// It was not done.
    Refused {
        /// When.
        at: Timestamp,
        /// Why.
        said: String,
    },
}

impl Wish {
    /// The name of this wish under a number: another wish has another one.
    pub fn name(&self, number: u64) -> String {
        let text = serde_json::to_vec(self).expect("texts and times become JSON");
        let sum = Digest::of(&text).to_string();
        format!("{number}-{}", &sum[..16])
    }
}

impl Request {
    /// By which it is carried out.
    pub fn name(&self) -> String {
        self.wish.name(self.number)
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channel, version, change } = self;
        match change {
            Change::Pause { reason } => write!(f, "pause {version} in {channel}: {reason}"),
            Change::Resume => write!(f, "open {version} in {channel} again"),
            Change::Promote { from, usual_from: Some(first) } => {
                write!(
                    f,
                    "promote {version} from {from} to {channel}, in the usual waves from {first}"
                )
            }
            Change::Promote { from, usual_from: None } => {
                write!(f, "promote {version} from {from} to {channel}, to all machines at once")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn wish(reason: &str) -> Wish {
        Wish {
            channel: "stable".to_owned(),
            version: "1.2".parse().unwrap(),
            change: Change::Pause { reason: reason.to_owned() },
        }
    }

    #[test]
    fn a_request_is_kept_as_json() {
        let request = Request {
            number: 7,
            at: Timestamp::UNIX_EPOCH,
            wish: wish("it hangs"),
            fate: Fate::Waiting,
        };
        let text = serde_json::to_string_pretty(&request).unwrap();
        expect![[r#"
            {
              "number": 7,
              "at": "1970-01-01T00:00:00Z",
              "wish": {
                "channel": "stable",
                "version": "1.2",
                "change": "pause",
                "reason": "it hangs"
              },
              "fate": {
                "state": "waiting"
              }
            }"#]]
        .assert_eq(&text);
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }

    #[test]
    fn a_name_is_for_one_wish() {
        expect!["7-00a0efe3e4afe60f"].assert_eq(&wish("it hangs").name(7));
        assert_ne!(wish("it hangs").name(7), wish("it hung").name(7));
    }
}
