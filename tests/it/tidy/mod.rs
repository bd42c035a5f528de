//! The tree keeps its own rules: who imports whom, where tasks begin, how long a file may be.

mod copies;
mod imports;

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What may stand at the top level, beside dotfiles.
const TOP: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "benches",
    "config.example.toml",
    "docker",
    "src",
    "target",
    "tests",
];

/// Crates that have one home.
const HOMES: [(&str, &[&str]); 3] = [
    ("axum", &["src/server/"]),
    (
        "reqwest",
        &["src/upstream/chaturdata.rs", "src/upstream/client/"],
    ),
    ("anyhow", &["src/main.rs", "src/cli.rs", "src/app/"]),
];

/// Where tasks are spawned: places whose shutdown waits for them, and two whose tasks may end at any time, as
/// they close idle connections and empty caches.
const SPAWNS: [&str; 5] = ["spawn", "spawn_local", "spawn_on", "JoinSet", "TaskTracker"];
const SPAWNERS: [&str; 5] = [
    "src/app/caches",
    "src/server/listener",
    "src/run/live",
    "src/store/disk",
    "src/upstream/client/pool",
];

const EMPTY_NAMES: [&str; 8] = [
    "util", "utils", "common", "helper", "helpers", "types", "misc", "prelude",
];

/// Written apart, so that this file does not find itself.
const UNFINISHED: [&str; 6] = [
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("for", " now "),
    concat!("#[ig", "nore"),
];

const VAGUE_VERBS: [&str; 4] = ["fn get_", "fn do_", "fn process_", "fn test_"];
const VAGUE_NOUNS: [&str; 5] = ["Manager", "Helper", "Handler", "Processor", "Util"];

#[test]
fn every_file_keeps_the_rules() {
    let files = files();
    assert!(
        files.len() > 20,
        "only {} files are found in {ROOT}",
        files.len()
    );

    let faults: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| faults(path, text))
        .collect();

    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn endpoints_share_no_six_lines() {
    let files = files();
    let code = files.iter().map(|(path, text)| (path.as_str(), code(text)));

    let copies = copies::copies(code);

    assert!(copies.is_empty(), "\n{}\n", copies.join("\n"));
}

#[test]
fn every_module_is_listed_by_its_parent() {
    let files = files();
    let mut faults = Vec::new();
    for (path, _) in files.iter().filter(|(path, _)| is_rust(path)) {
        let Some((parent, name)) = parent_of(path) else {
            continue;
        };
        let listed = files.iter().any(|(other, text)| {
            parent.contains(other) && text.lines().any(|line| declares(line, &name))
        });
        if !listed {
            faults.push(format!(
                "{path}: no `mod {name};` in {}",
                parent.join(" or ")
            ));
        }
    }

    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn nothing_strange_lies_at_the_top() {
    for entry in fs::read_dir(ROOT).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();

        assert!(
            name.starts_with('.') || TOP.contains(&name.as_str()),
            "{name} does not belong at the top level"
        );
    }
}

/// A path, what a file there says, and what is wrong with it.
const PLANTED: [(&str, &str, &str); 13] = [
    (
        "src/run/x.rs",
        "fn x() {}\n",
        "src/run/x.rs:1: begins without `//!`",
    ),
    (
        "src/run/helpers.rs",
        "//! X.\n",
        "src/run/helpers.rs: its name says nothing",
    ),
    (
        "src/run/x.rs",
        "//! X.\nuse crate::server::Parts;\n",
        "src/run/x.rs:2: run may not import server",
    ),
    (
        "src/run/x.rs",
        "//! X.\nuse crate::{\n    store::Store,\n    openai::Head,\n};\n",
        "src/run/x.rs:2: run may not import openai",
    ),
    (
        "src/run/x.rs",
        "//! X.\nuse super::super::openai::Head;\n",
        "src/run/x.rs:2: run may not import openai",
    ),
    (
        "src/run/mod.rs",
        "//! X.\nfn x() -> crate::upstream::chaturdata::ChatUrData {}\n",
        "src/run/mod.rs:2: run may not import upstream::chaturdata",
    ),
    (
        "src/server/x.rs",
        "//! X.\nuse crate::upstream::{Thread, wire::Body::<T>};\n",
        "src/server/x.rs:2: server may not import upstream::wire",
    ),
    (
        "src/openai/x.rs",
        "//! X.\nuse axum::Json;\n",
        "src/openai/x.rs:2: axum belongs to src/server/",
    ),
    (
        "src/run/x.rs",
        "//! X.\nfn x() {\n    tokio::spawn(y());\n}\n",
        "src/run/x.rs:3: tasks begin in src/app/caches, src/server/listener, src/run/live, src/store/disk, src/upstream/client/pool",
    ),
    (
        "src/run/x.rs",
        "//! X.\npub(crate) fn x() {}\n",
        "src/run/x.rs:2: private and `pub` are the two visibilities",
    ),
    (
        "tests/it/x.rs",
        "//! X.\nfn test_x() {}\n",
        "tests/it/x.rs:2: `fn test_` says nothing",
    ),
    (
        "src/run/x.rs",
        "//! X.\nstruct RunManager;\n",
        "src/run/x.rs:2: `Manager` says nothing",
    ),
    (
        "docker/compose.yaml",
        concat!("# FIX", "ME\n"),
        concat!("docker/compose.yaml:1: `FIX", "ME`: finish it"),
    ),
];

#[test]
fn a_planted_fault_is_found() {
    let good = "//! A file.\n\nuse crate::secret::Secret;\n";
    assert_eq!(faults("src/config/x.rs", good), Vec::<String>::new());
    for (path, text, expected) in PLANTED {
        assert_eq!(faults(path, text), [expected]);
    }
    let long = format!("//! X.\n{}", "\n".repeat(500));
    assert_eq!(
        faults("benches/x.rs", &long),
        ["benches/x.rs: 501 lines, of at most 500"]
    );
}

#[test]
fn tests_at_the_foot_and_comments_are_free() {
    let text = "//! X.\n// axum is told of here\n#[cfg(test)]\nmod tests {\n    use crate::server::Parts;\n}\n";

    assert_eq!(faults("src/run/x.rs", text), Vec::<String>::new());
}

/// Everything that is wrong with one file. Its path begins at the top level.
fn faults(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    words(path, text, &mut faults);
    if is_rust(path) {
        shape(path, text, &mut faults);
    }
    if path.starts_with("src/") && is_rust(path) {
        let code = code(text);
        faults.extend(imports::faults(path, &code));
        homes(path, &code, &mut faults);
    }
    faults
}

fn words(path: &str, text: &str, faults: &mut Vec<String>) {
    for (number, line) in numbered(text) {
        for word in UNFINISHED.iter().filter(|word| line.contains(*word)) {
            faults.push(format!("{path}:{number}: `{word}`: finish it"));
        }
    }
}

fn shape(path: &str, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > 500 {
        faults.push(format!("{path}: {lines} lines, of at most 500"));
    }
    if !text.starts_with("//! ") {
        faults.push(format!("{path}:1: begins without `//!`"));
    }
    let stem = Path::new(path).file_stem().unwrap().to_str().unwrap();
    if EMPTY_NAMES.contains(&stem) {
        faults.push(format!("{path}: its name says nothing"));
    }
    if path == "tests/it/tidy/mod.rs" {
        return;
    }
    for (number, line) in numbered(text) {
        if line.contains("pub(") {
            faults.push(format!(
                "{path}:{number}: private and `pub` are the two visibilities"
            ));
        }
        // The upstream's own word is getThread.
        let line = line.replace("fn get_thread", "fn thread");
        for verb in VAGUE_VERBS.iter().filter(|verb| line.contains(*verb)) {
            faults.push(format!("{path}:{number}: `{verb}` says nothing"));
        }
        let mut words = line
            .trim_start_matches("pub ")
            .split([' ', '(', ';', '<', '{']);
        let is_type = matches!(words.next(), Some("struct" | "enum" | "trait" | "type"));
        let name = words.next().unwrap_or_default();
        for noun in VAGUE_NOUNS
            .iter()
            .filter(|noun| is_type && name.contains(*noun))
        {
            faults.push(format!("{path}:{number}: `{noun}` says nothing"));
        }
    }
}

fn homes(path: &str, code: &str, faults: &mut Vec<String>) {
    for (number, line) in numbered(code) {
        let mut names = identifiers(line);
        for (name, homes) in HOMES {
            if names.contains(&name) && !homes.iter().any(|home| path.starts_with(home)) {
                faults.push(format!(
                    "{path}:{number}: {name} belongs to {}",
                    homes.join(", ")
                ));
            }
        }
        // A thread is not a task: it is waited for by nobody.
        names.retain(|name| SPAWNS.contains(name));
        if !names.is_empty()
            && !code.contains("std::thread")
            && !SPAWNERS.iter().any(|home| path.starts_with(home))
        {
            faults.push(format!(
                "{path}:{number}: tasks begin in {}",
                SPAWNERS.join(", ")
            ));
        }
    }
}

/// The files that may declare a module, and its name. `None` for a root.
fn parent_of(path: &str) -> Option<(Vec<String>, String)> {
    let path = path
        .strip_suffix("/mod.rs")
        .unwrap_or(path.strip_suffix(".rs")?);
    let (folder, name) = path.rsplit_once('/')?;
    let is_root = ["lib", "main"].contains(&name) || folder == "benches" || folder == "tests";
    let declarers = ["mod.rs", "lib.rs", "main.rs"].map(|file| format!("{folder}/{file}"));
    (!is_root).then(|| (declarers.to_vec(), name.to_owned()))
}

fn declares(line: &str, name: &str) -> bool {
    let line = line.trim().trim_start_matches("pub ");
    line.strip_prefix("mod ")
        .is_some_and(|rest| rest.trim_end_matches(';') == name)
}

/// What is compiled into the program: without comments, and without the tests at the foot.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let lines = text[..end]
        .lines()
        .map(|line| match line.trim_start().starts_with("//") {
            true => "",
            false => line,
        });
    lines.collect::<Vec<_>>().join("\n")
}

fn identifiers(line: &str) -> Vec<&str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .collect()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line))
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

/// Every text file that somebody wrote, with its path from the top level.
fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for name in [
        "src",
        "tests",
        "benches",
        "docker",
        "README.md",
        "config.example.toml",
    ] {
        collect(&Path::new(ROOT).join(name), &mut files);
    }
    files
}

fn collect(path: &PathBuf, files: &mut Vec<(String, String)>) {
    const FOREIGN: [&str; 5] = ["target", "node_modules", "goldens", "__pycache__", ".venv"];
    const WRITTEN: [&str; 7] = ["rs", "toml", "md", "yaml", "js", "py", "sh"];
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if FOREIGN.iter().any(|foreign| name.starts_with(foreign)) {
        return;
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), files);
        }
    } else if path
        .extension()
        .is_some_and(|ending| WRITTEN.iter().any(|known| ending == *known))
    {
        let from_top = path.strip_prefix(ROOT).unwrap().to_str().unwrap();
        files.push((
            from_top.replace('\\', "/"),
            fs::read_to_string(path).unwrap(),
        ));
    }
}
