//! One answer of the simulated upstream, as it would go over the wire, faults included.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::script::Answer;
use crate::upstream::wire::{Answered, Failure};

/// How long a caller in this process waits for an answer that never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to send back, unless a fault says otherwise.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub fault: Option<Fault>,
}

/// What goes wrong with a reply on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes before the head of the answer.
    Reset,
    /// Nothing comes, as long as the caller waits.
    Hang,
    /// The head promises the whole body, and the connection closes after so many bytes of it.
    Cut(usize),
    /// White space follows the body without end.
    Endless,
    /// No connection at all. A server can do no better than [`Fault::Reset`].
    Unreachable,
    /// As above, for a certificate.
    Certificate,
}

/// A call that the upstream says no to.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub status: u16,
    pub words: &'static str,
}

impl From<Refusal> for Reply {
    fn from(Refusal { status, words }: Refusal) -> Self {
        Self::refusal(status, words)
    }
}

impl Reply {
    /// The upstream's way of saying no.
    pub fn refusal(status: u16, words: &str) -> Self {
        let mut body = Map::new();
        body.insert("error".to_owned(), json!({"message": words}));
        Self::json(status, body)
    }

    /// The `proper` document as the script would have it.
    pub fn new(answer: &Answer, mut proper: Map<String, Value>) -> Self {
        match answer {
            Answer::Proper => Self::json(200, proper),
            Answer::Typed(content_type) => Self {
                headers: headers([(CONTENT_TYPE, Some(content_type))]),
                ..Self::json(200, proper)
            },
            Answer::Without(fields) => {
                proper.retain(|name, _| !fields.contains(name));
                Self::json(200, proper)
            }
            Answer::With(fields) => {
                proper.extend(fields.clone());
                Self::json(200, proper)
            }
            Answer::Canned(canned) => Self {
                status: canned.status,
                headers: headers([
                    (CONTENT_TYPE, Some(&canned.content_type)),
                    (RETRY_AFTER, canned.retry_after.as_ref()),
                    (LOCATION, canned.location.as_ref()),
                ]),
                body: canned.body.clone().into(),
                fault: None,
            },
            Answer::Cut(after) => Self::json(200, proper).with(Fault::Cut(*after)),
            Answer::Endless => Self::json(200, proper).with(Fault::Endless),
            Answer::Reset => Self::json(200, proper).with(Fault::Reset),
            Answer::Hang => Self::json(200, proper).with(Fault::Hang),
            Answer::Unreachable => Self::json(200, proper).with(Fault::Unreachable),
            Answer::Certificate => Self::json(200, proper).with(Fault::Certificate),
        }
    }

    /// What a caller in this process has got when this reply has come to it.
    pub async fn received(self) -> Result<Answered, Failure> {
        let broken = |what: &str| Err(Failure::Broken(what.to_owned()));
        match self.fault {
            None => {
                let now = SystemTime::now();
                Ok(Answered::new(self.status, &self.headers, self.body, now))
            }
            Some(Fault::Hang) => {
                sleep(PATIENCE).await;
                broken("no answer came in time")
            }
            Some(Fault::Reset) => broken("the connection was reset"),
            Some(Fault::Cut(_)) => broken("the answer broke off"),
            Some(Fault::Endless) => broken("its answer is too large"),
            Some(Fault::Unreachable) => Err(Failure::Unsent("connection refused".to_owned())),
            Some(Fault::Certificate) => {
                Err(Failure::Certificate("the issuer is not known".to_owned()))
            }
        }
    }

    fn json(status: u16, body: Map<String, Value>) -> Self {
        Self {
            status,
            headers: headers([(CONTENT_TYPE, Some(&"application/json".to_owned()))]),
            body: Value::Object(body).to_string().into(),
            fault: None,
        }
    }

    fn with(self, fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..self
        }
    }
}

/// Those that are there, and that a header can carry.
fn headers<const N: usize>(fields: [(HeaderName, Option<&String>); N]) -> HeaderMap {
    let field = |(name, text): (HeaderName, Option<&String>)| {
        Some((name, HeaderValue::from_str(text?).ok()?))
    };
    fields.into_iter().filter_map(field).collect()
}
