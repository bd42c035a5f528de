//! The pure parts of a turn, each alone: `cargo bench -p compare`.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use chaturdata_proxy::clock::{Clock, Moment};
use chaturdata_proxy::config::{Config, SideCalls};
use chaturdata_proxy::conversation::resolve::{Hashes, Resolver, Secrets};
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::conversation::{Base, Caller, Limits, Message, Names, Repeat, Role, Turn};
use chaturdata_proxy::ids::{Handle, Tenant};
use chaturdata_proxy::openai::Head;
use chaturdata_proxy::openai::chat::{Chunks, completion};
use chaturdata_proxy::openai::forms::Calls;
use chaturdata_proxy::openai::render::Render;
use chaturdata_proxy::run::Answer;
use chaturdata_proxy::run::pace::estimate::Bracket;
use chaturdata_proxy::run::pace::learner::{Plan, Spacing};
use chaturdata_proxy::run::pace::views::Views;
use chaturdata_proxy::run::pace::{Beat, Pace};
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::store::backend::Nowhere;
use chaturdata_proxy::store::{Bounds, Store};
use chaturdata_proxy::upstream::ThreadId;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn salt() -> Salt {
    Salt::fixed([1; 32])
}

fn message(role: Role, at: usize) -> Message {
    let lead = format!("message {at}: ");
    let words = "how did sales by region change since the last quarter and why ";
    Message {
        role,
        text: lead
            .chars()
            .chain(words.chars().cycle())
            .take(500)
            .collect::<String>()
            .into(),
        calls: Vec::new(),
        answers: None,
        parts: Vec::new(),
    }
}

fn turn(history: usize) -> Turn {
    let roles = [Role::User, Role::Assistant];
    let messages = (0..history).map(|at| message(roles[at % 2], at));
    Turn {
        caller: Caller {
            tenant: Tenant([3; 32]),
            account: Tenant([3; 32]),
            key: Secret::new("sk-bench"),
        },
        model: "chaturdata".to_owned(),
        instructions: None,
        base: Base::Nothing,
        history: messages.collect(),
        prompt: vec![message(Role::User, history)],
        names: Names {
            handle: Some(Handle("bench".into())),
            ..Names::default()
        },
        limits: Limits::default(),
        form: None,
        keep: None,
        choice: 0,
        repeat: Repeat {
            body: [0; 32],
            idempotency_key: None,
            marked: false,
        },
        deadline: Duration::from_secs(590),
    }
}

fn fingerprint(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fingerprint");
    for history in [2, 20, 200] {
        let turn = turn(history);
        group.throughput(Throughput::Bytes(500 * history as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(history),
            &turn,
            |bencher, turn| {
                let salt = salt();
                bencher.iter(|| Hashes::of(&salt, black_box(turn)));
            },
        );
    }
}

/// Among many conversations, of which none fits: every look-up is made, and nothing is claimed.
fn resolve(criterion: &mut Criterion) {
    let bounds = Bounds {
        max: 1_000_000,
        max_age: Duration::from_secs(3600),
    };
    let clock = Clock::at(Moment::of_wall());
    let store = Arc::new(Store::new(bounds, clock, Arc::new(Nowhere)));
    let secrets = Secrets {
        salt: salt(),
        ids: salt(),
    };
    let resolver = Resolver::new(secrets, store, SideCalls::Local, 4);
    for number in 0..10_000 {
        let mut turn = turn(2);
        turn.names.handle = Some(Handle(format!("conversation {number}").into()));
        turn.history[0].text.push_str(&number.to_string());
        let hashes = Hashes::of(&salt(), &turn);
        resolver
            .resolve(&turn, &hashes)
            .expect("nothing is known of it");
    }
    let mut turn = turn(20);
    turn.names.handle = Some(Handle("conversation 5000".into()));
    let hashes = Hashes::of(&salt(), &turn);
    criterion.bench_function("resolve", |bencher| {
        bencher.iter(|| resolver.preview(black_box(&turn), &hashes).is_ok());
    });
}

fn render(criterion: &mut Criterion) {
    let head = Head {
        id: "chatcmpl-0123456789abcdef0123456789abcdef".to_owned(),
        created: 1_790_000_000,
        model: "chaturdata".to_owned(),
    };
    let answers = [Arc::new(Answer {
        text: message(Role::Assistant, 1).text.into_string(),
        ..Answer::default()
    })];
    criterion.bench_function("render/completion", |bencher| {
        bencher.iter(|| {
            serde_json::to_vec(&completion(
                &head,
                black_box(&answers),
                100,
                Calls::default(),
            ))
        });
    });
    let mut chunks = Chunks::new(head.clone(), 1, false, 100);
    let text = &answers[0].text;
    criterion.bench_function("render/chunk", |bencher| {
        bencher.iter(|| chunks.text(0, black_box(text)));
    });
}

fn pace(criterion: &mut Criterion) {
    let pace = Pace::new(&Config::default().pace);
    let rhythm = pace.rhythm(&Tenant([0; 32]));
    let brackets: VecDeque<Bracket> = (0..300)
        .map(|run| {
            let after = 3.0 + f64::from(run % 7) * 2.0;
            Bracket {
                after,
                by: after + 2.5,
            }
        })
        .collect();
    let thread = ThreadId("th_1".into());
    let beat = Beat {
        so_far: Duration::from_secs(7),
        polls: 2,
        runs: 100,
    };
    criterion.bench_function("pace/next", |bencher| {
        bencher.iter(|| rhythm.wait(black_box(&thread), beat));
    });
    criterion.bench_function("pace/plan", |bencher| {
        let spacing = Spacing {
            min_gap: 2.0,
            interval: 3.0,
        };
        let mut views = Views::new(spacing.interval);
        bencher.iter(|| {
            views.look(black_box(&brackets));
            Plan::new(&views, spacing)
        });
    });
}

criterion_group!(parts, fingerprint, resolve, render, pace);
criterion_main!(parts);
