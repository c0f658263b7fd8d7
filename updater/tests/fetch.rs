//! Fetching from mirrors that misbehave in every way that a server can.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use expect_test::{Expect, expect};
use http_client::{Hand, Proxies, Url};
use updater::fetch::{Absent, Fetcher, File, NotFetched};

/// How a server answers.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// As it should.
    Well,
    /// With a status and nothing else.
    Status(u16),
    /// It hangs up before it says anything.
    Silent,
    /// It hangs up in the middle.
    Dies,
    /// It stops in the middle, and does not hang up.
    Stalls,
    /// It says a length that is more than it sends.
    ShortOfItsWord,
    /// It says a length that is less than it sends.
    MoreThanItsWord,
    /// It says nothing of a length and never ends.
    Endless,
    /// It sends something else.
    Other,
    /// It does not speak HTTP.
    Nonsense,
    /// It sends the client round in circles.
    Circles,
}

const CONTENT: &str = "what was promised";

/// A server, until the test ends: the answers it gives, one after the other, the last for ever.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(manners: &[Manner]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, manners) = (asked.clone(), manners.to_vec());
        thread::spawn(move || {
            for (count, stream) in listener.incoming().flatten().enumerate() {
                let manner = manners[count.min(manners.len() - 1)];
                let log = log.clone();
                // A server that stalls must not keep the next one waiting.
                thread::spawn(move || {
                    let request = request(&stream);
                    log.lock().unwrap().push(request);
                    let _ = answer(stream, manner);
                });
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> Url {
        Url::parse(&format!("http://{}/base/", self.address)).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn request(stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn answer(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    let length = CONTENT.len();
    let half = &CONTENT[..length / 2];
    let text = match manner {
        Manner::Well => {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{CONTENT}")
        }
        Manner::Status(status) => format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n"),
        Manner::Silent => String::new(),
        Manner::Dies | Manner::Stalls => {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{half}")
        }
        Manner::ShortOfItsWord => {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{CONTENT}", length + 5)
        }
        Manner::MoreThanItsWord => {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{CONTENT}", length - 5)
        }
        Manner::Endless => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        Manner::Other => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad".to_owned(),
        Manner::Nonsense => "220 smtp.example ESMTP\r\n".to_owned(),
        Manner::Circles => "HTTP/1.1 302 Found\r\nLocation: /base/a\r\n\r\n".to_owned(),
    };
    stream.write_all(text.as_bytes())?;
    match manner {
        Manner::Stalls => thread::sleep(Duration::from_secs(60)),
        Manner::Endless => loop {
            stream.write_all(&[b'x'; 4096])?;
        },
        Manner::Well
        | Manner::Status(_)
        | Manner::Silent
        | Manner::Dies
        | Manner::ShortOfItsWord
        | Manner::MoreThanItsWord
        | Manner::Other
        | Manner::Nonsense
        | Manner::Circles => {}
    }
    Ok(())
}

struct Outcome {
    result: Result<Option<Vec<u8>>, NotFetched>,
    slept: Vec<u128>,
}

fn get(mirrors: &[&Server], absent: Absent) -> Outcome {
    let (clock, stop) = (Hand::new(), AtomicBool::new(false));
    let mirrors = mirrors.iter().map(|server| server.url()).collect();
    let fetcher = Fetcher::new(mirrors, Proxies::default(), &clock, &stop, &|_| {})
        .with_patience(Duration::from_millis(300));
    let file = File { path: "a", max_bytes: 1000, absent };
    let result = fetcher.get(file, &|bytes| match bytes == CONTENT.as_bytes() {
        true => Ok(()),
        false => Err("it is not what was signed".to_owned()),
    });
    Outcome { result, slept: clock.slept() }
}

fn good(outcome: &Outcome) -> bool {
    matches!(&outcome.result, Ok(Some(bytes)) if bytes == CONTENT.as_bytes())
}

const BAD: [Manner; 11] = [
    Manner::Status(404),
    Manner::Status(416),
    Manner::Status(500),
    Manner::Silent,
    Manner::Dies,
    Manner::Stalls,
    Manner::ShortOfItsWord,
    Manner::MoreThanItsWord,
    Manner::Endless,
    Manner::Other,
    Manner::Nonsense,
];

#[test]
fn a_server_that_gets_well_is_waited_for() {
    for manner in BAD {
        let outcome = get(&[&Server::new(&[manner, manner, Manner::Well])], Absent::IsAnError);
        assert!(good(&outcome), "{manner:?}: {:?}", outcome.result);
        assert_eq!(outcome.slept, [200, 400], "{manner:?}");
    }
}

#[test]
fn a_mirror_that_is_well_makes_up_for_one_that_is_not() {
    for manner in BAD.into_iter().chain([Manner::Circles]) {
        let (bad, well) = (Server::new(&[manner]), Server::new(&[Manner::Well]));
        let outcome = get(&[&bad, &well], Absent::IsAnAnswer);
        assert!(good(&outcome) && outcome.slept.is_empty(), "{manner:?}: {:?}", outcome.result);
    }
}

#[test]
fn statuses_in_turn_are_outlasted() {
    let turns = [404, 416, 500, 404, 416, 500].map(Manner::Status);
    let manners: Vec<Manner> = turns.into_iter().chain([Manner::Well]).collect();
    assert!(good(&get(&[&Server::new(&manners)], Absent::IsAnError)));
}

#[test]
fn the_mirror_that_was_good_is_asked_first_the_next_time() {
    let (bad, well) = (Server::new(&[Manner::Dies]), Server::new(&[Manner::Well]));
    let (clock, stop) = (Hand::new(), AtomicBool::new(false));
    let mirrors = vec![bad.url(), well.url()];
    let fetcher = Fetcher::new(mirrors, Proxies::default(), &clock, &stop, &|_| {});
    for _ in 0..3 {
        let file = File { path: "a", max_bytes: 1000, absent: Absent::IsAnError };
        fetcher.get(file, &|_| Ok(())).unwrap();
    }
    assert_eq!((bad.asked().len(), well.asked().len()), (1, 3));
}

#[test]
fn a_file_that_no_mirror_has_is_an_answer_where_it_may_be_one() {
    let (one, two) = (Server::new(&[Manner::Status(404)]), Server::new(&[Manner::Status(403)]));
    let outcome = get(&[&one, &two], Absent::IsAnAnswer);
    assert!(matches!(outcome.result, Ok(None)), "{:?}", outcome.result);
    // A mirror that could not say is no answer.
    let turns = [Manner::Silent, Manner::Status(404)];
    let outcome = get(&[&one, &Server::new(&turns)], Absent::IsAnAnswer);
    assert!(matches!(outcome.result, Ok(None)), "{:?}", outcome.result);
    assert_eq!(outcome.slept, [200]);
}

fn given_up(manner: Manner, expect: Expect) {
    let server = Server::new(&[manner]);
    let error = get(&[&server], Absent::IsAnError).result.unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    expect.assert_eq(&text.replace(&server.address.to_string(), "HOST"));
}

#[test]
fn what_was_wrong_is_said_when_it_is_given_up() {
    given_up(
        Manner::Status(500),
        expect![
            "fetching a: given up after 64 tries in 296 s: http://HOST/base/: the server says 500 So"
        ],
    );
    given_up(
        Manner::Status(404),
        expect![
            "fetching a: given up after 64 tries in 296 s: http://HOST/base/: there is no such file (404)"
        ],
    );
    given_up(
        Manner::Dies,
        expect![
            "fetching a: given up after 64 tries in 296 s: http://HOST/base/: unexpected end of file"
        ],
    );
    given_up(
        Manner::Endless,
        expect![
            "fetching a: given up after 64 tries in 296 s: http://HOST/base/: more than the 1000 bytes it may have"
        ],
    );
    given_up(
        Manner::Other,
        expect![
            "fetching a: given up after 64 tries in 296 s: http://HOST/base/: it is not what was signed"
        ],
    );
    given_up(
        Manner::Nonsense,
        expect![
            "fetching a: given up after 64 tries in 296 s: http://HOST/base/: the server sent `220 smtp.example ESMTP` instead of a status"
        ],
    );
    given_up(
        Manner::Circles,
        expect![
            "fetching a: given up after 1 tries in 0 s: http://HOST/base/: it sends us from one address to the next, 10 times"
        ],
    );
}

#[test]
fn whoever_is_told_to_stop_stops() {
    let server = Server::new(&[Manner::Endless]);
    let (clock, stop) = (Hand::new(), AtomicBool::new(false));
    let fetcher = Fetcher::new(vec![server.url()], Proxies::default(), &clock, &stop, &|_| {});
    let file = File { path: "a", max_bytes: u64::MAX, absent: Absent::IsAnError };
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            while server.asked().is_empty() {
                thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        fetcher.get(file, &|_| Ok(()))
    });
    assert!(matches!(outcome, Err(NotFetched::Stopped)), "{outcome:?}");
}

#[test]
fn an_account_and_a_proxy_are_used_as_configured() {
    let server = Server::new(&[Manner::Well]);
    let (clock, stop) = (Hand::new(), AtomicBool::new(false));
    let proxy = format!("http://{}", server.address);
    let proxies = Proxies::new(Some(&proxy), None, &[]).unwrap();
    let mirror = Url::parse("http://repository.example/base").unwrap();
    let account = ("core".to_owned(), "pass:word".to_owned());
    let fetcher =
        Fetcher::new(vec![mirror], proxies, &clock, &stop, &|_| {}).as_user(Some(&account));
    let file = File { path: "a", max_bytes: 1000, absent: Absent::IsAnError };
    fetcher.get(file, &|_| Ok(())).unwrap();
    let asked = server.asked().join("\n").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    expect![[r#"
        GET http://repository.example/base/a HTTP/1.1
        Host: repository.example
        Accept: */*
        Accept-Encoding: identity
        User-Agent: update-engine/VERSION (PithOS)
        Authorization: Basic Y29yZTpwYXNzOndvcmQ=
        Connection: close"#]]
    .assert_eq(&asked);
}

#[test]
fn a_limit_is_kept() {
    let server = Server::new(&[Manner::Well]);
    let (clock, stop) = (Hand::new(), AtomicBool::new(false));
    let fetcher = Fetcher::new(vec![server.url()], Proxies::default(), &clock, &stop, &|_| {})
        .limited(Some(CONTENT.len() as u64));
    for _ in 0..3 {
        let file = File { path: "a", max_bytes: 1000, absent: Absent::IsAnError };
        fetcher.get(file, &|_| Ok(())).unwrap();
    }
    assert_eq!(clock.slept(), [1000; 3]);
    assert_eq!(fetcher.fetched_bytes(), 3 * CONTENT.len() as u64);
}
