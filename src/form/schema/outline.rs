//! What a schema refers to, looked at before it is compiled: nothing outside itself, and nothing
//! that would have a value checked for ever.

use std::collections::HashMap;

use serde_json::Value;

/// The most schemas inside a schema.
const MOST: usize = 5_000;

/// The most checks that one place of a value can be put to.
const HEAVIEST: u64 = 20_000;

/// What is wrong with a schema, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: String,
    pub what: &'static str,
}

/// Looks for what must not be in a schema.
pub fn check(schema: &Value) -> Result<(), Fault> {
    let mut outline = Outline::default();
    outline.add(schema, "", &Place::default())?;
    outline.resolve()?;
    outline.weigh()
}

/// The schemas inside a schema, and how they apply each other.
#[derive(Default)]
struct Outline {
    nodes: Vec<Node>,
    by_pointer: HashMap<String, usize>,
}

struct Node {
    at: String,
    /// Those that apply to the same place of a value.
    beside: Vec<usize>,
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
    /// Schemas for what is inside the value.
    Below,
    /// Schemas by name for what is inside the value, or for no place.
    BelowByName,
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
            "items"
            | "prefixItems"
            | "additionalItems"
            | "contains"
            | "additionalProperties"
            | "propertyNames"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "contentSchema" => Self::Below,
            "properties" | "patternProperties" | "$defs" | "definitions" => Self::BelowByName,
            "$ref" => Self::Reference,
            "$dynamicRef" | "$recursiveRef" => Self::Elsewhere,
            _ => Self::Other,
        }
    }
}

impl Outline {
    fn add(&mut self, schema: &Value, keyword: &str, place: &Place) -> Result<usize, Fault> {
        let index = self.nodes.len();
        if index == MOST {
            return Err(place.fault("is too large: there are too many schemas in it"));
        }
        self.nodes.push(Node {
            at: place.dotted.clone(),
            beside: Vec::new(),
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
                if let Some(node) = self.nodes.get_mut(node) {
                    node.reference = Some(target);
                }
            }
            Keyword::Beside => {
                let added = self.add_all(value, name, place)?;
                self.put_beside(node, added);
            }
            Keyword::BesideByName => {
                let added = self.add_named(value, name, place)?;
                self.put_beside(node, added);
            }
            Keyword::Below => {
                self.add_all(value, name, place)?;
            }
            Keyword::BelowByName => {
                self.add_named(value, name, place)?;
            }
        }
        Ok(())
    }

    fn put_beside(&mut self, node: usize, added: Vec<usize>) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.beside.extend(added);
        }
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

    fn add_named(&mut self, value: &Value, name: &str, at: &Place) -> Result<Vec<usize>, Fault> {
        let Value::Object(schemas) = value else {
            return Ok(Vec::new());
        };
        schemas
            .iter()
            .map(|(key, schema)| self.add(schema, name, &at.name(key)))
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
            self.weight(index, &mut weights)?;
        }
        Ok(())
    }

    fn weight(&self, index: usize, weights: &mut [Weight]) -> Result<u64, Fault> {
        let (Some(node), Some(weight)) = (self.nodes.get(index), weights.get_mut(index)) else {
            return Ok(0);
        };
        let fault = |what| Fault {
            at: node.at.clone(),
            what,
        };
        match *weight {
            Weight::Known(weight) => return Ok(weight),
            Weight::Asked => return Err(fault("refers to itself without end")),
            Weight::Unknown => *weight = Weight::Asked,
        }
        let mut total: u64 = 1;
        for &other in &node.beside {
            total = total.saturating_add(self.weight(other, weights)?);
            if total > HEAVIEST {
                return Err(fault("refers to too many schemas, over and over"));
            }
        }
        if let Some(weight) = weights.get_mut(index) {
            *weight = Weight::Known(total);
        }
        Ok(total)
    }
}

#[derive(Clone, Copy)]
enum Weight {
    Unknown,
    /// It is being found out: whoever asks again goes in a circle.
    Asked,
    Known(u64),
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
    let pointer = reference.strip_prefix('#')?;
    let is_pointer = pointer.is_empty() || pointer.starts_with('/');
    (is_pointer && !pointer.contains('%')).then(|| pointer.to_owned())
}
