//! What must be true in the end of everything that was seen.

use std::collections::BTreeMap;

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::recital::recital;
use tokio::time::Instant;

use crate::caller::{Answered, STOP};
use crate::forms::{self, FORMS, MENDING, Told, parted, prompt, unled};
use crate::net::wrong;
use crate::world::World;

pub fn check(world: &World) {
    let mut threads: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (thread, text) in world.sandbox.posts() {
        threads.entry(thread.to_string()).or_default().push(text);
    }
    once(world, &threads);
    answers(world, &threads);
    unposted(world, &threads);
    gaps(world);
    told(world, &threads);
    scratch(&threads);
}

/// A thread is told a form whole before it is reminded of it, and that it is over before it is not
/// mentioned.
fn told(world: &World, threads: &BTreeMap<String, Vec<String>>) {
    if world.excused.get() {
        return;
    }
    for posts in threads.values() {
        let mut knows = None;
        for post in posts {
            let says = parted(post).1;
            let fits = match says {
                Told::Whole(_) | Told::Withdrawn => true,
                Told::Reminded(at) => knows == Some(FORMS[at].reminder()),
                Told::Nothing => knows.is_none(),
            };
            if !fits {
                wrong(|| format!("a thread does not know which form is wanted: {posts:#?}"));
            }
            knows = match says {
                Told::Whole(at) | Told::Reminded(at) => Some(FORMS[at].reminder()),
                Told::Nothing | Told::Withdrawn => None,
            };
        }
    }
}

/// An answer is mended on a thread that holds nothing else.
fn scratch(threads: &BTreeMap<String, Vec<String>>) {
    for posts in threads.values() {
        let mends = posts.iter().any(|post| post.starts_with(MENDING));
        if mends && posts.len() > 1 {
            wrong(|| format!("mended on a thread that holds more: {posts:#?}"));
        }
    }
}

/// Per thread, each text of one caller's own is there once.
fn once(world: &World, threads: &BTreeMap<String, Vec<String>>) {
    if world.excused.get() {
        return;
    }
    for posts in threads.values() {
        let mut prompts: Vec<&str> = posts.iter().map(|post| prompt(post)).collect();
        prompts.retain(|prompt| !prompt.starts_with("word "));
        prompts.sort_unstable();
        let twice = prompts.windows(2).find(|pair| pair[0] == pair[1]);
        if let Some(pair) = twice {
            wrong(|| format!("posted twice on one thread: {:?}\n{posts:#?}", pair[0]));
        }
    }
}

/// An answer is computed on exactly its caller's visible history, by its own key alone.
fn answers(world: &World, threads: &BTreeMap<String, Vec<String>>) {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for call in world.sandbox.calls() {
        if let (Some(thread), Some(key)) = (call.thread, call.key) {
            let keys = keys.entry(thread.to_string()).or_default();
            keys.push(key.expose().to_owned());
        }
    }
    let all = || threads.values().flatten();
    let mendings: Vec<String> = all()
        .filter(|post| post.starts_with(MENDING))
        .cloned()
        .collect();
    let mut said: Vec<(Path, String)> = Vec::new();
    for (thread, posts) in threads {
        for end in 1..=posts.len() {
            said.push((visible(&posts[..end], &mendings), thread.clone()));
        }
    }
    let excused = world.excused.get();
    for turn in world.answered.borrow().iter() {
        let vouches = |(path, thread): &(Path, String)| {
            let keys = keys.get(thread).map_or(&[][..], |keys| keys);
            let own = keys.iter().all(|key| key == turn.key);
            // Where records were lost, what was under way may stand in a thread beside what its caller
            // knows of; but the prompt does stand there.
            let asked = path.iter().nth_back(1).and_then(|asked| asked.first())
                == turn.path.iter().nth_back(1);
            own && (excused && asked || holds(path, turn))
        };
        if !said.iter().any(vouches) {
            wrong(|| format!("an answer on another history: {turn:?}\n{threads:#?}"));
        }
    }
}

/// What a thread holds: of each message, all that its caller may know it as.
type Path = Vec<Vec<String>>;

/// Whether a thread with this transcript gave this answer to what its caller knew.
fn holds(path: &[Vec<String>], turn: &Answered) -> bool {
    let Some(answer) = path.last() else {
        return false;
    };
    let is = |held: &Vec<String>, seen: &str| held.iter().any(|held| same(held, seen));
    if !is(answer, &turn.answer) {
        return false;
    }
    if turn.is_plain && !turn.delta {
        // A transcript that was read off a thread may hold another.
        let first: Vec<&String> = path.iter().filter_map(|held| held.first()).collect();
        let held: String = first.into_iter().map(|text| squashed(text)).collect();
        let held = ["Earlierconversation:", "User:", "Assistant:", "---"]
            .iter()
            .fold(held, |held, lead| held.replace(lead, ""));
        if held.contains("somebodyelse") {
            // Which makes it hard to tell the order, too.
            return turn.path.iter().all(|text| held.contains(&squashed(text)));
        }
        return held == squashed(&turn.path.concat());
    }
    if !turn.delta {
        let pairs = || path.iter().zip(&turn.path);
        return path.len() == turn.path.len() && pairs().all(|(held, seen)| is(held, seen));
    }
    let asked = turn.known.last();
    let prompt = path.len().checked_sub(2).and_then(|at| path.get(at));
    // A transcript that was read off a thread has the thread's line breaks.
    let told = squashed(&path.concat().concat());
    let knows = |known: &String| told.contains(&squashed(known));
    prompt.and_then(|prompt| prompt.first()) == asked && turn.known.iter().all(knows)
}

fn squashed(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Whether a text is what a caller has seen of it, who may have had it cut.
fn same(held: &str, seen: &str) -> bool {
    held.strip_prefix(seen)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(STOP))
}

/// What its caller was told not to be posted is nowhere.
fn unposted(world: &World, threads: &BTreeMap<String, Vec<String>>) {
    if world.excused.get() {
        return;
    }
    for (text, fate) in world.fates.borrow().iter() {
        let posted = || threads.values().flatten().any(|post| prompt(post) == text);
        if fate.unposted && !fate.otherwise && posted() {
            wrong(|| format!("its caller was told that {text:?} was not posted"));
        }
    }
}

/// Turns that wait for one another may each read the thread that they leave; polls come one by one.
const AT_ONCE: usize = 3;

/// No polls closer than the least gap.
fn gaps(world: &World) {
    let deaths = world.deaths.borrow();
    let mut reads: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    for call in world.sandbox.calls() {
        let Some(thread) = call.thread else { continue };
        let reads = reads.entry(thread.to_string()).or_default();
        match call.kind {
            Kind::Post => reads.clear(),
            Kind::Read => reads.push(call.at),
        }
        if reads.len() > AT_ONCE {
            let (first, last) = (reads[reads.len() - 1 - AT_ONCE], reads[reads.len() - 1]);
            let died = deaths.iter().any(|death| (first..=last).contains(death));
            let gap = last - first;
            if gap < world.min_gap() && !died {
                wrong(|| format!("{} reads of {thread} within {gap:?}", AT_ONCE + 1));
            }
        }
    }
}

/// The visible transcript that a thread's posts amount to: prompts, with the answers between them that
/// their callers may be told.
fn visible(posts: &[String], mendings: &[String]) -> Vec<Vec<String>> {
    let mut path = Vec::new();
    for (at, post) in posts.iter().enumerate() {
        let (mut prompt, _) = parted(post);
        if let Some(rest) = prompt.strip_prefix("Earlier conversation:\n\n") {
            let (transcript, last) = rest.rsplit_once("\n\n---\n\n").unwrap_or(("", rest));
            let entries = transcript.split("\n\n");
            path.extend(entries.map(|entry| {
                let text = entry.split_once(':').map_or(entry, |(_, text)| text.trim());
                vec![text.to_owned()]
            }));
            prompt = last;
        }
        let recital = recital(&posts[..=at]);
        let spoken = forms::spoken(post, &recital);
        path.push(vec![unled(prompt).to_owned()]);
        path.push(forms::tellable(&spoken, post, &recital, mendings));
    }
    path
}
