//! Rules about what a source file names.

use crate::Broken;
use crate::plan::{Kind, ON_TOKIO, UNSAFE, room_of};
use crate::source::{paths, starts_with, test_modules, tokens, without_tests};
use crate::tree::File;

/// Paths (from any segment on) that reach outside, with what they reach.
const AMBIENT: &[(&[&str], &str)] = &[
    (&["std", "fs"], "files"),
    (&["File", "open"], "files"),
    (&["File", "create"], "files"),
    (&["OpenOptions"], "files"),
    (&["TcpStream"], "sockets"),
    (&["TcpListener"], "sockets"),
    (&["UdpSocket"], "sockets"),
    (&["UnixStream"], "sockets"),
    (&["UnixListener"], "sockets"),
    (&["UnixDatagram"], "sockets"),
    (&["Instant", "now"], "the clock"),
    (&["SystemTime", "now"], "the clock"),
    (&["UNIX_EPOCH", "elapsed"], "the clock"),
    (&["std", "thread"], "threads"),
    (&["thread", "spawn"], "threads"),
    (&["thread", "sleep"], "threads"),
    (&["rand"], "randomness"),
    (&["fastrand"], "randomness"),
    (&["getrandom"], "randomness"),
    (&["thread_rng"], "randomness"),
    (&["OsRng"], "randomness"),
    (&["SystemRandom"], "randomness"),
    (&["std", "process"], "processes"),
    (&["std", "env"], "the environment"),
    (&["libc"], "system calls"),
];

/// Addresses are values; everything else of `std::net` is a socket.
const ADDRESSES: &[&str] =
    &["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6", "AddrParseError"];

/// A pure room reaches nothing outside; its tests may.
pub fn ambient(file: &File) -> Vec<Broken> {
    if room_of(&file.path).is_none_or(|room| room.kind != Kind::Pure) || is_test_file(&file.path) {
        return Vec::new();
    }
    let mut out = Vec::new();
    for path in paths(&without_tests(&tokens(&file.text))) {
        let hit = AMBIENT.iter().find(|(form, _)| contains(&path, form));
        if let Some((_, reached)) = hit {
            out.push(Broken::in_file(
                file,
                "a pure room reaches nothing outside",
                format!("{} ({reached})", path.join("::")),
            ));
        } else if is_socket(&path) {
            out.push(Broken::in_file(
                file,
                "a pure room reaches nothing outside",
                format!("{} (sockets)", path.join("::")),
            ));
        }
    }
    out
}

/// Only the doors name glommio, tests included.
pub fn glommio(file: &File) -> Vec<Broken> {
    let allowed = room_of(&file.path).is_some_and(|room| room.kind == Kind::Door);
    named_crate(file, allowed, "glommio", "only doors name glommio")
}

/// Only the rooms on tokio name it, tests included.
pub fn tokio(file: &File) -> Vec<Broken> {
    let allowed = room_of(&file.path).is_some_and(|room| ON_TOKIO.contains(&room.path));
    named_crate(file, allowed, "tokio", "only the rooms on tokio name it")
}

/// Storage names neither engine nor net; net names of engine only its api.
pub fn wings(file: &File) -> Vec<Broken> {
    let mut out = Vec::new();
    for path in paths(&tokens(&file.text)) {
        let first = path[0].as_str();
        let engine = first.starts_with("engine_");
        let net = first.starts_with("net_") || first == "millstream_client";
        if path.len() < 2 {
            continue;
        }
        if file.path.starts_with("storage/") && (engine || net) {
            out.push(Broken::in_file(file, "storage names neither engine nor net", path.join("::")));
        }
        if file.path.starts_with("net/") && engine && first != "engine_api" {
            out.push(Broken::in_file(file, "net names of engine only its api", path.join("::")));
        }
    }
    out
}

/// `unsafe` in the rooms of the plan only.
pub fn no_unsafe(file: &File) -> Vec<Broken> {
    if in_room(file, UNSAFE) {
        return Vec::new();
    }
    let count = tokens(&file.text).iter().filter(|token| *token == "unsafe").count();
    let what = || format!("{count} times `unsafe`");
    if count == 0 {
        Vec::new()
    } else {
        vec![Broken::in_file(file, "unsafe only in the doors below engine/core and in bench/disk", what())]
    }
}

/// Crate roots forbid it.
pub fn forbids_unsafe(file: &File) -> Vec<Broken> {
    let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    if !is_root || in_room(file, UNSAFE) {
        return Vec::new();
    }
    let form = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];
    let tokens = tokens(&file.text);
    if (0..tokens.len()).any(|at| starts_with(&tokens[at..], &form)) {
        return Vec::new();
    }
    vec![Broken::in_file(
        file,
        "a crate root forbids unsafe code",
        "#![forbid(unsafe_code)] is missing".to_string(),
    )]
}

/// Nothing unfinished or switched off.
pub fn unfinished(file: &File) -> Vec<Broken> {
    const FORMS: &[&[&str]] = &[
        &["todo", "!"],
        &["unimplemented", "!"],
        &["dbg", "!"],
        &["#", "[", "ignore", "]"],
        &["#", "[", "ignore", "="],
    ];
    let tokens = tokens(&file.text);
    let mut out = Vec::new();
    for at in 0..tokens.len() {
        if let Some(form) = FORMS.iter().find(|form| starts_with(&tokens[at..], form)) {
            out.push(Broken::in_file(file, "nothing unfinished, no test switched off", form.concat()));
        }
    }
    out
}

/// Files that hold only tests: `tests.rs`, `tests/`, `benches/`, `examples/`.
pub fn is_test_file(path: &str) -> bool {
    let inside = path.split('/').skip(2);
    inside.into_iter().any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "examples"))
}

/// Files whose module is declared under `#[cfg(test)]` elsewhere in the same room.
pub fn declared_as_tests(files: &[File]) -> Vec<String> {
    let mut out = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let dir = module_dir(&file.path);
        for name in test_modules(&tokens(&file.text)) {
            out.push(format!("{dir}/{name}.rs"));
            out.push(format!("{dir}/{name}/"));
        }
    }
    out
}

/// Where the modules declared in `path` live.
fn module_dir(path: &str) -> String {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "lib.rs" | "main.rs" | "mod.rs" => dir.to_string(),
        _ => path.trim_end_matches(".rs").to_string(),
    }
}

fn in_room(file: &File, rooms: &[&str]) -> bool {
    room_of(&file.path).is_some_and(|room| rooms.contains(&room.path))
}

fn named_crate(file: &File, allowed: bool, name: &str, rule: &'static str) -> Vec<Broken> {
    if allowed {
        return Vec::new();
    }
    let all = paths(&tokens(&file.text));
    let named = all.iter().filter(|path| path.len() > 1 && path[0] == name);
    named.map(|path| Broken::in_file(file, rule, path.join("::"))).collect()
}

fn contains(path: &[String], form: &[&str]) -> bool {
    // A crate is only named by a path's first segment; `self.rand` is a field.
    if let [one] = form
        && one.starts_with(char::is_lowercase)
    {
        return path.len() > 1 && path[0] == *one;
    }
    path.windows(form.len()).any(|part| part.iter().zip(form).all(|(a, b)| a == b))
}

fn is_socket(path: &[String]) -> bool {
    match path {
        [std, net, name, ..] if std == "std" && net == "net" => {
            !ADDRESSES.contains(&name.as_str()) && name != "self"
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ambient, declared_as_tests, forbids_unsafe, glommio, is_test_file, no_unsafe, tokio, unfinished,
        wings,
    };
    use crate::tree::File;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_string(), text: text.to_string() }
    }

    #[test]
    fn each_way_out_of_a_pure_room_is_seen() {
        for text in [
            "use std::{io, fs};",
            "let f = File::open(p);",
            "use std::net::UdpSocket;",
            "use std::net::{SocketAddr, ToSocketAddrs};",
            "let t = Instant::now();",
            "let t = std::time::SystemTime::now();",
            "let r = rand::random();",
            "use getrandom::fill;",
            "std::thread::spawn(f);",
            "use std::thread;",
            "std::env::var(x);",
            "libc::getpid();",
        ] {
            assert_eq!(ambient(&file("engine/shard/src/a.rs", text)).len(), 1, "{text}");
            assert_eq!(ambient(&file("engine/core/src/a.rs", text)), [], "a door may: {text}");
            assert_eq!(ambient(&file("engine/shard/src/a/tests.rs", text)), [], "a test may: {text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_way_out_is_let_through() {
        for text in [
            "use std::net::{IpAddr, SocketAddr};",
            "/// Not: std::fs.\nfn thread() { self.rand.next() }",
            "#[cfg(test)] mod tests { fn t() { Instant::now(); } }",
            "use std::time::Instant; fn f(now: Instant) {}",
            "let a = \"std::fs\";",
        ] {
            assert_eq!(ambient(&file("net/quic/src/a.rs", text)), [], "{text}");
        }
    }

    #[test]
    fn runtimes_in_the_wrong_room_are_seen() {
        let text = "use glommio::LocalExecutor; fn a() { tokio::spawn(b); }";
        assert_eq!(glommio(&file("engine/shard/src/a.rs", text)).len(), 1);
        assert_eq!(glommio(&file("storage/disk/src/a.rs", text)), []);
        assert_eq!(tokio(&file("storage/disk/src/a.rs", text)).len(), 1);
        assert_eq!(tokio(&file("net/client/src/a.rs", text)), []);
    }

    #[test]
    fn a_wing_that_looks_back_is_seen() {
        assert_eq!(wings(&file("storage/log/src/a.rs", "use engine_api::Request;")).len(), 1);
        assert_eq!(wings(&file("storage/log/src/a.rs", "use net_wire::Frame;")).len(), 1);
        assert_eq!(wings(&file("net/quic/src/a.rs", "use engine_shard::Shard;")).len(), 1);
        assert_eq!(wings(&file("net/quic/src/a.rs", "use engine_api::Request;")), []);
    }

    #[test]
    fn unsafe_is_seen_outside_of_its_rooms() {
        let text = "#![forbid(unsafe_code)] // unsafe\nfn a() { unsafe { b() } }";
        assert_eq!(no_unsafe(&file("net/quic/src/a.rs", text)).len(), 1);
        assert_eq!(no_unsafe(&file("net/sockets/src/a.rs", text)), []);
        assert_eq!(forbids_unsafe(&file("net/quic/src/lib.rs", text)), []);
        assert_eq!(forbids_unsafe(&file("net/quic/src/lib.rs", "// #![forbid(unsafe_code)]")).len(), 1);
        assert_eq!(forbids_unsafe(&file("net/quic/src/other.rs", "")), []);
    }

    #[test]
    fn unfinished_work_is_seen() {
        for text in
            ["fn a() { todo!() }", "unimplemented!()", "dbg!(x)", "#[ignore] fn t() {}", "#[ignore = \"x\"]"]
        {
            assert_eq!(unfinished(&file("a/b/src/c.rs", text)).len(), 1, "{text}");
        }
        assert_eq!(unfinished(&file("a/b/src/c.rs", "// todo!()\nlet todo = ignore;")), []);
    }

    #[test]
    fn test_files_are_told_by_their_place_or_their_declaration() {
        assert!(is_test_file("net/quic/src/a/tests.rs"));
        assert!(is_test_file("net/quic/tests/a.rs"));
        assert!(!is_test_file("tests/tidy/src/lib.rs"));
        let found = declared_as_tests(&[file("net/quic/src/server.rs", "#[cfg(test)] mod pair;")]);
        assert_eq!(found, ["net/quic/src/server/pair.rs", "net/quic/src/server/pair/"]);
    }
}
