//! Objects in buckets: which of the many addresses of Amazon's storage is meant by `s3:` and `arn:`,
//! and those of Google's by `gs:`.

use http_client::url::{Url, escape, unescape};

/// An object of Amazon's storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    partition: Partition,
    /// Where it is, if the address says.
    pub(super) region: Option<String>,
    bucket: Bucket,
    key: String,
    version: Option<String>,
}

/// A world of regions of its own, with its own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Partition {
    Aws,
    China,
    Gov,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Bucket {
    Named(String),
    AccessPoint { name: String, account: String },
}

impl Object {
    /// Reads `s3://BUCKET/KEY[?versionId=VERSION]`.
    pub(super) fn from_url(url: &Url) -> Result<Self, String> {
        let key = unescape(url.path().trim_start_matches('/'));
        let bucket = Bucket::Named(named(&url.host)?);
        Self::new(Partition::Aws, None, bucket, key, url.parameter("versionId"))
    }

    /// Reads `arn:aws:s3:::BUCKET/KEY` and
    /// `arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/object/KEY`, each with `?versionId=VERSION`.
    pub(super) fn from_arn(text: &str) -> Result<Self, String> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let version = query.split('&').find_map(|pair| pair.strip_prefix("versionId="));
        let version = version.map(unescape);
        let parts: Vec<&str> = name.splitn(6, ':').collect();
        let [_, partition, service, region, account, resource] = parts[..] else {
            return Err("an ARN is arn:PARTITION:s3:REGION:ACCOUNT:RESOURCE".to_owned());
        };
        if service != "s3" {
            return Err(format!("it is of the service `{service}`, and only s3 gives objects"));
        }
        let partition = match partition {
            "aws" => Partition::Aws,
            "aws-cn" => Partition::China,
            "aws-us-gov" => Partition::Gov,
            other => return Err(format!("the partition `{other}` is not known")),
        };
        let region = Some(region).filter(|region| !region.is_empty()).map(str::to_owned);
        if let Some(region) = &region {
            named(region)?;
        }
        let Some(point) = resource.strip_prefix("accesspoint/") else {
            let (bucket, key) = resource.split_once('/').unwrap_or((resource, ""));
            let bucket = Bucket::Named(named(bucket)?);
            return Self::new(partition, region, bucket, unescape(key), version);
        };
        let Some((name, key)) = point.split_once("/object/") else {
            return Err("an access point is accesspoint/NAME/object/KEY".to_owned());
        };
        if region.is_none() || account.is_empty() {
            return Err("the ARN of an access point says region and account".to_owned());
        }
        let bucket = Bucket::AccessPoint { name: named(name)?, account: named(account)? };
        Self::new(partition, region, bucket, unescape(key), version)
    }

    fn new(
        partition: Partition,
        region: Option<String>,
        bucket: Bucket,
        key: String,
        version: Option<String>,
    ) -> Result<Self, String> {
        if key.is_empty() {
            return Err("it names no object in the bucket".to_owned());
        }
        if version.as_deref() == Some("") {
            return Err("its versionId is empty".to_owned());
        }
        Ok(Self { partition, region, bucket, key, version })
    }

    /// Where to ask first: where the address says, else where the machine is, else where most are.
    pub(super) fn first_region(&self, hint: Option<&str>) -> String {
        let most = match self.partition {
            Partition::Aws => "us-east-1",
            Partition::China => "cn-north-1",
            Partition::Gov => "us-gov-west-1",
        };
        self.region.as_deref().or(hint).unwrap_or(most).to_owned()
    }

    /// Its address in a region; `place` stands in for the whole of Amazon in tests.
    pub(super) fn url(&self, region: &str, place: Option<&Url>) -> Url {
        let domain = match region.starts_with("cn-") {
            true => "amazonaws.com.cn",
            false => "amazonaws.com",
        };
        let key = escape(&self.key, "/");
        let (host, path) = match &self.bucket {
            // The certificates are for one name in the place of the star: no dot, no capital.
            Bucket::Named(bucket) if is_label(bucket) && place.is_none() => {
                (format!("{bucket}.s3.{region}.{domain}"), format!("/{key}"))
            }
            Bucket::Named(bucket) => {
                (format!("s3.{region}.{domain}"), format!("/{}/{key}", escape(bucket, "")))
            }
            Bucket::AccessPoint { name, account } => {
                let host = format!("{name}-{account}.s3-accesspoint.{region}.{domain}");
                (host, format!("/{key}"))
            }
        };
        let query = self.version.as_deref().map(|version| escape(version, ""));
        let query = query.map_or(String::new(), |version| format!("?versionId={version}"));
        let target = format!("{path}{query}");
        match place {
            Some(place) => Url { target, ..place.clone() },
            None => Url { scheme: "https".into(), user: String::new(), host, port: None, target },
        }
    }
}

/// The address of `gs://BUCKET/OBJECT`.
pub(super) fn google_url(url: &Url, place: Option<&Url>) -> Result<Url, String> {
    let object = unescape(url.path().trim_start_matches('/'));
    if object.is_empty() {
        return Err("it names no object in the bucket".to_owned());
    }
    let target = format!("/{}/{}", escape(&url.host, ""), escape(&object, "/"));
    let google = || Url {
        scheme: "https".into(),
        user: String::new(),
        host: "storage.googleapis.com".into(),
        port: None,
        target: String::new(),
    };
    Ok(Url { target, ..place.cloned().unwrap_or_else(google) })
}

/// What becomes part of a host must not become another host.
fn named(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if text.is_empty() || !text.chars().all(plain) {
        return Err(format!("`{text}` is not a name of letters, digits, `-`, `.` and `_`"));
    }
    Ok(text.to_owned())
}

fn is_label(bucket: &str) -> bool {
    bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expect: Expect) {
        let object = match text.strip_prefix("arn:") {
            Some(_) => Object::from_arn(text),
            None => Object::from_url(&Url::parse(text).unwrap()),
        };
        expect.assert_eq(&match object {
            Ok(object) => object.url(&object.first_region(None), None).to_string(),
            Err(error) => error,
        });
    }

    #[test]
    fn buckets_are_hosts_where_they_can_be() {
        check("s3://bucket/a/b%20c", expect!["https://bucket.s3.us-east-1.amazonaws.com/a/b%20c"]);
        check(
            "s3://my.bucket/a?versionId=x+y",
            expect!["https://s3.us-east-1.amazonaws.com/my.bucket/a?versionId=x%2By"],
        );
        check(
            "arn:aws:s3:::bucket/a:b",
            expect!["https://bucket.s3.us-east-1.amazonaws.com/a%3Ab"],
        );
        check(
            "arn:aws-cn:s3:::bucket/a",
            expect!["https://bucket.s3.cn-north-1.amazonaws.com.cn/a"],
        );
        check(
            "arn:aws-us-gov:s3:us-gov-east-1:123:accesspoint/point/object/a/b?versionId=v",
            expect!["https://point-123.s3-accesspoint.us-gov-east-1.amazonaws.com/a/b?versionId=v"],
        );
    }

    #[test]
    fn what_is_no_object_says_why() {
        check("s3://bucket/", expect!["it names no object in the bucket"]);
        check("s3://bucket/a?versionId=", expect!["its versionId is empty"]);
        check("arn:aws:s3:::bucket", expect!["it names no object in the bucket"]);
        check(
            "arn:aws:iam:::bucket/a",
            expect!["it is of the service `iam`, and only s3 gives objects"],
        );
        check("arn:aws:s3", expect!["an ARN is arn:PARTITION:s3:REGION:ACCOUNT:RESOURCE"]);
        check(
            "arn:aws:s3:::accesspoint/x/object/y",
            expect!["the ARN of an access point says region and account"],
        );
        check(
            "arn:aws:s3:evil.org/:1:accesspoint/x/object/y",
            expect!["`evil.org/` is not a name of letters, digits, `-`, `.` and `_`"],
        );
    }

    #[test]
    fn objects_of_google_have_one_host() {
        let url = Url::parse("gs://bucket/a b".replace(' ', "%20").as_str()).unwrap();
        let found = google_url(&url, None).unwrap().to_string();
        assert_eq!(found, "https://storage.googleapis.com/bucket/a%20b");
        assert!(google_url(&Url::parse("gs://bucket").unwrap(), None).is_err());
    }
}
