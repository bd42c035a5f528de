//! Every key with its value and where that came from: each layer is laid over the one before.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Value;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::environment::variable;
use super::values::{on_one_line, quoted};
use super::{Config, Error};

const DEFAULTS: &str = include_str!("../../config.example.toml");

/// All keys, in the order of the example file.
#[derive(Clone, Debug)]
pub struct Layers(Vec<Setting>);

/// One key of the file, as `section.key`.
#[derive(Clone, Debug)]
pub struct Setting {
    pub key: String,
    pub value: Value,
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// The platform's own place for such things.
    Platform,
    File(PathBuf, usize),
    Variable(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::Platform => f.write_str("the platform"),
            Self::File(path, line) => {
                write!(
                    f,
                    "{}, line {line}",
                    path.display().to_string().escape_debug()
                )
            }
            Self::Variable(name) => write!(f, "{}", name.escape_debug()),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

impl Layers {
    pub fn defaults() -> Self {
        let entries = entries(DEFAULTS).expect("config.example.toml is TOML");
        Self(
            entries
                .into_iter()
                .map(|entry| Setting {
                    key: entry.key,
                    value: entry.value,
                    origin: Origin::Default,
                })
                .collect(),
        )
    }

    pub fn settings(&self) -> &[Setting] {
        &self.0
    }

    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.0
            .iter()
            .find(|setting| setting.key == key)
            .map(|setting| &setting.origin)
    }

    /// Lays a file over what is there.
    pub fn lay_file(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let entries = entries(text).map_err(|fault| {
            let origin = Origin::File(path.to_owned(), fault.line);
            Error(format!("{origin}: {}", fault.what))
        })?;
        for entry in entries {
            let origin = Origin::File(path.to_owned(), entry.line);
            let setting = self.setting(&entry.key, &origin)?;
            if let Some(expected) = mismatch(&setting.value, &entry.value) {
                return Err(told(&entry.key, &expected, &origin));
            }
            setting.value = entry.value;
            setting.origin = origin;
        }
        Ok(())
    }

    /// Lays one value over what is there, written as text, as variables and flags are.
    pub fn lay_text(&mut self, key: &str, text: &str, origin: Origin) -> Result<(), Error> {
        let setting = self.setting(key, &origin)?;
        let value = value_of(&setting.value, text).map_err(|what| told(key, &what, &origin))?;
        if let (Origin::Variable(one), Origin::Variable(other)) = (&setting.origin, &origin)
            && setting.value != value
        {
            let what = format!("set by {one} and by {other}, which differ; keep one of them");
            return Err(Error(format!("{key}: {what}")));
        }
        setting.value = value;
        setting.origin = origin;
        Ok(())
    }

    /// The settings as the program uses them.
    pub fn config(&self) -> Result<Config, Error> {
        let mut sections = toml::Table::new();
        for setting in &self.0 {
            if let Some((section, key)) = setting.key.split_once('.')
                && let Value::Table(section) = sections
                    .entry(section)
                    .or_insert_with(|| Value::Table(toml::Table::new()))
            {
                section.insert(key.to_owned(), setting.value.clone());
            }
        }
        serde_path_to_error::deserialize(sections).map_err(|error| {
            let path = error.path().to_string();
            let key: Vec<&str> = path.split(['.', '[']).take(2).collect();
            let what = error
                .inner()
                .message()
                .replace("unknown variant", "unknown value");
            self.error(&key.join("."), &on_one_line(&what))
        })
    }

    /// An error about a key's value, with its source.
    pub fn error(&self, key: &str, what: &str) -> Error {
        told(key, what, self.origin(key).unwrap_or(&Origin::Default))
    }

    fn setting(&mut self, key: &str, origin: &Origin) -> Result<&mut Setting, Error> {
        match self.0.iter().position(|setting| setting.key == key) {
            Some(at) => Ok(self.0.get_mut(at).expect("the position was just found")),
            None => Err(self.unknown(key, origin)),
        }
    }

    fn unknown(&self, key: &str, origin: &Origin) -> Error {
        if self.0.iter().any(|setting| section(&setting.key) == key) {
            return told(key, &format!("is a section, write [{key}]"), origin);
        }
        let near = nearest(key, self.0.iter().map(|setting| setting.key.as_str()));
        let shown = key.escape_debug();
        match (near, origin) {
            (Some(near), Origin::Variable(_)) => {
                let near = variable(near);
                Error(format!(
                    "{origin}: there is no such setting; did you mean {near}?"
                ))
            }
            (None, Origin::Variable(_)) => Error(format!(
                "{origin}: there is no such setting; `config print` lists them all"
            )),
            (Some(near), _) => told(
                &shown.to_string(),
                &format!("there is no such key; did you mean {near}?"),
                origin,
            ),
            (None, _) => told(
                &shown.to_string(),
                "there is no such key; `config print` lists them all",
                origin,
            ),
        }
    }
}

fn section(key: &str) -> &str {
    key.split_once('.').map_or(key, |(section, _)| section)
}

fn told(key: &str, what: &str, origin: &Origin) -> Error {
    Error(format!("{key}: {what} (from {origin})"))
}

/// One key as a file has it.
struct Entry {
    key: String,
    value: Value,
    line: usize,
}

/// Why a file is not TOML. The text of the line is left out: it may hold a key.
#[derive(Debug)]
struct Fault {
    what: String,
    line: usize,
}

/// The keys of a file, in its order.
fn entries(text: &str) -> Result<Vec<Entry>, Fault> {
    let lines_in = |text: Option<&str>| text.map_or(0, |text| text.matches('\n').count());
    let fault = |error: toml::de::Error| Fault {
        what: error.message().escape_debug().to_string(),
        line: error
            .span()
            .map_or(1, |span| lines_in(text.get(..span.start)) + 1),
    };
    let mut found = Vec::new();
    for (name, value) in DeTable::parse(text).map_err(fault)?.into_inner() {
        let at = name.span().start;
        let name = name.into_inner();
        match value.get_ref() {
            DeValue::Table(section) => {
                for (key, value) in section {
                    found.push((
                        key.span().start,
                        format!("{name}.{}", key.get_ref()),
                        value.clone(),
                    ));
                }
            }
            _ => found.push((at, name.into_owned(), value)),
        }
    }
    found.sort_by_key(|(at, ..)| *at);
    let (mut counted, mut line) = (0, 1);
    found
        .into_iter()
        .map(|(at, key, value)| {
            let value = Value::deserialize(ValueDeserializer::from(value)).map_err(fault)?;
            line += lines_in(text.get(counted..at));
            counted = at;
            Ok(Entry { key, value, line })
        })
        .collect()
}

/// What is expected in place of a value of another kind than the default's.
fn mismatch(default: &Value, value: &Value) -> Option<String> {
    let expected = match (default, value) {
        (Value::Integer(_), Value::Integer(number)) if *number < 0 => "must not be negative",
        (Value::String(_), Value::String(_))
        | (Value::Integer(_), Value::Integer(_))
        | (Value::Boolean(_), Value::Boolean(_)) => return None,
        (Value::Array(_), Value::Array(items)) if items.iter().all(Value::is_str) => return None,
        (Value::String(_), _) => "expected text in quotes",
        (Value::Integer(_), _) => "expected a whole number",
        (Value::Boolean(_), _) => "expected true or false",
        _ => "expected a list of texts, such as [\"one\", \"two\"]",
    };
    let example = match default {
        Value::String(text) if !text.is_empty() => format!(", such as {default}"),
        Value::Integer(_) => format!(", such as {default}"),
        _ => String::new(),
    };
    Some(format!("{expected}{example}"))
}

/// Text as a value of the default's kind.
fn value_of(default: &Value, text: &str) -> Result<Value, String> {
    match default {
        Value::Integer(_) => match text.trim().parse::<u32>() {
            Ok(number) => Ok(Value::Integer(number.into())),
            Err(_) => Err(format!(
                "{} is not a whole number, write it like {default}",
                quoted(text)
            )),
        },
        Value::Boolean(_) => match text.trim() {
            "true" | "1" => Ok(Value::Boolean(true)),
            "false" | "0" => Ok(Value::Boolean(false)),
            _ => Err(format!("{} is neither true nor false", quoted(text))),
        },
        Value::Array(_) => list(text),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// A list with commas, or as TOML writes it.
fn list(text: &str) -> Result<Value, String> {
    let text = text.trim();
    let items: Vec<String> = if text.starts_with('[') {
        ValueDeserializer::parse(text)
            .and_then(Deserialize::deserialize)
            .map_err(|_| "is not a list; write it like one,two or [\"one\", \"two\"]")?
    } else {
        let items = text.split(',').map(str::trim);
        items
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    };
    Ok(Value::Array(items.into_iter().map(Value::String).collect()))
}

/// The known key that somebody most likely meant: one close in spelling, or the same key of some section.
fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // No key is half as long, and the work grows with the length.
    const LONGEST: usize = 100;
    if key.len() > LONGEST {
        return None;
    }
    let last = key.rsplit('.').next().unwrap_or(key);
    let (distance, near) = known
        .map(|candidate| {
            let name = candidate.rsplit('.').next().unwrap_or(candidate);
            // A key in the wrong section is a likelier slip than two wrong letters.
            let misplaced = distance(last, name) + 1;
            (distance(key, candidate).min(misplaced), candidate)
        })
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 3 && distance < last.len()).then_some(near)
}

/// How many letters must be added, removed or replaced to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (down, letter) in one.chars().enumerate() {
        let mut next = vec![down + 1];
        for ((above, left_above), wanted) in row.iter().skip(1).zip(&row).zip(other.chars()) {
            let replaced = left_above + usize::from(letter != wanted);
            let left = next.last().copied().unwrap_or(usize::MAX - 1);
            next.push(replaced.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        for (one, other, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("interval", "intervall", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), expected);
            assert_eq!(distance(other, one), expected);
        }
    }

    #[test]
    fn the_nearest_key_is_found_in_its_section() {
        let known = ["server.listen", "pace.interval", "run.limit"];
        for (key, expected) in [
            ("pace.intervall", Some("pace.interval")),
            ("server.interval", Some("pace.interval")),
            ("listen", Some("server.listen")),
            ("pace.colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(key, known.into_iter()), expected, "{key}");
        }
    }
}
