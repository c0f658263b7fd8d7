//! The engine on a bus, and the client's words: over a private connection, with an engine that does
//! as the test says.

use std::{
    ffi::OsString,
    os::unix::net::UnixStream,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use tokio::sync::{mpsc, watch};
use updater::{
    bus::{self, Call, Client, Manager, Wish},
    client::Words,
    clock::Now,
    engine::{Asked, Code, Effect, End, Engine, Event, Failure, Found, Means},
    status::{Around, Status},
};
use zbus::connection::Builder;

/// An engine behind a bus, that ends each update as it is told.
struct World {
    client: Client,
    wishes: Arc<Mutex<Vec<Call>>>,
}

fn now() -> Now {
    Now {
        up: std::time::Duration::ZERO,
        wall: jiff::Timestamp::from_second(1_800_000_000).unwrap(),
    }
}

impl World {
    async fn new(means: Means, end: End) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (wish, wishes) = mpsc::unbounded_channel();
        let around = Around { version: "1.0".to_owned(), ..Around::default() };
        let engine = Engine::new(means, None, 1, now());
        let (status, seen) = watch::channel(Status::of(&engine, &around, now()));
        let server = Builder::unix_stream(ours)
            .server(zbus::Guid::generate())
            .p2p()
            .serve_at(bus::PATH, Manager::new(wish, seen));
        let client = Builder::unix_stream(theirs).p2p();
        let (server, client) = tokio::try_join!(server.build(), client.build()).unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(play(engine, around, wishes, status, server, end, log.clone()));
        Self { client: Client::new(client), wishes: log }
    }

    /// What the client prints and how it ends, by these words.
    async fn say(&self, words: &str) -> (String, Result<ExitCode, String>) {
        let words = words.split_whitespace().map(OsString::from);
        let words = [OsString::from("update_engine_client")].into_iter().chain(words);
        let mut printed = String::new();
        let words = Words::read(words).unwrap();
        let outcome = words.run(&self.client, &mut |text| printed.push_str(text)).await;
        (printed, outcome.map_err(|error| format!("{error:#}")))
    }
}

/// The shell of a real engine, whose worker is the test.
async fn play(
    mut engine: Engine,
    around: Around,
    mut wishes: mpsc::UnboundedReceiver<Wish>,
    status: watch::Sender<Status>,
    server: zbus::Connection,
    end: End,
    log: Arc<Mutex<Vec<Call>>>,
) {
    while let Some(Wish { call, answer }) = wishes.recv().await {
        log.lock().unwrap().push(call.clone());
        let mut events = vec![match call {
            Call::Attempt(asked) => Event::Attempt(asked),
            Call::Reset => Event::Reset,
        }];
        let mut answered = Ok(());
        while let Some(event) = events.pop() {
            for effect in engine.step(event, now()) {
                match effect {
                    Effect::Work(_) => events.push(Event::Ended(end.clone())),
                    Effect::Record(_) => events.insert(0, Event::Recorded),
                    Effect::Refuse(why) => answered = Err(why),
                    Effect::Publish => {
                        let new = Status::of(&engine, &around, now());
                        bus::publish(&server, &new).await.unwrap();
                        status.send_replace(new);
                    }
                    Effect::Stop | Effect::NeedReboot(_) | Effect::NoReboot => {}
                }
            }
        }
        answer.send(answered).unwrap();
    }
}

fn failed() -> End {
    let cause = "fetching timestamp.json: given up after 64 tries".to_owned();
    End::Failed(Failure { code: Code::Transfer, cause })
}

#[tokio::test]
async fn status_is_five_lines_that_scripts_know() {
    let world = World::new(Means::All, failed()).await;
    for words in ["-status", "--status", "status"] {
        let (printed, outcome) = world.say(words).await;
        assert_eq!(outcome, Ok(ExitCode::SUCCESS));
        assert_eq!(
            printed,
            "LAST_CHECKED_TIME=0\nPROGRESS=0.000000\nCURRENT_OP=UPDATE_STATUS_IDLE\n\
             NEW_VERSION=0.0.0\nNEW_SIZE=0\n"
        );
    }
}

#[tokio::test]
async fn an_update_that_fails_is_an_error_with_its_cause() {
    let world = World::new(Means::All, failed()).await;
    let (printed, outcome) = world.say("-update").await;
    assert_eq!(printed, "");
    assert_eq!(
        outcome.unwrap_err(),
        "The last update failed (error 9): fetching timestamp.json: given up after 64 tries."
    );
    // Asked again, it is tried again.
    assert!(world.say("-update").await.1.is_err());
    let (printed, _) = world.say("status --json").await;
    assert_eq!(serde_json::from_str::<Status>(&printed).unwrap().attempts, 2);
}

#[tokio::test]
async fn an_update_that_is_installed_needs_a_reboot_and_can_be_taken_back() {
    let installed = End::Installed { version: "1.1".parse().unwrap() };
    let world = World::new(Means::All, installed).await;
    let (printed, outcome) = world.say("-update").await;
    assert_eq!(printed, "Update succeeded -- reboot needed: 1.1 boots next.\n");
    assert_eq!(outcome, Ok(ExitCode::SUCCESS));
    let (printed, _) = world.say("-status").await;
    assert!(printed.contains("CURRENT_OP=UPDATE_STATUS_UPDATED_NEED_REBOOT\nNEW_VERSION=1.1\n"));
    // Once more, it is there already.
    assert_eq!(world.say("-update").await.1, Ok(ExitCode::SUCCESS));
    assert_eq!(world.say("-reset_status").await.1, Ok(ExitCode::SUCCESS));
    let update = Call::Attempt(Asked::Operator);
    assert_eq!(*world.wishes.lock().unwrap(), [update.clone(), update, Call::Reset]);
}

#[tokio::test]
async fn nothing_new_is_no_error_and_a_dead_end_is_one() {
    let world = World::new(Means::All, End::Nothing(Found::UpToDate)).await;
    let (printed, outcome) = world.say("-update").await;
    assert_eq!(printed, "No update available. There is no newer version.\n");
    assert_eq!(outcome, Ok(ExitCode::SUCCESS));
    let reason = "install it anew".to_owned();
    let world = World::new(Means::All, End::Nothing(Found::DeadEnd { reason })).await;
    let error = world.say("-update").await.1.unwrap_err();
    assert_eq!(error, "There is no way on from this version: install it anew.");
}

#[tokio::test]
async fn without_a_server_the_client_says_why_and_files_are_taken() {
    let means = Means::Files { why: "no SERVER in update.conf".to_owned() };
    let world = World::new(means, End::Nothing(Found::UpToDate)).await;
    for words in ["-update", "-check_for_update"] {
        assert_eq!(world.say(words).await.1.unwrap_err(), "no SERVER in update.conf");
    }
    assert_eq!(world.say("apply /run/media/stick").await.1, Ok(ExitCode::SUCCESS));
    let (printed, _) = world.say("why").await;
    assert!(printed.contains("Updates are off: no SERVER in update.conf.\n"), "{printed}");
}

#[test]
fn a_word_that_is_not_known_is_an_error_of_its_own() {
    let words = ["update_engine_client", "-frobnicate"].map(OsString::from);
    assert_eq!(Words::read(words).unwrap_err().exit_code(), 2);
}
