use expect_test::expect;
use proptest::prelude::*;

use super::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

fn client(now: Instant) -> Client {
    Client::new(7, MAC, now)
}

/// What a server says to the last message of a client.
fn answer(client: &Client, kind: u8, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..4].copy_from_slice(&[2, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&client.id.to_be_bytes());
    bytes[16..20].copy_from_slice(&[192, 0, 2, 50]);
    bytes[28..34].copy_from_slice(&MAC);
    bytes.extend(COOKIE);
    for (code, data) in [(53, &[kind][..]), (54, &[192, 0, 2, 1])].iter().chain(options) {
        bytes.extend([*code, data.len() as u8]);
        bytes.extend(*data);
    }
    bytes.push(255);
    bytes
}

fn kind(effects: &[Effect]) -> String {
    let word = |effect: &Effect| match effect {
        Effect::Send(bytes) => format!("send {}", bytes[242]),
        Effect::Say(text) => text.clone(),
        Effect::Bound(lease) => format!("bound {}/{}", lease.address, lease.prefix),
    };
    effects.iter().map(word).collect::<Vec<_>>().join("; ")
}

#[test]
fn an_offer_is_requested_and_an_acknowledgement_is_taken() {
    let now = Instant::now();
    let mut client = client(now);
    assert_eq!(kind(&client.step(Event::Woken, now)), "send 1");
    let offer = answer(&client, OFFER, &[]);
    let effects = client.step(Event::Heard(&offer), now);
    assert_eq!(kind(&effects), "192.0.2.1 offers 192.0.2.50; send 3");
    let ack = answer(&client, ACK, &[(1, &[255, 255, 255, 0])]);
    assert_eq!(kind(&client.step(Event::Heard(&ack), now)), "bound 192.0.2.50/24");
    assert_eq!(client.wake(), None);
    assert_eq!(kind(&client.step(Event::Heard(&ack), now)), "");
    assert_eq!((client.sent, client.heard), (2, 2));
}

#[test]
fn a_silent_network_is_asked_less_and_less_often() {
    let start = Instant::now();
    let mut client = client(start);
    let mut times = Vec::new();
    while let Some(wake) = client.wake().filter(|wake| *wake < start + Duration::from_secs(60)) {
        assert_eq!(kind(&client.step(Event::Woken, wake)), "send 1");
        assert_eq!(kind(&client.step(Event::Woken, wake)), "");
        times.push((wake - start).as_secs());
    }
    assert_eq!(times, [0, 1, 3, 7, 15, 31, 47]);
}

#[test]
fn a_server_that_takes_twenty_seconds_is_waited_for() {
    let start = Instant::now();
    let mut client = client(start);
    let mut now = start;
    while now < start + Duration::from_secs(20) {
        client.step(Event::Woken, now);
        now += Duration::from_millis(500);
    }
    let offer = answer(&client, OFFER, &[]);
    assert!(kind(&client.step(Event::Heard(&offer), now)).ends_with("send 3"));
}

#[test]
fn a_refusal_and_a_silence_start_over() {
    let now = Instant::now();
    let mut client = client(now);
    client.step(Event::Woken, now);
    client.step(Event::Heard(&answer(&client.clone(), OFFER, &[])), now);
    let nak = answer(&client, NAK, &[]);
    let effects = client.step(Event::Heard(&nak), now);
    assert_eq!(kind(&effects), "192.0.2.1 takes 192.0.2.50 back");
    let mut now = client.wake().unwrap();
    assert_eq!(kind(&client.step(Event::Woken, now)), "send 1");
    client.step(Event::Heard(&answer(&client.clone(), OFFER, &[])), now);
    let mut seen = Vec::new();
    for _ in 0..4 {
        now = client.wake().unwrap();
        seen.push(kind(&client.step(Event::Woken, now)));
    }
    let over = "no answer to 4 requests, starting over; send 1";
    assert_eq!(seen, ["send 3", "send 3", "send 3", over]);
}

#[test]
fn what_is_not_for_us_is_not_heard() {
    let now = Instant::now();
    let mut client = client(now);
    client.step(Event::Woken, now);
    let good = answer(&client, OFFER, &[]);
    for (at, byte) in [(0, 1), (7, 9), (28, 0), (236, 0), (16, 0)] {
        let mut other = good.clone();
        other[at] = byte;
        if at == 16 {
            other[16..20].fill(0);
        }
        assert_eq!(kind(&client.step(Event::Heard(&other), now)), "", "{at}");
    }
    assert_eq!(kind(&client.step(Event::Heard(&good[..100]), now)), "");
}

#[test]
fn a_lease_says_all_that_a_network_needs() {
    let now = Instant::now();
    let mut client = client(now);
    client.step(Event::Woken, now);
    client.step(Event::Heard(&answer(&client.clone(), OFFER, &[])), now);
    let ack = answer(
        &client,
        ACK,
        &[
            (1, &[255, 255, 255, 255]),
            (3, &[192, 0, 2, 1]),
            (6, &[192, 0, 2, 3, 192]),
            (6, &[0, 2, 4]),
            (12, b"node.example\0"),
            (26, &[5, 0xb4]),
            (119, b"\x01a\x07example\0\x01b\xc0\x02"),
            (121, &[32, 192, 0, 2, 1, 0, 0, 0, 0, 0, 192, 0, 2, 1, 12, 172, 16, 1, 2, 3, 4]),
        ],
    );
    let [Effect::Bound(lease)] = &client.step(Event::Heard(&ack), now)[..] else { panic!() };
    expect![[r#"
        Lease {
            address: 192.0.2.50,
            prefix: 32,
            server: 192.0.2.1,
            routers: [
                192.0.2.1,
            ],
            routes: [
                (
                    192.0.2.1,
                    32,
                    0.0.0.0,
                ),
                (
                    0.0.0.0,
                    0,
                    192.0.2.1,
                ),
                (
                    172.16.0.0,
                    12,
                    1.2.3.4,
                ),
            ],
            nameservers: [
                192.0.2.3,
                192.0.2.4,
            ],
            search: [
                "a.example",
                "b.example",
            ],
            hostname: Some(
                "node.example",
            ),
            mtu: Some(
                1460,
            ),
        }
    "#]]
    .assert_debug_eq(lease);
}

proptest! {
    #[test]
    fn no_answer_breaks_the_client(options: Vec<u8>, code in 1u8..255, data: Vec<u8>) {
        let now = Instant::now();
        let mut client = client(now);
        client.step(Event::Woken, now);
        client.step(Event::Heard(&options), now);
        let mut bytes = answer(&client, OFFER, &[(code, &data[..data.len().min(255)])]);
        bytes.pop();
        bytes.extend(&options);
        client.step(Event::Heard(&bytes), now);
        domains(&data);
        routes(&data);
    }
}
