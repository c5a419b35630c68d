//! Rules about files as such: size, place, and what must not leak into them.

use crate::Broken;
use crate::plan::{NOT_SOURCE, TOP_LEVEL};
use crate::tree::File;

const SOURCE_LINES_MAX: usize = 800;

/// Paths of somebody's machine; spelled in halves so that this file passes.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// A source file is about one noun; past this length it is about several.
pub fn lines(file: &File) -> Vec<Broken> {
    let count = file.text.lines().count();
    if !file.path.ends_with(".rs") || count <= SOURCE_LINES_MAX {
        return Vec::new();
    }
    vec![Broken::in_file(file, "a source file has at most 800 lines", format!("{count} lines"))]
}

/// Nothing names a directory of the machine it was written on.
pub fn machine_paths(file: &File) -> Vec<Broken> {
    let mut out = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        if let Some(path) = MACHINE_PATHS.iter().find(|path| starts_a_path(line, path)) {
            out.push(Broken::in_file(file, "no machine paths", format!("line {}: {path}", number + 1)));
        }
    }
    out
}

/// `tests/work/x` is a relative path and passes.
fn starts_a_path(line: &str, path: &str) -> bool {
    let before = |at: usize| line[..at].chars().next_back();
    line.match_indices(path)
        .any(|(at, _)| !before(at).is_some_and(|c| c.is_alphanumeric() || "._-}".contains(c)))
}

/// Cargo is pointed at no registry but its own.
pub fn registries(file: &File) -> Vec<Broken> {
    const WORDS: &[&str] =
        &[concat!("replace-", "with"), concat!("sparse", "+http"), concat!("[source", ".")];
    if file.path == "Cargo.lock" {
        return Vec::new();
    }
    let named = WORDS.iter().filter(|word| file.text.contains(*word));
    named.map(|word| Broken::in_file(file, "no registry but cargo's own", (*word).to_string())).collect()
}

/// The root holds what the plan says and dotfiles.
pub fn top_level(names: &[String]) -> Vec<Broken> {
    let known = |name: &str| name.starts_with('.') || TOP_LEVEL.contains(&name) || NOT_SOURCE.contains(&name);
    let extra = names.iter().filter(|name| !known(name));
    let rule = "the top level is fixed";
    let mut out: Vec<Broken> = extra
        .map(|name| Broken { path: name.clone(), rule, what: "does not belong here".to_string() })
        .collect();
    for name in TOP_LEVEL {
        if !names.iter().any(|found| found == name) {
            out.push(Broken { path: (*name).to_string(), rule, what: "is missing".to_string() });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{lines, machine_paths, registries, top_level};
    use crate::plan::TOP_LEVEL;
    use crate::tree::File;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_string(), text: text.to_string() }
    }

    #[test]
    fn a_long_file_is_seen() {
        assert_eq!(lines(&file("a.rs", &"x\n".repeat(801))).len(), 1);
        assert_eq!(lines(&file("a.rs", &"x\n".repeat(800))), []);
        assert_eq!(lines(&file("Cargo.lock", &"x\n".repeat(5000))), []);
    }

    #[test]
    fn a_machine_path_is_seen() {
        let path = concat!("cd /wo", "rk/main");
        assert_eq!(machine_paths(&file("a.md", path)).len(), 1);
        assert_eq!(machine_paths(&file("a.md", concat!("net/ho", "me/x"))), []);
    }

    #[test]
    fn another_registry_is_seen() {
        let text = concat!("[source", ".crates-io]\nreplace-", "with = \"x\"");
        assert_eq!(registries(&file(".cargo/config.toml", text)).len(), 2);
    }

    #[test]
    fn a_stray_and_a_missing_file_at_the_root_are_seen() {
        let mut names: Vec<String> = TOP_LEVEL.iter().map(ToString::to_string).collect();
        names.push(".clippy.toml".to_string());
        assert_eq!(top_level(&names), []);
        names[0] = "notes.txt".to_string();
        assert_eq!(top_level(&names).len(), 2);
    }
}
