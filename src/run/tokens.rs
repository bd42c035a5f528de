//! How many tokens a text has, estimated: the upstream reports none, and its model is not known.

/// About how many tokens the text has. Never less than for any beginning of it.
pub fn estimate(text: &str) -> u64 {
    let mut meter = Meter::default();
    let mut rest = text;
    while !rest.is_empty() {
        let plain = match rest.as_bytes().first_chunk() {
            Some(some) => meter.take(some),
            None => meter.take(&plain::filled(rest.as_bytes())),
        };
        rest = rest.get(plain..).unwrap_or_default();
        if plain < SOME {
            // Of digits and of other scripts more are likely to follow.
            let odd = if plain < SOME / 4 { SOME } else { 4 };
            rest = meter.push_some(rest, odd);
        }
    }
    meter.tokens()
}

/// Counts while a text grows, one character at a time; the count never falls.
///
/// The prices below, in hundredths of a token, were fitted to OpenAI's o200k vocabulary over prose
/// in 27 languages, program code, tables and figures; most texts of a few hundred characters come
/// out within a tenth of their true count.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    hundredths: u64,
    last: Option<(Kind, char)>,
    /// Characters of the last kind in a row.
    run: u32,
}

impl Meter {
    pub fn push(&mut self, c: char) {
        let kind = Kind::of(c);
        let (before, last) = self.last.map_or((None, None), |(k, c)| (Some(k), Some(c)));
        let word_begins = kind == Kind::Latin
            && c.is_uppercase()
            && last.is_some_and(|last| !last.is_uppercase());
        if before == Some(kind) && !word_begins {
            self.run = self.run.saturating_add(1);
        } else {
            self.run = 1;
        }
        self.hundredths += self.price(c, kind, before, last);
        self.last = Some((kind, c));
    }

    pub fn tokens(&self) -> u64 {
        self.hundredths.div_ceil(100)
    }

    /// The first few characters, one by one; what is left.
    fn push_some<'a>(&mut self, text: &'a str, some: usize) -> &'a str {
        let mut chars = text.chars();
        chars.by_ref().take(some).for_each(|c| self.push(c));
        chars.as_str()
    }

    /// The ordinary prose that the bytes begin with, at once, as [`Meter::push`] would count it.
    /// How many bytes of it there are.
    fn take(&mut self, bytes: &[u8; SOME]) -> usize {
        let before = match self.last {
            Some((Kind::Latin | Kind::Mark, c)) if c.is_ascii() => c as u8,
            Some((Kind::Latin | Kind::Mark, _)) => plain::NOTHING,
            Some((Kind::Space, _)) => b' ',
            Some((Kind::Digit | Kind::Line | Kind::Script(..), _)) | None => plain::BREAK,
        };
        let (plain, hundredths) = plain::price(before, bytes);
        let plain = bytes.get(..plain).unwrap_or_default();
        if let Some(last) = plain.last() {
            let last = char::from(*last);
            self.hundredths += u64::from(hundredths);
            // Nothing plain but letters stands twice in a row, and of those the number does not count.
            self.last = Some((Kind::of(last), last));
            self.run = 1;
        }
        plain.len()
    }

    fn price(&self, c: char, kind: Kind, before: Option<Kind>, last: Option<char>) -> u64 {
        let begins = self.run == 1;
        match kind {
            Kind::Latin => self.letter(c, last),
            // Digits go by threes, and do not take the space before them into their token.
            Kind::Digit => {
                let group = if self.run % 3 == 1 { 100 } else { 0 };
                let space = if begins && before == Some(Kind::Space) {
                    100
                } else {
                    0
                };
                group + space
            }
            // A single space belongs to the word after it; of several, the others are a token.
            Kind::Space => match self.run {
                1 => 0,
                2 => 100,
                _ => 2,
            },
            Kind::Line => match before {
                Some(Kind::Line | Kind::Mark) => 2,
                _ => 45,
            },
            Kind::Mark if begins => 95,
            Kind::Mark if last == Some(c) => 2,
            Kind::Mark => 10,
            Kind::Script(first, next) => u64::from(if begins { first } else { next }),
        }
    }

    /// A letter of a Latin word.
    fn letter(&self, c: char, last: Option<char>) -> u64 {
        let place = match self.run {
            1 => 45,
            _ if c.is_uppercase() && last.is_some_and(char::is_uppercase) => 20,
            _ => 15,
        };
        let accent = if c.is_ascii() { 0 } else { 85 };
        place + accent
    }
}

/// So many characters are counted at once.
const SOME: usize = 16;

/// Characters whose price hangs on nothing but the one before. What is asked of a byte is answered
/// with all bits or none, so that compilers ask it of many at once.
mod plain {
    use super::SOME;

    /// What no letter, space or mark goes on.
    pub const BREAK: u8 = 0;
    /// What nothing plain comes after.
    pub const NOTHING: u8 = 0xff;

    /// As many as are counted at once; none of those that are added is plain.
    pub fn filled(bytes: &[u8]) -> [u8; SOME] {
        let mut filled = [BREAK; SOME];
        filled
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, byte)| *to = *byte);
        filled
    }

    /// How many plain bytes there are up to the first other one, and their price.
    pub fn price(before: u8, bytes: &[u8; SOME]) -> (usize, u16) {
        let mut odd = [0; SOME];
        let mut prices = [0; SOME];
        let mut befores = [before; SOME];
        let ([_, others @ ..], [others_before @ .., _]) = (&mut befores, bytes);
        *others = *others_before;
        let all = odd.iter_mut().zip(&mut prices).zip(bytes).zip(&befores);
        for (((odd, price), byte), before) in all {
            (*odd, *price) = price_after(*before, *byte);
        }
        let sum = |prices: &[u8]| prices.iter().map(|price| u16::from(*price)).sum();
        if odd.iter().fold(0, |any, odd| any | odd) == 0 {
            return (SOME, sum(&prices));
        }
        let plain = odd.iter().take_while(|odd| **odd == 0).count();
        (plain, sum(prices.get(..plain).unwrap_or_default()))
    }

    /// Whether the byte is none of these here, and its price if it is one.
    fn price_after(before: u8, byte: u8) -> (u8, u8) {
        let (lower, upper, mark) = kinds(byte);
        let (after_lower, after_upper, after_mark) = kinds(before);
        let (space, after_space) = (all_if(byte == b' '), all_if(before == b' '));
        let lower_goes_on = lower & (after_lower | after_upper);
        let upper_goes_on = upper & after_upper;
        let begins = (lower | upper) & !(lower_goes_on | upper_goes_on);
        let price = (lower_goes_on & 15) | (upper_goes_on & 20) | (begins & 45) | (mark & 95);
        let doubled = (space & after_space) | (mark & after_mark);
        let after_nothing = all_if(before == NOTHING);
        (
            !(lower | upper | mark | space) | doubled | after_nothing,
            price,
        )
    }

    /// Whether it is a lower letter, an upper one, punctuation.
    fn kinds(byte: u8) -> (u8, u8, u8) {
        let lower = all_if(byte.wrapping_sub(b'a') < 26);
        let upper = all_if(byte.wrapping_sub(b'A') < 26);
        let digit = all_if(byte.wrapping_sub(b'0') < 10);
        let visible = all_if(byte.wrapping_sub(b'!') <= b'~' - b'!');
        (lower, upper, visible & !(lower | upper | digit))
    }

    fn all_if(answer: bool) -> u8 {
        u8::from(answer).wrapping_neg()
    }
}

/// What sort of character, as far as tokenizers treat them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Latin,
    Digit,
    Space,
    Line,
    /// ASCII punctuation.
    Mark,
    /// Any other script: the price of the first character of a run, and of each one after it.
    Script(u16, u16),
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' => Self::Latin,
            '0'..='9' => Self::Digit,
            ' ' | '\t' | '\u{a0}' => Self::Space,
            '\r' | '\n' => Self::Line,
            '!'..='~' => Self::Mark,
            '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' if c.is_alphabetic() => Self::Latin,
            '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => Self::Script(30, 42),
            '\u{400}'..='\u{52f}' => Self::Script(80, 20),
            '\u{590}'..='\u{5ff}' => Self::Script(80, 31),
            '\u{600}'..='\u{77f}' => Self::Script(27, 38),
            '\u{900}'..='\u{dff}' => Self::Script(51, 35),
            '\u{e00}'..='\u{fff}' => Self::Script(80, 40),
            '\u{2010}'..='\u{202f}' => Self::Script(115, 115),
            '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ff65}' => Self::Script(110, 110),
            '\u{3040}'..='\u{30ff}' => Self::Script(65, 65),
            '\u{1100}'..='\u{11ff}' | '\u{ac00}'..='\u{d7af}' => Self::Script(80, 67),
            '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' => Self::Script(78, 78),
            '\u{10000}'.. => Self::Script(180, 180),
            _ if c.is_alphabetic() => Self::Script(80, 80),
            _ => Self::Script(125, 125),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Fixture {
        texts: Vec<Counted>,
    }

    #[derive(Deserialize)]
    struct Counted {
        kind: String,
        tokens: u64,
        text: String,
    }

    fn counted() -> Vec<Counted> {
        let fixture = include_str!("../../tests/it/goldens/tokens/o200k.json");
        serde_json::from_str::<Fixture>(fixture).unwrap().texts
    }

    fn ratio(estimated: u64, counted: u64) -> f64 {
        estimated as f64 / counted as f64
    }

    #[test]
    fn the_estimate_is_within_a_quarter_of_the_true_count_for_every_kind_of_text() {
        let mut kinds = BTreeMap::<String, (u64, u64)>::new();
        for text in counted() {
            let sums = kinds.entry(text.kind).or_default();
            sums.0 += estimate(&text.text);
            sums.1 += text.tokens;
        }

        for (kind, (estimated, counted)) in kinds {
            let ratio = ratio(estimated, counted);
            assert!((0.75..=1.25).contains(&ratio), "{kind}: {ratio:.2}");
        }
    }

    #[test]
    fn the_estimate_is_within_a_tenth_of_the_true_count_over_all_texts() {
        let texts = counted();

        let estimated = texts.iter().map(|text| estimate(&text.text)).sum();
        let ratio = ratio(estimated, texts.iter().map(|text| text.tokens).sum());

        assert!((0.9..=1.1).contains(&ratio), "{ratio:.2}");
    }

    #[test]
    fn nothing_has_no_tokens_and_anything_has_one() {
        assert_eq!(estimate(""), 0);
        for text in ["a", "7", ".", "\n", "ф", "中", "🎉", "\u{0}"] {
            assert!(estimate(text) >= 1, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_counted_at_once_costs_what_it_costs_one_by_one(
            text in "([a-z]{1,15}[ ,.]|[A-Za-z]{1,4}|[ 0-9\n\t]|[à-ü]|\\PC|the world's sales, ){0,40}",
        ) {
            let mut meter = Meter::default();
            text.chars().for_each(|c| meter.push(c));

            prop_assert_eq!(estimate(&text), meter.tokens());
        }

        #[test]
        fn a_longer_text_never_has_fewer_tokens(text in "(\\PC|[ \n\t.a-zA-Z0-9]){0,60}") {
            let mut least = 0;
            for (end, _) in text.char_indices() {
                let tokens = estimate(&text[..end]);
                prop_assert!(tokens >= least);
                least = tokens;
            }
        }
    }
}
