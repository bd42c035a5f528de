//! Functions of the caller's that an answer may call, or must.

use serde::Serialize;
use serde_json::{Map, Value};

use super::calls::{self, Called, Shape};
use super::json::{Strict, one_line};
use super::schema::Schema;
use super::{Call, Complaints, Error, complaint};

/// The most functions that can be offered at once, as OpenAI has it.
pub const MOST: usize = 128;

/// The functions that an answer can call.
#[derive(Debug)]
pub struct Tools {
    functions: Vec<Function>,
    choice: Choice,
    several: Several,
}

/// Whether a function is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// As the answer needs.
    Auto,
    /// At least one must be.
    Required,
    /// This one must be.
    Named(String),
}

/// Whether one answer may call more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Several {
    Allowed,
    Refused,
}

/// A function that can be called.
#[derive(Debug)]
pub struct Function {
    name: String,
    description: Option<String>,
    parameters: Option<Schema>,
}

impl Function {
    /// A function whose parameters stand at `place` of a request.
    pub fn new(
        name: &str,
        description: Option<&str>,
        parameters: Option<(&Value, &str)>,
        strict: Strict,
    ) -> Result<Self, Error> {
        let parameters = parameters
            .map(|(schema, place)| Schema::new(schema, place, strict.formats()))
            .transpose()?;
        Ok(Self {
            name: name.to_owned(),
            description: description.map(one_line).filter(|text| !text.is_empty()),
            parameters,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A function as it is posted, on a line of its own.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: &'a serde_json::value::RawValue,
}

impl Tools {
    /// The functions, of which at least one can be called.
    pub fn new(functions: Vec<Function>, choice: Choice, several: Several) -> Self {
        Self {
            functions,
            choice,
            several,
        }
    }

    /// An answer that calls nothing is none.
    pub fn are_demanded(&self) -> bool {
        self.choice != Choice::Auto
    }

    /// What is said of the functions; `otherwise` says how to answer where none is called.
    pub fn block(&self, otherwise: &str) -> String {
        let mut block =
            "Tools:\n\nThese functions can be called for you, one on each line:\n".to_owned();
        for function in &self.functions {
            block.push_str(&function.line());
            block.push('\n');
        }
        block.push_str(&format!(
            "\nTo call, answer with this JSON object alone, without words around it and without \
             a code fence:\n{}\n",
            calls::SHAPE
        ));
        block.push_str(
            "The arguments must be valid under the function's parameters. What the functions \
             return comes with the next message. ",
        );
        if self.several == Several::Refused {
            block.push_str("Call one function at a time. ");
        }
        block.push_str(&self.demand(otherwise));
        block
    }

    pub fn reminder(&self, otherwise: &str) -> String {
        format!(
            "Tools: the functions named before can be called, by {} alone. {}",
            calls::SHAPE,
            self.demand(otherwise)
        )
    }

    fn demand(&self, otherwise: &str) -> String {
        match &self.choice {
            Choice::Auto => otherwise.to_owned(),
            Choice::Required => "This answer must call a function.".to_owned(),
            Choice::Named(name) => format!("This answer must call the function {name}."),
        }
    }

    /// The calls that an answer makes; `None` where it is none that calls, and need not be.
    pub fn read(&self, answer: &str) -> Result<Option<Vec<Call>>, Complaints> {
        match calls::shape(answer) {
            Shape::Calls(called) => self.checked(&called).map(Some),
            Shape::Alike(fault) => Err(Complaints::one("the answer", &fault)),
            Shape::Other if self.are_demanded() => {
                let fault = format!("calls nothing. {}", self.demand(""));
                Err(Complaints::one("the answer", &fault))
            }
            Shape::Other => Ok(None),
        }
    }

    /// Why an answer that calls nothing can still have been meant to: it has an object that names
    /// a function and gives it something.
    pub fn doubt(&self, answer: &str) -> Option<Complaints> {
        let names = calls::bare_names(answer);
        let fault = format!("names a function, but is not like {}", calls::SHAPE);
        names
            .iter()
            .any(|name| self.function(name).is_some())
            .then(|| Complaints::one("the answer", &fault))
    }

    fn checked(&self, called: &[Called<'_>]) -> Result<Vec<Call>, Complaints> {
        if called.len() > 1 && self.several == Several::Refused {
            return Err(Complaints::one(
                "tool_calls",
                "must hold one call, not several",
            ));
        }
        let mut complaints = Vec::new();
        for (index, call) in called.iter().enumerate() {
            complaints.extend(self.lacks(call, index));
        }
        if let Choice::Named(name) = &self.choice
            && called.iter().any(|call| call.name != *name)
        {
            let fault = format!("must call {name} and nothing else");
            complaints.push(complaint("tool_calls", &fault));
        }
        if !complaints.is_empty() {
            return Err(Complaints::new(complaints));
        }
        let calls = called.iter();
        Ok(calls.map(Called::call).collect())
    }

    fn lacks(&self, call: &Called<'_>, index: usize) -> Vec<String> {
        let place = format!("tool_calls[{index}]");
        let Some(function) = self.function(&call.name) else {
            let names: Vec<_> = self.functions.iter().map(Function::name).collect();
            let what = format!("must be one of {}", names.join(", "));
            return vec![complaint(&format!("{place}.name"), &what)];
        };
        let place = format!("{place}.arguments");
        let arguments: Map<String, Value> = match serde_json::from_str(call.arguments.get()) {
            Ok(arguments) => arguments,
            Err(_) => return vec![complaint(&place, "must be a JSON object")],
        };
        match &function.parameters {
            Some(schema) => schema.complaints(&Value::Object(arguments), &place),
            None => Vec::new(),
        }
    }

    fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }
}

impl Function {
    fn line(&self) -> String {
        const ANY: &str = r#"{"type":"object"}"#;
        let parameters = self.parameters.as_ref().map_or(ANY, Schema::text);
        let line = Line {
            name: &self.name,
            description: self.description.as_deref(),
            parameters: serde_json::from_str(parameters).expect("a schema's text is JSON"),
        };
        serde_json::to_string(&line).expect("text and JSON can always be written")
    }
}
