//! What the upstream answers: heads and bodies of its two calls, zipped and plain.

use std::io::Write;
use std::time::SystemTime;

use bytes::Bytes;
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::run::answer::read_off;
use chaturdata_proxy::run::baseline::{in_order, nothing_new, remember};
use chaturdata_proxy::run::listing::{Listing, mark};
use chaturdata_proxy::store::Seen;
use chaturdata_proxy::upstream::gzip::unzipped;
use chaturdata_proxy::upstream::wire::{self, Answered};
use chaturdata_proxy::upstream::{PostError, Thread, ThreadId};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Decoded bytes that the target of zipped answers allows.
const UNZIPPED: usize = 1 << 20;

thread_local! {
    static SALT: Salt = Salt::random().expect("the system has random numbers");
}

/// The input is an answer to a POST: a status, header lines, an empty line, the body.
pub fn new_message(input: &[u8]) {
    let Some(answer) = answered(input) else {
        return;
    };
    let asked = ThreadId("th_1".into());
    for asked in [None, Some(&asked)] {
        match wire::posted(asked, &answer) {
            Ok(posted) => {
                assert_eq!(answer.status, 200);
                assert!((1..=256).contains(&posted.thread.0.len()));
                assert!(!posted.thread.0.chars().any(char::is_control));
                assert!(asked.is_none_or(|asked| *asked == posted.thread));
            }
            Err(PostError::Refused(refusal)) => {
                assert!((400..=503).contains(&refusal.status));
                assert!(refusal.words.chars().count() <= 2000);
            }
            Err(PostError::Unknown(_)) => {}
            Err(other) => unreachable!("bytes have left: {other}"),
        }
    }
}

/// The input is an answer to a GET, written likewise.
pub fn get_thread(input: &[u8]) {
    let Some(answer) = answered(input) else {
        return;
    };
    if let Ok(thread) = wire::thread(&answer) {
        assert_eq!(answer.status, 200);
        read(&thread);
    }
}

fn read(thread: &Thread) {
    for message in &thread.messages {
        let chars = message.text.chars().count();
        for source in &message.annotations {
            assert!(source.start <= source.end && source.end <= chars);
        }
    }
    let listing = SALT.with(|salt| Listing::of(salt, thread.clone()));
    let seen = remember(&listing);
    assert!(nothing_new(&seen, &listing), "what was seen is new");
    let ordered = in_order(&seen, &listing);
    assert!(ordered.is_none_or(|lines| lines.len() <= listing.lines.len()));
    let salt = SALT.with(Clone::clone);
    let prompts = listing.lines.iter().map(|line| line.mark(&salt));
    let hello = mark(&salt, "hello");
    for prompt in prompts.take(2).chain([hello]) {
        let reading = read_off(&salt, &Seen::default(), prompt, &listing);
        let text = reading.text.unwrap_or_default();
        let chars = text.chars().count();
        for source in &reading.annotations {
            assert!(source.start <= source.end && source.end <= chars);
        }
        let again = read_off(&salt, &seen, prompt, &listing);
        assert!(
            !again.ours || !again.overlaps,
            "a message that was seen before is ours"
        );
    }
}

/// The input is a body, as it may be zipped, and as it is.
pub fn gzip(input: &[u8]) {
    if let Ok(Some(body)) = unzipped(input, UNZIPPED) {
        assert!(body.len() <= UNZIPPED);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(input).expect("a Vec takes everything");
    let zipped = encoder.finish().expect("a Vec takes everything");
    let plain = unzipped(&zipped, input.len()).expect("it was just zipped");
    assert_eq!(plain.as_deref(), Some(input));
    if let Some(less) = input.len().checked_sub(1) {
        assert_eq!(unzipped(&zipped, less).expect("it was just zipped"), None);
    }
}

fn answered(input: &[u8]) -> Option<Answered> {
    let mut rest = input;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.get(1..).unwrap_or_default();
        line
    };
    let status: u16 = str::from_utf8(line()).ok()?.trim().parse().ok()?;
    let mut headers = HeaderMap::new();
    loop {
        let line = line();
        if line.is_empty() {
            break;
        }
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(at);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        headers.append(
            HeaderName::from_bytes(name).ok()?,
            HeaderValue::from_bytes(value).ok()?,
        );
    }
    let body = Bytes::copy_from_slice(rest);
    Some(Answered::new(
        status,
        &headers,
        body,
        SystemTime::UNIX_EPOCH,
    ))
}
