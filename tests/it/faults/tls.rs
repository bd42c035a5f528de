//! Certificates that do not hold: the key goes to nobody who shows one.
//!
//! The authority of `certificates` signed a certificate for `localhost`, one for another name, and one
//! that ended in 2021; their key is one. The program believes it because of `SSL_CERT_FILE`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::binary::{Program, exchange};

const AUTHORITY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/faults/certificates/authority.pem"
);
const LEAF_KEY: &[u8] = include_bytes!("certificates/leaf.key.der");
const GOOD: &[u8] = include_bytes!("certificates/good.crt.der");
const OTHER_NAME: &[u8] = include_bytes!("certificates/other-name.crt.der");
const EXPIRED: &[u8] = include_bytes!("certificates/expired.crt.der");

const KEY: &str = "sk-tls-canary-81c2";
/// An answer to a POST and to a read alike.
const ANSWER: &str = r#"{"thread_id":"th_1","run_status":{"status":"completed"},"messages":[
    {"role":"user","content":[{"type":"text","text":{"value":"hello"}}]},
    {"role":"assistant","content":[{"type":"text","text":{"value":"over TLS"}}]}]}"#;

/// What each connection to it brought, once decrypted.
type Brought = Arc<Mutex<Vec<String>>>;

/// An upstream that shows this certificate, and closes or keeps each connection; its port.
fn showing(certificate: &[u8], connection: &'static str) -> (u16, Brought) {
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.to_vec().into()],
            LEAF_KEY.to_vec().try_into().unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let brought = Brought::default();
    let seen = brought.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = rustls::ServerConnection::new(config.clone()).unwrap();
            let (stream, seen) = (stream.unwrap(), seen.clone());
            std::thread::spawn(move || answering(tls, stream, connection, &seen));
        }
    });
    (port, brought)
}

/// Answers what comes on one connection.
fn answering(
    mut tls: rustls::ServerConnection,
    mut stream: TcpStream,
    connection: &str,
    seen: &Mutex<Vec<String>>,
) {
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(String::new());
        seen.len() - 1
    };
    let mut session = rustls::Stream::new(&mut tls, &mut stream);
    let mut request = String::new();
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = session.read(&mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..read]);
        seen.lock().unwrap()[number].push_str(&text);
        request.push_str(&text);
        if !is_whole(&request) {
            continue;
        }
        request.clear();
        let head = format!("HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: ");
        let answer = format!("{head}{}\r\n\r\n{ANSWER}", ANSWER.len());
        let _ = session.write_all(answer.as_bytes());
        if connection == "close" {
            break;
        }
    }
    tls.send_close_notify();
    let _ = tls.complete_io(&mut stream);
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

/// What a caller hears of an upstream with this certificate, and what each connection to that has brought.
fn asked(certificate: &[u8], connection: &'static str, times: usize) -> (String, Vec<String>) {
    // An error says that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (port, brought) = showing(certificate, connection);
    let program = Program::with(&[
        ("SSL_CERT_FILE", AUTHORITY),
        ("CHATURDATA_PROXY_PACE__INTERVAL", "30ms"),
        ("CHATURDATA_PROXY_PACE__MIN_GAP", "20ms"),
    ]);
    let url = format!("https://localhost:{port}");
    let proxy = program.serve(&["--upstream-url", &url]).listened_to();
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = String::new();
    for _ in 0..times {
        answer = exchange(proxy.address, &request);
    }
    let brought = brought.lock().unwrap().clone();
    (answer, brought)
}

#[test]
fn a_certificate_that_holds_is_believed() {
    let (answer, brought) = asked(GOOD, "close", 1);

    assert!(answer.contains("over TLS"), "{answer}");
    assert!(brought[0].contains(KEY) && brought[0].starts_with("POST /api/newMessage"));
}

#[test]
fn a_connection_that_is_kept_is_used_again() {
    let (answer, brought) = asked(GOOD, "keep-alive", 3);

    assert!(answer.contains("over TLS"), "{answer}");
    let most = |what: &str| brought.iter().map(|one| one.matches(what).count()).max();
    assert_eq!(most("GET /api/getThread"), Some(3), "{brought:?}");
    // One that is kept for posts is not kept for long, and the machine may be slow.
    assert!(most("POST /api/newMessage") >= Some(2), "{brought:?}");
}

#[test]
fn a_certificate_of_another_name_gets_no_byte_and_no_second_try() {
    let (answer, brought) = asked(OTHER_NAME, "close", 1);

    assert!(answer.contains("upstream_unreachable"), "{answer}");
    assert_eq!(brought, [""]);
}

#[test]
fn a_certificate_that_has_expired_gets_no_byte_and_no_second_try() {
    let (answer, brought) = asked(EXPIRED, "close", 1);

    assert!(answer.contains("upstream_unreachable"), "{answer}");
    assert_eq!(brought, [""]);
}
