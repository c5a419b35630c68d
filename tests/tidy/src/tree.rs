//! The files of the repository, read once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::plan::NOT_SOURCE;

#[derive(Debug, Clone)]
pub struct File {
    /// From the repository's root, with `/`.
    pub path: String,
    pub text: String,
}

/// The repository's root: two levels above this package.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("tests/tidy lies two levels below the root").to_path_buf()
}

/// Every text file, sorted by path.
pub fn files() -> Vec<File> {
    let root = root();
    let mut files = Vec::new();
    walk(&root, &root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 20, "only {} files under {}", files.len(), root.display());
    files
}

/// Names directly under the root.
pub fn top_level() -> Vec<String> {
    let entries = fs::read_dir(root()).expect("root is readable");
    entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect()
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(dir).expect("directory is readable") {
        let path = entry.expect("entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if NOT_SOURCE.contains(&name.as_ref()) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            files.push(File { path, text });
        }
    }
}
