//! The program itself, as a shell, a container or a person starts it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;

use crate::binary::{Program, Run};

const KEY: &str = "sk-canary-1234567890";

fn write(folder: &Path, text: &str) -> String {
    let path = folder.join("settings.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn config_check_says_what_the_proxy_would_do() {
    let run = Program::new().run(&["config", "check"]);

    assert_eq!(run.code, Some(0));
    assert_snapshot!(run.out, @r"
    the settings are good
    listen: 127.0.0.1:8484
    access: pass-through: callers bring the upstream key
    ");
    assert_eq!(run.err, "");
}

#[test]
fn config_print_names_the_source_of_everything_and_shows_no_key() {
    let program = Program::with(&[
        ("CHATURDATA_API_KEY", KEY),
        ("CHATURDATA_PROXY_CALLER_KEY", KEY),
        ("CHATURDATA_PROXY_PACE__INTERVAL", "4s"),
    ]);

    let run = program.run(&["config", "print", "--listen", "127.0.0.1:9"]);

    assert_eq!(run.code, Some(0));
    for line in [
        "# upstream key: from CHATURDATA_API_KEY, not shown",
        "# caller key: from CHATURDATA_PROXY_CALLER_KEY, not shown",
        "listen = \"127.0.0.1:9\" # --listen",
        "interval = \"4s\" # CHATURDATA_PROXY_PACE__INTERVAL",
        "min_gap = \"2s\" # the defaults",
    ] {
        assert!(
            run.out.lines().any(|printed| printed == line),
            "{line}: {}",
            run.out
        );
    }
    assert!(!run.out.contains(KEY) && !run.err.contains(KEY));
}

#[test]
fn what_is_wrong_is_one_line_and_exit_code_2() {
    let program = Program::new();
    let file = write(program.home.path(), "[pace]\nintervall = '3s'\n");
    let unknown_key = format!(
        "chaturdata-proxy: pace.intervall: there is no such key; did you mean pace.interval? (from {file}, line 2)"
    );
    for (arguments, expected) in [
        (
            &["--listn", "127.0.0.1:1"][..],
            "chaturdata-proxy: unexpected argument '--listn' found; tip: a similar argument exists: '--listen' \
             (--help tells what there is)",
        ),
        (
            &["--listen", "8484"],
            "chaturdata-proxy: server.listen: `8484` is not an address with a port, write it like \
             127.0.0.1:8484 (from --listen)",
        ),
        (&["--config", &file], &unknown_key),
        (
            &["--config", "/no/such.toml"],
            "chaturdata-proxy: the settings file /no/such.toml cannot be read: No such file or directory \
             (os error 2)",
        ),
        (
            &["sandbox", "--listen", "here"],
            "chaturdata-proxy: server.listen: `here` is not an address with a port, write it like 127.0.0.1:8484 (from --listen)",
        ),
        (
            &["config"],
            "chaturdata-proxy: a command is missing: check, print",
        ),
    ] {
        let run = program.run(arguments);

        assert_eq!(run.line(), expected);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""));
    }
}

#[test]
fn a_stray_variable_is_warned_about_and_ignored() {
    let run = Program::with(&[("CHATURDATA_PROXY_LISTENS", "x")]).run(&["config", "check"]);

    assert_eq!(run.code, Some(0));
    assert!(
        run.line()
            .contains("CHATURDATA_PROXY_LISTENS is no setting"),
        "{}",
        run.err
    );
}

#[test]
fn a_held_key_without_caller_keys_refuses_to_start_and_names_the_ways() {
    let program = Program::with(&[("CHATURDATA_API_KEY", KEY)]);

    let run = program.run(&["--listen", "127.0.0.1:0"]);

    assert_eq!(run.code, Some(2));
    assert_snapshot!(run.line(), @"chaturdata-proxy: the proxy holds the upstream key, so callers need keys of its own, and there are none: make one with `chaturdata-proxy keys add NAME`, or give one in CHATURDATA_PROXY_CALLER_KEY or CHATURDATA_PROXY_CALLER_KEY_FILE, or waive them with --allow-anyone");
}

#[test]
fn a_held_key_is_never_open_beyond_loopback() {
    let program = Program::with(&[("CHATURDATA_API_KEY", KEY)]);

    let run = program.run(&["--listen", "0.0.0.0:0", "--allow-anyone"]);

    assert_eq!(run.code, Some(2));
    assert_snapshot!(run.line(), @"chaturdata-proxy: --allow-anyone works on loopback alone, and 0.0.0.0:0 is beyond it: anyone there could use the upstream key that the proxy holds; give callers keys instead (chaturdata-proxy keys add NAME)");
}

#[test]
fn each_way_of_giving_callers_keys_lets_it_start() {
    let held = ("CHATURDATA_API_KEY", KEY);
    let given = Program::with(&[
        held,
        ("CHATURDATA_PROXY_CALLER_KEY", "cdp_a_key_for_callers"),
    ]);
    let added = Program::with(&[held]);
    added.run(&["keys", "add", "alice"]);
    let open = Program::with(&[held, ("CHATURDATA_PROXY_ALLOW_ANYONE", "true")]);
    for (program, access) in [
        (given, "held key: callers present keys of this proxy"),
        (added, "held key: callers present keys of this proxy"),
        (open, "held key: anyone on this machine may call"),
    ] {
        let run = program.run(&["config", "check"]);

        assert_eq!(run.code, Some(0), "{}", run.err);
        assert!(
            run.out.ends_with(&format!("access: {access}\n")),
            "{}",
            run.out
        );
    }
}

#[test]
fn the_sandbox_never_uses_a_key_and_says_so() {
    let run = Program::with(&[("CHATURDATA_API_KEY", KEY)]).run(&["config", "check", "--sandbox"]);

    assert_eq!(run.code, Some(0));
    assert!(run.out.contains("access: sandbox"), "{}", run.out);
    assert_eq!(
        run.line(),
        "chaturdata-proxy: an upstream key is given, and the sandbox never uses it"
    );
}

#[test]
fn keys_are_added_listed_and_removed() {
    let program = Program::new();

    let added = program.run(&["keys", "add", "alice"]);
    let again = program.run(&["keys", "add", "alice"]);
    let listed = program.run(&["keys", "list"]);
    let removed = program.run(&["keys", "remove", "alice"]);
    let gone = program.run(&["keys", "list"]);

    assert_eq!(added.code, Some(0));
    assert!(
        added.out.starts_with("cdp_") && added.out.len() == 48,
        "{}",
        added.out
    );
    assert_eq!((again.code, again.out.as_str()), (Some(1), ""));
    assert!(
        again.line().contains("there is a key named alice already"),
        "{}",
        again.err
    );
    assert!(listed.out.starts_with("alice\t20"), "{}", listed.out);
    assert!(!listed.out.contains(added.out.trim()));
    assert_eq!(removed.code, Some(0));
    assert_eq!(gone.out, "");
}

#[test]
fn a_damaged_file_of_caller_keys_is_named_and_left_alone() {
    let program = Program::with(&[("CHATURDATA_API_KEY", KEY)]);
    let state = program.home.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let file = state.join("caller-keys.json");
    std::fs::write(&file, "{\"version\": 1, \"keys\": [").unwrap();
    let state = state.to_str().unwrap();

    for arguments in [
        &["keys", "add", "bob"][..],
        &["config", "check"],
        &["serve"],
    ] {
        let run = program.run(&[arguments, &["--state-dir", state]].concat());

        assert_eq!(run.code, Some(1));
        assert!(
            run.line()
                .contains("caller-keys.json is damaged (line 1, column 24)"),
            "{}",
            run.err
        );
    }
    assert_eq!(
        std::fs::read_to_string(file).unwrap(),
        "{\"version\": 1, \"keys\": ["
    );
}

#[test]
fn every_shell_gets_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = Program::new().run(&["completions", shell]);

        assert_eq!(run.code, Some(0));
        assert!(run.out.contains("upstream-url"), "{shell}");
    }
}

#[test]
fn help_teaches_and_the_version_is_told() {
    let help = Program::new().run(&["--help"]);
    let version = Program::new().run(&["--version"]);

    assert_eq!((help.code, version.code), (Some(0), Some(0)));
    for word in [
        "--sandbox",
        "curl http://127.0.0.1:8484/v1/chat/completions",
        "CHATURDATA_API_KEY",
    ] {
        assert!(help.out.contains(word), "{word}");
    }
    assert_eq!(
        version.out,
        format!("chaturdata-proxy {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for arguments in [
        &["--help"][..],
        &["config", "print"],
        &["completions", "bash"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);

        let output = Program::new()
            .command(arguments)
            .stdout(writer)
            .output()
            .unwrap();

        let run = Run::of(&output);
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_taken_port_is_said_to_be() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();

    let run = Program::new().run(&["--sandbox", "--listen", &address]);

    assert_eq!(run.code, Some(1));
    assert_eq!(
        run.line(),
        format!(
            "chaturdata-proxy: {address} is taken by another program; choose another with --listen"
        )
    );
}

#[test]
fn an_address_of_another_machine_cannot_be_listened_on() {
    let run = Program::new().run(&["--listen", "192.0.2.1:8484"]);

    assert_eq!(run.code, Some(1));
    assert_eq!(
        run.line(),
        "chaturdata-proxy: 192.0.2.1:8484 is not an address of this machine; choose another with --listen"
    );
}

#[test]
fn a_proxy_that_serves_is_healthy_and_one_that_does_not_is_not() {
    let program = Program::new();
    let serving = program.serve(&["--sandbox"]);
    let address = serving.address.to_string();

    let alive = program.run(&["healthcheck", "--listen", &address]);
    drop(serving);
    let dead = program.run(&["healthcheck", "--listen", &address]);
    let unclear = program.run(&["healthcheck", "--listen", "nowhere"]);

    assert_eq!((alive.code, alive.err.as_str()), (Some(0), ""));
    assert_eq!(dead.code, Some(1));
    assert!(dead.line().contains("cannot be reached"), "{}", dead.err);
    assert_eq!(unclear.code, Some(1));
}

/// They wait until they are taken in; the system would have let 128 of them wait, and sent the others away.
#[cfg(target_os = "linux")]
#[test]
fn callers_that_come_all_at_once_all_find_room() {
    const CALLERS: usize = 300;
    let bound = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    if bound.trim().parse::<usize>().unwrap() < CALLERS {
        return;
    }
    let program = Program::with(&[("CHATURDATA_PROXY_SERVER__MAX_CONNECTIONS", "1")]);
    let serving = program.serve(&["--sandbox"]);
    let connect = |_| TcpStream::connect_timeout(&serving.address, Duration::from_secs(5));

    let callers: Result<Vec<TcpStream>, _> = (0..CALLERS).map(connect).collect();

    assert_eq!(callers.map(|callers| callers.len()).ok(), Some(CALLERS));
}

#[cfg(unix)]
#[test]
fn a_signal_is_an_orderly_end() {
    for (signal, arguments) in [
        ("TERM", &["--sandbox"][..]),
        ("INT", &["--sandbox"]),
        ("TERM", &["sandbox"]),
    ] {
        let run = Program::new().serve(arguments).end(signal);

        assert_eq!(run.code, Some(0), "{}", run.err);
        assert!(run.err.contains("stopping"), "{}", run.err);
        assert!(!run.err.contains("panic"), "{}", run.err);
    }
}

#[cfg(unix)]
#[test]
fn a_proxy_whose_stderr_is_closed_serves_on() {
    let program = Program::new();
    let mut serving = program.serve(&["--sandbox", "--log", "trace"]);
    let address = serving.address.to_string();

    serving.lines = None;

    for _ in 0..3 {
        assert_eq!(
            program.run(&["healthcheck", "--listen", &address]).code,
            Some(0)
        );
    }
}
