//! TLS: whom the document trusts, and nobody else. The certificates in `tls/` are good for a
//! hundred years; the key of their authority was thrown away.

use std::{net::TcpStream, sync::Arc, thread};

use http_client::Hand;
use ignition::{
    document::config::{Ignition, Proxy, Resource, Security, Tls},
    fetch::{Fetch, FetchError, Fetcher, Names, Places},
    journal::Silent,
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::stand_in::{ReadWrite, StandIn, ok};

const AUTHORITY: &[u8] = include_bytes!("tls/authority.pem");
const SERVER: &[u8] = include_bytes!("tls/server.pem");
const KEY: &[u8] = include_bytes!("tls/server.key");

fn secure(stream: TcpStream) -> Option<Box<dyn ReadWrite>> {
    let chain = CertificateDer::pem_slice_iter(SERVER).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let connection = ServerConnection::new(Arc::new(config)).unwrap();
    Some(Box::new(StreamOwned::new(connection, stream)))
}

fn get(fetcher: &Fetcher<'_>, url: String) -> Result<String, FetchError> {
    let mut out = Vec::new();
    let resource = Resource { source: Some(url), ..Resource::default() };
    fetcher.fetch(&resource, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn trusting(pem: &[u8], proxy: Proxy) -> Ignition {
    let text: String = pem.iter().map(|byte| format!("%{byte:02x}")).collect();
    let authority = Resource { source: Some(format!("data:,{text}")), ..Resource::default() };
    let tls = Tls { certificate_authorities: vec![authority] };
    Ignition { proxy, security: Security { tls }, ..Ignition::default() }
}

#[test]
fn a_server_is_asked_that_the_document_trusts() {
    let server = StandIn::over(|_, _| ok("hello"), secure);
    let fetcher = Fetcher::online(Names::System, &Silent)
        .for_document(&trusting(AUTHORITY, Proxy::default()))
        .unwrap();
    let port = server.address.port();
    assert_eq!(get(&fetcher, format!("https://127.0.0.1:{port}/a")).unwrap(), "hello");
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_asked_twice() {
    let server = StandIn::over(|_, _| ok("hello"), secure);
    let clock = Hand::new();
    let fetcher = Fetcher::online(Names::System, &Silent)
        .with_places(Places::default(), &clock)
        .for_document(&trusting(SERVER, Proxy::default()));
    let port = server.address.port();
    let error = get(&fetcher.unwrap(), format!("https://127.0.0.1:{port}/a")).unwrap_err();
    assert!(matches!(error, FetchError::Failed { .. }), "{error}");
    assert!(clock.slept().is_empty());
    assert!(server.asked().is_empty());
}

#[test]
fn what_is_no_certificate_is_refused_before_it_is_needed() {
    let fetcher = Fetcher::online(Names::System, &Silent);
    let error = fetcher.for_document(&trusting(b"hello", Proxy::default())).err().unwrap();
    assert!(error.to_string().contains("BEGIN CERTIFICATE"), "{error}");
}

#[test]
fn a_proxy_gives_a_tunnel_and_sees_nothing_of_what_goes_through() {
    let server = StandIn::over(|_, _| ok("hello"), secure);
    let target = server.address;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut client, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        client.write_all(b"HTTP/1.1 200 Established\r\n\r\n").unwrap();
        let server = TcpStream::connect(target).unwrap();
        let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let there = thread::spawn(move || std::io::copy(&mut up, &mut down));
        let _ = std::io::copy(&mut { server }, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Both);
        let _ = there.join();
        String::from_utf8(request).unwrap()
    });
    let proxy = Proxy { https_proxy: Some(format!("http://{proxy}")), ..Proxy::default() };
    let fetcher =
        Fetcher::online(Names::System, &Silent).for_document(&trusting(AUTHORITY, proxy)).unwrap();
    assert_eq!(get(&fetcher, "https://far.example/a".to_owned()).unwrap(), "hello");
    drop(fetcher);
    let request = thread.join().unwrap();
    assert!(request.starts_with("CONNECT far.example:443 HTTP/1.1\r\n"), "{request}");
}
