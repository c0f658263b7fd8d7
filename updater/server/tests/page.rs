//! The page of operators in a real browser.

#[path = "common/browser.rs"]
mod browser;
mod common;

use browser::Browser;
use common::{Place, TOKEN, request};
use serde_json::json;

#[test]
fn an_operator_sees_the_fleet_and_asks_for_a_change() {
    let place = Place::new();
    let server = place.serve_with_token();
    let failed = "<event eventtype='3' eventresult='0' errorcode='44' nextversion='1.1' \
                  cause='it &lt;b id=&quot;evil&quot;&gt;hung&lt;/b&gt;'/>";
    server.omaha(&request("one", "1.0", ""));
    server.omaha(&request("two", "1.0", failed));
    let page = format!("http://{}/", server.operators);
    let mut browser = Browser::start();

    browser.open(&page);
    assert_eq!(browser.get("document.getElementById('machines').textContent"), "2");
    let failure = browser.get("document.querySelector('#failures tbody tr').textContent");
    assert!(failure.as_str().unwrap().contains("it <b id=\"evil\">hung</b>"), "{failure}");
    assert_eq!(browser.get("document.getElementById('evil') === null"), json!(true));
    let style = "getComputedStyle(document.querySelector('table')).borderCollapse";
    assert_eq!(browser.get(style), "collapse");

    // It looks again by itself, and leaves what is being typed alone.
    browser.get("document.querySelector('[name=reason]').value = 'it hangs'");
    server.omaha(&request("three", "1.0", ""));
    browser.wait("document.getElementById('machines').textContent === '3'");
    assert_eq!(browser.get("document.querySelector('[name=reason]').value"), "it hangs");

    // Without the token the browser itself does not send the form; with a wrong one we refuse.
    let press = "document.querySelector('button[value=\"pause stable 1.0\"]').click()";
    browser.get(press);
    assert_eq!(browser.get("location.pathname"), "/");
    browser.get("document.querySelector('[name=token]').value = 'wrong'");
    browser.get(press);
    browser.wait("document.body.textContent.includes('the token is wrong')");
    assert_eq!(server.json("/api/requests").as_array().unwrap().len(), 0);
    browser.errors.clear();

    browser.open(&page);
    browser.get(&format!("document.querySelector('[name=token]').value = '{TOKEN}'"));
    browser.get("document.querySelector('[name=reason]').value = 'disks fill up'");
    browser.get(press);
    browser.wait("document.querySelector('.said') !== null");
    let said = browser.get("document.querySelector('.said').textContent");
    assert!(said.as_str().unwrap().contains("waits for the publisher"), "{said}");
    let row = browser.get("document.querySelector('#requests tbody tr').textContent");
    assert!(row.as_str().unwrap().contains("pause 1.0 in stable: disks fill up"), "{row}");

    // The token is kept in this tab, and the next change needs no typing of it.
    assert_eq!(browser.get("document.querySelector('[name=token]').value"), TOKEN);
    browser.get("document.querySelector('[name=to]').value = 'stable'");
    browser.get("document.querySelector('button[value=\"promote alpha 1.1\"]').click()");
    browser.wait("document.querySelectorAll('#requests tbody tr').length === 2");
    let asked = server.json("/api/requests");
    let sentence = asked[0]["sentence"].as_str().unwrap();
    assert!(sentence.starts_with("promote 1.1 from alpha to stable, in the usual waves"));

    // From a number to the machines that it counts, to what happened on one.
    browser.get("document.querySelector('#groups a[href*=failed]').click()");
    browser.wait("location.pathname === '/machines' && document.querySelector('td a') !== null");
    browser.get("document.querySelector('td a').click()");
    browser.wait("location.pathname === '/machines/two'");
    browser.wait("document.body.textContent.includes('update complete: error 44')");
    assert_eq!(browser.errors, [""; 0]);
}

#[test]
fn a_page_elsewhere_cannot_press_our_buttons() {
    let place = Place::new();
    let server = place.serve_with_token();
    let mut browser = Browser::start();
    // Not even if it knew the token.
    let form = format!(
        "data:text/html,<form method=post action='http://{}/requests'>\
         <input name=token value={TOKEN}><input name=wish value='resume stable 1.0'></form>\
         <script>document.forms[0].submit()</script>",
        server.operators
    );
    browser.open(&form);
    browser.wait("document.body.textContent.includes('sent by another page')");
    assert_eq!(server.json("/api/requests").as_array().unwrap().len(), 0);
}
