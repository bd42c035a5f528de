//! Much at once: the upstream sees no herd of polls, and nobody waits behind all the others.

use std::sync::Arc;
use std::time::Duration;

use chaturdata_proxy::config::{Config, Strategy};
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Post, Script};
use chaturdata_proxy::upstream::sandbox::{Kind, Sandbox};
use chaturdata_proxy::upstream::{
    Call, NewMessage, PostError, Posted, ReadError, Thread, ThreadId, Upstream,
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};

use super::{asks, question, shared};
use crate::proxy::{Proxy, Setup};
use crate::talk::{calls, said, seconds, told};

fn roomy(config: &mut Config) {
    config.pace.strategy = Strategy::Learned;
    config.server.max_waiting = 4000;
    config.server.max_waiting_per_key = 2000;
    config.run.max_active = 4000;
    config.run.max_active_per_key = 2000;
    config.upstream.queue_timeout = seconds(60);
}

fn proxy(behaviour: Behaviour) -> Proxy {
    let proxy = shared(|setup| roomy(&mut setup.config));
    proxy.sandbox.set_script(Script::always(behaviour));
    proxy
}

/// An upstream that takes a while for everything, and whose runs take so many seconds.
fn busy(takes: u64) -> Behaviour {
    Behaviour {
        post: Post {
            accept_after: Duration::from_millis(20),
            ..Post::default()
        },
        read_delay: Duration::from_millis(10),
        ..Behaviour::says("yes", seconds(takes))
    }
}

/// An upstream whose reads stand still for a while.
#[derive(Debug)]
struct Stalling {
    sandbox: Sandbox,
    from: Instant,
    until: Instant,
}

impl Upstream for Stalling {
    fn post<'a>(
        &'a self,
        key: &'a Secret,
        message: &'a NewMessage,
    ) -> Call<'a, Result<Posted, PostError>> {
        self.sandbox.post(key, message)
    }

    fn read<'a>(
        &'a self,
        key: &'a Secret,
        thread: &'a ThreadId,
    ) -> Call<'a, Result<Thread, ReadError>> {
        Box::pin(async {
            if Instant::now() > self.from {
                sleep_until(self.until).await;
            }
            self.sandbox.read(key, thread).await
        })
    }
}

/// How many reads each second has seen since `start`.
fn rate(proxy: &Proxy, start: Instant) -> Vec<usize> {
    let mut rate = Vec::new();
    for call in calls(proxy, Kind::Read) {
        let second = usize::try_from((call.at - start).as_secs()).unwrap();
        rate.resize(rate.len().max(second + 1), 0);
        rate[second] += 1;
    }
    rate
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_at_once_are_polled_at_an_even_rate() {
    let proxy = proxy(busy(60));
    let start = Instant::now();
    let asked = (0..1000).map(|n| {
        let caller = ["a", "b", "c", "d"][n % 4];
        let proxy = &proxy;
        async move { asks(proxy, caller, &format!("question {n}")).await }
    });

    let replies = join_all(asked).await;

    assert!(replies.iter().all(|reply| said(reply) == "yes"));
    let rate = rate(&proxy, start);
    let while_all_wait = &rate[5..60];
    let mean = while_all_wait.iter().sum::<usize>() / while_all_wait.len();
    let most = while_all_wait.iter().max().unwrap();
    assert!(
        2 * most <= 3 * mean,
        "{most} of {mean} on the mean: {rate:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_requests_on_one_handle_one_goes_and_four_wait() {
    let proxy = proxy(busy(5));
    let asked = (0..1000).map(|n| {
        let mut request = question("a", &format!("more {n}"));
        let handle = "storm".parse().unwrap();
        request.headers_mut().insert("x-conversation-id", handle);
        proxy.ask(request)
    });

    let replies = join_all(asked).await;

    let answered = replies.iter().filter(|reply| reply.status == 200).count();
    let turned_away = |reply: &&crate::proxy::Reply| {
        told(reply).starts_with("429 rate_limit_error too_many_waiting retry-after=")
    };
    let turned_away = replies.iter().filter(turned_away).count();
    assert_eq!((answered, turned_away), (5, 995));
    assert_eq!(proxy.sandbox.posts().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_key_with_one_caller_is_served_beside_a_key_with_a_thousand() {
    let proxy = proxy(busy(10));
    let start = Instant::now();
    let much = async {
        let asked = (0..1000).map(|n| {
            let proxy = &proxy;
            async move { asks(proxy, "a", &format!("much {n}")).await }
        });
        join_all(asked).await
    };
    let little = async {
        sleep(Duration::from_millis(100)).await;
        let reply = asks(&proxy, "b", "little").await;
        (reply, start.elapsed())
    };

    let (much, (little, after)) = tokio::join!(much, little);

    assert!(much.iter().all(|reply| said(reply) == "yes"));
    assert_eq!(said(&little), "yes");
    assert!(after < seconds(15), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_standstill_the_polls_that_it_held_up_do_not_come_at_once() {
    let mut setup = Setup::default();
    roomy(&mut setup.config);
    let start = Instant::now();
    let sandbox = Sandbox::new(Script::always(busy(60)));
    let upstream = Stalling {
        sandbox: sandbox.clone(),
        from: start + seconds(20),
        until: start + seconds(30),
    };
    let proxy = Proxy::over(setup, sandbox, Arc::new(upstream));
    let asked = (0..600).map(|n| {
        let question = format!("question {n}");
        let proxy = &proxy;
        async move { proxy.chat(&question).await }
    });

    let replies = join_all(asked).await;

    assert!(replies.iter().all(|reply| said(reply) == "yes"));
    let rate = rate(&proxy, start);
    let mean = rate[5..20].iter().sum::<usize>() / 15;
    let after = &rate[30..60];
    let most = after.iter().max().unwrap();
    assert!(
        2 * most <= 5 * mean,
        "{most} of {mean} on the mean: {rate:?}"
    );
}
