//! Two mounts that hold leases, and programs on the host: what one changes the others see, though the mounts
//! believe for an hour what they were told.

use crate::pair::{Pair, owned, writable};
use crate::support::world::Options;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Long enough that whatever is seen was told.
fn believing() -> Options {
    Options {
        attr_ttl: Duration::from_secs(3600),
        ..owned()
    }
}

const ROUNDS: u32 = 20;

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// What is in a file, or why not.
fn content(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| error.to_string())
}

/// The names in a directory, or why not.
fn names(dir: &Path) -> Vec<String> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return vec![error.to_string()],
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Looks for what is said to have changed, wherever it must be seen.
type See<'a> = &'a dyn Fn(&str, &dyn Fn(&Path) -> bool);

/// Each way of changing a folder with one entry, done in `at`; `see` looks at it where it must be seen.
fn changes(at: &Path, see: See<'_>) {
    for round in 0..ROUNDS {
        let text = format!("round {round}");
        fs::write(at.join("new"), &text).unwrap();
        see("a new file", &|dir| {
            exists(&dir.join("new")) && content(&dir.join("new")) == text
        });
        see("a new name in a listing", &|dir| {
            names(dir).contains(&"new".to_owned())
        });
        fs::write(at.join("new"), "more than that").unwrap();
        see("other content", &|dir| {
            content(&dir.join("new")) == "more than that"
        });
        let mode = 0o600 | (round & 0o77);
        fs::set_permissions(at.join("new"), fs::Permissions::from_mode(mode)).unwrap();
        see("a mode", &|dir| {
            fs::metadata(dir.join("new")).is_ok_and(|meta| meta.mode() & 0o777 == mode)
        });
        fs::write(at.join("other"), "other").unwrap();
        fs::rename(at.join("other"), at.join("new")).unwrap();
        see("a file renamed over", &|dir| {
            !exists(&dir.join("other")) && content(&dir.join("new")) == "other"
        });
        fs::create_dir(at.join("sub")).unwrap();
        see("a new directory", &|dir| names(&dir.join("sub")).is_empty());
        fs::rename(at.join("new"), at.join("sub/new")).unwrap();
        see("a file moved", &|dir| {
            !exists(&dir.join("new")) && content(&dir.join("sub/new")) == "other"
        });
        fs::rename(at.join("sub"), at.join("moved")).unwrap();
        see("a directory moved", &|dir| {
            !exists(&dir.join("sub/new")) && exists(&dir.join("moved/new"))
        });
        fs::remove_file(at.join("moved/new")).unwrap();
        see("a file removed", &|dir| !exists(&dir.join("moved/new")));
        fs::remove_dir(at.join("moved")).unwrap();
        see("a directory removed", &|dir| !exists(&dir.join("moved")));
        std::os::unix::fs::symlink(&text, at.join("link")).unwrap();
        see("a symlink", &|dir| {
            fs::read_link(dir.join("link")).is_ok_and(|to| to == Path::new(&text))
        });
        fs::remove_file(at.join("link")).unwrap();
        see("a symlink removed", &|dir| {
            !exists(&dir.join("link")) && names(dir).len() == 1
        });
    }
}

/// Where things change: the root of the share holds a folder, which holds a file.
const FOLDERS: [&str; 2] = ["", "d"];

/// Folders both mounts have seen.
fn seen(share: &Path, mounts: &[&Path]) {
    fs::create_dir(share.join("d")).unwrap();
    fs::write(share.join("d/old"), "old").unwrap();
    for mount in mounts {
        // So that the root is not believed to hold nothing.
        while !exists(&mount.join("d")) {
            std::thread::yield_now();
        }
        assert_eq!(names(&mount.join("d")), ["old"]);
        assert!(!exists(&mount.join("d/new")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_mount_changed_is_seen_when_its_call_has_returned() {
    let pair = Pair::with(&believing(), writable()).await;
    let work = |a: &Path, b: &Path, share: &Path| {
        seen(share, &[a, b]);
        for (at, other) in [(a, b), (b, a)] {
            for folder in FOLDERS {
                let (at, other) = (at.join(folder), other.join(folder));
                changes(&at, &|what, seen| {
                    assert!(seen(&at), "{what} in {folder:?}: not seen by who did it");
                    assert!(seen(&other), "{what} in {folder:?}: not seen by the other");
                });
            }
        }
    };
    pair.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_on_the_host_changed_is_seen_soon() {
    let pair = Pair::with(&believing(), writable()).await;
    let work = |a: &Path, b: &Path, share: &Path| {
        seen(share, &[a, b]);
        for folder in FOLDERS {
            changes(&share.join(folder), &|what, seen| {
                for mount in [a, b] {
                    let begun = Instant::now();
                    while !seen(&mount.join(folder)) {
                        assert!(
                            begun.elapsed() < Duration::from_secs(5),
                            "{what} in {folder:?}: not seen in time"
                        );
                        std::thread::yield_now();
                    }
                }
            });
        }
    };
    pair.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_open_shows_what_another_mount_wrote() {
    let pair = Pair::with(&believing(), writable()).await;
    let work = |a: &Path, b: &Path, share: &Path| {
        seen(share, &[a, b]);
        let mut reader = fs::File::open(b.join("d/old")).unwrap();
        let mut read = || {
            let mut text = String::new();
            reader.seek(SeekFrom::Start(0)).unwrap();
            reader.read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(read(), "old");
        for round in 0..ROUNDS {
            let mut writer = fs::File::create(a.join("d/old")).unwrap();
            writeln!(writer, "of round {round}").unwrap();
            drop(writer);
            assert_eq!(read(), format!("of round {round}\n"));
        }
    };
    pair.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_once_is_looked_at_again_without_a_request() {
    // The short term ends at once: only leases can serve.
    let options = Options {
        attr_ttl: Duration::from_millis(1),
        ..owned()
    };
    let pair = Pair::with(&options, writable()).await;
    let (a, share) = (pair.a(), pair.share());
    let walk = move || {
        for dir in 0..10 {
            let dir = a.join(format!("d{dir}"));
            assert_eq!(names(&dir).len(), 20);
            for file in 0..20 {
                assert_eq!(fs::metadata(dir.join(format!("f{file}"))).unwrap().len(), 1);
            }
            assert!(!exists(&dir.join("none")));
        }
    };
    crate::blocking(move || {
        for dir in 0..10 {
            let dir = share.join(format!("d{dir}"));
            fs::create_dir(&dir).unwrap();
            for file in 0..20 {
                fs::write(dir.join(format!("f{file}")), "x").unwrap();
            }
        }
    })
    .await;
    crate::blocking(walk.clone()).await;
    crate::blocking(walk.clone()).await;
    let before = pair.mounted(0).snapshot();
    assert!(before.leases.held >= 11 && before.leases.live);
    crate::blocking(walk).await;
    let after = pair.mounted(0).snapshot();
    let asked = |at: &wormhole::mount::MountSnapshot| {
        let remote = &at.remote;
        remote.lookup + remote.getattr + remote.list + remote.renewal
    };
    assert_eq!(asked(&after), asked(&before));
    pair.end().await;
}
