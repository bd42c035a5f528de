//! A query becomes a table: every figure is computed from the rows of the sample data.

use std::collections::{BTreeMap, BTreeSet};

use super::data::{Dimension, Sale, newest_year, sales};
use super::period::month_name;
use super::query::{Figure, Measure, Order, Query};
use super::render::{dollars, listed, number, percent};

/// More rows than this are not shown.
const MOST_ROWS: usize = 48;

/// Figures, ready to be laid out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub title: String,
    /// Names of the columns: labels first, then figures.
    pub columns: Vec<String>,
    /// How many columns are labels.
    pub labels: usize,
    pub rows: Vec<Vec<String>>,
    pub remarks: Vec<String>,
}

/// What a stretch of rows adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Amount {
    units: u64,
    revenue: u64,
}

/// One row before it is put in its place.
struct Line {
    labels: Vec<String>,
    /// What lines are ranked by.
    value: f64,
    cells: Vec<String>,
}

pub fn table(query: &Query) -> Table {
    let rows: Vec<_> = sales().iter().filter(|sale| query.admits(sale)).collect();
    if rows.is_empty() {
        return Table {
            title: title(query),
            remarks: vec!["There is no data for that.".to_owned()],
            ..Table::default()
        };
    }
    match query.figure {
        Figure::Sum => sums(query, &rows),
        Figure::Average(per) => averages(query, &rows, per),
        Figure::Share => shares(query),
        Figure::Growth => growth(query),
        Figure::Trend => trend(query, &rows),
    }
}

fn sums(query: &Query, rows: &[&Sale]) -> Table {
    let groups = grouped(query);
    let cells = |amount: &Amount| {
        let text = |measure: &Measure| amount.text(*measure);
        query.measures.iter().map(text).collect::<Vec<_>>()
    };
    let amounts = tally(rows, |sale| path(&groups, sale));
    let lines = amounts.into_iter().map(|(labels, amount)| Line {
        labels,
        value: amount.value(first_measure(query)),
        cells: cells(&amount),
    });
    let columns = query
        .measures
        .iter()
        .map(|measure| measure.name().to_owned());
    let lines: Vec<_> = lines.collect();
    let compared = comparison(query, &lines);
    let several = lines.len() > 1;
    let mut table = arranged(query, &groups, columns.collect(), lines);
    if several && query.rank.is_none() {
        let mut total = vec![String::new(); groups.len()];
        if let Some(label) = total.first_mut() {
            "Total".clone_into(label);
        }
        total.extend(cells(&Amount::of(rows)));
        table.rows.push(total);
        table.remarks.extend(compared);
    }
    table
}

fn averages(query: &Query, rows: &[&Sale], per: Dimension) -> Table {
    let periods: BTreeSet<_> = rows.iter().map(|sale| per.label(sale)).collect();
    let measure = first_measure(query);
    let mean = |amount: &Amount| amount.value(measure) / count(periods.len());
    let amounts = tally(rows, |sale| path(&query.groups, sale));
    let lines = amounts.into_iter().map(|(labels, amount)| Line {
        labels,
        value: mean(&amount),
        cells: vec![measure.text(mean(&amount), 1)],
    });
    let column = format!("{} per {}", measure.name(), per.as_str());
    let mut table = arranged(query, &query.groups, vec![column], lines.collect());
    let unit = per.as_str();
    table.remarks.push(format!(
        "The average is taken over {} {unit}(s).",
        periods.len()
    ));
    table
}

fn shares(query: &Query) -> Table {
    let measure = match first_measure(query) {
        Measure::Price => Measure::Revenue,
        measure => measure,
    };
    // "The share of Europe" is its share of all regions.
    let mut whole = query.clone();
    let groups = if !query.groups.is_empty() {
        query.groups.clone()
    } else if !query.regions.is_empty() {
        whole.regions.clear();
        vec![Dimension::Region]
    } else if !query.products.is_empty() {
        whole.products.clear();
        vec![Dimension::Product]
    } else {
        vec![Dimension::Product]
    };
    let rows: Vec<_> = sales().iter().filter(|sale| whole.admits(sale)).collect();
    let all = Amount::of(&rows).value(measure);
    let part: Vec<_> = rows
        .iter()
        .copied()
        .filter(|sale| query.admits(sale))
        .collect();
    let amounts = tally(&part, |sale| path(&groups, sale));
    let lines = amounts.into_iter().map(|(labels, amount)| Line {
        labels,
        value: amount.value(measure),
        cells: vec![
            amount.text(measure),
            percent(amount.value(measure) / all * 100.0),
        ],
    });
    let columns = vec![measure.name().to_owned(), "Share".to_owned()];
    let mut table = arranged(query, &groups, columns, lines.collect());
    let all = measure.text(all, 0);
    table.remarks.push(format!("The whole is {all}."));
    table
}

fn growth(query: &Query) -> Table {
    let newest = newest_year();
    let oldest = newest.saturating_sub(1);
    if query.period.ends_before(newest) {
        return Table {
            title: title(query),
            remarks: vec![format!(
                "There is nothing before {oldest} to compare it with."
            )],
            ..Table::default()
        };
    }
    let measure = first_measure(query);
    let mut years = query.clone();
    years.period = query.period.of_any_year();
    let groups = grouped(query)
        .into_iter()
        .filter(|group| *group != Dimension::Year);
    let groups: Vec<_> = groups.collect();
    let rows: Vec<_> = sales().iter().filter(|sale| years.admits(sale)).collect();
    let in_year = |year| {
        let rows: Vec<_> = rows
            .iter()
            .copied()
            .filter(|sale| sale.year == year)
            .collect();
        tally(&rows, |sale| season(&groups, sale))
    };
    let before = in_year(oldest);
    let lines = in_year(newest).into_iter().map(|(labels, after)| {
        let before = before.get(&labels).copied().unwrap_or_default();
        let change = change(before.value(measure), after.value(measure));
        Line {
            value: change,
            cells: vec![before.text(measure), after.text(measure), signed(change)],
            labels,
        }
    });
    let columns = vec![oldest.to_string(), newest.to_string(), "Change".to_owned()];
    let lines: Vec<_> = lines.collect();
    let mut table = arranged(query, &groups, columns, lines);
    for row in &mut table.rows {
        for label in row.iter_mut().take(groups.len()) {
            // Months are numbered until here, so that they stand in order.
            if let Ok(month) = label.parse() {
                month_name(month).clone_into(label);
            }
        }
    }
    table
}

fn trend(query: &Query, rows: &[&Sale]) -> Table {
    let time = query.groups.iter().copied().find(|group| group.is_time());
    let groups = [time.unwrap_or(Dimension::Month)];
    let measure = first_measure(query);
    let amounts = tally(rows, |sale| path(&groups, sale));
    let mut earlier = None;
    let mut lines = Vec::new();
    let mut ends = Vec::new();
    for (labels, amount) in amounts {
        let value = amount.value(measure);
        let step = earlier.map(|earlier| change(earlier, value));
        ends.push((labels.concat(), value));
        lines.push(Line {
            labels,
            value,
            cells: vec![amount.text(measure), step.map_or(String::new(), signed)],
        });
        earlier = Some(value);
    }
    let columns = vec![measure.name().to_owned(), "Change".to_owned()];
    let mut table = arranged(query, &groups, columns, lines);
    if let (Some((first, from)), Some((last, to))) = (ends.first(), ends.last()) {
        let name = measure.name().to_lowercase();
        let change = signed(change(*from, *to));
        let (from, to) = (measure.text(*from, 0), measure.text(*to, 0));
        table.remarks.push(format!(
            "From {first} to {last}, {name} went from {from} to {to} ({change})."
        ));
    }
    table
}

/// Puts the lines in order, keeps those that were asked for, and says over them what they are.
fn arranged(
    query: &Query,
    groups: &[Dimension],
    figures: Vec<String>,
    mut lines: Vec<Line>,
) -> Table {
    let time = groups.first().is_none_or(|group| group.is_time());
    match query.rank {
        Some(rank) if rank.order == Order::Bottom => {
            lines.sort_by(|a, b| a.value.total_cmp(&b.value));
        }
        None if time => {}
        _ => lines.sort_by(|a, b| b.value.total_cmp(&a.value)),
    }
    let found = lines.len();
    let wanted = query.rank.map_or(usize::MAX, |rank| rank.count);
    lines.truncate(wanted.min(MOST_ROWS));
    let mut remarks = Vec::new();
    if found.min(wanted) > MOST_ROWS {
        remarks.push(format!("These are the first {MOST_ROWS} of {found} rows."));
    }
    let names = groups.iter().map(|group| capitalised(group.as_str()));
    Table {
        title: title(query),
        columns: names.chain(figures).collect(),
        labels: groups.len(),
        rows: lines
            .into_iter()
            .map(|line| [line.labels, line.cells].concat())
            .collect(),
        remarks,
    }
}

fn title(query: &Query) -> String {
    let measures: Vec<_> = query
        .measures
        .iter()
        .map(|measure| measure.name().to_lowercase())
        .collect();
    let measures = listed(&measures);
    let what = match query.figure {
        Figure::Sum => measures,
        Figure::Average(per) => format!("average {measures} per {}", per.as_str()),
        Figure::Share => format!("share of {measures}"),
        Figure::Growth => {
            let newest = newest_year();
            format!(
                "growth of {measures} from {} to {newest}",
                newest.saturating_sub(1)
            )
        }
        Figure::Trend => format!("trend of {measures}"),
    };
    let mut title = capitalised(&what);
    let groups = grouped(query);
    if !groups.is_empty() {
        let groups: Vec<_> = groups
            .iter()
            .map(|group| group.as_str().to_owned())
            .collect();
        title.push_str(" by ");
        title.push_str(&listed(&groups));
    }
    if let Some(rank) = query.rank {
        let order = if rank.order == Order::Top {
            "highest"
        } else {
            "lowest"
        };
        match rank.count {
            1 => title.push_str(&format!(", the {order}")),
            usize::MAX => title.push_str(&format!(", {order} first")),
            count => title.push_str(&format!(", the {count} {order}")),
        }
    }
    let names = [&query.regions, &query.products].into_iter().flatten();
    let names = names
        .map(|name| (*name).to_owned())
        .chain(query.period.described());
    for name in names {
        title.push_str(", ");
        title.push_str(&name);
    }
    title
}

/// What the answer is broken down by. A rank wants something to rank.
fn grouped(query: &Query) -> Vec<Dimension> {
    if query.groups.is_empty() && query.rank.is_some() {
        return vec![Dimension::Product];
    }
    query.groups.clone()
}

/// In words, where two things stand side by side.
fn comparison(query: &Query, lines: &[Line]) -> Option<String> {
    let [a, b] = lines else { return None };
    let (more, less) = if a.value >= b.value { (a, b) } else { (b, a) };
    let measure = first_measure(query);
    Some(format!(
        "{} is {} ({}) above {}.",
        more.labels.join(" "),
        measure.text(more.value - less.value, 0),
        signed(change(less.value, more.value)),
        less.labels.join(" "),
    ))
}

fn tally(rows: &[&Sale], labels: impl Fn(&Sale) -> Vec<String>) -> BTreeMap<Vec<String>, Amount> {
    let mut amounts: BTreeMap<_, Amount> = BTreeMap::new();
    for sale in rows {
        amounts.entry(labels(sale)).or_default().add(sale);
    }
    amounts
}

fn path(groups: &[Dimension], sale: &Sale) -> Vec<String> {
    groups.iter().map(|group| group.label(sale)).collect()
}

/// As [`path`], without the year.
fn season(groups: &[Dimension], sale: &Sale) -> Vec<String> {
    let label = |group: &Dimension| match group {
        Dimension::Month => format!("{:02}", sale.month),
        Dimension::Quarter => format!("Q{}", sale.quarter()),
        _ => group.label(sale),
    };
    groups.iter().map(label).collect()
}

fn first_measure(query: &Query) -> Measure {
    query.measures.first().copied().unwrap_or(Measure::Revenue)
}

/// In percent.
fn change(before: f64, after: f64) -> f64 {
    (after - before) / before * 100.0
}

fn signed(change: f64) -> String {
    let sign = if change > 0.0 { "+" } else { "" };
    format!("{sign}{}", percent(change))
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().collect::<String>());
    first.unwrap_or_default() + chars.as_str()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the sample data stays far below 2^52"
)]
fn count(n: usize) -> f64 {
    n as f64
}

impl Amount {
    fn of(rows: &[&Sale]) -> Self {
        let mut amount = Self::default();
        rows.iter().for_each(|sale| amount.add(sale));
        amount
    }

    fn add(&mut self, sale: &Sale) {
        self.units += sale.units;
        self.revenue += sale.revenue;
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "the sample data stays far below 2^52"
    )]
    fn value(&self, measure: Measure) -> f64 {
        let (units, revenue) = (self.units as f64, self.revenue as f64);
        match measure {
            Measure::Revenue => revenue,
            Measure::Units => units,
            Measure::Price => revenue / units,
        }
    }

    fn text(&self, measure: Measure) -> String {
        measure.text(self.value(measure), 0)
    }
}

impl Measure {
    fn name(self) -> &'static str {
        match self {
            Self::Revenue => "Revenue",
            Self::Units => "Units",
            Self::Price => "Price per unit",
        }
    }

    /// The figure, units with so many decimals.
    fn text(self, value: f64, decimals: usize) -> String {
        match self {
            Self::Revenue => dollars(value, 0),
            Self::Units => number(value, decimals),
            Self::Price => dollars(value, 2),
        }
    }
}
