//! Where in a request's body its messages lie, seen without reading what they say.

use std::ops::Range;

use memchr::memchr2;

/// More arrays and objects within each other are not looked through.
const DEEPEST: usize = 32;

/// Most lists are no longer.
const AT_ONCE: usize = 32;

/// Most names have fewer bytes.
const NAME: usize = 16;

/// Longer lists are read as a whole: an outline must not take much more room than what it is of.
const MOST: usize = 16 * 1024;

/// Where the elements of a list lie. What is seen of JSON is right; what is no JSON is not told apart from
/// it, so whoever reads an outline must read [`Outline::without`] and each element as JSON: where they are,
/// the body is JSON as well, and says what they say together.
#[derive(Debug, PartialEq, Eq)]
pub struct Outline {
    /// Between the list's brackets.
    inside: Range<usize>,
    pub elements: Vec<Range<usize>>,
}

impl Outline {
    /// Of the list of objects that the body has under this key. `None` where it has none, several, an empty
    /// or a very long one, and where a key is written with escapes, which might be this one. `take` is given all of the body but
    /// the white space between tokens.
    pub fn of(json: &[u8], key: Option<&str>, mut take: impl FnMut(&[u8])) -> Option<Self> {
        let mut finder = key.map(|key| Finder {
            key: key.as_bytes(),
            elements: Vec::with_capacity(AT_ONCE),
            ..Finder::default()
        });
        let mut start = 0;
        let mut at = 0;
        while let Some(&byte) = json.get(at) {
            let mut end = at + 1;
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => {
                    take(json.get(start..at).unwrap_or_default());
                    start = end;
                    at = end;
                    continue;
                }
                b'"' => end = end_of_string(json, at) + 1,
                _ => {}
            }
            let passed = match &mut finder {
                None => Some(()),
                Some(looking) if looking.is_within() => looking.pass_within(byte, end),
                Some(looking) => json.get(at..end).and_then(|token| looking.pass(token, at)),
            };
            if passed.is_none() {
                finder = None;
            }
            at = end;
        }
        take(json.get(start..).unwrap_or_default());
        finder?.found()
    }

    /// The body with the list empty.
    pub fn without(&self, json: &[u8]) -> Vec<u8> {
        let head = json.get(..self.inside.start).unwrap_or_default();
        let tail = json.get(self.inside.end..).unwrap_or_default();
        [head, tail].concat()
    }
}

/// Where the string that begins here has its other quotation mark.
fn end_of_string(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    // Most strings are names, which are passed sooner than a search is begun.
    for _ in 0..NAME / size_of::<u64>() {
        let Some(word) = json.get(at..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let word = u64::from_le_bytes(*word);
        at += first_of(word, b'"').min(first_of(word, b'\\'));
        match json.get(at) {
            Some(b'"') => return at,
            Some(b'\\') => break,
            _ => {}
        }
    }
    while let Some(next) = json.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += next;
        if json.get(at) == Some(&b'"') {
            return at;
        }
        // Whatever is escaped.
        at += 2;
    }
    json.len()
}

/// How many bytes of the word come before the first that is this one. A byte less one has its high bit
/// set where it was zero, those that had it before are masked, and the lowest such bit is not a borrow's
/// (Warren, "Hacker's Delight", 2nd edition, 6-1).
fn first_of(word: u64, byte: u8) -> usize {
    const LOW: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = LOW << 7;
    let differs = word ^ (LOW * u64::from(byte));
    let equal = differs.wrapping_sub(LOW) & !differs & HIGH;
    equal.trailing_zeros() as usize / 8
}

#[derive(Default)]
struct Finder<'a> {
    key: &'a [u8],
    depth: usize,
    /// In the outermost object, the next string is a key.
    at_key: bool,
    /// The key was the one looked for, and its value comes next.
    at_list: bool,
    start: Option<usize>,
    end: Option<usize>,
    element: Option<Range<usize>>,
    elements: Vec<Range<usize>>,
}

impl Finder<'_> {
    /// Takes in a string, or a byte outside strings; `None` where there is nothing to be found.
    fn pass(&mut self, token: &[u8], at: usize) -> Option<()> {
        let byte = *token.first()?;
        match byte {
            b'"' if self.depth == 1 => self.string(token.get(1..token.len() - 1)?)?,
            b'{' | b'[' => {
                let was_inside = self.is_inside();
                self.opened(byte, at)?;
                if !was_inside {
                    return Some(());
                }
            }
            b'}' | b']' => {
                self.depth = self.depth.checked_sub(1)?;
                if self.depth == 1 && self.is_inside() {
                    self.ended()?;
                    self.end = Some(at);
                }
            }
            b',' if self.depth == 1 => self.at_key = true,
            b',' if self.depth == 2 && self.is_inside() => return self.ended(),
            _ => {}
        }
        if self.is_inside() {
            if self.element.is_none() && byte != b'{' {
                return None;
            }
            self.element.get_or_insert(at..at).end = at + token.len();
        }
        Some(())
    }

    /// Whether it is in an element, or in something else that is as deep.
    fn is_within(&self) -> bool {
        self.depth > 2
    }

    /// As [`Finder::pass`], where it is in one: all that matters is where that ends.
    fn pass_within(&mut self, byte: u8, end: usize) -> Option<()> {
        match byte {
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                if let Some(element) = &mut self.element {
                    element.end = end;
                }
            }
            _ => {}
        }
        (self.depth <= DEEPEST).then_some(())
    }

    fn ended(&mut self) -> Option<()> {
        self.elements.push(self.element.take()?);
        (self.elements.len() <= MOST).then_some(())
    }

    fn is_inside(&self) -> bool {
        self.start.is_some() && self.end.is_none()
    }

    /// A string of the outermost object.
    fn string(&mut self, string: &[u8]) -> Option<()> {
        let is_key = std::mem::take(&mut self.at_key);
        self.at_list = is_key && string == self.key;
        let is_plain = !is_key || !string.contains(&b'\\');
        let is_first = !self.at_list || self.start.is_none();
        (is_plain && is_first).then_some(())
    }

    fn opened(&mut self, byte: u8, at: usize) -> Option<()> {
        match self.depth {
            0 if byte == b'[' => return None,
            0 => self.at_key = true,
            1 if std::mem::take(&mut self.at_list) => {
                self.start = (byte == b'[').then_some(at + 1);
                self.start?;
            }
            _ => {}
        }
        self.depth += 1;
        (self.depth <= DEEPEST).then_some(())
    }

    fn found(self) -> Option<Outline> {
        let inside = self.start?..self.end?;
        let is_whole = self.depth == 0 && !self.elements.is_empty();
        is_whole.then_some(Outline {
            inside,
            elements: self.elements,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The elements of the list, and what is left of the body without them.
    fn seen(body: &str) -> Option<(Vec<&str>, String)> {
        let outline = Outline::of(body.as_bytes(), Some("list"), |_| {})?;
        let elements = outline.elements.iter();
        let elements = elements.map(|element| &body[element.clone()]);
        let without = String::from_utf8(outline.without(body.as_bytes())).unwrap();
        Some((elements.collect(), without))
    }

    #[test]
    fn the_elements_of_the_list_are_found_wherever_it_stands() {
        let deep = r#"{"list": ["}], \"", [{}]], "\\": ","}"#;
        for (body, elements, without) in [
            (r#"{"list":[{}]}"#, vec!["{}"], r#"{"list":[]}"#),
            (
                r#" { "a" : [ { } ] , "list" : [ {"b": 1} , { } ] } "#,
                vec![r#"{"b": 1}"#, "{ }"],
                r#" { "a" : [ { } ] , "list" : [] } "#,
            ),
            (
                &format!(r#"{{"x":{deep},"y":"list","list":[{deep},{deep}],"z":{deep}}}"#),
                vec![deep, deep],
                &format!(r#"{{"x":{deep},"y":"list","list":[],"z":{deep}}}"#),
            ),
            (
                r#"{"list": null, "list": [{}]}"#,
                vec!["{}"],
                r#"{"list": null, "list": []}"#,
            ),
        ] {
            assert_eq!(seen(body), Some((elements, without.to_owned())), "{body}");
        }
    }

    #[test]
    fn lists_of_other_things_and_very_long_or_deep_ones_are_not_looked_through() {
        let long = |count| format!(r#"{{"list":[{}{{}}]}}"#, "{},".repeat(count - 1));
        let deep = |depth| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"list":[{{"a":{open}{close}}}]}}"#)
        };
        for (body, is_seen) in [
            (long(MOST), true),
            (long(MOST + 1), false),
            (deep(DEEPEST - 3), true),
            (deep(DEEPEST - 2), false),
            (r#"{"list":[1]}"#.to_owned(), false),
            (r#"{"list":[{},"{}"]}"#.to_owned(), false),
        ] {
            assert_eq!(seen(&body).is_some(), is_seen, "{} bytes", body.len());
        }
    }

    #[test]
    fn the_first_of_a_byte_is_found_wherever_it_is() {
        for byte in [b'"', b'\\'] {
            let near = [byte - 1, byte + 1, byte ^ 0x80, 0, 0xff, byte];
            proptest!(|(word in prop::array::uniform8(prop::sample::select(near.to_vec())))| {
                let first = word.iter().position(|other| *other == byte);
                prop_assert_eq!(first_of(u64::from_le_bytes(word), byte), first.unwrap_or(8));
            });
        }
    }

    /// Whatever stands in it and behind it: as one finds it who looks at one byte after the other.
    #[test]
    fn a_string_ends_where_its_other_quotation_mark_is() {
        fn plainly(json: &[u8], start: usize) -> usize {
            let mut at = start + 1;
            while let Some(byte) = json.get(at) {
                match byte {
                    b'"' => return at,
                    b'\\' => at += 2,
                    _ => at += 1,
                }
            }
            json.len()
        }

        let pieces = ["\"", "\\", "!", "#", "[", "]", "a", "\u{a2}", "\u{700}"];
        let piece = prop::sample::select(pieces.to_vec());
        let text = prop::collection::vec(prop_oneof![4 => Just("a"), 1 => piece], 0..40);
        proptest!(ProptestConfig::with_cases(4096), |(text in text)| {
            let json = format!("\"{}", text.concat());
            let json = json.as_bytes();
            prop_assert_eq!(end_of_string(json, 0), plainly(json, 0));
        });
    }
}
