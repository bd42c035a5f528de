//! What the sample data says to a question, by name: what JSON is filled with.

use serde_json::{Map, Value, json};

use super::data::Dimension;
use super::figures::{self, Table};
use super::query::{Figure, Measure, Query};
use super::render;
use crate::upstream::sandbox::fill::{Facts, Row, known, words};

/// Other names for the columns of tables, and for what stands alone.
const ALIASES: &[(&str, &[&str])] = &[
    (
        "Revenue",
        &["sales", "turnover", "income", "usd", "dollars"],
    ),
    ("Units", &["quantity", "orders", "sold", "pieces"]),
    ("Price per unit", &["price", "average price"]),
    ("Share", &["percentage", "percent"]),
    ("Change", &["growth", "increase"]),
];
const LABELS: &[&str] = &["name", "label", "category", "key", "group", "item"];
const FIGURES: &[&str] = &["value", "amount", "figure", "result"];
const WORDS: &[&str] = &[
    "summary",
    "answer",
    "text",
    "explanation",
    "description",
    "comment",
    "message",
    "content",
    "response",
    "reasoning",
];

/// The query that a schema's own names ask for on top.
pub fn widened(query: &Query, schema: &Value) -> Query {
    let mut query = query.clone();
    let names = names(schema);
    let is_named = |name: &str| {
        let wanted = words(name);
        names
            .iter()
            .any(|name| wanted.iter().all(|word| name.contains(word)))
    };
    if query.figure == Figure::Sum {
        for (measure, name) in [
            (Measure::Revenue, "revenue"),
            (Measure::Units, "units"),
            (Measure::Units, "orders"),
            (Measure::Price, "price"),
        ] {
            if is_named(name) && !query.measures.contains(&measure) {
                query.measures.push(measure);
            }
        }
    }
    if query.groups.is_empty() && query.rank.is_none() && has_rows(schema) {
        let groups = [
            Dimension::Region,
            Dimension::Product,
            Dimension::Month,
            Dimension::Quarter,
            Dimension::Year,
        ];
        query.groups = groups
            .into_iter()
            .filter(|group| is_named(group.as_str()))
            .take(2)
            .collect();
    }
    query
}

/// The words of every name of a property in a schema.
fn names(schema: &Value) -> Vec<Vec<String>> {
    let mut names = Vec::new();
    walk(schema, &mut |map| {
        if let Some(Value::Object(properties)) = map.get("properties") {
            names.extend(properties.keys().map(|name| words(name)));
        }
    });
    names
}

fn has_rows(schema: &Value) -> bool {
    let mut has = false;
    walk(schema, &mut |map| has |= map.contains_key("items"));
    has
}

fn walk(value: &Value, look: &mut impl FnMut(&Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            look(map);
            map.values().for_each(|value| walk(value, look));
        }
        Value::Array(values) => values.iter().for_each(|value| walk(value, look)),
        _ => {}
    }
}

/// What the query's table says, for JSON of this schema.
pub fn facts(query: &Query, schema: &Value) -> Facts {
    let table = figures::table(query);
    let mut rows: Vec<Row> = table.rows.iter().map(|cells| row(&table, cells)).collect();
    let is_total = |cells: &Vec<String>| cells.first().is_some_and(|label| label == "Total");
    let total = table
        .rows
        .iter()
        .position(is_total)
        .map(|at| rows.remove(at));
    for row in &mut rows {
        row.extend(filters(query));
    }
    let mut alone = Row::new();
    let figures = total.as_ref().or(rows.first().filter(|_| rows.len() == 1));
    for (name, value) in figures.into_iter().flatten() {
        if value.is_number() {
            alone.push((format!("total {name}"), value.clone()));
        }
    }
    alone.extend(told(&table));
    let first = rows.first().cloned().unwrap_or_default();
    let labels = table.columns.iter().take(table.labels);
    let names_a_label = labels.clone().any(|label| {
        let label = words(label);
        scalars(schema)
            .iter()
            .any(|name| label.iter().all(|word| name.contains(word)))
    });
    match total {
        Some(total) if !names_a_label => alone.extend(total),
        _ => alone.extend(first),
    }
    alone.extend(filters(query));
    Facts { rows, alone }
}

/// The words of the names of an object's own properties.
fn scalars(schema: &Value) -> Vec<Vec<String>> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let properties = properties.into_iter().flatten();
    let plain = properties.filter(|(_, schema)| schema.get("items").is_none());
    plain.map(|(name, _)| words(name)).collect()
}

/// A table's row by the names of its columns, and then by their other names.
fn row(table: &Table, cells: &[String]) -> Row {
    let mut row = Row::new();
    let mut others = Row::new();
    for (at, (column, cell)) in table.columns.iter().zip(cells).enumerate() {
        let is_label = at < table.labels;
        let value = if is_label {
            Value::from(cell.as_str())
        } else {
            figure(cell)
        };
        let general = match at {
            0 if is_label => LABELS,
            at if at == table.labels => FIGURES,
            _ => &[],
        };
        let aliases = ALIASES.iter().filter(|(of, _)| column.starts_with(of));
        let names = aliases.flat_map(|(_, names)| names.iter()).chain(general);
        others.extend(names.map(|name| ((*name).to_owned(), value.clone())));
        row.push((column.clone(), value));
    }
    row.extend(others);
    row
}

/// A figure as a number: `$1,234`, `+12.3%`.
fn figure(cell: &str) -> Value {
    let digits: String = cell
        .chars()
        .filter(|c| c.is_ascii_digit() || matches!(c, '.' | '-'))
        .collect();
    let whole = digits.parse::<i64>().map(Value::from);
    whole
        .or_else(|_| digits.parse::<f64>().map(Value::from))
        .unwrap_or(Value::Null)
}

/// What a question named, that no column shows.
fn filters(query: &Query) -> Row {
    let mut row = Row::new();
    if let [region] = query.regions.as_slice() {
        row.push(("region".to_owned(), json!(region)));
    }
    if let [product] = query.products.as_slice() {
        row.push(("product".to_owned(), json!(product)));
    }
    for period in query.period.described() {
        let name = if period.len() == 4 { "year" } else { "period" };
        row.push((name.to_owned(), json!(period)));
    }
    row.push(("currency".to_owned(), json!("USD")));
    row
}

/// What can be said of the table in words.
fn told(table: &Table) -> Row {
    let sentence = sentence(table);
    let mut row = vec![("title".to_owned(), json!(table.title))];
    row.extend(
        WORDS
            .iter()
            .map(|name| ((*name).to_owned(), json!(sentence))),
    );
    row
}

/// The table in one line.
pub fn sentence(table: &Table) -> String {
    const ENOUGH: usize = 6;
    let rows = table.rows.iter().take(ENOUGH);
    let rows: Vec<String> = rows
        .map(|cells| cells.join(" ").trim().to_owned())
        .collect();
    let remark = table
        .remarks
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let rows = if rows.is_empty() {
        remark.to_owned()
    } else {
        render::listed(&rows)
    };
    format!("{}: {rows}", table.title)
}

/// What can be said where the question is not about the data.
pub fn nothing(text: &str) -> Facts {
    let first = text.split("\n\n").next().unwrap_or_default();
    let row = WORDS.iter().map(|name| ((*name).to_owned(), json!(first)));
    Facts {
        rows: Vec::new(),
        alone: row.collect(),
    }
}

/// JSON of no schema: the table as it is.
pub fn plain(query: &Query) -> Value {
    let table = figures::table(query);
    let name = |name: &String| words_of(name).join("_");
    let rows = table.rows.iter().map(|cells| {
        let row = row(&table, cells);
        let cells = table.columns.iter().map(|column| {
            let value = known(&row, column).unwrap_or(Value::Null);
            (name(column), value)
        });
        Value::Object(cells.collect())
    });
    json!({"title": table.title, "rows": rows.collect::<Vec<_>>()})
}

fn words_of(name: &str) -> Vec<String> {
    name.split_whitespace().map(str::to_lowercase).collect()
}
