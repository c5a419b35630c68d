//! The marks in the house's sources, found by reading them: a build knows only the marks it passed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where a mark stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From the root that was read.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
}

/// Directories that hold no product code. Marks in tests count for nothing.
const PASSED_OVER: &[&str] = &["target", "tests", "benches", "examples"];
const MARK: &str = "mark!(";

/// All marks outside tests in the Rust files under `root`, by name.
///
/// # Errors
/// When a file cannot be read; `InvalidData` when two places have a mark of one name, when a name is not
/// `room.what_happened` with the room it stands in, or is not a literal.
pub fn declared(root: &Path) -> io::Result<BTreeMap<String, Place>> {
    let mut files = Vec::new();
    rust_files(root, &mut files)?;
    files.sort();
    let mut marks = BTreeMap::new();
    for file in files {
        let path = file.strip_prefix(root).expect("below the root");
        gather(path, &fs::read_to_string(&file)?, &mut marks)?;
    }
    Ok(marks)
}

fn gather(path: &Path, text: &str, marks: &mut BTreeMap<String, Place>) -> io::Result<()> {
    for (line, name) in marks_of(text) {
        let place = Place { path: path.to_path_buf(), line };
        let name = name.ok_or_else(|| refused(&place, "a mark without a name"))?;
        if !is_name_in(&name, path) {
            return Err(refused(&place, &format!("mark {name:?} is not named room.what_happened")));
        }
        if let Some(other) = marks.insert(name.clone(), place.clone()) {
            let also = format!("mark {name:?} stands in {}:{} too", other.path.display(), other.line);
            return Err(refused(&place, &also));
        }
    }
    Ok(())
}

fn refused(place: &Place, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}:{}: {why}", place.path.display(), place.line))
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !PASSED_OVER.contains(&name.as_str()) {
                rust_files(&path, files)?;
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
    Ok(())
}

/// Lines and names of a file's marks. Tests stand at a file's foot: what follows their head is passed over.
fn marks_of(text: &str) -> Vec<(usize, Option<String>)> {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let in_comment = |at: usize| {
        let line = code[..at].rfind('\n').map_or(0, |newline| newline + 1);
        code[line..at].contains("//")
    };
    let found = code.match_indices(MARK).filter(|(at, _)| !in_comment(*at));
    found
        .map(|(at, _)| {
            let line = code[..at].matches('\n').count() + 1;
            (line, literal(code[at + MARK.len()..].trim_start()))
        })
        .collect()
}

/// The string literal at the start.
fn literal(text: &str) -> Option<String> {
    let (name, _) = text.strip_prefix('"')?.split_once('"')?;
    Some(name.to_owned())
}

/// `log.torn_tail_cut`, in a directory `log`.
fn is_name_in(name: &str, path: &Path) -> bool {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let Some((room, what)) = name.split_once('.') else { return false };
    let in_room = path.parent().is_some_and(|dir| dir.iter().any(|part| part == room));
    in_room && word(room) && what.contains('_') && what.split('_').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two levels below the root")
    }

    /// Names and lines of the marks of a file of the log's room.
    fn read(text: &str) -> Result<Vec<(String, usize)>, String> {
        let mut marks = BTreeMap::new();
        gather(Path::new("storage/log/src/a.rs"), text, &mut marks).map_err(|error| error.to_string())?;
        Ok(marks.into_iter().map(|(name, place)| (name, place.line)).collect())
    }

    #[test]
    fn marks_of_the_house_have_one_place_and_a_name() {
        let marks = declared(house()).unwrap_or_else(|error| panic!("{error}"));
        assert!(marks.values().all(|place| !place.path.starts_with("tests")));
    }

    #[test]
    fn marks_are_found_outside_comments_and_tests() {
        let text = "fn f() {\n    reach::mark!(\"log.one_thing\"); // mark!(\"log.no_mark\")\n\
                    mark!(\n    \"log.other_thing\");\n}\n\n#[cfg(test)]\nmod tests {\n mark!(\"log.in_test\");\n}";
        assert_eq!(read(text), Ok(vec![("log.one_thing".to_owned(), 2), ("log.other_thing".to_owned(), 3)]));
    }

    #[test]
    fn a_name_of_two_places_is_refused() {
        let refused = read("mark!(\"log.one_thing\")\nmark!(\"log.one_thing\")").expect_err("refused");
        let place = "storage/log/src/a.rs";
        assert_eq!(refused, format!("{place}:2: mark \"log.one_thing\" stands in {place}:1 too"));
    }

    #[test]
    fn names_of_another_shape_or_room_are_refused() {
        for name in ["log", "log.", "log.one", "log.one__two", "log.One_two", "log.one-two", "disk.one_two"] {
            assert!(read(&format!("mark!(\"{name}\")")).is_err(), "{name}");
        }
        assert!(read("mark!(name)").is_err());
    }
}
