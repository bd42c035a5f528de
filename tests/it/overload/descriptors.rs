//! A process that may open few files takes fewer connections, and never runs out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::time::Instant;

use crate::binary::Program;

const ALIVE: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(30);

fn connected(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn answer(mut socket: &TcpStream, request: &str) -> String {
    socket.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    socket.read_exact(&mut head).unwrap();
    String::from_utf8(head.to_vec()).unwrap()
}

#[test]
fn a_flood_of_connections_starves_neither_those_that_stand_nor_the_next() {
    let program = Program::new();
    let proxy = program.serve_with_descriptors(64, &["--sandbox"]);
    let first = connected(proxy.address);
    assert_eq!(
        answer(&first, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        "HTTP/1.1 200"
    );
    // More than it may open, and fewer than wait for it in the system.
    let flood: Vec<TcpStream> = (0..100).map(|_| connected(proxy.address)).collect();
    let body = r#"{"model": "m", "messages": [{"role": "user", "content": "revenue by region?"}]}"#;
    let first = connected_again(first);
    let question = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(answer(&first, &question), "HTTP/1.1 200");

    let released = Instant::now();
    drop(flood);
    let next = answer(&connected(proxy.address), ALIVE);

    assert_eq!(next, "HTTP/1.1 200");
    assert!(
        released.elapsed() < Duration::from_secs(3),
        "a second, where it is quiet"
    );
    let said = proxy.end("TERM").err;
    assert!(
        said.contains("4256 file descriptors may be needed"),
        "{said}"
    );
    assert!(!said.contains("could not be accepted"), "{said}");
}

/// The same connection with what was left of the last answer read.
fn connected_again(mut socket: TcpStream) -> TcpStream {
    let mut rest = Vec::new();
    let mut byte = [0];
    while !rest.ends_with(br#"{"status":"ok"}"#) {
        socket.read_exact(&mut byte).unwrap();
        rest.push(byte[0]);
    }
    socket
}
