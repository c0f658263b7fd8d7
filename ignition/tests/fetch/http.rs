//! HTTP, buckets among it.

use std::{io::Write, time::Duration};

use expect_test::{Expect, expect};
use http_client::Hand;
use ignition::{
    document::config::{Header, Ignition, Proxy, Resource, Timeouts, Verification},
    fetch::{Fetch, FetchError, Fetcher, Names, Places, cloud::Cloud},
    journal::{Lines, Silent},
};

use crate::stand_in::{StandIn, ok, redirect, status};

fn resource(source: &str) -> Resource {
    Resource { source: Some(source.to_owned()), ..Resource::default() }
}

fn get(fetcher: &Fetcher<'_>, resource: &Resource) -> Result<String, FetchError> {
    let mut out = Vec::new();
    fetcher.fetch(resource, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn text(error: &dyn std::error::Error, stand_in: &StandIn) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text.replace(&stand_in.address.to_string(), "HOST")
}

fn refused(answer: &'static str, expect: Expect) {
    let server = StandIn::new(move |_, _| answer.to_owned());
    let clock = Hand::new();
    let fetcher = Fetcher::online(Names::System, &Silent).with_places(Places::default(), &clock);
    let error = get(&fetcher, &resource(&server.url("/a?key=x"))).unwrap_err();
    expect.assert_eq(&text(&error, &server));
}

#[test]
fn a_server_that_fails_four_times_is_asked_a_fifth_time() {
    let server = StandIn::new(|count, _| if count < 5 { status(500) } else { ok("hello") });
    let (clock, lines) = (Hand::new(), Lines::default());
    let fetcher = Fetcher::online(Names::System, &lines).with_places(Places::default(), &clock);
    assert_eq!(get(&fetcher, &resource(&server.url("/a"))).unwrap(), "hello");
    assert_eq!(clock.slept(), [200, 400, 800, 1600]);
    let said = lines.take().join("\n").replace(&server.address.to_string(), "HOST");
    expect![[r#"
        fetching http://HOST/a, try 1: the server says 500 So; again in 200 ms
        fetching http://HOST/a, try 2: the server says 500 So; again in 400 ms
        fetching http://HOST/a, try 3: the server says 500 So; again in 800 ms
        fetching http://HOST/a, try 4: the server says 500 So; again in 1600 ms
        fetched http://HOST/a, 5 bytes"#]]
    .assert_eq(&said);
}

#[test]
fn a_server_that_always_fails_is_given_up() {
    refused(
        "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        expect![
            "fetching http://HOST/a?...: given up after 64 tries in 296 s: the server says 503 Busy"
        ],
    );
    refused(
        "",
        expect![
            "fetching http://HOST/a?...: given up after 64 tries in 296 s: unexpected end of file"
        ],
    );
}

#[test]
fn what_is_not_there_is_not_asked_for_again() {
    refused(
        "HTTP/1.1 404 None\r\n\r\n",
        expect!["fetching http://HOST/a?...: the server has no such thing"],
    );
    refused(
        "HTTP/1.1 403 Forbidden\r\n\r\n",
        expect!["fetching http://HOST/a?...: the server says 403 Forbidden"],
    );
    refused(
        "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
        expect![
            "fetching http://HOST/a?...: it sends us to `file:///etc/passwd`, which is not http or https"
        ],
    );
}

#[test]
fn without_a_network_only_data_is_there() {
    let fetcher = Fetcher::offline(&Silent);
    assert_eq!(get(&fetcher, &resource("data:,a%20b")).unwrap(), "a b");
    assert_eq!(get(&fetcher, &Resource::default()).unwrap(), "");
    for url in ["http://host/", "s3://bucket/a", "gs://bucket/a", "tftp://host/a"] {
        let error = get(&fetcher, &resource(url)).unwrap_err();
        assert!(matches!(error, FetchError::NeedsNetwork(_)), "{error}");
    }
    let error = get(&fetcher, &resource("ftp://host/")).unwrap_err().to_string();
    expect!["`ftp://host/` cannot be fetched: the scheme ftp is not known; data, http, https, tftp, s3, gs and arn are"].assert_eq(&error);
}

#[test]
fn own_headers_are_for_who_was_asked_only() {
    let server = StandIn::new(|_, asked| match asked.line.as_str() {
        "GET /a" => redirect("b?c"),
        _ => ok("hello"),
    });
    let mut resource = resource(&server.url("/a"));
    let header = |name: &str, value: Option<&str>| Header {
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    resource.http_headers = vec![
        header("Authorization", Some("Bearer me")),
        header("accept", Some("text/plain")),
        header("X-Gone", None),
    ];
    let fetcher = Fetcher::online(Names::System, &Silent);
    assert_eq!(get(&fetcher, &resource).unwrap(), "hello");
    let asked = server.asked();
    assert_eq!(asked[0].header("authorization"), "Bearer me");
    assert_eq!(asked[0].header("accept"), "text/plain");
    assert_eq!(asked[0].header("accept-encoding"), "identity");
    assert!(asked[0].header("user-agent").starts_with("Ignition/"));
    assert_eq!(asked[1].line, "GET /b?c");
    assert_eq!(asked[1].header("authorization"), "");
    assert!(asked[1].header("accept").starts_with("application/vnd.coreos.ignition+json"));
}

#[test]
fn a_connection_that_breaks_in_the_middle_is_gone_on_with() {
    let server = StandIn::new(|count, _| {
        let cut = [3, 3, 7][count - 1];
        format!("HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 7\r\n\r\n{}", &"content"[..cut])
    });
    let (clock, lines) = (Hand::new(), Lines::default());
    let fetcher = Fetcher::online(Names::System, &lines).with_places(Places::default(), &clock);
    assert_eq!(get(&fetcher, &resource(&server.url("/a"))).unwrap(), "content");
    assert_eq!(server.lines().len(), 3);
    assert!(lines.take()[0].ends_with("broken after 3 bytes: unexpected end of file"));
}

#[test]
fn content_that_changes_between_two_tries_is_refused() {
    let server = StandIn::new(|count, _| {
        format!("HTTP/1.1 200 OK\r\nETag: {count}\r\nContent-Length: 7\r\n\r\ncon")
    });
    let fetcher = Fetcher::online(Names::System, &Silent);
    let error = get(&fetcher, &resource(&server.url("/a"))).unwrap_err();
    expect!["fetching http://HOST/a: it changed between two tries (its etag is another)"]
        .assert_eq(&text(&error, &server));
}

#[test]
fn a_slow_server_is_not_waited_for_longer_than_the_document_says() {
    let server = StandIn::new(|_, _| {
        std::thread::sleep(Duration::from_secs(3));
        ok("late")
    });
    let document = Ignition {
        timeouts: Timeouts { http_response_headers: Some(1), http_total: Some(1) },
        ..Ignition::default()
    };
    let fetcher = Fetcher::online(Names::System, &Silent).for_document(&document).unwrap();
    let error = get(&fetcher, &resource(&server.url("/a"))).unwrap_err();
    let text = text(&error, &server);
    assert!(text.contains("no headers of an answer within 1 s"), "{text}");
}

#[test]
fn a_wrong_hash_is_an_error_and_a_packed_resource_is_unpacked() {
    let server = StandIn::new(|_, _| ok("hello"));
    let fetcher = Fetcher::online(Names::System, &Silent);
    let mut wanted = resource(&server.url("/a"));
    let wrong = format!("sha256-{}", "1".repeat(64));
    wanted.verification = Verification { hash: Some(wrong) };
    let error = get(&fetcher, &wanted).unwrap_err();
    assert!(matches!(error, FetchError::Hash { .. }), "{error}");
    wanted.verification.hash =
        Some("sha256-2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".to_owned());
    assert_eq!(get(&fetcher, &wanted).unwrap(), "hello");
    wanted.compression = Some("gzip".to_owned());
    let error = get(&fetcher, &wanted).unwrap_err();
    assert!(matches!(error, FetchError::Unpack { .. }), "{error}");
}

#[test]
fn a_full_disk_is_not_the_fault_of_the_server() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let server = StandIn::new(|_, _| ok("hello"));
    let fetcher = Fetcher::online(Names::System, &Silent);
    let error = fetcher.fetch(&resource(&server.url("/a")), &mut Full).unwrap_err();
    assert!(matches!(error, FetchError::Write { .. }), "{error}");
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn a_proxy_is_asked_with_the_whole_address() {
    let proxy = StandIn::new(|_, asked| match asked.line.starts_with("CONNECT") {
        true => status(403),
        false => ok("by proxy"),
    });
    let url = format!("http://me:word@{}", proxy.address);
    let document = Ignition {
        proxy: Proxy {
            http_proxy: Some(url.clone()),
            https_proxy: Some(url),
            no_proxy: vec!["direct.example".to_owned()],
        },
        ..Ignition::default()
    };
    let clock = Hand::new();
    let fetcher = Fetcher::online(Names::System, &Silent)
        .with_places(Places::default(), &clock)
        .for_document(&document)
        .unwrap();
    let found = get(&fetcher, &resource("http://far.example:81/a?b")).unwrap();
    assert_eq!(found, "by proxy");
    let asked = proxy.asked();
    assert_eq!(asked[0].line, "GET http://far.example:81/a?b");
    assert_eq!(asked[0].header("host"), "far.example:81");
    assert_eq!(asked[0].header("proxy-authorization"), "Basic bWU6d29yZA==");
    let error = get(&fetcher, &resource("https://far.example/a")).unwrap_err();
    let text = text(&error, &proxy);
    assert!(text.ends_with("the proxy HOST does not connect: 403 So"), "{text}");
    assert_eq!(proxy.asked()[1].line, "CONNECT far.example:443");
}

#[test]
fn an_object_of_amazon_is_asked_for_in_the_role_of_the_machine() {
    let server = StandIn::new(|_, asked| match asked.line.as_str() {
        "PUT /latest/api/token" => ok("word"),
        "GET /2019-10-01/meta-data/iam/security-credentials/" => ok("role\n"),
        "GET /2019-10-01/meta-data/iam/security-credentials/role" => {
            ok(r#"{"Code": "Success", "AccessKeyId": "ID", "SecretAccessKey": "S", "Token": "T"}"#)
        }
        _ if asked.header("authorization").contains("/us-east-1/") => {
            "HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-west-1\r\n\r\n".to_owned()
        }
        _ => ok("object"),
    });
    let place = Some(server.url(""));
    let places = Places { metadata: place.clone(), buckets: place };
    let clock = Hand::new();
    let nobody = Fetcher::online(Names::System, &Silent).with_places(places, &clock);
    let fetcher = nobody.clone().on(Cloud::Amazon { region: None });
    for source in ["s3://bucket/a%20b", "arn:aws:s3:::bucket/a%20b"] {
        assert_eq!(get(&fetcher, &resource(source)).unwrap(), "object");
    }
    let lines = server.lines();
    assert_eq!(lines.len(), 7, "{lines:?}");
    let last = server.asked().pop().unwrap();
    assert_eq!(last.line, "GET /bucket/a%20b");
    let signed = last.header("authorization");
    assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=ID/20130524/eu-west-1/s3/"));
    assert_eq!(last.header("x-amz-security-token"), "T");
    // Elsewhere nobody is asked who we are.
    assert_eq!(get(&nobody, &resource("s3://bucket/a")).unwrap(), "object");
    assert_eq!(server.asked().pop().unwrap().header("authorization"), "");
    assert_eq!(server.lines().len(), 8);
}

#[test]
fn a_machine_without_a_role_asks_amazon_as_nobody() {
    let server = StandIn::new(|_, asked| match asked.line.as_str() {
        "GET /bucket/a" => ok("object"),
        _ => status(404),
    });
    let place = Some(server.url(""));
    let places = Places { metadata: place.clone(), buckets: place };
    let clock = Hand::new();
    let fetcher = Fetcher::online(Names::System, &Silent)
        .with_places(places, &clock)
        .on(Cloud::Amazon { region: Some("eu-central-1".to_owned()) });
    assert_eq!(get(&fetcher, &resource("s3://bucket/a")).unwrap(), "object");
    assert_eq!(server.asked().pop().unwrap().header("authorization"), "");
}

#[test]
fn an_object_of_google_is_asked_for_with_the_token_of_the_machine() {
    let server = StandIn::new(|_, asked| match asked.line.as_str() {
        "GET /computeMetadata/v1/instance/service-accounts/default/token" => {
            assert_eq!(asked.header("metadata-flavor"), "Google");
            ok(r#"{"access_token": "word", "expires_in": 3599, "token_type": "Bearer"}"#)
        }
        _ => ok("object"),
    });
    let place = Some(server.url(""));
    let places = Places { metadata: place.clone(), buckets: place };
    let clock = Hand::new();
    let fetcher =
        Fetcher::online(Names::System, &Silent).with_places(places, &clock).on(Cloud::Google);
    for _ in 0..2 {
        assert_eq!(get(&fetcher, &resource("gs://bucket/a/b")).unwrap(), "object");
    }
    assert_eq!(server.lines().len(), 3);
    let last = server.asked().pop().unwrap();
    assert_eq!(last.line, "GET /bucket/a/b");
    assert_eq!(last.header("authorization"), "Bearer word");
}
