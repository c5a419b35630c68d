//! Rules about documentation: links lead somewhere, the code map names every room.

use crate::Broken;
use crate::plan::ROOMS;
use crate::tree::File;

/// Relative links resolve to a file or directory of the tree, and their anchors to a heading of it.
pub fn links(file: &File, files: &[File]) -> Vec<Broken> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let targets = link_targets(&file.text);
    let relative = targets.iter().filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    let dead = relative.filter(|target| !resolves(file, target, files));
    dead.map(|target| Broken::in_file(file, "relative links lead somewhere", target.clone())).collect()
}

/// The code map names every room.
pub fn code_map(architecture: &File) -> Vec<Broken> {
    let missing = ROOMS.iter().filter(|room| !architecture.text.contains(room.path));
    missing
        .map(|room| Broken::in_file(architecture, "the code map names every room", room.path.to_string()))
        .collect()
}

/// Crate roots say what the room is for.
pub fn crate_head(file: &File) -> Vec<Broken> {
    let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    if !is_root || file.text.trim_start().starts_with("//!") {
        return Vec::new();
    }
    vec![Broken::in_file(
        file,
        "a crate root opens with what the room is",
        "no `//!` at its head".to_string(),
    )]
}

/// `target` of every `[text](target)` outside of code.
fn link_targets(markdown: &str) -> Vec<String> {
    let mut out = Vec::new();
    for line in prose_lines(markdown) {
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for (at, _) in prose.match_indices("](") {
            let rest = &prose[at + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            out.push(target.to_string());
        }
    }
    out
}

fn prose_lines(markdown: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    markdown.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !fence && !in_code
    })
}

fn resolves(from: &File, target: &str, files: &[File]) -> bool {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { from.path.clone() } else { joined(&from.path, path) };
    let Some(file) = files.iter().find(|file| file.path == path) else {
        let directory = format!("{}/", path.trim_end_matches('/'));
        return anchor.is_empty() && files.iter().any(|file| file.path.starts_with(&directory));
    };
    anchor.is_empty() || prose_lines(&file.text).filter_map(heading_anchor).any(|heading| heading == anchor)
}

/// The path a link in `from` means, from the root.
fn joined(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The anchor hosts make of a heading: lower case, spaces to dashes, other punctuation dropped.
fn heading_anchor(line: &str) -> Option<String> {
    let text = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    Some(kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect())
}

#[cfg(test)]
mod tests {
    use super::{code_map, crate_head, links};
    use crate::tree::File;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_string(), text: text.to_string() }
    }

    #[test]
    fn a_dead_link_is_seen() {
        let tree =
            [file("net/PROTOCOL.md", "# Head\n## Error codes, all\n"), file("net/wire/src/lib.rs", "")];
        let check = |text: &str| links(&file("net/README.md", text), &tree).len();
        assert_eq!(
            check("[a](PROTOCOL.md) [b](./wire) [c](../net/PROTOCOL.md#error-codes-all) [d](https://x.y/z)"),
            0
        );
        assert_eq!(check("[a](PROTOCOLS.md)"), 1);
        assert_eq!(check("[a](PROTOCOL.md#nowhere)"), 1);
        assert_eq!(check("`[a](x.md)`\n```\n[b](y.md)\n```\n"), 0);
    }

    #[test]
    fn a_room_missing_from_the_map_is_seen() {
        let broken = code_map(&file("engine/ARCHITECTURE.md", "storage/frame storage/log"));
        assert!(broken.iter().any(|b| b.what == "engine/shard"));
        assert!(!broken.iter().any(|b| b.what == "storage/log"));
    }

    #[test]
    fn a_crate_without_a_head_is_seen() {
        assert_eq!(crate_head(&file("net/wire/src/lib.rs", "mod a;")).len(), 1);
        assert_eq!(crate_head(&file("net/wire/src/lib.rs", "//! Wire.")), []);
    }
}
