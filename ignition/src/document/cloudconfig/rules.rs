//! What must be right in a cloud-config, or it is left out as a whole.

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::document::{
    node::{At, Node},
    report::Report,
    unpack,
};

const COMMANDS: [&str; 7] = [
    "start",
    "stop",
    "restart",
    "reload",
    "try-restart",
    "reload-or-restart",
    "reload-or-try-restart",
];

pub(super) fn check(config: &Node, report: &mut Report) {
    let root = At::root(config);
    each(&root.key("write_files"), |at| file(&at, report));
    each(&root.key("users"), |at| {
        let name = at.key("name");
        let text = name.node().and_then(Node::text).unwrap_or_default();
        if text.is_empty() || text.contains([':', '/', '\n']) {
            report.error(&name, format!("`{text}` is not the name of a user"));
        }
    });
    one_of(&root.key("manage_etc_hosts"), &["localhost"], report);
    let coreos = root.key("coreos");
    each(&coreos.key("units"), |at| {
        file_name(&at.key("name"), "a unit", report);
        one_of(&at.key("command"), &COMMANDS, report);
        each(&at.key("drop_ins"), |at| file_name(&at.key("name"), "a drop-in", report));
    });
    let update = coreos.key("update");
    one_of(&update.key("reboot_strategy"), &["etcd-lock", "reboot", "off"], report);
    for section in ["group", "server"] {
        one_line(&update.key(section), report);
    }
    let etcd2 = coreos.key("etcd2");
    one_of(&etcd2.key("proxy"), &["on", "off", "readonly"], report);
    for section in ["etcd", "etcd2"] {
        let section = coreos.key(section);
        let discovery = section.key("discovery");
        if let Some(url) = text(&discovery).filter(|url| !url.contains("://")) {
            report.warning(&discovery, format!("`{url}` is not a URL"));
        }
    }
    let locksmith = coreos.key("locksmith");
    let start = locksmith.key("window_start");
    if text(&start).is_some_and(|text| !is_window_start(text)) {
        report.error(&start, "expected a time, as in `Thu 04:00` or `4:00`");
    }
    let length = locksmith.key("window_length");
    if text(&length).is_some_and(|text| !is_duration(text)) {
        report.error(&length, "expected a time span, as in `1h30m`");
    }
}

fn each(list: &At<'_>, mut check: impl FnMut(At<'_>)) {
    for index in 0..list.node().and_then(Node::list).map_or(0, <[Node]>::len) {
        check(list.index(index));
    }
}

/// The text that is there, if it is not empty: an empty one is none.
fn text<'a>(at: &At<'a>) -> Option<&'a str> {
    at.node().and_then(Node::text).filter(|text| !text.is_empty())
}

fn one_of(at: &At<'_>, known: &[&str], report: &mut Report) {
    if let Some(found) = text(at).filter(|text| !known.contains(text)) {
        let message = format!("`{found}` is not known here");
        report.error(at, message).hint(format!("one of {}", known.join(", ")));
    }
}

fn one_line(at: &At<'_>, report: &mut Report) {
    if text(at).is_some_and(|text| text.contains('\n')) {
        report.error(at, "expected a single line");
    }
}

/// The original joins names to paths as they are: a name with `..` in it wrote anywhere.
fn file_name(at: &At<'_>, what: &str, report: &mut Report) {
    let name = text(at).unwrap_or_default();
    if name.is_empty() || name.contains(['/', '\0', '\n']) || name == "." || name == ".." {
        report.error(at, format!("`{name}` is not the name of {what}"));
    }
}

fn file(at: &At<'_>, report: &mut Report) {
    let path_at = at.key("path");
    let path = text(&path_at).unwrap_or_default();
    let clean = path.trim_start_matches('/');
    if clean.is_empty() || path.contains('\0') || clean.split('/').any(|part| part == "..") {
        report.error(&path_at, format!("`{path}` is not the path of a file"));
    } else if clean.starts_with("usr/") {
        report.error(&path_at, "nothing can be written below /usr: it is read-only");
    }
    let mode = at.key("permissions");
    if text(&mode).is_some_and(|text| permissions(text).is_none()) {
        let message = "expected permissions in octal, three or four digits, as in 0644";
        report.error(&mode, message);
    }
    let encoding = at.key("encoding");
    let content = at.key("content");
    let decoded = decode(text(&content).unwrap_or_default(), text(&encoding).unwrap_or_default());
    if let Err(why) = decoded {
        let place = if why.is_unknown { &encoding } else { &content };
        report.error(place, why.message);
    }
}

/// Why content cannot be decoded.
pub(super) struct Undecodable {
    /// The encoding is not known at all.
    is_unknown: bool,
    message: String,
}

/// What is in a file.
pub(super) fn decode(content: &str, encoding: &str) -> Result<Vec<u8>, Undecodable> {
    let wrong = |why: &dyn std::fmt::Display| Undecodable {
        is_unknown: false,
        message: format!("this is not {encoding}: {why}"),
    };
    let base64 = || {
        let digits: String = content.split_whitespace().collect();
        BASE64_STANDARD.decode(digits).map_err(|error| wrong(&error))
    };
    let gunzip = |bytes: &[u8]| match bytes {
        [0x1f, 0x8b, ..] => unpack(bytes).map_err(|error| wrong(&error)),
        _ => Err(wrong(&"it does not begin as gzip does")),
    };
    match encoding {
        "" => Ok(content.as_bytes().to_vec()),
        "base64" | "b64" => base64(),
        "gzip" | "gz" => gunzip(content.as_bytes()),
        "gzip+base64" | "gzip+b64" | "gz+base64" | "gz+b64" => gunzip(&base64()?),
        other => {
            let message = format!("the encoding `{other}` is not known; base64, gzip, gzip+base64");
            Err(Undecodable { is_unknown: true, message })
        }
    }
}

/// `^0?[0-7]{3,4}$`
pub(super) fn permissions(text: &str) -> Option<i64> {
    let digits = match text.len() {
        5 => text.strip_prefix('0')?,
        3 | 4 => text,
        _ => return None,
    };
    digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit)).then_some(())?;
    i64::from_str_radix(digits, 8).ok()
}

fn is_window_start(text: &str) -> bool {
    let time = match text.split_once(' ') {
        Some((day, time)) => {
            let days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
            if !days.contains(&day.to_ascii_lowercase().as_str()) {
                return false;
            }
            time
        }
        None => text,
    };
    let number = |text: &str, most: u32| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits && text.parse().is_ok_and(|number: u32| number <= most)
    };
    time.split_once(':').is_some_and(|(hour, minute)| number(hour, 23) && number(minute, 59))
}

/// Numbers, each with its unit: `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let behind = unit.trim_start_matches(|c: char| c.is_alphabetic());
        let (number, unit) = (&rest[..rest.len() - unit.len()], &unit[..unit.len() - behind.len()]);
        let known = ["ns", "us", "µs", "ms", "s", "m", "h"].contains(&unit);
        if !known || number.parse::<f64>().is_err() {
            return false;
        }
        rest = behind;
    }
    !text.trim_start_matches(['-', '+']).is_empty()
}
