//! The rules of the house that neither the compiler nor `cargo deny` can keep.
//!
//! - Walls inside crates: `fuser` only in `mount/fuse*`, `quinn` and `rustls` only in `transport*`,
//!   `bincode` only in the codec; `host`, `mount` and `transport` meet only in `rpc`.
//! - Floors: which of our crates a manifest may name.
//! - Files: a header on each, no `mod.rs`, none too long.
//! - Promises: each in `docs/SEMANTICS.md` names tests, and they exist.
//!
//! It reads the sources as text, comments and strings taken out, and knows just enough Rust for that.

use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of code in a file, its tests not counted.
const CODE_LINES_MAX: usize = 500;
/// Most lines of any file.
const FILE_LINES_MAX: usize = 800;

/// Our crates, and which of ours each may depend on.
const FLOORS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("netem", &[]),
    ("cache", &["wormhole-protocol"]),
    (
        "benches",
        &["wormhole-netem", "wormhole-protocol", "wormhole-cache"],
    ),
    (
        "daemon",
        &["wormhole-protocol", "wormhole-cache", "wormhole-benches"],
    ),
];

/// The transport, and the tests that speak to it without being a mount.
const TRANSPORT: &[&str] = &[
    "daemon/src/transport.rs",
    "daemon/src/transport/",
    "daemon/tests/congestion/",
    "daemon/tests/hostile/",
];

/// A crate, and the only places that may name it: paths that begin so.
const WALLS: &[(&str, &[&str])] = &[
    (
        "fuser",
        &["daemon/src/mount/fuse.rs", "daemon/src/mount/fuse/"],
    ),
    ("quinn", TRANSPORT),
    ("quinn_proto", TRANSPORT),
    ("rustls", TRANSPORT),
    ("bincode", &["protocol/src/codec.rs"]),
    ("moka", &["cache/src/"]),
];

/// A room of the daemon, and the rooms it must not name.
const STRANGERS: &[(&str, &[&str])] = &[
    ("host", &["mount", "transport", "cli"]),
    ("mount", &["host", "transport", "cli"]),
    ("transport", &["host", "mount", "cli"]),
    ("rpc", &["host", "mount", "transport", "cli"]),
];

fn root() -> PathBuf {
    let daemon = Path::new(env!("CARGO_MANIFEST_DIR"));
    daemon.parent().expect("the workspace").to_path_buf()
}

/// Every Rust source of the workspace: path from its root, and content.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<(String, String)>) {
        let entries = fs::read_dir(dir).expect("a readable directory");
        for entry in entries.map(|e| e.expect("a readable entry")) {
            let path = entry.path();
            if path.is_dir() {
                if entry.file_name() != "target" {
                    walk(&path, root, found);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).expect("beneath the root");
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push((name.to_str().expect("UTF-8").to_owned(), text));
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    for (member, _) in FLOORS {
        walk(&root.join(member), &root, &mut found);
    }
    assert!(found.len() > 20, "the sources are not where they should be");
    found
}

/// `source` without comments, strings and character literals.
fn code_of(source: &str) -> String {
    let mut rest = source;
    let mut code = String::with_capacity(source.len());
    while let Some(next) = rest.chars().next() {
        let word_before = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skip = match next {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' | 'b' | 'c' if !word_before => raw_string(rest).unwrap_or(0),
            '\'' => character(rest),
            _ => 0,
        };
        if skip == 0 {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skip..];
        }
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let after = text.trim_start_matches(['b', 'c']).strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let close = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + close)
}

/// The length of a character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[2..]
            .char_indices()
            .skip(1)
            .find(|(_, c)| *c == '\'')
            .map_or(0, |(at, _)| at + 3),
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// Whether `code` has `word` as an identifier of its own.
fn names(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|w| w == word)
}

/// Whether `code` reaches into the module `room` of its crate's root.
fn imports(code: &str, room: &str) -> bool {
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let starts = |path: &str| {
        path.strip_prefix(room)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    ["crate::", "super::"].iter().any(|head| {
        code.match_indices(head).any(|(at, _)| {
            let path = &code[at + head.len()..];
            match path.strip_prefix('{') {
                Some(group) => top_level(group).into_iter().any(starts),
                None => starts(path),
            }
        })
    })
}

/// The items of a `use` group, up to its closing brace.
fn top_level(group: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

/// Lines before the tests at a file's end.
fn code_lines(text: &str) -> usize {
    let tests = text.find("\n#[cfg(test)]\nmod tests {");
    tests.map_or(text, |at| &text[..at]).lines().count()
}

/// A file that holds nothing but tests or measurements.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs")
}

fn report(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn foreign_crates_stay_behind_their_walls() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let code = code_of(&text);
        for (word, homes) in WALLS {
            if names(&code, word) && !homes.iter().any(|home| path.starts_with(home)) {
                broken.push(format!("{path} names `{word}`, which belongs in {homes:?}"));
            }
        }
    }
    report(&broken);
}

#[test]
fn rooms_of_the_daemon_meet_only_at_the_seam() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let code = code_of(&text);
        for (room, strangers) in STRANGERS {
            let (file, folder) = (
                format!("daemon/src/{room}.rs"),
                format!("daemon/src/{room}/"),
            );
            if path != file && !path.starts_with(&folder) {
                continue;
            }
            for stranger in strangers.iter().filter(|s| imports(&code, s)) {
                broken.push(format!("{path}: `{room}` must not know `{stranger}`"));
            }
        }
    }
    report(&broken);
}

#[test]
fn crates_depend_only_downwards() {
    let mut broken = Vec::new();
    for (member, below) in FLOORS {
        let path = root().join(member).join("Cargo.toml");
        let manifest = fs::read_to_string(path).expect("a manifest");
        let ours = FLOORS.iter().map(|(name, _)| match *name {
            "daemon" => "wormhole".to_owned(),
            name => format!("wormhole-{name}"),
        });
        for ours in ours.filter(|ours| !below.contains(&ours.as_str())) {
            let named = |line: &str| {
                line.strip_prefix(ours.as_str())
                    .is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
            };
            if manifest.lines().any(named) {
                broken.push(format!("{member} must not depend on {ours}"));
            }
        }
    }
    report(&broken);
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//! ") {
            broken.push(format!("{path} does not begin with `//! ` and what it is"));
        }
        // In `tests/` a plain support.rs would be a test of its own.
        if path.ends_with("/mod.rs") && !is_test(&path) {
            broken.push(format!(
                "{path}: a folder's file stands beside it, as folder.rs"
            ));
        }
        let (code, all) = (code_lines(&text), text.lines().count());
        if code > CODE_LINES_MAX && !is_test(&path) {
            broken.push(format!(
                "{path} has {code} lines of code, over {CODE_LINES_MAX}"
            ));
        }
        if all > FILE_LINES_MAX {
            broken.push(format!("{path} has {all} lines, over {FILE_LINES_MAX}"));
        }
    }
    report(&broken);
}

/// Each promise of `docs/SEMANTICS.md` has a line `Tests:` with names in backticks.
#[test]
fn every_promise_names_tests_that_exist() {
    let path = root().join("docs/SEMANTICS.md");
    let text = fs::read_to_string(path).expect("the promises");
    let code: Vec<String> = sources().iter().map(|(_, text)| code_of(text)).collect();
    let mut broken = Vec::new();
    let (promises, _) = text.split_once("## Not promised").expect("both halves");
    for promise in promises.split("\n**").skip(1) {
        let number = promise.split('.').next().unwrap_or_default();
        let Some((_, tests)) = promise.split_once("\nTests: ") else {
            broken.push(format!("promise {number} names no test"));
            continue;
        };
        let tests = tests.split("\n\n").next().unwrap_or_default();
        for test in tests.split('`').skip(1).step_by(2) {
            let head = format!("fn {test}(");
            if !code.iter().any(|code| code.contains(&head)) {
                broken.push(format!("promise {number}: there is no test `{test}`"));
            }
        }
    }
    report(&broken);
}

/// What the checks above stand on.
mod reading {
    use super::{code_lines, code_of, imports, names};

    #[test]
    fn comments_and_strings_are_no_code() {
        let source = r###"
            // fuser
            /* fuser /* fuser */ fuser */
            let a = "fuser \" fuser"; let b = r#"fuser " fuser"#; let c = b"fuser"; let d = br"fuser";
            let e = '"'; let f = '\''; let g = '\u{22}'; fn h<'fuse>(x: &'fuse str) {}
            let end = after;
        "###;
        let code = code_of(source);
        assert!(!names(&code, "fuser"), "{code}");
        assert!(names(&code, "end") && names(&code, "after"), "{code}");
        assert!(names(&code_of("use fuser::X; // quinn"), "fuser"));
        assert!(!names(&code_of("let quinnish = 1;"), "quinn"));
    }

    #[test]
    fn imports_are_found_however_they_are_written() {
        for code in [
            "use crate::mount;",
            "use crate::mount::vfs::Vfs;",
            "use crate::{rpc, mount};",
            "use crate::{rpc::{Sink, Serve}, mount::{self, vfs}};",
            "use crate::{\n    mount,\n};",
            "let x = super::mount::open();",
            "use super::super::mount;",
        ] {
            assert!(imports(code, "mount"), "{code}");
        }
        for code in [
            "use crate::mountpoint;",
            "use crate::{rpc::mount, host};",
            "use rustix::mount::unmount;",
            "fn mount() {}",
        ] {
            assert!(!imports(code, "mount"), "{code}");
        }
    }

    #[test]
    fn tests_are_not_counted_as_code() {
        assert_eq!(code_lines("a\nb\n\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(code_lines("a\nb\n"), 2);
    }
}
