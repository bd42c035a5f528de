//! Keys that the proxy is given: where they come from, and that they are never told.

use chaturdata_proxy::secret::Secret;

use super::{environment, file, read};

/// The upstream key and the caller key, or what is said of them.
fn keys_of(pairs: &[(&str, &str)]) -> Result<(Option<String>, Option<String>), String> {
    let keys = read(pairs)?
        .keys(&environment(pairs))
        .map_err(|error| error.to_string())?;
    let text = |key: Option<Secret>| key.map(|key| key.expose().to_owned());
    Ok((text(keys.upstream), text(keys.caller)))
}

#[test]
fn keys_come_from_variables_or_from_files() {
    let (_dir, path) = file("sk-filed\n");
    let path = path.to_str().unwrap();
    let some = |text: &str| Some(text.to_owned());

    assert_eq!(keys_of(&[]), Ok((None, None)));
    assert_eq!(
        keys_of(&[("CHATURDATA_API_KEY", "sk-1")]),
        Ok((some("sk-1"), None))
    );
    assert_eq!(
        keys_of(&[("CHATURDATA_API_KEY_FILE", path)]),
        Ok((some("sk-filed"), None))
    );
    assert_eq!(
        keys_of(&[("CHATURDATA_PROXY_CALLER_KEY", "cdp_1")]),
        Ok((None, some("cdp_1")))
    );
    assert_eq!(
        keys_of(&[("CHATURDATA_PROXY_CALLER_KEY_FILE", path)]),
        Ok((None, some("sk-filed")))
    );
}

#[test]
fn white_space_around_a_key_is_not_part_of_it() {
    let pairs = [("CHATURDATA_API_KEY", " sk-1\r\n")];

    assert_eq!(keys_of(&pairs), Ok((Some("sk-1".to_owned()), None)));
}

#[test]
fn a_caller_key_that_can_be_guessed_is_warned_about() {
    for (key, warned) in [("test", true), ("cdp_a_key_for_callers", false)] {
        let pairs = [("CHATURDATA_PROXY_CALLER_KEY", key)];

        let keys = read(&pairs).unwrap().keys(&environment(&pairs)).unwrap();

        assert_eq!(!keys.warnings.is_empty(), warned, "{key}");
    }
}

#[test]
fn a_key_that_cannot_be_used_is_never_told() {
    let (_dir, path) = file("two sk-secret\nlines\n");
    let path = path.to_str().unwrap();
    for (name, value, expected) in [
        (
            "CHATURDATA_API_KEY",
            "sk secret",
            "CHATURDATA_API_KEY: does not hold a key of at most 512 visible ASCII characters without spaces",
        ),
        (
            "CHATURDATA_API_KEY_FILE",
            path,
            "upstream.api_key_file: the file does not hold a key of at most 512 visible ASCII characters \
             without spaces (from CHATURDATA_API_KEY_FILE)",
        ),
        (
            "CHATURDATA_API_KEY_FILE",
            "sk-secret",
            "upstream.api_key_file: the file cannot be read: No such file or directory (os error 2) \
             (from CHATURDATA_API_KEY_FILE)",
        ),
    ] {
        assert_eq!(keys_of(&[(name, value)]).unwrap_err(), expected);
    }
}

#[test]
fn a_key_and_a_file_for_it_are_one_too_many() {
    let both = [
        ("CHATURDATA_API_KEY", "sk-1"),
        ("CHATURDATA_API_KEY_FILE", "/run/key"),
    ];

    assert_eq!(
        keys_of(&both).unwrap_err(),
        "CHATURDATA_API_KEY and CHATURDATA_API_KEY_FILE are both set; keep one of them"
    );
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_read_is_warned_about_and_used() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, path) = file("sk-filed");
    let pairs = [("CHATURDATA_API_KEY_FILE", path.to_str().unwrap())];
    for (mode, warned) in [(0o600, false), (0o400, false), (0o640, true), (0o444, true)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();

        let keys = read(&pairs).unwrap().keys(&environment(&pairs)).unwrap();

        assert!(keys.upstream.is_some());
        assert_eq!(!keys.warnings.is_empty(), warned, "{mode:o}");
    }
}
