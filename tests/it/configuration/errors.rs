//! What is said of a wrong setting: one line that names the key, its source and what is allowed.

use super::{file, listen_flag, read, read_with};

/// What is said of this file, without the folder that it lies in.
fn said_of_file(text: &str) -> String {
    let (dir, path) = file(text);
    let said = read_with(&[], Some(&path), &[]).unwrap_err();
    said.replace(&format!("{}/", dir.path().display()), "")
}

/// A variable, a value that it does not allow, and what is said of it before the name.
const WRONG: [(&str, &str, &str); 21] = [
    (
        "CHATURDATA_PROXY_PACE__INTERVAL",
        "abc",
        "pace.interval: `abc` is not a duration, write it like 200ms, 3s or 10m",
    ),
    (
        "CHATURDATA_PROXY_SERVER__MAX_BODY",
        "ten",
        "server.max_body: `ten` is not a size, write it like 512KiB or 10MiB",
    ),
    (
        "CHATURDATA_PROXY_LISTEN",
        "8484",
        "server.listen: `8484` is not an address with a port, write it like 127.0.0.1:8484",
    ),
    (
        "CHATURDATA_PROXY_SANDBOX",
        "maybe",
        "sandbox.enabled: `maybe` is neither true nor false",
    ),
    (
        "CHATURDATA_PROXY_RUN__QUEUE",
        "-1",
        "run.queue: `-1` is not a whole number, write it like 4",
    ),
    (
        "CHATURDATA_PROXY_CONVERSATIONS__SIDE_CALLS",
        "later",
        "conversations.side_calls: unknown value `later`, expected one of `local`, `scratch`, `off`",
    ),
    (
        "CHATURDATA_PROXY_MODELS__ALIASES",
        "[1]",
        "models.aliases: is not a list; write it like one,two or [\"one\", \"two\"]",
    ),
    (
        "CHATURDATA_PROXY_PACE__MIN_GAP",
        "0s",
        "pace.min_gap: 0s is not within 1ms and 1year",
    ),
    (
        "CHATURDATA_PROXY_PACE__INTERVAL",
        "1s",
        "pace.interval: 1s is shorter than pace.min_gap, 2s; lower that too",
    ),
    (
        "CHATURDATA_PROXY_STREAM__KEEP_ALIVE_EVERY",
        "11s",
        "stream.keep_alive_every: 11s is not within 1s and 10s",
    ),
    (
        "CHATURDATA_PROXY_RUN__LIMIT",
        "1m",
        "run.limit: 1m is shorter than run.deadline, 9m 50s; lower that too",
    ),
    (
        "CHATURDATA_PROXY_SERVER__MAX_HEAD",
        "1MiB",
        "server.max_head: 1.0 MiB is not within 1.0 KiB and 384.0 KiB",
    ),
    (
        "CHATURDATA_PROXY_SERVER__MAX_HEADERS",
        "100",
        "server.max_headers: 100 is not within 8 and 99",
    ),
    (
        "CHATURDATA_PROXY_SERVER__ALLOWED_HOSTS",
        "http://proxy.lan",
        "server.allowed_hosts: `http://proxy.lan` is not a host name; write it without scheme and port",
    ),
    (
        "CHATURDATA_PROXY_SERVER__ALLOWED_ORIGINS",
        "*",
        "server.allowed_origins: `*` is not an origin, write it as browsers send it: https://chat.example",
    ),
    (
        "CHATURDATA_PROXY_CONVERSATIONS__NARROW_HEADERS",
        "X Chat",
        "conversations.narrow_headers: `X Chat` is not a header name",
    ),
    (
        "CHATURDATA_PROXY_STATE_DIR",
        "~/state",
        "state.dir: begins with `~`, which nothing expands here; write the whole path",
    ),
    (
        "CHATURDATA_PROXY_LOG",
        "verbose",
        "log.filter: `verbose` is not a filter; levels are off, error, warn, info, debug and trace, as in \
         info,chaturdata_proxy::run=debug",
    ),
    (
        "CHATURDATA_PROXY_UPSTREAM_URL",
        "http://chat.example",
        "upstream.url: must begin with https://, since a key goes there; http:// is for this machine alone",
    ),
    (
        "CHATURDATA_PROXY_UPSTREAM_URL",
        "https://sk-secret@chat.example",
        "upstream.url: must not hold a user name or password",
    ),
    (
        "CHATURDATA_PROXY_UPSTREAM__PROXY",
        "http://me:sk-secret@proxy.lan",
        "upstream.proxy: must not hold a user name or password",
    ),
];

#[test]
fn a_wrong_value_is_one_line_with_key_source_and_what_is_allowed() {
    for (name, value, expected) in WRONG {
        assert_eq!(
            read(&[(name, value)]).unwrap_err(),
            format!("{expected} (from {name})")
        );
    }
}

#[test]
fn a_wrong_flag_is_named() {
    let said = read_with(&[listen_flag("here")], None, &[]).unwrap_err();

    assert_eq!(
        said,
        "server.listen: `here` is not an address with a port, write it like 127.0.0.1:8484 (from --listen)"
    );
}

#[test]
fn a_wrong_file_is_named_with_its_line() {
    for (text, expected) in [
        (
            "[pace]\n\nintervall = '3s'\n",
            "pace.intervall: there is no such key; did you mean pace.interval? (from settings.toml, line 3)",
        ),
        (
            "[server]\ninterval = '3s'\n",
            "server.interval: there is no such key; did you mean pace.interval? (from settings.toml, line 2)",
        ),
        (
            "listen = '127.0.0.1:1'\n",
            "listen: there is no such key; did you mean server.listen? (from settings.toml, line 1)",
        ),
        (
            "[colours]\nsky = 'blue'\n",
            "colours.sky: there is no such key; `config print` lists them all (from settings.toml, line 2)",
        ),
        (
            "pace = '3s'\n",
            "pace: is a section, write [pace] (from settings.toml, line 1)",
        ),
        (
            "[pace]\ninterval = 3\n",
            "pace.interval: expected text in quotes, such as \"3s\" (from settings.toml, line 2)",
        ),
        (
            "[run]\nqueue = -1\n",
            "run.queue: must not be negative, such as 4 (from settings.toml, line 2)",
        ),
        (
            "[models]\naliases = [1]\n",
            "models.aliases: expected a list of texts, such as [\"one\", \"two\"] (from settings.toml, line 2)",
        ),
        (
            "[pace]\ninterval = '1parsec'\n",
            "pace.interval: `1parsec` is not a duration, write it like 200ms, 3s or 10m (from settings.toml, line 2)",
        ),
    ] {
        assert_eq!(said_of_file(text), expected);
    }
}

#[test]
fn a_file_that_is_not_toml_is_said_in_one_line_without_its_text() {
    let said = said_of_file("[upstream]\napi_key = sk-secret\n");

    assert!(said.starts_with("settings.toml, line 2: "), "{said}");
    assert!(
        !said.contains("sk-secret") && !said.contains('\n'),
        "{said}"
    );
}

#[test]
fn a_misspelt_variable_is_an_error_that_names_the_right_one() {
    assert_eq!(
        read(&[("CHATURDATA_PROXY_PACE__INTERVALL", "3s")]).unwrap_err(),
        "CHATURDATA_PROXY_PACE__INTERVALL: there is no such setting; did you mean CHATURDATA_PROXY_PACE__INTERVAL?"
    );
    assert_eq!(
        read(&[("CHATURDATA_PROXY_COLOURS__SKY", "blue")]).unwrap_err(),
        "CHATURDATA_PROXY_COLOURS__SKY: there is no such setting; `config print` lists them all"
    );
}

#[test]
fn two_variables_of_one_key_must_agree() {
    let short = ("CHATURDATA_PROXY_LISTEN", "127.0.0.1:1");
    let long = "CHATURDATA_PROXY_SERVER__LISTEN";

    assert!(read(&[short, (long, "127.0.0.1:1")]).is_ok());
    assert_eq!(
        read(&[short, (long, "127.0.0.1:2")]).unwrap_err(),
        "server.listen: set by CHATURDATA_PROXY_LISTEN and by CHATURDATA_PROXY_SERVER__LISTEN, which differ; \
         keep one of them"
    );
}
