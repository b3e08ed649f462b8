//! Names, paths, link targets and attribute names against the plainest model of each.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use wormhole_protocol::name::NameError;
use wormhole_protocol::{LinkTarget, Name, RelPath, XattrName};

/// What the kernel would take as the name of an entry.
fn is_name(bytes: &[u8]) -> bool {
    (1..=255).contains(&bytes.len())
        && bytes != b"."
        && bytes != b".."
        && bytes.iter().all(|b| *b != 0 && *b != b'/')
}

/// A path is names joined by slashes, or nothing.
fn is_path(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes.len() <= 4095 && bytes.split(|b| *b == b'/').all(is_name)
}

/// Bytes in which the special ones come often.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => select(&b"./\0ab"[..]), 1 => any::<u8>()];
    prop_oneof![vec(byte, 0..8), vec(any::<u8>(), 240..270)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_name_is_what_a_directory_can_hold(bytes in bytes()) {
        match Name::new(bytes.clone()) {
            Ok(name) => {
                prop_assert!(is_name(&bytes));
                prop_assert_eq!(name.as_bytes(), &bytes);
            }
            Err(_) => prop_assert!(!is_name(&bytes)),
        }
    }

    #[test]
    fn a_path_is_names_joined(bytes in bytes()) {
        match RelPath::new(bytes.clone()) {
            Ok(path) => {
                prop_assert!(is_path(&bytes));
                prop_assert_eq!(path.as_bytes(), &bytes);
                prop_assert_eq!(path.is_root(), bytes.is_empty());
                let joined = path.components().collect::<Vec<_>>().join(&b'/');
                prop_assert_eq!(joined, bytes);
                prop_assert!(path.components().all(is_name));
            }
            Err(_) => prop_assert!(!is_path(&bytes)),
        }
    }

    #[test]
    fn joining_adds_one_component(dir in bytes(), name in bytes()) {
        let (Ok(dir), Ok(name)) = (RelPath::new(dir), Name::new(name)) else {
            return Ok(());
        };
        let child = dir.join(&name).expect("far from the limit");
        let mut expected: Vec<&[u8]> = dir.components().collect();
        expected.push(name.as_bytes());
        prop_assert_eq!(child.components().collect::<Vec<_>>(), expected);
        prop_assert_eq!(RelPath::new(child.as_bytes()), Ok(child.clone()));
    }

    #[test]
    fn what_is_shown_is_printable_ascii(bytes in bytes()) {
        let mut shown = Vec::new();
        if let Ok(name) = Name::new(bytes.clone()) {
            shown.extend([format!("{name}"), format!("{name:?}")]);
        }
        if let Ok(target) = LinkTarget::new(bytes) {
            shown.extend([format!("{target}"), format!("{target:?}")]);
        }
        for text in shown {
            prop_assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text:?}");
        }
    }

    #[test]
    fn a_link_target_is_anything_but_nul(bytes in bytes()) {
        let expected = !bytes.is_empty() && !bytes.contains(&0);
        prop_assert_eq!(LinkTarget::new(bytes).is_ok(), expected);
    }

    #[test]
    fn only_user_attributes_and_acls_have_names(
        space in select(vec!["user.", "user", "trusted.", "security.", "system.", "USER.",
            "system.posix_acl_access", "system.posix_acl_default", ""]),
        rest in bytes(),
    ) {
        let bytes = [space.as_bytes(), &rest].concat();
        let is_acl = [&b"system.posix_acl_access"[..], b"system.posix_acl_default"]
            .contains(&bytes.as_slice());
        let is_user = bytes.starts_with(b"user.")
            && (6..=255).contains(&bytes.len())
            && !bytes.contains(&0);
        let name = XattrName::new(bytes);
        prop_assert_eq!(name.is_ok(), is_user || is_acl);
        prop_assert!(name.is_err() || name.is_ok_and(|name| name.is_acl() == is_acl));
    }
}

#[test]
fn lengths_end_where_linux_ends_them() {
    assert!(Name::new(vec![b'n'; 255]).is_ok());
    assert_eq!(Name::new(vec![b'n'; 256]), Err(NameError::TooLong));
    assert!(LinkTarget::new(vec![b't'; 4095]).is_ok());
    assert_eq!(LinkTarget::new(vec![b't'; 4096]), Err(NameError::TooLong));

    let path = vec![vec![b'p'; 255]; 16].join(&b'/');
    assert_eq!(path.len(), 4095);
    let longest = RelPath::new(path.clone()).expect("4,095 bytes");
    let name = Name::new(b"x".as_slice()).expect("a valid name");
    assert_eq!(longest.join(&name), Err(NameError::TooLong));
    assert_eq!(
        RelPath::new([path, b"/x".to_vec()].concat()),
        Err(NameError::TooLong)
    );
}

#[test]
fn names_that_only_look_dangerous_are_names() {
    for name in [
        "...",
        "..a",
        "a..",
        " ",
        "-rf",
        "..%2f",
        "\\..\\",
        "a\nb",
        "\u{1b}[2J",
        ".hidden",
    ] {
        assert!(Name::new(name.as_bytes()).is_ok(), "{name:?}");
    }
}
