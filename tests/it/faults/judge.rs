//! Whether what callers were told fits what the upstream has.

use chaturdata_proxy::upstream::ThreadId;
use chaturdata_proxy::upstream::sandbox::recital::recital;

use super::rig::End;

/// One turn: what was asked, on which earlier words, and how it ended.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Stands in this turn's prompt and in no other.
    pub mark: String,
    /// The marks of the earlier turns that its caller's history shows.
    pub visible: Vec<String>,
    pub end: End,
}

/// Errors that say that the message was not posted.
const UNPOSTED: [&str; 3] = [
    "upstream_unreachable",
    "rate_limit_exceeded",
    "upstream_refused",
];

/// What is wrong with these turns, if anything. The posts are in the order of their arrival.
pub fn faults(turns: &[Turn], posts: &[(ThreadId, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    for turn in turns {
        let mut fault = |what: String| faults.push(format!("{}: {what}", turn.mark));
        for thread in threads(posts) {
            let times = on(posts, thread)
                .filter(|message| message.contains(&turn.mark))
                .count();
            if times > 1 {
                fault(format!("{times} times on one thread"));
            }
        }
        let asked: Vec<_> = threads(posts)
            .filter_map(|thread| asked_on(posts, thread, &turn.mark))
            .collect();
        match &turn.end {
            End::Odd(what) => fault(format!("ended oddly: {what}")),
            End::Told(code) if UNPOSTED.contains(&code.as_str()) && !asked.is_empty() => {
                fault(format!("was told {code}, and it is posted"));
            }
            End::Told(_) => {}
            End::Answered(text) => {
                let right = asked
                    .iter()
                    .any(|messages| recital(messages) == *text && rests_on(turn, turns, messages));
                if !right {
                    fault(format!("was answered {text}, which is not its answer"));
                }
            }
        }
    }
    faults
}

/// The messages of a thread up to the one that asks this.
fn asked_on<'a>(
    posts: &'a [(ThreadId, String)],
    thread: &ThreadId,
    mark: &str,
) -> Option<Vec<&'a str>> {
    let messages: Vec<&str> = on(posts, thread).collect();
    let at = messages
        .iter()
        .position(|message| is_asked(message, mark))?;
    Some(messages[..=at].to_vec())
}

/// A prompt is the end of what is posted; a transcript stands before it.
fn is_asked(message: &str, mark: &str) -> bool {
    message.trim_end().ends_with(mark)
}

fn on<'a>(posts: &'a [(ThreadId, String)], thread: &ThreadId) -> impl Iterator<Item = &'a str> {
    posts
        .iter()
        .filter(move |(on, _)| on == thread)
        .map(|(_, message)| message.as_str())
}

fn threads(posts: &[(ThreadId, String)]) -> impl Iterator<Item = &ThreadId> {
    posts.iter().enumerate().filter_map(|(at, (thread, _))| {
        let is_first = posts[..at].iter().all(|(earlier, _)| earlier != thread);
        is_first.then_some(thread)
    })
}

/// Whether these messages hold all that the caller's history shows, and nothing that it does not.
fn rests_on(turn: &Turn, turns: &[Turn], messages: &[&str]) -> bool {
    let holds = |mark: &str| messages.iter().any(|message| message.contains(mark));
    turns
        .iter()
        .map(|other| &other.mark)
        .all(|mark| holds(mark) == (*mark == turn.mark || turn.visible.contains(mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(posts: &[(&str, &str)]) -> Vec<(ThreadId, String)> {
        let post =
            |(thread, message): &(&str, &str)| (ThreadId((*thread).into()), (*message).into());
        posts.iter().map(post).collect()
    }

    fn turn(mark: &str, visible: &[&str], end: End) -> Turn {
        Turn {
            mark: mark.to_owned(),
            visible: visible.iter().map(|&mark| mark.to_owned()).collect(),
            end,
        }
    }

    fn answered(messages: &[&str]) -> End {
        End::Answered(recital(messages))
    }

    #[test]
    fn what_a_proxy_must_not_do_is_found() {
        let unknown = || End::Told("upstream_outcome_unknown".to_owned());
        let table = [
            (
                "twice",
                vec![turn("m1", &[], unknown())],
                posted(&[("a", "x m1"), ("a", "x m1")]),
            ),
            (
                "another's answer",
                vec![
                    turn("m1", &[], answered(&["x m2"])),
                    turn("m2", &[], answered(&["x m2"])),
                ],
                posted(&[("a", "x m1"), ("b", "x m2")]),
            ),
            (
                "posted, and told that it is not",
                vec![turn(
                    "m1",
                    &[],
                    End::Told("upstream_unreachable".to_owned()),
                )],
                posted(&[("a", "x m1")]),
            ),
            (
                "answered, and not posted",
                vec![turn("m1", &[], answered(&["x m1"]))],
                posted(&[]),
            ),
            (
                "on a history that is not the caller's",
                vec![
                    turn("m1", &[], unknown()),
                    turn("m2", &[], answered(&["x m1", "x m2"])),
                ],
                posted(&[("a", "x m1"), ("a", "x m2")]),
            ),
            (
                "silence",
                vec![turn("m1", &[], End::Odd("nothing".to_owned()))],
                posted(&[]),
            ),
        ];

        for (what, turns, posts) in table {
            assert_eq!(faults(&turns, &posts).len(), 1, "{what}");
        }
    }

    #[test]
    fn what_a_proxy_may_do_is_no_fault() {
        let turns = [
            turn("m1", &[], answered(&["x m1"])),
            turn("m2", &["m1"], answered(&["told of x m1; x m2"])),
            turn("m3", &[], End::Told("upstream_unreachable".to_owned())),
        ];
        let posts = posted(&[("a", "x m1"), ("b", "told of x m1; x m2"), ("a", "x m2")]);

        assert_eq!(faults(&turns, &posts), [""; 0]);
    }
}
