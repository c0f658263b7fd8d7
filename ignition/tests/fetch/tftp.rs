//! TFTP.

use std::net::UdpSocket;

use ignition::{
    document::config::Resource,
    fetch::{Fetch, FetchError, Fetcher, Names},
    journal::Silent,
};

/// Serves one file, which is all that a test asks for, from a port of its own.
fn serve(content: Vec<u8>) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("tftp://{}/dir/a%20b", socket.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        if &buffer[..length] != b"\0\x01dir/a b\0octet\0" || content.is_empty() {
            own.send_to(b"\0\x05\0\x01none\0", from).unwrap();
            return;
        }
        for (index, block) in content.chunks(512).chain([&[][..]]).enumerate() {
            if index * 512 > content.len() {
                break;
            }
            let number = (index as u16 + 1).to_be_bytes();
            let packet = [&[0, 3][..], &number, block].concat();
            own.send_to(&packet, from).unwrap();
            let (length, _) = own.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], [&[0, 4], &number[..]].concat());
            if block.len() < 512 {
                break;
            }
        }
    });
    url
}

fn get(url: String) -> Result<Vec<u8>, FetchError> {
    let mut out = Vec::new();
    let resource = Resource { source: Some(url), ..Resource::default() };
    Fetcher::online(Names::System, &Silent).fetch(&resource, &mut out)?;
    Ok(out)
}

#[test]
fn a_file_comes_in_blocks() {
    for bytes in [1, 512, 513, 2000] {
        let content: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
        assert_eq!(get(serve(content.clone())).unwrap(), content);
    }
}

#[test]
fn a_file_that_is_not_there_is_not_asked_for_again() {
    assert!(matches!(get(serve(Vec::new())), Err(FetchError::NotFound(_))));
}
