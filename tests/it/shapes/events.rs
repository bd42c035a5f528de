//! Streams of responses as clients read them: events, in their order.

use async_openai::types::responses::ResponseStreamEvent;
use chaturdata_proxy::openai::render::{Ending, Event, Fault, Render};
use chaturdata_proxy::openai::responses::{Events, Response, State};
use chaturdata_proxy::run::{self, Answer, Finish};
use serde_json::{Value, json};

use super::responses::{body, response};
use super::{answer, check, with_calls, with_sources};

/// Each event, once its data is what the document's schema says and a strict client can read it.
fn read(events: &[Event]) -> Vec<Value> {
    let read = events.iter().map(|event| {
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(data["type"], event.name.unwrap());
        assert!(!event.data.contains(['\n', '\r']));
        serde_json::from_str::<ResponseStreamEvent>(&event.data).unwrap();
        if let Some(schema) = schema(event.name.unwrap()) {
            check(schema, &data);
        }
        data
    });
    read.collect()
}

/// The document has no schema for the event that tells a source.
fn schema(name: &str) -> Option<&'static str> {
    Some(match name {
        "error" => "ResponseErrorEvent",
        "response.created" => "ResponseCreatedEvent",
        "response.queued" => "ResponseQueuedEvent",
        "response.in_progress" => "ResponseInProgressEvent",
        "response.output_item.added" => "ResponseOutputItemAddedEvent",
        "response.output_item.done" => "ResponseOutputItemDoneEvent",
        "response.content_part.added" => "ResponseContentPartAddedEvent",
        "response.content_part.done" => "ResponseContentPartDoneEvent",
        "response.output_text.delta" => "ResponseTextDeltaEvent",
        "response.output_text.done" => "ResponseTextDoneEvent",
        "response.function_call_arguments.delta" => "ResponseFunctionCallArgumentsDeltaEvent",
        "response.function_call_arguments.done" => "ResponseFunctionCallArgumentsDoneEvent",
        "response.completed" => "ResponseCompletedEvent",
        "response.incomplete" => "ResponseIncompleteEvent",
        "response.failed" => "ResponseFailedEvent",
        other => {
            assert_eq!(other, "response.output_text.annotation.added");
            return None;
        }
    })
}

/// A stream of an answer that came in two pieces, or at once where it is all calls.
fn stream(response: Response, after: Option<u64>, answer: &Answer) -> Vec<Event> {
    let mut events = Events::new(response, after);
    let mut told = events.begin();
    if let Some((first, second)) = answer.text.split_at_checked(5) {
        told.extend(events.text(0, first));
        told.extend(events.text(0, second));
    }
    told.extend(events.end(0, answer));
    told
}

/// A line for each event: its number, its name, and what else is short.
fn lines(events: &[Event]) -> String {
    let line = |data: &Value| {
        let mut short = data.clone();
        let short = short.as_object_mut().unwrap();
        if let Some(response) = short.shift_remove("response") {
            short.insert("status".to_owned(), response["status"].clone());
        }
        Value::Object(std::mem::take(short)).to_string()
    };
    let lines: Vec<_> = read(events).iter().map(line).collect();
    lines.join("\n")
}

#[test]
fn a_stream_tells_the_message_from_its_beginning_to_its_end() {
    let events = stream(response(), None, &answer(Finish::Stop));

    insta::assert_snapshot!(lines(&events), @r#"
    {"type":"response.created","sequence_number":0,"status":"in_progress"}
    {"type":"response.in_progress","sequence_number":1,"status":"in_progress"}
    {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"type":"message","id":"msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000","status":"in_progress","role":"assistant","content":[]}}
    {"type":"response.content_part.added","sequence_number":3,"item_id":"msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000","output_index":0,"content_index":0,"delta":"North","logprobs":[]}
    {"type":"response.output_text.delta","sequence_number":5,"item_id":"msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000","output_index":0,"content_index":0,"delta":"\nleads — by \"far\".","logprobs":[]}
    {"type":"response.output_text.done","sequence_number":6,"item_id":"msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000","output_index":0,"content_index":0,"text":"North\nleads — by \"far\".","logprobs":[]}
    {"type":"response.content_part.done","sequence_number":7,"item_id":"msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000","output_index":0,"content_index":0,"part":{"type":"output_text","text":"North\nleads — by \"far\".","annotations":[],"logprobs":[]}}
    {"type":"response.output_item.done","sequence_number":8,"output_index":0,"item":{"type":"message","id":"msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000","status":"completed","role":"assistant","content":[{"type":"output_text","text":"North\nleads — by \"far\".","annotations":[],"logprobs":[]}]}}
    {"type":"response.completed","sequence_number":9,"status":"completed"}
    "#);
    let last: Value = serde_json::from_str(&events.last().unwrap().data).unwrap();
    assert_eq!(last["response"], body(State::Ended(&answer(Finish::Stop))));
}

#[test]
fn a_stream_tells_each_call() {
    let events = stream(response(), None, &with_calls());

    insta::assert_snapshot!(lines(&events), @r#"
    {"type":"response.created","sequence_number":0,"status":"in_progress"}
    {"type":"response.in_progress","sequence_number":1,"status":"in_progress"}
    {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"type":"function_call","id":"fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000","call_id":"call_1","name":"orders","arguments":"","status":"in_progress"}}
    {"type":"response.function_call_arguments.delta","sequence_number":3,"item_id":"fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000","output_index":0,"delta":"{\"region\":\"North\"}"}
    {"type":"response.function_call_arguments.done","sequence_number":4,"item_id":"fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000","output_index":0,"name":"orders","arguments":"{\"region\":\"North\"}"}
    {"type":"response.output_item.done","sequence_number":5,"output_index":0,"item":{"type":"function_call","id":"fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000","call_id":"call_1","name":"orders","arguments":"{\"region\":\"North\"}","status":"completed"}}
    {"type":"response.output_item.added","sequence_number":6,"output_index":1,"item":{"type":"function_call","id":"fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000001","call_id":"call_2","name":"orders","arguments":"","status":"in_progress"}}
    {"type":"response.function_call_arguments.delta","sequence_number":7,"item_id":"fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000001","output_index":1,"delta":"{\"region\":\"South\"}"}
    {"type":"response.function_call_arguments.done","sequence_number":8,"item_id":"fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000001","output_index":1,"name":"orders","arguments":"{\"region\":\"South\"}"}
    {"type":"response.output_item.done","sequence_number":9,"output_index":1,"item":{"type":"function_call","id":"fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000001","call_id":"call_2","name":"orders","arguments":"{\"region\":\"South\"}","status":"completed"}}
    {"type":"response.completed","sequence_number":10,"status":"completed"}
    "#);
}

#[test]
fn a_stream_tells_sources_before_the_text_is_done() {
    let events = stream(response(), None, &with_sources());

    let names: Vec<_> = events.iter().filter_map(|event| event.name).collect();
    let source = names
        .iter()
        .position(|name| name.ends_with("annotation.added"));
    let done = names
        .iter()
        .position(|name| *name == "response.output_text.done");
    assert_eq!(source.map(|source| source + 1), done);
    read(&events);
}

#[test]
fn a_response_in_the_background_is_queued_first() {
    let response = Response {
        background: true,
        ..response()
    };

    let events = read(&Events::new(response, None).begin());

    let told: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event["type"].as_str().unwrap(),
                &event["response"]["status"],
            )
        })
        .collect();
    assert_eq!(
        json!(told),
        json!([
            ["response.created", "queued"],
            ["response.queued", "queued"],
            ["response.in_progress", "in_progress"]
        ])
    );
}

#[test]
fn a_stream_may_end_in_more_than_one_way() {
    let failed = run::Error::Failed(String::new());
    let ends = [
        Events::new(response(), None).end(0, &answer(Finish::Length)),
        Events::new(response(), None).end(0, &Answer::default()),
        Events::new(response(), None).failed(&fault(&failed)).0,
        Events::new(response(), None)
            .failed(&fault(&run::Error::Timeout))
            .0,
    ];

    let last: Vec<_> = ends
        .iter()
        .map(|events| read(events).pop().unwrap()["type"].take())
        .collect();

    assert_eq!(
        json!(last),
        json!([
            "response.incomplete",
            "response.completed",
            "response.failed",
            "error"
        ])
    );
    assert_eq!(ends[1].len(), 6, "{}", lines(&ends[1]));
}

#[test]
fn a_stream_taken_up_again_has_the_same_events_from_there() {
    for answer in [answer(Finish::Stop), with_calls(), with_sources()] {
        let all = stream(response(), None, &answer);
        for after in 0..all.len() - 1 {
            let rest = stream(response(), u64::try_from(after).ok(), &answer);

            assert_eq!(rest, all[after + 1..], "after {after}");
        }
    }
}

#[test]
fn the_end_is_told_to_a_caller_that_has_more_events_than_there_are() {
    let of = |end: fn(&mut Events) -> Vec<Event>| {
        let mut events = Events::new(response(), Some(40));
        assert!(events.begin().is_empty());
        assert!(events.text(0, "North").is_empty());
        read(&end(&mut events))
    };
    for told in [
        of(|events| events.end(0, &answer(Finish::Stop))),
        of(|events| events.end(0, &with_calls())),
        of(|events| events.failed(&fault(&run::Error::Internal)).0),
        of(|events| events.failed(&fault(&run::Error::Timeout)).0),
    ] {
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["sequence_number"], 41);
    }
}

#[test]
fn a_stream_is_broken_off_where_its_run_goes_on() {
    for (error, ending) in [
        (run::Error::Timeout, Ending::BrokenOff),
        (run::Error::ShuttingDown, Ending::BrokenOff),
        (run::Error::Failed(String::new()), Ending::Whole),
        (run::Error::Expired, Ending::Whole),
    ] {
        let (_, told) = Events::new(response(), None).failed(&fault(&error));

        assert_eq!(told, ending, "{error}");
    }
}

fn fault(error: &run::Error) -> Fault<'_> {
    Fault {
        error,
        message: "not yet",
        code: "run_timeout",
        envelope: "{}",
    }
}
