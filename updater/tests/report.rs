//! Reports, to a server that has a bad day: what is told, how often it is tried, and when not again.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    thread::JoinHandle,
};

use http_client::{Client, Hand, Names, Url};
use layout::Version;
use omaha::{Kind, Outcome, Request};
use updater::{identity::Identity, report};

/// Answers one question after the other with these, and gives what it was asked.
fn server(answers: &'static [&'static str]) -> (Url, JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/update/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let answer = |answer: &&str| {
            let (stream, _) = listener.accept().unwrap();
            let mut from = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while {
                line.clear();
                from.read_line(&mut line).unwrap()
            } > 2
            {
                let head = line.to_ascii_lowercase();
                if let Some(value) = head.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut content = vec![0; length];
            from.read_exact(&mut content).unwrap();
            let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
            from.get_mut().write_all(text.as_bytes()).unwrap();
            content
        };
        answers.iter().map(answer).collect()
    });
    (Url::parse(&url).unwrap(), thread)
}

fn text() -> String {
    let identity = Identity {
        version: "1.0".parse().unwrap(),
        variant: payload::Variant { flavor: "cloud".into(), architecture: "x86_64".into() },
        root_hash: "ab".repeat(32).parse().unwrap(),
        seed: [7; 16],
        security_epoch: 0,
        built: jiff::Timestamp::UNIX_EPOCH,
        root: None,
    };
    let bad: Version = "1.1".parse().unwrap();
    report::text(&identity, "stable", "0f0f", vec![report::went_back(&bad, "it \"hung\" & died")])
}

#[test]
fn a_report_is_tried_again_while_the_server_has_no_time() {
    let (url, server) = server(&["503 Busy", "500 Broken", "200 OK"]);
    let clock = Hand::new();
    report::send(&Client::new(Names::System), &url, &text(), &clock).unwrap();
    assert_eq!(clock.slept().len(), 2);
    let asked = server.join().unwrap();
    assert!(asked[0] == asked[1] && asked[1] == asked[2]);
    let request = Request::parse(&asked[0]).unwrap();
    let [app] = request.apps.as_slice() else { panic!("one application") };
    assert!(app.is(omaha::PITHOS) && app.ping);
    assert_eq!((app.version.as_str(), app.channel.as_str()), ("1.0", "stable"));
    assert_eq!((app.board.as_str(), app.machine.as_deref()), ("cloud-x86_64", Some("0f0f")));
    let [event] = app.events.as_slice() else { panic!("one event") };
    assert_eq!((event.kind, event.result), (Kind::UpdateComplete, Outcome::Failed));
    assert_eq!((event.code, event.next.as_deref()), (44, Some("1.1")));
    assert_eq!(event.cause.as_deref(), Some("it \"hung\" & died"));
}

#[test]
fn a_report_that_is_refused_is_not_sent_again() {
    let (url, server) = server(&["400 Bad Request"]);
    let clock = Hand::new();
    let error = report::send(&Client::new(Names::System), &url, &text(), &clock).unwrap_err();
    assert_eq!(error.to_string(), "the server says 400 Bad Request");
    assert!(clock.slept().is_empty());
    server.join().unwrap();
}

#[test]
fn a_server_that_is_gone_costs_some_minutes_of_a_thread() {
    let url = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap()
    };
    let clock = Hand::new();
    assert!(report::send(&Client::new(Names::System), &url, &text(), &clock).is_err());
    assert!(!clock.slept().is_empty());
}
