//! Recorded requests of real programs for everything but chat, and what is understood of them.

mod completions;
mod conversations;
mod responses;

use serde_json::Value;

use crate::goldens::{Golden, goldens};

/// A line for every request recorded for these endpoints, in the order of their files.
fn told(folder: &str, tell: impl Fn(&Golden) -> String) -> String {
    let goldens = goldens(folder);
    assert!(goldens.len() > 10, "{} requests", goldens.len());
    let lines = goldens.iter().map(|golden| {
        let Golden { client, case, .. } = golden;
        format!("{client} {case}\n  {}", tell(golden))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What is asked for behind the path, as the server takes it apart.
fn query(path: &str) -> Vec<(String, String)> {
    let (_, query) = path.split_once('?').unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn read<T: serde::de::DeserializeOwned>(body: &Value) -> T {
    serde_json::from_str(&body.to_string()).unwrap()
}
