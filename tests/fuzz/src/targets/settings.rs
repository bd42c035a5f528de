//! What the program is told at its start: the settings file and the environment.

use std::ffi::OsString;
use std::path::Path;

use chaturdata_proxy::config::{Environment, Error, Settings, Sources};
use tempfile::TempDir;

use super::proxy::folder;

thread_local! {
    static FOLDER: TempDir = folder();
}

/// The input is a settings file.
pub fn file(text: &[u8]) {
    FOLDER.with(|folder| {
        let path = folder.path().join("settings");
        std::fs::write(&path, text).expect("the folder can be written to");
        match read(Some(&path), &Environment::default()) {
            Err(error) => assert_one_line(&error),
            Ok(settings) => assert_kept(&settings, &folder.path().join("effective")),
        }
    });
}

/// The input is variables, each a line: `NAME=value`.
pub fn environment(text: &[u8]) {
    let environment = Environment::of(
        text.split(|byte| *byte == b'\n')
            .filter_map(|line| {
                let at = line.iter().position(|byte| *byte == b'=')?;
                let (name, value) = line.split_at(at);
                let name = String::from_utf8(name.to_vec()).ok()?;
                // A file would be read: those of this machine are none of our inputs.
                let names_file = name.contains("FILE") || name == "CHATURDATA_PROXY_CONFIG";
                (!names_file).then(|| (name, value.get(1..).unwrap_or_default().to_vec()))
            })
            .map(|(name, value)| (name, text_of(value))),
    );
    match read(None, &environment) {
        Err(error) => assert_one_line(&error),
        Ok(settings) => {
            for warning in &settings.warnings {
                assert!(!warning.contains('\n'), "{warning}");
            }
            if let Err(error) = settings.keys(&environment) {
                assert_one_line(&error);
            }
            match settings.key_sources(&environment) {
                Err(error) => assert_one_line(&error),
                Ok(sources) => assert_eq!(sources.lines().count(), 2),
            }
        }
    }
}

#[cfg(unix)]
fn text_of(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(not(unix))]
fn text_of(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

fn read(file: Option<&Path>, environment: &Environment) -> Result<Settings, Error> {
    Settings::read(&Sources {
        flags: &[],
        file,
        environment,
    })
}

fn assert_one_line(error: &Error) {
    let Error(text) = error;
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// The settings in force, written down, are the settings in force.
fn assert_kept(settings: &Settings, path: &Path) {
    std::fs::write(path, settings.effective()).expect("the folder can be written to");
    let again = read(Some(path), &Environment::default()).expect("they were just in force");
    assert_eq!(
        format!("{:?}", again.config),
        format!("{:?}", settings.config)
    );
}
