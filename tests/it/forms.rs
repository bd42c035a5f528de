//! The forms of answers that real clients ask for.

use std::collections::BTreeMap;

use chaturdata_proxy::form::{Form, Kind};
use chaturdata_proxy::openai::Policy;
use chaturdata_proxy::openai::responses::ResponseRequest;

use crate::goldens::{Golden, asked, envelope, goldens};

/// The form of a request, and what of it is told as ignored.
fn form(golden: &Golden) -> String {
    let (turn, choices, ignored) = if golden.path.ends_with("/chat/completions") {
        let asked = asked(golden).unwrap();
        (asked.turn, asked.choices, asked.ignored)
    } else {
        let request: ResponseRequest = serde_json::from_str(&golden.body.to_string()).unwrap();
        match request.into_turn(envelope(golden), &Policy::default()) {
            Ok(asked) => (asked.turn, 1, asked.ignored),
            // It goes on from what another server answered.
            Err(error) => return format!("{:?}", error.reason),
        }
    };
    let kind = turn.form.as_deref().map_or(Kind::Text, Form::kind);
    let demand = turn.form.as_deref().map_or("", |form| {
        let last = form.block().rsplit(". ").next().unwrap_or_default();
        if last.starts_with("This answer must") {
            last
        } else {
            ""
        }
    });
    let choices = if choices > 1 {
        format!("{choices} of ")
    } else {
        String::new()
    };
    format!("{choices}{kind:?} {demand} {}", ignored.join(", "))
        .trim()
        .to_owned()
}

/// The cases of each client, by the form that they ask for.
fn forms_in(folder: &str) -> String {
    let mut forms: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for golden in goldens(folder) {
        let case = format!("{} {}", golden.client, golden.case);
        if golden.body.get("messages").is_some() || golden.body.get("input").is_some() {
            forms.entry(form(&golden)).or_default().push(case);
        }
    }
    let forms = forms.into_iter();
    forms
        .map(|(form, cases)| format!("{form}\n  {}\n", cases.join("\n  ")))
        .collect()
}

#[test]
fn chats_of_real_clients_ask_for_forms() {
    insta::assert_snapshot!(forms_in("emulated"));
}

#[test]
fn responses_of_real_clients_ask_for_forms() {
    insta::assert_snapshot!(forms_in("responses"));
}
