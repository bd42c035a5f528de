//! Settings: which source wins.

mod errors;
mod keys;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chaturdata_proxy::config::{Config, Environment, Flag, Settings, Sources};

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// A value for each key that differs from its default; a new key belongs here too.
const OTHERS: [(&str, &str); 59] = [
    ("server.listen", "127.0.0.1:9000"),
    ("server.allowed_hosts", "proxy.lan"),
    ("server.allowed_origins", "https://chat.example"),
    ("server.max_connections", "7"),
    ("server.max_waiting", "7"),
    ("server.max_waiting_per_key", "6"),
    ("server.max_body", "1MiB"),
    ("server.max_headers", "32"),
    ("server.max_head", "16KiB"),
    ("server.head_timeout", "6s"),
    ("server.idle_timeout", "6s"),
    ("server.body_timeout", "6s"),
    ("server.write_timeout", "6s"),
    ("server.drain_timeout", "6s"),
    ("upstream.url", "http://127.0.0.1:8485"),
    ("upstream.api_key_file", "/run/secrets/upstream"),
    ("upstream.proxy", "http://proxy.lan:3128"),
    ("upstream.connect_timeout", "6s"),
    ("upstream.post_timeout", "6s"),
    ("upstream.read_timeout", "6s"),
    ("upstream.max_body", "1MiB"),
    ("upstream.max_connections", "7"),
    ("upstream.queue_timeout", "6s"),
    ("callers.key_file", "/run/secrets/caller"),
    ("callers.allow_anyone", "true"),
    ("models.aliases", "sales,support"),
    ("models.strict", "true"),
    ("parameters.strict", "true"),
    ("conversations.narrow_headers", "X-Chat"),
    ("conversations.user_headers", "X-User"),
    ("conversations.side_call_headers", "X-Task"),
    ("conversations.side_calls", "scratch"),
    ("conversations.transcript", "16KiB"),
    ("conversations.max", "7"),
    ("conversations.max_age", "6d"),
    ("run.deadline", "6s"),
    ("run.limit", "20m"),
    ("run.queue", "7"),
    ("run.max_active", "7"),
    ("run.max_active_per_key", "6"),
    ("run.on_unknown", "tell"),
    ("run.keep_answers", "6s"),
    ("run.max_answers", "7"),
    ("structured.repairs", "3"),
    ("tools.auto", "refuse"),
    // The only strategy there is.
    ("pace.strategy", "fixed"),
    ("pace.interval", "6s"),
    ("pace.min_gap", "1s"),
    ("pace.max_polls_per_second", "0.5"),
    ("stream.keep_alive", "off"),
    ("stream.keep_alive_every", "6s"),
    ("stream.begin_within", "6s"),
    ("sandbox.enabled", "true"),
    ("sandbox.script", "/script.toml"),
    ("state.dir", "/data"),
    ("store.kind", "memory"),
    ("store.strict", "true"),
    ("log.filter", "debug"),
    ("log.format", "json"),
];

fn environment(pairs: &[(&str, &str)]) -> Environment {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).into());
    Environment::of(pairs.iter().map(pair))
}

fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
    read_with(&[], None, pairs)
}

fn read_with(
    flags: &[Flag],
    file: Option<&Path>,
    pairs: &[(&str, &str)],
) -> Result<Settings, String> {
    Settings::read(&Sources {
        flags,
        file,
        environment: &environment(pairs),
    })
    .map_err(|error| error.to_string())
}

fn listen_flag(value: &str) -> Flag {
    Flag {
        key: "server.listen",
        name: "--listen",
        value: value.to_owned(),
    }
}

/// A settings file in a folder of its own, and its path.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// The keys of the example file, in its order, as `section.key`.
fn keys() -> Vec<String> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, _)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            keys.push(format!("{section}.{key}"));
        }
    }
    keys
}

fn variable(key: &str) -> String {
    format!("CHATURDATA_PROXY_{}", key.to_uppercase().replace('.', "__"))
}

/// A key that the file and the type do not share is refused while the defaults are read.
#[test]
fn the_example_file_is_the_defaults() {
    let (_dir, path) = file(EXAMPLE);

    let from_file = read_with(&[], Some(&path), &[]).unwrap().config;

    assert_eq!(format!("{from_file:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_example_file_documents_every_key() {
    let mut commented = false;
    for line in EXAMPLE.lines() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(commented, "no comment above `{line}`");
        }
        commented = line.starts_with('#');
    }
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    let others: Vec<&str> = OTHERS.iter().map(|(key, _)| *key).collect();
    assert_eq!(others, keys());
    for (key, value) in OTHERS {
        let name = variable(key);

        let settings = read(&[(&name, value)]).unwrap();

        let shown = settings.effective();
        let line = shown
            .lines()
            .find(|line| line.ends_with(&format!("# {name}")));
        assert!(line.is_some(), "{key} is not set by {name}");
        if key != "pace.strategy" {
            let changed = format!("{:?}", settings.config);
            assert_ne!(changed, format!("{:?}", Config::default()), "{key}");
        }
    }
}

#[test]
fn a_flag_outweighs_a_variable_and_a_variable_the_file() {
    let (_dir, path) = file("server.listen = '127.0.0.1:1'\npace.interval = '4s'\nrun.queue = 9\n");
    let variables = [
        ("CHATURDATA_PROXY_LISTEN", "127.0.0.1:2"),
        ("CHATURDATA_PROXY_PACE__INTERVAL", "5s"),
    ];

    let config = read_with(&[listen_flag("127.0.0.1:3")], Some(&path), &variables)
        .unwrap()
        .config;

    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.pace.interval, Duration::from_secs(5));
    assert_eq!(config.run.queue, 9);
    assert_eq!(config.run.limit, Duration::from_mins(30));
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let (_dir, path) = file("[run]\nqueue = 9\n");

    let settings = read(&[("CHATURDATA_PROXY_CONFIG", path.to_str().unwrap())]).unwrap();

    assert_eq!(settings.config.run.queue, 9);
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let settings = read(&[
        ("CHATURDATA_PROXY_LISTEN", ""),
        ("CHATURDATA_PROXY_STRAY", ""),
    ])
    .unwrap();

    assert_eq!(settings.config.server.listen.port(), 8484);
    assert_eq!(settings.warnings, Vec::<String>::new());
}

#[test]
fn what_kubernetes_and_docker_inject_disturbs_nothing() {
    let settings = read(&[
        ("CHATURDATA_PROXY_PORT", "tcp://10.0.0.11:8484"),
        ("CHATURDATA_PROXY_PORT_8484_TCP", "tcp://10.0.0.11:8484"),
        ("CHATURDATA_PROXY_PORT_8484_TCP_ADDR", "10.0.0.11"),
        ("CHATURDATA_PROXY_SERVICE_HOST", "10.0.0.11"),
        ("CHATURDATA_PROXY_SERVICE_PORT_HTTP", "8484"),
        ("CHATURDATA_PROXY_NAME", "/web/chaturdata-proxy"),
        ("CHATURDATA_PROXY_ENV_CHATURDATA_PROXY_PACE__INTERVAL", "1s"),
    ])
    .unwrap();

    assert_eq!(settings.warnings, Vec::<String>::new());
    assert_eq!(
        format!("{:?}", settings.config),
        format!("{:?}", Config::default())
    );
}

#[test]
fn a_stray_variable_is_warned_about() {
    let settings = read(&[("CHATURDATA_PROXY_LISTENS", "x")]).unwrap();

    assert_eq!(
        settings.warnings,
        [
            "CHATURDATA_PROXY_LISTENS is no setting of this program and is ignored; settings are named like \
          CHATURDATA_PROXY_PACE__INTERVAL"
        ]
    );
}

#[test]
fn lists_may_be_written_with_commas_or_as_in_the_file() {
    for text in ["one,two", " one , two ,", r#"["one", "two"]"#] {
        let settings = read(&[("CHATURDATA_PROXY_MODELS__ALIASES", text)]).unwrap();

        assert_eq!(settings.config.models.aliases, ["one", "two"], "{text}");
    }
}

#[test]
fn the_state_folder_is_the_platforms_unless_it_is_named() {
    if cfg!(any(windows, target_os = "macos")) {
        return;
    }
    let dir = |pairs: &[(&str, &str)]| read(pairs).unwrap().config.state.dir;
    let path = |text: &str| Some(PathBuf::from(text));

    assert_eq!(dir(&[]), None);
    assert_eq!(
        dir(&[("HOME", "/home/a")]),
        path("/home/a/.local/state/chaturdata-proxy")
    );
    assert_eq!(
        dir(&[("HOME", "/home/a"), ("XDG_STATE_HOME", "/s")]),
        path("/s/chaturdata-proxy")
    );
    assert_eq!(
        dir(&[("HOME", "/home/a"), ("XDG_STATE_HOME", "relative")]),
        path("/home/a/.local/state/chaturdata-proxy")
    );
    assert_eq!(
        dir(&[("HOME", "/home/a"), ("CHATURDATA_PROXY_STATE_DIR", "/data")]),
        path("/data")
    );
}

#[test]
fn the_upstreams_url_loses_its_last_slash() {
    let settings = read(&[("CHATURDATA_PROXY_UPSTREAM_URL", "https://chat.example/")]).unwrap();

    assert_eq!(settings.config.upstream.url, "https://chat.example");
}

#[test]
fn a_file_may_come_from_windows() {
    let (_dir, path) = file("\u{feff}[run]\r\nqueue = 9\r\n");

    assert_eq!(
        read_with(&[], Some(&path), &[]).unwrap().config.run.queue,
        9
    );
}

#[test]
fn what_is_printed_sets_the_same_again() {
    let pairs = [
        ("CHATURDATA_PROXY_PACE__INTERVAL", "200ms"),
        ("CHATURDATA_PROXY_PACE__MIN_GAP", "100ms"),
        ("CHATURDATA_PROXY_MODELS__ALIASES", "one,two"),
        ("CHATURDATA_PROXY_LOG", "warn"),
    ];
    let settings = read(&pairs).unwrap();
    let (_dir, path) = file(&settings.effective());

    let again = read_with(&[], Some(&path), &[]).unwrap();

    assert_eq!(
        format!("{:?}", again.config),
        format!("{:?}", settings.config)
    );
}
