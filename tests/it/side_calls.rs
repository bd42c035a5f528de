//! A chat program's own calls for titles, tags and follow-ups stay out of the user's thread.

use chaturdata_proxy::config::SideCalls;
use chaturdata_proxy::upstream::sandbox::script::Script;
use serde_json::{Value, json};

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, decision, posted, said, soon};

const HISTORY: &str = "### Chat History:\n<chat_history>\nUSER: what is our revenue by region, \
    please?\nASSISTANT: Here it is.\n</chat_history>";

fn title_prompt() -> String {
    format!(
        "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat \
         history.\n### Guidelines:\n- Be brief.\n### Output:\nJSON format: {{ \"title\": \"your \
         concise title here\" }}\n{HISTORY}"
    )
}

fn tags_prompt() -> String {
    format!(
        "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history, \
         along with 1-3 more specific subtopic tags.\n### Output:\nJSON format: {{ \"tags\": \
         [\"tag1\", \"tag2\", \"tag3\"] }}\n{HISTORY}"
    )
}

fn follow_ups_prompt() -> String {
    format!(
        "### Task:\nSuggest 3-5 relevant follow-up questions or prompts that the user might \
         naturally ask next in this conversation as a **user**.\n### Output:\nJSON format: {{ \
         \"follow_ups\": [\"Question 1?\", \"Question 2?\"] }}\n{HISTORY}"
    )
}

const LIBRECHAT: &str = "Provide a concise, 5-word-or-less title for the conversation, using \
    title case conventions. Only return the title itself.\n\nConversation:\nUser: what is our \
    revenue by region?\nAI: Here it is.";

fn proxy(side_calls: SideCalls) -> Proxy {
    let mut setup = Setup::default();
    setup.config.conversations.side_calls = side_calls;
    Proxy::start(setup)
}

/// What the prompts that are known are answered.
fn known() -> [(&'static str, String, Value); 3] {
    [
        (
            "title_generation",
            title_prompt(),
            json!({"title": "What is our revenue by"}),
        ),
        (
            "tags_generation",
            tags_prompt(),
            json!({"tags": ["General"]}),
        ),
        (
            "follow_up_generation",
            follow_ups_prompt(),
            json!({"follow_ups": []}),
        ),
    ]
}

/// Both ways of asking get this answer, and nothing is posted.
async fn check(proxy: &Proxy, header: Option<&str>, prompt: &str, expected: &str) {
    let talk = || match header {
        Some(task) => Talk::new(proxy).header("x-openwebui-task", task),
        None => Talk::new(proxy),
    };
    let before = proxy.sandbox.calls().len();

    let reply = talk().says(prompt).await;
    let streamed = talk().streams(prompt).await;

    assert_eq!((said(&reply), decision(&reply)), (expected, "local"));
    assert_eq!(streamed.text(), expected);
    assert_eq!(streamed.headers["x-conversation-decision"], "local");
    assert_eq!(streamed.frames.last().unwrap(), "[DONE]");
    assert_eq!(proxy.sandbox.calls().len(), before);
}

#[tokio::test(start_paused = true)]
async fn open_webui_s_default_prompts_are_answered_here_by_their_shape() {
    let proxy = proxy(SideCalls::Local);
    for (_, prompt, expected) in known() {
        check(&proxy, None, &prompt, &expected.to_string()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_side_call_with_its_header_is_answered_here_whatever_its_prompt() {
    let proxy = proxy(SideCalls::Local);
    for (task, prompt, expected) in known() {
        check(&proxy, Some(task), &prompt, &expected.to_string()).await;
    }
    for (task, expected) in [
        ("title_generation", r#"{"title":"New chat"}"#),
        ("tags_generation", r#"{"tags":["General"]}"#),
        ("follow_up_generation", r#"{"follow_ups":[]}"#),
    ] {
        check(&proxy, Some(task), "in my own words", expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_title_for_librechat_is_plain_text() {
    let proxy = proxy(SideCalls::Local);
    check(&proxy, None, LIBRECHAT, "What is our revenue by").await;
}

#[tokio::test(start_paused = true)]
async fn a_side_call_whose_answer_shall_have_a_form_is_posted() {
    let proxy = proxy(SideCalls::Local);
    let title = r#"{"title": "Revenue"}"#;
    proxy.sandbox.set_script(Script::always(soon(title)));
    let mut talk = Talk::new(&proxy).fields(json!({"response_format": {"type": "json_object"}}));

    let reply = talk.says(LIBRECHAT).await;

    assert_eq!((said(&reply), decision(&reply)), (title, "created"));
    assert_eq!(posted(&proxy).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_names_no_task_marks_nothing() {
    for value in ["", "{{TASK}}"] {
        let proxy = proxy(SideCalls::Local);
        let mut talk = Talk::new(&proxy).header("x-openwebui-task", value);

        let first = talk.says("how much?").await;
        let second = talk.says("and now?").await;

        assert_eq!(
            (decision(&first), decision(&second)),
            ("created", "appended"),
            "{value:?}"
        );
        assert_eq!(posted(&proxy), [["how much?", "and now?"]]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_about_titles_is_a_question() {
    let proxy = proxy(SideCalls::Local);
    for question in [
        "Give me a title for this chat history",
        "### Task: compare revenue by region",
        "Which tags are in the table?",
    ] {
        let reply = proxy.chat(question).await;
        assert_eq!(decision(&reply), "created", "{question}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_chat_goes_on_on_its_thread_after_side_calls() {
    for side_calls in [SideCalls::Local, SideCalls::Scratch] {
        let proxy = proxy(side_calls);
        let chat = || Talk::new(&proxy).header("x-openwebui-chat-id", "chat-1");
        let mut talk = chat();

        talk.says("what is our revenue by region, please?").await;
        let calls = known();
        for (task, prompt, _) in &calls {
            chat().header("x-openwebui-task", task).says(prompt).await;
        }
        let next = talk.says("and now?").await;

        assert_eq!(decision(&next), "appended");
        let threads = posted(&proxy);
        let first = threads.first().unwrap();
        assert_eq!(
            first,
            &["what is our revenue by region, please?", "and now?"]
        );
        let beside: Vec<&String> = threads.iter().skip(1).flatten().collect();
        match side_calls {
            SideCalls::Scratch => {
                let prompts: Vec<&String> = calls.iter().map(|(_, prompt, _)| prompt).collect();
                assert_eq!(beside, prompts);
                assert_eq!(threads.len(), 4);
            }
            SideCalls::Local | SideCalls::Off => assert!(beside.is_empty()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_side_call_under_the_chat_s_handle_leaves_the_handle_alone() {
    for side_calls in [SideCalls::Local, SideCalls::Scratch] {
        let proxy = proxy(side_calls);
        let mut chat = Talk::new(&proxy).header("x-conversation-id", "one");

        chat.says("how much?").await;
        Talk::new(&proxy)
            .header("x-conversation-id", "one")
            .says(&title_prompt())
            .await;
        chat.messages.clear();
        let next = chat.says("and now?").await;

        assert_eq!(decision(&next), "appended");
        assert_eq!(posted(&proxy)[0], ["how much?", "and now?"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_side_call_of_a_kind_unknown_here_has_a_thread_of_its_own() {
    let proxy = proxy(SideCalls::Local);
    let mut talk = Talk::new(&proxy).header("x-conversation-id", "one");
    talk.says("how much?").await;

    let reply = Talk::new(&proxy)
        .header("x-conversation-id", "one")
        .header("x-openwebui-task", "something_new")
        .says("do something new")
        .await;

    assert_eq!((said(&reply), decision(&reply)), ("hello", "created"));
    assert_eq!(posted(&proxy).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn side_calls_that_are_off_are_turns_like_any_other() {
    let proxy = proxy(SideCalls::Off);
    let delta = |text: String| async {
        let talk = Talk::new(&proxy).header("x-conversation-id", "one");
        let mut talk = talk.header("x-openwebui-task", "title_generation");
        let text = text;
        talk.says(&text).await
    };

    let first = delta("how much?".to_owned()).await;
    let title = delta(title_prompt()).await;

    assert_eq!(
        (decision(&first), decision(&title)),
        ("created", "appended")
    );
    assert_eq!(posted(&proxy), [["how much?".to_owned(), title_prompt()]]);
}
