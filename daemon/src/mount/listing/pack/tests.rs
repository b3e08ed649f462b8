//! Records: what is written is read, and whatever is read is survived.

use super::*;
use proptest::prelude::*;

fn any_time() -> impl Strategy<Value = Timestamp> {
    let secs = prop_oneof![any::<i64>(), 1_700_000_000i64..1_800_000_000];
    (secs, 0u32..1_000_000_000).prop_map(|(secs, nanos)| Timestamp::new(secs, nanos).unwrap())
}

fn any_attr() -> impl Strategy<Value = Attr> {
    let small = prop_oneof![Just(0u64), 0u64..10_000, any::<u64>()];
    (
        (small.clone(), small.clone(), small.clone()),
        (0usize..7, any::<u16>(), any::<u32>()),
        (any::<u32>(), any::<u32>()),
        (small.clone(), small.clone(), small),
        (any_time(), any_time(), any_time()),
        (any::<bool>(), any::<[u8; 16]>()),
    )
        .prop_map(
            |(id, (kind, mode, links), (uid, gid), n, t, (xattrs, version))| Attr {
                id: FileId {
                    device: id.0,
                    inode: id.1,
                    birth: id.2,
                },
                kind: KINDS[kind],
                mode,
                links,
                uid,
                gid,
                rdev: n.0,
                size: n.1,
                blocks: n.2,
                accessed: t.0,
                modified: t.1,
                changed: t.2,
                xattrs,
                version: ContentVersion(version),
            },
        )
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        name_bytes in proptest::collection::vec(1u8..b'.', 1..255),
        value in proptest::option::of(any_attr()),
        same_base in any::<bool>(),
    ) {
        let base = match &value {
            Some(value) if same_base => Base::of(value),
            _ => Base::default(),
        };
        let given = Name::new(name_bytes.clone()).unwrap();
        let mut bytes = Vec::new();
        put(&mut bytes, &given, value.as_ref(), base);
        bytes.push(7);
        let (read_name, rest) = name(&bytes).unwrap();
        prop_assert_eq!(read_name, &name_bytes[..]);
        let (read, rest) = attr(rest, base).unwrap();
        prop_assert_eq!(read, value);
        prop_assert_eq!(rest, &[7]);
    }

    #[test]
    fn whatever_is_read_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let base = Base { device: 1, uid: 2, gid: 3 };
        if let Some((_, rest)) = name(&bytes) {
            let _ = attr(rest, base);
        }
        // What can be read is written the same way, or shorter, and means the same.
        if let Some((Some(read), _)) = attr(&bytes, base) {
            let mut again = Vec::new();
            put_attr(&mut again, &read, base);
            prop_assert_eq!(attr(&again, base), Some((Some(read), &[][..])));
        }
    }
}

#[test]
fn a_record_that_was_cut_is_none() {
    let base = Base::default();
    let mut bytes = Vec::new();
    let value = sample();
    put(&mut bytes, &Name::new("name").unwrap(), Some(&value), base);
    for len in 0..bytes.len() {
        let read = name(&bytes[..len]).and_then(|(_, rest)| attr(rest, base));
        assert!(read.is_none(), "{len}");
    }
}

#[test]
fn an_ordinary_entry_takes_some_80_bytes() {
    let value = sample();
    let mut bytes = Vec::new();
    let given = Name::new("controller.rs").unwrap();
    put(&mut bytes, &given, Some(&value), Base::of(&value));
    assert!(bytes.len() <= 80, "{}", bytes.len());
}

fn sample() -> Attr {
    let time = |secs, nanos| Timestamp::new(secs, nanos).unwrap();
    Attr {
        id: FileId {
            device: 0xfe00,
            inode: 14_680_065,
            birth: 1_763_748_000_123_456_789,
        },
        kind: FileKind::File,
        mode: 0o644,
        links: 1,
        uid: 1000,
        gid: 1000,
        rdev: 0,
        size: 10_240,
        blocks: 24,
        accessed: time(1_763_749_000, 987_654_321),
        modified: time(1_763_748_000, 123_456_789),
        changed: time(1_763_748_000, 124_456_789),
        xattrs: false,
        version: ContentVersion([9; 16]),
    }
}
