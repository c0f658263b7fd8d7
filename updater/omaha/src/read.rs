//! A request, out of XML that anybody may have written. No document type is taken, so there are no
//! entities but those of XML itself, and nothing grows while it is read.

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event as Xml},
};

use crate::{App, Event, Kind, MAX_APPS, MAX_BYTES, MAX_EVENTS, Outcome, Request};

/// Elements in elements: a request has four.
const MAX_DEPTH: usize = 8;
const MAX_CAUSE_BYTES: usize = 400;

/// Why a text is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Nobody needs that much.
    #[error("the request has {0} bytes, and {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// It is not XML.
    #[error("byte {at}: not XML: {problem}")]
    Xml {
        /// Where.
        at: u64,
        /// What.
        problem: String,
    },
    /// It is XML, and no request.
    #[error("byte {at}: {problem}")]
    Content {
        /// Where.
        at: u64,
        /// What, and what was expected.
        problem: String,
    },
}

impl Request {
    /// Reads what a machine sent.
    pub fn parse(text: &[u8]) -> Result<Self, Wrong> {
        if text.len() > MAX_BYTES {
            return Err(Wrong::TooLong(text.len()));
        }
        let text = std::str::from_utf8(text).map_err(|error| Wrong::Xml {
            at: error.valid_up_to() as u64,
            problem: "expected UTF-8".to_owned(),
        })?;
        let mut xml = Reader::from_str(text);
        let mut parser = Parser { request: Self::default(), path: Vec::new(), is_request: false };
        loop {
            let event = xml.read_event();
            let at = xml.error_position().max(xml.buffer_position());
            let event = event.map_err(|error| Wrong::Xml { at, problem: error.to_string() })?;
            if let Xml::Eof = event {
                break;
            }
            parser.step(&event).map_err(|problem| Wrong::Content { at, problem })?;
        }
        let at = text.len() as u64;
        if let Some(open) = parser.path.last() {
            return Err(Wrong::Xml { at, problem: format!("<{open}> is not closed") });
        }
        match parser.is_request {
            true => Ok(parser.request),
            false => Err(Wrong::Content { at, problem: "expected <request>".to_owned() }),
        }
    }
}

struct Parser {
    request: Request,
    path: Vec<String>,
    is_request: bool,
}

impl Parser {
    fn step(&mut self, event: &Xml<'_>) -> Result<(), String> {
        match event {
            Xml::Start(element) => {
                self.open(element)?;
                if self.path.len() >= MAX_DEPTH {
                    return Err(format!("more than {MAX_DEPTH} elements in each other"));
                }
                self.path.push(name(element));
            }
            Xml::Empty(element) => self.open(element)?,
            Xml::End(_) => drop(self.path.pop()),
            Xml::DocType(_) => return Err("a document type is not allowed here".to_owned()),
            Xml::GeneralRef(_) if self.path.is_empty() => {
                return Err("expected <request>, found a reference".to_owned());
            }
            // Omaha says all of it in attributes.
            Xml::Text(_) | Xml::CData(_) | Xml::Comment(_) | Xml::PI(_) | Xml::GeneralRef(_) => {}
            Xml::Decl(_) | Xml::Eof => {}
        }
        Ok(())
    }

    fn open(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        let name = name(element);
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match (path.as_slice(), name.as_str()) {
            ([], "request") if self.is_request => return Err("a second <request>".to_owned()),
            ([], "request") => {
                let protocol = Attributes::of(element)?.get("protocol").unwrap_or_default();
                if !protocol.starts_with("3.") {
                    return Err(format!("the protocol `{protocol}`; expected `3.0`"));
                }
                self.is_request = true;
            }
            ([], _) => return Err(format!("expected <request>, found <{name}>")),
            (["request"], "app") => {
                if self.request.apps.len() == MAX_APPS {
                    return Err(format!("more than {MAX_APPS} applications"));
                }
                self.request.apps.push(app(&Attributes::of(element)?)?);
            }
            (["request", "app"], "ping") => self.app().ping = true,
            (["request", "app"], "updatecheck") => self.app().check = true,
            (["request", "app"], "event") => {
                let event = event_of(&Attributes::of(element)?)?;
                if self.app().events.len() == MAX_EVENTS {
                    return Err(format!("more than {MAX_EVENTS} events of one application"));
                }
                self.app().events.push(event);
            }
            _ => {}
        }
        Ok(())
    }

    fn app(&mut self) -> &mut App {
        self.request.apps.last_mut().expect("the path has an app in it")
    }
}

fn name(element: &BytesStart<'_>) -> String {
    element.local_name().into_inner().to_owned()
}

fn app(attributes: &Attributes) -> Result<App, String> {
    Ok(App {
        id: attributes.word("appid")?.ok_or("an <app> without appid")?,
        version: attributes.word("version")?.unwrap_or_default(),
        channel: attributes.word("track")?.unwrap_or_default(),
        board: attributes.word("board")?.unwrap_or_default(),
        machine: attributes.word("machineid")?,
        alias: attributes.get("machinealias").map(|alias| shortened(&alias, 64)),
        ..App::default()
    })
}

fn event_of(attributes: &Attributes) -> Result<Event, String> {
    Ok(Event {
        kind: Kind::from(attributes.number("eventtype")?),
        result: Outcome::from(attributes.number("eventresult")?),
        code: attributes.number("errorcode")?,
        previous: attributes.word("previousversion")?,
        next: attributes.word("nextversion")?,
        cause: attributes.get("cause").map(|cause| shortened(&cause, MAX_CAUSE_BYTES)),
    })
}

/// Text for people: without what a terminal or a page could take for something else.
pub(crate) fn shortened(text: &str, max_bytes: usize) -> String {
    let mut short = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if short.len() + c.len_utf8() > max_bytes {
            break;
        }
        short.push(c);
    }
    short
}

struct Attributes(Vec<(String, String)>);

impl Attributes {
    fn of(element: &BytesStart<'_>) -> Result<Self, String> {
        let mut all = Vec::new();
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let name = attribute.key.as_ref().to_owned();
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value = value.map_err(|error| format!("the value of {name}: {error}"))?;
            all.push((name, value.into_owned()));
        }
        Ok(Self(all))
    }

    /// A value that says something.
    fn get(&self, name: &str) -> Option<String> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }

    /// A name: it is stored, compared and shown.
    fn word(&self, name: &str) -> Result<Option<String>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let good = |c: char| c.is_ascii_alphanumeric() || "._-+~:{}".contains(c);
        match value.len() <= 64 && value.chars().all(good) {
            true => Ok(Some(value)),
            false => Err(format!(
                "{name} is `{}`; expected up to 64 of a-z A-Z 0-9 . _ - + ~ : {{ }}",
                shortened(&value, 64)
            )),
        }
    }

    fn number(&self, name: &str) -> Result<u32, String> {
        let Some(value) = self.get(name) else { return Ok(0) };
        value
            .parse()
            .map_err(|_| format!("{name} is `{}`; expected a number", shortened(&value, 64)))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    /// As update_engine of CoreOS writes its first request after a reboot.
    const COREOS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<request protocol="3.0" version="update_engine-0.4.10" updaterversion="update_engine-0.4.10" installsource="scheduler" ismachine="1">
    <os version="Chateau" platform="CoreOS" sp="3815.2.0_x86_64"></os>
    <app appid="{e96281a6-d1af-4bde-9a0a-97b76e56dc57}" version="3815.2.0" track="stable" bootid="{f0f1}" oem="ec2" oemversion="" alephversion="3510.2.0" machineid="0123456789abcdef0123456789abcdef" machinealias="web &amp; one" lang="en-US" board="amd64-usr" hardware_class="" delta_okay="false" >
        <ping active="1"></ping>
        <updatecheck></updatecheck>
        <event eventtype="3" eventresult="2" previousversion="3510.2.0"></event>
    </app>
</request>
"#;

    fn wrong(text: &str, expect: Expect) {
        expect.assert_eq(&Request::parse(text.as_bytes()).unwrap_err().to_string());
    }

    #[test]
    fn a_client_of_coreos_is_understood() {
        let request = Request::parse(COREOS.as_bytes()).unwrap();
        let [app] = request.apps.as_slice() else { panic!("one application") };
        assert!(app.is(crate::COREOS));
        expect![[r#"
            App {
                id: "{e96281a6-d1af-4bde-9a0a-97b76e56dc57}",
                version: "3815.2.0",
                channel: "stable",
                board: "amd64-usr",
                machine: Some(
                    "0123456789abcdef0123456789abcdef",
                ),
                alias: Some(
                    "web & one",
                ),
                ping: true,
                check: true,
                events: [
                    Event {
                        kind: UpdateComplete,
                        result: Rebooted,
                        code: 0,
                        previous: Some(
                            "3510.2.0",
                        ),
                        next: None,
                        cause: None,
                    },
                ],
            }
        "#]]
        .assert_debug_eq(app);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        wrong("", expect!["byte 0: expected <request>"]);
        wrong("hello", expect!["byte 5: expected <request>"]);
        wrong("<request protocol='3.0'>", expect!["byte 24: not XML: <request> is not closed"]);
        wrong(
            "<request protocol='3.0'></app>",
            expect![
                "byte 30: not XML: ill-formed document: expected `</request>`, but `</app>` was found"
            ],
        );
        wrong("<request protocol='2.0'/>", expect!["byte 25: the protocol `2.0`; expected `3.0`"]);
        wrong("<response/>", expect!["byte 11: expected <request>, found <response>"]);
        wrong(
            "<request protocol='3.0'/><request protocol='3.0'/>",
            expect!["byte 50: a second <request>"],
        );
        wrong(
            "<request protocol='3.0'><app/></request>",
            expect!["byte 30: an <app> without appid"],
        );
        wrong(
            "<request protocol='3.0'><app appid='a b'/></request>",
            expect!["byte 42: appid is `a b`; expected up to 64 of a-z A-Z 0-9 . _ - + ~ : { }"],
        );
        wrong(
            "<request protocol='3.0'><app appid='a'><event eventtype='x'/></app></request>",
            expect!["byte 61: eventtype is `x`; expected a number"],
        );
        wrong(
            "<request protocol='3.0' protocol='3.0'/>",
            expect![
                "byte 40: position 23: duplicated attribute, previous declaration at position 8"
            ],
        );
        wrong(
            "<request protocol='&no;'/>",
            expect!["byte 26: the value of protocol: at 1..3: unrecognized entity `no`"],
        );
    }

    #[test]
    fn nothing_grows_while_it_is_read() {
        wrong(
            "<!DOCTYPE r [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]>\
             <request protocol='3.0'><app appid='&b;'/></request>",
            expect!["byte 63: a document type is not allowed here"],
        );
        wrong(
            "<!DOCTYPE r [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><request protocol='3.0'/>",
            expect!["byte 54: a document type is not allowed here"],
        );
        wrong(
            &" ".repeat(MAX_BYTES + 1),
            expect!["the request has 65537 bytes, and 65536 are allowed"],
        );
        let deep = format!("<request protocol='3.0'>{}", "<a>".repeat(9));
        wrong(&deep, expect!["byte 48: more than 8 elements in each other"]);
        let many =
            |what: &str, count| format!("<request protocol='3.0'>{}</request>", what.repeat(count));
        wrong(
            &many("<app appid='a'/>", MAX_APPS + 1),
            expect!["byte 168: more than 8 applications"],
        );
        let events = format!("<app appid='a'>{}</app>", "<event/>".repeat(MAX_EVENTS + 1));
        wrong(&many(&events, 1), expect!["byte 175: more than 16 events of one application"]);
    }

    #[test]
    fn what_people_read_has_no_controls_and_an_end() {
        assert_eq!(shortened("a\u{1b}[2Jb\nc", 100), "a [2Jb c");
        assert_eq!(shortened("äöü", 5), "äö");
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::parse(&bytes);
        }

        #[test]
        fn a_damaged_request_is_read_or_refused(at in 0..COREOS.len(), byte in any::<u8>()) {
            let mut bytes = COREOS.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = Request::parse(&bytes);
        }
    }
}
