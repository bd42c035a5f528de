//! The program's end under load, and its service while nobody takes its log.

#![cfg(unix)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use crate::binary::{Program, Serving, exchange};

const DRAIN: Duration = Duration::from_secs(6);
/// A busy machine takes up to three times as long.
const MARGIN: Duration = Duration::from_secs(6);

/// An upstream with long answers, late ones and none.
fn upstream(program: &Program) -> Serving {
    // More than the buffers of two sockets take.
    let long = "x".repeat(5 << 20);
    let script = format!(
        "[behaviour]\nreply = [\"soon\"]\nreply_after = \"20ms\"\n\
         [[rules]]\nwhen = \"late\"\nbehaviour = {{ reply = [\"late\"], reply_after = \"1s\" }}\n\
         [[rules]]\nwhen = \"never\"\nbehaviour = {{ reply = [\"never\"], reply_after = \"1h\" }}\n\
         [[rules]]\nwhen = \"long\"\nbehaviour = {{ reply = [\"{long}\"], reply_after = \"20ms\" }}\n"
    );
    let path = program.home.path().join("script.toml");
    std::fs::write(&path, script).unwrap();
    program.serve(&["sandbox", "--script", path.to_str().unwrap()])
}

fn program() -> Program {
    Program::with(&[
        ("CHATURDATA_PROXY_PACE__INTERVAL", "300ms"),
        ("CHATURDATA_PROXY_PACE__MIN_GAP", "30ms"),
        ("CHATURDATA_PROXY_SERVER__DRAIN_TIMEOUT", "6s"),
    ])
}

fn asking(prompt: &str, stream: bool) -> String {
    let body = format!(
        r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer sk\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn waits(address: SocketAddr, callers: usize) {
    until_told(address, &format!("waiting_callers {callers}\n"));
}

fn completed(address: SocketAddr, turns: usize) {
    until_told(address, &format!("outcome=\"completed\"}} {turns}\n"));
}

fn until_told(address: SocketAddr, line: &str) {
    let metrics = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let start = Instant::now();
    while !exchange(address, metrics).contains(line) {
        assert!(start.elapsed() < Duration::from_secs(60), "{line}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_hundred_waiters_and_ten_who_do_not_read_are_told_before_the_end() {
    let home = Program::new();
    let upstream = upstream(&home);
    let url = format!("http://{}", upstream.address);
    let program = program();
    let proxy = program.serve(&["--upstream-url", &url]).listened_to();
    let address = proxy.address;
    let deaf: Vec<TcpStream> = (0..10)
        .map(|number| {
            let mut socket = TcpStream::connect(address).unwrap();
            // Long answers are slow to make; what was not read of a short one is no matter.
            let prompt = if number < 3 { "long" } else { "never" };
            let request = asking(&format!("{prompt} deaf {number}"), number % 2 == 0);
            socket.write_all(request.as_bytes()).unwrap();
            socket
        })
        .collect();
    completed(address, 3);
    let waiters: Vec<JoinHandle<String>> = (0..100)
        .map(|number| {
            let prompt = if number % 5 == 0 { "late" } else { "never" };
            let request = asking(&format!("{prompt} {number}"), number % 2 == 0);
            std::thread::spawn(move || exchange(address, &request))
        })
        .collect();
    waits(address, 110);
    let start = Instant::now();

    let end = proxy.end("TERM");

    let took = start.elapsed();
    assert_eq!(end.code, Some(0), "{}", end.err);
    assert!(took < DRAIN + MARGIN, "{took:?}");
    drop(deaf);
    let mut counts = [0, 0];
    for waiter in waiters {
        let answer = waiter.join().unwrap();
        let streams = answer.contains("text/event-stream");
        let is_whole = match streams {
            true => answer.contains("[DONE]") && answer.ends_with("0\r\n\r\n"),
            false => answer.starts_with("HTTP/1.1 200"),
        };
        let is_told = answer.contains(r#""code":"shutting_down""#)
            && (streams || answer.starts_with("HTTP/1.1 503"))
            && !answer.contains("[DONE]");
        assert!(is_whole != is_told, "{answer}");
        counts[usize::from(is_told)] += 1;
    }
    assert_eq!(counts, [20, 80], "those whose answer comes in time have it");
}

#[test]
fn a_second_signal_is_an_end_at_once() {
    let home = Program::new();
    let upstream = upstream(&home);
    let url = format!("http://{}", upstream.address);
    let mut program = program();
    program
        .variables
        .push(("CHATURDATA_PROXY_SERVER__DRAIN_TIMEOUT", "10m"));
    let proxy = program.serve(&["--upstream-url", &url]).listened_to();
    let address = proxy.address;
    let mut waiting = TcpStream::connect(address).unwrap();
    waiting
        .write_all(asking("never", false).as_bytes())
        .unwrap();
    waits(address, 1);

    proxy.signal("INT");
    while TcpStream::connect(address).is_ok() {}
    let start = Instant::now();
    let end = proxy.end("TERM");

    assert!(start.elapsed() < MARGIN, "{:?}", start.elapsed());
    assert_eq!(end.code, Some(1));
    let mut rest = Vec::new();
    let _ = waiting.read_to_end(&mut rest);
    assert_eq!(rest, b"");
}

#[test]
fn turns_go_on_while_nobody_takes_the_log() {
    let home = Program::new();
    let upstream = upstream(&home);
    let url = format!("http://{}", upstream.address);
    let arguments = ["--upstream-url", &url, "--log", "trace"];
    let (one, other) = (program(), program());
    let mut closed = one.serve(&arguments);
    closed.lines = None;
    let blocked = other.serve(&arguments);
    let idle = "GET /v1/capabilities HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

    for proxy in [&closed, &blocked] {
        // A pipe is full after some hundreds of lines.
        for _ in 0..500 {
            exchange(proxy.address, idle);
        }
        for number in 0..20 {
            let answer = exchange(proxy.address, &asking(&format!("soon {number}"), false));
            assert!(answer.starts_with("HTTP/1.1 200"), "{number}: {answer}");
        }
    }
    let start = Instant::now();
    closed.signal("TERM");
    blocked.signal("TERM");
    assert_eq!(closed.ended(), Some(0));
    assert_eq!(blocked.ended(), Some(0));
    assert!(start.elapsed() < MARGIN, "{:?}", start.elapsed());
}

#[test]
fn a_program_without_stdout_and_stderr_serves_and_ends_in_order() {
    let home = Program::new();
    let upstream = upstream(&home);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let program = program();
    let binary = env!("CARGO_BIN_EXE_chaturdata-proxy");
    let line = format!(
        "exec {binary} --listen {port} --upstream-url http://{} --log trace >&- 2>&-",
        upstream.address
    );
    let mut child = Command::new("sh")
        .args(["-c", &line])
        .env_clear()
        .env("HOME", program.home.path())
        .envs(program.variables.iter().copied())
        .spawn()
        .unwrap();
    while TcpStream::connect(port).is_err() {
        assert_eq!(child.try_wait().unwrap(), None, "it serves");
    }

    for number in 0..20 {
        let answer = exchange(port, &asking(&format!("soon {number}"), false));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    let kill = format!("kill -TERM {}", child.id());
    Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
