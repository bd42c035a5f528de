//! A thread's lines as the messages that its callers know: JSON without the words around it, calls as
//! calls, and what came of them.

use super::listing::Line;
use super::replay::quoted;
use crate::conversation::salt::Salt;
use crate::conversation::transcript::result_of;
use crate::conversation::{Message, Role, ToolCall, blocks, call};
use crate::form::{self, Content, Kind};

/// Reads a thread line by line, oldest first.
#[derive(Debug)]
pub struct Retelling<'a> {
    salt: &'a Salt,
    /// In which form the next answer was asked for.
    kind: Kind,
    /// What the last answer called.
    calls: Vec<ToolCall>,
}

impl<'a> Retelling<'a> {
    pub fn new(salt: &'a Salt) -> Self {
        Self {
            salt,
            kind: Kind::Text,
            calls: Vec::new(),
        }
    }

    /// The messages of the next line. One post of ours may tell several.
    pub fn messages(&mut self, line: &Line) -> Vec<Message> {
        let said = quoted(line);
        if said.role != Role::User {
            return vec![self.answer(line, said)];
        }
        self.kind = blocks::kind(&said.text);
        let calls = std::mem::take(&mut self.calls);
        let mut messages = blocks::messages(&said.text);
        if let Some(prompt) = messages.pop() {
            let results = results(&calls, &prompt.text);
            messages.extend(results.unwrap_or_else(|| vec![prompt]));
        }
        messages
    }

    fn answer(&mut self, line: &Line, said: Message) -> Message {
        match self.kind.read(&said.text) {
            Some(Content::Json(text)) => Message {
                text: text.into(),
                ..said
            },
            Some(Content::Calls(calls)) => {
                self.calls = self.called(line, calls);
                Message {
                    text: String::new().into(),
                    calls: self.calls.clone(),
                    ..said
                }
            }
            // What could not be read was mended elsewhere.
            Some(Content::Text) | None => said,
        }
    }

    fn called(&self, line: &Line, calls: Vec<form::Call>) -> Vec<ToolCall> {
        let calls = (0u64..).zip(calls).map(|(at, called)| {
            let fields = [line.key.as_slice(), &at.to_le_bytes()];
            ToolCall {
                id: call::id(&self.salt.hash("shown call", fields), &called.name),
                name: called.name,
                arguments: called.arguments,
            }
        });
        calls.collect()
    }
}

/// What came of each of these calls, if a prompt tells of that in their order.
fn results(calls: &[ToolCall], prompt: &str) -> Option<Vec<Message>> {
    let mut calls = calls.iter();
    let mut call = calls.next()?;
    let mut rest = prompt.strip_prefix(&result_of(&call.name))?;
    let mut results = Vec::new();
    let result = |call: &ToolCall, text: &str| Message {
        answers: Some(call.id.clone()),
        ..Message::said(Role::Tool, text)
    };
    for next in calls {
        let (text, after) = rest.split_once(&format!("\n\n{}", result_of(&next.name)))?;
        results.push(result(call, text));
        (call, rest) = (next, after);
    }
    results.push(result(call, rest));
    Some(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::listing::Listing;
    use crate::upstream::{self, Thread};

    const TOOLS: &str = "\n\n---\n\nTools: the functions named before can be called.";
    const JSON: &str = "\n\n---\n\nAnswer format: JSON.";

    /// A line for each message of a thread whose posts and answers these are.
    fn told(texts: &[&str]) -> Vec<String> {
        let salt = Salt::fixed([7; 32]);
        let message = |(at, text): (usize, &&str)| upstream::Message {
            role: Some(match at % 2 {
                0 => upstream::Role::User,
                _ => upstream::Role::Assistant,
            }),
            text: (*text).to_owned(),
            ..upstream::Message::default()
        };
        let thread = Thread {
            messages: texts.iter().enumerate().map(message).collect(),
            ..Thread::default()
        };
        let mut retelling = Retelling::new(&salt);
        let lines = Listing::of(&salt, thread).lines;
        let messages = lines.iter().flat_map(|line| retelling.messages(line));
        let lines = messages.map(|message| {
            let calls = message.calls.iter();
            let calls: String = calls
                .map(|call| format!("[{} {}]", call.name, call.arguments))
                .collect();
            let name = message.answers.as_deref().and_then(call::function);
            let name = name.unwrap_or_default();
            format!("{:?}{name} {}{calls}", message.role, message.text)
        });
        lines.collect()
    }

    #[test]
    fn calls_are_told_with_what_came_of_them() {
        let called = r#"{"tool_calls":[{"name":"f","arguments":{"a":1}},{"name":"f","arguments":{}},
            {"name":"g","arguments":{}}]}"#;
        let results = format!("Result of f: 1\n\nResult of f: 2\n\nnot 3\n\nResult of g: x{TOOLS}");

        let told = told(&[&format!("sum?{TOOLS}"), called, &results, "3"]);

        assert_eq!(
            told,
            [
                "User sum?",
                r#"Assistant [f {"a":1}][f {}][g {}]"#,
                "Toolf 1",
                "Toolf 2\n\nnot 3",
                "Toolg x",
                "Assistant 3",
            ]
        );
    }

    #[test]
    fn a_prompt_that_does_not_tell_what_came_of_the_calls_is_a_prompt() {
        let called = r#"{"tool_calls":[{"name":"f","arguments":{}},{"name":"g","arguments":{}}]}"#;
        for prompt in ["never mind", "Result of f: 1", "Result of g: 1"] {
            let told = told(&[&format!("sum?{TOOLS}"), called, prompt]);

            assert_eq!(told[2], format!("User {prompt}"));
        }
        let told = told(&[&format!("sum?{TOOLS}"), "3", "Result of f: 1"]);
        assert_eq!(told[1..], ["Assistant 3", "User Result of f: 1"]);
    }

    #[test]
    fn json_is_told_without_the_words_around_it() {
        let told = told(&[
            &format!("sum?{JSON}"),
            "Here: {\"n\": 1}",
            &format!("and?{JSON}"),
            "nothing",
            "so?",
            "So: {\"n\": 1}",
        ]);

        assert_eq!(told[1], "Assistant {\"n\": 1}");
        assert_eq!(told[3], "Assistant nothing");
        assert_eq!(told[5], "Assistant So: {\"n\": 1}");
    }
}
