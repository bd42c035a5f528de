//! The sandbox's answers in the forms that are asked for, each read as the proxy reads it.

use chaturdata_proxy::form::{
    Choice, Content, Described, Form, Function, Json, Several, Strict, Tools, WITHDRAWN,
};
use serde_json::{Value, json};

use super::demo::{Talk, total};

const BORDER: &str = "\n\n---\n\n";

fn of_schema(schema: &Value) -> Form {
    let described = Described {
        name: Some("sales"),
        description: None,
        strict: Strict::Yes,
    };
    Form::json(Json::schema(schema, "", described).unwrap())
}

/// An object whose properties are all required.
fn object(properties: &Value) -> Value {
    let names: Vec<_> = properties.as_object().unwrap().keys().collect();
    json!({"type": "object", "properties": properties, "required": names,
        "additionalProperties": false})
}

fn functions(choice: Choice) -> Tools {
    let function = |name: &str, description: &str, parameters: &Value| {
        let parameters = object(parameters);
        let parameters = Some((&parameters, ""));
        Function::new(name, Some(description), parameters, Strict::Yes).unwrap()
    };
    let functions = vec![
        function(
            "final_result",
            "The final response which ends this conversation",
            &json!({"region": {"type": "string"}, "orders": {"type": "integer"}}),
        ),
        function(
            "get_weather",
            "The weather of a city.",
            &json!({"city": {"type": "string"}}),
        ),
        function(
            "orders",
            "Orders of a region.",
            &json!({"region": {"type": "string"}}),
        ),
    ];
    Tools::new(functions, choice, Several::Allowed)
}

async fn asked(talk: &mut Talk, question: &str, form: &Form) -> Content {
    let answer = talk
        .ask(&format!("{question}{BORDER}{}", form.block()))
        .await;
    form.read(&answer).expect(&answer)
}

async fn value(question: &str, schema: &Value) -> Value {
    match asked(&mut Talk::new(), question, &of_schema(schema)).await {
        Content::Json(text) => serde_json::from_str(&text).unwrap(),
        other => unreachable!("{other:?} is no JSON"),
    }
}

async fn called(talk: &mut Talk, question: &str, form: &Form) -> Vec<(String, Value)> {
    match asked(talk, question, form).await {
        Content::Calls(calls) => calls
            .into_iter()
            .map(|call| (call.name, serde_json::from_str(&call.arguments).unwrap()))
            .collect(),
        Content::Text => Vec::new(),
        other @ Content::Json(_) => unreachable!("{other:?} calls nothing"),
    }
}

#[tokio::test(start_paused = true)]
async fn one_object_tells_the_figures_of_the_question() {
    let schema = object(&json!({
        "region": {"type": "string"},
        "revenue": {"type": "number"},
        "units_sold": {"type": "integer"},
        "currency": {"enum": ["EUR", "USD"]},
        "note": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    }));

    let best = value("Which region has the highest revenue in 2025?", &schema).await;

    let region = best["region"].as_str().unwrap().to_owned();
    let in_region = |row: &[&str; 5]| row[0].starts_with("2025") && row[1] == region;
    assert_eq!(best["revenue"], total(4, in_region));
    assert_eq!(best["units_sold"], total(3, in_region));
    assert_eq!(best["currency"], "USD");
    assert_eq!(best["note"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn rows_and_their_total_are_told_as_they_are() {
    let row = object(&json!({
        "name": {"type": "string"},
        "revenue": {"type": "number"},
    }));
    let schema = json!({
        "$defs": {"Row": row},
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "rows": {"type": "array", "items": {"$ref": "#/$defs/Row"}},
            "total_revenue": {"type": "number"},
        },
        "required": ["title", "rows", "total_revenue"],
    });

    let told = value("revenue by region?", &schema).await;

    let rows = told["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let of_region = |sale: &[&str; 5]| row["name"] == sale[1];
        assert_eq!(row["revenue"], total(4, of_region), "{row}");
    }
    assert_eq!(told["total_revenue"], total(4, |_| true));
    assert_eq!(told["title"], "Revenue by region");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_the_data_is_not_made_up() {
    let schema = object(&json!({
        "mood": {"type": ["string", "null"]},
        "visitors": {"type": ["integer", "null"]},
        "rows": {"type": "array", "items": {"type": "object"}},
    }));

    let told = value("Tell me a joke", &schema).await;

    assert_eq!(told, json!({"mood": null, "visitors": null, "rows": []}));
}

#[tokio::test(start_paused = true)]
async fn a_schema_in_the_callers_own_words_is_kept_to() {
    let schema = object(&json!({"region": {"type": "string"}, "units": {"type": "integer"}}));
    let question =
        format!("Instructions:\n\nAnswer by this schema: {schema}{BORDER}units by region?");

    let told = asked(&mut Talk::new(), &question, &Form::json(Json::object())).await;
    let free = asked(
        &mut Talk::new(),
        "units by region?",
        &Form::json(Json::object()),
    )
    .await;

    let Content::Json(told) = told else {
        panic!("it is JSON")
    };
    let told: Value = serde_json::from_str(&told).unwrap();
    let of_region = |sale: &[&str; 5]| told["region"] == sale[1];
    assert_eq!(told["units"], total(3, of_region));
    let Content::Json(free) = free else {
        panic!("it is JSON")
    };
    let free: Value = serde_json::from_str(&free).unwrap();
    assert_eq!(free["rows"][4]["units"], total(3, |_| true));
}

#[tokio::test(start_paused = true)]
async fn a_thread_keeps_its_form_until_it_is_withdrawn() {
    let mut talk = Talk::new();
    let form = of_schema(&object(&json!({"revenue": {"type": "number"}})));
    asked(&mut talk, "total revenue?", &form).await;

    let reminded = talk
        .ask(&format!("and only for 2025?{BORDER}{}", form.reminder()))
        .await;
    let free = talk.ask(&format!("and in 2024?{BORDER}{WITHDRAWN}")).await;

    let revenue = total(4, |row| row[0].starts_with("2025"));
    assert_eq!(reminded, json!({"revenue": revenue}).to_string());
    assert!(free.starts_with("**Revenue, 2024**"), "{free}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_mended_from_its_question() {
    let form = of_schema(&object(&json!({"revenue": {"type": "number"}})));
    let complaints = form.read("It was a good year.").unwrap_err();
    let mend = form.mend("total revenue in 2025?", "It was a good year.", &complaints);

    let mended = Talk::new().ask(&mend).await;

    let revenue = total(4, |row| row[0].starts_with("2025"));
    assert_eq!(mended, json!({"revenue": revenue}).to_string());
}

#[tokio::test(start_paused = true)]
async fn a_function_is_called_where_it_fits_and_its_result_is_told() {
    let form = Form::tools(functions(Choice::Auto));
    let mut talk = Talk::new();

    let weather = called(&mut talk, "What is the weather in New York?", &form).await;
    let told = talk
        .ask(&format!(
            "Result of get_weather: sunny{BORDER}{}",
            form.reminder()
        ))
        .await;
    let figures = asked(&mut talk, "revenue by region?", &form).await;

    assert_eq!(
        weather,
        [("get_weather".to_owned(), json!({"city": "New York"}))]
    );
    assert_eq!(told, "get_weather says: sunny");
    assert_eq!(figures, Content::Text);
}

#[tokio::test(start_paused = true)]
async fn a_loop_whose_every_answer_must_call_comes_to_its_end() {
    let form = Form::tools(functions(Choice::Required));
    let mut talk = Talk::new();

    let first = called(&mut talk, "How many orders has the best region?", &form).await;
    let last = called(&mut talk, "Result of orders: 3", &form).await;

    let (name, arguments) = &first[0];
    assert_eq!(name, "orders");
    let region = &arguments["region"];
    assert!(region.as_str().is_some_and(|region| !region.is_empty()));
    let result = json!({"region": region, "orders": 3});
    assert_eq!(last, [("final_result".to_owned(), result)]);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_named_is_called() {
    let form = Form::tools(functions(Choice::Named("final_result".to_owned())));

    let calls = called(&mut Talk::new(), "best region by units?", &form).await;

    let region = calls[0].1["region"].as_str().unwrap().to_owned();
    let units = total(3, |row| row[1] == region);
    assert_eq!(calls[0].1["orders"], units);
}
