//! Signatures of requests to Amazon (Signature Version 4), for requests without content.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use http_client::Request;
use sha2::{Digest, Sha256};

use super::unpack::hex;

/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What lets somebody in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) session: Option<String>,
}

/// Puts the headers of a signature on a request.
pub(super) fn sign(
    request: Request,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: SystemTime,
) -> Request {
    let time = timestamp(now);
    let date = &time[..8];
    let host = request.url.authority();
    let mut request =
        request.with("Host", &host).with("x-amz-content-sha256", EMPTY).with("x-amz-date", &time);
    if let Some(session) = &credentials.session {
        request.headers.set("x-amz-security-token", session);
    }
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let (canonical, signed) = canonical(&request);
    let digest = hex(&Sha256::digest(canonical));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
    let mut key = mac(format!("AWS4{}", credentials.secret).as_bytes(), date);
    for part in [region, service, "aws4_request"] {
        key = mac(&key, part);
    }
    let signature = hex(&mac(&key, &text));
    let id = &credentials.id;
    let value = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope},SignedHeaders={signed},Signature={signature}"
    );
    request.with("Authorization", &value)
}

/// The request in the one form that both sides sign, and which of the headers are in it.
fn canonical(request: &Request) -> (String, String) {
    let mut headers: Vec<(String, &str)> = request
        .headers
        .0
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .filter(|(name, _)| name.starts_with("x-amz-") || name == "host" || name == "range")
        .collect();
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let signed = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let mut query: Vec<String> = request
        .url
        .query()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    query.sort();
    let (method, path, query) = (request.method, request.url.path(), query.join("&"));
    (format!("{method}\n{path}\n{query}\n{lines}\n{signed}\n{EMPTY}"), signed)
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `20130524T000000Z`. A clock before 1970 is taken for 1970.
fn timestamp(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// The date of a day since 1970, counted in years that begin in March, so that the leap day is
/// their last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use http_client::Url;

    /// The key of Amazon's own examples.
    fn example() -> Credentials {
        Credentials {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session: None,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn authorization(url: &str, headers: &[(&str, &str)], credentials: &Credentials) -> String {
        let mut request = Request::get(Url::parse(url).unwrap());
        for (name, value) in headers {
            request = request.with(name, value);
        }
        let signed = sign(request, credentials, "us-east-1", "s3", at(1_369_353_600));
        signed.headers.get("authorization").unwrap().to_owned()
    }

    #[test]
    fn the_examples_of_amazon_get_the_signatures_of_amazon() {
        let host = "https://examplebucket.s3.amazonaws.com";
        let object =
            authorization(&format!("{host}/test.txt"), &[("Range", "bytes=0-9")], &example());
        assert_eq!(
            object,
            "AWS4-HMAC-SHA256 \
             Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let lifecycle = authorization(&format!("{host}/?lifecycle"), &[], &example());
        assert!(lifecycle.ends_with(
            "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        ));
        let list = authorization(&format!("{host}/?prefix=J&max-keys=2"), &[], &example());
        assert!(list.ends_with(
            "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        ));
    }

    #[test]
    fn a_session_is_signed_along() {
        let credentials = Credentials { session: Some("word".to_owned()), ..example() };
        let text = authorization("https://b.s3.amazonaws.com/a", &[], &credentials);
        assert!(text.contains("x-amz-date;x-amz-security-token,"));
    }

    #[test]
    fn dates_are_of_the_calendar() {
        assert_eq!(timestamp(at(0)), "19700101T000000Z");
        assert_eq!(timestamp(at(951_827_696)), "20000229T123456Z");
        assert_eq!(timestamp(at(1_704_067_199)), "20231231T235959Z");
    }
}
