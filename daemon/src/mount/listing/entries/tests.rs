//! Packed entries against a map, step by step.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use wormhole_protocol::{ContentVersion, FileId, FileKind, Timestamp};

fn attr(inode: u64) -> Attr {
    let time = Timestamp::new(1_700_000_000, 5).unwrap();
    Attr {
        id: FileId {
            device: 3,
            inode,
            birth: 77,
        },
        kind: FileKind::File,
        mode: 0o644,
        links: 1,
        uid: 1,
        gid: 2,
        rdev: 0,
        size: inode * 1000,
        blocks: 8,
        accessed: time,
        modified: time,
        changed: time,
        xattrs: false,
        version: ContentVersion([1; 16]),
    }
}

fn name(i: u8) -> Name {
    Name::new(format!("name {i}")).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Push(u8, u64),
    Set(u8, Option<u64>, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..40, 0u64..1000).prop_map(|(i, inode)| Step::Push(i, inode)),
        (0u8..40, proptest::option::of(0u64..1000), 0u64..100)
            .prop_map(|(i, inode, at)| Step::Set(i, inode, at)),
    ]
}

proptest! {
    #[test]
    fn packed_entries_are_those_of_a_map(steps in proptest::collection::vec(step(), 0..120)) {
        let start = Instant::now();
        let mut entries = Entries::default();
        // What a name leads to, and when it was set; 0 for what was pushed.
        let mut model: BTreeMap<u8, (Option<u64>, u64)> = BTreeMap::new();
        let mut order = Vec::new();
        for step in steps {
            match step {
                Step::Push(i, inode) => {
                    let entry = Entry { name: name(i), attr: attr(inode) };
                    entries.push(&entry, start.into());
                    model.entry(i).or_insert_with(|| { order.push(i); (Some(inode), 0) });
                }
                Step::Set(i, inode, at) => {
                    entries.set(&name(i), inode.map(attr), (start + Duration::from_secs(at)).into());
                    let known = model.entry(i).or_insert_with(|| { order.push(i); (None, 0) });
                    if known.1 <= at {
                        *known = (inode, at);
                    }
                }
            }
        }
        entries.shrink();
        prop_assert_eq!(entries.len(), order.len());
        let live = model.values().filter(|(inode, _)| inode.is_some()).count();
        prop_assert_eq!(entries.live(), live);
        for (number, i) in order.iter().enumerate() {
            let (found, present) = entries.get(number).unwrap();
            prop_assert_eq!(&found, &name(*i));
            let (inode, at) = model[i];
            prop_assert_eq!(present.attr, inode.map(attr));
            prop_assert_eq!(present.heard.told, start + Duration::from_secs(at));
            let by_name = entries.find(&found).unwrap();
            prop_assert_eq!(by_name.attr, present.attr);
        }
        for i in 0..50 {
            prop_assert_eq!(entries.find(&name(i)).is_some(), model.contains_key(&i));
        }
    }
}

#[test]
fn what_arrives_later_counts_from_later() {
    let start = Instant::now();
    let mut entries = Entries::default();
    for i in 0..100 {
        let told = start + Duration::from_millis(u64::from(i));
        let entry = Entry {
            name: name(i),
            attr: attr(1),
        };
        entries.push(
            &entry,
            Heard {
                told,
                ..start.into()
            },
        );
    }
    for i in 0..100 {
        let told = entries.find(&name(i)).unwrap().heard.told;
        let arrived = start + Duration::from_millis(u64::from(i));
        assert!(told <= arrived && arrived - told <= RUN, "{i}");
    }
}

#[test]
fn names_that_come_and_go_wear_entries_out() {
    let now = Instant::now();
    let mut entries = Entries::default();
    let name = |i: usize| Name::new(format!("temporary {i}")).unwrap();
    let mut i = 0;
    while !entries.is_worn() {
        entries.set(&name(i), Some(attr(1)), now.into());
        entries.set(&name(i), None, now.into());
        i += 1;
        assert!(i <= GONE_MAX + 1);
    }
    assert_eq!(entries.live(), 0);
}

#[test]
fn what_nobody_knows_is_known_when_it_is_said() {
    let now = Instant::now();
    let mut entries = Entries::default();
    let entry = Entry {
        name: name(1),
        attr: attr(1),
    };
    entries.push(&entry, now.into());
    entries.doubt(&name(1), now);
    entries.doubt(&name(2), now);
    assert!(!entries.is_known());
    assert!(entries.find(&name(1)).unwrap().is_unknown);
    assert_eq!(entries.live(), 1);
    // What arrives of it is older.
    let late = Entry {
        name: name(2),
        attr: attr(2),
    };
    entries.push(&late, now.into());
    assert!(entries.find(&name(2)).unwrap().attr.is_none());
    assert!(!entries.update(&name(1), &attr(9), now.into()));
    assert!(entries.update(&name(1), &attr(1), now.into()));
    entries.set(&name(1), None, now.into());
    assert!(!entries.is_known());
    entries.set(&name(2), Some(attr(2)), now.into());
    assert!(entries.is_known());
    assert_eq!(entries.live(), 1);
}
