//! The simulated upstream's JSON: what it says of a thread and of a message that it took.

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::script::{Content, Failure, Place};
use super::shape::{Field, Order, Shape, StatusShape, TextShape};
use super::thread::{Entry, Thread};
use crate::upstream::{Role, ThreadId};

/// 2026-01-01. A simulated clock begins here, so that equal scripts give equal bytes.
const EPOCH: u64 = 1_767_225_600;
/// The hidden status of a run that was there before.
const STALE: &str = "completed";

/// Makes ids and times that depend on nothing but the script and the order of calls.
#[derive(Clone, Copy, Debug)]
pub struct Mint {
    pub seed: u64,
    pub started: Instant,
}

impl Mint {
    /// An id for the `number`th thing of its kind.
    pub fn id(self, prefix: &str, number: u64) -> String {
        let a = mixed(self.seed ^ mixed(number));
        let b = mixed(a ^ u64::from(prefix.bytes().fold(0_u32, |sum, b| sum * 31 + u32::from(b))));
        format!("{prefix}_{b:016x}")
    }

    fn seconds(self, at: Instant) -> u64 {
        EPOCH + at.saturating_duration_since(self.started).as_secs()
    }
}

/// The answer to a POST.
pub fn posted(mint: Mint, thread: &ThreadId, run: u64, told: &Told<'_>) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("thread_id".to_owned(), json!(&*thread.0));
    told.write(&mint.id("run", run), &mut document);
    document
}

/// The answer to a read. `None` where nothing has arrived on the thread.
pub fn thread(mint: Mint, thread: &Thread, now: Instant) -> Option<Map<String, Value>> {
    let run = thread.newest(now)?;
    let behaviour = &run.behaviour;
    let shape = &behaviour.shape;
    let mut entries = thread.entries(now);
    if let Some(window) = shape.window {
        entries.drain(..entries.len().saturating_sub(window));
    }
    if shape.order == Order::NewestFirst {
        entries.reverse();
    }
    let messages: Vec<_> = entries
        .iter()
        .map(|entry| message(mint, entry, shape))
        .collect();
    let mut document = Map::new();
    document.insert("thread_id".to_owned(), json!(&*thread.id.0));
    document.insert("messages".to_owned(), Value::Array(messages));
    let stale = run.reads <= behaviour.stale_reads;
    let told = Told {
        status: if stale { STALE } else { run.status(now) },
        failure: behaviour
            .failure
            .as_ref()
            .filter(|_| !stale && run.ended(now)),
        shape: shape.run_status,
    };
    told.write(&mint.id("run", run.number), &mut document);
    Some(document)
}

/// What is told of a run.
#[derive(Debug)]
pub struct Told<'a> {
    pub status: &'a str,
    pub failure: Option<&'a Failure>,
    pub shape: StatusShape,
}

impl Told<'_> {
    fn write(&self, id: &str, document: &mut Map<String, Value>) {
        let mut last_error = Value::Null;
        if let Some(Failure { words, place }) = self.failure {
            let error = json!({"code": "server_error", "message": words});
            match place {
                Place::LastError => last_error = error,
                Place::LastErrorText => last_error = json!(words),
                Place::Error => drop(document.insert("error".to_owned(), json!(words))),
                Place::ErrorMessage => drop(document.insert("error".to_owned(), error)),
                Place::Message => drop(document.insert("message".to_owned(), json!(words))),
            }
        }
        let status = match self.shape {
            StatusShape::Object => {
                json!({"id": id, "status": self.status, "last_error": last_error})
            }
            StatusShape::Bare => json!(self.status),
            StatusShape::Missing => return,
        };
        document.insert("run_status".to_owned(), status);
    }
}

fn message(mint: Mint, entry: &Entry, shape: &Shape) -> Value {
    let mut message = Map::new();
    for field in Field::ALL {
        if shape.omit.contains(&field) {
            continue;
        }
        let value = match (field, entry.role) {
            // The places of a message's run are far fewer than this.
            (Field::Id, _) => json!(mint.id("msg", entry.run * 10_000 + u64::from(entry.place))),
            (Field::Role, Role::User) => json!("user"),
            (Field::Role, Role::Assistant) => json!("assistant"),
            (Field::CreatedAt, _) => json!(mint.seconds(entry.at)),
            (Field::RunId, Role::User) => Value::Null,
            (Field::RunId, Role::Assistant) => json!(mint.id("run", entry.run)),
        };
        message.insert(field.as_str().to_owned(), value);
    }
    message.insert("content".to_owned(), content(&entry.content, shape.text));
    Value::Object(message)
}

fn content(content: &Content, shape: TextShape) -> Value {
    match (content, shape) {
        (Content::Parts(parts), _) => json!(parts),
        (Content::Text(text), TextShape::Value) => {
            json!([{"type": "text", "text": {"value": text, "annotations": []}}])
        }
        (Content::Text(text), TextShape::Bare) => json!([{"type": "text", "text": text}]),
        (Content::Text(text), TextShape::Content) => json!(text),
    }
}

/// SplitMix64's finaliser: near numbers become far ones.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
