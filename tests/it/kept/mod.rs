//! Turns that are kept as responses, and conversations that callers look after, asked of the runs
//! themselves.

mod background;
mod bounds;
mod conversations;
mod following;
mod items;
mod responses;

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use chaturdata_proxy::conversation::{
    Base, Caller, Decision, Keep, Limits, Message, Names, Repeat, Role, Turn,
};
use chaturdata_proxy::ids::{Handle, ResponseId};
use chaturdata_proxy::run::responses::Stored;
use chaturdata_proxy::run::subscription::Subscription;
use chaturdata_proxy::run::{Error, RunEvent};
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::upstream::sandbox::script::Script;

use crate::proxy::{Proxy, Setup};
use crate::restarts::Home;
use crate::talk::{first, seconds, soon};

/// A proxy whose upstream answers, and what its callers may ask of it.
struct Rig {
    home: Home,
    proxy: Proxy,
    asked: AtomicU8,
}

impl Rig {
    /// Whose upstream says `first` to the first message, and `later` to others, each after a second.
    fn new() -> Self {
        Self::with(first(1, soon("first"), soon("later")))
    }

    fn with(script: Script) -> Self {
        Self::with_setup(script, Setup::default())
    }

    fn with_setup(script: Script, setup: Setup) -> Self {
        let home = Home::new(script);
        let proxy = home.start_with(setup);
        Self {
            home,
            proxy,
            asked: AtomicU8::new(0),
        }
    }

    /// Kills the process, and starts the next.
    async fn restarted(mut self) -> Self {
        self.home.kill(self.proxy).await;
        Self {
            proxy: self.home.start(),
            ..self
        }
    }

    fn caller(&self, key: &str) -> Caller {
        Caller::of_key(&self.home.salt, Secret::new(key))
    }

    fn owner(&self) -> Caller {
        self.caller("sk-caller")
    }

    /// A turn that is kept, and that nobody has asked before.
    fn turn(&self, text: &str) -> Turn {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        Turn {
            caller: self.owner(),
            model: "chaturdata".to_owned(),
            instructions: None,
            base: Base::Nothing,
            history: Vec::new(),
            prompt: vec![Message::said(Role::User, text)],
            names: Names::default(),
            limits: Limits::default(),
            form: None,
            keep: Some(Keep {
                id: ResponseId([number; 16]),
                created: 1_700_000_000,
                model: "asked-for".to_owned(),
                background: false,
            }),
            choice: 0,
            repeat: Repeat {
                body: [number; 32],
                idempotency_key: None,
                marked: false,
            },
            deadline: Duration::from_secs(590),
        }
    }

    fn after(&self, id: ResponseId, text: &str) -> Turn {
        Turn {
            base: Base::Response(id),
            ..self.turn(text)
        }
    }

    fn within(&self, handle: &Handle, text: &str) -> Turn {
        let names = Names {
            handle: Some(handle.clone()),
            ..Names::default()
        };
        Turn {
            base: Base::Conversation,
            names,
            ..self.turn(text)
        }
    }

    fn background(&self, text: &str) -> Turn {
        let turn = self.turn(text);
        let keep = turn.keep.map(|keep| Keep {
            background: true,
            ..keep
        });
        Turn { keep, ..turn }
    }

    fn start(&self, turn: Turn) -> Subscription {
        let place = self.proxy.runner.start(turn);
        place.map_err(|refused| refused.error).unwrap()
    }

    fn refused(&self, turn: Turn) -> Error {
        self.proxy.runner.start(turn).unwrap_err().error
    }

    async fn tells(&self, turn: Turn) -> Told {
        let mut place = self.start(turn);
        let answer = place.answer().await.map(|answer| answer.text.clone());
        let told = Told {
            id: place.kept().map(|kept| kept.id),
            answer,
            decision: place.place().decision,
            conversation: place.place().conversation,
        };
        place.delivered();
        told
    }

    /// The answer of a response, as its owner finds it.
    async fn finds(&self, id: ResponseId) -> Result<String, Error> {
        let unknown = Error::NoResponse(id.to_string());
        let stored = self.stored(id).ok_or(unknown)?;
        read(stored).await
    }

    fn stored(&self, id: ResponseId) -> Option<Stored> {
        self.proxy.runner.response(&self.owner(), id)
    }
}

/// What came of a turn.
#[derive(Debug)]
struct Told {
    id: Option<ResponseId>,
    answer: Result<String, Error>,
    decision: Decision,
    conversation: Handle,
}

impl Told {
    fn id(&self) -> ResponseId {
        self.id.unwrap()
    }

    fn text(&self) -> &str {
        self.answer.as_deref().unwrap()
    }
}

async fn read(mut stored: Stored) -> Result<String, Error> {
    let answer = stored.subscription.answer().await;
    stored.subscription.delivered();
    answer.map(|answer| answer.text.clone())
}

/// Every piece that a listener is told, to the end.
async fn pieces(mut place: Subscription) -> Vec<String> {
    let mut pieces = Vec::new();
    loop {
        match place.next().await {
            RunEvent::Accepted => {}
            RunEvent::Text(text) => pieces.push(text),
            RunEvent::Completed(_) => return pieces,
            RunEvent::Failed(error) => unreachable!("{error}"),
        }
    }
}

/// Longer than answers stay in memory.
fn long() -> Duration {
    seconds(16 * 60)
}
