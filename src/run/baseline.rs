//! What one read of a thread ended with, and how the next read tells what is new.

use std::borrow::Cow;

use super::listing::{Line, Listing};
use crate::ids::Short;
use crate::store::Seen;
use crate::upstream::Role;

/// How many of a thread's newest messages are remembered between reads.
const REMEMBERED: usize = 32;

/// Remembers a read in which nothing of ours is looked for.
pub fn remember(listing: &Listing) -> Seen {
    let ends = (listing.lines.first(), listing.lines.last());
    let speakers = ends
        .0
        .zip(ends.1)
        .map(|(first, last)| (first.message.role, last.message.role));
    let by_role = match speakers {
        Some((Some(Role::User), Some(Role::Assistant))) => Some(false),
        Some((Some(Role::Assistant), Some(Role::User))) => Some(true),
        _ => None,
    };
    let newest_first = newest_first(&Seen::default(), listing).or(by_role);
    let mut messages: Vec<&Line> = listing.lines.iter().collect();
    if newest_first == Some(true) {
        messages.reverse();
    }
    seen(&messages, newest_first)
}

/// Whether a read shows no message but those that were seen.
pub fn nothing_new(seen: &Seen, listing: &Listing) -> bool {
    let forward: Vec<&Line> = listing.lines.iter().collect();
    let backward: Vec<&Line> = listing.lines.iter().rev().collect();
    [(false, forward), (true, backward)]
        .into_iter()
        .filter(|(newest_first, _)| seen.newest_first.is_none_or(|order| order == *newest_first))
        .any(|(newest_first, messages)| {
            known(seen, &messages, newest_first) == Some(messages.len())
        })
}

/// The messages of a thread up to the last read, oldest first as far as can be told: what a
/// transcript can be made of where no caller holds it. `None` where this read shows none of them.
pub fn in_order<'a>(seen: &Seen, listing: &'a Listing) -> Option<Vec<&'a Line>> {
    let newest_first = newest_first(seen, listing).unwrap_or_default();
    let mut messages: Vec<&Line> = listing.lines.iter().collect();
    if newest_first {
        messages.reverse();
    }
    messages.truncate(known(seen, &messages, newest_first)?);
    Some(messages)
}

/// What the read itself, or one before it, says of the order.
pub fn newest_first(seen: &Seen, listing: &Listing) -> Option<bool> {
    let times: Option<Vec<f64>> = listing
        .lines
        .iter()
        .map(|line| line.message.created_at)
        .collect();
    let times = times.unwrap_or_default();
    match (times.first(), times.last()) {
        (Some(first), Some(last)) if first > last => Some(true),
        (Some(first), Some(last)) if first < last => Some(false),
        _ => seen.newest_first,
    }
}

/// How many of `messages`, oldest first, the last read has shown; `None` where nothing overlaps.
pub fn known(seen: &Seen, messages: &[&Line], newest_first: bool) -> Option<usize> {
    if seen.keys.is_empty() {
        return Some(0);
    }
    let mut before = Cow::Borrowed(&seen.keys);
    if seen.newest_first.is_none() && newest_first {
        before.to_mut().reverse();
    }
    let keys: Vec<Short> = messages.iter().map(|line| line.key).collect();
    let ends_at = |end: usize| {
        let overlap = end.min(before.len());
        let shown = keys.get(end - overlap..end);
        overlap > 0 && shown == before.get(before.len() - overlap..)
    };
    if seen.total <= keys.len() && ends_at(seen.total) {
        return Some(seen.total);
    }
    (1..=keys.len()).rev().find(|end| ends_at(*end))
}

/// For the next read; `messages` are oldest first, or as they were listed where that is not known.
pub fn seen(messages: &[&Line], newest_first: Option<bool>) -> Seen {
    // Where the order is not known, neither is the newest end.
    let skipped = match newest_first {
        Some(_) => messages.len().saturating_sub(REMEMBERED),
        None => 0,
    };
    Seen {
        keys: messages.iter().skip(skipped).map(|line| line.key).collect(),
        total: messages.len(),
        newest_first,
    }
}
