//! The committed inputs, which the others are made from.

use std::io;
use std::path::{Path, PathBuf};

/// Where a target's inputs are.
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// A target's inputs, in the order of their names.
pub fn read(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(folder(target))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    paths.sort();
    paths.into_iter().map(std::fs::read).collect()
}
