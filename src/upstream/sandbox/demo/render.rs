//! What the sample data says, as Markdown.

use super::data::{Dimension, labels, sales};
use super::figures::Table;

/// Characters of a word quoted as not understood.
const QUOTED: usize = 30;

/// The table with its title over it, and what there is to say under it.
pub fn answer(table: &Table, ignored: &[String]) -> String {
    let mut paragraphs = vec![format!("**{}**", table.title)];
    if !ignored.is_empty() {
        let quoted: Vec<String> = ignored
            .iter()
            .map(|word| word.chars().take(QUOTED).collect())
            .collect();
        paragraphs.push(format!(
            "Not understood, and left out: {}.",
            quoted.join(", ")
        ));
    }
    if !table.rows.is_empty() {
        let aligned = (0..table.columns.len()).map(|column| {
            let label = column < table.labels;
            if label { "---" } else { "---:" }.to_owned()
        });
        let mut lines = vec![row(&table.columns), row(&aligned.collect::<Vec<_>>())];
        lines.extend(table.rows.iter().map(|cells| row(cells)));
        paragraphs.push(lines.join("\n"));
    }
    paragraphs.extend(table.remarks.iter().cloned());
    paragraphs.push(source());
    paragraphs.join("\n\n")
}

/// What data there is.
pub fn contents() -> String {
    let columns = [
        ("month", span()),
        ("region", listed(&labels(Dimension::Region))),
        ("product", listed(&labels(Dimension::Product))),
        ("units", "pieces sold".to_owned()),
        ("revenue", "US dollars".to_owned()),
    ];
    let columns: Vec<_> = columns
        .into_iter()
        .map(|(name, values)| row(&[name.to_owned(), values]))
        .collect();
    let rows = sales().len();
    let columns = columns.join("\n");
    format!(
        "This is a sandbox. Its sample data is one table of {rows} rows: what was sold of each \
         product in each region in each month.\n\n| Column | Values |\n| --- | --- |\n{columns}\n\n\
         Ask for example: revenue by region?"
    )
}

/// What can be asked, where a question was not understood.
pub fn help() -> String {
    let examples = [
        "total revenue? units sold in 2025?",
        "revenue by region? by product, month, quarter or year? units by region and product?",
        "revenue in Europe in Q1 2025? units of desks from March to June 2025?",
        "top 3 products? which month was the best? the worst region by units?",
        "growth by region? year over year by quarter?",
        "compare Europe and Asia? chairs vs lamps? 2024 vs 2025?",
        "average revenue per month? average price by product?",
        "share of revenue by product? what share comes from Europe?",
        "revenue and units by product? revenue trend by quarter?",
        "what data is there?",
    ];
    format!(
        "This is a sandbox: it answers plain questions about its own sample data, and I found none \
         of those in this message. You can ask:\n\n- {}\n\nA question may lean on the one before: \
         \"and only for 2025?\", \"by product?\", \"top 3\".\n\n{}",
        examples.join("\n- "),
        source(),
    )
}

/// `$1,234`.
pub fn dollars(value: f64, decimals: usize) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}${}", number(value.abs(), decimals))
}

/// `1,234.5`.
pub fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        let left = whole.len() - place;
        if place > 0 && left.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if !fraction.is_empty() {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

/// `12.3%`.
pub fn percent(value: f64) -> String {
    format!("{value:.1}%")
}

/// `a, b and c`.
pub fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn row(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

fn source() -> String {
    let rows = sales().len();
    format!("_Sandbox: sample data, {rows} rows, {}._", span())
}

fn span() -> String {
    let months = labels(Dimension::Month);
    let ends = months.first().zip(months.last());
    ends.map_or(String::new(), |(first, last)| format!("{first} to {last}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let table = [
            (0.0, 0, "0"),
            (999.0, 0, "999"),
            (1000.0, 0, "1,000"),
            (1_234_567.0, 0, "1,234,567"),
            (1234.56, 1, "1,234.6"),
            (-1234.0, 0, "-1,234"),
            (-123.0, 0, "-123"),
        ];

        for (value, decimals, expected) in table {
            assert_eq!(number(value, decimals), expected);
        }
        assert_eq!(dollars(-1234.5, 2), "-$1,234.50");
    }
}
