//! Tests of the checks before mounting, and of what needs no FUSE.

use super::*;
use std::ffi::OsStr;
use std::os::unix::fs::symlink;

#[test]
fn an_empty_directory_is_prepared_by_its_canonical_path() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap().join("real \n,x");
    std::fs::create_dir(&real).unwrap();
    symlink(&real, dir.path().join("link")).unwrap();
    for path in [
        real.clone(),
        dir.path().join("link"),
        dir.path().join("link/"),
        real.join("."),
        real.join("../link/../real \n,x/"),
    ] {
        let prepared = prepare(&path, false).unwrap();
        assert_eq!(prepared.path, real, "{path:?}");
        assert!(!prepared.removed_stale);
    }
}

#[test]
fn what_is_no_empty_directory_is_refused_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let refusal = |path: &Path| prepare(path, false).unwrap_err();

    assert!(matches!(
        refusal(&dir.path().join("none")),
        MountpointError::Missing(_)
    ));
    assert!(matches!(
        refusal(&dir.path().join("none/deeper")),
        MountpointError::Missing(_)
    ));
    assert!(matches!(refusal(&file), MountpointError::NotDirectory(_)));
    assert!(matches!(
        refusal(&file.join("below")),
        MountpointError::NotDirectory(_)
    ));
    assert!(matches!(refusal(dir.path()), MountpointError::NotEmpty(_)));
    assert!(prepare(dir.path(), true).is_ok());
    assert!(matches!(
        refusal(Path::new("/dev/fd/3")),
        MountpointError::Descriptor(_)
    ));
}

#[test]
fn a_foreign_mount_is_named() {
    match prepare(Path::new("/proc"), true).unwrap_err() {
        MountpointError::AlreadyMounted { fs_type, how, .. } => {
            assert_eq!(fs_type, "proc");
            assert_eq!(how, "umount /proc");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn names_beyond_path_max_and_invalid_utf8_fail_without_a_panic() {
    let long = PathBuf::from(format!("/{}", "a/".repeat(3000)));
    assert!(prepare(&long, false).is_err());
    let raw = Path::new(OsStr::from_bytes(b"/no\xff\n-rf"));
    assert!(matches!(
        prepare(raw, false),
        Err(MountpointError::Missing(_))
    ));
}

#[test]
fn a_file_system_with_a_living_server_is_not_stale() {
    assert!(!is_stale(Path::new("/proc")));
    assert!(!is_stale(Path::new("/does/not/exist")));
}

#[test]
fn a_name_carries_no_option() {
    assert_eq!(fs_name("a,allow_other,suid"), "a_allow_other_suid");
    assert_eq!(fs_name("a\\,b\nc d=e"), "a__b_c_d_e");
    assert_eq!(fs_name("wormhole@[::1]:7117"), "wormhole@[::1]:7117");
    assert_eq!(fs_name(&"x".repeat(999)).len(), FS_NAME_CHARS_MAX);
}

#[test]
fn fuse_conf_is_read_by_whole_lines() {
    assert!(allows_other("# a\n user_allow_other \nmount_max = 1"));
    assert!(!allows_other("#user_allow_other\nxuser_allow_other\n"));
    assert!(!allows_other(""));
}

#[test]
fn who_holds_a_folder_is_found_by_an_open_file_and_by_cwd() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().canonicalize().unwrap();

    // Other tests fork, so for an instant others may hold the same file: look for one, not for all.
    let holds_it = |pid: u32| holders(&place).iter().any(|holder| holder.pid == pid);
    let open = std::fs::File::create(place.join("open")).unwrap();
    assert!(holds_it(std::process::id()));
    drop(open);
    assert!(!holds_it(std::process::id()));

    let mut child = Command::new("cat")
        .current_dir(&place)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(holds_it(child.id()));
    drop(child.stdin.take());
    child.wait().unwrap();
    // A sibling whose name begins alike is not inside.
    assert_eq!(holders(Path::new("/pro")), []);
}

#[test]
fn unmounting_what_is_no_mount_fails() {
    let dir = tempfile::tempdir().unwrap();
    assert!(unmount(dir.path(), Unmount::Clean).is_err());
}
