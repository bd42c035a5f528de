//! The text that is posted: the prompt, led by what the thread does not hold yet, and followed by the
//! form that its answer is to have.

use std::collections::HashMap;
use std::fmt;

use super::{Message, Role, ToolCall, call};

/// Stands between what leads, the prompt, and the form of the answer.
pub const BORDER: &str = "\n\n---\n\n";

/// How what leads begins.
pub const INSTRUCTIONS: &str = "Instructions:\n\n";
pub const UPDATED: &str = "Updated instructions:\n\n";
pub const NO_INSTRUCTIONS: &str = "The earlier instructions no longer apply.";
pub const EARLIER: &str = "Earlier conversation:\n\n";

/// Stands for what does not fit.
pub const LEFT_OUT: &str = "[earlier messages are left out]";

/// The trailing user and tool messages, as one text.
pub fn prompt(history: &[Message], prompt: &[Message]) -> String {
    prompt_after(&[], history, prompt)
}

/// As above, where calls were made before the history begins.
pub fn prompt_after(calls: &[ToolCall], history: &[Message], prompt: &[Message]) -> String {
    let mut names = call_names(history);
    names.extend(
        calls
            .iter()
            .map(|call| (call.id.as_str(), call.name.as_str())),
    );
    let texts = prompt
        .iter()
        .map(|message| match message.role {
            Role::Tool => tool_result(&names, message),
            Role::User | Role::Assistant => message.text.trim().to_owned(),
        })
        .filter(|text| !text.is_empty());
    joined(texts.collect(), "\n\n")
}

/// Nearly always it is one, which a join would copy.
fn joined(mut texts: Vec<String>, border: &str) -> String {
    match texts.as_mut_slice() {
        [only] => std::mem::take(only),
        _ => texts.join(border),
    }
}

/// What stands around the prompt: on a new thread, or after the instructions or the form of answers have
/// changed.
#[derive(Clone)]
pub struct Lead<'a> {
    pub instructions: Option<&'a str>,
    /// The instructions are not the first of this thread.
    pub updated: bool,
    /// The earlier conversation, where the thread does not hold it.
    pub transcript: Option<String>,
    /// What is said behind the prompt of the form of its answer.
    pub form: Option<&'a str>,
}

impl fmt::Debug for Lead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead").finish_non_exhaustive()
    }
}

/// Instructions, earlier conversation, prompt and form, in this order.
pub fn posted(lead: &Lead<'_>, prompt: String) -> String {
    let mut blocks = Vec::new();
    match (lead.instructions, lead.updated) {
        (Some(text), false) => blocks.push(leading(INSTRUCTIONS, text)),
        (Some(text), true) => blocks.push(leading(UPDATED, text)),
        (None, true) => blocks.push(NO_INSTRUCTIONS.to_owned()),
        (None, false) => {}
    }
    if let Some(transcript) = &lead.transcript {
        blocks.push(leading(EARLIER, transcript));
    }
    blocks.push(prompt);
    blocks.extend(lead.form.map(str::to_owned));
    joined(blocks, BORDER)
}

/// A block that holds no border, so that it ends at the first.
fn leading(lead: &str, text: &str) -> String {
    let mut block = format!("{lead}{}\n\n", text.trim());
    while block.contains(BORDER) {
        block = block.replace(BORDER, "\n\n----\n\n");
    }
    block.truncate(block.len() - 2);
    block
}

/// The newest messages that fit into `limit` bytes, oldest first. What is left out is marked.
pub fn bounded(history: &[Message], limit: usize) -> Option<String> {
    let names = call_names(history);
    let mut kept = Vec::new();
    let mut left = limit;
    for message in history.iter().rev() {
        let entry = entry(&names, message);
        if entry.len() > left {
            if kept.is_empty() {
                kept.push(shortened(&entry, limit));
            }
            break;
        }
        left -= entry.len();
        kept.push(entry);
    }
    if kept.is_empty() {
        return None;
    }
    if kept.len() < history.len() {
        kept.push(LEFT_OUT.to_owned());
    }
    kept.reverse();
    Some(kept.join("\n\n"))
}

fn entry(names: &CallNames<'_>, message: &Message) -> String {
    let text = message.text.trim();
    match message.role {
        Role::User => format!("User: {text}"),
        Role::Tool => tool_result(names, message),
        Role::Assistant => {
            let mut entry = format!("Assistant: {text}");
            for call in &message.calls {
                entry.push_str(&format!("\n[called {} with {}]", call.name, call.arguments));
            }
            entry
        }
    }
}

/// The tools that were called, by the ids of the calls.
type CallNames<'a> = HashMap<&'a str, &'a str>;

fn call_names(history: &[Message]) -> CallNames<'_> {
    let calls = history.iter().flat_map(|message| &message.calls);
    calls
        .map(|call| (call.id.as_str(), call.name.as_str()))
        .collect()
}

fn tool_result(names: &CallNames<'_>, message: &Message) -> String {
    let answers = message.answers.as_deref();
    let name = answers.map(|id| {
        let known = names.get(id).copied();
        known.or_else(|| call::function(id)).unwrap_or(id)
    });
    let name = name.unwrap_or("a tool");
    result_of(name) + message.text.trim()
}

/// How what came of a call begins.
pub fn result_of(name: &str) -> String {
    format!("Result of {name}: ")
}

fn shortened(entry: &str, limit: usize) -> String {
    let mark = "\n[the rest of this message is left out]";
    let end = entry.floor_char_boundary(limit.saturating_sub(mark.len()));
    format!("{}{mark}", entry.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_trailing_messages_are_one_prompt() {
        let messages = [
            Message::said(Role::User, "one "),
            Message::said(Role::User, "two"),
        ];

        assert_eq!(prompt(&[], &messages), "one\n\ntwo");
    }

    #[test]
    fn a_tool_result_is_named_for_its_tool() {
        let call = Message {
            calls: vec![ToolCall {
                id: "call_1".to_owned(),
                name: "weather".to_owned(),
                arguments: "{}".to_owned(),
            }],
            ..Message::said(Role::Assistant, "")
        };
        let result = Message {
            answers: Some("call_1".to_owned()),
            ..Message::said(Role::Tool, "rain")
        };

        let before = prompt_after(&call.calls, &[], std::slice::from_ref(&result));
        assert_eq!(before, "Result of weather: rain");
        assert_eq!(prompt(&[call], &[result]), "Result of weather: rain");
    }

    #[test]
    fn instructions_and_transcript_lead_the_prompt_and_the_form_comes_last() {
        let lead = Lead {
            instructions: Some("Be brief."),
            updated: false,
            transcript: bounded(
                &[
                    Message::said(Role::User, "hi"),
                    Message::said(Role::Assistant, "Hello!"),
                ],
                1000,
            ),
            form: Some("Answer format: JSON."),
        };

        insta::assert_snapshot!(posted(&lead, "And now?".to_owned()), @"
        Instructions:

        Be brief.

        ---

        Earlier conversation:

        User: hi

        Assistant: Hello!

        ---

        And now?

        ---

        Answer format: JSON.
        ");
    }

    #[test]
    fn the_newest_messages_are_kept() {
        let history = [
            Message::said(Role::User, "the first question"),
            Message::said(Role::Assistant, "old"),
            Message::said(Role::User, "new"),
        ];

        insta::assert_snapshot!(bounded(&history, 30).unwrap(), @"
        [earlier messages are left out]

        Assistant: old

        User: new
        ");
        assert_eq!(bounded(&[], 30), None);
    }

    #[test]
    fn one_message_too_long_keeps_its_beginning() {
        let history = [Message::said(Role::User, "ü".repeat(100))];

        let transcript = bounded(&history, 60).unwrap();

        assert!(transcript.len() <= 60, "{} bytes", transcript.len());
        assert!(transcript.starts_with("User: üüü"));
    }
}
