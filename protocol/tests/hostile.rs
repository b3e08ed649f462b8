//! No bytes make a decoder panic, loop or take more than it was given.
//!
//! Every sample is cut at every byte, has every bit flipped, every length replaced; then 100,000
//! random and damaged bodies go through each of the seven decoders and 100,000 strings through the
//! reader of tickets. What a decoder accepts must be a value like any other: it can be sent again
//! and arrives equal.

#[path = "support/mutate.rs"]
mod mutate;
#[path = "support/samples.rs"]
mod samples;

use mutate::{Random, hostile, lengths};
use std::fmt::Debug;
use std::net::SocketAddr;
use wormhole_protocol::codec::{CodecError, Wire, body_len};
use wormhole_protocol::limits::FRAME_PREFIX_BYTES;
use wormhole_protocol::{
    FileFrame, Hello, HelloReply, HostKey, ListFrame, Push, Reply, Request, Secret, Ticket,
    TreeFrame,
};

/// Bodies per decoder.
const CASES: usize = 100_000;

fn bodies<T: Wire>(samples: Vec<samples::Sample<T>>) -> Vec<Vec<u8>> {
    samples.into_iter().map(|(_, value)| body(&value)).collect()
}

fn body<T: Wire>(value: &T) -> Vec<u8> {
    value.to_frame().expect("within limits")[FRAME_PREFIX_BYTES..].to_vec()
}

/// Decodes; a value that comes out must come back from its own encoding.
fn decode<T: Wire + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value = T::from_body(bytes).ok()?;
    let again = T::from_body(&body(&value));
    assert_eq!(again.as_ref(), Ok(&value), "from {bytes:02x?}");
    Some(value)
}

fn every_damage<T: Wire + PartialEq + Debug>(samples: Vec<samples::Sample<T>>) {
    let lengths = lengths();
    for good in bodies(samples) {
        for cut in 0..good.len() {
            assert_eq!(
                T::from_body(&good[..cut]),
                Err(CodecError::Malformed),
                "cut at {cut}"
            );
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            decode::<T>(&bad);
        }
        for at in 0..good.len() {
            for length in &lengths {
                let mut bad = good.clone();
                bad.splice(at..=at, length.iter().copied());
                decode::<T>(&bad);
            }
        }
        for junk in [&[0][..], &[1], &[255], &[0; 16], &good] {
            let long = [good.as_slice(), junk].concat();
            assert_eq!(T::from_body(&long), Err(CodecError::Trailing(junk.len())));
        }
    }
}

#[test]
fn every_damage_to_every_sample_is_survived() {
    every_damage::<Hello>(samples::hellos());
    every_damage::<HelloReply>(samples::hello_replies());
    every_damage::<Request>(samples::requests());
    every_damage::<Reply>(samples::replies());
    every_damage::<ListFrame>(samples::list_frames());
    every_damage::<Push>(samples::pushes());
    every_damage::<FileFrame>(samples::file_frames());
    every_damage::<TreeFrame>(samples::tree_frames());
}

#[test]
fn unknown_variants_are_malformed() {
    fn check<T: Wire + PartialEq + Debug>(known: u8) {
        // From 251 on, a byte only says how long the number behind it is.
        for variant in known..=250 {
            let bytes = [vec![variant], vec![0; 64]].concat();
            assert_eq!(
                T::from_body(&bytes),
                Err(CodecError::Malformed),
                "{variant}"
            );
        }
    }
    check::<HelloReply>(2);
    check::<Request>(21);
    check::<Reply>(28);
    check::<TreeFrame>(3);
    check::<FileFrame>(2);
}

#[test]
fn a_bool_is_zero_or_one() {
    for byte in 2..=255 {
        assert_eq!(ListFrame::from_body(&[0, byte]), Err(CodecError::Malformed));
    }
}

#[test]
fn forbidden_values_are_malformed() {
    // Lookup in the root, no identity, of names no directory can hold.
    for name in [
        &b""[..],
        b".",
        b"..",
        b"a/b",
        b"/etc/passwd",
        b"a\0b",
        &[b'x'; 250],
    ] {
        let length = u8::try_from(name.len()).expect("short");
        let bytes = [&[0, 0, 0, length], name].concat();
        let expected = name == [b'x'; 250];
        assert_eq!(Request::from_body(&bytes).is_ok(), expected, "{name:?}");
    }
    // Getattr of paths that leave the share or are not plain.
    for path in [
        &b"/"[..],
        b"/a",
        b"a/",
        b"a//b",
        b"..",
        b"a/../..",
        b"./a",
        b"a\0",
    ] {
        let length = u8::try_from(path.len()).expect("short");
        let bytes = [&[1, length], path, &[0]].concat();
        assert_eq!(
            Request::from_body(&bytes),
            Err(CodecError::Malformed),
            "{path:?}"
        );
    }
    // Reads: nothing, too much, beyond off_t, and a sum that wraps.
    let reads = [
        (0, 0),
        (0, (64 << 20) + 1),
        (i64::MAX as u64, 1),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
    ];
    for (offset, len) in reads {
        let mut bytes = vec![4, 1, b'f', 0, 253];
        bytes.extend_from_slice(&u64::to_le_bytes(offset));
        bytes.push(253);
        bytes.extend_from_slice(&u64::to_le_bytes(len));
        bytes.push(0);
        assert_eq!(
            Request::from_body(&bytes),
            Err(CodecError::Malformed),
            "{offset}+{len}"
        );
    }
}

/// Bytes of a change in a request whose other numbers are 0.
fn change(bytes: &[&[u8]]) -> Vec<u8> {
    [&[9, 0, 0, 0, 0], bytes.concat().as_slice()].concat()
}

fn wide(number: u64) -> Vec<u8> {
    [&[253], number.to_le_bytes().as_slice()].concat()
}

#[test]
fn an_unknown_change_is_malformed() {
    for variant in 19..=250 {
        let bytes = change(&[&[variant], &[0; 64]]);
        assert_eq!(Request::from_body(&bytes), Err(CodecError::Malformed));
    }
}

/// Allocate: nothing, beyond off_t, and a sum that wraps.
#[test]
fn extents_end_within_off_t() {
    let end = i64::MAX as u64;
    let allocate = |(offset, len): (u64, u64)| {
        Request::from_body(&change(&[&[5, 7], &wide(offset), &wide(len), &[2]]))
    };
    for good in [(0, 1), (0, end), (end - 1, 1)] {
        assert!(allocate(good).is_ok(), "{good:?}");
    }
    let wraps = (u64::MAX, u64::MAX);
    for bad in [
        (0, 0),
        (end, 0),
        (0, end + 1),
        (end, 1),
        (1, end),
        (u64::MAX, 2),
        wraps,
    ] {
        assert_eq!(allocate(bad), Err(CodecError::Malformed), "{bad:?}");
    }
}

/// A lock ends where it begins or later, and within off_t.
#[test]
fn locks_have_bytes() {
    let end = i64::MAX as u64;
    let unlock = |(first, last): (u64, u64)| {
        Request::from_body(&[&[11, 7, 3, 0][..], &wide(first), &wide(last)].concat())
    };
    for good in [(0, 0), (0, end), (end, end), (5, 5)] {
        assert!(unlock(good).is_ok(), "{good:?}");
    }
    for bad in [
        (1, 0),
        (end, 0),
        (0, end + 1),
        (0, u64::MAX),
        (u64::MAX, u64::MAX),
    ] {
        assert_eq!(unlock(bad), Err(CodecError::Malformed), "{bad:?}");
    }
}

/// What is said to follow a request is bounded before any of it is read.
#[test]
fn a_body_is_at_most_four_mib() {
    let append = |len: u32| {
        let len = [&[252], len.to_le_bytes().as_slice()].concat();
        Request::from_body(&change(&[&[4, 7], &len]))
    };
    let max = 4 << 20;
    for good in [0, 1, max] {
        match append(good) {
            Ok(Request::Change { change, .. }) => assert_eq!(change.body_len(), good as usize),
            other => panic!("{good}: {other:?}"),
        }
    }
    for bad in [max + 1, 1 << 31, u32::MAX] {
        assert_eq!(append(bad), Err(CodecError::Malformed), "{bad}");
    }
}

/// Capabilities and labels are the host's own.
#[test]
fn xattr_names_of_other_namespaces_are_malformed() {
    let remove = |name: &[u8]| {
        let length = u8::try_from(name.len()).expect("short");
        Request::from_body(&change(&[&[18, 1, b'f', 0, length], name]))
    };
    for good in [
        &b"user.a"[..],
        b"system.posix_acl_access",
        b"system.posix_acl_default",
    ] {
        assert!(remove(good).is_ok(), "{}", good.escape_ascii());
    }
    for bad in [
        &b"security.capability"[..],
        b"security.selinux",
        b"trusted.overlay.opaque",
        b"system.nfs4_acl",
        b"system.posix_acl_access2",
        b"system.posix_acl",
        b"user.",
        b"user.\0",
        b"",
    ] {
        assert_eq!(
            remove(bad),
            Err(CodecError::Malformed),
            "{}",
            bad.escape_ascii()
        );
    }
}

#[test]
fn a_prefix_beyond_the_limit_is_refused_before_anything_is_read() {
    fn check<T: Wire>() {
        let limit = u32::try_from(T::BYTES_MAX).expect("a prefix is a u32");
        for claimed in [0, 1, limit] {
            assert_eq!(body_len::<T>(claimed.to_le_bytes()), Ok(claimed as usize));
        }
        for claimed in [limit + 1, (1 << 31) - 1, 1 << 31, u32::MAX] {
            assert_eq!(
                body_len::<T>(claimed.to_le_bytes()),
                Err(CodecError::TooLarge {
                    bytes: claimed as usize,
                    limit: T::BYTES_MAX
                })
            );
        }
        let long = vec![0; T::BYTES_MAX + 1];
        assert!(matches!(
            T::from_body(&long),
            Err(CodecError::TooLarge { .. })
        ));
    }
    check::<Hello>();
    check::<HelloReply>();
    check::<Request>();
    check::<Reply>();
    check::<ListFrame>();
    check::<Push>();
    check::<FileFrame>();
    check::<TreeFrame>();
}

fn many_cases<T: Wire + PartialEq + Debug>(samples: Vec<samples::Sample<T>>, seed: u64) {
    let (valid, lengths, mut random) = (bodies(samples), lengths(), Random(seed));
    let accepted = (0..CASES)
        .filter(|_| decode::<T>(&hostile(&mut random, &valid, &lengths)).is_some())
        .count();
    // Damage that never passes the first byte would test nothing.
    assert!(accepted > 100, "only {accepted} of {CASES} were values");
    assert!(accepted < CASES / 2, "{accepted} of {CASES} were values");
}

#[test]
fn hostile_hellos() {
    many_cases::<Hello>(samples::hellos(), 1);
}

#[test]
fn hostile_hello_replies() {
    many_cases::<HelloReply>(samples::hello_replies(), 2);
}

#[test]
fn hostile_requests() {
    many_cases::<Request>(samples::requests(), 3);
}

#[test]
fn hostile_replies() {
    many_cases::<Reply>(samples::replies(), 4);
}

#[test]
fn hostile_list_frames() {
    many_cases::<ListFrame>(samples::list_frames(), 5);
}

#[test]
fn hostile_pushes() {
    many_cases::<Push>(samples::pushes(), 6);
}

#[test]
fn hostile_file_frames() {
    many_cases::<FileFrame>(samples::file_frames(), 6);
}

#[test]
fn hostile_tree_frames() {
    many_cases::<TreeFrame>(samples::tree_frames(), 7);
}

#[test]
fn hostile_tickets() {
    let addresses: [SocketAddr; 2] = [
        ([192, 0, 2, 1], 4711).into(),
        ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 443).into(),
    ];
    let tickets = (1..=2).map(|count| Ticket {
        host: HostKey([3; 32]),
        secret: Secret::from_bytes([9; 16]),
        addresses: addresses[..count].to_vec(),
    });
    let valid: Vec<Vec<u8>> = tickets.map(|t| t.to_string().into_bytes()).collect();
    let (lengths, mut random) = (lengths(), Random(6));
    for _ in 0..CASES {
        let bytes = hostile(&mut random, &valid, &lengths);
        let text = String::from_utf8_lossy(&bytes);
        // Two damages may undo each other; nothing else may be accepted.
        if text.parse::<Ticket>().is_ok() {
            let plain = text.trim().to_ascii_lowercase().into_bytes();
            assert!(valid.contains(&plain), "accepted {text}");
        }
    }
}
