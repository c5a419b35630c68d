//! The rules of the house, one test each, over the real tree.

use tests_tidy::manifest::{self, Dependencies};
use tests_tidy::plan::{ROOMS, Room};
use tests_tidy::tree::{self, File};
use tests_tidy::{Broken, assert_none, docs, hygiene, names};

fn rust_files() -> Vec<File> {
    tree::files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

fn over_rust(rule: fn(&File) -> Vec<Broken>) {
    let broken: Vec<Broken> = rust_files().iter().flat_map(rule).collect();
    assert_none(&broken);
}

fn over_all(rule: fn(&File) -> Vec<Broken>) {
    let broken: Vec<Broken> = tree::files().iter().flat_map(rule).collect();
    assert_none(&broken);
}

fn text(files: &[File], path: &str) -> String {
    let file = files.iter().find(|file| file.path == path);
    file.unwrap_or_else(|| panic!("{path} is missing")).text.clone()
}

fn over_manifests(rule: fn(&Room, &Dependencies) -> Vec<Broken>) {
    let files = tree::files();
    let workspace = text(&files, "Cargo.toml");
    let found =
        |room: &Room| manifest::dependencies(&text(&files, &format!("{}/Cargo.toml", room.path)), &workspace);
    let broken: Vec<Broken> = ROOMS.iter().flat_map(|room| rule(room, &found(room))).collect();
    assert_none(&broken);
}

#[test]
fn rooms_depend_along_the_arrows_only() {
    over_manifests(manifest::arrows);
}

#[test]
fn pure_rooms_use_only_packages_that_compute() {
    over_manifests(manifest::pure_packages);
}

#[test]
fn runtimes_are_dependencies_of_their_rooms_only() {
    over_manifests(manifest::runtimes);
}

#[test]
fn members_of_the_workspace_are_the_rooms_of_the_plan() {
    assert_none(&manifest::members(&text(&tree::files(), "Cargo.toml")));
}

#[test]
fn packages_come_from_crates_io() {
    assert_none(&manifest::lock_sources(&text(&tree::files(), "Cargo.lock")));
    over_all(hygiene::registries);
}

#[test]
fn pure_rooms_reach_no_file_socket_clock_thread_or_random_source() {
    let files = rust_files();
    let tests = names::declared_as_tests(&files);
    let is_test = |file: &File| tests.iter().any(|test| file.path.starts_with(test));
    let broken: Vec<Broken> = files.iter().filter(|file| !is_test(file)).flat_map(names::ambient).collect();
    assert_none(&broken);
}

#[test]
fn only_the_doors_name_glommio() {
    over_rust(names::glommio);
}

#[test]
fn only_the_rooms_on_tokio_name_it() {
    over_rust(names::tokio);
}

#[test]
fn storage_names_neither_engine_nor_net_and_net_of_engine_only_its_api() {
    over_rust(names::wings);
}

#[test]
fn unsafe_is_in_three_rooms_and_forbidden_elsewhere() {
    over_rust(names::no_unsafe);
    over_rust(names::forbids_unsafe);
}

#[test]
fn nothing_is_unfinished_and_no_test_is_switched_off() {
    over_rust(names::unfinished);
}

#[test]
fn no_source_file_is_longer_than_800_lines() {
    over_rust(hygiene::lines);
}

#[test]
fn nothing_names_a_path_of_somebodys_machine() {
    over_all(hygiene::machine_paths);
}

#[test]
fn the_top_level_is_fixed() {
    assert_none(&hygiene::top_level(&tree::top_level()));
}

#[test]
fn crate_roots_say_what_the_room_is() {
    over_rust(docs::crate_head);
}

#[test]
fn links_in_documents_lead_somewhere() {
    let files = tree::files();
    let broken: Vec<Broken> = files.iter().flat_map(|file| docs::links(file, &files)).collect();
    assert_none(&broken);
}

#[test]
fn the_code_map_names_every_room() {
    let files = tree::files();
    let map = files.iter().find(|file| file.path == "engine/ARCHITECTURE.md");
    assert_none(&docs::code_map(map.expect("engine/ARCHITECTURE.md is missing")));
}
