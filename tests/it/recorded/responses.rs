//! Requests about responses.

use chaturdata_proxy::openai::list::Paging;
use chaturdata_proxy::openai::responses::{Asked, ResponseRequest, Retrieval};
use chaturdata_proxy::openai::{Error, Policy};

use super::{query, read, told};
use crate::goldens::{Golden, envelope, turn};

fn asked(golden: &Golden) -> Result<Asked, Error> {
    let request: ResponseRequest = read(&golden.body);
    request.into_turn(envelope(golden), &Policy::default())
}

fn line(golden: &Golden) -> String {
    let Golden { method, path, .. } = golden;
    match (method.as_str(), path.as_str()) {
        ("POST", "/v1/responses") => match asked(golden) {
            Ok(asked) => request(&asked),
            Err(error) => format!("{:?} {:?}", error.reason, error.param),
        },
        ("POST", "/v1/responses/input_tokens") => {
            let request: ResponseRequest = read(&golden.body);
            format!(
                "{} tokens",
                request.into_tokens(&Policy::default()).unwrap()
            )
        }
        ("GET", path) if path.contains("/input_items") => {
            format!("{:?}", Paging::read(&query(path)).unwrap())
        }
        ("GET", path) => format!("{:?}", Retrieval::read(&query(path)).unwrap()),
        (method, path) => {
            assert!(golden.body.is_null());
            format!("{method} {path}")
        }
    }
}

fn request(asked: &Asked) -> String {
    let mut lines = Vec::new();
    if asked.stream {
        lines.push("stream".to_owned());
    }
    if asked.background {
        lines.push("background".to_owned());
    }
    if !asked.store {
        lines.push("not stored".to_owned());
    }
    lines.push(format!("{:?}", asked.turn.base));
    lines.extend(turn(&asked.turn));
    if !asked.ignored.is_empty() {
        lines.push(format!("ignored {}", asked.ignored.join(", ")));
    }
    lines.join("\n  ")
}

#[test]
fn requests_for_responses_become_the_turns_they_mean() {
    insta::assert_snapshot!(told("responses", line));
}
