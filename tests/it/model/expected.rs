//! Which thread a turn continues, by a search of all branches: the design's table in its plainest form.

use std::collections::BTreeMap;

use chaturdata_proxy::conversation::Decision;
use chaturdata_proxy::store::{State, WINDOW};

use super::resolver::QUEUE;

/// A message, by what it says.
pub type Said = u32;

/// A request, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Ask {
    pub tenant: u8,
    pub user: Option<u8>,
    pub narrow: Option<u8>,
    pub name: Option<String>,
    pub history: Vec<Said>,
    pub instructions: u8,
    pub base: Follows,
}

/// What a request follows on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    Nothing,
    /// All that the conversation of its name holds.
    Conversation,
    /// What a branch held when it was so long.
    Response {
        which: usize,
        length: usize,
    },
}

#[derive(Clone, Debug)]
pub enum Expected {
    NoConversation,
    TooMany,
    Append(usize),
    Wait(usize),
    Begin(Decision, usize),
}

#[derive(Clone, Debug)]
pub struct Branch {
    pub tenant: u8,
    pub user: Option<u8>,
    pub narrow: Option<u8>,
    pub instructions: u8,
    /// The last is the one that callers are told.
    pub names: Vec<String>,
    pub transcript: Vec<Said>,
    /// From where on its messages are known one by one.
    pub known_from: usize,
    /// The lengths of the transcript that were tips before.
    pub passed: Vec<usize>,
    pub state: State,
    pub leased: bool,
    pub waiting: u32,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct Model {
    pub branches: Vec<Branch>,
    /// By tenant and name: the branch, and whether the name has only been given with new text.
    names: BTreeMap<(u8, String), (usize, bool)>,
    /// Transcripts that were answered, and where, in the order of it.
    answered: Vec<([Said; 2], Vec<Said>, usize)>,
}

impl Ask {
    /// Whose transcript it is.
    pub fn seed(&self) -> [Said; 2] {
        seed(self.tenant, self.user)
    }
}

impl Branch {
    pub fn seed(&self) -> [Said; 2] {
        seed(self.tenant, self.user)
    }

    /// Whether it holds the history, and may be posted to.
    fn takes(&self, ask: &Ask) -> bool {
        self.fits(ask) && self.state == State::Open
    }

    fn is_at(&self, ask: &Ask) -> bool {
        self.seed() == ask.seed() && self.transcript == ask.history
    }

    fn fits(&self, ask: &Ask) -> bool {
        let left_behind = self.seed() == ask.seed()
            && self
                .passed
                .iter()
                .any(|length| self.transcript[..*length] == ask.history);
        let named = ask
            .name
            .as_ref()
            .is_some_and(|name| self.names.contains(name));
        let most = WINDOW.min(self.transcript.len() - self.known_from);
        let ends = ask.history.len() <= most && self.transcript.ends_with(&ask.history);
        self.is_at(ask) || (named && !left_behind && ends)
    }
}

impl Model {
    /// What becomes of the request; it is done to the model, too.
    pub fn ask(&mut self, ask: &Ask) -> Expected {
        match ask.base {
            Follows::Nothing => {}
            Follows::Conversation => return self.add(ask),
            Follows::Response { which, length } => return self.follow(ask, which, length),
        }
        let opening = ask.history.is_empty();
        let Some(name) = &ask.name else {
            return if opening {
                self.begin(ask, Decision::Created)
            } else {
                self.search(ask)
            };
        };
        let ours = name.starts_with("conv_");
        match self.names.get(&(ask.tenant, name.clone())).copied() {
            Some((which, true)) if opening && ask.narrow.is_none() => self.queue(which),
            Some(_) if opening => self.begin(ask, Decision::Forked),
            Some((which, _)) => self.under_name(ask, name, which),
            None if ours && opening => Expected::NoConversation,
            None if ours => {
                let nameless = Ask {
                    name: None,
                    ..ask.clone()
                };
                self.begin(&nameless, Decision::Replayed)
            }
            None if opening => self.begin(ask, Decision::Created),
            None => self.search(ask),
        }
    }

    /// The name that a new branch was given, where it had none.
    pub fn named(&mut self, which: usize, name: &str) {
        let branch = &mut self.branches[which];
        if branch.names.is_empty() {
            assert!(
                name.starts_with("conv_"),
                "{name} was given to a branch without one"
            );
            branch.names.push(name.to_owned());
            let before = self
                .names
                .insert((branch.tenant, name.to_owned()), (which, true));
            assert_eq!(before, None, "a name was made twice");
        } else {
            assert_eq!(branch.names.last().map(String::as_str), Some(name));
        }
    }

    /// A run on this branch was answered.
    pub fn answered(&mut self, which: usize, new: &[Said]) {
        let branch = &mut self.branches[which];
        let before = branch.transcript.clone();
        branch.transcript.extend(new);
        branch.state = State::Open;
        let seed = branch.seed();
        let is_known = before.len() > branch.known_from;
        if is_known {
            branch.passed.push(before.len());
        }
        let before = is_known.then_some(before);
        for point in before.into_iter().chain([branch.transcript.clone()]) {
            let entry = (seed, point, which);
            if !self.answered.contains(&entry) {
                self.answered.push(entry);
            }
        }
    }

    /// Whatever the conversation of a name holds, this is added to it.
    fn add(&mut self, ask: &Ask) -> Expected {
        let name = ask.name.clone().unwrap();
        let known = self.names.get(&(ask.tenant, name.clone())).copied();
        match known {
            Some((which, _)) => self.queue(which),
            None if !name.starts_with("conv_") => self.begin(ask, Decision::Created),
            None => Expected::NoConversation,
        }
    }

    /// On its thread where that ends with it, and else on another.
    fn follow(&mut self, ask: &Ask, which: usize, length: usize) -> Expected {
        let own = ask.name.as_ref().filter(|name| !name.starts_with("conv_"));
        let branch = &mut self.branches[which];
        let is_end = branch.transcript.len() == length && branch.state == State::Open;
        if is_end && !branch.leased {
            branch.leased = true;
            if let Some(name) = own {
                let record = self.names.get(&(ask.tenant, name.clone()));
                let delta = record.is_none_or(|(_, delta)| *delta);
                self.lead(name, which, delta);
            }
            return Expected::Append(which);
        }
        let (user, transcript) = (branch.user, branch.transcript[..length].to_vec());
        let forked = Ask {
            user,
            name: own.cloned(),
            history: transcript,
            ..ask.clone()
        };
        let known_from = if branch.transcript.len() == length {
            branch.known_from
        } else {
            length
        };
        let begun = self.begin(&forked, Decision::Forked);
        self.branches.last_mut().unwrap().known_from = known_from;
        begun
    }

    fn queue(&mut self, which: usize) -> Expected {
        let branch = &mut self.branches[which];
        if !branch.leased {
            branch.leased = true;
            return Expected::Wait(which);
        }
        if branch.waiting >= QUEUE {
            return Expected::TooMany;
        }
        branch.waiting += 1;
        Expected::Wait(which)
    }

    /// Branches that are or were at this history, newest first.
    fn at(&self, ask: &Ask) -> Vec<usize> {
        let there = self
            .answered
            .iter()
            .filter(|(seed, transcript, _)| *seed == ask.seed() && *transcript == ask.history);
        there.map(|(_, _, which)| *which).rev().collect()
    }

    fn under_name(&mut self, ask: &Ask, name: &String, which: usize) -> Expected {
        let present = &self.branches[which];
        let lost = present.fits(ask) && present.state == State::Closed;
        let older = self.at(ask).into_iter().filter(|other| {
            let branch = &self.branches[*other];
            *other != which && branch.names.last() == Some(name)
        });
        let candidates: Vec<usize> = std::iter::once(which).chain(older).collect();
        if let Some(record) = self.names.get_mut(&(ask.tenant, name.clone())) {
            record.1 = false;
        }
        let otherwise = if lost {
            Decision::Replayed
        } else {
            Decision::Forked
        };
        self.join(ask, &candidates, otherwise)
    }

    fn search(&mut self, ask: &Ask) -> Expected {
        let there = self.at(ask);
        let identified = ask.name.is_some() || ask.user.is_some();
        let fitting = |near: bool| {
            let mut fitting = there.clone();
            fitting.retain(|which| {
                let branch = &self.branches[*which];
                let far = branch.narrow.is_some() && ask.narrow.is_some();
                branch.is_at(ask)
                    && (branch.narrow == ask.narrow) == near
                    && (near || !far)
                    && (identified || branch.instructions == ask.instructions)
                    && !self.is_fed_by_name(branch)
            });
            fitting
        };
        let candidates = [fitting(true), fitting(false)].concat();
        let closed = |which: &usize| self.branches[*which].state == State::Closed;
        let otherwise = if there.is_empty() || candidates.iter().any(closed) {
            Decision::Replayed
        } else {
            Decision::Forked
        };
        self.join(ask, &candidates, otherwise)
    }

    /// Somebody appends to it under a name of its own, and never shows what it holds.
    fn is_fed_by_name(&self, branch: &Branch) -> bool {
        branch.names.iter().any(|name| {
            let record = self.names.get(&(branch.tenant, name.clone()));
            !name.starts_with("conv_") && record.is_some_and(|(_, delta)| *delta)
        })
    }

    fn join(&mut self, ask: &Ask, candidates: &[usize], otherwise: Decision) -> Expected {
        let free = |which: &&usize| {
            let branch = &self.branches[**which];
            !branch.leased && branch.takes(ask)
        };
        let Some(which) = candidates.iter().find(free).copied() else {
            return self.begin(ask, otherwise);
        };
        let branch = &mut self.branches[which];
        branch.leased = true;
        branch.narrow = branch.narrow.or(ask.narrow);
        if let Some(name) = &ask.name {
            self.lead(name, which, false);
        }
        Expected::Append(which)
    }

    fn lead(&mut self, name: &str, which: usize, delta: bool) {
        let branch = &mut self.branches[which];
        branch.names.retain(|other| other != name);
        branch.names.push(name.to_owned());
        self.names
            .insert((branch.tenant, name.to_owned()), (which, delta));
    }

    fn begin(&mut self, ask: &Ask, decision: Decision) -> Expected {
        let which = self.branches.len();
        self.branches.push(Branch {
            tenant: ask.tenant,
            user: ask.user,
            narrow: ask.narrow,
            instructions: ask.instructions,
            names: Vec::new(),
            transcript: ask.history.clone(),
            known_from: 0,
            passed: Vec::new(),
            state: State::Unborn,
            leased: true,
            waiting: 0,
        });
        if let Some(name) = &ask.name {
            self.lead(name, which, decision == Decision::Created);
        }
        Expected::Begin(decision, which)
    }
}

fn seed(tenant: u8, user: Option<u8>) -> [Said; 2] {
    [tenant.into(), user.map_or(99, Said::from)]
}
