//! The file of caller keys in the state folder.

use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::store::callers::CallersFile;
use tempfile::TempDir;

use super::proxy::folder;

thread_local! {
    static FOLDER: TempDir = folder();
}

/// The input is the file.
pub fn caller_keys(text: &[u8]) {
    FOLDER.with(|folder| {
        let file = CallersFile::in_dir(folder.path());
        std::fs::write(file.path(), text).expect("the folder can be written to");
        match file.entries() {
            Ok(entries) => {
                let keys = file.keys().expect("the same bytes are read again");
                assert_eq!(keys.is_empty(), entries.is_empty());
                assert!(keys.name_of(&Secret::new("guessed")).is_none());
            }
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    });
}
