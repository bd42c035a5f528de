//! A key that cannot be printed: no `Debug`, no `Display`, no `Serialize`, no `PartialEq`.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

/// The text of an API key. The only way to its text is [`Secret::expose`].
#[derive(Clone)]
#[expect(
    missing_debug_implementations,
    reason = "a key has nothing to show, not even by mistake"
)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The key itself, for the one header or hash that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Whether a file that holds a key can be read by others on this machine, as far as its mode tells.
#[cfg(unix)]
pub fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o077 != 0)
}

/// Modes tell nothing here.
#[cfg(not(unix))]
pub fn is_readable_by_others(_: &Path) -> bool {
    false
}
