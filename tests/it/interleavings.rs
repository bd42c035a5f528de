//! Random interleavings of callers that append, edit, regenerate, retry and hang up, held against
//! what each of them can see.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use chaturdata_proxy::config::{self, Config};
use chaturdata_proxy::conversation::resolve::Secrets;
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::metrics::Metrics;
use chaturdata_proxy::run::live::{Foundation, Runner};
use chaturdata_proxy::server::{Access, Parts, Stop, router};
use chaturdata_proxy::store::backend::Nowhere;
use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use http::Request;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

/// Read once: thousands of proxies are built.
static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);

/// What a caller does next, after a pause.
#[derive(Clone, Debug)]
struct Step {
    pause_ms: u64,
    action: Action,
    /// Gone so long after the request, and asks the same again later.
    hang_up_ms: Option<u64>,
    /// The retry says that it is one.
    marked: bool,
}

#[derive(Clone, Debug)]
enum Action {
    Append(Prompt),
    /// Keeps so many turns and says something else.
    Edit(usize, Prompt),
    Regenerate,
}

/// Words that other callers say too, or words that nobody else says.
#[derive(Clone, Copy, Debug)]
enum Prompt {
    Shared(u8),
    Own,
}

/// How a caller names its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Its history alone.
    History,
    /// A chat program's header, and the whole history.
    Chat(&'static str),
    /// A chat program's header, a handle, and the whole history.
    NamedChat(&'static str),
    /// A handle, and only what is new.
    Delta(&'static str),
}

#[derive(Clone, Copy, Debug)]
struct Who {
    kind: Kind,
    key: &'static str,
}

/// Callers of two tenants; some of each could be taken for one another.
const CALLERS: [Who; 7] = [
    Who {
        kind: Kind::History,
        key: "key-a",
    },
    Who {
        kind: Kind::History,
        key: "key-a",
    },
    Who {
        kind: Kind::History,
        key: "key-b",
    },
    Who {
        kind: Kind::Chat("chat-1"),
        key: "key-a",
    },
    Who {
        kind: Kind::NamedChat("chat-2"),
        key: "key-a",
    },
    Who {
        kind: Kind::Delta("deltas"),
        key: "key-a",
    },
    Who {
        kind: Kind::Delta("deltas"),
        key: "key-b",
    },
];

/// One turn that was answered, as its caller saw it.
#[derive(Debug)]
struct Answered {
    who: Who,
    /// Prompts and answers that the request carried.
    history: Vec<(String, String)>,
    prompt: String,
    answer: String,
}

/// What all callers have seen and done.
#[derive(Debug, Default)]
struct Seen {
    answered: Vec<Answered>,
    /// Of words that nobody else says: how many turns were meant.
    turns: BTreeMap<String, usize>,
    /// By delta caller: all that it said, in order.
    deltas: BTreeMap<&'static str, Vec<String>>,
}

struct Door {
    router: Router,
    seen: RefCell<Seen>,
}

impl Door {
    /// One request; `None` where the caller hung up.
    async fn ask(
        &self,
        who: Who,
        body: &Value,
        marked: bool,
        patience: Option<u64>,
    ) -> Option<(String, String)> {
        let mut request = Request::post("/v1/chat/completions")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", who.key));
        if let Kind::Delta(handle) | Kind::NamedChat(handle) = who.kind {
            request = request.header("x-conversation-id", handle);
        }
        if let Kind::Chat(chat) | Kind::NamedChat(chat) = who.kind {
            request = request.header("x-openwebui-chat-id", chat);
        }
        if marked {
            request = request.header("x-stainless-retry-count", "1");
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let decision = response.headers()["x-conversation-decision"]
                .to_str()
                .unwrap()
                .to_owned();
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(status, 200, "{body}");
            let text = body["choices"][0]["message"]["content"].as_str().unwrap();
            (decision, text.to_owned())
        };
        match patience {
            None => Some(answer.await),
            Some(patience) => timeout(Duration::from_millis(patience), answer).await.ok(),
        }
    }

    async fn live(&self, number: usize, steps: &[Step]) {
        let who = CALLERS[number];
        let mut history: Vec<(String, String)> = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            sleep(Duration::from_millis(step.pause_ms)).await;
            let own = format!("own words {number} {at}");
            let says = |prompt: &Prompt| match prompt {
                Prompt::Shared(word) => format!("word {word}"),
                Prompt::Own => own.clone(),
            };
            let delta = matches!(who.kind, Kind::Delta(_));
            let prompt = match &step.action {
                Action::Append(prompt) => says(prompt),
                Action::Edit(kept, prompt) if !delta => {
                    history.truncate(*kept);
                    says(prompt)
                }
                Action::Regenerate if !delta && !history.is_empty() => history.pop().unwrap().0,
                Action::Edit(_, prompt) => says(prompt),
                Action::Regenerate => own.clone(),
            };
            let shown = if delta { &[][..] } else { &history };
            let body = body(shown, &prompt);
            {
                let mut seen = self.seen.borrow_mut();
                if prompt.starts_with("own") {
                    *seen.turns.entry(prompt.clone()).or_default() += 1;
                }
                if delta {
                    seen.deltas.entry(who.key).or_default().push(prompt.clone());
                }
            }
            let mut answer = self.ask(who, &body, false, step.hang_up_ms).await;
            if answer.is_none() {
                sleep(Duration::from_millis(step.pause_ms)).await;
                answer = self.ask(who, &body, step.marked, None).await;
                // Of two who say the same, one may have collected what the other left.
                if prompt == own {
                    let (decision, _) = answer.as_ref().unwrap();
                    assert_eq!(decision, "attached", "who asks again gets the same run");
                }
            }
            let (_, answer) = answer.unwrap();
            self.seen.borrow_mut().answered.push(Answered {
                who,
                history: history.clone(),
                prompt: prompt.clone(),
                answer: answer.clone(),
            });
            history.push((prompt, answer));
        }
    }
}

fn body(history: &[(String, String)], prompt: &str) -> Value {
    let mut messages = Vec::new();
    for (question, answer) in history {
        messages.push(json!({"role": "user", "content": question}));
        messages.push(json!({"role": "assistant", "content": answer}));
    }
    messages.push(json!({"role": "user", "content": prompt}));
    json!({"model": "m", "messages": messages})
}

/// What the sandbox says after these messages.
pub fn recital(posts: &[String]) -> String {
    let mut hash = Sha256::new();
    for post in posts {
        hash.update((post.len() as u64).to_le_bytes());
        hash.update(post);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The visible transcript that a thread's posts amount to: prompts, with the answers between them.
pub fn visible(posts: &[String]) -> Vec<String> {
    let mut path = Vec::new();
    for (at, post) in posts.iter().enumerate() {
        let mut prompt = post.as_str();
        if let Some(rest) = post.strip_prefix("Earlier conversation:\n\n") {
            assert_eq!(at, 0, "only a new thread begins with a transcript: {post}");
            let (transcript, last) = rest.split_once("\n\n---\n\n").unwrap();
            for entry in transcript.split("\n\n") {
                path.push(entry.split_once(": ").unwrap().1.to_owned());
            }
            prompt = last;
        }
        path.push(prompt.to_owned());
        path.push(recital(&posts[..=at]));
    }
    path
}

/// What the upstream holds in the end.
struct Upstream {
    /// By thread: what was posted on it.
    threads: BTreeMap<String, Vec<String>>,
    /// By thread: the keys of all calls.
    keys: BTreeMap<String, Vec<String>>,
    /// By answer: the threads that gave it, and after how many posts.
    said: BTreeMap<String, Vec<(String, usize)>>,
}

impl Upstream {
    fn of(sandbox: &Sandbox) -> Self {
        let mut threads: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (thread, text) in sandbox.posts() {
            threads.entry(thread.to_string()).or_default().push(text);
        }
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for call in sandbox.calls() {
            if let (Some(thread), Some(key)) = (call.thread, call.key) {
                let keys = keys.entry(thread.to_string()).or_default();
                keys.push(key.expose().to_owned());
            }
        }
        let mut said: BTreeMap<String, Vec<(String, usize)>> = BTreeMap::new();
        for (thread, posts) in &threads {
            for end in 1..=posts.len() {
                let origins = said.entry(recital(&posts[..end])).or_default();
                origins.push((thread.clone(), end));
            }
        }
        Self {
            threads,
            keys,
            said,
        }
    }

    /// Whether this answer was computed on what its caller saw, and with its caller's key alone.
    fn vouches_for(&self, turn: &Answered) -> bool {
        let mut seen: Vec<&str> = Vec::new();
        for (prompt, answer) in &turn.history {
            seen.extend([prompt.as_str(), answer]);
        }
        seen.extend([turn.prompt.as_str(), &turn.answer]);
        self.said[&turn.answer].iter().any(|(thread, end)| {
            let path = visible(&self.threads[thread][..*end]);
            let same = match turn.who.kind {
                Kind::Delta(_) => path[path.len() - 2..] == seen[seen.len() - 2..],
                Kind::History | Kind::Chat(_) | Kind::NamedChat(_) => path == seen,
            };
            same && self.keys[thread].iter().all(|key| key == turn.who.key)
        })
    }

    /// How often these words were posted as a prompt.
    fn posts_of(&self, prompt: &str) -> usize {
        let posts = self.threads.values().flatten();
        posts
            .filter(|post| post.rsplit("\n\n---\n\n").next() == Some(prompt))
            .count()
    }
}

fn check(sandbox: &Sandbox, seen: &Seen) {
    let upstream = Upstream::of(sandbox);
    let threads = &upstream.threads;
    for turn in &seen.answered {
        assert!(
            upstream.vouches_for(turn),
            "an answer computed on another history: {turn:?}\n{threads:#?}"
        );
    }
    for (prompt, turns) in &seen.turns {
        let posts = upstream.posts_of(prompt);
        assert_eq!(posts, *turns, "posts of {prompt:?}\n{threads:#?}");
    }
    for said in seen.deltas.values() {
        assert!(
            threads.values().any(|posts| posts == said),
            "one thread holds {said:?}\n{threads:#?}"
        );
    }
}

/// `hang_ups` is how often a caller leaves before its answer.
fn steps(hang_ups: f64) -> impl Strategy<Value = Vec<Vec<Step>>> {
    let prompt = prop_oneof![(0..2_u8).prop_map(Prompt::Shared), Just(Prompt::Own)].boxed();
    let action = prop_oneof![
        4 => prompt.clone().prop_map(Action::Append),
        2 => (0..3_usize, prompt).prop_map(|(kept, prompt)| Action::Edit(kept, prompt)),
        1 => Just(Action::Regenerate),
    ];
    let step = (
        0..4_000_u64,
        action,
        proptest::option::weighted(hang_ups, 1..9_000_u64),
        any::<bool>(),
    )
        .prop_map(|(pause_ms, action, hang_up_ms, marked)| Step {
            pause_ms,
            action,
            hang_up_ms,
            marked,
        });
    prop::collection::vec(prop::collection::vec(step, 0..4), CALLERS.len())
}

fn interleave(lives: &[Vec<Step>]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let sandbox = Sandbox::new(Script::always(Behaviour {
            recites: true,
            reply_after: Some(Duration::from_secs(5)),
            ..Behaviour::default()
        }));
        let mut config = CONFIG.clone();
        config.pace.strategy = config::Strategy::Fixed;
        config.conversations.transcript = 1 << 20;
        let salt = Salt::random().unwrap();
        let metrics = Arc::new(Metrics::new());
        let secrets = Secrets {
            salt: salt.clone(),
            ids: Salt::random().unwrap(),
        };
        let upstream = Arc::new(sandbox.clone());
        let foundation = Foundation::in_memory(upstream, secrets, metrics.clone());
        let runner = Runner::new(&config, foundation);
        let door = Door {
            router: router(Parts {
                config: Arc::new(config),
                runner,
                access: Access::PassThrough,
                salt,
                metrics,
                state: Arc::new(Nowhere),
                stop: Stop::default(),
            }),
            seen: RefCell::default(),
        };
        let callers = lives
            .iter()
            .enumerate()
            .map(|(number, steps)| door.live(number, steps));
        futures_util::future::join_all(callers).await;
        // Runs that nobody waits for end too.
        sleep(Duration::from_secs(60)).await;
        check(&sandbox, &door.seen.borrow());
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, max_shrink_iters: 2_000,
        failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_computed_on_what_its_caller_sees(lives in steps(0.1)) {
        interleave(&lives);
    }

    #[test]
    fn nothing_is_posted_twice_whoever_hangs_up(lives in steps(0.6)) {
        interleave(&lives);
    }
}
