//! The vocabulary of questions: one word in, its meaning out.

use super::data::{Dimension, newest_year};
use super::query::{Measure, Order};

/// What a word means for a question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Word {
    Measure(Measure),
    Dimension(Dimension, Number),
    Region(&'static str),
    Product(&'static str),
    Year(u16),
    Quarter(u8),
    Month(u8),
    /// A month of a year.
    Date(u16, u8),
    Count(usize),
    Rank(Order),
    /// Sorted, but not cut off.
    Sorted,
    Total,
    Average,
    Share,
    Growth,
    Trend,
    /// From one value to another.
    To,
    /// No filter at all.
    All,
    /// No filter along a dimension.
    Lift(Dimension),
    /// In addition to what was asked for.
    Also,
    Link(Link),
    /// "America" alone is two regions, "north america" is one.
    America,
    Data,
    Help,
    Filler,
    Unknown,
}

/// Whether one thing was asked for or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    One,
    Many,
}

/// How a word ties a question to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Wherever it stands: "the same", "instead".
    Always,
    /// At the beginning: "and for 2025?".
    First,
    /// A word that opens a question of its own: "which", "show".
    Opens,
}

/// What a text says, phrase by phrase, each with the word that it begins with.
pub fn phrases(text: &str) -> Vec<(Word, String)> {
    let words = words(text);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let mut rest = words.as_slice();
    let mut phrases: Vec<(Word, String)> = Vec::new();
    while let Some(first) = rest.first() {
        let (word, length) = phrase(rest, phrases.last().map(|(word, _)| *word));
        phrases.push((word, (*first).to_owned()));
        rest = rest.get(length..).unwrap_or_default();
    }
    phrases
}

/// What the first words of `rest` mean together, and how many they are.
fn phrase(rest: &[&str], before: Option<Word>) -> (Word, usize) {
    let dimension = |word: &str| match meaning(word) {
        Word::Dimension(dimension, _) => Some(dimension),
        _ => None,
    };
    let ranks = |word: Option<Word>| matches!(word, Some(Word::Rank(_)));
    match rest {
        ["year", "over" | "on", "year", ..] => (Word::Growth, 3),
        ["this", "year", ..] => (Word::Year(newest_year()), 2),
        ["last" | "previous", "year", ..] => (Word::Year(newest_year().saturating_sub(1)), 2),
        ["may", "i" | "we" | "you", ..] => (Word::Filler, 2),
        ["what" | "how", "about", ..] => (Word::Link(Link::Always), 2),
        ["how", "many", noun, ..] if dimension(noun).is_some() => (Word::Data, 3),
        [part, "america" | "american", ..] if matches!(meaning(part), Word::Region(_)) => {
            (meaning(part), 2)
        }
        [first, noun, ..] if meaning(first) == Word::All => match dimension(noun) {
            Some(dimension) => (Word::Lift(dimension), 2),
            None => (Word::All, 1),
        },
        [first, tail @ ..] => match meaning(first) {
            Word::Count(_) if !ranks(before) && !ranks(tail.first().map(|next| meaning(next))) => {
                (Word::Unknown, 1)
            }
            word => (word, 1),
        },
        [] => (Word::Filler, 1),
    }
}

/// The words of a text, in small letters; `2025-03` is one word.
fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '-' && c != '%')
        .flat_map(|word| match date(word) {
            Some(_) => vec![word],
            None => word.split('-').collect(),
        })
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn meaning(word: &str) -> Word {
    date(word)
        .or_else(|| number(word))
        .or_else(|| subject(word))
        .or_else(|| figure(word))
        .or_else(|| month(word).map(Word::Month))
        .or_else(|| grammar(word))
        .unwrap_or(Word::Unknown)
}

fn date(word: &str) -> Option<Word> {
    let (year, month) = word.split_once('-')?;
    match (year.len(), year.parse().ok()?, month.parse().ok()?) {
        (4, year, month @ 1..=12) => Some(Word::Date(year, month)),
        _ => None,
    }
}

fn number(word: &str) -> Option<Word> {
    let names = [
        "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    if let Some(place) = names.iter().position(|name| *name == word) {
        return Some(Word::Count(place + 2));
    }
    match word.parse().ok()? {
        year @ 1900..=2100_u16 => Some(Word::Year(year)),
        count => Some(Word::Count(usize::from(count))),
    }
}

/// Measures, dimensions and the names along them.
fn subject(word: &str) -> Option<Word> {
    use Dimension::{Month, Product, Quarter, Region, Year};
    use Number::{Many, One};
    Some(match word {
        "revenue" | "revenues" | "sales" | "turnover" | "income" | "earnings" | "money" => {
            Word::Measure(Measure::Revenue)
        }
        "units" | "unit" | "quantity" | "quantities" | "volume" | "pieces" | "many" => {
            Word::Measure(Measure::Units)
        }
        "price" | "prices" | "expensive" => Word::Measure(Measure::Price),
        "region" | "market" | "area" | "where" => Word::Dimension(Region, One),
        "regions" | "regional" | "markets" | "areas" => Word::Dimension(Region, Many),
        "product" | "item" => Word::Dimension(Product, One),
        "products" | "items" => Word::Dimension(Product, Many),
        "month" | "when" => Word::Dimension(Month, One),
        "months" | "monthly" => Word::Dimension(Month, Many),
        "quarter" => Word::Dimension(Quarter, One),
        "quarters" | "quarterly" => Word::Dimension(Quarter, Many),
        "year" => Word::Dimension(Year, One),
        "years" | "yearly" | "annual" | "annually" => Word::Dimension(Year, Many),
        "europe" | "european" | "emea" | "eu" => Word::Region("Europe"),
        "north" => Word::Region("North America"),
        "latin" | "south" | "latam" => Word::Region("Latin America"),
        "asia" | "asian" | "pacific" | "apac" => Word::Region("Asia Pacific"),
        "america" | "american" | "americas" => Word::America,
        "desk" | "desks" => Word::Product("Desk"),
        "chair" | "chairs" => Word::Product("Chair"),
        "lamp" | "lamps" => Word::Product("Lamp"),
        "shelf" | "shelves" => Word::Product("Shelf"),
        "q1" => Word::Quarter(1),
        "q2" => Word::Quarter(2),
        "q3" => Word::Quarter(3),
        "q4" => Word::Quarter(4),
        _ => return None,
    })
}

/// What to do with the figures.
fn figure(word: &str) -> Option<Word> {
    Some(match word {
        "top" | "best" | "highest" | "largest" | "biggest" | "most" | "strongest" | "leading"
        | "greatest" | "maximum" | "max" | "peak" => Word::Rank(Order::Top),
        "bottom" | "worst" | "lowest" | "smallest" | "least" | "weakest" | "fewest" | "minimum"
        | "min" => Word::Rank(Order::Bottom),
        "rank" | "ranked" | "ranking" | "sort" | "sorted" => Word::Sorted,
        "total" | "totals" | "sum" | "altogether" => Word::Total,
        "average" | "averages" | "mean" | "avg" | "typical" => Word::Average,
        "share" | "shares" | "percent" | "percentage" | "proportion" | "fraction" | "%" => {
            Word::Share
        }
        "growth" | "grow" | "grew" | "grown" | "growing" | "increase" | "increased" | "change"
        | "changed" | "yoy" => Word::Growth,
        "trend" | "trends" | "time" | "history" | "development" | "develop" | "developed" => {
            Word::Trend
        }
        "data" | "dataset" | "columns" | "column" | "fields" | "rows" | "schema" => Word::Data,
        "help" | "ask" => Word::Help,
        _ => return None,
    })
}

fn month(word: &str) -> Option<u8> {
    let names = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let fits = |name: &str| name == word || (word.len() == 3 && name.starts_with(word));
    let place = names.iter().position(|name| fits(name))?;
    u8::try_from(place + 1).ok()
}

/// Words that only hold a question together.
fn grammar(word: &str) -> Option<Word> {
    const FILLERS: &str = "a an the of in on at is are was were be been do does did have has had we \
        i you me my about our us its there much sold sell sells selling made make makes earn earned by \
        per each every with from as or please can could would like want know need was one so far \
        during within across over out split broken down breakdown break table number numbers \
        figure figures value values amount came come comes coming perform performed performance \
        doing well compared compare comparison versus vs between against than higher lower more \
        less bigger smaller dollars usd company business hi hello hey thanks thank yes no if it \
        this last previous who sandbox into both look looks looking went go";
    Some(match word {
        "to" | "through" | "until" | "till" => Word::To,
        "all" | "overall" | "everything" | "any" => Word::All,
        "also" | "too" | "plus" | "additionally" => Word::Also,
        "same" | "instead" | "again" | "those" | "these" | "them" | "that" => {
            Word::Link(Link::Always)
        }
        "and" | "only" | "just" | "now" | "but" | "then" | "ok" | "okay" | "for" => {
            Word::Link(Link::First)
        }
        "which" | "what" | "how" | "show" | "give" | "list" | "tell" | "display" => {
            Word::Link(Link::Opens)
        }
        _ if FILLERS.split_whitespace().any(|filler| filler == word) => Word::Filler,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_small_and_a_month_of_a_year_is_one_of_them() {
        assert_eq!(
            words("Year-over-year, 2025-03?"),
            ["year", "over", "year", "2025-03"]
        );
        assert_eq!(words(" -- … "), Vec::<String>::new());
    }

    #[test]
    fn some_words_mean_something_together() {
        let table = [
            ("year over year", Word::Growth),
            ("last year", Word::Year(2024)),
            ("this year", Word::Year(2025)),
            ("North America", Word::Region("North America")),
            ("america", Word::America),
            ("all regions", Word::Lift(Dimension::Region)),
            ("everything", Word::All),
            ("how many products", Word::Data),
            ("may I", Word::Filler),
        ];

        for (text, expected) in table {
            let phrases = phrases(text);

            assert_eq!((phrases.len(), phrases[0].0), (1, expected), "{text}");
        }
        assert_eq!(phrases("7 lamps")[0].0, Word::Unknown);
        assert_eq!(phrases("best 7")[1].0, Word::Count(7));
        assert_eq!(phrases("7 best")[0].0, Word::Count(7));
    }

    #[test]
    fn a_word_has_one_meaning() {
        let table = [
            ("turnover", Word::Measure(Measure::Revenue)),
            ("shelves", Word::Product("Shelf")),
            ("sept", Word::Unknown),
            ("sep", Word::Month(9)),
            ("september", Word::Month(9)),
            ("2025-13", Word::Unknown),
            ("2025-12", Word::Date(2025, 12)),
            ("1999", Word::Year(1999)),
            ("12", Word::Count(12)),
            ("three", Word::Count(3)),
            ("99999999", Word::Unknown),
            ("the", Word::Filler),
            ("africa", Word::Unknown),
        ];

        for (word, expected) in table {
            assert_eq!(meaning(word), expected, "{word}");
        }
    }
}
