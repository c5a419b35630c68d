//! Mutants do not rot: each still finds its place in the sources, once, and changes it.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
struct Mutants {
    mutant: Vec<Mutant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    story: String,
    #[serde(default)]
    scenarios: Vec<String>,
    edits: Vec<Edit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    find: String,
    replace: String,
}

const MUTANTS_MIN: usize = 15;

#[test]
fn every_mutant_finds_its_place_once() {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mutants: Mutants = toml::from_str(include_str!("../mutants/mutants.toml")).expect("well formed");
    assert!(mutants.mutant.len() >= MUTANTS_MIN);
    let mut names = BTreeSet::new();
    for Mutant { name, story, scenarios, edits } in mutants.mutant {
        assert!(names.insert(name.clone()), "{name} is there twice");
        assert!(!story.is_empty() && !edits.is_empty(), "{name}");
        for scenario in scenarios {
            tests_sim::scenario::load(&scenario).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for Edit { file, find, replace } in edits {
            let text =
                std::fs::read_to_string(house.join(&file)).unwrap_or_else(|e| panic!("{name}: {file}: {e}"));
            assert_eq!(text.matches(&find).count(), 1, "{name}: places in {file} like\n{find}");
            assert_ne!(find, replace, "{name}");
        }
    }
}
