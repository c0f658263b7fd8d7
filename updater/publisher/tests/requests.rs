//! An operator presses a button of update-server, and the publisher carries it out.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use clap::{Args, FromArgMatches};
use serde_json::Value;
use update_server::serve::{Options, serve};

mod place;

use place::Place;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Starts a server in this process; it ends with it.
fn start(place: &Path) -> SocketAddr {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (machines, operators) = (free(), free());
    let path = |name: &str| place.join(name).display().to_string();
    let words = [
        "server",
        &path("repo"),
        &format!("--listen={machines}"),
        &format!("--operators={operators}"),
        &format!("--state={}", path("state")),
        &format!("--token={}", path("token")),
    ];
    let command = Options::augment_args(clap::Command::new("server"));
    let options = Options::from_arg_matches(&command.get_matches_from(words)).unwrap();
    std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(serve(options)).unwrap();
    });
    while TcpStream::connect(operators).is_err() {
        std::thread::yield_now();
    }
    operators
}

fn press(server: SocketAddr, wish: &str) {
    let body = format!("token={TOKEN}&{wish}");
    let mut stream = TcpStream::connect(server).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /requests HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
}

#[test]
fn what_an_operator_asks_for_is_signed_by_who_has_the_keys() {
    let place = Place::begun();
    place.image("1.0", "one");
    place.publish(&["add", "repo", "1.0", "--channel", "alpha"]);
    fs::write(place.path("token"), TOKEN).unwrap();
    fs::set_permissions(place.path("token"), fs::Permissions::from_mode(0o600)).unwrap();
    let server = start(&place.path(""));
    let url = format!("http://{server}");
    let listed = || -> Vec<Value> {
        let text = place.good(&["requests", "--server", &url, "--json"]);
        serde_json::from_str(&text).unwrap()
    };
    let name = |index: usize| listed()[index]["name"].as_str().unwrap().to_owned();

    press(server, "wish=promote+alpha+1.0&to=stable&opening=usual&from=2026-12-01T08:00:00Z");
    press(server, "wish=pause+alpha+1.0&reason=disks+fill+up");
    let (pause, promote) = (name(0), name(1));
    let telling = ["--server", &url, "--token", "token"];
    place.publish(&[&["carry-out", "repo", &promote, &pause], &telling[..]].concat());
    let status: Value = serde_json::from_str(&place.good(&["status", "repo", "--json"])).unwrap();
    assert_eq!(status["channels"][0]["releases"][0]["reason"], "disks fill up");
    let waves = status["channels"][1]["releases"][0]["waves"].as_array().unwrap();
    assert_eq!((waves.len(), &waves[0]["from"]), (7, &"2026-12-01T08:00:00Z".into()));
    assert!(place.good(&["check", "repo"]).starts_with("root 1, channels alpha stable"));
    let fate = &listed()[0]["request"]["fate"];
    assert_eq!(
        (&fate["state"], &fate["said"]),
        (&"carried-out".into(), &"alpha: 1.0 is paused: disks fill up".into(),)
    );

    // Once is enough, and what is asked for is what was looked at.
    let said = place.bad(&[&["carry-out", "repo", &pause], &telling[..]].concat());
    assert!(said.contains("was carried out: alpha: 1.0 is paused"), "{said}");
    let other = pause.replace(|c: char| c.is_ascii_hexdigit() && c != '2', "0");
    let said = place.bad(&[&["carry-out", "repo", &other], &telling[..]].concat());
    assert!(said.contains("or it is another one by now"), "{said}");

    press(server, "wish=resume+alpha+1.0");
    let resume = name(0);
    place.good(&[&["refuse", &resume, "--reason", "not before Monday"], &telling[..]].concat());
    assert_eq!(listed()[0]["request"]["fate"]["said"], "not before Monday");
    fs::write(place.path("token"), "wrong").unwrap();
    press(server, "wish=resume+alpha+1.0");
    let said = place.bad(&[&["refuse", &name(0), "--reason", "x"], &telling[..]].concat());
    assert!(said.contains("says 403 Forbidden: the token is wrong"), "{said}");
}
