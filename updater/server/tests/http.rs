//! The program, asked over the network as machines and operators ask it.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use common::{Answer, Place, TOKEN, answer, ask, exchange, get, post, request};

#[test]
fn files_of_the_repository_are_served_and_nothing_else() {
    let place = Place::new();
    let object: Vec<u8> = (0..1_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    place.put("objects/ab/abcd", &object);
    place.put("staged/root.json", b"not for machines");
    place.put("metadata/.hidden", b"nor this");
    fs::write(place.path("secret"), "nor this").unwrap();
    std::os::unix::fs::symlink("../../secret", place.path("repo/objects/out")).unwrap();
    std::os::unix::fs::symlink("ab/abcd", place.path("repo/objects/in")).unwrap();
    let server = place.serve(&[]);
    let get = |path: &str, headers: &[(&str, &str)]| get(server.machines, path, headers);

    let whole = get("/objects/ab/abcd", &[]);
    assert_eq!((whole.status, whole.body.len()), (200, object.len()));
    assert!(whole.body == object);
    assert_eq!(whole.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(get("/objects/in", &[]).status, 200);
    let timestamp = get("/metadata/timestamp.json", &[]);
    assert_eq!(timestamp.header("cache-control"), "no-cache");
    assert_eq!(timestamp.header("content-type"), "application/json");

    let part = get("/objects/ab/abcd", &[("Range", "bytes=131070-3999998")]);
    assert_eq!(part.status, 206);
    assert_eq!(part.header("content-range"), "bytes 131070-3999998/4000000");
    assert!(part.body == object[131_070..3_999_999]);
    let behind = get("/objects/ab/abcd", &[("Range", "bytes=4000000-")]);
    assert_eq!((behind.status, behind.header("content-range")), (416, "bytes */4000000"));
    let had = get("/objects/ab/abcd", &[("If-None-Match", whole.header("etag"))]);
    assert_eq!((had.status, had.body.len()), (304, 0));
    let had = get("/objects/ab/abcd", &[("If-Modified-Since", whole.header("last-modified"))]);
    assert_eq!(had.status, 304);
    let head = ask(server.machines, "HEAD", "/objects/ab/abcd", &[], "");
    assert_eq!((head.status, head.header("content-length")), (200, "4000000"));
    assert!(head.body.is_empty());

    for path in [
        "/",
        "/objects",
        "/objects/ab",
        "/objects/none",
        "/objects/out",
        "/staged/root.json",
        "/metadata/.hidden",
        "/metadata/../staged/root.json",
        "/metadata/%2e%2e/staged/root.json",
        "//metadata/timestamp.json",
        "/api/fleet",
        "/metrics",
    ] {
        assert_eq!(get(path, &[]).status, 404, "{path}");
    }
    let posted = post(server.machines, "/metadata/timestamp.json", &[], "x");
    assert_eq!((posted.status, posted.header("allow")), (405, "GET, HEAD"));
    assert_eq!(exchange(server.machines, "NONSENSE\r\n\r\n").status, 400);
    let many = "X: y\r\n".repeat(100);
    let text = format!("GET /metadata/timestamp.json HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    assert_eq!(exchange(server.machines, &text).status, 431);
}

#[test]
fn a_machine_of_coreos_is_answered_and_seen() {
    let place = Place::new();
    let offers = place.path("offers");
    fs::create_dir(&offers).unwrap();
    fs::write(
        offers.join("beta.amd64-usr.json"),
        r#"{"version": "3900.1.0", "codebases": ["https://one.example/a/"], "package": "update.gz",
            "size_bytes": 5, "sha1": "2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
            "sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}"#,
    )
    .unwrap();
    let server = place.serve(&["--offers", offers.to_str().unwrap()]);
    let ask = |version: &str| {
        let id = format!("{{{}}}", omaha::COREOS);
        server.omaha(&format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <request protocol="3.0" version="update_engine-0.4.10" ismachine="1">
              <os version="Chateau" platform="CoreOS" sp="{version}_x86_64"></os>
              <app appid="{id}" version="{version}" track="beta" bootid="{{b}}" board="amd64-usr"
                   machineid="0f0f" delta_okay="false">
                <ping active="1"></ping><updatecheck></updatecheck>
                <event eventtype="3" eventresult="2" previousversion="3815.2.0"></event>
              </app>
            </request>"#
        ))
    };
    let offered = ask("3900.0.0");
    assert_eq!((offered.status, offered.header("content-type")), (200, "text/xml; charset=utf-8"));
    for part in [
        r#"<ping status="ok"></ping>"#,
        r#"<updatecheck status="ok"><urls><url codebase="https://one.example/a/"></url></urls>"#,
        r#"<manifest version="3900.1.0"><packages><package name="update.gz" size="5" "#,
        r#"<event status="ok"></event>"#,
    ] {
        assert!(offered.text().contains(part), "{part} in {}", offered.text());
    }
    assert!(ask("3900.1.0").text().contains(r#"<updatecheck status="noupdate">"#));
    let fleet = server.json("/api/fleet");
    assert_eq!(fleet["groups"][0]["version"], "3900.1.0");
    assert_eq!(fleet["groups"][0]["family"], "coreos");
    let unknown = request("m", "1.0", "").replace(omaha::PITHOS, "other");
    assert!(server.omaha(&unknown).text().contains("error-unknownApplication"));
}

#[test]
fn what_is_no_request_of_omaha_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let server = place.serve(&["--patience", "1"]);
    let bomb = "<!DOCTYPE a [<!ENTITY b 'cccccccc'>]><request protocol='3.0'/>";
    for bad in ["<request", "hello", bomb, "<request protocol='3.0'><app/></request>"] {
        assert_eq!(server.omaha(bad).status, 400, "{bad}");
    }
    assert_eq!(server.omaha(&" ".repeat(omaha::MAX_BYTES + 1)).status, 413);
    assert_eq!(get(server.machines, "/v1/update/", &[]).status, 405);
    // A content that does not come.
    let text = "POST /v1/update/ HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n<re";
    assert_eq!(exchange(server.machines, text).status, 408);
    // Nor does a question.
    let mut stream = TcpStream::connect(server.machines).unwrap();
    stream.write_all(b"GET /metad").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut end = Vec::new();
    let _ = stream.read_to_end(&mut end);
    assert!(!end.starts_with(b"HTTP/1.1 200"));
    assert_eq!(server.json("/api/fleet")["machines"], 0);
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let place = Place::new();
    let server = place.serve(&[]);
    let acknowledged = AtomicUsize::new(0);
    let machines = server.machines;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let acknowledged = &acknowledged;
            scope.spawn(move || {
                for number in 0.. {
                    let machine = format!("m{thread}-{number}");
                    let event = "<event eventtype='13' eventresult='1' nextversion='1.1'/>";
                    let sent = std::panic::catch_unwind(|| {
                        post(machines, "/v1/update/", &[], &request(&machine, "1.0", event)).status
                    });
                    // The server was killed.
                    if !sent.is_ok_and(|status| status == 200) {
                        break;
                    }
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while acknowledged.load(Ordering::SeqCst) < 200 {
            std::thread::yield_now();
        }
        server.kill();
    });
    let server = place.serve(&[]);
    let known = server.json("/api/fleet")["machines"].as_u64().unwrap() as usize;
    let acknowledged = acknowledged.load(Ordering::SeqCst);
    // Of each thread, one that was written may not have been answered any more.
    assert!(
        (acknowledged..=acknowledged + 4).contains(&known),
        "{acknowledged} were acknowledged, {known} are known"
    );
}

#[test]
fn a_change_needs_the_token_and_waits_for_the_publisher() {
    let place = Place::new();
    let server = place.serve_with_token();
    let to = server.operators;
    let form = |token: &str, headers: &[(&str, &str)]| {
        let body = format!("token={token}&wish=pause+stable+1.0&reason=it+hangs");
        post(to, "/requests", headers, &body)
    };
    assert_eq!(form("wrong", &[]).status, 403);
    assert_eq!(form("", &[]).status, 403);
    for other in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        assert_eq!(form(TOKEN, &[other]).status, 403, "{other:?}");
    }
    assert_eq!(server.json("/api/requests").as_array().unwrap().len(), 0);

    let own = format!("http://{to}");
    let asked = form(TOKEN, &[("Origin", &own), ("Sec-Fetch-Site", "same-origin")]);
    assert_eq!(asked.status, 303);
    let place_of = asked.header("location").to_owned();
    assert!(get(to, &place_of, &[]).text().contains("waits for the publisher"));
    let waiting = server.json("/api/requests");
    assert_eq!(waiting[0]["sentence"], "pause 1.0 in stable: it hangs");
    assert_eq!(place_of, format!("/?asked={}", waiting[0]["name"].as_str().unwrap()));

    let bad = post(to, "/requests", &[], &format!("token={TOKEN}&wish=pause+stable+9.9&reason=x"));
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("9.9 is not in the channel stable"));

    let bearer = format!("Bearer {TOKEN}");
    let done = r#"{"state": "carried-out", "at": "2026-12-01T00:00:00Z", "said": "paused"}"#;
    let settle =
        |headers: &[(&str, &str)], body: &str| post(to, "/api/requests/1", headers, body).status;
    assert_eq!(settle(&[], done), 403);
    assert_eq!(settle(&[("Authorization", &bearer)], "{}"), 400);
    assert_eq!(settle(&[("Authorization", &bearer)], done), 200);
    assert_eq!(settle(&[("Authorization", &bearer)], done), 409);
    assert_eq!(server.json("/api/requests")[0]["fate"]["said"], "paused");

    let wish = r#"{"channel": "stable", "version": "1.1", "change": "promote", "from": "alpha",
        "usual_from": null}"#;
    let asked = post(to, "/api/requests", &[("Authorization", &bearer)], wish);
    assert_eq!(asked.status, 201, "{}", asked.text());
}

#[test]
fn without_a_token_nothing_can_be_asked_for() {
    let place = Place::new();
    let server = place.serve(&[]);
    let form = post(server.operators, "/requests", &[], "token=&wish=resume+stable+1.0");
    assert_eq!(form.status, 403);
    assert!(!get(server.operators, "/", &[]).text().contains("<form"));
}

#[test]
fn operators_see_machines_failures_and_progress() {
    let place = Place::new();
    let server = place.serve(&[]);
    let failed = "<event eventtype='3' eventresult='0' errorcode='44' nextversion='1.1' \
                  cause='it &lt;b&gt;hung&lt;/b&gt;'/>";
    server.omaha(&request("one", "1.0", ""));
    server.omaha(&request("two", "1.0", failed));
    let page = get(server.operators, "/", &[]);
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert!(page.text().contains("error 44: it &lt;b&gt;hung&lt;/b&gt;"), "{}", page.text());
    let fleet = server.json("/api/fleet");
    let stable = fleet["rollouts"].as_array().unwrap();
    let stable = stable.iter().find(|rollout| rollout["channel"] == "stable").unwrap();
    assert_eq!((&stable["version"], &stable["through"]), (&"1.0".into(), &2.into()));
    let list = get(server.operators, "/machines?phase=failed", &[]).text();
    assert!(list.contains("/machines/two") && !list.contains("/machines/one"), "{list}");
    assert!(get(server.operators, "/machines/two", &[]).text().contains("error 44"));
    let metrics = get(server.operators, "/metrics", &[]).text();
    for line in [
        "update_server_requests_total{for=\"omaha\",status=\"200\"} 2",
        "update_server_events_total{type=\"3\",result=\"0\"} 1",
        "version=\"1.0\",phase=\"failed\",target=\"1.1\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert_eq!(get(server.operators, "/", &[("Host", "evil.example")]).status, 421);
    assert_eq!(get(server.operators, "/metadata/timestamp.json", &[]).status, 404);
    let output = Command::new(env!("CARGO_BIN_EXE_update-server"))
        .args(["fleet", "--json", "--state"])
        .arg(place.path("state"))
        .output()
        .unwrap();
    let fleet: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(fleet["machines"], 2);
}

#[test]
fn an_end_lets_what_is_under_way_finish() {
    let place = Place::new();
    let object = vec![7; 16 << 20];
    place.put("objects/ab/large", &object);
    let mut server = place.serve(&[]);
    let mut stream = TcpStream::connect(server.machines).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /objects/ab/large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut first = [0; 1000];
    stream.read_exact(&mut first).unwrap();
    let id = nix::unistd::Pid::from_raw(server.child.id().try_into().unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    // Nobody new is let in; the old one gets the rest.
    while TcpStream::connect(server.machines).is_ok() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let Answer { status, body, .. } = answer(&[&first[..], &rest].concat());
    assert_eq!((status, body.len()), (200, object.len()));
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn as_many_connections_are_open_as_may_be() {
    let place = Place::new();
    let server = place.serve(&["--connections", "2"]);
    let open = || {
        let mut stream = TcpStream::connect(server.machines).unwrap();
        stream.write_all(b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream
    };
    let (mut one, mut two, mut three) = (open(), open(), open());
    let mut byte = [0];
    one.read_exact(&mut byte).unwrap();
    two.read_exact(&mut byte).unwrap();
    three.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(three.read_exact(&mut byte).is_err(), "a third connection was answered");
    drop(one);
    three.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    three.read_exact(&mut byte).unwrap();
}
