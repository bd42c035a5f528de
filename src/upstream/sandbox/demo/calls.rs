//! Which function the demo calls, with what, and what it makes of what functions return.

use serde_json::Value;

use crate::upstream::sandbox::fill::{Facts, Row, words};
use crate::upstream::sandbox::wanted::{Demand, Function, Wanted};

/// What functions have returned, as the prompt tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results(Vec<(String, String)>);

const RESULT: &str = "Result of ";

impl Results {
    /// Those that the prompt of a message holds.
    pub fn of(message: &str) -> Self {
        let mut results: Vec<(String, String)> = Vec::new();
        for line in prompt(message).lines() {
            let told = line
                .strip_prefix(RESULT)
                .and_then(|told| told.split_once(':'));
            if let Some((name, text)) = told {
                results.push((name.to_owned(), text.trim().to_owned()));
            } else if let Some((_, text)) = results.last_mut() {
                text.push('\n');
                text.push_str(line);
            }
        }
        Self(results)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn holds(&self, function: &Function) -> bool {
        self.0.iter().any(|(name, _)| *name == function.name)
    }

    /// In words.
    pub fn told(&self) -> String {
        let told = self.0.iter();
        let told: Vec<String> = told
            .map(|(name, text)| format!("{name} says: {}", text.trim()))
            .collect();
        told.join("\n\n")
    }

    /// By name: an object's own names, else the function's.
    pub fn row(&self) -> Row {
        let mut row = Row::new();
        for (name, text) in &self.0 {
            match serde_json::from_str(text) {
                Ok(Value::Object(map)) => row.extend(map),
                Ok(value) => row.push((name.clone(), value)),
                Err(_) => row.push((name.clone(), Value::from(text.trim()))),
            }
        }
        row
    }
}

/// The function to call, if one is demanded, or fits the question clearly and has not been called.
pub fn chosen<'a>(wanted: &'a Wanted, question: &str, results: &Results) -> Option<&'a Function> {
    let asked = words(question);
    let functions = || wanted.functions.iter();
    let open = || functions().filter(|function| !results.holds(function));
    match &wanted.demand {
        Demand::This(name) => functions().find(|function| function.name == *name),
        Demand::Any => {
            let score = |function: &&Function| {
                let about = words(&format!("{} {}", function.name, function.description));
                asked
                    .iter()
                    .filter(|word| is_telling(word) && about.contains(word))
                    .count()
            };
            // Of equals, the first.
            open()
                .rev()
                .max_by_key(score)
                .or_else(|| functions().next())
        }
        Demand::None => open().find(|function| {
            let name = words(&function.name);
            let mut telling = name.iter().filter(|word| is_telling(word)).peekable();
            telling.peek().is_some() && telling.all(|word| asked.contains(word))
        }),
    }
}

/// Words that say nothing of what a function is about.
fn is_telling(word: &str) -> bool {
    const EMPTY: &[&str] = &[
        "get", "fetch", "find", "look", "lookup", "up", "list", "search", "query", "show", "the",
        "current", "tool", "function", "of", "for", "by", "in", "a", "an", "is", "what", "and",
        "to", "run", "call", "return", "it", "please",
    ];
    !EMPTY.contains(&word)
}

/// What a question itself says, for parameters that nothing else is known for.
pub fn lend(facts: &mut Facts, question: &str, parameters: &Value) {
    const WHOLE: &[&str] = &[
        "query", "question", "prompt", "input", "request", "q", "text",
    ];
    let properties = parameters.get("properties").and_then(Value::as_object);
    let mut numbers = numbers(question).into_iter();
    let name = named(question);
    let mut row = Row::new();
    for (property, schema) in properties.into_iter().flatten() {
        let said = match schema.get("type").and_then(Value::as_str) {
            Some("integer" | "number") => numbers.next(),
            Some("string") if WHOLE.contains(&property.as_str()) => Some(question.into()),
            Some("string") => option(schema, question).or_else(|| name.clone().map(Value::from)),
            _ => None,
        };
        row.extend(said.map(|value| (property.clone(), value)));
    }
    // What the question says outweighs what the data says of another.
    row.append(&mut facts.alone);
    facts.alone = row;
}

/// The option of an enum that a question names.
fn option(schema: &Value, question: &str) -> Option<Value> {
    let options = schema.get("enum")?.as_array()?;
    let asked = words(question);
    let is_named = |option: &&Value| {
        let option = option.as_str().map(words).unwrap_or_default();
        !option.is_empty() && option.iter().all(|word| asked.contains(word))
    };
    options.iter().find(is_named).cloned()
}

/// The first words in a question that are written as a name.
fn named(question: &str) -> Option<String> {
    let mut name: Vec<&str> = Vec::new();
    for word in question.split_whitespace().skip(1) {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if bare.chars().next().is_some_and(char::is_uppercase) {
            name.push(bare);
        }
        let ends = !name.is_empty() && (name.last() != Some(&bare) || !word.ends_with(bare));
        if ends {
            break;
        }
    }
    (!name.is_empty()).then(|| name.join(" "))
}

fn numbers(question: &str) -> Vec<Value> {
    let numbers = question.split(|c: char| !c.is_ascii_digit() && c != '.');
    let numbers = numbers.filter_map(|text| text.trim_matches('.').parse::<f64>().ok());
    numbers.map(Value::from).collect()
}

/// The last part of a message, behind instructions and transcript.
pub fn prompt(message: &str) -> &str {
    message.rsplit("\n---\n").next().unwrap_or(message).trim()
}

/// The last thing that a user said in the transcript of a message.
pub fn transcript(message: &str) -> &str {
    let mut said = message.rsplit("\nUser: ");
    let last = said.next().unwrap_or_default();
    last.split("\n\n").next().unwrap_or_default()
}
