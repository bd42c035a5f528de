//! What a request calls its conversation and its user, wherever it says so.

use std::sync::Arc;

use serde_json::Value;

use super::fields::Fields;
use super::{Envelope, Error};
use crate::conversation::Names;
use crate::ids::Handle;

/// The fields that may name a conversation, in the body or under its `metadata`; the first wins.
pub const HANDLE_FIELDS: [&str; 5] = [
    "conversation",
    "conversation_id",
    "thread_id",
    "session_id",
    "chat_id",
];

/// A handle has at most this many bytes.
pub const LONGEST: usize = 256;

/// The names that a request gives, in its head or its body.
pub fn names(envelope: &Envelope, fields: Fields<'_>) -> Result<Names, Error> {
    let narrow = envelope.narrow.as_ref();
    Ok(Names {
        handle: handle(envelope.handle.as_deref(), fields)?,
        narrow: narrow.filter(|name| !is_placeholder(name)).cloned(),
        users: users(&envelope.users, fields)?,
        side_call: envelope.side_call.clone(),
    })
}

/// The conversation that the field of this name names, as OpenAI has it.
pub fn conversation(fields: Fields<'_>) -> Result<Option<Handle>, Error> {
    let named = fields.value("conversation");
    named.map_or(Ok(None), |value| handle_in(value, "conversation"))
}

fn handle(header: Option<&str>, fields: Fields<'_>) -> Result<Option<Handle>, Error> {
    if let Some(name) = header.filter(|name| !is_placeholder(name)) {
        return named(name, "X-Conversation-Id").map(Some);
    }
    let metadata = fields.object("metadata", "metadata.")?;
    for fields in [Some(fields), metadata].into_iter().flatten() {
        for field in HANDLE_FIELDS {
            if let Some(value) = fields.value(field)
                && let Some(handle) = handle_in(value, &fields.path(field))?
            {
                return Ok(Some(handle));
            }
        }
    }
    Ok(None)
}

/// The handle in a field's value; `None` for a placeholder.
fn handle_in(value: &Value, path: &str) -> Result<Option<Handle>, Error> {
    match value {
        Value::String(name) if is_placeholder(name) => Ok(None),
        Value::String(name) => named(name, path).map(Some),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            named(&number.to_string(), path).map(Some)
        }
        Value::Object(object) if path.ends_with("conversation") => match object.get("id") {
            Some(id) if !id.is_object() => handle_in(id, &format!("{path}.id")),
            _ => Err(Error::invalid(
                format!("{path}.id"),
                format!("{path} must have an id that is a string"),
            )),
        },
        Value::Null => Ok(None),
        _ => Err(Error::invalid(
            path,
            format!("{path} must be a string, since it names the conversation"),
        )),
    }
}

fn named(name: &str, path: &str) -> Result<Handle, Error> {
    if name.len() > LONGEST || name.chars().any(char::is_control) {
        return Err(Error::invalid(
            path,
            format!("{path} must have 1 to {LONGEST} bytes and no control characters"),
        ));
    }
    Ok(Handle(Arc::from(name)))
}

/// What programs send where they have no name yet, or forgot to fill a template in.
pub fn is_placeholder(name: &str) -> bool {
    let unexpanded = |open: &str, close: &str| {
        name.split_once(open)
            .is_some_and(|(_, rest)| rest.contains(close))
    };
    matches!(name.trim(), "" | "new" | "null" | "undefined")
        || unexpanded("{{", "}}")
        || unexpanded("${", "}")
}

/// Every user id, labelled by where it stands: equal ids of different kinds are different users.
fn users(headers: &[String], fields: Fields<'_>) -> Result<Vec<String>, Error> {
    let mut users = Vec::new();
    for field in ["user", "safety_identifier"] {
        let id = match fields.value(field) {
            Some(Value::Number(number)) => number.to_string(),
            _ => fields.text(field)?.unwrap_or_default().to_owned(),
        };
        if !is_placeholder(&id) {
            users.push(format!("{field}={id}"));
        }
    }
    let headers = headers.iter().filter(|id| !id.is_empty());
    users.extend(headers.map(|id| format!("header={id}")));
    Ok(users)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn handle_of(header: Option<&str>, body: &Value) -> Result<Option<String>, Error> {
        let handle = handle(header, Fields::new(body.as_object().unwrap()))?;
        Ok(handle.map(|handle| handle.to_string()))
    }

    fn check(body: &Value, expected: Option<&str>) {
        let handle = handle_of(None, body).unwrap();

        assert_eq!(handle.as_deref(), expected, "{body}");
    }

    #[test]
    fn the_first_field_that_names_a_conversation_wins() {
        check(&json!({}), None);
        check(&json!({"conversation": "a"}), Some("a"));
        check(&json!({"conversation": {"id": "a"}}), Some("a"));
        check(&json!({"chat_id": "b", "conversation_id": "a"}), Some("a"));
        check(
            &json!({"metadata": {"thread_id": "b"}, "session_id": "a"}),
            Some("a"),
        );
        check(&json!({"metadata": {"thread_id": "b"}}), Some("b"));
        check(&json!({"thread_id": 7}), Some("7"));
        check(&json!({"thread_id": -7}), Some("-7"));

        let named = handle_of(Some("h"), &json!({"conversation": "a"}));

        assert_eq!(named, Ok(Some("h".to_owned())));
    }

    #[test]
    fn a_placeholder_is_passed_over() {
        for placeholder in [
            "",
            "  ",
            "new",
            "null",
            "undefined",
            "{{CHAT}}",
            "c-${chat}",
        ] {
            check(&json!({"conversation_id": placeholder}), None);
            check(
                &json!({"conversation_id": placeholder, "chat_id": "a"}),
                Some("a"),
            );
            let named = handle_of(Some(placeholder), &json!({"chat_id": "a"}));
            assert_eq!(named, Ok(Some("a".to_owned())));
        }
        check(&json!({"conversation": null}), None);
        check(&json!({"conversation": {"id": null}}), None);
        check(&json!({"chat_id": "newer"}), Some("newer"));
    }

    #[test]
    fn a_name_that_cannot_be_used_is_refused_by_its_path() {
        let long = "a".repeat(LONGEST + 1);
        for (body, param) in [
            (json!({"conversation": true}), "conversation"),
            (json!({"conversation": {}}), "conversation.id"),
            (
                json!({"conversation": {"id": {"id": "a"}}}),
                "conversation.id",
            ),
            (json!({"thread_id": 1.5}), "thread_id"),
            (json!({"thread_id": {"id": "a"}}), "thread_id"),
            (json!({"session_id": long}), "session_id"),
            (json!({"chat_id": "a\nb"}), "chat_id"),
            (json!({"metadata": {"chat_id": ["a"]}}), "metadata.chat_id"),
            (json!({"metadata": "a"}), "metadata"),
        ] {
            let error = handle_of(None, &body).unwrap_err();

            assert_eq!(error.param.as_deref(), Some(param), "{body}");
        }
        assert!(handle_of(None, &json!({"chat_id": "a".repeat(LONGEST)})).is_ok());
    }

    #[test]
    fn user_ids_are_told_apart_by_where_they_stand() {
        let body = json!({"safety_identifier": "a", "user": "a"});

        let users = users(
            &["a".to_owned(), String::new()],
            Fields::new(body.as_object().unwrap()),
        );

        assert_eq!(
            users.unwrap(),
            ["user=a", "safety_identifier=a", "header=a"]
        );
    }
}
