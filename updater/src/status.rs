//! What the engine is at, as it is told to operators, programs and collectors of metrics.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Now,
    engine::{End, Engine, Failure, Found, Means, Phase, State},
};

/// What update_engine says where there is no version.
const NO_VERSION: &str = "0.0.0";

/// All that can be said at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// As update_engine calls it, such as `UPDATE_STATUS_IDLE`.
    pub operation: String,
    /// The version that runs.
    pub version: String,
    /// The channel that is followed.
    pub channel: String,
    /// When the server was last asked with success.
    pub last_checked: Option<Timestamp>,
    /// Of the download, from 0 to 1.
    pub progress: f64,
    /// What is installed, or on the way.
    pub new_version: Option<String>,
    /// What has to be fetched for it.
    pub new_size_bytes: u64,
    /// Why updates are off, if they are.
    pub off: Option<String>,
    /// Seconds until the next check.
    pub next_check_seconds: Option<u64>,
    /// How many updates were begun since the engine started.
    pub attempts: u64,
    /// How the last one ended.
    pub last: Option<End>,
    /// How the last one ended before the engine started.
    #[serde(default)]
    pub last_before: Option<End>,
    /// How many failed since the last that did not.
    pub failures: u32,
    /// What the reboot into the new version waits for.
    pub reboot_waits_for: Option<String>,
    /// How the last reboot into a new version went.
    pub boot: Option<String>,
    /// Versions that failed here and are not tried again, with the reason.
    pub bad: Vec<(String, String)>,
    /// What is odd about the configuration.
    pub warnings: Vec<String>,
}

/// What the engine does not know, but its shell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Around {
    /// The version that runs.
    pub version: String,
    /// The channel that is followed.
    pub channel: String,
    /// What the reboot waits for.
    pub reboot_waits_for: Option<String>,
    /// How the last reboot went.
    pub boot: Option<String>,
    /// Versions that failed here.
    pub bad: Vec<(String, String)>,
    /// How the last update before the engine's start ended.
    pub last_before: Option<End>,
    /// What is odd about the configuration.
    pub warnings: Vec<String>,
}

impl Status {
    /// What `engine` is at, in these surroundings.
    pub fn of(engine: &Engine, around: &Around, now: Now) -> Self {
        let (progress, target) = match engine.state() {
            State::Working { phase, .. } => (progress(phase), phase.target()),
            State::Idle { .. }
            | State::NeedReboot { .. }
            | State::Reporting { .. }
            | State::Stopping { .. }
            | State::Discarding { .. } => (0.0, None),
        };
        let installed = match engine.state() {
            State::NeedReboot { version } => Some(version.to_string()),
            State::Idle { .. }
            | State::Working { .. }
            | State::Reporting { .. }
            | State::Stopping { .. }
            | State::Discarding { .. } => None,
        };
        Self {
            operation: engine.state().operation().to_owned(),
            version: around.version.clone(),
            channel: around.channel.clone(),
            last_checked: engine.last_checked(),
            progress,
            new_version: target.map(|target| target.version.to_string()).or(installed),
            new_size_bytes: target.map_or(0, |target| target.size_bytes),
            off: match engine.means() {
                Means::All => None,
                Means::Files { why } | Means::Nothing { why } => Some(why.clone()),
            },
            next_check_seconds: engine.wake().map(|wake| wake.saturating_sub(now.up).as_secs()),
            attempts: engine.attempts(),
            last: engine.last().cloned(),
            last_before: around.last_before.clone(),
            failures: engine.failures(),
            reboot_waits_for: around.reboot_waits_for.clone(),
            boot: around.boot.clone(),
            bad: around.bad.clone(),
            warnings: around.warnings.clone(),
        }
    }

    /// The five values of `GetStatus` and `StatusUpdate` on the bus.
    pub fn tuple(&self) -> (i64, f64, String, String, i64) {
        (
            self.last_checked.map_or(0, Timestamp::as_second),
            self.progress,
            self.operation.clone(),
            self.new_version.clone().unwrap_or_else(|| NO_VERSION.to_owned()),
            i64::try_from(self.new_size_bytes).unwrap_or(i64::MAX),
        )
    }

    /// The lines of `update_engine_client -status`.
    pub fn lines(&self) -> String {
        let (last_checked, progress, operation, version, size) = self.tuple();
        format!(
            "LAST_CHECKED_TIME={last_checked}\nPROGRESS={progress:.6}\nCURRENT_OP={operation}\n\
             NEW_VERSION={version}\nNEW_SIZE={size}\n"
        )
    }

    /// Whether an update that was asked for is over, one way or another.
    pub fn is_over(&self) -> bool {
        matches!(
            self.operation.as_str(),
            "UPDATE_STATUS_IDLE" | "UPDATE_STATUS_UPDATED_NEED_REBOOT"
        )
    }

    /// Why it is as it is, in sentences.
    pub fn why(&self) -> String {
        let mut text = format!("This machine runs {} (channel {}).\n", self.version, self.channel);
        let mut say = |sentence: String| {
            text.push_str(&sentence);
            text.push('\n');
        };
        if let Some(off) = &self.off {
            say(format!("Updates are off: {off}."));
        }
        if let Some(boot) = &self.boot {
            say(format!("{boot}."));
        }
        match (&self.new_version, self.operation.as_str()) {
            (Some(version), "UPDATE_STATUS_UPDATED_NEED_REBOOT") => {
                say(format!("{version} is installed and boots next."));
            }
            (Some(version), operation) => say(format!("{version} is on its way: {operation}.")),
            (None, _) => {}
        }
        if let Some(waits) = &self.reboot_waits_for {
            say(format!("The reboot waits for {waits}."));
        }
        match &self.last {
            None => {
                say("No update was tried since the engine started.".to_owned());
                if let Some(end) = &self.last_before {
                    say(format!("Before that: {}", end.sentence()));
                }
            }
            Some(end) => say(end.sentence()),
        }
        if let Some(seconds) = self.next_check_seconds {
            say(format!("The next check is in {} min.", seconds / 60));
        }
        for (version, reason) in &self.bad {
            say(format!("{version} was bad and is not tried again: {reason}."));
        }
        for warning in &self.warnings {
            say(format!("Not understood: {warning}."));
        }
        text
    }

    /// The same for Prometheus.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, help: &str, labels: &[(&str, &str)], value: f64| {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
                .collect();
            let labels =
                if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let head = format!("# HELP update_engine_{name} {help}\n");
            if !text.contains(&head) {
                text.push_str(&head);
                text.push_str(&format!("# TYPE update_engine_{name} gauge\n"));
            }
            text.push_str(&format!("update_engine_{name}{labels} {value}\n"));
        };
        let running = [("version", self.version.as_str()), ("channel", self.channel.as_str())];
        metric("info", "The version that runs.", &running, 1.0);
        let operation = self.operation.trim_start_matches("UPDATE_STATUS_").to_ascii_lowercase();
        metric("operation", "What the engine is at.", &[("operation", &operation)], 1.0);
        let new = self.new_version.as_deref().unwrap_or_default();
        let needs = f64::from(u8::from(self.operation.ends_with("NEED_REBOOT")));
        metric("need_reboot", "Whether a version waits for a reboot.", &[("version", new)], needs);
        let checked = self.last_checked.map_or(0, Timestamp::as_second) as f64;
        metric("last_checked_seconds", "When the server was last asked.", &[], checked);
        metric("progress", "Of the download, from 0 to 1.", &[], self.progress);
        metric("attempts", "Updates that were begun.", &[], self.attempts as f64);
        metric("failures", "Failures since the last success.", &[], f64::from(self.failures));
        let code = match &self.last {
            Some(End::Failed(Failure { code, .. })) => *code as u32,
            Some(End::Nothing(_) | End::Installed { .. } | End::Stopped | End::Discarded)
            | None => 0,
        };
        metric("error_code", "Of the last update; 0 is none.", &[], f64::from(code));
        let off = f64::from(u8::from(self.off.is_some()));
        metric("off", "Whether updates are off.", &[], off);
        for (version, _) in &self.bad {
            let help = "Versions that failed here and are not tried again.";
            metric("bad_version", help, &[("version", version)], 1.0);
        }
        text
    }
}

fn progress(phase: &Phase) -> f64 {
    match phase {
        Phase::Checking | Phase::Available(_) => 0.0,
        Phase::Downloading { target, bytes } if target.size_bytes > 0 => {
            *bytes as f64 / target.size_bytes as f64
        }
        Phase::Downloading { .. } | Phase::Verifying(_) | Phase::Finalizing(_) => 1.0,
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl End {
    /// How it ended, as a sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::Nothing(Found::UpToDate) => "There is no newer version.".to_owned(),
            Self::Nothing(Found::Later { version, from: Some(from) }) => {
                format!("{version} is for this machine from {from} on.")
            }
            Self::Nothing(Found::Later { version, from: None }) => {
                format!("{version} is not for this machine yet.")
            }
            Self::Nothing(Found::KnownBad { version, reason }) => {
                format!("The newest version, {version}, was bad on this machine: {reason}.")
            }
            Self::Nothing(Found::DeadEnd { reason }) => {
                format!("There is no way on from this version: {reason}.")
            }
            Self::Installed { version } => format!("{version} was installed."),
            Self::Failed(Failure { code, cause }) => {
                format!("The last update failed (error {}): {cause}.", *code as u32)
            }
            Self::Stopped => "The last update was stopped.".to_owned(),
            Self::Discarded => "What was installed was taken back.".to_owned(),
        }
    }

    /// Whether an operator who asked for an update got what there was.
    pub fn is_success(&self) -> bool {
        match self {
            Self::Nothing(Found::UpToDate | Found::Later { .. }) | Self::Installed { .. } => true,
            Self::Nothing(Found::KnownBad { .. } | Found::DeadEnd { .. })
            | Self::Failed(_)
            | Self::Stopped
            | Self::Discarded => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::engine::{Asked, Code, Event};

    fn engine(events: &[Event]) -> Engine {
        let mut engine = Engine::new(Means::All, None, 1, Now::after(0));
        for event in events {
            engine.step(event.clone(), Now::after(0));
        }
        engine
    }

    fn around() -> Around {
        Around {
            version: "1.0".to_owned(),
            channel: "stable".to_owned(),
            bad: vec![("1.1".to_owned(), "it did not \"come up\"".to_owned())],
            ..Around::default()
        }
    }

    fn downloading() -> Status {
        let engine = engine(&[
            Event::Attempt(Asked::Operator),
            Event::Offered { version: "1.2".parse().unwrap(), size_bytes: 4000 },
            Event::Fetched { bytes: 1000 },
        ]);
        Status::of(&engine, &around(), Now::after(0))
    }

    fn failed() -> Status {
        let cause = "fetching a: given up after 3 tries in 9 s".to_owned();
        let failure = Failure { code: Code::Transfer, cause };
        let engine = engine(&[
            Event::Attempt(Asked::Operator),
            Event::Ended(End::Failed(failure)),
            Event::Recorded,
        ]);
        Status::of(&engine, &around(), Now::after(0))
    }

    #[test]
    fn the_lines_are_those_that_scripts_read() {
        expect![[r#"
            LAST_CHECKED_TIME=0
            PROGRESS=0.250000
            CURRENT_OP=UPDATE_STATUS_DOWNLOADING
            NEW_VERSION=1.2
            NEW_SIZE=4000
        "#]]
        .assert_eq(&downloading().lines());
        expect![[r#"
            LAST_CHECKED_TIME=0
            PROGRESS=0.000000
            CURRENT_OP=UPDATE_STATUS_IDLE
            NEW_VERSION=0.0.0
            NEW_SIZE=0
        "#]]
        .assert_eq(&failed().lines());
    }

    #[test]
    fn a_failure_is_told_with_its_cause() {
        expect![[r#"
            This machine runs 1.0 (channel stable).
            The last update failed (error 9): fetching a: given up after 3 tries in 9 s.
            The next check is in 45 min.
            1.1 was bad and is not tried again: it did not "come up".
        "#]]
        .assert_eq(&failed().why());
        assert!(failed().is_over() && !downloading().is_over());
    }

    #[test]
    fn metrics_are_in_the_text_format_of_prometheus() {
        expect![[r##"
            # HELP update_engine_info The version that runs.
            # TYPE update_engine_info gauge
            update_engine_info{version="1.0",channel="stable"} 1
            # HELP update_engine_operation What the engine is at.
            # TYPE update_engine_operation gauge
            update_engine_operation{operation="downloading"} 1
            # HELP update_engine_need_reboot Whether a version waits for a reboot.
            # TYPE update_engine_need_reboot gauge
            update_engine_need_reboot{version="1.2"} 0
            # HELP update_engine_last_checked_seconds When the server was last asked.
            # TYPE update_engine_last_checked_seconds gauge
            update_engine_last_checked_seconds 0
            # HELP update_engine_progress Of the download, from 0 to 1.
            # TYPE update_engine_progress gauge
            update_engine_progress 0.25
            # HELP update_engine_attempts Updates that were begun.
            # TYPE update_engine_attempts gauge
            update_engine_attempts 1
            # HELP update_engine_failures Failures since the last success.
            # TYPE update_engine_failures gauge
            update_engine_failures 0
            # HELP update_engine_error_code Of the last update; 0 is none.
            # TYPE update_engine_error_code gauge
            update_engine_error_code 0
            # HELP update_engine_off Whether updates are off.
            # TYPE update_engine_off gauge
            update_engine_off 0
            # HELP update_engine_bad_version Versions that failed here and are not tried again.
            # TYPE update_engine_bad_version gauge
            update_engine_bad_version{version="1.1"} 1
        "##]]
        .assert_eq(&downloading().metrics());
    }

    #[test]
    fn a_client_reads_what_the_engine_says() {
        for status in [downloading(), failed()] {
            let text = serde_json::to_string(&status).unwrap();
            assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
        }
    }
}
