//! The wall clock jumps under a running proxy: answers still come, and nothing is forgotten.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::binary::{Program, Serving};

/// Where Debian's package `faketime` puts its library.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];
const YEAR: u64 = 365 * 24 * 60 * 60;

/// A program whose wall clock is set by a file; the clock that durations are measured with is real.
struct Jumping {
    program: Program,
    library: &'static str,
    upstream: Serving,
}

impl Jumping {
    /// `None` where the clock cannot be set.
    fn new() -> Option<Self> {
        Self::paced("60ms")
    }

    fn paced(interval: &'static str) -> Option<Self> {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
        let Some(library) = library else {
            let skipped = "SKIPPED: the clock stands as it is: faketime's library is not installed";
            let _ = writeln!(std::io::stderr(), "{skipped}");
            return None;
        };
        let script = r#"{"behaviour": {"recites": true, "reply": ["x"], "reply_after": "200ms"}}"#;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("script.json");
        std::fs::write(&path, script).unwrap();
        let upstream = Program::new().serve(&["sandbox", "--script", path.to_str().unwrap()]);
        Some(Self {
            program: Program::with(&[
                ("CHATURDATA_PROXY_PACE__INTERVAL", interval),
                ("CHATURDATA_PROXY_PACE__MIN_GAP", "30ms"),
            ]),
            library,
            upstream,
        })
    }

    fn serve(&self) -> Serving {
        let url = format!("http://{}", self.upstream.address);
        let mut command = self.program.command(&["--upstream-url", &url]);
        self.set(&mut command);
        Serving::of(command)
    }

    fn set(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", self.library)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_NO_CACHE", "1")
            .env(
                "FAKETIME_TIMESTAMP_FILE",
                self.program.home.path().join("offset"),
            );
    }

    /// As if somebody had set the clock.
    fn jump(&self, offset: &str) {
        let path = self.program.home.path().join("offset");
        let new = path.with_extension("new");
        std::fs::write(&new, format!("{offset}\n")).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// Whether this program remembers conversations over its end.
    fn keeps_state(&self) -> bool {
        let folder = self
            .program
            .home
            .path()
            .join(".local/state/chaturdata-proxy");
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("state."))
    }
}

/// A caller that resends all that it has seen.
#[derive(Default)]
struct Talk {
    messages: Vec<Value>,
}

impl Talk {
    /// The decision on the next turn, and the year that its answer says it is.
    fn says(&mut self, address: SocketAddr, text: &str) -> (String, u64) {
        self.messages.push(json!({"role": "user", "content": text}));
        let body = json!({"model": "m", "messages": self.messages}).to_string();
        let answer = exchange(address, &body);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        let body: Value = serde_json::from_str(body).unwrap();
        self.messages.push(body["choices"][0]["message"].clone());
        let decision = head
            .lines()
            .find_map(|line| line.strip_prefix("x-conversation-decision: "));
        let created = body["created"].as_u64().unwrap();
        (decision.unwrap().to_owned(), 1970 + created / YEAR)
    }
}

fn exchange(address: SocketAddr, body: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer sk-clock\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_clock_that_jumps_forgets_nothing_and_holds_up_nobody() {
    let Some(jumping) = Jumping::new() else {
        return;
    };
    jumping.jump("+0");
    let proxy = jumping.serve();
    let mut talk = Talk::default();
    let appended = "appended".to_owned();

    let (decision, year) = talk.says(proxy.address, "one");
    assert_eq!(decision, "created");
    jumping.jump("+10y");
    assert_eq!(
        talk.says(proxy.address, "two"),
        (appended.clone(), year + 10)
    );
    jumping.jump("-1h");
    assert_eq!(talk.says(proxy.address, "three"), (appended.clone(), year));
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| talk.says(proxy.address, "four"));
        for offset in ["+10y", "-10y", "-1h", "+1h"] {
            jumping.jump(offset);
            assert_eq!(Talk::default().says(proxy.address, "another").0, "created");
        }
        asked.join().unwrap()
    });
    assert_eq!(asked.0, appended);
    jumping.jump("-1h");

    assert_eq!(talk.says(proxy.address, "five"), (appended, year));
    assert_eq!(proxy.end("TERM").code, Some(0));
}

#[test]
fn a_machine_that_wakes_reads_its_runs_at_once() {
    let Some(jumping) = Jumping::paced("10m") else {
        return;
    };
    jumping.jump("+0");
    let proxy = jumping.serve();
    let mut talk = Talk::default();

    // The first read comes too early, the second would come in ten minutes.
    let (done, answered) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            talk.says(proxy.address, "hello");
            done.send(()).unwrap();
        });
        for hours in 1.. {
            if answered.recv_timeout(Duration::from_millis(500)).is_ok() {
                break;
            }
            assert!(hours < 60, "the run is not read");
            jumping.jump(&format!("+{hours}h"));
        }
    });
    assert_eq!(proxy.end("TERM").code, Some(0));
}

#[test]
fn a_clock_that_jumped_between_two_starts_forgets_nothing() {
    let Some(jumping) = Jumping::new() else {
        return;
    };
    let mut talk = Talk::default();
    for (offset, first) in [
        ("+0", true),
        ("+10y", false),
        ("-1h", false),
        ("-10y", false),
    ] {
        jumping.jump(offset);
        let proxy = jumping.serve();
        let expected = match (first, jumping.keeps_state()) {
            (true, _) => "created",
            (false, true) => "appended",
            (false, false) => "replayed",
        };

        assert_eq!(talk.says(proxy.address, offset).0, expected, "{offset}");
        assert_eq!(talk.says(proxy.address, "again").0, "appended", "{offset}");
        assert_eq!(proxy.end("TERM").code, Some(0));
    }
}
