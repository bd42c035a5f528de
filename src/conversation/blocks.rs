//! What a text that we posted was made of: the inverse of [`transcript::posted`].
//!
//! [`transcript::posted`]: super::transcript::posted

use super::transcript::{BORDER, EARLIER, INSTRUCTIONS, LEFT_OUT, NO_INSTRUCTIONS, UPDATED};
use super::{Message, Role};
use crate::form::{Kind, WITHDRAWN};

/// The blocks of a text. Whatever is not one of ours is the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks<'a> {
    pub instructions: Option<&'a str>,
    /// The earlier conversation, as a new thread was told of it.
    pub earlier: Option<&'a str>,
    pub prompt: &'a str,
    /// What was said of the form of the answer.
    pub form: Option<&'a str>,
}

/// How the words on the form of an answer begin.
const FORMS: [&str; 3] = ["Answer format:", "Tools:", WITHDRAWN];

/// How the entries of a transcript begin, and who speaks there.
const SPEAKERS: [(&str, Role); 3] = [
    ("User: ", Role::User),
    ("Assistant: ", Role::Assistant),
    ("Result of ", Role::Tool),
];

/// Takes a text apart. Nothing that leads holds the border, so that only a prompt can deceive, and only
/// its own caller.
pub fn blocks(text: &str) -> Blocks<'_> {
    let mut rest = text;
    let instructions = led_by(&mut rest, &[INSTRUCTIONS, UPDATED, NO_INSTRUCTIONS]);
    let earlier = led_by(&mut rest, &[EARLIER]);
    let (prompt, form) = match rest.rsplit_once(BORDER) {
        Some((prompt, form)) if FORMS.iter().any(|lead| form.starts_with(lead)) => {
            (prompt, Some(form))
        }
        _ => (rest, None),
    };
    Blocks {
        instructions: instructions.filter(|text| !text.is_empty()),
        earlier,
        prompt,
        form,
    }
}

/// In which form an answer to this text was asked for.
pub fn kind(text: &str) -> Kind {
    let Some(form) = blocks(text).form else {
        return Kind::Text;
    };
    let [json, tools, _] = FORMS;
    let otherwise = form.split("\n\n").any(|part| part.starts_with(json));
    match (form.starts_with(tools), otherwise) {
        (true, true) => Kind::JsonOrCalls,
        (true, false) => Kind::Calls,
        (false, true) => Kind::Json,
        (false, false) => Kind::Text,
    }
}

/// The messages that a text of ours stands for, oldest first: those of the earlier conversation that it
/// tells, and the prompt.
pub fn messages(text: &str) -> Vec<Message> {
    let blocks = blocks(text);
    let mut messages = blocks.earlier.map_or(Vec::new(), entries);
    messages.push(Message::said(Role::User, blocks.prompt));
    messages
}

/// The entries of a transcript. A message that holds what looks like an entry is several: as text they
/// are the same again.
fn entries(transcript: &str) -> Vec<Message> {
    let mut entries: Vec<Message> = Vec::new();
    for part in transcript.split("\n\n").filter(|part| *part != LEFT_OUT) {
        let led = SPEAKERS
            .iter()
            .find_map(|(lead, role)| Some((*role, part.strip_prefix(lead)?)));
        match (led, entries.last_mut()) {
            (Some((Role::Tool, _)), _) => entries.push(Message::said(Role::User, part)),
            (Some((role, text)), _) => entries.push(Message::said(role, text)),
            (None, Some(last)) => {
                last.text.push_str("\n\n");
                last.text.push_str(part);
            }
            (None, None) => entries.push(Message::said(Role::User, part)),
        }
    }
    entries
}

fn led_by<'a>(rest: &mut &'a str, leads: &[&str]) -> Option<&'a str> {
    let (block, after) = rest.split_once(BORDER)?;
    let text = leads.iter().find_map(|lead| block.strip_prefix(lead))?;
    *rest = after;
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conversation::transcript::{Lead, bounded, posted};

    /// Texts that look like what we put around them.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-z ]{1,6}",
            1 => Just("\n\n---\n\n".to_owned()),
            1 => Just("---".to_owned()),
            1 => Just("\n\n".to_owned()),
            1 => Just("Earlier conversation:\n\n".to_owned()),
        ];
        let pieces = prop::collection::vec(piece, 1..8);
        pieces.prop_map(|pieces| format!("x{}x", pieces.concat()))
    }

    proptest! {
        #[test]
        fn what_is_posted_is_taken_apart_again(
            instructions in prop::option::of(text()),
            updated in any::<bool>(),
            earlier in prop::collection::vec((any::<bool>(), "[a-z]{1,8}( [a-z]{1,8}){0,3}"), 0..4),
            prompt in text(),
        ) {
            let earlier: Vec<Message> = earlier
                .iter()
                .map(|(user, text)| {
                    Message::said(if *user { Role::User } else { Role::Assistant }, text.as_str())
                })
                .collect();
            let lead = Lead {
                instructions: instructions.as_deref(),
                updated,
                transcript: bounded(&earlier, 10_000),
                form: None,
            };

            let posted = posted(&lead, prompt.clone());
            let blocks = blocks(&posted);

            prop_assert_eq!(blocks.prompt, &prompt);
            prop_assert_eq!(blocks.instructions.is_some(), instructions.is_some());
            prop_assert_eq!(blocks.earlier, lead.transcript.as_deref());
            prop_assert_eq!(blocks.earlier.map_or(Vec::new(), entries), earlier);
        }

        #[test]
        fn entries_are_the_same_text_again(transcript in "(User: |Assistant: |Result of x: |\n\n|[a-z]|---){0,30}") {
            let transcript = format!("User: {transcript}x");

            let again = bounded(&entries(&transcript), 10_000);

            let squashed = |text: &str| text.split_whitespace().collect::<String>();
            let unled = |text: &str| squashed(text).replace("User:", "");
            prop_assert_eq!(unled(&again.unwrap()), unled(&transcript));
        }
    }

    #[test]
    fn what_was_said_of_a_form_is_no_part_of_the_prompt() {
        let text = "And now?\n\n---\n\nAnswer format:\n\nJSON.";

        let blocks = blocks(text);

        assert_eq!(blocks.prompt, "And now?");
        assert_eq!(blocks.form, Some("Answer format:\n\nJSON."));
        assert_eq!(messages(text), [Message::said(Role::User, "And now?")]);
    }

    #[test]
    fn a_text_says_in_which_form_its_answer_is_wanted() {
        for (form, kind) in [
            ("Answer format:\n\nJSON.", Kind::Json),
            ("Tools:\n\nThey are:\n{}", Kind::Calls),
            (
                "Tools: as before.\n\nAnswer format: as before.",
                Kind::JsonOrCalls,
            ),
            (WITHDRAWN, Kind::Text),
            ("Tools of mine", Kind::Text),
        ] {
            assert_eq!(
                super::kind(&format!("And now?{BORDER}{form}")),
                kind,
                "{form}"
            );
        }
    }

    #[test]
    fn a_text_of_nobody_s_making_is_a_prompt() {
        for text in ["", "hi", "a\n\n---\n\nb", "Instructions:\n\nnone at all"] {
            assert_eq!(messages(text), [Message::said(Role::User, text)]);
        }
    }
}
