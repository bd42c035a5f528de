//! Where an answer is cut: before a stop sequence, or when its tokens are used up.

use super::Finish;
use super::tokens::Meter;
use crate::conversation::Limits;

/// The whole text as its caller gets it, and why it ends there.
pub fn cut(limits: &Limits, whole: &str) -> (String, Finish) {
    let mut clip = Clip::new(limits);
    let mut text = clip.grow(whole);
    text.push_str(&clip.finish());
    (text, clip.ended().unwrap_or(Finish::Stop))
}

/// Cuts a text while it grows. What has been let through is never taken back, so whatever may be
/// the beginning of a stop sequence is held until more text decides.
///
/// The text ends at what comes first: a stop sequence that is complete (of several that end at
/// the same character the longest), or the character that would need one token too many.
#[derive(Clone, Debug)]
pub struct Clip {
    stops: Vec<Needle>,
    budget: Option<Budget>,
    /// The tail of the text so far that is not let through.
    held: String,
    ended: Option<Finish>,
}

impl Clip {
    pub fn new(limits: &Limits) -> Self {
        Self {
            stops: limits
                .stop
                .iter()
                .filter(|stop| !stop.is_empty())
                .map(|stop| Needle::new(stop))
                .collect(),
            budget: limits.max_tokens.map(|max| Budget {
                max,
                meter: Meter::default(),
            }),
            held: String::new(),
            ended: None,
        }
    }

    /// Takes what the text grew by; gives what may be sent on.
    pub fn grow(&mut self, text: &str) -> String {
        if self.ended.is_some() {
            return String::new();
        }
        if self.cuts_nothing() {
            return text.to_owned();
        }
        for c in text.chars() {
            if self.budget.as_mut().is_some_and(|budget| budget.spend(c)) {
                self.ended = Some(Finish::Length);
                break;
            }
            self.held.push(c);
            if let Some(stop) = self.met(c) {
                self.held.truncate(self.held.len().saturating_sub(stop));
                self.ended = Some(Finish::Stop);
                break;
            }
        }
        let keep = if self.ended.is_some() {
            0
        } else {
            self.stops.iter().map(|stop| stop.met).max().unwrap_or(0)
        };
        let rest = self.held.split_off(self.held.len().saturating_sub(keep));
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether every text is let through as it is.
    pub fn cuts_nothing(&self) -> bool {
        self.stops.is_empty() && self.budget.is_none()
    }

    /// Whether more text would change nothing.
    pub fn is_full(&self) -> bool {
        self.ended.is_some()
    }

    /// The text has ended: gives what was held.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Why the text was cut; `None` while it was not.
    pub fn ended(&self) -> Option<Finish> {
        self.ended
    }

    /// The bytes of the longest stop sequence that this character completes.
    fn met(&mut self, c: char) -> Option<usize> {
        let mut bytes = [0; 4];
        let bytes = c.encode_utf8(&mut bytes).as_bytes();
        self.stops
            .iter_mut()
            .filter_map(|stop| stop.feed(bytes).then_some(stop.bytes.len()))
            .max()
    }
}

#[derive(Clone, Debug)]
struct Budget {
    max: u64,
    meter: Meter,
}

impl Budget {
    /// Whether the character is one too many.
    fn spend(&mut self, c: char) -> bool {
        self.meter.push(c);
        self.meter.tokens() > self.max
    }
}

/// A stop sequence, looked for in linear time (Knuth, Morris, Pratt).
#[derive(Clone, Debug)]
struct Needle {
    bytes: Vec<u8>,
    /// For each beginning, the length of the longest shorter one that is also its end.
    falls: Vec<usize>,
    /// How much of it the text ends with, in bytes.
    met: usize,
}

impl Needle {
    fn new(text: &str) -> Self {
        let mut needle = Self {
            bytes: text.as_bytes().to_vec(),
            falls: vec![0],
            met: 0,
        };
        for &byte in text.as_bytes().iter().skip(1) {
            needle.met = needle.after(byte);
            needle.falls.push(needle.met);
        }
        needle.met = 0;
        needle
    }

    /// Whether these bytes complete it.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            self.met = self.after(byte);
        }
        self.met == self.bytes.len()
    }

    /// How much of it is met when this byte comes next.
    fn after(&self, byte: u8) -> usize {
        let mut met = self.met;
        loop {
            if self.bytes.get(met) == Some(&byte) {
                return met + 1;
            }
            if met == 0 {
                return 0;
            }
            met = self.falls.get(met - 1).copied().unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::run::tokens::estimate;

    fn limits(stop: &[&str], max_tokens: Option<u64>) -> Limits {
        Limits {
            stop: stop.iter().map(|&stop| stop.to_owned()).collect(),
            max_tokens,
        }
    }

    fn check(stop: &[&str], max_tokens: Option<u64>, whole: &str, expected: (&str, Finish)) {
        let (text, finish) = cut(&limits(stop, max_tokens), whole);

        assert_eq!((text.as_str(), finish), expected, "{stop:?} in {whole:?}");
    }

    #[test]
    fn a_text_is_cut_before_the_first_stop_sequence_that_is_complete() {
        check(&[], None, "one two", ("one two", Finish::Stop));
        check(&["END"], None, "one END two", ("one ", Finish::Stop));
        check(&["END"], None, "one EN", ("one EN", Finish::Stop));
        check(&["END"], None, "END", ("", Finish::Stop));
        check(&["two", "one"], None, "one two", ("", Finish::Stop));
        check(&["bcd", "c"], None, "abcd", ("ab", Finish::Stop));
        check(&["bc", "c"], None, "abcd", ("a", Finish::Stop));
        check(&["aab"], None, "aaab", ("a", Finish::Stop));
        check(&["é"], None, "café au lait", ("caf", Finish::Stop));
    }

    #[test]
    fn a_text_is_cut_at_the_character_that_needs_a_token_too_many() {
        check(&[], Some(3), "1 2 3", ("1 2 ", Finish::Length));
        check(&[], Some(5), "1 2 3", ("1 2 3", Finish::Stop));
        check(&[], Some(1), "🎉🎉", ("", Finish::Length));
    }

    #[test]
    fn of_a_stop_sequence_and_the_tokens_what_comes_first_ends_the_text() {
        check(&["3"], Some(3), "1 2 3", ("1 2 ", Finish::Length));
        check(&["2"], Some(3), "1 2 3", ("1 ", Finish::Stop));
    }

    #[test]
    fn what_may_begin_a_stop_sequence_is_held_until_it_is_decided() {
        let mut clip = Clip::new(&limits(&["\n\nQ:"], None));

        let sent = ["one\n", "\ntwo\n\n", "Q", ": three"].map(|growth| clip.grow(growth));

        assert_eq!(sent, ["one", "\n\ntwo", "", ""]);
        assert!(clip.is_full());
        assert_eq!(clip.finish(), "");
        assert_eq!(clip.ended(), Some(Finish::Stop));
    }

    #[test]
    fn a_held_beginning_is_given_at_the_end() {
        let mut clip = Clip::new(&limits(&["END"], None));

        let sent = clip.grow("the EN");

        assert_eq!(sent, "the ");
        assert_eq!(clip.finish(), "EN");
        assert_eq!(clip.ended(), None);
    }

    /// The same rule, told without any state.
    fn expected(limits: &Limits, whole: &str) -> (String, Finish) {
        let mut allowed = "";
        for (start, c) in whole.char_indices() {
            let text = &whole[..start + c.len_utf8()];
            if limits.max_tokens.is_some_and(|max| estimate(text) > max) {
                return (allowed.to_owned(), Finish::Length);
            }
            let stops = limits.stop.iter().filter(|stop| text.ends_with(*stop));
            if let Some(stop) = stops.map(String::len).max() {
                return (text[..text.len() - stop].to_owned(), Finish::Stop);
            }
            allowed = text;
        }
        (allowed.to_owned(), Finish::Stop)
    }

    proptest! {
        #[test]
        fn however_a_text_grows_the_same_is_sent(
            pieces in prop::collection::vec("[abé\n]{0,6}", 0..12),
            stop in prop::collection::vec("[abé\n]{1,4}", 0..4),
            max_tokens in prop::option::of(0_u64..12),
        ) {
            let limits = Limits { stop, max_tokens };
            let mut clip = Clip::new(&limits);

            let mut sent: String = pieces.iter().map(|piece| clip.grow(piece)).collect();
            sent.push_str(&clip.finish());

            let ended = (sent, clip.ended().unwrap_or(Finish::Stop));
            prop_assert_eq!(&ended, &expected(&limits, &pieces.concat()));
            prop_assert_eq!(ended, cut(&limits, &pieces.concat()));
        }
    }
}
