//! Keys and texts stay where they belong: a full run at the most verbose level is searched for them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::Kind;

use crate::binary::{Program, exchange};
use crate::faults::meddler::{Fault, Meddler, Side, What};

/// Keys whose beginnings and ends are found nowhere by chance.
const CALLER_KEY: &str = "Qx7-caller-canary-key-5d81-Zw3";
const HELD_KEY: &str = "Jv9-upstream-canary-key-77ab-Kt6";
/// Stands in every prompt.
const TEXT: &str = "canary-of-a-prompt-91c2";

/// Every kind of end, each begun by a word of the prompt.
const SCRIPT: &str = r#"
[behaviour]
reply = ["The answer with canary-of-a-reply-44e0."]
reply_after = "50ms"

[[rules]]
when = "fails"
behaviour = { reply_after = "20ms", ending = "failed", failure = { words = "no table" } }

[[rules]]
when = "refused"
behaviour = { post = { answer = { canned = { status = 400, body = '{"error": "too vague"}' } } } }

[[rules]]
when = "echoes"
behaviour = { post = { answer = { canned = { status = 400, body = '{"error": "no account has Jv9-upstream-canary-key-77ab-Kt6"}' } } } }

[[rules]]
when = "wrong key"
behaviour = { post = { answer = { canned = { status = 401 } } } }

[[rules]]
when = "resets"
behaviour = { post = { answer = "reset" } }

[[rules]]
when = "breaks off"
behaviour = { post = { answer = { cut = 10 } } }

[[rules]]
when = "page"
behaviour = { post = { answer = { canned = { status = 502, content_type = "text/html", body = "<h1>no</h1>" } } } }

[[rules]]
when = "redirects"
behaviour = { post = { answer = { canned = { status = 307, location = "http://127.0.0.1:9/" } } } }

[[rules]]
when = "stumbles"
[rules.behaviour]
reply = ["late"]
reply_after = "20ms"
reads = [{ count = 1, answer = { canned = { status = 500 } } }, { from = 2, count = 1, answer = "reset" }]
"#;

const WORDS: [&str; 10] = [
    "plain",
    "fails",
    "refused",
    "echoes",
    "wrong key",
    "resets",
    "breaks off",
    "page",
    "redirects",
    "stumbles",
];

/// The forms in which a secret might slip out.
fn forms(secret: &str) -> Vec<String> {
    let hex = secret.bytes().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    let bytes: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
    let mut forms = vec![
        secret.to_owned(),
        secret[..8].to_owned(),
        secret[secret.len() - 8..].to_owned(),
        hex.to_uppercase(),
        hex,
        bytes.join(", "),
        secret.replace('-', "%2D"),
    ];
    // In base64 a text looks otherwise at each of three places; the whole groups stay alike.
    for skipped in 0..3 {
        let whole = (secret.len() - skipped) / 3 * 3;
        forms.push(base64(&secret.as_bytes()[skipped..skipped + whole]));
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        for shift in [18, 12, 6, 0] {
            text.push(char::from(DIGITS[bits >> shift & 63]));
        }
    }
    text
}

/// What of the secrets stands in a text.
fn found(text: &str, secrets: &[&str]) -> Vec<String> {
    let forms = secrets.iter().flat_map(|secret| forms(secret));
    forms.filter(|form| text.contains(form)).collect()
}

fn ask(address: SocketAddr, word: &str, stream: bool) -> String {
    let body = format!(
        r#"{{"model":"m","stream":{stream},"user":"{TEXT}","messages":[{{"role":"user","content":"{word} {TEXT}"}}]}}"#
    );
    post(address, "chat/completions", &body)
}

/// The same by the other endpoints, with all that they take of a caller's texts.
fn ask_elsewhere(address: SocketAddr, word: &str) -> String {
    let asked = format!(
        r#""model":"m","instructions":"{TEXT}","metadata":{{"a":"{TEXT}"}},"input":"{word} {TEXT}""#
    );
    let mut answers = String::new();
    for fields in [
        "",
        r#","stream":true"#,
        r#","background":true"#,
        r#","conversation":"c""#,
    ] {
        answers.push_str(&post(address, "responses", &format!("{{{asked}{fields}}}")));
    }
    let prompt = format!(r#"{{"model":"m","prompt":"{word} {TEXT}"}}"#);
    answers.push_str(&post(address, "completions", &prompt));
    let noted = format!(
        r#"{{"metadata":{{"a":"{TEXT}"}},"items":[{{"role":"user","content":"{word} {TEXT}"}}]}}"#
    );
    answers.push_str(&post(address, "conversations", &noted));
    answers
}

fn post(address: SocketAddr, path: &str, body: &str) -> String {
    exchange(
        address,
        &format!(
            "POST /v1/{path}?q={TEXT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {CALLER_KEY}\r\nContent-Type: application/json\r\n\
             X-Request-Timeout: 5\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

/// Every kind of fault of the wire, in both directions of both calls, and answers that tell what
/// they were shown.
fn wire_faults() -> Vec<Fault> {
    let told = format!("{HELD_KEY} {CALLER_KEY}");
    let mut kinds = vec![
        What::Reset,
        What::Truncate,
        What::Hang,
        What::BlackHole,
        What::Trickle,
        What::Late(Duration::from_millis(10)),
        What::Drip,
    ];
    for answer in [
        format!("HTTP/1.1 500 {told}\r\nContent-Length: 0\r\n\r\n"),
        format!(
            "HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:9/?key={told}\r\nContent-Length: 0\r\n\r\n"
        ),
        format!(
            "HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer error=\"{told}\"\r\nContent-Length: 0\r\n\r\n"
        ),
        format!("HTTP/1.1 200 OK\r\n{told}: {told}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: {told}\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("HTTP/1.1 503 X\r\nRetry-After: {told}\r\nContent-Length: 500\r\n\r\n{told}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{{\"thread_id\": \"{told} {TEXT}"),
        format!("{told} {TEXT}\r\n\r\n"),
    ] {
        kinds.push(What::Instead(answer.into_bytes().into()));
    }
    let mut faults = Vec::new();
    for call in [Kind::Post, Kind::Read] {
        for side in [Side::Request, Side::Answer] {
            faults.extend(kinds.iter().map(|what| Fault {
                call,
                side,
                at: 20 * usize::from(!matches!(what, What::Instead(_))),
                what: what.clone(),
                times: 1,
            }));
        }
    }
    faults
}

/// Every file below a folder, as text.
fn files(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&files(&path));
        } else {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
    text
}

/// All that a proxy says and keeps while it is asked for everything, and what it answers.
fn full_run(variables: &[(&'static str, &'static str)]) -> (String, String) {
    let upstream = Program::new();
    let script = upstream.home.path().join("script.toml");
    std::fs::write(&script, SCRIPT).unwrap();
    let sandbox = upstream.serve(&["sandbox", "--script", script.to_str().unwrap()]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let meddler = runtime.block_on(Meddler::before(&sandbox.address.to_string()));
    let url = meddler.url.clone();
    let mut program = Program::with(&[
        ("CHATURDATA_PROXY_PACE__INTERVAL", "30ms"),
        ("CHATURDATA_PROXY_PACE__MIN_GAP", "20ms"),
        ("CHATURDATA_PROXY_UPSTREAM__POST_TIMEOUT", "300ms"),
        ("CHATURDATA_PROXY_UPSTREAM__READ_TIMEOUT", "300ms"),
    ]);
    program.variables.extend_from_slice(variables);
    let arguments = ["--upstream-url", &url, "--log", "trace"];
    let proxy = program.serve(&arguments).listened_to();

    let mut answers = String::new();
    for word in WORDS {
        for stream in [false, true] {
            answers.push_str(&ask(proxy.address, word, stream));
            // Failures in a row would stop all POSTs for a while.
            answers.push_str(&ask(proxy.address, "plain", false));
        }
    }
    for word in ["plain", "fails", "refused"] {
        answers.push_str(&ask_elsewhere(proxy.address, word));
        answers.push_str(&ask(proxy.address, "plain", false));
    }
    for (number, fault) in wire_faults().into_iter().enumerate() {
        meddler.meddle(fault.clone());
        let prompt = format!("plain {number}");
        answers.push_str(&ask(proxy.address, &prompt, number % 2 == 0));
        assert!(meddler.stop(), "it befell nothing: {fault:?}");
        answers.push_str(&ask(proxy.address, "plain", false));
    }
    let metrics = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut kept = exchange(proxy.address, metrics);
    let settings = program.run(&["config", "print", "--upstream-url", &url]);
    let check = program.run(&["config", "check", "--upstream-url", &url]);
    let end = proxy.end("TERM");
    assert_eq!(end.code, Some(0), "{}", end.err);
    assert!(
        end.err.contains("request ended"),
        "the log was read: {}",
        end.err
    );
    for text in [
        &end.err,
        &settings.out,
        &settings.err,
        &check.out,
        &check.err,
    ] {
        kept.push_str(text);
    }
    kept.push_str(&files(program.home.path()));
    (kept, answers)
}

#[test]
fn the_state_holds_no_text_of_a_sandbox_run_either() {
    let program = Program::new();
    let proxy = program.serve(&["--sandbox"]);
    let texts = ["a question of its own", "sk-of-its-own", "revenue"];
    let body = format!(
        r#"{{"model":"m","stop":["{}"],"messages":[{{"role":"user","content":"{}: revenue by region?"}}]}}"#,
        "stop of its own", texts[0]
    );
    let answer = exchange(
        proxy.address,
        &format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             X-Conversation-Id: its-name\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            texts[1],
            body.len()
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    proxy.end("TERM");

    let kept = files(program.home.path()).to_lowercase();

    assert!(kept.contains("its-name"), "the state was read");
    for text in texts.into_iter().chain(["stop of its own"]) {
        assert!(!kept.contains(text), "{text} is kept");
    }
}

#[test]
fn a_planted_leak_is_found_in_every_form() {
    for form in forms(HELD_KEY) {
        let text = format!("{{\"level\":\"TRACE\",\"field\":\"{form}\"}}");

        assert!(
            found(&text, &[HELD_KEY, CALLER_KEY]).contains(&form),
            "{form}"
        );
    }
    assert_eq!(base64(b"any"), "YW55");
}

#[cfg(unix)]
#[test]
fn a_key_that_passes_through_and_the_texts_are_seen_nowhere() {
    let (kept, answers) = full_run(&[]);

    assert_eq!(
        found(&kept, &[CALLER_KEY, TEXT, "canary-of-a-reply-44e0"]),
        [""; 0]
    );
    assert_eq!(found(&answers, &[CALLER_KEY]), [""; 0]);
    for object in ["text_completion", "in_progress", "conv_"] {
        assert!(answers.contains(object), "{object} was answered");
    }
    for code in [
        "run_failed",
        "upstream_refused",
        "invalid_api_key",
        "upstream_outcome_unknown",
    ] {
        assert!(answers.contains(code), "{code} was met");
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_is_held_is_seen_nowhere() {
    let (kept, answers) = full_run(&[
        ("CHATURDATA_API_KEY", HELD_KEY),
        ("CHATURDATA_PROXY_CALLER_KEY", CALLER_KEY),
    ]);

    assert_eq!(found(&kept, &[HELD_KEY, CALLER_KEY, TEXT]), [""; 0]);
    assert_eq!(found(&answers, &[HELD_KEY, CALLER_KEY]), [""; 0]);
    assert!(answers.contains("upstream_key_refused"));
}
