//! Conversations with an upstream of which anything may go wrong at any call: every answer is the
//! right one, or the caller is told that there is none.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::to_bytes;
use chaturdata_proxy::config::{self, Config, OnUnknown};
use chaturdata_proxy::upstream::sandbox::script::{
    Answer, Behaviour, Echo, Lands, Post, Read, Rule, Script,
};
use chaturdata_proxy::upstream::sandbox::shape::{Field, Order, Shape, StatusShape};
use proptest::prelude::*;
use serde_json::Value;
use tokio::time::sleep;

use crate::interleavings::{recital, visible};
use crate::proxy::{Proxy, Setup, Streamed};
use crate::talk::{Talk, busy, posted, seconds};

/// Read once: thousands of proxies are built.
static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);

/// Which upstream it is, and what befalls its POSTs in their order.
#[derive(Clone, Debug)]
struct Weather {
    shape: Shape,
    echo: Echo,
    mishaps: Vec<Mishap>,
    tells: bool,
}

/// What befalls one POST and the run that it may begin.
#[derive(Clone, Debug)]
struct Mishap {
    post: Post,
    reply_after: Duration,
    ending: &'static str,
    lags: Lags,
    reads: Vec<Read>,
}

/// Text that grows while its status is stale, or lags behind it, cannot be told from whole text.
#[derive(Clone, Debug)]
enum Lags {
    Growth(u32),
    Stale {
        reads: u32,
        messages: u32,
        reply: u32,
    },
}

/// What a caller does next.
#[derive(Clone, Debug)]
struct Step {
    pause: Duration,
    /// So many turns of the history are kept.
    kept: Option<usize>,
    streams: bool,
    /// After an error that stands: asks the same once more, much later.
    insists: bool,
}

/// One turn that was answered, as its caller saw it.
#[derive(Debug)]
struct Answered {
    path: Vec<String>,
    answer: String,
}

impl Weather {
    fn script(&self) -> Script {
        let fair = Behaviour {
            recites: true,
            reply_after: Some(seconds(4)),
            shape: self.shape.clone(),
            echo: self.echo,
            ..Behaviour::default()
        };
        let rule = |mishap: &Mishap| Rule {
            when: String::new(),
            times: Some(1),
            behaviour: mishap.behaviour(&fair),
        };
        Script {
            rules: self.mishaps.iter().map(rule).collect(),
            ..Script::always(fair.clone())
        }
    }
}

impl Mishap {
    fn behaviour(&self, fair: &Behaviour) -> Behaviour {
        let mut behaviour = Behaviour {
            post: self.post.clone(),
            reply_after: Some(self.reply_after),
            ending: self.ending.to_owned(),
            reads: self.reads.clone(),
            ..fair.clone()
        };
        match self.lags {
            Lags::Growth(steps) => {
                behaviour.growth = steps;
                behaviour.post.status = None;
            }
            Lags::Stale {
                reads,
                messages,
                reply,
            } => {
                behaviour.stale_reads = reads;
                behaviour.message_lag = messages;
                behaviour.reply_lag = reply;
            }
        }
        behaviour
    }
}

/// The text of an answer, or the error in its place.
type Outcome = Result<String, Told>;

struct Told {
    code: String,
    stands: bool,
}

async fn ask(proxy: &Proxy, talk: &Talk<'_>, text: &str, streams: bool) -> Outcome {
    let response = proxy.send(talk.request(text, streams)).await;
    if streams && response.status() == 200 {
        let streamed = Streamed::of(response).await;
        if !streamed.broken {
            return Ok(streamed.text());
        }
        let code = streamed.error()["code"].as_str().unwrap().to_owned();
        let stands = code != "run_timeout";
        return Err(Told { code, stands });
    }
    let stands = response.headers().get("x-should-retry");
    let stands = stands.is_some_and(|value| value == "false");
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    match body["choices"][0]["message"]["content"].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Told {
            code: body["error"]["code"].as_str().unwrap().to_owned(),
            stands,
        }),
    }
}

/// One caller's life. `answered` is told every answer.
async fn live(proxy: &Proxy, name: &str, steps: &[Step], answered: &RefCell<Vec<Answered>>) {
    let mut talk = Talk::new(proxy);
    let mut path: Vec<String> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        sleep(step.pause).await;
        if let Some(kept) = step.kept {
            path.truncate(2 * kept);
            talk.messages.truncate(2 * kept);
        }
        let text = format!("words {name} {at}");
        let mut insists = step.insists;
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            assert!(tries < 40, "{text} never ends");
            match ask(proxy, &talk, &text, step.streams).await {
                Ok(answer) => break Some(answer),
                Err(told) => {
                    assert!(KNOWN.contains(&told.code.as_str()), "{}", told.code);
                    if told.stands && !insists {
                        break None;
                    }
                    insists &= !told.stands;
                    sleep(seconds(70)).await;
                }
            }
        };
        if let Some(answer) = answer {
            path.push(text.clone());
            path.push(answer.clone());
            talk.remember(&text, &answer.clone().into());
            let path = path.clone();
            answered.borrow_mut().push(Answered { path, answer });
        }
    }
}

/// What a caller may be told here.
const KNOWN: [&str; 9] = [
    "run_failed",
    "run_cancelled",
    "run_expired",
    "run_timeout",
    "rate_limit_exceeded",
    "upstream_unreachable",
    "upstream_outcome_unknown",
    "upstream_refused",
    "upstream_error",
];

fn check(proxy: &Proxy, answered: &[Answered]) {
    let threads = posted(proxy);
    let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for posts in &threads {
        for end in 1..=posts.len() {
            paths.insert(recital(&posts[..end]), visible(&posts[..end]));
        }
        let mut prompts: Vec<&str> = posts
            .iter()
            .map(|post| post.rsplit("\n\n---\n\n").next().unwrap())
            .collect();
        prompts.sort_unstable();
        prompts.dedup();
        assert_eq!(prompts.len(), posts.len(), "posted twice: {posts:#?}");
    }
    for turn in answered {
        assert_eq!(
            paths.get(&turn.answer),
            Some(&turn.path),
            "an answer computed on another history\n{threads:#?}"
        );
    }
}

fn weather() -> impl Strategy<Value = Weather> {
    let order = prop_oneof![Just(Order::OldestFirst), Just(Order::NewestFirst)];
    let status = prop_oneof![4 => Just(StatusShape::Object), 1 => Just(StatusShape::Bare)];
    let omit = prop::sample::subsequence(Field::ALL.to_vec(), 0..=4);
    let window = prop_oneof![Just(None), Just(Some(20))];
    let shape = (order, status, omit, window).prop_map(|(order, run_status, omit, window)| Shape {
        order,
        omit,
        window,
        run_status,
        ..Shape::default()
    });
    let echo = prop_oneof![Just(Echo::Same), Just(Echo::Trimmed), Just(Echo::Rewrapped)];
    let mishaps = prop::collection::vec(mishap(), 0..12);
    (shape, echo, mishaps, any::<bool>()).prop_map(|(shape, echo, mishaps, tells)| Weather {
        shape,
        echo,
        mishaps,
        tells,
    })
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let lags = prop_oneof![
        (0..5_u32).prop_map(Lags::Growth),
        (0..3_u32, 0..3_u32, 0..3_u32).prop_map(|(reads, messages, reply)| Lags::Stale {
            reads,
            messages,
            reply,
        }),
    ];
    let ending = prop_oneof![
        8 => Just("completed"), 1 => Just("failed"), 1 => Just("cancelled"), 1 => Just("incomplete")
    ];
    let reads =
        prop::collection::vec((1..6_u32, 1..3_u32, read_answer()), 0..3).prop_map(|reads| {
            let these = reads.into_iter();
            these
                .map(|(from, count, answer)| Read::these(from, count, answer))
                .collect()
        });
    (post(), 0..20_u64, ending, lags, reads).prop_map(|(post, reply_after, ending, lags, reads)| {
        Mishap {
            post,
            reply_after: seconds(reply_after),
            ending,
            lags,
            reads,
        }
    })
}

fn post() -> impl Strategy<Value = Post> {
    let answer = prop_oneof![
        6 => Just(Answer::Proper),
        2 => Just(Answer::Reset),
        1 => Just(Answer::Hang),
        1 => Just(Answer::Cut(9)),
        1 => Just(Answer::html(502)),
        1 => Just(Answer::Without(vec!["thread_id".to_owned()])),
        1 => Just(Answer::Unreachable),
        1 => Just(busy(429, Some("3"))),
        1 => Just(busy(503, Some("40"))),
        1 => Just(Answer::status(400)),
        1 => Just(Answer::status(409)),
    ];
    let lands = prop_oneof![
        2 => Just(Lands::AtOnce),
        2 => Just(Lands::Never),
        3 => (1..90_u64).prop_map(|after| Lands::After(seconds(after))),
    ];
    let status = prop_oneof![2 => Just(None), 1 => Just(Some("completed".to_owned()))];
    (answer, lands, status, 0..7_u64).prop_map(|(answer, lands, status, accept_after)| {
        // A refusal tells the truth, and so does an acceptance.
        let is_ambiguous = matches!(
            &answer,
            Answer::Reset | Answer::Hang | Answer::Cut(_) | Answer::Without(_)
        ) || matches!(&answer, Answer::Canned(canned) if canned.status == 502);
        Post {
            accept_after: seconds(accept_after),
            lands: is_ambiguous.then_some(lands),
            answer,
            status,
            ..Post::default()
        }
    })
}

fn read_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Reset),
        Just(Answer::Cut(20)),
        Just(Answer::html(502)),
        Just(Answer::status(404)),
        Just(busy(429, Some("5"))),
        Just(Answer::Without(vec!["run_status".to_owned()])),
        Just(Answer::Without(vec!["messages".to_owned()])),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        0..30_u64,
        prop::option::weighted(0.2, 0..4_usize),
        any::<bool>(),
        any::<bool>(),
    );
    let step = step.prop_map(|(pause, kept, streams, insists)| Step {
        pause: seconds(pause),
        kept,
        streams,
        insists,
    });
    prop::collection::vec(step, 1..14)
}

fn weathered(weather: &Weather, lives: &[Vec<Step>]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut config = CONFIG.clone();
        config.pace.strategy = config::Strategy::Fixed;
        config.conversations.transcript = 1 << 20;
        if weather.tells {
            config.run.on_unknown = OnUnknown::Tell;
        }
        let proxy = Proxy::start(Setup {
            config,
            ..Setup::default()
        });
        proxy.sandbox.set_script(weather.script());
        let answered = RefCell::default();
        let (first, second) = (&lives[0], &lives[1]);
        tokio::join!(
            live(&proxy, "a", first, &answered),
            live(&proxy, "b", second, &answered)
        );
        // Whatever is late arrives.
        sleep(Duration::from_mins(3)).await;
        check(&proxy, &answered.borrow());
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_shrink_iters: 2_000,
        failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_right_or_there_is_none(
        weather in weather(),
        lives in prop::collection::vec(steps(), 2),
    ) {
        weathered(&weather, &lives);
    }
}
