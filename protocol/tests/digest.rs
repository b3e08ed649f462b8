//! Digests of listings: the same on both sides, different for every difference.

#[expect(dead_code, reason = "shared with the tests of frames")]
#[path = "support/samples.rs"]
mod samples;

use wormhole_protocol::digest::{ListingDigest, ListingDigester};
use wormhole_protocol::limits::LIST_DIGEST_ENTRIES_MAX;
use wormhole_protocol::{Entry, Name, Timestamp};

fn digest<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Option<ListingDigest> {
    let mut digester = ListingDigester::default();
    for entry in entries {
        digester.add(entry);
    }
    digester.finish()
}

fn entries() -> Vec<Entry> {
    let frames = samples::list_frames().into_iter();
    frames.flat_map(|(_, frame)| frame.entries).collect()
}

#[test]
fn the_order_of_entries_does_not_matter_and_everything_else_does() {
    let entries = entries();
    let known = digest(&entries);
    assert!(known.is_some());
    assert_eq!(digest(entries.iter().rev()), known);
    assert_ne!(digest(&entries[1..]), known);
    assert_ne!(digest(&[]), known);
    let twice = entries.iter().chain(&entries[..1]);
    assert_ne!(digest(twice), known);

    let changes: [fn(&mut Entry); 8] = [
        |e| e.name = Name::new("other").expect("a valid name"),
        |e| e.attr.id.inode += 1,
        |e| e.attr.mode ^= 1,
        |e| e.attr.size += 1,
        |e| e.attr.links += 1,
        |e| e.attr.modified = Timestamp::EPOCH,
        |e| e.attr.accessed = Timestamp::new(9, 9).expect("a time"),
        |e| e.attr.version.0[15] ^= 1,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut changed = entries.clone();
        change(&mut changed[2]);
        assert_ne!(digest(&changed), known, "change {number}");
    }
    // Names of two entries swapped: the same words, another meaning.
    let mut swapped = entries.clone();
    let name = swapped[0].name.clone();
    swapped[0].name = std::mem::replace(&mut swapped[1].name, name);
    assert_ne!(digest(&swapped), known);
}

#[test]
fn a_digest_is_what_it_was() {
    // Both sides compute it, so a change here is a change of the wire.
    let ListingDigest(bytes) = digest(&entries()).expect("few enough");
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        "4f9b5134ba35c3ab5d7a81e2b04ffb7f444592e5022484de7371e747775a71a3"
    );
}

/// So many entries, each with a name and an inode of its own.
fn many(count: u64) -> Vec<Entry> {
    let like = entries().remove(0);
    let entry = |number: u64| {
        let mut entry = like.clone();
        entry.name = Name::new(format!("{number}")).expect("a valid name");
        entry.attr.id.inode = number;
        entry
    };
    (0..count).map(entry).collect()
}

#[test]
fn of_many_entries_as_well_every_difference_counts_and_the_order_does_not() {
    for count in [4096, 4097, 9000] {
        let entries = many(count);
        let known = digest(&entries);
        assert!(known.is_some());
        assert_eq!(digest(entries.iter().rev()), known);
        assert_ne!(digest(&entries[1..]), known);
        assert_ne!(digest(entries.iter().chain(&entries[..1])), known);
        for at in [0, 4095, entries.len() - 1] {
            let mut changed = entries.clone();
            changed[at].attr.size += 1;
            assert_ne!(digest(&changed), known, "{count} entries, {at}");
        }
        let mut swapped = entries.clone();
        swapped[0].name = entries[1].name.clone();
        swapped[1].name = entries[0].name.clone();
        assert_ne!(digest(&swapped), known);
    }
}

#[test]
fn a_digest_of_many_is_what_it_was() {
    let hex = |count| {
        let ListingDigest(bytes) = digest(&many(count)).expect("few enough");
        bytes[..8]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    assert_eq!(hex(4096), "04a97c57187885e0");
    assert_eq!(hex(4097), "1ee3619e278c7e48");
}

#[test]
fn long_listings_have_none() {
    let entry = entries().remove(0);
    let mut digester = ListingDigester::default();
    for _ in 0..LIST_DIGEST_ENTRIES_MAX {
        assert!(digester.add(&entry));
    }
    assert!(!digester.add(&entry));
    assert_eq!(digester.finish(), None);
}
