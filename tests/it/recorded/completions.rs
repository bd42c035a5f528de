//! Requests for legacy completions.

use chaturdata_proxy::openai::Policy;
use chaturdata_proxy::openai::completions::CompletionRequest;

use super::{read, told};
use crate::goldens::{Golden, envelope, turn};

fn line(golden: &Golden) -> String {
    assert_eq!(golden.path, "/v1/completions");
    let request: CompletionRequest = read(&golden.body);
    let asked = request
        .into_turns(envelope(golden), &Policy::default())
        .unwrap();
    let mut lines = Vec::new();
    if asked.stream {
        lines.push(format!("stream, usage {}", asked.include_usage));
    }
    lines.extend(asked.turns.iter().flat_map(turn));
    if !asked.ignored.is_empty() {
        lines.push(format!("ignored {}", asked.ignored.join(", ")));
    }
    lines.join("\n  ")
}

#[test]
fn requests_for_completions_become_the_turns_they_mean() {
    insta::assert_snapshot!(told("completions", line), @"");
}
