//! A turn as a stream of server-sent events: begun early, kept alive, ended by `[DONE]` or by an
//! error frame and a broken body, never in silence.

use std::future::poll_fn;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::time::{Instant, sleep_until};

use super::chat::{Delivery, Exchange};
use super::listener::Receipt;
use crate::config::KeepAlive;
use crate::openai::chat::Chunks;
use crate::run::subscription::Subscription;
use crate::run::{self, RunEvent};

const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A stream that may begin: its run is accepted, or it has waited long enough.
pub struct Opening {
    pub subscription: Subscription,
    pub chunks: Chunks,
    /// What was seen of the run before the stream could begin.
    pub first: Option<RunEvent>,
}

/// The response; its body does the rest.
pub fn respond(opening: Opening, delivery: Delivery, exchange: Exchange) -> Response {
    let stream = Stream {
        exchange,
        delivery,
        subscription: Some(opening.subscription),
        chunks: opening.chunks,
        first: opening.first,
        sent: Instant::now(),
        stage: Stage::Beginning,
    };
    let frames = stream::unfold(Box::new(stream), |stream| stream.next());
    let mut response = Body::from_stream(frames).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Nobody on the way may compress, keep or hold back a stream.
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Why the body ends without its last chunk.
#[derive(Debug, thiserror::Error)]
#[error("the stream ended in an error frame")]
struct BrokenOff;

struct Stream {
    /// `None` once it is settled.
    subscription: Option<Subscription>,
    chunks: Chunks,
    first: Option<RunEvent>,
    delivery: Delivery,
    exchange: Exchange,
    /// When the last frame was given away.
    sent: Instant,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Beginning,
    Running,
    /// `[DONE]` was given away.
    Done,
    /// An error frame was given away after so many flushes.
    Failed {
        flushes: u64,
    },
    Broken,
}

enum Next {
    Event(RunEvent),
    Silence,
    Closing,
}

impl Stream {
    async fn next(mut self: Box<Self>) -> Option<(Result<Bytes, BrokenOff>, Box<Self>)> {
        let frame = match self.stage {
            Stage::Beginning => {
                self.stage = Stage::Running;
                frame(&self.chunks.begin())
            }
            Stage::Running => self.running().await,
            Stage::Done => {
                self.settle();
                return None;
            }
            Stage::Failed { flushes } => {
                self.stage = Stage::Broken;
                if self.flushed_since(flushes).await {
                    self.settle();
                }
                return Some((Err(BrokenOff), self));
            }
            Stage::Broken => return None,
        };
        self.sent = Instant::now();
        Some((Ok(frame), self))
    }

    /// The next frame of a run that goes on.
    async fn running(&mut self) -> Bytes {
        loop {
            match self.event().await {
                Next::Event(RunEvent::Accepted) => {}
                Next::Event(RunEvent::Text(text)) => return frame(&self.chunks.text(&text)),
                Next::Event(RunEvent::Completed(answer)) => {
                    self.stage = Stage::Done;
                    if let Some(subscription) = &self.subscription {
                        self.delivery.succeeded(subscription.place().decision);
                    }
                    return ending(&self.chunks.end(&answer));
                }
                Next::Event(RunEvent::Failed(error)) => return self.failed(error),
                Next::Closing => return self.failed(run::Error::ShuttingDown),
                Next::Silence => match self.delivery.stream.keep_alive {
                    KeepAlive::Comment => return Bytes::from_static(b": keep-alive\n\n"),
                    KeepAlive::Chunk | KeepAlive::Off => return frame(&self.chunks.keep_alive()),
                },
            }
        }
    }

    async fn event(&mut self) -> Next {
        if let Some(event) = self.first.take() {
            return Next::Event(event);
        }
        let Some(subscription) = &mut self.subscription else {
            return Next::Closing;
        };
        let settings = &self.delivery.stream;
        let is_kept_alive = settings.keep_alive != KeepAlive::Off;
        tokio::select! {
            biased;
            event = subscription.next() => Next::Event(event),
            () = self.delivery.stop.closing() => Next::Closing,
            () = sleep_until(self.sent + settings.keep_alive_every), if is_kept_alive => {
                Next::Silence
            }
        }
    }

    fn failed(&mut self, error: run::Error) -> Bytes {
        let error = self.delivery.told(error);
        self.exchange.note.error(error.code());
        let outbox = self.exchange.outbox.as_ref();
        self.stage = Stage::Failed {
            flushes: outbox.map_or(0, |outbox| outbox.flushes()),
        };
        frame(&error.body())
    }

    /// Waits until the caller has what was given away; false if it never will.
    async fn flushed_since(&self, flushes: u64) -> bool {
        match &self.exchange.outbox {
            Some(outbox) => poll_fn(|context| outbox.poll_flushed(context, flushes)).await,
            None => true,
        }
    }

    /// All that is owed has been given away.
    fn settle(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            self.exchange.note.turn(&subscription);
            Receipt::new(move || subscription.delivered())
                .hand_over(self.exchange.outbox.as_deref());
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(subscription) = &self.subscription {
            self.exchange.note.turn(subscription);
        }
    }
}

/// One event; `json` is one line, as JSON without indentation always is.
fn frame(json: &str) -> Bytes {
    debug_assert!(!json.contains(['\n', '\r']), "one event is one line");
    Bytes::from(format!("data: {json}\n\n"))
}

fn ending(chunks: &[String]) -> Bytes {
    let mut frames = String::new();
    for json in chunks.iter().map(String::as_str).chain(["[DONE]"]) {
        frames.push_str("data: ");
        frames.push_str(json);
        frames.push_str("\n\n");
    }
    Bytes::from(frames)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a client reads it: events are ended by an empty line, lines by LF, CR or CRLF.
    fn decoded(frames: &[u8]) -> Vec<String> {
        let text = str::from_utf8(frames)
            .unwrap()
            .replace("\r\n", "\n")
            .replace('\r', "\n");
        text.split_terminator("\n\n")
            .map(|event| event.strip_prefix("data: ").unwrap().to_owned())
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_framed_is_read_again(texts in prop::collection::vec(".*|[\r\n: ]*(data)?", 0..8)) {
            let json: Vec<String> =
                texts.iter().map(|text| serde_json::to_string(text).unwrap()).collect();
            let mut frames: Vec<u8> = json.iter().flat_map(|json| frame(json)).collect();
            frames.extend(ending(&json));

            let read = decoded(&frames);

            let expected: Vec<String> =
                json.iter().chain(&json).cloned().chain(["[DONE]".to_owned()]).collect();
            prop_assert_eq!(&read, &expected);
            for (read, text) in read.iter().zip(&texts) {
                prop_assert_eq!(&serde_json::from_str::<String>(read).unwrap(), text);
            }
        }
    }
}
