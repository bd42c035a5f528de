//! Answers that no well-behaved upstream gives, to POSTs and to polls: refusals, pages of gateways,
//! bodies that are no JSON, too long or without an end, redirects.

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;

use chaturdata_proxy::upstream::sandbox::Kind;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::judge::{Turn, faults};
use super::meddler::{Fault, Side, What};
use super::rig::{End, Rig};

const HUGE: usize = 50 << 20;

/// What callers hear where an answer comes to the POST that begins a thread, to the POST of a
/// later turn, and to a poll. Empty: the answer.
type Heard = [&'static str; 3];

const UNKNOWN: Heard = ["upstream_outcome_unknown", "", ""];

/// The relay closes the connection behind it and says so: whether a call on one that is closed
/// without a word was taken cannot be told, and is not what is tried here.
fn http(head: &str, body: &[u8]) -> What {
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    What::Instead([head.as_bytes(), body].concat().into())
}

fn zipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// The upstream refuses; it has not taken the message.
fn refusals() -> Vec<(&'static str, What, Heard)> {
    const BUSY: Heard = ["rate_limit_exceeded", "rate_limit_exceeded", ""];
    const KEY: Heard = ["invalid_api_key"; 3];
    const FORBIDDEN: Heard = ["upstream_forbidden"; 3];
    const REFUSED: Heard = ["upstream_refused", "upstream_refused", ""];
    vec![
        ("400", http("400 X", br#"{"error":"vague"}"#), REFUSED),
        ("401", http("401 X", b"no"), KEY),
        ("403", http("403 X", b"<h1>no</h1>"), FORBIDDEN),
        ("404", http("404 X", b""), ["upstream_error", "", ""]),
        ("409", http("409 X", b"busy"), ["upstream_refused", "", ""]),
        ("413", http("413 X", b"long"), REFUSED),
        ("422", http("422 X", b"{}"), REFUSED),
        ("429", http("429 X\r\nRetry-After: 0", b"slow"), BUSY),
        ("503 and when", http("503 X\r\nRetry-After: 0", b""), BUSY),
    ]
}

/// It cannot be told from these whether the upstream took the message.
fn riddles(canary: &str) -> Vec<(&'static str, What, Heard)> {
    let to_canary = |status: &str| {
        let head = format!("{status}\r\nLocation: http://{canary}/api/newMessage");
        http(&head, b"")
    };
    let json = br#"{"thread_id":"th_other","messages":[],"run_status":"completed"}"#;
    let gzip = "200 OK\r\nContent-Encoding: gzip";
    let html = "502 X\r\nContent-Type: text/html";
    let whole = zipped(json);
    let endless_head = [b"HTTP/1.1 200 OK\r\nX-Long: ", &vec![b'x'; HUGE][..]].concat();
    let rows = [
        ("500", http("500 X", b"")),
        ("502 of a gateway", http(html, b"<h1>502</h1>")),
        ("503", http("503 X", b"")),
        ("504", http("504 X", b"upstream timed out")),
        (
            "a page",
            http("200 OK\r\nContent-Type: text/html", b"<h1>hi</h1>"),
        ),
        ("nothing", http("200 OK", b"")),
        ("half", http("200 OK", &json[..20])),
        ("a list", http("200 OK", b"[]")),
        ("bytes", http("200 OK", b"\xff\xfe\0")),
        ("half a zip", http(gzip, &whole[..20])),
        ("no zip", http(gzip, json)),
        ("a bomb", http(gzip, &zipped(&vec![b' '; HUGE]))),
        (
            "another encoding",
            http("200 OK\r\nContent-Encoding: br", json),
        ),
        ("50 MB", http("200 OK", &vec![b' '; HUGE])),
        ("a head without an end", What::Instead(endless_head.into())),
        ("a body without an end", What::Drip),
        (
            "no HTTP",
            What::Instead(Arc::from(&b"220 smtp ready\r\n"[..])),
        ),
        ("301", to_canary("301 X")),
        ("302", to_canary("302 X")),
        ("303", to_canary("303 X")),
        ("307", to_canary("307 X")),
        ("308", to_canary("308 X")),
    ];
    rows.into_iter()
        .map(|(name, what)| (name, what, UNKNOWN))
        .collect()
}

/// Two turns, of which one meets the fault; what is wrong with what callers heard.
async fn tried(name: &str, fault: Fault, opening: bool, heard: &str) -> Vec<String> {
    let rig = Rig::start(|_| {}).await;
    let mut history: Vec<Value> = Vec::new();
    let mut turns = Vec::new();
    for (number, mark) in ["mark-one", "mark-two"].into_iter().enumerate() {
        let befallen = opening == (number == 0);
        if befallen {
            rig.meddler.meddle(fault.clone());
        }
        history.push(json!({"role": "user", "content": format!("what of {mark}")}));
        let end = rig.ask(&history, false).await;
        let befell = rig.meddler.stop();
        assert_eq!(befell, befallen, "{name}");
        let visible = turns.iter().map(|turn: &Turn| turn.mark.clone()).collect();
        turns.push(Turn {
            mark: mark.to_owned(),
            visible,
            end: end.clone(),
        });
        match end {
            End::Answered(text) => history.push(json!({"role": "assistant", "content": text})),
            _ => break,
        }
    }
    let posts = rig.sandbox.posts();
    let mut found = faults(&turns, &posts);
    let ended = turns.last().map(|turn| turn.end.clone());
    let right = match &ended {
        Some(End::Answered(_)) => heard.is_empty() && turns.len() == 2,
        Some(End::Told(code)) => code == heard && turns.len() == if opening { 1 } else { 2 },
        _ => false,
    };
    if !right {
        found.push(format!("not {heard:?}: {ended:?}"));
    }
    if rig.meddler.put_in() >= HUGE {
        found.push("it was read to its end".to_owned());
    }
    let place = format!("{name} at {:?} {:?} {opening}", fault.call, fault.side);
    found
        .iter()
        .map(|what| format!("{place}: {what}"))
        .collect()
}

async fn all_tried(rows: Vec<(&'static str, What, Heard)>, sides: &[Side]) -> Vec<String> {
    let mut cases = Vec::new();
    for (name, what, heard) in &rows {
        for (phase, heard) in heard.iter().enumerate() {
            let call = if phase == 2 { Kind::Read } else { Kind::Post };
            for &side in sides {
                // A refusal is repeated: what gives way at once is not told.
                let times = if what_gives_way(name) { 3 } else { 1 };
                let fault = Fault {
                    call,
                    side,
                    at: 0,
                    what: what.clone(),
                    times,
                };
                cases.push(tried(name, fault, phase == 0, heard));
            }
        }
    }
    join_all(cases).await.concat()
}

fn what_gives_way(name: &str) -> bool {
    name.starts_with("429") || name == "503 and when"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_as_one_and_nothing_is_posted() {
    let found = all_tried(refusals(), &[Side::Request]).await;

    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_is_looked_behind_and_leads_nowhere_else() {
    let canary = TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let address = canary.local_addr().unwrap().to_string();

    let found = all_tried(riddles(&address), &[Side::Request, Side::Answer]).await;

    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(canary.accept().is_err(), "the canary was called");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_found_behind_a_hundred_thousand_messages() {
    let fault = Fault {
        call: Kind::Read,
        side: Side::Answer,
        at: 0,
        what: What::Before(100_000),
        times: 100,
    };

    let found = tried("very many messages", fault, false, "").await;

    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_answer_counts_under_whatever_type_it_comes() {
    let rig = Rig::start(|_| {}).await;
    let body = br#"{"thread_id":"th_1","run_status":"in_progress"}"#;
    rig.meddler.meddle(Fault {
        call: Kind::Post,
        side: Side::Request,
        at: 0,
        what: http("200 OK\r\nContent-Type: text/html", body),
        times: 1,
    });

    let end = tokio::time::timeout(
        std::time::Duration::from_millis(300),
        rig.ask(&[json!({"role": "user", "content": "hello"})], false),
    )
    .await;

    assert!(
        end.is_err(),
        "it was taken, and its thread is polled: {end:?}"
    );
}
