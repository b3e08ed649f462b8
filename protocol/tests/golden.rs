//! Golden bytes: what every message looks like on the wire, pinned.
//!
//! A change here is a change of the wire: it needs a new [`wormhole_protocol::WireVersion`], and the
//! old bytes must still be read by whoever speaks the old version. The bytes are whole frames:
//! length prefix (u32, little endian), then the body.

#[path = "support/samples.rs"]
mod samples;

use std::collections::BTreeMap;
use std::fmt::Debug;
use wormhole_protocol::codec::{Wire, body_len};
use wormhole_protocol::limits::FRAME_PREFIX_BYTES;

/// `kind<TAB>label<TAB>hex`, one line per sample.
const GOLDEN: &str = include_str!("golden/frames.tsv");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hexadecimal"))
        .collect()
}

fn pinned() -> BTreeMap<(&'static str, &'static str), &'static str> {
    GOLDEN
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut fields = line.split('\t');
            let mut field = || fields.next().expect("three fields");
            ((field(), field()), field())
        })
        .collect()
}

/// Checks the samples of one kind in both directions; returns how many there were.
fn check<T: Wire + PartialEq + Debug>(
    kind: &'static str,
    samples: Vec<samples::Sample<T>>,
    failures: &mut String,
) -> usize {
    let pinned = pinned();
    let count = samples.len();
    for (label, value) in samples {
        let frame = value.to_frame().expect("samples are within limits");
        let Some(golden) = pinned.get(&(kind, label)) else {
            failures.push_str(&format!("{kind}\t{label}\t{}\n", hex(&frame)));
            continue;
        };
        assert_eq!(hex(&frame), **golden, "{kind} {label}: the wire changed");

        let bytes = unhex(golden);
        let (prefix, body) = bytes
            .split_first_chunk::<FRAME_PREFIX_BYTES>()
            .expect("a prefix");
        assert_eq!(body_len::<T>(*prefix), Ok(body.len()), "{kind} {label}");
        assert_eq!(T::from_body(body).as_ref(), Ok(&value), "{kind} {label}");
    }
    count
}

#[test]
fn every_message_has_its_golden_bytes() {
    let mut missing = String::new();
    let checked = check("Hello", samples::hellos(), &mut missing)
        + check("HelloReply", samples::hello_replies(), &mut missing)
        + check("Request", samples::requests(), &mut missing)
        + check("Reply", samples::replies(), &mut missing)
        + check("ListFrame", samples::list_frames(), &mut missing)
        + check("Push", samples::pushes(), &mut missing)
        + check("FileFrame", samples::file_frames(), &mut missing)
        + check("TreeFrame", samples::tree_frames(), &mut missing);
    assert!(
        missing.is_empty(),
        "samples without golden bytes:\n{missing}"
    );
    assert_eq!(checked, pinned().len(), "golden bytes without a sample");
}
