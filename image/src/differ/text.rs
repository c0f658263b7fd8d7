//! JSON by its values, text by its lines.

use std::{collections::BTreeSet, io};

use serde_json::Value;

use super::{
    report::{Report, Side, What, excerpts},
    source::Source,
};

/// More than that is not read as text.
const TEXT_MAX: u64 = 64 << 20;
/// Bytes that are looked at first.
const HEAD: usize = 4096;

/// UTF-8 without the control characters that no text has.
pub(super) fn is_text(source: &Source) -> io::Result<bool> {
    let binary = |bytes: &[u8]| bytes.iter().any(|&byte| byte < b'\t');
    if binary(&source.peek(0, HEAD)?) {
        return Ok(false);
    }
    let all = source.all(TEXT_MAX)?;
    Ok(all.is_some_and(|all| !binary(&all) && str::from_utf8(&all).is_ok()))
}

pub(super) fn is_json(source: &Source) -> io::Result<bool> {
    let head = source.peek(0, HEAD)?;
    let first = head.trim_ascii_start().first();
    Ok(matches!(first, Some(b'{' | b'[')) && parse(source)?.is_some())
}

fn parse(source: &Source) -> io::Result<Option<Value>> {
    let all = source.all(TEXT_MAX)?;
    Ok(all.and_then(|all| serde_json::from_slice(&all).ok()))
}

/// Values by their paths; if all are equal, what is written differently.
pub(super) fn json(report: &mut Report, a: &Source, b: &Source) -> io::Result<()> {
    let before = report.count();
    if let (Some(a), Some(b)) = (parse(a)?, parse(b)?) {
        values(report, "", &a, &b);
    }
    if report.count() == before { lines(report, a, b) } else { Ok(()) }
}

fn values(report: &mut Report, path: &str, a: &Value, b: &Value) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let below =
                |key: &str| if path.is_empty() { key.into() } else { format!("{path}.{key}") };
            for (key, value) in x {
                match y.get(key) {
                    Some(other) => values(report, &below(key), value, other),
                    None => report.only_in(Side::A, &below(key)),
                }
            }
            for key in y.keys().filter(|key| !x.contains_key(*key)) {
                report.only_in(Side::B, &below(key));
            }
        }
        (Value::Array(x), Value::Array(y)) => arrays(report, path, x, y),
        (a, b) if a == b => {}
        (a, b) => report.field(path, &a.to_string(), &b.to_string()),
    }
}

/// Lists of things that have names are compared by name: one package more does not shift the rest.
fn arrays(report: &mut Report, path: &str, a: &[Value], b: &[Value]) {
    if let (Some(x), Some(y)) = (names(a), names(b))
        && x != y
    {
        for (name, value) in x.iter().zip(a) {
            let path = format!("{path}[{name}]");
            match y.iter().position(|other| other == name) {
                Some(at) => values(report, &path, value, &b[at]),
                None => report.only_in(Side::A, &path),
            }
        }
        for name in y.iter().filter(|name| !x.contains(name)) {
            report.only_in(Side::B, &format!("{path}[{name}]"));
        }
        return;
    }
    for at in 0..a.len().max(b.len()) {
        let name = names(a).and_then(|names| names.get(at).cloned());
        let path = format!("{path}[{}]", name.unwrap_or_else(|| at.to_string()));
        match (a.get(at), b.get(at)) {
            (Some(x), Some(y)) => values(report, &path, x, y),
            (Some(_), None) => report.only_in(Side::A, &path),
            (None, _) => report.only_in(Side::B, &path),
        }
    }
}

/// The names of a list's elements, if each has one of its own.
fn names(list: &[Value]) -> Option<Vec<String>> {
    let name = |value: &Value| {
        let name = ["name", "file", "label"].iter().find_map(|key| value.get(key)?.as_str())?;
        let also = value.get("architecture").and_then(Value::as_str);
        Some(also.map_or_else(|| name.to_owned(), |also| format!("{name}:{also}")))
    };
    let names: Vec<String> = list.iter().map(name).collect::<Option<_>>()?;
    let distinct: BTreeSet<&String> = names.iter().collect();
    (distinct.len() == names.len()).then_some(names)
}

/// Every line, if there are as many; else the first.
pub(super) fn lines(report: &mut Report, a: &Source, b: &Source) -> io::Result<()> {
    let read = |source: &Source| -> io::Result<Vec<String>> {
        let bytes = source.all(TEXT_MAX)?.unwrap_or_default();
        Ok(bytes.split(|&byte| byte == b'\n').map(|l| String::from_utf8_lossy(l).into()).collect())
    };
    let (x, y) = (read(a)?, read(b)?);
    let most = if x.len() == y.len() { usize::MAX } else { 1 };
    let differing = (0..x.len().max(y.len())).filter(|&at| x.get(at) != y.get(at)).take(most);
    for at in differing {
        let line = |of: &[String]| of.get(at).map(|line| format!("{line:?}"));
        let (a, b) = match (line(&x), line(&y)) {
            (Some(a), Some(b)) => excerpts(&a, &b),
            (a, b) => (a.unwrap_or("no line".into()), b.unwrap_or("no line".into())),
        };
        report.push(What::Line { number: at + 1, a, b });
        if report.full() {
            break;
        }
    }
    Ok(())
}
