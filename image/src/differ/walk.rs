//! The one comparison, whatever the format: fields by name, parts by name, then what follows from
//! them, then bytes.

use std::{collections::HashMap, io};

use super::{
    anatomy::{Anatomy, Content, Field, Part},
    kind::Kind,
    numbers::part,
    report::{Report, Side, What},
    source::{Broken, Source, first_difference},
    text,
};

/// How deep formats may lie in each other: disk, partition, UKI, section, zstd, cpio, ELF, and some.
const DEEPEST: usize = 24;

/// Compares whatever `a` and `b` are.
pub(super) fn sources(report: &mut Report, a: &Source, b: &Source) -> io::Result<()> {
    nested(report, a, b, 0)
}

/// Compares what lies `depth` formats deep.
fn nested(report: &mut Report, a: &Source, b: &Source, depth: usize) -> io::Result<()> {
    if report.full() {
        return Ok(());
    }
    match readable(report, a, b, depth) {
        // Found only when it was read: a compressed cluster that cannot be unpacked, for example.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let say = |side: &Source| match io::copy(&mut side.reader(), &mut io::sink()) {
                Ok(_) => "readable".to_owned(),
                Err(error) => error.to_string(),
            };
            report.field("content", &say(a), &say(b));
            Ok(())
        }
        result => result,
    }
}

fn readable(report: &mut Report, a: &Source, b: &Source, depth: usize) -> io::Result<()> {
    let Some(first) = first_difference(a, b)? else { return Ok(()) };
    let (kind, other) = (Kind::of(a)?, Kind::of(b)?);
    if kind != other {
        report.field("kind", &kind.to_string(), &other.to_string());
        return bytes(report, a, b, first);
    }
    let before = report.count();
    let mut place = None;
    match kind {
        Kind::Json => text::json(report, a, b)?,
        Kind::Text => text::lines(report, a, b)?,
        Kind::Empty | Kind::Unknown => {}
        _ if depth == DEEPEST => {}
        _ => match (taken_apart(kind, a)?, taken_apart(kind, b)?) {
            (Ok(x), Ok(y)) => {
                anatomies(report, &x, &y, depth)?;
                place = x.place(first).or(y.place(first)).map(str::to_owned);
            }
            (x, y) => {
                let say = |side: Result<Anatomy, String>| side.err().unwrap_or("whole".into());
                let (x, y) = (say(x), say(y));
                report.field(&format!("structure ({kind})"), &x, &y);
                place = Some(format!("({kind}: {x})"));
            }
        },
    }
    if report.count() > before {
        return Ok(());
    }
    match place {
        Some(place) => report.within(&place, |report| bytes(report, a, b, first)),
        None => bytes(report, a, b, first),
    }
}

/// The anatomy, or what is wrong with it. The error is one of reading the artefact.
fn taken_apart(kind: Kind, source: &Source) -> io::Result<Result<Anatomy, String>> {
    match kind.anatomy(source) {
        Ok(anatomy) => Ok(Ok(anatomy.unwrap_or_default())),
        Err(Broken::Format(why)) => Ok(Err(why)),
        Err(Broken::Io(error)) => Err(error),
    }
}

fn anatomies(report: &mut Report, a: &Anatomy, b: &Anatomy, depth: usize) -> io::Result<()> {
    let before = report.count();
    for follows in [false, true] {
        fields(report, &a.fields, &b.fields, follows);
        parts(report, a, b, follows, depth)?;
        if report.count() > before {
            break;
        }
    }
    Ok(())
}

fn fields(report: &mut Report, a: &[Field], b: &[Field], follows: bool) {
    let wanted = |field: &&Field| field.follows == follows;
    for field in a.iter().filter(wanted) {
        match b.iter().find(|other| other.name == field.name) {
            Some(other) => report.field(&field.name, &field.value, &other.value),
            None => report.field(&field.name, &field.value, "none"),
        }
    }
    for field in b.iter().filter(wanted) {
        if !a.iter().any(|other| other.name == field.name) {
            report.field(&field.name, "none", &field.value);
        }
    }
}

fn parts(
    report: &mut Report,
    a: &Anatomy,
    b: &Anatomy,
    follows: bool,
    depth: usize,
) -> io::Result<()> {
    let before = report.count();
    let index = |of: &'_ Anatomy| -> HashMap<String, usize> {
        of.parts.iter().enumerate().map(|(at, part)| (part.key.clone(), at)).collect()
    };
    let (in_a, in_b) = (index(a), index(b));
    for part in a.parts.iter().filter(|part| follows || !part.follows) {
        if report.full() {
            return Ok(());
        }
        match in_b.get(&part.key) {
            Some(&at) => report.within(&part.title, |report| {
                let other = &b.parts[at];
                if part.follows == follows {
                    fields(report, &part.fields, &other.fields, false);
                    contents(report, part, other, depth)?;
                }
                if follows {
                    fields(report, &part.fields, &other.fields, true);
                }
                io::Result::Ok(())
            })?,
            None => report.only_in(Side::A, &part.title),
        }
    }
    for part in b.parts.iter().filter(|part| follows || !part.follows) {
        if !in_a.contains_key(&part.key) {
            report.only_in(Side::B, &part.title);
        }
    }
    if report.count() == before && !follows {
        let moved = a.parts.iter().zip(&b.parts).enumerate().find(|(_, (x, y))| x.key != y.key);
        if let Some((at, (x, y))) = moved {
            report.push(What::Order { position: at + 1, a: x.title.clone(), b: y.title.clone() });
        }
    }
    Ok(())
}

fn contents(report: &mut Report, a: &Part, b: &Part, depth: usize) -> io::Result<()> {
    match (&a.content, &b.content) {
        (Some(Content::Any(x)), Some(Content::Any(y))) => nested(report, x, y, depth + 1)?,
        (Some(Content::Blocks(x, size, name)), Some(Content::Blocks(y, ..))) => {
            if let Some(first) = first_difference(x, y)? {
                let (block, inside) = (first / size, first % size);
                report.within(&format!("{name} {block}"), |report| {
                    bytes(
                        report,
                        &x.window(block * size, *size),
                        &y.window(block * size, *size),
                        inside,
                    )
                })?;
            }
        }
        (Some(x), Some(y)) => {
            if let Some(first) = first_difference(x.source(), y.source())? {
                bytes(report, x.source(), y.source(), first)?;
            }
        }
        (None, None) => {}
        (x, y) => {
            let say = |content: &Option<Content>| {
                content.as_ref().map_or("none".into(), |c| format!("{} bytes", c.source().size()))
            };
            report.field("content", &say(x), &say(y));
        }
    }
    Ok(())
}

/// The sixteen bytes that the first difference lies in.
fn bytes(report: &mut Report, a: &Source, b: &Source, first: u64) -> io::Result<()> {
    let start = first & !15;
    let show = |source: &Source| -> io::Result<String> {
        let bytes = source.peek(start, 16)?;
        let inside = (first - start) as usize;
        if bytes.len() <= inside {
            return Ok(format!("end at {}", source.size()));
        }
        let text: String = bytes
            .iter()
            .map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { byte.into() } else { '.' })
            .collect();
        let hex = |from, length| hex::encode(part(&bytes, from, length));
        let (before, here, after) = (hex(0, inside), hex(inside, 1), hex(inside + 1, 16));
        Ok(format!("{before}[{here}]{after} |{text}|"))
    };
    let (a, b) = (show(a)?, show(b)?);
    report.push(What::Bytes { offset: first, a, b });
    Ok(())
}
