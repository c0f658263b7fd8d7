//! A real browser without a window, driven by its own protocol over two pipes.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::stat::Mode;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A page that does not become as it should in that time never does.
const PATIENCE: Duration = Duration::from_secs(120);
const BROWSER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../build/browser/current/browser");

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    commands: File,
    answers: BufReader<File>,
    session: Option<String>,
    count: u64,
    /// What the page complained about.
    pub(crate) errors: Vec<String>,
    _folder: TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
        assert!(
            Path::new(BROWSER).exists(),
            "{BROWSER} is missing: `./pith test` fetches it, and so does \
             `cargo run --profile=host -p image -- browser`"
        );
        let folder = TempDir::new().unwrap();
        let [commands, answers] = ["commands", "answers"].map(|name| folder.path().join(name));
        for pipe in [&commands, &answers] {
            nix::unistd::mkfifo(pipe, Mode::S_IRWXU).unwrap();
        }
        // It reads from descriptor 3 and writes to 4.
        let child = Command::new("/bin/sh")
            .args([
                "-c",
                "browser=$1; in=$2; out=$3; shift 3; exec \"$browser\" \"$@\" 3<\"$in\" 4>\"$out\"",
                "sh",
            ])
            .args([Path::new(BROWSER), &commands, &answers])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let commands = File::options().write(true).open(commands).unwrap();
        let answers = BufReader::new(File::open(answers).unwrap());
        let mut browser = Self {
            child,
            commands,
            answers,
            session: None,
            count: 0,
            errors: Vec::new(),
            _folder: folder,
        };
        let target = browser.command("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.command("Target.attachToTarget", attach);
        browser.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            browser.command(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Goes to an address.
    pub(crate) fn open(&mut self, url: &str) {
        let found = self.command("Page.navigate", json!({ "url": url }));
        assert_eq!(found["errorText"], Value::Null, "{url}");
        self.wait("document.readyState === 'complete'");
    }

    /// What an expression is on the page.
    pub(crate) fn get(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let mut found = self.command("Runtime.evaluate", asked);
        // While it goes from page to page there is none to ask.
        found["result"]["value"].take()
    }

    /// Waits until an expression is true on the page.
    pub(crate) fn wait(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        while self.get(expression) != Value::Bool(true) {
            if Instant::now() > end {
                let page = self.get("document.documentElement.outerHTML");
                panic!("never true: {expression}\n{}\n{page}", self.errors.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn command(&mut self, method: &str, parameters: Value) -> Value {
        self.count += 1;
        let mut command = json!({ "id": self.count, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).unwrap();
        loop {
            let mut text = Vec::new();
            let length = self.answers.read_until(0, &mut text).unwrap();
            assert!(length > 0, "the browser ended: {method}");
            let mut message: Value = serde_json::from_slice(&text[..length - 1]).unwrap();
            if message["id"] == self.count {
                return message["result"].take();
            }
            match message["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.errors.push(message.to_string()),
                Some("Log.entryAdded") if message["params"]["entry"]["level"] == "error" => {
                    self.errors.push(message["params"]["entry"]["text"].to_string());
                }
                Some(_) | None => {}
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
