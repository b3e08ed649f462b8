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
        "aeaf06d7aa1fde7f6366975a99dffec4676c3fc364904b72c9356fffe74e4a37"
    );
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
