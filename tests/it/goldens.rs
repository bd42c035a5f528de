//! Requests recorded from real SDKs, and the turns that come of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chaturdata_proxy::conversation::{Caller, Message, Turn};
use chaturdata_proxy::ids::Tenant;
use chaturdata_proxy::openai::chat::{Asked, ChatRequest};
use chaturdata_proxy::openai::{Envelope, Error, Policy};
use chaturdata_proxy::secret::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A request as it was recorded.
#[derive(Deserialize)]
pub struct Golden {
    pub client: String,
    version: String,
    pub case: String,
    #[serde(default)]
    pub method: String,
    pub path: String,
    headers: Map<String, Value>,
    #[serde(default)]
    pub body: Value,
}

/// Those in a folder of the goldens; chat's stand outside of any.
pub fn goldens(folder: &str) -> Vec<Golden> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/goldens");
    let folder = goldens.join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    files.sort();
    let read = files.iter().map(|file| fs::read_to_string(file).unwrap());
    read.map(|text| serde_json::from_str(&text).unwrap())
        .collect()
}

/// What a request for a chat completion asks for.
pub fn asked(golden: &Golden) -> Result<Asked, Error> {
    let request: ChatRequest = serde_json::from_str(&golden.body.to_string()).unwrap();
    request.into_turn(envelope(golden), &Policy::default())
}

/// What a request says outside its body.
pub fn envelope(golden: &Golden) -> Envelope {
    let seconds = golden.headers.get("x-stainless-read-timeout");
    let patience = seconds.and_then(|seconds| seconds.as_str()?.parse().ok());
    let retries = golden.headers.get("x-stainless-retry-count");
    Envelope {
        caller: Caller {
            tenant: Tenant([0; 32]),
            account: Tenant([0; 32]),
            key: Secret::new("placeholder"),
        },
        handle: None,
        narrow: None,
        users: Vec::new(),
        side_call: None,
        idempotency_key: None,
        marked: retries.is_some_and(|count| count != "0"),
        patience: patience.map(Duration::from_secs),
        deadline: Duration::from_secs(590),
        body: [0; 32],
    }
}

/// What came of a request, a line for each thing that is not as in the plainest request.
fn told(asked: &Asked) -> String {
    let mut lines = Vec::new();
    if asked.stream {
        lines.push(format!("stream, usage {}", asked.include_usage));
    }
    lines.extend(turn(&asked.turn));
    if !asked.ignored.is_empty() {
        lines.push(format!("ignored {}", asked.ignored.join(", ")));
    }
    lines.join("\n  ")
}

/// A line for each thing that a turn says.
pub fn turn(turn: &Turn) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(
        turn.instructions
            .iter()
            .map(|text| format!("instructions {text:?}")),
    );
    lines.extend(
        turn.history
            .iter()
            .map(|message| format!("history {}", line(message))),
    );
    lines.extend(
        turn.prompt
            .iter()
            .map(|message| format!("prompt {}", line(message))),
    );
    if turn.limits.stop.len() + usize::from(turn.limits.max_tokens.is_some()) > 0 {
        lines.push(format!(
            "stop {:?}, at most {:?}",
            turn.limits.stop, turn.limits.max_tokens
        ));
    }
    lines.extend(
        turn.names
            .handle
            .iter()
            .map(|handle| format!("handle {handle}")),
    );
    lines.extend(turn.names.users.iter().map(|user| format!("user {user}")));
    lines.extend(
        turn.form
            .iter()
            .map(|form| format!("form {:?}", form.kind())),
    );
    lines
}

fn line(message: &Message) -> String {
    let calls = message.calls.iter();
    let calls: String = calls
        .map(|call| format!(" calls {}({}) as {}", call.name, call.arguments, call.id))
        .collect();
    let answers = message.answers.iter();
    let answers: String = answers.map(|id| format!(" answers {id}")).collect();
    format!("{:?} {:?}{calls}{answers}", message.role, message.text)
}

/// What came of every request of a client, in the order of their names.
fn turns(client: &str, version: &str) -> String {
    let mut all = String::new();
    for golden in goldens("").iter().filter(|golden| golden.client == client) {
        assert_eq!(golden.version, version);
        assert_eq!(golden.path, "/v1/chat/completions");
        all += &format!("{}\n  ", golden.case);
        all += &match asked(golden) {
            Ok(asked) => told(&asked),
            Err(error) => format!("{:?} {}", error.reason, error.param.unwrap()),
        };
        all.push('\n');
    }
    all
}

#[test]
fn requests_of_the_python_sdk_become_the_turns_they_mean() {
    insta::assert_snapshot!(turns("openai-python", "3.54.0"), @r#"
    create
      prompt User "How many orders came in today?"
    developer
      instructions "Be brief."
      prompt User "Orders today?"
      ignored reasoning_effort
    image
      Unsupported messages[0].content[1]
    limits
      prompt User "Orders today?"
      stop ["\n\n", "END"], at most Some(100)
      handle c-1
      user user=u-1
      ignored seed, temperature
    parse
      prompt User "Orders today?"
      form Json
    parts
      prompt User "First part.\nSecond part."
    stream-helper
      stream, usage false
      prompt User "Hi"
    stream-with-usage
      stream, usage true
      instructions "Answer in one sentence."
      history User "Revenue by region?"
      history Assistant "North leads."
      prompt User "And only for 2025?"
    tool-required
      prompt User "Orders today?"
      form Calls
    tools
      history User "Orders today?"
      history Assistant "" calls today({}) as call_1
      prompt Tool "2025-06-01" answers call_1
      form Calls
    "#);
}

#[test]
fn requests_of_the_node_sdk_become_the_turns_they_mean() {
    insta::assert_snapshot!(turns("openai-node", "6.49.0"), @r#"
    create
      prompt User "How many orders came in today?"
    developer
      instructions "Be brief."
      prompt User "Orders today?"
      ignored reasoning_effort
    image
      Unsupported messages[0].content[1]
    limits
      prompt User "Orders today?"
      stop ["END"], at most Some(50)
      handle c-1
      user safety_identifier=u-1
      ignored temperature
    parse
      prompt User "Orders today?"
      form Json
    parts
      prompt User "First part.\nSecond part."
    stream-helper
      stream, usage false
      prompt User "Hi"
    stream-with-usage
      stream, usage true
      instructions "Answer in one sentence."
      history User "Revenue by region?"
      history Assistant "North leads."
      prompt User "And only for 2025?"
    tool-named
      prompt User "Orders today?"
      form Calls
    tools
      history User "Orders today?"
      history Assistant "" calls today({}) as call_1
      prompt Tool "2025-06-01" answers call_1
      form Calls
    "#);
}

#[test]
fn requests_of_frameworks_become_the_turns_they_mean() {
    let clients = [
        ("ai-sdk-compatible", "2.0.91"),
        ("instructor", "1.17.0"),
        ("langchain-js", "1.6.0"),
        ("langchain-python", "1.7.4"),
        ("litellm", "1.110.2"),
        ("llama-index", "0.8.1"),
        ("llm", "0.36"),
        ("pydantic-ai", "2.68.0"),
    ];
    let of_each = clients.map(|(client, version)| format!("{client}\n{}", turns(client, version)));

    insta::assert_snapshot!(of_each.concat());
}
