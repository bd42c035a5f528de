//! An answer as a stream of server-sent events: begun early, kept alive, ended by its own last frame
//! or by an error frame and a broken body, never in silence.

use std::future::poll_fn;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::time::{Instant, sleep_until};

use super::choices::Choices;
use super::exchange::{Delivery, Exchange};
use super::listener::Receipt;
use crate::config::KeepAlive;
use crate::openai::render::{Ending, Event, Fault, Render};
use crate::run::{self, RunEvent};

const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A stream that may begin: its run is accepted, or it has waited long enough.
pub struct Opening {
    pub choices: Choices,
    /// What was seen of the runs before the stream could begin.
    pub first: Option<(usize, RunEvent)>,
}

/// The response; its body does the rest.
pub fn respond(
    opening: Opening,
    render: impl Render,
    delivery: Delivery,
    exchange: Exchange,
) -> Response {
    let stream = Stream {
        exchange,
        delivery,
        choices: Some(opening.choices),
        render,
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

struct Stream<R> {
    /// `None` once they are settled.
    choices: Option<Choices>,
    render: R,
    first: Option<(usize, RunEvent)>,
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
    /// The last frame was given away.
    Done,
    /// An error frame was given away after so many flushes.
    Failed {
        flushes: u64,
    },
    Broken,
}

enum Next {
    Event(usize, RunEvent),
    Silence,
    Closing,
}

impl<R: Render> Stream<R> {
    async fn next(mut self: Box<Self>) -> Option<(Result<Bytes, BrokenOff>, Box<Self>)> {
        let mut frames = Frames::default();
        if let Stage::Beginning = self.stage {
            frames.events(&self.render.begin());
            self.stage = Stage::Running;
        }
        // A stream that is taken up again has frames that are not told twice.
        while frames.0.is_empty() && matches!(self.stage, Stage::Running) {
            self.running(&mut frames).await;
        }
        if !frames.0.is_empty() {
            self.sent = Instant::now();
            return Some((Ok(Bytes::from(frames.0)), self));
        }
        match self.stage {
            Stage::Done => {
                self.settle();
                None
            }
            Stage::Failed { flushes } => {
                self.stage = Stage::Broken;
                if self.flushed_since(flushes).await {
                    self.settle();
                }
                Some((Err(BrokenOff), self))
            }
            Stage::Beginning | Stage::Running | Stage::Broken => None,
        }
    }

    /// The frames of what happens next to runs that go on.
    async fn running(&mut self, frames: &mut Frames) {
        match self.event().await {
            Next::Event(_, RunEvent::Accepted) => {}
            Next::Event(index, RunEvent::Text(text)) => {
                frames.events(&self.render.text(index, &text));
            }
            Next::Event(index, RunEvent::Completed(answer)) => {
                frames.events(&self.render.end(index, &answer));
                self.close(frames);
            }
            Next::Event(_, RunEvent::Failed(error)) => self.failed(&error, frames),
            Next::Closing => self.failed(&run::Error::ShuttingDown, frames),
            Next::Silence => self.keep_alive(frames),
        }
    }

    async fn event(&mut self) -> Next {
        if let Some((index, event)) = self.first.take() {
            return Next::Event(index, event);
        }
        let Some(choices) = &mut self.choices else {
            return Next::Closing;
        };
        let settings = &self.delivery.stream;
        let is_kept_alive = settings.keep_alive != KeepAlive::Off;
        tokio::select! {
            biased;
            (index, event) = choices.next() => Next::Event(index, event),
            () = self.delivery.stop.closing() => Next::Closing,
            () = sleep_until(self.sent + settings.keep_alive_every), if is_kept_alive => {
                Next::Silence
            }
        }
    }

    /// Ends the stream if all answers are whole.
    fn close(&mut self, frames: &mut Frames) {
        let choices = self.choices.as_ref();
        let Some((answers, place)) = choices.and_then(|it| Some((it.all()?, it.place()))) else {
            return;
        };
        self.delivery.succeeded(place.decision);
        frames.events(&self.render.close(&answers));
        self.stage = Stage::Done;
    }

    fn keep_alive(&mut self, frames: &mut Frames) {
        let event = match self.delivery.stream.keep_alive {
            KeepAlive::Comment => None,
            KeepAlive::Chunk | KeepAlive::Off => self.render.keep_alive(),
        };
        match event {
            Some(event) => frames.event(&event),
            None => frames.comment("keep-alive"),
        }
    }

    fn failed(&mut self, error: &run::Error, frames: &mut Frames) {
        let told = self.delivery.told(error.clone());
        self.exchange.note.error(told.code());
        let (events, ending) = self.render.failed(&Fault {
            error,
            message: &told.message(),
            code: told.code(),
            envelope: &told.body(),
        });
        frames.events(&events);
        let outbox = self.exchange.outbox.as_ref();
        self.stage = match ending {
            Ending::Whole => Stage::Done,
            Ending::BrokenOff => Stage::Failed {
                flushes: outbox.map_or(0, |outbox| outbox.flushes()),
            },
        };
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
        if let Some(choices) = self.choices.take() {
            self.exchange.note.turn(&choices);
            Receipt::new(move || choices.delivered()).hand_over(self.exchange.outbox.as_deref());
        }
    }
}

impl<R> Drop for Stream<R> {
    fn drop(&mut self) {
        if let Some(choices) = &self.choices {
            self.exchange.note.turn(choices);
        }
    }
}

/// Events that are given away together. Each has its data in one line, as JSON without indentation
/// always is.
#[derive(Debug, Default)]
struct Frames(String);

impl Frames {
    fn events(&mut self, events: &[Event]) {
        events.iter().for_each(|event| self.event(event));
    }

    fn event(&mut self, event: &Event) {
        let data = &event.data;
        debug_assert!(!data.contains(['\n', '\r']), "data is one line");
        if let Some(name) = event.name {
            self.line("event", name);
        }
        self.line("data", data);
        self.0.push('\n');
    }

    /// What is no event, and is read over.
    fn comment(&mut self, text: &str) {
        self.line("", text);
        self.0.push('\n');
    }

    fn line(&mut self, field: &str, value: &str) {
        for part in [field, ": ", value, "\n"] {
            self.0.push_str(part);
        }
    }
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
            let mut frames = Frames::default();
            let events: Vec<Event> = json.iter().map(Event::unnamed).collect();
            frames.events(&events);

            let read = decoded(frames.0.as_bytes());

            prop_assert_eq!(&read, &json);
            for (read, text) in read.iter().zip(&texts) {
                prop_assert_eq!(&serde_json::from_str::<String>(read).unwrap(), text);
            }
        }
    }
}
