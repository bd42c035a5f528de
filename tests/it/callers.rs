//! The keys that callers present, and the file that keeps their hashes.

use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::store::callers::{CallersFile, Error};

#[test]
fn a_made_key_is_known_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let file = CallersFile::in_dir(&dir.path().join("state"));
    let (alice, bob) = (file.add("alice").unwrap(), file.add("bob").unwrap());

    let keys = file.keys().unwrap();
    assert_eq!(keys.name_of(&alice), Some("alice"));
    assert_eq!(keys.name_of(&bob), Some("bob"));
    assert_eq!(keys.name_of(&Secret::new("cdp_other")), None);

    file.remove("alice").unwrap();
    let keys = file.keys().unwrap();
    assert_eq!(keys.name_of(&alice), None);
    assert_eq!(keys.name_of(&bob), Some("bob"));
    let names: Vec<String> = file
        .entries()
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, ["bob"]);
}

#[test]
fn the_file_holds_hashes_and_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = CallersFile::in_dir(dir.path());

    let key = file.add("alice").unwrap();

    let text = std::fs::read_to_string(file.path()).unwrap();
    assert!(
        text.contains("\"version\": 1") && text.contains("\"alice\""),
        "{text}"
    );
    assert!(
        !text.contains(key.expose()) && !text.contains(&key.expose()[4..]),
        "{text}"
    );
}

#[test]
fn a_name_is_given_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = CallersFile::in_dir(dir.path());
    file.add("alice").unwrap();

    assert!(matches!(file.add("alice"), Err(Error::NameTaken(_))));
    assert!(matches!(file.add("environment"), Err(Error::NameTaken(_))));
    assert!(matches!(file.remove("bob"), Err(Error::NoSuchName(_))));
    for name in ["", "a b", "a/b", "é", "a\n", &"a".repeat(65)] {
        assert!(matches!(file.add(name), Err(Error::BadName)), "{name:?}");
    }
}

#[test]
fn keys_made_at_once_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = CallersFile::in_dir(dir.path());

    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let file = &file;
            scope.spawn(move || file.add(name).unwrap());
        }
    });

    assert_eq!(file.entries().unwrap().len(), 8);
}

#[test]
fn a_damaged_file_is_never_overwritten() {
    let good = {
        let dir = tempfile::tempdir().unwrap();
        let file = CallersFile::in_dir(dir.path());
        file.add("alice").unwrap();
        std::fs::read_to_string(file.path()).unwrap()
    };
    let newer = good.replace("\"version\": 1", "\"version\": 2, \"colour\": 1");
    let hash = good.replace("\"sha256\": \"", "\"sha256\": \"zz");
    for damaged in [
        "",
        "{}",
        &good[..good.len() / 2],
        &hash,
        &newer,
        "[\"sk-secret\"]",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = CallersFile::in_dir(dir.path());
        std::fs::write(file.path(), damaged).unwrap();

        let said = file.keys().unwrap_err().to_string();
        let added = file.add("bob");
        let removed = file.remove("alice");

        assert!(
            said.ends_with("left as it is") || said.contains("is damaged"),
            "{said}"
        );
        assert!(
            !said.contains("sk-secret") && !said.contains('\n'),
            "{said}"
        );
        assert!(added.is_err() && removed.is_err(), "{damaged}");
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), damaged);
    }
}

#[cfg(unix)]
#[test]
fn the_file_and_its_folder_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state/chaturdata-proxy");
    let file = CallersFile::in_dir(&state);
    file.add("alice").unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;

    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(file.path()), 0o600);
    assert!(!file.is_readable_by_others());

    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(file.is_readable_by_others());
    assert!(!file.keys().unwrap().is_empty());
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_replaced_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = CallersFile::in_dir(dir.path());
    file.add("alice").unwrap();
    let before = std::fs::read_to_string(file.path()).unwrap();
    // The new file cannot be written where a folder has its name.
    std::fs::create_dir(dir.path().join("caller-keys.json.new")).unwrap();

    let added = file.add("bob");

    assert!(matches!(added, Err(Error::Unwritable(..))));
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), before);
}
