//! A response as one body, or as a stream of numbered events, equal whenever they are told again.

use std::sync::Arc;

use serde::Serialize;

use super::response::{Failure, Response, State};
use crate::openai::items::{Citation, Item, Part, Status};
use crate::openai::render::{Ending, Event, Fault, Render, json};
use crate::run::{self, Answer};

/// Tells a response: as one body, or event by event.
#[derive(Clone, Debug)]
pub struct Events {
    response: Response,
    /// The number of the next event.
    next: u64,
    /// Events before this one are not told.
    from: u64,
    /// The message has begun.
    speaks: bool,
}

impl Render for Events {
    fn body(&self, answers: &[Arc<Answer>]) -> String {
        let first = answers.first();
        let state = first.map_or(State::InProgress, |answer| State::Ended(answer));
        json(&self.response.body(state))
    }

    fn begin(&mut self) -> Vec<Event> {
        let first = if self.response.background {
            State::Queued
        } else {
            State::InProgress
        };
        let mut told = Told::default();
        self.whole("response.created", first, &mut told);
        if self.response.background {
            self.whole("response.queued", State::Queued, &mut told);
        }
        self.whole("response.in_progress", State::InProgress, &mut told);
        told.0
    }

    fn text(&mut self, _: usize, text: &str) -> Vec<Event> {
        let mut told = Told::default();
        self.speak(&mut told);
        let id = self.message_id();
        let delta = Delta {
            place: Place::message(&id),
            delta: text,
            logprobs: [],
        };
        self.tell("response.output_text.delta", &delta, &mut told);
        told.0
    }

    /// Comments serve.
    fn keep_alive(&mut self) -> Option<Event> {
        None
    }

    fn end(&mut self, _: usize, answer: &Answer) -> Vec<Event> {
        let mut told = Told::default();
        if answer.calls.is_empty() {
            self.speak(&mut told);
            self.spoken(answer, &mut told);
        } else {
            self.calls(answer, &mut told);
        }
        self.last();
        let state = State::Ended(answer);
        let name = match state.word() {
            "incomplete" => "response.incomplete",
            _ => "response.completed",
        };
        self.whole(name, state, &mut told);
        told.0
    }

    fn close(&mut self, _: &[Arc<Answer>]) -> Vec<Event> {
        Vec::new()
    }

    fn failed(&mut self, fault: &Fault<'_>) -> (Vec<Event>, Ending) {
        let mut told = Told::default();
        self.last();
        let ending = match fault.error {
            // The run goes on.
            run::Error::Timeout | run::Error::ShuttingDown => {
                let error = Broken {
                    code: fault.code,
                    message: fault.message,
                    param: None,
                };
                self.tell("error", &error, &mut told);
                Ending::BrokenOff
            }
            error => {
                let failure = Failure::new(error, fault.message.to_owned());
                let state = State::of_failure(error, &failure);
                self.whole("response.failed", state, &mut told);
                Ending::Whole
            }
        };
        (told.0, ending)
    }
}

impl Events {
    /// A stream that goes on behind the event with the number `after`.
    pub fn new(response: Response, after: Option<u64>) -> Self {
        Self {
            response,
            next: 0,
            from: after.map_or(0, |after| after.saturating_add(1)),
            speaks: false,
        }
    }

    /// Begins the message, where it has not begun: a response may be all calls.
    fn speak(&mut self, told: &mut Told) {
        if std::mem::replace(&mut self.speaks, true) {
            return;
        }
        let id = self.message_id();
        let item = Item::message(id.clone(), Status::InProgress, Vec::new());
        let added = ItemEvent {
            output_index: 0,
            item: &item,
        };
        self.tell("response.output_item.added", &added, told);
        let part = PartEvent {
            place: Place::message(&id),
            part: &Part::output("", Vec::new()),
        };
        self.tell("response.content_part.added", &part, told);
    }

    /// The message is whole.
    fn spoken(&mut self, answer: &Answer, told: &mut Told) {
        let id = self.message_id();
        let place = Place::message(&id);
        let sources = Citation::all(answer);
        for (annotation_index, annotation) in sources.iter().enumerate() {
            let source = Source {
                place,
                annotation_index,
                annotation,
            };
            self.tell("response.output_text.annotation.added", &source, told);
        }
        let text = Whole {
            place,
            text: &answer.text,
            logprobs: [],
        };
        self.tell("response.output_text.done", &text, told);
        let part = PartEvent {
            place,
            part: &Part::output(&answer.text, sources),
        };
        self.tell("response.content_part.done", &part, told);
        for item in &self.response.output(answer) {
            let output_index = 0;
            let done = ItemEvent { output_index, item };
            self.tell("response.output_item.done", &done, told);
        }
    }

    fn calls(&mut self, answer: &Answer, told: &mut Told) {
        let items = self.response.output(answer);
        for (output_index, (item, call)) in items.iter().zip(&answer.calls).enumerate() {
            let begun = ItemEvent {
                output_index,
                item: &item.begun(),
            };
            self.tell("response.output_item.added", &begun, told);
            let item_id = item.id();
            let delta = ArgumentsDelta {
                item_id,
                output_index,
                delta: &call.arguments,
            };
            self.tell("response.function_call_arguments.delta", &delta, told);
            let done = ArgumentsDone {
                item_id,
                output_index,
                name: &call.name,
                arguments: &call.arguments,
            };
            self.tell("response.function_call_arguments.done", &done, told);
            let done = ItemEvent { output_index, item };
            self.tell("response.output_item.done", &done, told);
        }
    }

    fn message_id(&self) -> String {
        self.response.ids().next("msg_")
    }

    fn whole(&mut self, name: &'static str, state: State<'_>, told: &mut Told) {
        if let Some(sequence_number) = self.number() {
            let response = self.response.body(state);
            told.push(name, sequence_number, &ResponseEvent { response });
        }
    }

    /// The event that ends a stream is always told: after a restart the answer may come in fewer
    /// pieces, and the stream be shorter than what its caller has of it.
    fn last(&mut self) {
        self.next = self.next.max(self.from);
    }

    fn tell(&mut self, name: &'static str, says: &impl Serialize, told: &mut Told) {
        if let Some(sequence_number) = self.number() {
            told.push(name, sequence_number, says);
        }
    }

    /// The number of the next event; `None` where its caller has that event already.
    fn number(&mut self) -> Option<u64> {
        let number = self.next;
        self.next += 1;
        (number >= self.from).then_some(number)
    }
}

#[derive(Default)]
struct Told(Vec<Event>);

impl Told {
    fn push(&mut self, name: &'static str, sequence_number: u64, says: &impl Serialize) {
        let numbered = Numbered {
            r#type: name,
            sequence_number,
            says,
        };
        self.0.push(Event {
            name: Some(name),
            data: json(&numbered),
        });
    }
}

#[derive(Serialize)]
struct Numbered<'a, T> {
    r#type: &'static str,
    sequence_number: u64,
    #[serde(flatten)]
    says: &'a T,
}

#[derive(Serialize)]
struct ResponseEvent<T> {
    response: T,
}

#[derive(Serialize)]
struct ItemEvent<'a> {
    output_index: usize,
    item: &'a Item,
}

/// Where a text stands: a response has one message, and that one part.
#[derive(Clone, Copy, Serialize)]
struct Place<'a> {
    item_id: &'a str,
    output_index: usize,
    content_index: usize,
}

impl<'a> Place<'a> {
    fn message(item_id: &'a str) -> Self {
        Self {
            item_id,
            output_index: 0,
            content_index: 0,
        }
    }
}

#[derive(Serialize)]
struct PartEvent<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    part: &'a Part,
}

#[derive(Serialize)]
struct Delta<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    delta: &'a str,
    logprobs: [(); 0],
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    text: &'a str,
    logprobs: [(); 0],
}

#[derive(Serialize)]
struct Source<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    annotation_index: usize,
    annotation: &'a Citation,
}

#[derive(Serialize)]
struct ArgumentsDelta<'a> {
    item_id: &'a str,
    output_index: usize,
    delta: &'a str,
}

#[derive(Serialize)]
struct ArgumentsDone<'a> {
    item_id: &'a str,
    output_index: usize,
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Broken<'a> {
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
}
