//! A chat program's own calls beside the chat (titles, tags, follow-ups), which must not land in
//! the user's thread.

use serde_json::json;

use super::{Role, Turn};

/// What a side call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideCall {
    /// `{"title": ".."}`
    TitleJson,
    Title,
    Tags,
    FollowUps,
    Queries,
    Completion,
    ImagePrompt,
    Emoji,
    ToolChoice,
    /// Marked as a side call, and of no kind that can be answered here.
    Other,
}

/// Words of the default prompts of Open WebUI and LibreChat, in lower case: all of a row, and it is
/// that kind. The first row that fits decides.
const SHAPES: [(SideCall, &[&str]); 9] = [
    (
        SideCall::FollowUps,
        &["### task:", "follow-up questions", "follow_ups"],
    ),
    (
        SideCall::Tags,
        &["### task:", "broad tags categorizing", "\"tags\""],
    ),
    (
        SideCall::Queries,
        &["### task:", "search queries", "\"queries\""],
    ),
    (
        SideCall::Completion,
        &["### task:", "autocompletion system"],
    ),
    (
        SideCall::ImagePrompt,
        &["### task:", "image generation task", "\"prompt\""],
    ),
    (
        SideCall::TitleJson,
        &["### task:", "word title", "{ \"title\":"],
    ),
    (
        SideCall::Title,
        &["### task:", "word title", "chat history"],
    ),
    (
        SideCall::Title,
        &["provide a concise, 5-word-or-less title for the conversation"],
    ),
    (
        SideCall::Title,
        &["generate a concise title (max 40 characters) for a conversation that starts"],
    ),
];

/// How far into a prompt its shape is looked for.
const SHAPE_BYTES: usize = 4096;

/// The side call that this turn is, if it is one: by the chat program's header first, by the shape
/// of its known default prompts second.
pub fn recognise(turn: &Turn) -> Option<SideCall> {
    let shape = match turn.prompt.as_slice() {
        [message] if turn.history.is_empty() && message.role == Role::User => shape(&message.text),
        _ => None,
    };
    match turn.names.side_call.as_deref() {
        Some(task) => Some(shape.unwrap_or_else(|| named(task))),
        None => shape,
    }
}

/// The answer to a side call in the shape asked for, made of the chat that the prompt quotes.
/// `None` where only the upstream could answer.
pub fn answer(call: SideCall, turn: &Turn) -> Option<String> {
    let prompt = turn.prompt.first().map_or("", |message| &message.text);
    let answer = match call {
        SideCall::TitleJson => json!({ "title": title(prompt) }).to_string(),
        SideCall::Title => title(prompt),
        SideCall::Tags => json!({ "tags": ["General"] }).to_string(),
        SideCall::FollowUps => json!({ "follow_ups": [] }).to_string(),
        SideCall::Queries => json!({ "queries": [] }).to_string(),
        SideCall::Completion => json!({ "text": "" }).to_string(),
        SideCall::ImagePrompt => json!({ "prompt": first_question(prompt) }).to_string(),
        SideCall::ToolChoice => json!({ "tool_calls": [] }).to_string(),
        SideCall::Emoji => "\u{1f4ac}".to_owned(),
        SideCall::Other => return None,
    };
    Some(answer)
}

fn shape(prompt: &str) -> Option<SideCall> {
    let end = prompt.floor_char_boundary(SHAPE_BYTES);
    let beginning = prompt.get(..end)?.to_ascii_lowercase();
    if beginning.contains("reflect the speaker's likely facial expression") {
        return Some(SideCall::Emoji);
    }
    SHAPES
        .iter()
        .find(|(_, words)| words.iter().all(|word| beginning.contains(word)))
        .map(|(call, _)| *call)
}

/// Open WebUI's names for its tasks.
fn named(task: &str) -> SideCall {
    match task {
        "title_generation" => SideCall::TitleJson,
        "tags_generation" => SideCall::Tags,
        "follow_up_generation" => SideCall::FollowUps,
        "query_generation" => SideCall::Queries,
        "autocomplete_generation" => SideCall::Completion,
        "image_prompt_generation" => SideCall::ImagePrompt,
        "emoji_generation" => SideCall::Emoji,
        "function_calling" => SideCall::ToolChoice,
        _ => SideCall::Other,
    }
}

/// The first words of the first question of the chat that the prompt quotes.
fn title(prompt: &str) -> String {
    let question = first_question(prompt);
    let words: Vec<&str> = question
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .take(5)
        .collect();
    let mut letters = words.join(" ");
    letters.truncate(letters.floor_char_boundary(60));
    let mut chars = letters.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => "New chat".to_owned(),
    }
}

/// What the user said first, in the chat that the prompt quotes.
fn first_question(prompt: &str) -> String {
    let quoted = ["<chat_history>", "Conversation:", "starts with:"]
        .iter()
        .find_map(|mark| Some(prompt.rsplit_once(mark)?.1))
        .unwrap_or_default();
    let said = ["USER:", "User:", "user:"]
        .iter()
        .find_map(|mark| Some(quoted.split_once(mark)?.1))
        .unwrap_or_default();
    let end = ["\nASSISTANT:", "\nAI:", "\nAssistant:", "</chat_history>"]
        .iter()
        .filter_map(|mark| said.find(mark))
        .min()
        .unwrap_or(said.len());
    let text = said.get(..end).unwrap_or_default().trim();
    text.get(..text.floor_char_boundary(400))
        .unwrap_or_default()
        .trim_matches('"')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLE: &str = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing \
        the chat history.\n### Guidelines:\n- ..\n### Output:\nJSON format: { \"title\": \"your \
        concise title here\" }\n### Chat History:\n<chat_history>\nUSER: what is our revenue by \
        region, please?\nASSISTANT: Here it is.\n</chat_history>";

    #[test]
    fn known_default_prompts_are_recognised() {
        for (prompt, call) in [
            (TITLE, Some(SideCall::TitleJson)),
            (
                "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat \
                 history.\nJSON format: { \"tags\": [\"tag1\"] }",
                Some(SideCall::Tags),
            ),
            (
                "### Task:\nSuggest 3-5 relevant follow-up questions or prompts that the user \
                 might ask.\nJSON format: { \"follow_ups\": [] }",
                Some(SideCall::FollowUps),
            ),
            (
                "Provide a concise, 5-word-or-less title for the conversation, using title case \
                 conventions. Only return the title itself.\n\nConversation:\nUser: hi\nAI: Hello",
                Some(SideCall::Title),
            ),
            ("Give me a title for my report on search queries", None),
            ("### Task: compare the revenue of two regions", None),
        ] {
            assert_eq!(shape(prompt), call, "{prompt}");
        }
    }

    #[test]
    fn a_title_is_made_of_what_the_user_asked_first() {
        assert_eq!(title(TITLE), "What is our revenue by");
        assert_eq!(title("no chat is quoted here"), "New chat");
    }
}
