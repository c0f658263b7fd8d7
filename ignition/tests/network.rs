//! A network of two machines that are threads of this test, each in a network namespace of its own:
//! one asks for an address, the other gives it.

use std::{
    io::{Read, Write},
    net::{TcpListener, UdpSocket},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use ignition::{
    document::config::Resource,
    fetch::{Fetch, Fetcher},
    journal::{Lines, Silent},
    network::{self, cmdline::Wish},
};
use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{setsockopt, sockopt::BindToDevice},
};

/// Runs `client` and `server` in namespaces of their own, with a cable between `near` and `far`.
/// Skips, and says why, where this may not be done.
fn two_machines(server: impl FnOnce() + Send + 'static, client: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root makes network namespaces");
        return;
    }
    let (send, receive) = mpsc::channel::<Option<String>>();
    let (ready, is_ready) = mpsc::channel::<bool>();
    let far = thread::spawn(move || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            println!("skipped: no network namespace can be made: {errno}");
            let _ = send.send(None);
            return;
        }
        let me = std::fs::read_link("/proc/thread-self").unwrap();
        send.send(Some(format!("/proc/{}/ns/net", me.display()))).unwrap();
        if is_ready.recv() == Ok(true) {
            ip("link set lo up");
            ip("address add 192.0.2.1/24 dev far");
            ip("link set far up");
            server();
        }
    });
    let near = thread::spawn(move || {
        let Some(path) = receive.recv().unwrap() else { return };
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        if !ip("link add near type veth peer name far") {
            println!("skipped: no cable between two namespaces can be made");
            ready.send(false).unwrap();
            return;
        }
        assert!(ip(&format!("link set far netns {path}")));
        ready.send(true).unwrap();
        client();
    });
    near.join().unwrap();
    far.join().unwrap();
}

fn ip(arguments: &str) -> bool {
    let done = Command::new("ip").args(arguments.split(' ')).status();
    done.is_ok_and(|status| status.success())
}

fn addresses() -> String {
    let output = Command::new("ip").args(["-4", "-oneline", "address"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn link() -> String {
    let output = Command::new("ip").args(["-oneline", "link", "show", "near"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Answers discoveries from the `after`th on, and requests; then names; then one question by HTTP.
fn serve(after: u32) {
    let socket = UdpSocket::bind("0.0.0.0:67").unwrap();
    socket.set_broadcast(true).unwrap();
    // There is no route to everybody but by a link.
    setsockopt(&socket, BindToDevice, &"far".into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut count = 0;
    loop {
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).unwrap();
        let request = buffer[242];
        count += u32::from(request == 1);
        if count < after {
            continue;
        }
        let mut bytes = buffer[..240.min(length)].to_vec();
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&[192, 0, 2, 50]);
        bytes.extend([53, 1, if request == 1 { 2 } else { 5 }]);
        bytes.extend([54, 4, 192, 0, 2, 1, 1, 4, 255, 255, 255, 0, 3, 4, 192, 0, 2, 1]);
        bytes.extend([6, 4, 192, 0, 2, 1, 26, 2, 5, 0x78, 255]);
        socket.send_to(&bytes, "255.255.255.255:68").unwrap();
        if request == 3 {
            return;
        }
    }
}

fn serve_names() {
    let names = UdpSocket::bind("0.0.0.0:53").unwrap();
    names.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = names.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            answer[2] = 0x81;
            if answer[length - 3] == 1 {
                answer[7] = 1;
                answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
            }
            names.send_to(&answer, from).unwrap();
        }
    });
}

fn serve_one_question() {
    let listener = TcpListener::bind("0.0.0.0:80").unwrap();
    let (mut stream, from) = listener.accept().unwrap();
    assert_eq!(from.ip().to_string(), "192.0.2.50");
    let _ = stream.read(&mut [0; 1024]).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
}

#[test]
fn a_link_gets_its_address_by_dhcp_and_gives_it_back() {
    two_machines(
        || {
            serve_names();
            serve(2);
            serve_one_question();
        },
        || {
            let lines = Lines::default();
            let network = network::up(&Wish::default(), &lines).unwrap();
            let said = lines.take().join("\n");
            assert!(said.contains("near: is 192.0.2.50/24, as 192.0.2.1 says"), "{said}");
            assert_eq!(network.resolv_conf(), "nameserver 192.0.2.1\n");
            assert!(link().contains(" mtu 1400 "), "{}", link());
            let fetcher = Fetcher::online(network.names.clone(), &Silent);
            let source = Some("http://server.example/a".to_owned());
            let mut out = Vec::new();
            fetcher.fetch(&Resource { source, ..Resource::default() }, &mut out).unwrap();
            assert_eq!(out, b"hello");
            network.down(&lines);
            assert_eq!(lines.take(), Vec::<String>::new());
            assert!(!addresses().contains("192.0.2.50"), "{}", addresses());
            assert!(link().contains(" mtu 1500 ") && link().contains("state DOWN"), "{}", link());
        },
    );
}

#[test]
fn without_any_dhcp_the_error_says_what_was_tried() {
    two_machines(
        || thread::sleep(Duration::from_secs(5)),
        || {
            let wish = Wish::parse("ip=dhcp pithos.network-timeout=4").unwrap();
            let error = network::up(&wish, &Silent).err().unwrap().to_string();
            let wanted =
                "no network within 4 s; near has a carrier, 3 DHCP messages sent and 0 heard";
            assert_eq!(error, wanted);
        },
    );
}

#[test]
fn without_a_carrier_the_error_says_so() {
    two_machines(
        || {
            ip("link set far down");
            thread::sleep(Duration::from_secs(5));
        },
        || {
            thread::sleep(Duration::from_secs(1));
            let wish = Wish::parse("ip=eth7:dhcp ip=near:dhcp pithos.network-timeout=2").unwrap();
            let error = network::up(&wish, &Silent).err().unwrap().to_string();
            assert!(error.contains("near has no carrier"), "{error}");
            assert!(error.contains("eth7, of the command line: there is no such link"), "{error}");
        },
    );
}

#[test]
fn an_address_of_the_command_line_is_taken() {
    two_machines(serve_one_question, || {
        let wish = Wish::parse("ip=192.0.2.50::192.0.2.1:24::near:none").unwrap();
        let network = network::up(&wish, &Silent).unwrap();
        let fetcher = Fetcher::online(network.names.clone(), &Silent);
        let source = Some("http://192.0.2.1/a".to_owned());
        let mut out = Vec::new();
        fetcher.fetch(&Resource { source, ..Resource::default() }, &mut out).unwrap();
        assert_eq!(out, b"hello");
        network.down(&Silent);
        assert!(!addresses().contains("192.0.2.50"));
    });
}
