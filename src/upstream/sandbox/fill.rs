//! JSON made to fit a schema: from what is known where that fits, and from the plainest value else.

use std::cell::Cell;

use serde_json::{Map, Number, Value};

/// Names and what is known by them.
pub type Row = Vec<(String, Value)>;

/// What JSON is filled with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// For arrays, one entry each.
    pub rows: Vec<Row>,
    /// For what stands alone.
    pub alone: Row,
}

/// Schemas may go in circles; beyond this, only what must be there is.
const DEEPEST: usize = 6;
const ABSOLUTELY_DEEPEST: usize = 24;
/// A schema can ask for more than anybody has room for.
const MOST_VALUES: usize = 20_000;
const MOST_ROWS: usize = 100;

/// A value that is valid under the schema, as far as the schema is a plain one.
pub fn filled(schema: &Value, facts: &Facts) -> Value {
    let filler = Filler {
        root: schema,
        facts,
        left: Cell::new(MOST_VALUES),
    };
    filler.fill(schema, "", &facts.alone, 0)
}

struct Filler<'a> {
    root: &'a Value,
    facts: &'a Facts,
    /// How many values more there can be.
    left: Cell<usize>,
}

impl Filler<'_> {
    fn fill(&self, schema: &Value, name: &str, row: &Row, depth: usize) -> Value {
        let left = self.left.get();
        if depth > ABSOLUTELY_DEEPEST || left == 0 {
            return Value::Null;
        }
        self.left.set(left - 1);
        let schema = self.resolved(schema);
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(Value::Array(options)) = schema.get("enum") {
            return chosen(options, known(row, name).as_ref());
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(Value::Array(options)) = schema.get(keyword) {
                return self.either(options, name, row, depth);
            }
        }
        if let Some(Value::Array(parts)) = schema.get("allOf") {
            let mut all = self.object(schema, row, depth);
            for part in parts {
                match self.fill(part, name, row, depth + 1) {
                    Value::Object(part) => all.extend(part),
                    value if all.is_empty() => return value,
                    _ => {}
                }
            }
            return Value::Object(all);
        }
        match kind(schema) {
            "object" => Value::Object(self.object(schema, row, depth)),
            "array" => Value::Array(self.array(schema, name, row, depth)),
            kind => scalar(schema, kind, known(row, name).as_ref()),
        }
    }

    fn object(&self, schema: &Value, row: &Row, depth: usize) -> Map<String, Value> {
        let required = schema.get("required").and_then(Value::as_array);
        let is_required =
            |name: &String| required.is_some_and(|names| names.iter().any(|n| n == name));
        let properties = schema.get("properties").and_then(Value::as_object);
        let properties = properties.into_iter().flatten();
        properties
            .filter(|(name, _)| is_required(name) || depth < DEEPEST)
            .map(|(name, schema)| (name.clone(), self.fill(schema, name, row, depth + 1)))
            .collect()
    }

    fn array(&self, schema: &Value, name: &str, row: &Row, depth: usize) -> Vec<Value> {
        let any = Value::Bool(true);
        let items = self.resolved(schema.get("items").unwrap_or(&any));
        let bound = |name: &str| {
            let bound = schema.get(name).and_then(Value::as_u64);
            bound.and_then(|bound| usize::try_from(bound).ok())
        };
        let (least, most) = (bound("minItems"), bound("maxItems"));
        let most = most.unwrap_or(MOST_ROWS).min(MOST_ROWS);
        let mut values: Vec<Value> = if depth >= DEEPEST {
            Vec::new()
        } else if let Some(Value::Array(values)) = known(row, name) {
            let each = values
                .iter()
                .map(|value| vec![(name.to_owned(), value.clone())]);
            let rows: Vec<Row> = each.collect();
            let filled = rows
                .iter()
                .map(|row| self.fill(items, name, row, depth + 1));
            filled.collect()
        } else {
            let rows = self.facts.rows.iter();
            let fits = |row: &&Row| kind(items) == "object" || known(row, name).is_some();
            rows.filter(fits)
                .map(|row| self.fill(items, name, row, depth + 1))
                .collect()
        };
        values.truncate(most);
        let least = least.unwrap_or(0).min(MOST_ROWS);
        while values.len() < least {
            values.push(self.fill(items, name, &Row::new(), depth + 1));
        }
        values
    }

    /// The option that takes what is known; else null, where that is one; else the first.
    fn either(&self, options: &[Value], name: &str, row: &Row, depth: usize) -> Value {
        let known = known(row, name);
        let fits = |option: &&Value| {
            let option = self.resolved(option);
            match kind(option) {
                "object" => true,
                "array" => !self.facts.rows.is_empty(),
                "null" => false,
                kind => known
                    .as_ref()
                    .is_some_and(|known| cast(known, kind).is_some()),
            }
        };
        let is_null = |option: &&Value| kind(self.resolved(option)) == "null";
        let option = options
            .iter()
            .find(fits)
            .or_else(|| options.iter().find(is_null))
            .or(options.first());
        option.map_or(Value::Null, |option| {
            self.fill(option, name, row, depth + 1)
        })
    }

    /// What a reference names.
    fn resolved<'b>(&'b self, schema: &'b Value) -> &'b Value {
        let mut schema = schema;
        for _ in 0..DEEPEST {
            let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
                break;
            };
            let pointer = reference.trim_start_matches('#');
            match self.root.pointer(pointer) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }
}

/// The type that a schema means. Of several, null is the last.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            let kinds = kinds.iter().filter_map(Value::as_str);
            kinds.min_by_key(|kind| *kind == "null").unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "",
    }
}

fn allows_null(schema: &Value) -> bool {
    let kinds = schema.get("type").and_then(Value::as_array);
    kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "null"))
}

fn scalar(schema: &Value, kind: &str, known: Option<&Value>) -> Value {
    if let Some(value) = known.and_then(|known| cast(known, kind)) {
        return dated(schema, value);
    }
    if allows_null(schema) {
        return Value::Null;
    }
    match kind {
        "string" => Value::from(plain_text(schema)),
        "integer" | "number" => plain_number(schema, kind),
        "boolean" => Value::Bool(false),
        _ => known.cloned().unwrap_or(Value::Null),
    }
}

/// What is known, as a value of this type.
fn cast(known: &Value, kind: &str) -> Option<Value> {
    let number = || match known {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match kind {
        "" => Some(known.clone()),
        "string" => match known {
            Value::String(text) => Some(Value::from(text.as_str())),
            Value::Number(number) => Some(Value::from(number.to_string())),
            _ => None,
        },
        "integer" => number().map(|number| whole(number.round())),
        "number" => number().map(|number| {
            if number.fract() == 0.0 {
                whole(number)
            } else {
                Value::from(number)
            }
        }),
        "boolean" => known.as_bool().map(Value::Bool),
        _ => None,
    }
}

/// Numbers here stay far below 2^53.
#[expect(clippy::cast_possible_truncation, reason = "figures are small")]
fn whole(number: f64) -> Value {
    Value::from(number as i64)
}

/// Months and years as the dates that they begin on, where dates are wanted.
fn dated(schema: &Value, value: Value) -> Value {
    let format = schema.get("format").and_then(Value::as_str);
    let (Some(format), Some(text)) = (format, value.as_str()) else {
        return value;
    };
    let date = match text.len() {
        4 => format!("{text}-01-01"),
        7 => format!("{text}-01"),
        _ => text.to_owned(),
    };
    match format {
        "date" => Value::from(date),
        "date-time" => Value::from(format!("{date}T00:00:00Z")),
        _ => value,
    }
}

/// The option that says what is known, else the first.
fn chosen(options: &[Value], known: Option<&Value>) -> Value {
    let same = |option: &&Value| match (option.as_str(), known.and_then(Value::as_str)) {
        (Some(option), Some(known)) => alike(option, known),
        _ => Some(*option) == known,
    };
    let option = options.iter().find(same).or(options.first());
    option.cloned().unwrap_or(Value::Null)
}

fn alike(a: &str, b: &str) -> bool {
    let letters = |text: &str| -> String {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    letters(a) == letters(b)
}

fn plain_text(schema: &Value) -> String {
    let format = schema.get("format").and_then(Value::as_str);
    let text = match format {
        Some("date") => "2025-01-01",
        Some("date-time") => "2025-01-01T00:00:00Z",
        Some("time") => "00:00:00Z",
        Some("duration") => "P1D",
        Some("email") => "nobody@sandbox.example",
        Some("hostname") => "sandbox.example",
        Some("uri") => "https://sandbox.example/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        _ => "unknown",
    };
    let bound = |name: &str| {
        let bound = schema.get(name).and_then(Value::as_u64);
        bound.and_then(|bound| usize::try_from(bound).ok())
    };
    let least = bound("minLength").unwrap_or(0).min(10_000);
    let mut text: String = text
        .chars()
        .take(bound("maxLength").unwrap_or(usize::MAX))
        .collect();
    while text.chars().count() < least {
        text.push('.');
    }
    text
}

fn plain_number(schema: &Value, kind: &str) -> Value {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let step = bound("multipleOf").unwrap_or(1.0);
    let mut number = 0.0_f64;
    if let Some(least) = bound("minimum") {
        number = number.max(least);
    }
    if let Some(least) = bound("exclusiveMinimum").filter(|least| number <= *least) {
        number = least + step;
    }
    if let Some(most) = bound("maximum") {
        number = number.min(most);
    }
    if let Some(most) = bound("exclusiveMaximum").filter(|most| number >= *most) {
        number = most - step;
    }
    if kind == "integer" || number.fract() == 0.0 {
        return whole(number.ceil());
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// What is known by a name: by the name itself, else by one of its words.
pub fn known(row: &Row, name: &str) -> Option<Value> {
    let exact = row.iter().find(|(known, _)| alike(known, name));
    let found = exact.or_else(|| {
        let words = words(name);
        let is_word = |known: &str| {
            let known = self::words(known);
            !known.is_empty() && known.iter().all(|word| words.contains(word))
        };
        row.iter().find(|(known, _)| is_word(known))
    });
    found.map(|(_, value)| value.clone())
}

/// The words of a name, in lower case and without a plural's s: `totalSales`, `total_sales`.
pub fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in name.chars() {
        if !letter.is_alphanumeric() || (was_lower && letter.is_uppercase()) {
            words.push(String::new());
        }
        was_lower = letter.is_lowercase() || letter.is_numeric();
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
    }
    for word in &mut words {
        if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") {
            word.pop();
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_filled_fits() {
        let schema = json!({
            "$defs": {
                "row": {"type": "object", "properties": {
                    "region": {"enum": ["north", "south"]},
                    "total_revenue": {"type": "integer", "minimum": 1},
                    "month": {"type": "string", "format": "date"},
                    "note": {"type": ["string", "null"]},
                    "inner": {"$ref": "#/$defs/row"},
                }, "required": ["region"]},
                "tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}},
            },
            "type": "object",
            "properties": {
                "rows": {"type": "array", "items": {"$ref": "#/$defs/row"}, "maxItems": 2},
                "regions": {"type": "array", "items": {"type": "string"}},
                "tree": {"$ref": "#/$defs/tree"},
                "price": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]},
                "count": {"type": "integer", "exclusiveMinimum": 0},
                "version": {"const": 3},
                "email": {"type": "string", "format": "email"},
                "flag": {"type": "boolean"},
                "pair": {"type": "array", "items": {"type": "number"}, "minItems": 2},
            },
            "required": ["rows", "count", "version"],
            "additionalProperties": false,
        });
        let row = |region: &str, revenue: i64| {
            vec![
                ("region".to_owned(), json!(region)),
                ("revenue".to_owned(), json!(revenue)),
                ("month".to_owned(), json!("2025-03")),
            ]
        };
        let facts = Facts {
            rows: vec![row("South", 5), row("North", 3), row("North", 1)],
            alone: Row::new(),
        };
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap();

        let value = filled(&schema, &facts);
        let plain = filled(&schema, &Facts::default());

        assert!(validator.is_valid(&value), "{value:#}");
        assert!(validator.is_valid(&plain), "{plain:#}");
        assert_eq!(value["rows"][0]["region"], "south");
        assert_eq!(value["rows"][0]["total_revenue"], 5);
        assert_eq!(value["rows"][1]["month"], "2025-03-01");
        assert_eq!(value["regions"], json!(["South", "North", "North"]));
        assert_eq!(value["price"], Value::Null);
    }

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(words("totalSales_2025"), ["total", "sale", "2025"]);
        assert_eq!(words("get_weather"), ["get", "weather"]);
        assert_eq!(words(""), Vec::<String>::new());
    }
}
