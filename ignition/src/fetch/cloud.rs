//! What lets us into the buckets of a cloud: whom the machine itself is, as its metadata service
//! says. It is asked only where the platform is known, never to find out.

use std::time::Duration;

use serde::Deserialize;

use super::{
    FetchError, Shown,
    fetcher::{Fetcher, Question, Reply},
    sigv4::Credentials,
};

/// The metadata service of most clouds.
pub const METADATA: &str = "http://169.254.169.254";

const PATIENCE: Duration = Duration::from_secs(50);

/// The cloud that this machine is in, as far as its buckets are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    /// None, or one without buckets of its own.
    #[default]
    None,
    /// Amazon.
    Amazon {
        /// Where the machine is.
        region: Option<String>,
    },
    /// Google.
    Google,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Role {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

impl Cloud {
    pub(super) fn region(&self) -> Option<&str> {
        match self {
            Self::Amazon { region } => region.as_deref(),
            Self::None | Self::Google => None,
        }
    }
}

impl Fetcher<'_> {
    /// The word that Amazon's metadata service wants to hear with every question; an old one does
    /// not know of it and answers without.
    pub fn amazon_token(&self) -> Result<Option<String>, FetchError> {
        let url = format!("{}/latest/api/token", self.metadata(METADATA));
        let reply = self.ask(&Question {
            method: "PUT",
            url: &url,
            headers: &[("X-aws-ec2-metadata-token-ttl-seconds", "21600")],
            passing: &[],
            patience: PATIENCE,
        })?;
        match reply.status {
            200 => text(&url, reply).map(Some),
            404 | 405 => Ok(None),
            _ => Err(refused(&url, &reply)),
        }
    }

    /// Asks Amazon's metadata service; nothing if there is no such thing.
    pub fn amazon(&self, path: &str, token: Option<&str>) -> Result<Option<Vec<u8>>, FetchError> {
        let url = format!("{}{path}", self.metadata(METADATA));
        let headers: Vec<(&str, &str)> =
            token.iter().map(|token| ("X-aws-ec2-metadata-token", *token)).collect();
        let question = Question {
            method: "GET",
            url: &url,
            headers: &headers,
            passing: &[],
            patience: PATIENCE,
        };
        let reply = self.ask(&question)?;
        match reply.status {
            200 => Ok(Some(reply.body)),
            204 | 404 => Ok(None),
            _ => Err(refused(&url, &reply)),
        }
    }

    /// Whom this machine is to Amazon; nobody in particular, if it has no role.
    pub(super) fn amazon_role(&self) -> Result<Option<Credentials>, FetchError> {
        if !matches!(self.cloud, Cloud::Amazon { .. }) {
            return Ok(None);
        }
        if let Some(role) = self.role.get() {
            return Ok(role.clone());
        }
        const ROLES: &str = "/2019-10-01/meta-data/iam/security-credentials/";
        let token = self.amazon_token()?;
        let names = self.amazon(ROLES, token.as_deref())?.unwrap_or_default();
        let names = String::from_utf8_lossy(&names).into_owned();
        let role = match names.lines().next().filter(|name| !name.is_empty()) {
            None => None,
            Some(name) => self.amazon(&format!("{ROLES}{name}"), token.as_deref())?,
        };
        let role = match role {
            None => None,
            Some(json) => {
                let url = Shown::new(ROLES);
                let role: Role = serde_json::from_slice(&json)
                    .map_err(|error| FetchError::Failed { url, source: error.into() })?;
                Some(Credentials {
                    id: role.access_key_id,
                    secret: role.secret_access_key,
                    session: role.token,
                })
            }
        };
        let who = if role.is_some() { "in the role of this machine" } else { "as nobody" };
        self.journal.say(&format!("asking Amazon for objects {who}"));
        Ok(self.role.get_or_init(|| role).clone())
    }

    /// What tells Google who we are; nothing, if the machine has no account.
    pub(super) fn google_token(&self) -> Result<Option<String>, FetchError> {
        if self.cloud != Cloud::Google {
            return Ok(None);
        }
        if let Some(token) = self.token.get() {
            return Ok(token.clone());
        }
        let url = format!(
            "{}/computeMetadata/v1/instance/service-accounts/default/token",
            self.metadata(METADATA)
        );
        let reply = self.ask(&Question {
            method: "GET",
            url: &url,
            headers: &[("Metadata-Flavor", "Google")],
            passing: &[],
            patience: PATIENCE,
        })?;
        let token = match reply.status {
            200 => {
                let token: Token = serde_json::from_slice(&reply.body).map_err(|error| {
                    FetchError::Failed { url: Shown::new(&url), source: error.into() }
                })?;
                Some(token.access_token)
            }
            404 => None,
            _ => return Err(refused(&url, &reply)),
        };
        let who = if token.is_some() { "in the account of this machine" } else { "as nobody" };
        self.journal.say(&format!("asking Google for objects {who}"));
        Ok(self.token.get_or_init(|| token).clone())
    }
}

fn text(url: &str, reply: Reply) -> Result<String, FetchError> {
    String::from_utf8(reply.body)
        .map(|text| text.trim().to_owned())
        .map_err(|error| FetchError::Failed { url: Shown::new(url), source: error.into() })
}

/// A status that is neither good nor "there is none".
pub fn refused(url: &str, reply: &Reply) -> FetchError {
    let why = format!("the metadata service says {}", reply.status);
    FetchError::Refused { url: Shown::new(url), why }
}
