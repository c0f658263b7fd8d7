//! QEMU's control socket: one JSON object a line, a command at a time.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use crate::error::{Doing, Error};

/// QEMU answers at once, or something is very wrong with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that has been greeted.
#[derive(Debug)]
pub(crate) struct Qmp {
    from: BufReader<UnixStream>,
    events: Vec<String>,
}

impl Qmp {
    pub(crate) fn connect(socket: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket)
            .doing(|| format!("connecting to QEMU's control socket {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE)).doing(|| "setting a time limit".into())?;
        let mut qmp = Self { from: BufReader::new(stream), events: Vec::new() };
        qmp.read("its greeting")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// The events that came since the last time, by name.
    pub(crate) fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    /// Runs a command. Events that come before its answer are put aside.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        let mut to: &UnixStream = self.from.get_ref();
        to.write_all(line.as_bytes()).doing(|| format!("telling QEMU to {command}"))?;
        loop {
            let mut answer = self.read(command)?;
            if let Some(error) = answer.get("error") {
                let said = error["desc"].as_str().unwrap_or("no reason given").to_owned();
                return Err(Error::Qmp { command: command.into(), said });
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(event) = answer["event"].as_str() {
                self.events.push(event.to_owned());
            }
        }
    }

    /// Runs a command of the human monitor, for what has no other.
    pub(crate) fn human(&mut self, line: &str) -> Result<String, Error> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    fn read(&mut self, to: &str) -> Result<Value, Error> {
        let mut line = String::new();
        let length = self.from.read_line(&mut line);
        if length.doing(|| format!("waiting for QEMU's answer to {to}"))? == 0 {
            return Err(Error::Broke(format!("QEMU ended instead of answering {to}")));
        }
        let malformed = |source| Error::Malformed { path: "QEMU's control socket".into(), source };
        serde_json::from_str(&line).map_err(malformed)
    }
}

/// The port of 127.0.0.1 that leads to the guest's port 22, in the words of `info usernet`.
pub(crate) fn forwarded_port(usernet: &str) -> Option<u16> {
    let line = usernet.lines().find(|line| line.contains("[HOST_FORWARD]"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "127.0.0.1");
    words.nth(1)?.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// Connects to a QEMU that answers with these lines, whatever it is told.
    fn with_answers<T>(answers: &'static [&str], test: impl FnOnce(Result<Qmp, Error>) -> T) -> T {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("qmp.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let peer = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            for line in answers {
                (&stream).write_all(format!("{line}\r\n").as_bytes()).expect("a socket");
            }
            let mut told = BufReader::new(stream);
            while told.read_line(&mut String::new()).is_ok_and(|length| length > 0) {}
        });
        let result = test(Qmp::connect(&socket));
        peer.join().expect("the peer");
        result
    }

    #[test]
    fn events_between_a_command_and_its_answer_are_put_aside() {
        let answers = &[
            r#"{"QMP": {"version": {}}}"#,
            r#"{"return": {}}"#,
            r#"{"event": "RESUME", "timestamp": {}}"#,
            r#"{"return": {"status": "running"}}"#,
        ];
        with_answers(answers, |qmp| {
            let mut qmp = qmp.expect("greeted");
            let status = qmp.execute("query-status", json!({}));
            assert_eq!(status.expect("an answer")["status"], "running");
            assert_eq!(qmp.take_events(), ["RESUME"]);
            assert!(qmp.take_events().is_empty());
        });
    }

    #[test]
    fn a_refusal_carries_qemus_reason() {
        let answers = &[
            r#"{"QMP": {}}"#,
            r#"{"return": {}}"#,
            r#"{"error": {"class": "CommandNotFound", "desc": "no such command"}}"#,
        ];
        with_answers(answers, |qmp| {
            let error = qmp.expect("greeted").execute("dance", json!({})).expect_err("refused");
            assert_eq!(error.to_string(), "QEMU refused `dance`: no such command");
        });
    }

    #[test]
    fn the_forwarded_port_is_found_in_what_qemu_says() {
        let said = "Hub -1 (outside):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]  14       127.0.0.1 40123       10.0.2.15    22     0     0\r\n";
        assert_eq!(forwarded_port(said), Some(40123));
        assert_eq!(forwarded_port("nothing"), None);
    }
}
