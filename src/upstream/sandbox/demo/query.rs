//! A question becomes a query: one pass over its words, on top of the query before it.

use super::data::{Dimension, Sale};
use super::period::Period;
use super::words::{Link, Number, Word, phrases};

/// How many rows "the top products" are.
const SEVERAL: usize = 5;
/// Words quoted as not understood.
const QUOTED: usize = 5;

/// What a text asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    Figures(Query),
    /// What data there is.
    Data,
    /// Not understood, or a call for help.
    Help,
}

/// Figures to compute.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub measures: Vec<Measure>,
    pub groups: Vec<Dimension>,
    pub regions: Vec<&'static str>,
    pub products: Vec<&'static str>,
    pub period: Period,
    pub figure: Figure,
    pub rank: Option<Rank>,
    /// Words that mean nothing here.
    pub ignored: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    Revenue,
    Units,
    /// Revenue per unit.
    Price,
}

/// What to do with the measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    Sum,
    /// Per month, quarter or year.
    Average(Dimension),
    Share,
    /// From year to year.
    Growth,
    /// From period to period.
    Trend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    pub order: Order,
    pub count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Top,
    Bottom,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            measures: vec![Measure::Revenue],
            groups: Vec::new(),
            regions: Vec::new(),
            products: Vec::new(),
            period: Period::default(),
            figure: Figure::Sum,
            rank: None,
            ignored: Vec::new(),
        }
    }
}

impl Query {
    pub fn admits(&self, sale: &Sale) -> bool {
        (self.regions.is_empty() || self.regions.contains(&sale.region))
            && (self.products.is_empty() || self.products.contains(&sale.product))
            && self.period.contains(sale)
    }
}

/// Reads a question, which may lean on the one before it.
pub fn parse(text: &str, before: Option<&Query>) -> Question {
    let heard = Heard::listen(text);
    if !heard.says_something() {
        return if heard.data {
            Question::Data
        } else {
            Question::Help
        };
    }
    if heard.data && heard.groups.is_empty() && heard.rank.is_none() {
        return Question::Data;
    }
    let base = before.filter(|_| heard.leans()).cloned();
    Question::Figures(heard.upon(base.unwrap_or_default()))
}

/// What the words of one text say, before it is known what they change.
#[derive(Debug, Default)]
struct Heard {
    measures: Vec<Measure>,
    groups: Vec<(Dimension, Number)>,
    regions: Vec<&'static str>,
    products: Vec<&'static str>,
    period: Period,
    figures: Vec<Word>,
    rank: Option<Order>,
    count: Option<usize>,
    sorted: bool,
    /// Filters to lift: of one dimension, or all.
    lifted: Vec<Option<Dimension>>,
    also: bool,
    data: bool,
    help: bool,
    links: bool,
    opens: bool,
    length: usize,
    ignored: Vec<String>,
}

impl Heard {
    fn listen(text: &str) -> Self {
        let phrases = phrases(text);
        let words: Vec<_> = phrases.iter().map(|(word, _)| *word).collect();
        let mut heard = Self {
            period: Period::heard(&words),
            length: words.len(),
            ..Self::default()
        };
        for (place, (word, text)) in phrases.into_iter().enumerate() {
            heard.note(place, word, text);
        }
        heard
    }

    fn note(&mut self, place: usize, word: Word, text: String) {
        match word {
            Word::Measure(measure) => self.measures.push(measure),
            Word::Dimension(dimension, number) => self.groups.push((dimension, number)),
            Word::Region(region) => self.regions.push(region),
            Word::America => self.regions.extend(["North America", "Latin America"]),
            Word::Product(product) => self.products.push(product),
            Word::Count(count) => self.count = Some(count.max(1)),
            Word::Rank(order) => self.rank = Some(order),
            Word::Sorted => self.sorted = true,
            Word::Total | Word::Average | Word::Share | Word::Growth | Word::Trend => {
                self.figures.push(word);
            }
            Word::All => self.lifted.push(None),
            Word::Lift(dimension) => self.lifted.push(Some(dimension)),
            Word::Also => self.also = true,
            Word::Link(Link::Always) => self.links = true,
            Word::Link(Link::First) => self.links |= place == 0,
            Word::Link(Link::Opens) => self.opens |= place == 0,
            Word::Data => self.data = true,
            Word::Help => self.help = true,
            Word::Unknown if self.ignored.len() < QUOTED => self.ignored.push(text),
            Word::Year(_) | Word::Quarter(_) | Word::Month(_) | Word::Date(..) => {}
            Word::To | Word::Filler | Word::Unknown => {}
        }
    }

    fn says_something(&self) -> bool {
        !self.help
            && (!self.measures.is_empty()
                || !self.groups.is_empty()
                || !self.regions.is_empty()
                || !self.products.is_empty()
                || !self.period.is_empty()
                || !self.figures.is_empty()
                || !self.lifted.is_empty()
                || self.rank.is_some()
                || self.sorted)
    }

    /// Whether this is only half a question.
    fn leans(&self) -> bool {
        let whole = self.opens && self.length > 3;
        self.links || self.also || (self.measures.is_empty() && !whole)
    }

    fn upon(self, mut query: Query) -> Query {
        self.narrow(&mut query);
        if !self.measures.is_empty() {
            query.measures.clone_from(&self.measures);
            query.measures.dedup();
        }
        if let Some(figure) = self.figure() {
            query.figure = figure;
        }
        let mut groups: Vec<_> = self
            .groups
            .iter()
            .map(|(dimension, _)| *dimension)
            .collect();
        if let Figure::Average(_) = query.figure {
            // Of an average, a time is what it is taken over.
            if let Some(time) = groups.iter().copied().find(|dimension| dimension.is_time()) {
                query.figure = Figure::Average(time);
            }
            groups.retain(|dimension| !dimension.is_time());
        }
        let compared = self.compared();
        if groups.is_empty() && self.groups.is_empty() && self.rank.is_none() {
            groups.extend(compared);
        }
        if !groups.is_empty() {
            groups.dedup();
            groups.truncate(2);
            query.groups = groups;
            query.rank = None;
            if query.figure == Figure::Trend && !query.groups.iter().all(|group| group.is_time()) {
                query.figure = Figure::Sum;
            }
        }
        if let Some(rank) = self.ranked(query.rank) {
            query.rank = Some(rank);
        }
        query.ignored = self.ignored;
        query
    }

    fn narrow(&self, query: &mut Query) {
        for lifted in &self.lifted {
            let lifts = |dimension| lifted.is_none() || *lifted == Some(dimension);
            if lifts(Dimension::Region) {
                query.regions.clear();
            }
            if lifts(Dimension::Product) {
                query.products.clear();
            }
            if lifted.is_none_or(Dimension::is_time) {
                query.period = Period::default();
            }
        }
        if !self.regions.is_empty() {
            replace(&mut query.regions, &self.regions, self.also);
        }
        if !self.products.is_empty() {
            replace(&mut query.products, &self.products, self.also);
        }
        if !self.period.is_empty() && self.also {
            query.period.extend(self.period.clone());
        } else if !self.period.is_empty() {
            query.period = self.period.clone();
        }
    }

    fn figure(&self) -> Option<Figure> {
        let says = |word| self.figures.contains(&word);
        if says(Word::Growth) {
            Some(Figure::Growth)
        } else if says(Word::Share) {
            Some(Figure::Share)
        } else if says(Word::Average) && self.measures != [Measure::Price] {
            Some(Figure::Average(Dimension::Month))
        } else if says(Word::Trend) {
            Some(Figure::Trend)
        } else {
            (says(Word::Total) || says(Word::Average)).then_some(Figure::Sum)
        }
    }

    /// The dimension of which several values are named: they want to stand side by side.
    fn compared(&self) -> Option<Dimension> {
        if self.regions.len() > 1 {
            Some(Dimension::Region)
        } else if self.products.len() > 1 {
            Some(Dimension::Product)
        } else {
            self.period.compares()
        }
    }

    fn ranked(&self, before: Option<Rank>) -> Option<Rank> {
        let order = match self.rank {
            Some(order) => order,
            None if self.sorted => Order::Top,
            None => return None,
        };
        let first = self.groups.first();
        let one = first.is_some_and(|(_, number)| *number == Number::One);
        let count = match self.count {
            Some(count) => count,
            None if self.sorted => usize::MAX,
            None if one => 1,
            None => before.map_or(SEVERAL, |before| before.count),
        };
        Some(Rank { order, count })
    }
}

fn replace(values: &mut Vec<&'static str>, named: &[&'static str], also: bool) {
    if !also {
        values.clear();
    }
    for name in named {
        if !values.contains(name) {
            values.push(name);
        }
    }
}
