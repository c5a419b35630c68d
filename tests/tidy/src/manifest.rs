//! Rules about `Cargo.toml`: which room may depend on which package.

use toml::{Table, Value};

use crate::Broken;
use crate::plan::{EVERYWHERE, IN_TESTS, Kind, ON_TOKIO, PURE_PACKAGES, ROOMS, Room};

/// Packages that bring tokio with them.
const TOKIO: &[&str] = &["tokio", "quinn", "hyper-util", "tokio-util", "tokio-stream"];

/// Dependencies as package names, by section.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    pub normal: Vec<String>,
    pub dev: Vec<String>,
}

/// `workspace` is the root manifest: it knows the package behind a renamed dependency.
pub fn dependencies(manifest: &str, workspace: &str) -> Dependencies {
    let manifest: Table = manifest.parse().expect("a room's Cargo.toml is TOML");
    let workspace: Table = workspace.parse().expect("the root Cargo.toml is TOML");
    let renamed = workspace.get("workspace").and_then(|w| w.get("dependencies")).and_then(Value::as_table);
    let section = |name: &str| -> Vec<String> {
        let table = manifest.get(name).and_then(Value::as_table);
        table.into_iter().flatten().map(|(key, value)| package(key, value, renamed)).collect()
    };
    let mut normal = section("dependencies");
    normal.extend(section("build-dependencies"));
    Dependencies { normal, dev: section("dev-dependencies") }
}

fn package(key: &str, value: &Value, workspace: Option<&Table>) -> String {
    let shared = workspace.and_then(|w| w.get(key));
    let name = value.get("package").or_else(|| shared.and_then(|s| s.get("package")));
    name.and_then(Value::as_str).unwrap_or(key).to_string()
}

/// Arrows between rooms, dev-dependencies included: a test may not look where its room may not, but
/// for the stand-ins made for tests.
pub fn arrows(room: &Room, found: &Dependencies) -> Vec<Broken> {
    let house = |name: &String| {
        ROOMS.iter().any(|other| other.package == name) && !EVERYWHERE.contains(&name.as_str())
    };
    let dev = found.dev.iter().filter(|name| !IN_TESTS.contains(&name.as_str()));
    let all = found.normal.iter().chain(dev).filter(|name| house(name));
    let wrong = all.filter(|name| !room.uses.contains(&name.as_str()) && *name != room.package);
    wrong.map(|name| broken(room, "an arrow the plan does not have", name)).collect()
}

/// Pure rooms use only packages known to compute and nothing else.
pub fn pure_packages(room: &Room, found: &Dependencies) -> Vec<Broken> {
    if room.kind != Kind::Pure {
        return Vec::new();
    }
    let foreign = found.normal.iter().filter(|name| !name.starts_with("millstream-"));
    let wrong = foreign.filter(|name| !PURE_PACKAGES.contains(&name.as_str()));
    wrong.map(|name| broken(room, "a pure room uses only packages of the pure list", name)).collect()
}

/// Only the doors name glommio, only the shells named in the plan tokio.
pub fn runtimes(room: &Room, found: &Dependencies) -> Vec<Broken> {
    let mut out = Vec::new();
    for name in found.normal.iter().chain(&found.dev) {
        if name == "glommio" && room.kind != Kind::Door {
            out.push(broken(room, "only doors name glommio", name));
        }
        if TOKIO.contains(&name.as_str()) && !ON_TOKIO.contains(&room.path) {
            out.push(broken(room, "only the rooms on tokio name it", name));
        }
    }
    out
}

/// The workspace's members are exactly the rooms of the plan.
pub fn members(workspace: &str) -> Vec<Broken> {
    let table: Table = workspace.parse().expect("the root Cargo.toml is TOML");
    let members = table.get("workspace").and_then(|w| w.get("members")).and_then(Value::as_array);
    let members: Vec<&str> = members.into_iter().flatten().filter_map(Value::as_str).collect();
    let rule = "members and the rooms of tests/tidy/src/plan.rs are the same";
    let unknown = members.iter().filter(|path| !ROOMS.iter().any(|room| room.path == **path));
    let missing = ROOMS.iter().map(|room| &room.path).filter(|path| !members.contains(path));
    unknown
        .chain(missing)
        .map(|path| Broken { path: "Cargo.toml".to_string(), rule, what: (*path).to_string() })
        .collect()
}

/// Every package comes from crates.io or this repository.
pub fn lock_sources(lock: &str) -> Vec<Broken> {
    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
    let table: Table = lock.parse().expect("Cargo.lock is TOML");
    let packages = table.get("package").and_then(Value::as_array);
    let sources = packages.into_iter().flatten().filter_map(|p| p.get("source")).filter_map(Value::as_str);
    let wrong = sources.filter(|source| *source != CRATES_IO);
    wrong
        .map(|source| Broken {
            path: "Cargo.lock".to_string(),
            rule: "packages come from crates.io",
            what: source.to_string(),
        })
        .collect()
}

fn broken(room: &Room, rule: &'static str, name: &str) -> Broken {
    Broken { path: format!("{}/Cargo.toml", room.path), rule, what: name.to_string() }
}

#[cfg(test)]
mod tests {
    use super::{Dependencies, arrows, dependencies, lock_sources, members, pure_packages, runtimes};
    use crate::plan::room_of;

    fn found(normal: &[&str], dev: &[&str]) -> Dependencies {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Dependencies { normal: owned(normal), dev: owned(dev) }
    }

    #[test]
    fn renamed_dependencies_are_seen_as_their_package() {
        let workspace =
            "[workspace.dependencies]\nlog = { package = \"millstream-storage-log\", path = \"x\" }";
        let manifest = "[dependencies]\nlog = { workspace = true }\nb = \"1\"\n[dev-dependencies]\nc = { package = \"d\" }";
        assert_eq!(dependencies(manifest, workspace), found(&["b", "millstream-storage-log"], &["d"]));
    }

    #[test]
    fn a_backward_arrow_is_reported_even_in_dev_dependencies() {
        let room = room_of("storage/log/x").expect("room");
        let ok = found(&["millstream-storage-frame"], &[]);
        assert_eq!(arrows(room, &ok), []);
        let bad = found(&["millstream-engine-api"], &["millstream-storage-disk"]);
        assert_eq!(arrows(room, &bad).len(), 2);
    }

    #[test]
    fn a_package_that_acts_is_reported_in_a_pure_room() {
        let room = room_of("engine/shard/x").expect("room");
        assert_eq!(pure_packages(room, &found(&["bytes"], &["proptest"])), []);
        assert_eq!(pure_packages(room, &found(&["rand", "libc"], &[])).len(), 2);
    }

    #[test]
    fn runtimes_in_the_wrong_room_are_reported() {
        let quic = room_of("net/quic/x").expect("room");
        assert_eq!(runtimes(quic, &found(&["tokio"], &["glommio"])).len(), 2);
        let disk = room_of("storage/disk/x").expect("room");
        assert_eq!(runtimes(disk, &found(&["glommio"], &[])), []);
        assert_eq!(runtimes(disk, &found(&[], &["quinn"])).len(), 1);
    }

    #[test]
    fn a_member_outside_the_plan_and_a_missing_room_are_reported() {
        let broken = members("[workspace]\nmembers = [\"storage/frame\", \"engine/extra\"]");
        assert!(broken.iter().any(|b| b.what == "engine/extra"));
        assert!(broken.iter().any(|b| b.what == "storage/log"));
    }

    #[test]
    fn a_package_from_elsewhere_is_reported() {
        let lock =
            "[[package]]\nname = \"a\"\nsource = \"git+https://example.org/a\"\n[[package]]\nname = \"b\"";
        assert_eq!(lock_sources(lock).len(), 1);
    }
}
