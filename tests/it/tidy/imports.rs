//! Imports run one way: from the server inwards, and never back.

/// Which modules each module may import. `app` may import all, and nobody imports `app`.
const IMPORTS: [(&str, &[&str]); 16] = [
    (
        "server",
        &[
            "openai",
            "run",
            "conversation",
            "form",
            "upstream",
            "store",
            "config",
            "metrics",
            "ids",
            "secret",
            "signal",
            "gather",
        ],
    ),
    (
        "openai",
        &[
            "conversation",
            "run",
            "form",
            "upstream",
            "config",
            "ids",
            "secret",
        ],
    ),
    (
        "run",
        &[
            "conversation",
            "form",
            "upstream",
            "store",
            "config",
            "metrics",
            "clock",
            "planted",
            "ids",
            "secret",
            "signal",
        ],
    ),
    (
        "conversation",
        &[
            "form", "upstream", "store", "config", "planted", "ids", "secret",
        ],
    ),
    (
        "store",
        &[
            "form", "upstream", "config", "clock", "planted", "ids", "secret",
        ],
    ),
    ("upstream", &["config", "clock", "gather", "secret"]),
    ("metrics", &["conversation"]),
    ("cli", &["config"]),
    ("config", &["secret"]),
    ("form", &[]),
    ("clock", &[]),
    ("planted", &[]),
    ("ids", &[]),
    ("secret", &[]),
    ("signal", &[]),
    ("gather", &[]),
];

/// Parts of a module that only some may import, beside the module itself and `app`.
const RESERVED: [(&str, &[&str]); 6] = [
    ("upstream::chaturdata", &[]),
    ("upstream::wire", &[]),
    ("upstream::sandbox", &["server"]),
    ("conversation::resolve", &["run"]),
    ("conversation::queue", &["run"]),
    ("store::memory", &["run", "conversation"]),
];

/// Imports run one way.
pub fn faults(path: &str, code: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let place = module(path);
    let Some(own) = place.first().filter(|own| *own != "app") else {
        return faults;
    };
    let allowed = IMPORTS
        .iter()
        .find(|(module, _)| module == own)
        .map(|(_, allowed)| *allowed);
    let Some(allowed) = allowed else {
        faults.push(format!(
            "{path}: tests/it/tidy/imports.rs does not know what {own} may import"
        ));
        return faults;
    };
    for (number, target) in targets(&place, code) {
        let top = target.first().map(String::as_str).unwrap_or_default();
        if top == own {
            continue;
        }
        let part = target
            .iter()
            .take(2)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("::");
        let reserved = RESERVED
            .iter()
            .any(|(name, users)| *name == part && !users.contains(&own.as_str()));
        if reserved {
            faults.push(format!("{path}:{number}: {own} may not import {part}"));
        } else if !allowed.contains(&top) {
            faults.push(format!("{path}:{number}: {own} may not import {top}"));
        }
    }
    faults
}

/// The modules of ours that a file names, as paths from the crate's root, with the line of each.
fn targets(place: &[String], code: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let line = |at: usize| code[..at].matches('\n').count() + 1;
    for (at, start) in code.match_indices("crate::") {
        let paths = tree(&[], &code[at + start.len()..]);
        found.extend(paths.into_iter().map(|path| (line(at), path)));
    }
    for (at, start) in code.match_indices("super::") {
        if code[..at].ends_with(start) {
            continue;
        }
        let rest = code[at..].trim_start_matches(start);
        let ups = (code.len() - at - rest.len()) / start.len();
        let base = place
            .get(..place.len().saturating_sub(ups))
            .unwrap_or_default();
        found.extend(tree(base, rest).into_iter().map(|path| (line(at), path)));
    }
    found
}

/// Every path of a tree of imports: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn tree(base: &[String], text: &str) -> Vec<Vec<String>> {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        return branches(group)
            .into_iter()
            .flat_map(|branch| tree(base, branch))
            .collect();
    }
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    if name.is_empty() {
        // A glob, or type arguments: what stands before is what is named.
        return base.first().map(|_| base.to_vec()).into_iter().collect();
    }
    let path = [base, &[name.to_owned()]].concat();
    match rest.strip_prefix("::") {
        Some(rest) => tree(&path, rest),
        None => vec![path],
    }
}

/// What stands between the commas of a group, up to its closing brace.
fn branches(group: &str) -> Vec<&str> {
    let mut branches = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            ',' | '}' if depth == 0 => {
                branches.push(&group[start..at]);
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    branches
}

/// The path of a file's module: `src/run/live.rs` is `run::live`.
fn module(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let names = path
        .split('/')
        .filter(|name| !["mod", "lib", "main"].contains(name));
    names.map(str::to_owned).collect()
}
