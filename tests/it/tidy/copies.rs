//! What two endpoints need lies below both: no lines stand in the files of more than one.

use std::collections::HashMap;

const ENDPOINTS: [&str; 4] = ["chat", "responses", "completions", "conversations"];

/// So many lines may not stand in the files of more than one endpoint.
const LINES: usize = 6;

/// Paths, with their code, become what they share, told once for each place.
pub fn copies<'a>(files: impl Iterator<Item = (&'a str, String)>) -> Vec<String> {
    let mut seen: HashMap<Vec<String>, (&str, String)> = HashMap::new();
    let mut copies = Vec::new();
    for (path, code) in files {
        let Some(endpoint) = endpoint(path) else {
            continue;
        };
        let lines = lines(&code);
        for lines in lines.windows(LINES) {
            let place = format!("{path}:{}", lines[0].0);
            let text = lines.iter().map(|(_, line)| line.clone()).collect();
            let (first, there) = seen.entry(text).or_insert((endpoint, place.clone()));
            if *first != endpoint {
                copies.push(format!("{place} is as {there}"));
            }
        }
    }
    copies
}

/// The endpoint that a file serves alone.
fn endpoint(path: &str) -> Option<&'static str> {
    let names = path.strip_prefix("src/")?.trim_end_matches(".rs");
    let mut names = names.split('/');
    names.find_map(|name| ENDPOINTS.into_iter().find(|endpoint| *endpoint == name))
}

/// The lines that say something, with their numbers: no imports, nothing blank.
fn lines(code: &str) -> Vec<(usize, String)> {
    let lines = code.lines().zip(1..);
    let said = lines.map(|(line, number)| (number, line.trim().to_owned()));
    said.filter(|(_, line)| !line.is_empty() && !line.starts_with("use "))
        .collect()
}

#[test]
fn a_copy_is_found_across_endpoints_alone() {
    let code = "use a;\na();\nb();\n\nc();\nd();\ne();\nf();\n".to_owned();
    let found =
        |paths: [&'static str; 2]| copies(paths.map(|path| (path, code.clone())).into_iter());

    assert_eq!(
        found(["src/server/chat.rs", "src/openai/responses/turn.rs"]),
        ["src/openai/responses/turn.rs:2 is as src/server/chat.rs:2"]
    );
    assert!(found(["src/server/chat.rs", "src/openai/chat/turn.rs"]).is_empty());
    assert!(found(["src/server/chat.rs", "src/run/live.rs"]).is_empty());
}
