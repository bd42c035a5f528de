//! Requests about conversations.

use chaturdata_proxy::openai::conversations::ConversationRequest;
use chaturdata_proxy::openai::list::Paging;
use serde_json::Value;

use super::{query, read, told};
use crate::goldens::Golden;

fn line(golden: &Golden) -> String {
    let Golden { method, path, .. } = golden;
    let (place, _) = path.split_once('?').unwrap_or((path, ""));
    let request = || read::<ConversationRequest>(&golden.body);
    match (method.as_str(), place.matches('/').count()) {
        ("POST", 2) => format!("{:?}", request().into_beginning().unwrap()),
        ("POST", 3) => format!("{:?}", request().into_metadata().unwrap()),
        ("POST", 4) => format!("{:?}", request().into_entries().unwrap()),
        ("GET", 4) => format!("{:?}", Paging::read(&query(path)).unwrap()),
        (method, _) => {
            assert_eq!(golden.body, Value::Null);
            format!("{method} {path}")
        }
    }
}

#[test]
fn requests_about_conversations_say_what_they_mean() {
    insta::assert_snapshot!(told("conversations", line), @"");
}
