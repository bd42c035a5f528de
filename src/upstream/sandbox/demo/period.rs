//! Which months a question is about.

use super::data::{Dimension, Sale};
use super::words::Word;

/// Months that a question names; none means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Period {
    years: Vec<u16>,
    parts: Vec<Part>,
}

/// A stretch of months.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// From month to month, of every year.
    Every(u8, u8),
    Span((u16, u8), (u16, u8)),
}

impl Period {
    /// What the words name. A year belongs to the months and quarters right before it.
    pub fn heard(words: &[Word]) -> Self {
        let glue = |word: &&Word| matches!(word, Word::Filler | Word::Link(_));
        let words: Vec<_> = words.iter().filter(|word| !glue(word)).copied().collect();
        let mut period = Self::default();
        let mut rest = words.as_slice();
        let mut to = false;
        while let Some(first) = rest.first() {
            let mut length = 1;
            match *rest {
                [Word::Month(month), Word::Year(year), ..] => {
                    period.add(Part::Span((year, month), (year, month)), to);
                    length = 2;
                }
                [Word::Quarter(quarter), Word::Year(year), ..] => {
                    let (first, last) = months(quarter);
                    period.add(Part::Span((year, first), (year, last)), to);
                    length = 2;
                }
                [Word::Date(year, month), ..] => {
                    period.add(Part::Span((year, month), (year, month)), to);
                }
                [Word::Month(month), ..] => period.add(Part::Every(month, month), to),
                [Word::Quarter(quarter), ..] => {
                    let (first, last) = months(quarter);
                    period.add(Part::Every(first, last), to);
                }
                [Word::Year(year), ..] => {
                    let begun = period.years.last().filter(|_| to);
                    let begin = begun.map_or(year, |begun| begun.saturating_add(1));
                    period.years.extend(begin..=year);
                }
                _ => {}
            }
            to = *first == Word::To;
            rest = rest.get(length..).unwrap_or_default();
        }
        period
    }

    pub fn is_empty(&self) -> bool {
        self.years.is_empty() && self.parts.is_empty()
    }

    pub fn contains(&self, sale: &Sale) -> bool {
        let (year, month) = (sale.year, sale.month);
        let part = |part: &Part| match *part {
            Part::Every(first, last) => (first..=last).contains(&month),
            Part::Span(first, last) => first <= (year, month) && (year, month) <= last,
        };
        (self.years.is_empty() || self.years.contains(&year))
            && (self.parts.is_empty() || self.parts.iter().any(part))
    }

    /// The same months, whatever the year.
    pub fn of_any_year(&self) -> Self {
        let part = |part: &Part| match *part {
            Part::Span(first, last) if first.0 == last.0 => Part::Every(first.1, last.1),
            Part::Span(..) => Part::Every(1, 12),
            every @ Part::Every(..) => every,
        };
        Self {
            years: Vec::new(),
            parts: self.parts.iter().map(part).collect(),
        }
    }

    /// Whether only times before the year are named.
    pub fn ends_before(&self, year: u16) -> bool {
        let years = self.years.iter().copied();
        let spans = self.parts.iter().filter_map(|part| match part {
            Part::Span(_, last) => Some(last.0),
            Part::Every(..) => None,
        });
        years.chain(spans).max().is_some_and(|last| last < year)
    }

    /// Takes the other's months in addition.
    pub fn extend(&mut self, other: Self) {
        self.years.extend(other.years);
        self.parts.extend(other.parts);
    }

    /// What to set side by side where several periods are named.
    pub fn compares(&self) -> Option<Dimension> {
        let quarter = |part: &Part| match *part {
            Part::Every(first, last) | Part::Span((_, first), (_, last)) => {
                first % 3 == 1 && last == first + 2
            }
        };
        match (self.parts.len(), self.years.len()) {
            (0 | 1, 0 | 1) => None,
            (0 | 1, _) => Some(Dimension::Year),
            _ if self.parts.iter().all(quarter) => Some(Dimension::Quarter),
            _ => Some(Dimension::Month),
        }
    }

    /// In words, for the heading of an answer.
    pub fn described(&self) -> Vec<String> {
        let parts = self.parts.iter().map(|part| match *part {
            Part::Every(first, last) if first == last => month_name(first).to_owned(),
            Part::Every(first, last) => format!("{} to {}", month_name(first), month_name(last)),
            Part::Span(first, last) if first == last => format!("{}-{:02}", first.0, first.1),
            Part::Span(first, last) => {
                format!("{}-{:02} to {}-{:02}", first.0, first.1, last.0, last.1)
            }
        });
        parts.chain(self.years.iter().map(u16::to_string)).collect()
    }

    fn add(&mut self, part: Part, to: bool) {
        if let Part::Span((year, _), _) = part {
            for undated in &mut self.parts {
                undated.fix(year);
            }
        }
        match (self.parts.last_mut(), part) {
            (Some(Part::Every(_, end)), Part::Every(_, last)) if to => *end = last,
            (Some(Part::Span(_, end)), Part::Span(_, last)) if to => *end = last,
            _ => self.parts.push(part),
        }
    }
}

impl Part {
    fn fix(&mut self, year: u16) {
        if let Self::Every(first, last) = *self {
            *self = Self::Span((year, first), (year, last));
        }
    }
}

/// The first and the last month of a quarter.
fn months(quarter: u8) -> (u8, u8) {
    (3 * quarter - 2, 3 * quarter)
}

pub fn month_name(month: u8) -> &'static str {
    match month {
        1 => "January",
        2 => "February",
        3 => "March",
        4 => "April",
        5 => "May",
        6 => "June",
        7 => "July",
        8 => "August",
        9 => "September",
        10 => "October",
        11 => "November",
        _ => "December",
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::sales;
    use super::super::words::phrases;
    use super::*;

    #[test]
    fn periods_are_heard_as_people_say_them() {
        let table = [
            ("by region", "", 24),
            ("2025", "2025", 12),
            ("2024 vs 2025", "2024, 2025", 24),
            ("from 2024 to 2025", "2024, 2025", 24),
            ("march", "March", 2),
            ("in March 2025", "2025-03", 1),
            ("2025-03", "2025-03", 1),
            ("march to june 2025", "2025-03 to 2025-06", 4),
            ("march until june", "March to June", 8),
            (
                "q1 and q2 2025",
                "2025-01 to 2025-03, 2025-04 to 2025-06",
                6,
            ),
            ("2025 q4", "October to December, 2025", 3),
            ("2024-11 to 2025-02", "2024-11 to 2025-02", 4),
            ("nov 2024 to feb 2025", "2024-11 to 2025-02", 4),
            ("2030", "2030", 0),
        ];

        for (text, described, months) in table {
            let heard: Vec<_> = phrases(text).into_iter().map(|(word, _)| word).collect();
            let period = Period::heard(&heard);

            let mut seen: Vec<_> = sales()
                .iter()
                .filter(|sale| period.contains(sale))
                .map(|sale| (sale.year, sale.month))
                .collect();
            seen.dedup();
            assert_eq!(seen.len(), months, "{text}");
            assert_eq!(period.described().join(", "), described, "{text}");
        }
    }
}
