//! Conversations as clients read them.

use async_openai::types::responses::{
    ConversationItemList, ConversationResource, DeleteConversationResponse,
};
use chaturdata_proxy::openai::conversations::{ConversationRequest, conversation, deleted};
use chaturdata_proxy::openai::items::{Ids, Item, Side};
use chaturdata_proxy::openai::list::{Paging, list};
use serde_json::json;

use super::told;

fn request(body: &serde_json::Value) -> ConversationRequest {
    serde_json::from_value(body.clone()).unwrap()
}

#[test]
fn a_conversation_is_told_with_what_is_noted_on_it() {
    let body = json!({"metadata": {"team": "sales"}, "items": [{"role": "user", "content": "a"}]});
    let (metadata, entries) = request(&body).into_beginning().unwrap();
    assert_eq!(entries.len(), 1);

    let body = conversation("conv_1", 1_764_000_000, &metadata);

    let body = told::<ConversationResource>("ConversationResource", body);
    assert_eq!(
        body,
        json!({"id": "conv_1", "object": "conversation", "created_at": 1_764_000_000,
            "metadata": {"team": "sales"}})
    );
    told::<DeleteConversationResponse>("DeletedConversationResource", deleted("conv_1"));
}

#[test]
fn items_are_told_page_by_page_as_they_came() {
    let items = json!({"items": [
        {"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "3"},
        {"role": "assistant", "content": "b"},
    ]});
    let entries = request(&items).into_entries().unwrap();
    let mut ids = Ids::new([1; 16], Side::Input);
    let items: Vec<Item> = entries
        .iter()
        .flat_map(|entry| Item::of(entry, &mut ids))
        .collect();
    let query = |query: &[(&str, &str)]| {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let query: Vec<_> = query.iter().map(owned).collect();
        let page = Paging::read(&query).unwrap().page(items.clone()).unwrap();
        told::<ConversationItemList>("ConversationItemList", page)
    };

    let all = told::<ConversationItemList>("ConversationItemList", list(items.clone()));
    assert_eq!(all, query(&[("order", "asc")]));
    let newest = query(&[("limit", "2"), ("include[]", "x")]);
    let after = newest["last_id"].as_str().unwrap();
    let rest = query(&[("after", after)]);
    let none = query(&[("after", rest["last_id"].as_str().unwrap())]);

    assert_eq!(
        (&newest["has_more"], &rest["has_more"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(none["data"], json!([]));
    insta::assert_snapshot!(format!("{:#}", query(&[("order", "asc")])), @r#"
    {
      "object": "list",
      "data": [
        {
          "type": "message",
          "id": "msg_0101010101010101010101010101010100000000",
          "status": "completed",
          "role": "developer",
          "content": [
            {
              "type": "input_text",
              "text": "d"
            }
          ]
        },
        {
          "type": "message",
          "id": "msg_0101010101010101010101010101010100000001",
          "status": "completed",
          "role": "user",
          "content": [
            {
              "type": "input_text",
              "text": "a"
            }
          ]
        },
        {
          "type": "function_call",
          "id": "fc_0101010101010101010101010101010100000002",
          "call_id": "c",
          "name": "f",
          "arguments": "{}",
          "status": "completed"
        },
        {
          "type": "function_call_output",
          "id": "fco_0101010101010101010101010101010100000003",
          "call_id": "c",
          "output": "3",
          "status": "completed"
        },
        {
          "type": "message",
          "id": "msg_0101010101010101010101010101010100000004",
          "status": "completed",
          "role": "assistant",
          "content": [
            {
              "type": "output_text",
              "text": "b",
              "annotations": [],
              "logprobs": []
            }
          ]
        }
      ],
      "first_id": "msg_0101010101010101010101010101010100000000",
      "last_id": "msg_0101010101010101010101010101010100000004",
      "has_more": false
    }
    "#);
}

#[test]
fn an_empty_list_has_no_page_to_turn() {
    let page = Paging::read(&[]).unwrap().page(Vec::new()).unwrap();

    let page = told::<ConversationItemList>("ConversationItemList", page);

    assert_eq!(
        page,
        json!({"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": false})
    );
}
