//! What a request asks and tells: text, items, and items that are only named.

use super::request::Input;
use crate::conversation::{Message, Role};
use crate::ids::ResponseId;
use crate::openai::Error;
use crate::openai::content::Place;
use crate::openai::items::{self, ItemId, Side, push};
use crate::openai::messages::Entry;

/// The input, read.
pub struct Heard {
    pub entries: Vec<Entry>,
    /// The response whose output the input names last: what stands before is what it followed on.
    pub base: Option<ResponseId>,
}

/// Reads the items, and says which of them cannot be used.
pub fn heard(input: Option<Input>, known: Known) -> Result<Heard, Error> {
    let mut heard = Heard {
        entries: Vec::new(),
        base: None,
    };
    let items = match input {
        None => return Err(Error::invalid("input", "input is missing")),
        Some(Input::Text(text)) => {
            heard
                .entries
                .push(Entry::Said(Message::said(Role::User, text)));
            return Ok(heard);
        }
        Some(Input::Items(items)) => items,
    };
    let mut unfounded = None;
    for (index, item) in items.into_iter().enumerate() {
        let list = "input";
        let place = Place { list, index };
        match item.heard(place)? {
            items::Heard::Nothing => {}
            items::Heard::Entry(entry) => push(&mut heard.entries, entry),
            items::Heard::Reference(id) => match ItemId::parse(&id) {
                None => return Err(unheard_of(place)),
                Some(_) if known == Known::All => {}
                Some(id) if id.side == Side::Output => {
                    let is_instruction = |entry: &Entry| matches!(entry, Entry::Instructions(..));
                    heard.entries.retain(is_instruction);
                    heard.base = Some(ResponseId(id.origin));
                    unfounded = None;
                }
                // The output behind it may say where it belongs.
                Some(_) => unfounded = unfounded.or(Some(place)),
            },
        }
    }
    unfounded.map_or(Ok(heard), |place| Err(unheard_of(place)))
}

/// What is known of the items that an input only names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The thread holds them.
    All,
    /// As much as their ids say.
    Ids,
}

fn unheard_of(place: Place) -> Error {
    let path = place.of("id");
    let message = format!("{path} names an item that is not known here");
    Error::invalid(path, message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::openai::Reason;

    const R1: &str = "msg_0101010101010101010101010101010180000000";
    const R2: &str = "fc_0202020202020202020202020202020280000001";
    const INPUT_OF_R1: &str = "msg_0101010101010101010101010101010100000000";

    fn read(input: &Value, known: Known) -> Result<Heard, Error> {
        heard(serde_json::from_value(input.clone()).unwrap(), known)
    }

    /// A line for each entry, for comparing.
    fn lines(heard: &Heard) -> Vec<String> {
        let line = |entry: &Entry| match entry {
            Entry::Instructions(author, text) => format!("{author:?} {text}"),
            Entry::Said(message) => {
                let calls = message.calls.iter();
                let calls: String = calls
                    .map(|call| format!("[{} {} {}]", call.id, call.name, call.arguments))
                    .collect();
                let answers = message.answers.as_deref().unwrap_or_default();
                format!("{:?}{answers} {}{calls}", message.role, message.text)
            }
        };
        heard.entries.iter().map(line).collect()
    }

    fn check(input: &Value, expected: &[&str]) {
        let heard = read(input, Known::Ids).unwrap();

        assert_eq!(lines(&heard), expected, "{input}");
        assert_eq!(heard.base, None, "{input}");
    }

    #[test]
    fn messages_are_read_in_every_form() {
        check(&json!("Hi"), &["User Hi"]);
        check(&json!([{"role": "user", "content": "Hi"}]), &["User Hi"]);
        check(
            &json!([{"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]}]),
            &["User a\nb"],
        );
        check(
            &json!([{"role": "system", "content": "s"},
                {"type": "message", "role": "developer", "content": [
                    {"type": "input_text", "text": "d"}]}]),
            &["System s", "Developer d"],
        );
        check(
            &json!([{"id": R1, "type": "message", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
                    {"type": "refusal", "refusal": "No."}]},
                {"role": "assistant", "content": "b", "phase": "final_answer"}]),
            &["Assistant a\nNo.", "Assistant b"],
        );
    }

    #[test]
    fn calls_belong_to_the_message_they_stand_behind() {
        let call = |id: &str| {
            json!({"type": "function_call", "id": "fc_1", "call_id": id, "name": "f",
                "arguments": "{}", "status": "completed"})
        };
        let output = json!({"type": "function_call_output", "call_id": "c1", "output": "3"});
        check(
            &json!([{"role": "user", "content": "a"}, call("c1"), call("c2"), output]),
            &["User a", "Assistant [c1 f {}][c2 f {}]", "Toolc1 3"],
        );
        check(
            &json!([{"role": "assistant", "content": "a"}, call("c1"), output, call("c2")]),
            &["Assistant a[c1 f {}]", "Toolc1 3", "Assistant [c2 f {}]"],
        );
        check(
            &json!([{"type": "function_call_output", "call_id": "c1", "output": [
                {"type": "input_text", "text": "3"}]}]),
            &["Toolc1 3"],
        );
    }

    #[test]
    fn reasoning_says_nothing() {
        check(
            &json!([{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x",
                "content": [{"type": "reasoning_text", "text": "hm"}]},
                {"role": "user", "content": "a"}]),
            &["User a"],
        );
    }

    #[test]
    fn an_output_that_is_named_says_where_the_thread_stands() {
        let reference = |id: &str| json!({"type": "item_reference", "id": id});
        for (input, known, left, base) in [
            (
                json!([{"role": "developer", "content": "d"}, {"role": "user", "content": "a"},
                    reference(R1), {"role": "user", "content": "b"}]),
                Known::Ids,
                vec!["Developer d", "User b"],
                Some([1; 16]),
            ),
            (
                json!([reference(INPUT_OF_R1), {"id": R1}, {"role": "user", "content": "b"},
                    {"id": R2, "type": null},
                    {"type": "function_call_output", "call_id": "c", "output": "3"}]),
                Known::Ids,
                vec!["Toolc 3"],
                Some([2; 16]),
            ),
            (
                json!([{"role": "user", "content": "a"}, reference(R1), reference(INPUT_OF_R1),
                    {"role": "user", "content": "b"}]),
                Known::All,
                vec!["User a", "User b"],
                None,
            ),
        ] {
            let heard = read(&input, known).unwrap();

            assert_eq!(lines(&heard), left, "{input}");
            assert_eq!(heard.base, base.map(ResponseId), "{input}");
        }
    }

    #[test]
    fn an_item_that_cannot_be_used_is_refused_by_its_place() {
        use Reason::{InvalidValue, Unsupported};
        for (item, reason, param) in [
            (
                json!({"type": "item_reference", "id": "msg_5"}),
                InvalidValue,
                "input[1].id",
            ),
            (
                json!({"type": "item_reference", "id": INPUT_OF_R1}),
                InvalidValue,
                "input[1].id",
            ),
            (json!({}), InvalidValue, "input[1].role"),
            (json!({"type": "message"}), InvalidValue, "input[1].role"),
            (json!({"role": "tool"}), InvalidValue, "input[1].role"),
            (json!({"role": "user"}), InvalidValue, "input[1].content"),
            (
                json!({"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}),
                Unsupported,
                "input[1].content[0]",
            ),
            (
                json!({"type": "function_call", "name": "f"}),
                InvalidValue,
                "input[1].call_id",
            ),
            (
                json!({"type": "function_call", "call_id": "c"}),
                InvalidValue,
                "input[1].name",
            ),
            (
                json!({"type": "function_call_output", "call_id": "c"}),
                InvalidValue,
                "input[1].output",
            ),
            (
                json!({"type": "function_call_output", "output": "3"}),
                InvalidValue,
                "input[1].call_id",
            ),
            (
                json!({"type": "web_search_call", "id": "ws_1"}),
                Unsupported,
                "input[1]",
            ),
        ] {
            let input = json!([{"role": "user", "content": "a"}, item]);

            let error = read(&input, Known::Ids).map(|_| ()).unwrap_err();

            assert_eq!(error.param.as_deref(), Some(param), "{input}");
            assert_eq!(error.reason, reason, "{input}");
        }
    }
}
