//! The demo's answers in the forms that messages ask for: JSON, and calls of functions.

use serde_json::{Map, Value, json};

use super::calls::{self, Results};
use super::query::Question;
use super::{facts, meant, render};
use crate::upstream::sandbox::fill::{Facts, filled};
use crate::upstream::sandbox::part;
use crate::upstream::sandbox::wanted::{Demand, Json, Wanted, without};

/// The answer to a message that says what its answer shall look like.
pub fn answer(earlier: &[&str], message: &str, wanted: &Wanted) -> String {
    let asked = Asked::of(earlier, message);
    if let Some(function) = calls::chosen(wanted, &asked.question, &asked.results) {
        let mut facts = asked.facts(&function.parameters);
        calls::lend(&mut facts, &asked.question, &function.parameters);
        let arguments = part::arguments(&function.parameters, &facts);
        return part::calls(&[(&function.name, arguments)]).to_string();
    }
    match &wanted.json {
        Some(json) => asked.json(json).to_string(),
        None if wanted.demand == Demand::None => asked.text(),
        None => "There is no such function.".to_owned(),
    }
}

/// What results of functions say, where a message brings nothing else.
pub fn told(message: &str) -> Option<String> {
    let results = Results::of(message);
    (!results.is_empty()).then(|| results.told())
}

/// What is asked, and what functions have returned since.
struct Asked<'a> {
    question: String,
    meant: Question,
    results: Results,
    /// Where a caller may have put a schema into words of its own.
    said: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    fn of(earlier: &[&'a str], message: &'a str) -> Self {
        let message = without(message);
        let message = mended(message).unwrap_or(message);
        let results = Results::of(message);
        let mut said: Vec<&str> = earlier.iter().map(|message| without(message)).collect();
        said.push(message);
        // Results follow on a question, on this thread or in the transcript before them.
        let last = said
            .iter()
            .rposition(|message| Results::of(message).is_empty());
        let question = last.and_then(|last| said.get(last)).copied();
        let (question, meant) = if results.is_empty() {
            (message, meant(earlier, message))
        } else {
            let question = question.unwrap_or_else(|| calls::transcript(message));
            let before = last
                .and_then(|last| earlier.get(..last))
                .unwrap_or_default();
            (question, meant(before, question))
        };
        Self {
            question: calls::prompt(question).to_owned(),
            meant,
            results,
            said,
        }
    }

    fn text(&self) -> String {
        if !self.results.is_empty() {
            return self.results.told();
        }
        super::told(&self.meant)
    }

    /// What is known, for JSON of this schema: results outweigh figures.
    fn facts(&self, schema: &Value) -> Facts {
        let mut facts = match &self.meant {
            Question::Figures(query) => facts::facts(&facts::widened(query, schema), schema),
            Question::Data => facts::nothing(&render::contents()),
            Question::Help => facts::nothing(&render::help()),
        };
        let figures = std::mem::take(&mut facts.alone);
        facts.alone = self.results.row();
        facts.alone.extend(figures);
        facts
    }

    fn json(&self, json: &Json) -> Value {
        let schema = match json {
            Json::Schema(schema) => Some(schema.clone()),
            Json::Object => self.said.iter().rev().find_map(|text| schema_in(text)),
        };
        if let Some(schema) = schema {
            let value = filled(&schema, &self.facts(&schema));
            if *json != Json::Object || value.is_object() {
                return value;
            }
        }
        match &self.meant {
            _ if !self.results.is_empty() => {
                let row = self.results.row().into_iter();
                Value::Object(row.collect::<Map<_, _>>())
            }
            Question::Figures(query) => facts::plain(query),
            Question::Data | Question::Help => json!({"answer": self.text()}),
        }
    }
}

/// The question whose answer is to be mended.
fn mended(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("Mend this answer")?;
    let (_, rest) = rest.split_once("\n\nThe question was:\n\n")?;
    rest.rsplit_once("\n\nThe answer was:\n\n")
        .map(|(question, _)| question)
}

/// The last JSON Schema that stands in a text.
fn schema_in(text: &str) -> Option<Value> {
    let mut found = None;
    let mut at = 0;
    while let Some(offset) = text.get(at..).and_then(|rest| rest.find('{')) {
        at += offset;
        let rest = text.get(at..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                at += values.byte_offset().max(1);
                let is_schema = value.get("properties").is_some_and(Value::is_object);
                found = is_schema.then_some(value).or(found);
            }
            _ => at += 1,
        }
    }
    found
}
