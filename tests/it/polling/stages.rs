//! Turns wait for each other between their stages, but not for those that sleep until their next poll.

use std::sync::{Arc, Mutex};

use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::store::backend::{Backend, Flushed, Table, Write};
use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use chaturdata_proxy::upstream::{
    Call, Message, NewMessage, PostError, Posted, ReadError, Role, RunStatus, Thread, ThreadId,
    Upstream,
};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::sleep;

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, seconds};

/// Two runs, some time after they were asked for: they are polled after 2 s, and end after 4.
async fn two_runs(proxy: &Proxy, after: u64) {
    let run = Behaviour::says("there", seconds(4));
    proxy.sandbox.set_script(Script::always(run));
    let (mut one, mut other) = (Talk::new(proxy), Talk::new(proxy));
    let both = async { tokio::join!(one.says("hello"), other.says("good day")) };
    tokio::select! {
        _ = both => {}
        () = sleep(seconds(after)) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_waits_for_none_that_sleeps_until_its_next_poll() {
    let proxy = Proxy::start(Setup::default());

    two_runs(&proxy, 1).await;

    assert_eq!(proxy.runner.0.calls.dozing(), 2);
    assert_eq!(proxy.runner.next_stage().now_or_never(), Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_over_sleeps_no_longer() {
    for after in [1, 600] {
        let proxy = Proxy::start(Setup::default());
        two_runs(&proxy, after).await;

        proxy.runner.shut_down().await;

        assert_eq!(proxy.runner.0.calls.dozing(), 0, "{after}");
    }
}

/// What turns did, in the order in which they did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Did {
    Post,
    Read,
    /// Had its branch written.
    Write,
}

/// An upstream and a disk that keep nobody waiting: all that a turn waits for is other turns.
#[derive(Debug, Default)]
struct Ready {
    did: Mutex<Vec<Did>>,
    posted: Mutex<Vec<String>>,
}

impl Ready {
    fn did(&self, did: Did) {
        self.did.lock().unwrap().push(did);
    }
}

impl Upstream for Ready {
    fn post<'a>(
        &'a self,
        _: &'a Secret,
        message: &'a NewMessage,
    ) -> Call<'a, Result<Posted, PostError>> {
        self.did(Did::Post);
        let mut posted = self.posted.lock().unwrap();
        let thread = ThreadId(posted.len().to_string().into());
        posted.push(message.text.clone());
        Box::pin(std::future::ready(Ok(Posted {
            thread,
            status: Some(RunStatus::Completed),
            failure: None,
        })))
    }

    fn read<'a>(
        &'a self,
        _: &'a Secret,
        thread: &'a ThreadId,
    ) -> Call<'a, Result<Thread, ReadError>> {
        self.did(Did::Read);
        let number: usize = thread.0.parse().unwrap();
        let asked = self.posted.lock().unwrap()[number].clone();
        let said = [(Role::User, asked), (Role::Assistant, "there".to_owned())];
        let messages = said.map(|(role, text)| Message {
            role: Some(role),
            text,
            ..Message::default()
        });
        Box::pin(std::future::ready(Ok(Thread {
            messages: messages.into(),
            status: Some(RunStatus::Completed),
            failure: None,
        })))
    }
}

impl Backend for Ready {
    fn queue(&self, unit: Vec<Write>) {
        if unit.iter().any(|write| write.table == Table::Branches) {
            self.did(Did::Write);
        }
    }

    fn flushed(&self) -> Flushed<'_> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn is_degraded(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn turns_at_hand_are_all_posted_then_all_read_then_all_written() {
    let ready = Arc::new(Ready::default());
    let setup = Setup {
        state: ready.clone(),
        ..Setup::default()
    };
    let proxy = Proxy::over(setup, Sandbox::new(Script::default()), ready.clone());
    let turns = ["one", "two", "three"].map(|text| {
        let mut talk = Talk::new(&proxy);
        async move { talk.says(text).await.status }
    });

    let statuses = join_all(turns).await;

    assert_eq!(statuses, [200; 3]);
    let of_each = |did: &[Did]| did.repeat(3);
    let stages = [
        of_each(&[Did::Post, Did::Write]),
        of_each(&[Did::Read]),
        of_each(&[Did::Write]),
    ];
    assert_eq!(*ready.did.lock().unwrap(), stages.concat());
}
