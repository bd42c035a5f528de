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
    insta::assert_snapshot!(told("conversations", line), @r#"
    openai-node create
      ({"team": "sales"}, [Said(Message { role: User, text: "Orders?", calls: [], answers: None, parts: [] })])
    openai-node delete
      DELETE /v1/conversations/conv_1
    openai-node items-create
      [Said(Message { role: User, text: "Hi", calls: [], answers: None, parts: [] })]
    openai-node items-list
      Paging { limit: 10, order: Descending, after: None }
    openai-node update
      {"team": "ops"}
    openai-python create
      ({"team": "sales"}, [Said(Message { role: User, text: "Orders?", calls: [], answers: None, parts: [] }), Said(Message { role: Assistant, text: "Three.", calls: [], answers: None, parts: [] })])
    openai-python delete
      DELETE /v1/conversations/conv_1
    openai-python items-create
      [Said(Message { role: User, text: "Hi", calls: [], answers: None, parts: [] })]
    openai-python items-delete
      DELETE /v1/conversations/conv_1/items/msg_1
    openai-python items-list
      Paging { limit: 10, order: Ascending, after: Some("msg_0") }
    openai-python items-retrieve
      GET /v1/conversations/conv_1/items/msg_1
    openai-python retrieve
      GET /v1/conversations/conv_1
    openai-python update
      {"team": "ops"}
    "#);
}
