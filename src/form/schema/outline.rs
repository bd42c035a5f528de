//! What a schema refers to, looked at before it is compiled: nothing outside itself, and nothing
//! that would have a value checked for ever.

use std::collections::HashMap;

use serde_json::Value;

/// The most schemas inside a schema.
const MOST: usize = 5_000;

/// The most checks that one place of a value can be put to.
const HEAVIEST: u64 = 20_000;

/// The most schemas that apply each other to one place of a value: each is a call on the stack.
const LONGEST_CHAIN: usize = 24;

/// The most checks that a whole value can be put to.
const MOST_CHECKS: u64 = 4_000_000;

/// The most values that are copied while it is found out what is wrong: each complaint within an
/// alternative (`anyOf`, `oneOf`) holds a copy of the value that it is about.
const MOST_COPIES: u64 = 250_000;

/// Bytes of text that weigh as much as a value.
const TEXT: usize = 64;

/// How deep a value may be, whatever its schema.
const DEEPEST: usize = 64;

/// What is wrong with a schema, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: String,
    pub what: &'static str,
}

/// The schemas inside a schema, and how they apply each other.
#[derive(Default)]
pub struct Outline {
    nodes: Vec<Node>,
    by_pointer: HashMap<String, usize>,
}

/// What can be said of a value in reasonable time and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Nothing,
    /// Whether it is valid.
    Verdict,
    /// What is wrong with it as well.
    Complaints,
}

#[derive(Default)]
struct Effort {
    checks: u64,
    copies: u64,
}

struct Node {
    at: String,
    is_alternative: bool,
    /// How many complaints it can raise of one value, apart from those of the schemas inside it.
    complaints: u64,
    /// Those that apply to the same place of a value.
    beside: Vec<usize>,
    /// Those that apply to properties, by name; and to any property.
    named: HashMap<String, usize>,
    properties: Vec<usize>,
    items: Vec<usize>,
    /// Another of those, by its pointer.
    reference: Option<String>,
}

/// Where a schema stands: as a JSON pointer, and as people write it.
#[derive(Default)]
struct Place {
    pointer: String,
    dotted: String,
}

impl Place {
    fn name(&self, name: &str) -> Self {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        let dot = if self.dotted.is_empty() { "" } else { "." };
        Self {
            pointer: format!("{}/{escaped}", self.pointer),
            dotted: format!("{}{dot}{name}", self.dotted),
        }
    }

    fn index(&self, index: usize) -> Self {
        Self {
            pointer: format!("{}/{index}", self.pointer),
            dotted: format!("{}[{index}]", self.dotted),
        }
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault {
            at: self.dotted.clone(),
            what,
        }
    }
}

/// What the value of a keyword is to the schema it stands in.
enum Keyword {
    /// Schemas for the same place of a value.
    Beside,
    /// Schemas by name for the same place of a value.
    BesideByName,
    Items,
    /// A schema for properties of any name.
    Properties,
    /// Schemas by the names of properties.
    Named,
    /// Schemas by patterns of names.
    Patterns,
    /// Schemas by name for no place.
    Kept,
    Reference,
    /// A reference that other documents can turn elsewhere, or the base of all others.
    Elsewhere,
    /// No schema.
    Other,
}

impl Keyword {
    fn of(name: &str) -> Self {
        match name {
            "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" => Self::Beside,
            "dependentSchemas" | "dependencies" => Self::BesideByName,
            "items" | "prefixItems" | "additionalItems" | "contains" | "unevaluatedItems" => {
                Self::Items
            }
            "additionalProperties"
            | "propertyNames"
            | "unevaluatedProperties"
            | "contentSchema" => Self::Properties,
            "properties" => Self::Named,
            "patternProperties" => Self::Patterns,
            "$defs" | "definitions" => Self::Kept,
            "$ref" => Self::Reference,
            "$dynamicRef" | "$recursiveRef" => Self::Elsewhere,
            _ => Self::Other,
        }
    }
}

impl Outline {
    /// Looks for what must not be in a schema.
    pub fn of(schema: &Value) -> Result<Self, Fault> {
        let mut outline = Self::default();
        outline.add(schema, "", &Place::default())?;
        outline.resolve()?;
        outline.weigh()?;
        Ok(outline)
    }

    /// What can be said of a value: where schemas apply each other from level to level, checks can
    /// double with each.
    pub fn reach(&self, value: &Value) -> Reach {
        let mut effort = Effort::default();
        if depth(value) > DEEPEST || self.count(0, value, false, &mut effort).is_none() {
            return Reach::Nothing;
        }
        match effort.copies {
            0..=MOST_COPIES => Reach::Complaints,
            _ => Reach::Verdict,
        }
    }

    /// Counts the checks of a value, as long as they are not too many. `inside` an alternative, what is
    /// wrong is copied.
    fn count(&self, index: usize, value: &Value, inside: bool, effort: &mut Effort) -> Option<()> {
        let node = self.nodes.get(index)?;
        effort.checks += 1;
        if effort.checks > MOST_CHECKS {
            return None;
        }
        let inside = inside || node.is_alternative;
        if inside && node.complaints > 0 && effort.copies <= MOST_COPIES {
            effort.copies += node.complaints * size(value);
        }
        for &other in &node.beside {
            self.count(other, value, inside, effort)?;
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    for &other in node.named.get(name).iter().copied().chain(&node.properties) {
                        self.count(other, value, inside, effort)?;
                    }
                }
            }
            Value::Array(values) => {
                for value in values {
                    for &other in &node.items {
                        self.count(other, value, inside, effort)?;
                    }
                }
            }
            _ => {}
        }
        Some(())
    }

    fn add(&mut self, schema: &Value, keyword: &str, place: &Place) -> Result<usize, Fault> {
        let index = self.nodes.len();
        if index == MOST {
            return Err(place.fault("is too large: there are too many schemas in it"));
        }
        self.nodes.push(Node {
            at: place.dotted.clone(),
            is_alternative: matches!(keyword, "anyOf" | "oneOf"),
            complaints: complaints(schema),
            beside: Vec::new(),
            named: HashMap::new(),
            properties: Vec::new(),
            items: Vec::new(),
            reference: None,
        });
        self.by_pointer.insert(place.pointer.clone(), index);
        let Value::Object(map) = schema else {
            return Ok(index);
        };
        let is_root = keyword.is_empty();
        for (name, value) in map {
            let place = place.name(name);
            if !is_root && matches!(name.as_str(), "$id" | "id") && value.is_string() {
                return Err(place.fault("is not supported inside a schema"));
            }
            self.add_keyword(index, name, value, &place)?;
        }
        Ok(index)
    }

    fn add_keyword(
        &mut self,
        node: usize,
        name: &str,
        value: &Value,
        place: &Place,
    ) -> Result<(), Fault> {
        match Keyword::of(name) {
            Keyword::Other => {}
            Keyword::Elsewhere => {
                return Err(place.fault("is not supported; $ref is, to a place in the schema"));
            }
            Keyword::Reference => {
                let target = value.as_str().and_then(pointer);
                let what = "must be a place in the same schema, like #/$defs/name";
                let target = target.ok_or_else(|| place.fault(what))?;
                self.node(node).reference = Some(target);
            }
            Keyword::Beside => {
                let added = self.add_all(value, name, place)?;
                self.node(node).beside.extend(added);
            }
            Keyword::BesideByName => {
                let added = self.add_named(value, name, place)?;
                let added = added.into_iter().map(|(_, added)| added);
                self.node(node).beside.extend(added);
            }
            Keyword::Items => {
                let added = self.add_all(value, name, place)?;
                self.node(node).items.extend(added);
            }
            Keyword::Properties => {
                let added = self.add_all(value, name, place)?;
                self.node(node).properties.extend(added);
            }
            Keyword::Named => {
                let added = self.add_named(value, name, place)?;
                self.node(node).named.extend(added);
            }
            Keyword::Patterns => {
                let added = self.add_named(value, name, place)?;
                let added = added.into_iter().map(|(_, added)| added);
                self.node(node).properties.extend(added);
            }
            Keyword::Kept => {
                self.add_named(value, name, place)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, index: usize) -> &mut Node {
        self.nodes
            .get_mut(index)
            .expect("a node is added before what is inside it")
    }

    /// One schema, or an array of them.
    fn add_all(&mut self, value: &Value, name: &str, at: &Place) -> Result<Vec<usize>, Fault> {
        match value {
            Value::Array(schemas) => schemas
                .iter()
                .enumerate()
                .map(|(index, schema)| self.add(schema, name, &at.index(index)))
                .collect(),
            schema => Ok(vec![self.add(schema, name, at)?]),
        }
    }

    fn add_named(
        &mut self,
        value: &Value,
        name: &str,
        at: &Place,
    ) -> Result<Vec<(String, usize)>, Fault> {
        let Value::Object(schemas) = value else {
            return Ok(Vec::new());
        };
        schemas
            .iter()
            .map(|(key, schema)| Ok((key.clone(), self.add(schema, name, &at.name(key))?)))
            .collect()
    }

    fn resolve(&mut self) -> Result<(), Fault> {
        for node in &mut self.nodes {
            let Some(pointer) = &node.reference else {
                continue;
            };
            let Some(&target) = self.by_pointer.get(pointer) else {
                return Err(Fault {
                    at: joined(&node.at, "$ref"),
                    what: "names no schema: there is none at that place",
                });
            };
            node.beside.push(target);
        }
        Ok(())
    }

    /// How many checks one place of a value is put to by each schema.
    fn weigh(&self) -> Result<(), Fault> {
        let mut weights = vec![Weight::Unknown; self.nodes.len()];
        for index in 0..self.nodes.len() {
            self.weight(index, 0, &mut weights)?;
        }
        Ok(())
    }

    /// The checks that a schema comes to, and the longest chain of schemas that it begins.
    fn weight(
        &self,
        index: usize,
        above: usize,
        weights: &mut [Weight],
    ) -> Result<(u64, usize), Fault> {
        let (Some(node), Some(weight)) = (self.nodes.get(index), weights.get_mut(index)) else {
            return Ok((0, 0));
        };
        let fault = |what| {
            Err(Fault {
                at: node.at.clone(),
                what,
            })
        };
        match *weight {
            Weight::Known(checks, chain) if above + chain <= LONGEST_CHAIN => {
                return Ok((checks, chain));
            }
            Weight::Unknown if above < LONGEST_CHAIN => *weight = Weight::Asked,
            Weight::Asked => return fault("refers to itself without end"),
            Weight::Known(..) | Weight::Unknown => {
                return fault("is the end of too long a chain of schemas");
            }
        }
        let (mut checks, mut chain) = (1_u64, 0);
        for &other in &node.beside {
            let other = self.weight(other, above + 1, weights)?;
            checks = checks.saturating_add(other.0);
            chain = chain.max(other.1);
            if checks > HEAVIEST {
                return fault("refers to too many schemas, over and over");
            }
        }
        chain += 1;
        if let Some(weight) = weights.get_mut(index) {
            *weight = Weight::Known(checks, chain);
        }
        Ok((checks, chain))
    }
}

#[derive(Clone, Copy)]
enum Weight {
    Unknown,
    /// It is being found out: whoever asks again goes in a circle.
    Asked,
    Known(u64, usize),
}

/// How many complaints a schema can raise of one value itself.
fn complaints(schema: &Value) -> u64 {
    let Value::Object(map) = schema else {
        return 1;
    };
    let required = map.get("required").and_then(Value::as_array);
    (map.len() + required.map_or(0, Vec::len)) as u64
}

/// How many values there are in one, itself among them.
fn size(value: &Value) -> u64 {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| weight(name) + size(value))
            .sum::<u64>(),
        Value::Array(values) => values.iter().map(size).sum(),
        Value::String(text) => weight(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
    .saturating_add(1)
}

fn weight(text: &str) -> u64 {
    (text.len() / TEXT) as u64
}

fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(values) => values.iter().map(depth).max(),
        Value::Object(map) => map.values().map(depth).max(),
        _ => None,
    };
    1 + inner.unwrap_or(0)
}

fn joined(outer: &str, inner: &str) -> String {
    if outer.is_empty() {
        inner.to_owned()
    } else {
        format!("{outer}.{inner}")
    }
}

/// The JSON pointer of a reference into the same document.
fn pointer(reference: &str) -> Option<String> {
    let pointer = decoded(reference.strip_prefix('#')?)?;
    (pointer.is_empty() || pointer.starts_with('/')).then_some(pointer)
}

/// A reference is part of a URL: `%5B` is a bracket.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(16 * high + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}
