//! Requests and answers, as XML.

use std::fmt::Write;

use quick_xml::escape::escape;

use crate::{AppAnswer, Check, Event, Offer, Request, Response};

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

impl Request {
    /// What is sent. `client` is who sends it, with its version.
    pub fn text(&self, client: &str) -> String {
        let mut text = DECLARATION.to_owned();
        open(
            &mut text,
            "request",
            &[
                ("protocol", "3.0"),
                ("version", client),
                ("updaterversion", client),
                ("installsource", "scheduler"),
                ("ismachine", "1"),
            ],
        );
        for app in &self.apps {
            let machine = app.machine.as_deref();
            let mut attributes = vec![
                ("appid", app.id.as_str()),
                ("version", &app.version),
                ("track", &app.channel),
                ("board", &app.board),
            ];
            attributes.extend(machine.map(|machine| ("machineid", machine)));
            attributes.extend(app.alias.as_deref().map(|alias| ("machinealias", alias)));
            open(&mut text, "app", &attributes);
            if app.ping {
                empty(&mut text, "ping", &[("active", "1")]);
            }
            if app.check {
                empty(&mut text, "updatecheck", &[]);
            }
            app.events.iter().for_each(|event| self::event(&mut text, event));
            text.push_str("</app>");
        }
        text.push_str("</request>\n");
        text
    }
}

fn event(text: &mut String, event: &Event) {
    let number = |number: u32| number.to_string();
    let (kind, result) = (number(event.kind.number()), number(event.result.number()));
    let code = number(event.code);
    let mut attributes = vec![("eventtype", kind.as_str()), ("eventresult", &result)];
    if event.code != 0 {
        attributes.push(("errorcode", &code));
    }
    let optional = [
        ("previousversion", &event.previous),
        ("nextversion", &event.next),
        ("cause", &event.cause),
    ];
    attributes
        .extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))));
    empty(text, "event", &attributes);
}

impl Response {
    /// What is answered.
    pub fn text(&self) -> String {
        let mut text = DECLARATION.to_owned();
        open(&mut text, "response", &[("protocol", "3.0"), ("server", "update-server")]);
        empty(&mut text, "daystart", &[("elapsed_seconds", &self.day_seconds.to_string())]);
        self.apps.iter().for_each(|app| answer(&mut text, app));
        text.push_str("</response>\n");
        text
    }
}

fn answer(text: &mut String, app: &AppAnswer) {
    let Some(known) = &app.known else {
        let status = "error-unknownApplication";
        return empty(text, "app", &[("appid", &app.id), ("status", status)]);
    };
    open(text, "app", &[("appid", &app.id), ("status", "ok")]);
    if known.ping {
        empty(text, "ping", &[("status", "ok")]);
    }
    match &known.check {
        None => {}
        Some(Check::NoUpdate) => empty(text, "updatecheck", &[("status", "noupdate")]),
        Some(Check::Update(offer)) => self::offer(text, offer),
    }
    for _ in 0..known.events {
        empty(text, "event", &[("status", "ok")]);
    }
    text.push_str("</app>");
}

fn offer(text: &mut String, offer: &Offer) {
    open(text, "updatecheck", &[("status", "ok")]);
    text.push_str("<urls>");
    offer.codebases.iter().for_each(|base| empty(text, "url", &[("codebase", base)]));
    text.push_str("</urls>");
    open(text, "manifest", &[("version", &offer.version)]);
    text.push_str("<packages>");
    let package = [
        ("name", offer.package.as_str()),
        ("size", &offer.size_bytes.to_string()),
        ("hash", &offer.sha1),
        ("required", "true"),
    ];
    empty(text, "package", &package);
    text.push_str("</packages><actions>");
    let action = [
        ("event", "postinstall"),
        ("sha256", offer.sha256.as_str()),
        ("IsDeltaPayload", "false"),
        ("DisablePayloadBackoff", "true"),
        ("needsadmin", "false"),
    ];
    empty(text, "action", &action);
    text.push_str("</actions></manifest></updatecheck>");
}

fn open(text: &mut String, name: &str, attributes: &[(&str, &str)]) {
    head(text, name, attributes);
    text.push('>');
}

/// With an end tag of its own: older clients were only ever shown that form.
fn empty(text: &mut String, name: &str, attributes: &[(&str, &str)]) {
    open(text, name, attributes);
    let _ = write!(text, "</{name}>");
}

fn head(text: &mut String, name: &str, attributes: &[(&str, &str)]) {
    let _ = write!(text, "<{name}");
    for (name, value) in attributes {
        let _ = write!(text, " {name}=\"{}\"", escape(*value));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::{App, Kind, Known, Outcome, PITHOS};

    fn request(cause: &str) -> Request {
        let failed = Event {
            kind: Kind::UpdateComplete,
            result: Outcome::Failed,
            code: 44,
            previous: Some("1.0".to_owned()),
            next: Some("1.1".to_owned()),
            cause: Some(cause.to_owned()),
        };
        let app = App {
            id: PITHOS.to_owned(),
            version: "1.0".to_owned(),
            channel: "stable".to_owned(),
            board: "cloud-x86_64".to_owned(),
            machine: Some("0123".to_owned()),
            ping: true,
            events: vec![failed],
            ..App::default()
        };
        Request { apps: vec![app] }
    }

    #[test]
    fn a_request_is_written() {
        expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <request protocol="3.0" version="update-engine-0.1.0" updaterversion="update-engine-0.1.0" installsource="scheduler" ismachine="1"><app appid="b5a9e4d2-6f0c-4c1e-9d37-52a8c0f1e763" version="1.0" track="stable" board="cloud-x86_64" machineid="0123"><ping active="1"></ping><event eventtype="3" eventresult="0" errorcode="44" previousversion="1.0" nextversion="1.1" cause="it &quot;hung&quot; &amp; &lt;died&gt;"></event></app></request>
        "#]].assert_eq(&request("it \"hung\" & <died>").text("update-engine-0.1.0"));
    }

    #[test]
    fn an_answer_has_the_shape_that_clients_look_for() {
        let offer = Offer {
            version: "3815.2.1".to_owned(),
            codebases: vec!["https://one.example/a/".to_owned()],
            package: "update.gz".to_owned(),
            size_bytes: 458_234_665,
            sha1: "c2hhMQ==".to_owned(),
            sha256: "c2hhMjU2".to_owned(),
        };
        let known = |check| Some(Known { ping: true, check, events: 1 });
        let answer = |id: &str, known| AppAnswer { id: id.to_owned(), known };
        let response = Response {
            day_seconds: 3600,
            apps: vec![
                answer("{a}", known(Some(Check::Update(offer)))),
                answer("b", known(Some(Check::NoUpdate))),
                answer("c", known(None)),
                answer("d", None),
            ],
        };
        expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <response protocol="3.0" server="update-server">
            <daystart elapsed_seconds="3600">
            </daystart>
            <app appid="{a}" status="ok">
            <ping status="ok">
            </ping>
            <updatecheck status="ok">
            <urls>
            <url codebase="https://one.example/a/">
            </url>
            </urls>
            <manifest version="3815.2.1">
            <packages>
            <package name="update.gz" size="458234665" hash="c2hhMQ==" required="true">
            </package>
            </packages>
            <actions>
            <action event="postinstall" sha256="c2hhMjU2" IsDeltaPayload="false" DisablePayloadBackoff="true" needsadmin="false">
            </action>
            </actions>
            </manifest>
            </updatecheck>
            <event status="ok">
            </event>
            </app>
            <app appid="b" status="ok">
            <ping status="ok">
            </ping>
            <updatecheck status="noupdate">
            </updatecheck>
            <event status="ok">
            </event>
            </app>
            <app appid="c" status="ok">
            <ping status="ok">
            </ping>
            <event status="ok">
            </event>
            </app>
            <app appid="d" status="error-unknownApplication">
            </app>
            </response>
        "#]].assert_eq(&response.text().replace("><", ">\n<"));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(cause in "[ -~äöü€]{1,40}") {
            let request = request(&cause);
            prop_assert_eq!(Request::parse(request.text("us").as_bytes()), Ok(request));
        }
    }
}
