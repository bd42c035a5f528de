//! A simulated thread: what was posted on it, and what of it can be seen at a given time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::script::{Behaviour, Content, Echo, Foreign, When};
use crate::upstream::{Role, ThreadId};

/// From a stranger's message to the answer to it.
const STRANGER_WAITS: Duration = Duration::from_secs(1);
/// Width that an upstream which rewraps text wraps it to.
const WIDTH: usize = 60;

/// Everything posted on a thread, in the order of the POSTs.
#[derive(Debug)]
pub struct Thread {
    pub id: ThreadId,
    pub runs: Vec<Run>,
}

/// A message, and the run that it begins.
#[derive(Debug)]
pub struct Run {
    pub number: u64,
    pub message: String,
    /// When the message reaches the thread: perhaps long after its POST.
    pub lands: Instant,
    pub behaviour: Arc<Behaviour>,
    pub reply: Vec<Content>,
    pub reply_after: Duration,
    pub growth: u32,
    /// Since the message landed.
    pub reads: u32,
    /// Since the run's end.
    pub late_reads: u32,
}

/// One message as a read shows it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Instant,
    pub run: u64,
    /// Tells the messages of one run apart, and orders those of one instant.
    pub place: u32,
    pub role: Role,
    pub content: Content,
}

impl Thread {
    /// The runs whose messages have arrived, in the order of arrival.
    pub fn landed(&self, now: Instant) -> Vec<&Run> {
        let mut landed: Vec<_> = self.runs.iter().filter(|run| run.lands <= now).collect();
        landed.sort_by_key(|run| (run.lands, run.number));
        landed
    }

    /// The run that reads of the thread are about.
    pub fn newest(&self, now: Instant) -> Option<&Run> {
        self.landed(now).pop()
    }

    /// Counts a read, and gives the run that it is about.
    pub fn count_read(&mut self, now: Instant) -> Option<&Run> {
        let newest = self.newest(now)?.number;
        let run = self.runs.iter_mut().find(|run| run.number == newest)?;
        run.reads = run.reads.saturating_add(1);
        if run.ended(now) {
            run.late_reads = run.late_reads.saturating_add(1);
        }
        Some(run)
    }

    /// The messages that a read shows, oldest first.
    pub fn entries(&self, now: Instant) -> Vec<Entry> {
        let mut entries = Vec::new();
        for run in self.landed(now) {
            run.entries(now, &mut entries);
        }
        entries.sort_by_key(|entry| (entry.at, entry.run, entry.place));
        entries
    }
}

impl Run {
    /// Whether the thread takes no other message, where the upstream is strict.
    pub fn is_active(&self, now: Instant) -> bool {
        let ending = self.behaviour.ending.as_str();
        let ends = ["completed", "failed", "expired", "cancelled", "incomplete"].contains(&ending);
        !ends || !self.ended(now)
    }

    pub fn ended(&self, now: Instant) -> bool {
        self.elapsed(now) >= self.reply_after
    }

    /// The status word of the run itself, at its read number `reads`.
    pub fn status(&self, now: Instant) -> &str {
        if self.ended(now) {
            return &self.behaviour.ending;
        }
        let running = &self.behaviour.running;
        let read = usize::try_from(self.reads.saturating_sub(1)).unwrap_or(usize::MAX);
        let word = running.get(read).or(running.last());
        word.map_or("in_progress", String::as_str)
    }

    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.lands)
    }

    fn entries(&self, now: Instant, entries: &mut Vec<Entry>) {
        let hidden = self.reads > 0 && self.reads <= self.behaviour.message_lag;
        if !hidden {
            let message = Content::Text(echo(&self.message, self.behaviour.echo));
            entries.push(self.entry(self.lands, 500, Role::User, message));
            let replies_at = self.lands + self.first_shown();
            for (place, content) in (1000..).zip(self.shown(now)) {
                entries.push(self.entry(replies_at, place, Role::Assistant, content));
            }
        }
        for (index, foreign) in (0..).zip(&self.behaviour.foreign) {
            self.foreign(index, foreign, entries);
        }
        entries.retain(|entry| entry.at <= now);
    }

    fn foreign(&self, index: u32, foreign: &Foreign, entries: &mut Vec<Entry>) {
        let (at, place) = match foreign.at {
            When::Before => (self.lands, 2 * index),
            When::AtOnce => (self.lands, 510 + 2 * index),
            When::After(after) => (self.lands + after, 510 + 2 * index),
        };
        let text = Content::Text(foreign.text.clone());
        entries.push(self.entry(at, place, Role::User, text));
        if let Some(reply) = &foreign.reply {
            let text = Content::Text(reply.clone());
            entries.push(self.entry(at + STRANGER_WAITS, place + 1, Role::Assistant, text));
        }
    }

    fn entry(&self, at: Instant, place: u32, role: Role, content: Content) -> Entry {
        Entry {
            at,
            run: self.number,
            place,
            role,
            content,
        }
    }

    /// The reply as far as it can be seen.
    fn shown(&self, now: Instant) -> Vec<Content> {
        let mut elapsed = self.elapsed(now);
        if self.ended(now) && self.late_reads <= self.behaviour.reply_lag && self.late_reads > 0 {
            elapsed = self.reply_after.saturating_sub(Duration::from_nanos(1));
        }
        let mut latest = (Duration::ZERO, Vec::new());
        for part in 1..=self.growth {
            let at = self.growth_at(part);
            if at <= elapsed && elapsed < self.reply_after {
                latest = (at, grown(&self.reply, part, self.growth + 1));
            }
        }
        let whole = ["completed", "incomplete"].contains(&self.behaviour.ending.as_str());
        if whole && self.reply_after <= elapsed {
            latest = (self.reply_after, self.reply.clone());
        }
        for step in &self.behaviour.steps {
            if step.at <= elapsed && step.at >= latest.0 {
                latest = (step.at, step.reply.clone());
            }
        }
        latest.1
    }

    /// Text grows over the last 40% of a run.
    fn growth_at(&self, part: u32) -> Duration {
        let begin = self.reply_after * 3 / 5;
        begin + (self.reply_after - begin) * part / (self.growth + 1)
    }

    fn first_shown(&self) -> Duration {
        let grows = (self.growth > 0).then(|| self.growth_at(1));
        let steps = self.behaviour.steps.iter().map(|step| step.at);
        steps.chain(grows).fold(self.reply_after, Duration::min)
    }
}

/// The first `part` of `parts` of the texts, message after message.
fn grown(reply: &[Content], part: u32, parts: u32) -> Vec<Content> {
    let chars = |content: &Content| match content {
        Content::Text(text) => text.chars().count(),
        Content::Parts(_) => 0,
    };
    let (part, parts) = (part as usize, parts as usize);
    let mut left = reply.iter().map(chars).sum::<usize>() * part / parts;
    let mut grown = Vec::new();
    for content in reply {
        let Content::Text(text) = content else { break };
        if left == 0 {
            break;
        }
        grown.push(Content::Text(text.chars().take(left).collect()));
        left = left.saturating_sub(chars(content));
    }
    grown
}

fn echo(message: &str, echo: Echo) -> String {
    match echo {
        Echo::Same => message.to_owned(),
        Echo::Trimmed => message.trim().to_owned(),
        Echo::Rewrapped => {
            let mut wrapped = String::new();
            let mut column = 0;
            for word in message.split_whitespace() {
                let width = word.chars().count();
                if column > 0 && column + width >= WIDTH {
                    wrapped.push_str("\r\n");
                    column = 0;
                } else if column > 0 {
                    wrapped.push(' ');
                }
                wrapped.push_str(word);
                column += width + 1;
            }
            wrapped
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_grows_message_after_message() {
        let reply = ["abcd", "efgh"].map(|text| Content::Text(text.to_owned()));
        let table: [(u32, &[&str]); 4] =
            [(0, &[]), (1, &["ab"]), (2, &["abcd"]), (3, &["abcd", "ef"])];

        for (part, texts) in table {
            let texts: Vec<_> = texts
                .iter()
                .map(|text| Content::Text((*text).to_owned()))
                .collect();

            assert_eq!(grown(&reply, part, 4), texts);
        }
    }

    #[test]
    fn an_upstream_may_trim_or_rewrap_what_it_took() {
        let message = format!("  one\n\ntwo {} end\n", "x".repeat(58));

        assert_eq!(echo(&message, Echo::Same), message);
        assert_eq!(echo(&message, Echo::Trimmed), message.trim());
        assert_eq!(
            echo(&message, Echo::Rewrapped),
            format!("one two\r\n{}\r\nend", "x".repeat(58))
        );
    }
}
