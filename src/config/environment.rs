//! The process's environment, read once, and which of its names are ours.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use super::Error;

const PREFIX: &str = "CHATURDATA_PROXY_";

/// Names that set the file to read or hold a key, and so are no keys of the file.
pub const FILE: &str = "CHATURDATA_PROXY_CONFIG";
pub const CALLER_KEY: &str = "CHATURDATA_PROXY_CALLER_KEY";
pub const UPSTREAM_KEY: &str = "CHATURDATA_API_KEY";

/// Short names that stand beside the `A__B` form, for what is set most.
const SHORT: [(&str, &str); 8] = [
    ("CHATURDATA_PROXY_LISTEN", "server.listen"),
    ("CHATURDATA_PROXY_UPSTREAM_URL", "upstream.url"),
    ("CHATURDATA_PROXY_STATE_DIR", "state.dir"),
    ("CHATURDATA_PROXY_SANDBOX", "sandbox.enabled"),
    ("CHATURDATA_PROXY_LOG", "log.filter"),
    ("CHATURDATA_PROXY_ALLOW_ANYONE", "callers.allow_anyone"),
    ("CHATURDATA_PROXY_CALLER_KEY_FILE", "callers.key_file"),
    ("CHATURDATA_API_KEY_FILE", "upstream.api_key_file"),
];

/// Variables by name, without those that are empty: an empty one counts as unset.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// What a variable is to this program.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It sets this key of the file.
    Key(String),
    /// It carries our prefix, and means nothing.
    Stray,
    /// Not ours: somebody else's, put there by Kubernetes or a Docker link, or read by name.
    Other,
}

impl Environment {
    /// The environment of this process. A name that is not UTF-8 cannot be ours.
    pub fn of_process() -> Self {
        let pairs = std::env::vars_os();
        Self::of(pairs.filter_map(|(name, value)| Some((name.into_string().ok()?, value))))
    }

    pub fn of(pairs: impl IntoIterator<Item = (String, OsString)>) -> Self {
        Self(
            pairs
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
        )
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text)),
                None => {
                    let name = name.escape_debug();
                    Err(Error(format!("{name}: the value is not UTF-8 text")))
                }
            },
        }
    }
}

/// What the variable of this name is to us.
pub fn meaning(name: &str) -> Meaning {
    if let Some((_, key)) = SHORT.iter().find(|(short, _)| *short == name) {
        return Meaning::Key((*key).to_owned());
    }
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return Meaning::Other;
    };
    if is_injected(rest) || [FILE, CALLER_KEY].contains(&name) {
        Meaning::Other
    } else if rest.contains("__") {
        Meaning::Key(rest.to_lowercase().replace("__", "."))
    } else {
        Meaning::Stray
    }
}

/// The variable that sets this key.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// What Kubernetes (for a service named chaturdata-proxy) and Docker links put into every container
/// near it. No flag of ours may be called so.
fn is_injected(rest: &str) -> bool {
    rest == "PORT"
        || rest == "NAME"
        || ["PORT_", "SERVICE_", "ENV_"]
            .iter()
            .any(|start| rest.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_ours_by_its_name_alone() {
        let key = |key: &str| Meaning::Key(key.to_owned());
        for (name, expected) in [
            ("CHATURDATA_PROXY_PACE__MIN_GAP", key("pace.min_gap")),
            ("CHATURDATA_PROXY_LISTEN", key("server.listen")),
            ("CHATURDATA_API_KEY_FILE", key("upstream.api_key_file")),
            ("CHATURDATA_PROXY_CONFIG", Meaning::Other),
            ("CHATURDATA_API_KEY", Meaning::Other),
            ("CHATURDATA_PROXY_PORT", Meaning::Other),
            ("CHATURDATA_PROXY_PORT_8484_TCP_ADDR", Meaning::Other),
            ("CHATURDATA_PROXY_SERVICE_HOST", Meaning::Other),
            ("CHATURDATA_PROXY_NAME", Meaning::Other),
            ("CHATURDATA_PROXY_ENV_A__B", Meaning::Other),
            ("CHATURDATA_PROXY_LISTENS", Meaning::Stray),
            ("PATH", Meaning::Other),
        ] {
            assert_eq!(meaning(name), expected, "{name}");
        }
    }
}
