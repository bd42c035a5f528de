//! A state that many conversations have left, through the store's own doors: what turns write, in their
//! order, with many of them side by side.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chaturdata_proxy::clock::{Clock, Moment};
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::ids::{Digest, Fingerprint, Handle, Mark, Tenant, cut};
use chaturdata_proxy::store::disk::Disk;
use chaturdata_proxy::store::record::{Cut, Phase, Times, Turn, TurnId};
use chaturdata_proxy::store::{Bounds, Branch, Lease, Seen, Slot, State, Store};
use chaturdata_proxy::upstream::ThreadId;

use crate::rig::KEY;

/// Turns that are carried out side by side, and so written together.
const TOGETHER: usize = 500;

/// Records of ended turns that a proxy keeps by default.
const KEPT: usize = 10_000;

/// Begins these conversations, one turn each.
pub async fn fill(
    disk: &Disk,
    salt: &Salt,
    numbers: Range<usize>,
    name: fn(usize) -> String,
) -> io::Result<()> {
    let bounds = Bounds {
        max: usize::MAX,
        max_age: Duration::from_secs(30 * 24 * 60 * 60),
    };
    let clock = Clock::at(Moment::of_wall());
    let store = Store::new(bounds, clock, Arc::new(disk.clone()));
    let tenant = salt.tenant_of_key(KEY);
    let mut ended = VecDeque::new();
    let mut next = numbers.start;
    while next < numbers.end {
        let group = next..numbers.end.min(next + TOGETHER);
        next = group.end;
        let mut under_way: Vec<UnderWay> = group
            .map(|number| UnderWay::begin(&store, salt, tenant, (number, name(number))))
            .collect();
        written(&store).await?;
        under_way.iter_mut().for_each(|turn| turn.accepted(&store));
        written(&store).await?;
        under_way.iter_mut().for_each(|turn| turn.answered(&store));
        written(&store).await?;
        ended.extend(under_way.into_iter().map(|turn| turn.delivered(&store)));
        while ended.len() > KEPT {
            ended
                .pop_front()
                .into_iter()
                .for_each(|id| store.forget_turn(id));
        }
    }
    written(&store).await
}

async fn written(store: &Store) -> io::Result<()> {
    store.flushed().await.map_err(io::Error::other)
}

/// A turn, and all that is written of it.
struct UnderWay {
    id: TurnId,
    turn: Turn,
    slot: Arc<Slot>,
    _lease: Lease,
    number: usize,
    digests: [Digest; 2],
}

impl UnderWay {
    fn begin(store: &Store, salt: &Salt, tenant: Tenant, (number, name): (usize, String)) -> Self {
        let hash = |what: &'static str| salt.hash(what, [number.to_le_bytes().as_slice()]);
        let point = |what| Fingerprint(cut(&hash(what)));
        let branch = Branch::unborn(tenant, point("seed"), hash("instructions"));
        let (slot, lease) = store.insert(branch);
        let handle = Handle(name.into());
        store.claim_handle(&handle, &slot, true);
        let digests = [hash("prompt"), hash("answer")];
        let turn = Turn {
            tenant,
            request: hash("request"),
            keyed: None,
            conversation: handle.to_string(),
            branch: slot.id.0,
            thread: None,
            posted: Mark(cut(&hash("posted"))),
            seen: Seen::default(),
            before: point("seed"),
            prompted: point("prompted"),
            window: vec![cut(&digests[0])],
            cut: Cut::At(None),
            phase: Phase::Intended,
            times: Times {
                began: store.now(),
                ..Times::default()
            },
            kept: None,
        };
        let id = store.new_turn();
        store.write_turn(id, &turn);
        Self {
            id,
            turn,
            slot,
            _lease: lease,
            number,
            digests,
        }
    }

    fn accepted(&mut self, store: &Store) {
        let thread = format!("thread_{:024}", self.number);
        self.turn.phase = Phase::Accepted;
        self.turn.thread = Some(thread.clone());
        store.change_with(&self.slot, Some((self.id, &self.turn)), |branch| {
            branch.thread = Some(ThreadId(thread.into()));
            branch.state = State::Open;
        });
    }

    fn answered(&mut self, store: &Store) {
        let [prompt, answer] = self.digests;
        self.turn.phase = Phase::Answered(answer);
        self.turn.times.ended = Some(store.now());
        store.advance(&self.slot, Some((self.id, &self.turn)), |branch| {
            branch.tip = Fingerprint(cut(&answer));
            branch.extend_window([cut(&prompt), cut(&answer)]);
            branch.seen = Some(Seen {
                keys: vec![cut(&prompt), cut(&answer)],
                total: 2,
                newest_first: None,
            });
        });
    }

    fn delivered(mut self, store: &Store) -> TurnId {
        self.turn.times.written = Some(store.now());
        store.write_turn(self.id, &self.turn);
        self.id
    }
}
