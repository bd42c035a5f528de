//! Inputs made from a corpus: each depends on the seed and its number alone, so that it can be made again.

/// Longer inputs find nothing that these do not, and take their time.
const LONGEST: usize = 64 * 1024;

/// What parsers trip over, whatever they parse.
const ODD: [&[u8]; 40] = [
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\t",
    b" ",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b"\\ud800",
    b"\\u0000",
    "\u{2028}".as_bytes(),
    "e\u{301}".as_bytes(),
    "\u{1f469}\u{200d}\u{1f467}".as_bytes(),
    "\u{202e}".as_bytes(),
    b"\"",
    b"'",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b";",
    b"#",
    b"null",
    b"true",
    b"data: ",
    b"[DONE]",
    b"{{x}}",
    b"../",
    b"%00",
    b"<think>",
];

const NUMBERS: [&[u8]; 16] = [
    b"0",
    b"-0",
    b"-1",
    b"1.5",
    b"255",
    b"256",
    b"4294967296",
    b"9007199254740993",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1e308",
    b"1e999",
    b"-1e999",
    b"5e-324",
    b"NaN",
];

/// Makes inputs.
#[derive(Clone, Debug)]
pub struct Mutator {
    corpus: Vec<Vec<u8>>,
    /// The words that the corpus is made of.
    words: Vec<Vec<u8>>,
    seed: u64,
}

impl Mutator {
    pub fn new(corpus: Vec<Vec<u8>>, seed: u64) -> Self {
        let mut words: Vec<Vec<u8>> = corpus.iter().flat_map(|input| words(input)).collect();
        words.sort();
        words.dedup();
        Self {
            corpus,
            words,
            seed,
        }
    }

    /// The corpus itself comes first.
    pub fn input(&self, number: u64) -> Vec<u8> {
        let given = usize::try_from(number)
            .ok()
            .and_then(|number| self.corpus.get(number));
        if let Some(input) = given {
            return input.clone();
        }
        let mut dice = Dice::new(self.seed, number);
        let mut input = dice.one_of(&self.corpus).cloned().unwrap_or_default();
        let changes = 1 + dice.below(1 + dice.clone().below(8));
        for _ in 0..changes {
            self.change(&mut input, &mut dice);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&self, input: &mut Vec<u8>, dice: &mut Dice) {
        let (from, to) = dice.stretch(input.len());
        let at = dice.below(input.len() + 1);
        match dice.below(100) {
            0..8 => flip(input, dice),
            8..18 => drop(input.drain(from..to)),
            18..30 => put(input, at..at, self.word(dice)),
            30..45 => put(input, from..to, self.word(dice)),
            45..57 => put(
                input,
                at..at,
                dice.one_of(&ODD).copied().unwrap_or_default(),
            ),
            57..65 => put(
                input,
                from..to,
                dice.one_of(&ODD).copied().unwrap_or_default(),
            ),
            65..75 => renumber(input, dice),
            75..83 => {
                let stretch = input.get(from..to).unwrap_or_default().to_vec();
                put(input, at..at, &stretch);
            }
            83..91 => {
                let other = dice.one_of(&self.corpus).cloned().unwrap_or_default();
                input.truncate(at);
                input.extend_from_slice(other.get(dice.below(other.len() + 1)..).unwrap_or(b""));
            }
            91..96 => input.truncate(at),
            _ => repeat(input, from..to, dice),
        }
    }

    fn word(&self, dice: &mut Dice) -> &[u8] {
        dice.one_of(&self.words).map_or(b"", Vec::as_slice)
    }
}

/// Runs of letters and digits, and what stands between quotes.
fn words(input: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let is_border = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"_-.".contains(byte);
    let plain = input.split(is_border);
    let quoted = input.split(|byte| *byte == b'"');
    let lines = input.split(|byte| *byte == b'\n');
    let all = plain.chain(quoted).chain(lines);
    all.filter(|word| (2..64).contains(&word.len()))
        .map(<[u8]>::to_vec)
}

fn put(input: &mut Vec<u8>, place: std::ops::Range<usize>, word: &[u8]) {
    input.splice(place, word.iter().copied());
}

fn flip(input: &mut [u8], dice: &mut Dice) {
    let at = dice.below(input.len().max(1));
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
}

/// Puts another number where one is.
fn renumber(input: &mut Vec<u8>, dice: &mut Dice) {
    let start = dice.below(input.len() + 1);
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let rest = input.get(start..).unwrap_or_default();
    let Some(from) = rest.iter().position(is_digit) else {
        return;
    };
    let digits = rest.iter().skip(from).take_while(|byte| is_digit(byte));
    let from = start + from;
    let to = from + digits.count();
    put(
        input,
        from..to,
        dice.one_of(&NUMBERS).copied().unwrap_or_default(),
    );
}

/// Says the same over and over; seldom so often that it is long.
fn repeat(input: &mut Vec<u8>, stretch: std::ops::Range<usize>, dice: &mut Dice) {
    let times = match dice.below(200) {
        0 => LONGEST,
        1..10 => 2000,
        _ => 40,
    };
    let at = stretch.end;
    let mut stretch = input.get(stretch).unwrap_or_default().to_vec();
    stretch.truncate(64);
    let times = times.min(LONGEST / stretch.len().max(1));
    put(input, at..at, &stretch.repeat(times));
}

/// Splitmix64: small, and good enough for this.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.roll();
        dice
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, but not including, `bound`, which is above 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).unwrap_or_default()
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.below(choices.len().max(1)))
    }

    /// Part of so many bytes, more often a short one.
    fn stretch(&mut self, len: usize) -> (usize, usize) {
        let from = self.below(len + 1);
        let most = match self.below(4) {
            0 => len,
            _ => 16,
        };
        (from, from + self.below((len - from).min(most) + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_made_again_from_its_number() {
        let mutator = Mutator::new(vec![b"{\"a\": 17}".to_vec(), b"key = 3".to_vec()], 5);

        let inputs: Vec<Vec<u8>> = (0..5000).map(|number| mutator.input(number)).collect();

        for (number, input) in inputs.iter().enumerate() {
            assert_eq!(mutator.input(number as u64), *input);
            assert!(input.len() <= LONGEST);
        }
        assert_eq!(inputs[0], b"{\"a\": 17}");
        let mut others = inputs;
        others.sort();
        others.dedup();
        assert!(others.len() > 3500, "{}", others.len());
    }
}
