//! The page of operators: HTML, made here, whole without its script. The script only looks again
//! every few seconds, and keeps the token in the tab that it was typed into.

use std::fmt::{Display, Write};

use payload::request::Fate;
use quick_xml::escape::escape;

use crate::{
    overview::{Asked, Overview, Rollout},
    store::{Failures, Group, Happened, Machine, Which},
};

/// How it looks.
pub const STYLE: &str = include_str!("page/style.css");
/// What it does by itself.
pub const SCRIPT: &str = include_str!("page/script.js");
/// Machines of one list.
pub const LISTED: u32 = 100;

/// Whether changes may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// With the token.
    WithToken,
    /// The server was started without one.
    Never,
}

/// The whole page. `said` is what the last change led to.
pub fn whole(overview: &Overview, changes: Changes, said: Option<&str>) -> String {
    let mut body = String::new();
    if let Some(said) = said {
        let _ = write!(body, "<p class=\"said\" role=\"status\">{}</p>", text(said));
    }
    let _ = write!(body, "<div id=\"live\">{}</div>", live(overview, changes));
    if changes == Changes::WithToken {
        body.push_str(&form(overview));
    }
    document("Fleet", &body)
}

/// What changes by itself.
pub fn live(overview: &Overview, changes: Changes) -> String {
    let Overview { at, machines, silent, .. } = overview;
    let mut html = String::new();
    for notice in &overview.notices {
        let _ = write!(html, "<p class=\"notice\">{}</p>", text(notice));
    }
    let _ = write!(
        html,
        "<p><b id=\"machines\">{machines}</b> machines, and {silent} that were not heard of lately. \
         <span class=\"dim\">{at:.0}</span></p>"
    );
    html.push_str(&section("Roll-outs", "rollouts", &rollouts(&overview.rollouts, changes)));
    html.push_str(&section("Machines", "groups", &groups(&overview.groups)));
    html.push_str(&section("Failures", "failures", &failures(&overview.failures)));
    html.push_str(&section("Requests", "requests", &requests(&overview.requests)));
    html
}

/// Machines, one a line.
pub fn machines(which: &Which, machines: &[Machine]) -> String {
    let rows = machines.iter().map(|machine| {
        let Machine { id, alias, version, board, channel, last_seen, progress, .. } = machine;
        let link = format!("<a href=\"/machines/{}\">{}</a>", text(id), text(id));
        let phase = format!("{} {}", progress.phase.as_str(), progress.target);
        let cells = [text(alias), text(version), text(channel), text(board)];
        let why = text(&why(progress.code, &progress.cause));
        let seen = format!("{last_seen:.0}");
        [link].into_iter().chain(cells).chain([text(phase.trim()), why, seen]).collect()
    });
    let head = ["machine", "alias", "version", "channel", "board", "update", "why", "last seen"];
    let mut body = table(&head, rows, "No machine is like that.");
    if let Some(last) = machines.last().filter(|_| machines.len() == LISTED as usize) {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let Which { channel, version, phase, .. } = which;
        let pairs =
            [("channel", channel), ("version", version), ("phase", phase), ("after", &last.id)];
        for (name, value) in pairs {
            query.append_pair(name, value);
        }
        let _ = write!(body, "<p><a href=\"/machines?{}\">More</a></p>", text(&query.finish()));
    }
    document("Machines", &body)
}

/// What happened on a machine.
pub fn events(machine: &str, events: &[Happened]) -> String {
    let rows = events.iter().map(|happened| {
        let event = omaha::Event {
            kind: happened.kind.into(),
            result: happened.result.into(),
            code: happened.code,
            ..omaha::Event::default()
        };
        let Happened { at, version, target, code, cause, .. } = happened;
        let cells = [format!("{at:.0}"), event.to_string(), version.clone(), target.clone()];
        cells.iter().map(text).chain([text(&why(*code, cause))]).collect()
    });
    let head = ["at", "what", "it ran", "to", "why"];
    let body = table(&head, rows, "Nothing is known to have happened on it.");
    document(machine, &body)
}

fn rollouts(rollouts: &[Rollout], changes: Changes) -> String {
    let rows = rollouts.iter().map(|rollout| {
        let Rollout { channel, version, of, through, open_percent, .. } = rollout;
        let state = match (&rollout.reason, rollout.next) {
            (Some(reason), _) => format!("{}: {}", rollout.state, text(reason)),
            (None, Some((from, percent))) => {
                format!("open to {open_percent} %, to {percent} % at {from:.0}")
            }
            (None, None) => format!("open to {open_percent} %"),
        };
        let bar = format!("<progress max=\"{}\" value=\"{through}\"></progress>", (*of).max(1));
        let mut cells = vec![
            text(channel),
            text(version) + if rollout.barrier { " (barrier)" } else { "" },
            state,
            format!("{bar} {through} of {of}"),
            rollout.under_way.to_string(),
            rollout.installed.to_string(),
            rollout.failed.to_string(),
        ];
        if changes == Changes::WithToken {
            cells.push(buttons(rollout));
        }
        cells
    });
    let head = [
        "channel",
        "release",
        "state",
        "machines",
        "under way",
        "wait for reboot",
        "failed",
        "ask to",
    ];
    let columns = if changes == Changes::WithToken { head.len() } else { head.len() - 1 };
    table(&head[..columns], rows, "The repository has no channels.")
}

fn buttons(rollout: &Rollout) -> String {
    let Rollout { channel, version, .. } = rollout;
    let button = |change: &str, label: &str| {
        format!(
            "<button form=\"ask\" name=\"wish\" value=\"{change} {} {}\">{label}</button>",
            text(channel),
            text(version)
        )
    };
    match rollout.state {
        "open" => button("pause", "Pause") + &button("promote", "Promote"),
        "paused" => button("resume", "Open again"),
        _ => String::new(),
    }
}

fn groups(groups: &[Group]) -> String {
    let rows = groups.iter().map(|group| {
        let Group { family, channel, version, phase, target, machines } = group;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("channel", channel).append_pair("version", version);
        query.append_pair("phase", phase.as_str());
        let link = format!("<a href=\"/machines?{}\">{machines}</a>", text(&query.finish()));
        let phase = format!("{} {target}", phase.as_str());
        vec![text(channel), text(version), text(phase.trim()), text(family), link]
    });
    let head = ["channel", "version", "update", "system", "machines"];
    table(&head, rows, "No machine was heard of lately.")
}

fn failures(failures: &[Failures]) -> String {
    let rows = failures.iter().map(|failure| {
        let Failures { channel, version, target, code, cause, machines, last_seen, .. } = failure;
        let to = if target.is_empty() { "?" } else { target };
        vec![
            text(channel),
            format!("{} to {}", text(version), text(to)),
            text(&why(*code, cause)),
            machines.to_string(),
            format!("{last_seen:.0}"),
        ]
    });
    let head = ["channel", "update", "why", "machines", "last seen"];
    table(&head, rows, "None.")
}

fn requests(requests: &[Asked]) -> String {
    let rows = requests.iter().map(|asked| {
        let fate = match &asked.request.fate {
            Fate::Waiting => "waits for the publisher".to_owned(),
            Fate::CarriedOut { at, said } => format!("carried out at {at:.0}: {said}"),
            Fate::Refused { at, said } => format!("refused at {at:.0}: {said}"),
        };
        let at = format!("{:.0}", asked.request.at);
        vec![text(&asked.name), at, text(&asked.sentence), text(&fate)]
    });
    table(&["name", "asked for at", "what", "state"], rows, "None.")
}

fn form(overview: &Overview) -> String {
    let mut channels: Vec<&str> = overview.rollouts.iter().map(|r| r.channel.as_str()).collect();
    channels.dedup();
    let channels: String =
        channels.iter().map(|name| format!("<option value=\"{}\"></option>", text(name))).collect();
    format!(
        "<section><h2>Ask for a change</h2>\
         <p>The buttons above ask for it. This server cannot sign: <code>update-publish requests\
         </code> shows what is asked for, and <code>carry-out</code> signs it.</p>\
         <form id=\"ask\" method=\"post\" action=\"/requests\">\
         <label>Token <input type=\"password\" name=\"token\" required \
         autocomplete=\"current-password\"></label>\
         <label>Why it is paused <input name=\"reason\" maxlength=\"200\"></label>\
         <label>Promote to <input name=\"to\" list=\"channels\"></label>\
         <datalist id=\"channels\">{channels}</datalist>\
         <label>Open to <select name=\"opening\"><option value=\"usual\">the usual waves</option>\
         <option value=\"all\">all at once</option></select></label>\
         <label>First wave <input name=\"from\" \
         placeholder=\"now; +24 hours; 2026-12-01T08:00:00Z\"></label>\
         </form></section>"
    )
}

/// A number with its meaning, and what the machine says.
fn why(code: u32, cause: &str) -> String {
    match (code, omaha::code_name(code), cause) {
        (0, _, cause) => cause.to_owned(),
        (code, None, "") => format!("error {code}"),
        (code, Some(name), "") => format!("error {code} ({name})"),
        (code, _, cause) => format!("error {code}: {cause}"),
    }
}

fn section(title: &str, id: &str, body: &str) -> String {
    format!("<section id=\"{id}\"><h2>{title}</h2>{body}</section>")
}

/// Cells are HTML already.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>, none: &str) -> String {
    let row = |cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr>{cells}</tr>")
    };
    let rows: String = rows.map(row).collect();
    if rows.is_empty() {
        return format!("<p class=\"dim\">{none}</p>");
    }
    let head: String = head.iter().map(|name| format!("<th>{name}</th>")).collect();
    format!("<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <link rel=\"stylesheet\" href=\"/style.css\"><script src=\"/script.js\" defer></script>\
         </head><body><h1><a href=\"/\">PithOS updates</a></h1>{body}</body></html>\n",
        title = text(title),
    )
}

/// Whatever it is, it is text: machines say what they like.
fn text(value: &(impl Display + ?Sized)) -> String {
    escape(value.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{catalog::Catalog, fleet::Phase, overview::Known};

    #[test]
    fn what_machines_say_is_text() {
        let evil = "<script>alert(1)</script>\"'&";
        let known = Known {
            failures: vec![Failures {
                family: evil.to_owned(),
                channel: evil.to_owned(),
                version: evil.to_owned(),
                target: evil.to_owned(),
                code: 1,
                cause: evil.to_owned(),
                machines: 1,
                last_seen: Timestamp::UNIX_EPOCH,
            }],
            groups: vec![Group {
                family: evil.to_owned(),
                channel: evil.to_owned(),
                version: evil.to_owned(),
                phase: Phase::Failed,
                target: evil.to_owned(),
                machines: 1,
            }],
            ..Known::default()
        };
        let overview = Overview::of(&Catalog::default(), known, Timestamp::UNIX_EPOCH);
        let html = whole(&overview, Changes::WithToken, Some(evil));
        let html = html + &machines(&Which::default(), &[]) + &events(evil, &[]);
        assert!(!html.contains("<script>alert") && !html.contains("\"'&\""), "{html}");
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    }

    #[test]
    fn without_a_token_there_is_nothing_to_press() {
        let overview = Overview::of(&Catalog::default(), Known::default(), Timestamp::UNIX_EPOCH);
        assert!(!whole(&overview, Changes::Never, None).contains("<form"));
        assert!(whole(&overview, Changes::WithToken, None).contains("<form"));
    }
}
