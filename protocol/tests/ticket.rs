//! Tickets: what survives being copied, what is recognised as a typo, what never shows.

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use wormhole_protocol::{HostKey, MountId, Proof, Secret, Ticket, TicketError};

const ALPHABET: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

fn ticket(addresses: Vec<SocketAddr>) -> Ticket {
    Ticket {
        host: HostKey(std::array::from_fn(|i| {
            u8::try_from(i * 7).expect("below 224")
        })),
        secret: Secret::from_bytes(*b"0123456789abcdef"),
        addresses,
    }
}

fn sample() -> Ticket {
    ticket(vec![
        ([192, 0, 2, 17], 4711).into(),
        ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 443).into(),
    ])
}

/// Parsing must fail, and the user must be told that it looks like a bad copy.
fn assert_bad_copy(text: &str, what: &str) {
    match text.parse::<Ticket>() {
        Err(TicketError::Typo | TicketError::NotATicket) => {}
        other => panic!("{what}: {text} gave {other:?}"),
    }
}

proptest! {
    #[test]
    fn any_ticket_returns(
        host in any::<[u8; 32]>(),
        secret in any::<[u8; 16]>(),
        addresses in proptest::collection::vec(any::<SocketAddr>(), 1..=8),
    ) {
        // Flow and scope of an IPv6 address mean nothing on another machine.
        let addresses = addresses.iter().map(|a| SocketAddr::new(a.ip(), a.port())).collect();
        let ticket = Ticket { host: HostKey(host), secret: Secret::from_bytes(secret), addresses };
        let text = ticket.to_string();
        prop_assert_eq!(text.parse(), Ok(ticket.clone()));
        prop_assert_eq!(text.to_ascii_uppercase().parse(), Ok(ticket.clone()));
        prop_assert_eq!(format!(" \t{text}\r\n").parse(), Ok(ticket));
        prop_assert!(text.len() <= wormhole_protocol::limits::TICKET_CHARS_MAX);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,80}", prefix in "(wh1|WH1|w|wh|bh1|wh1q)?") {
        let _ = format!("{prefix}{text}").parse::<Ticket>();
    }
}

#[test]
fn a_ticket_is_pinned() {
    let text = sample().to_string();
    assert_eq!(text, include_str!("golden/ticket.txt").trim_end());
}

#[test]
fn one_to_eight_addresses() {
    let address = |i: u16| -> SocketAddr {
        if i.is_multiple_of(2) {
            ([192, 0, 2, 1], 4000 + i).into()
        } else {
            ([0xfe80, 0, 0, 0, 0, 0, 0, i], 4000 + i).into()
        }
    };
    for count in 1..=8 {
        let ticket = ticket((0..count).map(address).collect());
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
    }
    let none = ticket(vec![]).to_string();
    assert_eq!(none.parse::<Ticket>(), Err(TicketError::Malformed));
    let longest = ticket(vec![([0xffff; 8], 65535).into(); 8]);
    assert_eq!(longest.to_string().parse(), Ok(longest));
}

#[test]
fn every_single_character_changed_to_every_other_is_a_bad_copy() {
    let text = sample().to_string().into_bytes();
    for at in 0..text.len() {
        for other in 0..=127u8 {
            if other.eq_ignore_ascii_case(&text[at]) {
                continue;
            }
            let mut changed = text.clone();
            changed[at] = other;
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_bad_copy(&changed, "changed");
        }
        for other in ["é", "\u{2028}", "𝔴"] {
            let changed = [&text[..at], other.as_bytes(), &text[at + 1..]].concat();
            assert_bad_copy(&String::from_utf8(changed).expect("UTF-8"), "changed");
        }
    }
}

#[test]
fn a_wrong_character_of_the_alphabet_is_named_a_typo() {
    let text = sample().to_string().into_bytes();
    for at in 0..text.len() {
        for other in ALPHABET.iter().filter(|c| **c != text[at]) {
            let mut changed = text.clone();
            changed[at] = *other;
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(
                changed.parse::<Ticket>(),
                Err(TicketError::Typo),
                "{changed}"
            );
        }
    }
}

#[test]
fn two_neighbours_transposed_are_a_bad_copy() {
    let text = sample().to_string().into_bytes();
    for at in 1..text.len() {
        if text[at - 1] != text[at] {
            let mut swapped = text.clone();
            swapped.swap(at - 1, at);
            assert_bad_copy(&String::from_utf8(swapped).expect("ASCII"), "transposed");
        }
    }
}

#[test]
fn a_missing_or_extra_character_is_a_bad_copy() {
    let text = sample().to_string();
    for at in 0..text.len() {
        let missing = [&text[..at], &text[at + 1..]].concat();
        assert_bad_copy(&missing, "missing");
        assert_bad_copy(&text[..at], "cut");
        assert_bad_copy(&text[at + 1..], "without its beginning");
    }
    for at in 0..=text.len() {
        for extra in ALPHABET.iter().chain(b"1bio- ,\"") {
            let (before, after) = text.split_at(at);
            let longer = format!("{before}{}{after}", char::from(*extra));
            // White space around a ticket is no part of it.
            if longer.trim() != text {
                assert_bad_copy(&longer, "extra");
            }
        }
    }
    assert_bad_copy(&format!("{text}{text}"), "twice");
}

#[test]
fn other_strings_are_not_tickets() {
    for text in [
        "",
        " ",
        "wh1",
        "hello",
        "https://example.org/wh1",
        "ssh-ed25519 AAAA",
        "-",
    ] {
        assert_eq!(
            text.parse::<Ticket>(),
            Err(TicketError::NotATicket),
            "{text:?}"
        );
    }
    let long = format!("wh1{}", "q".repeat(1 << 20));
    assert_eq!(long.parse::<Ticket>(), Err(TicketError::NotATicket));
    // Bech32 of another kind: right checksum, wrong prefix or constant (BIP 173 and 350 examples).
    assert!(
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
            .parse::<Ticket>()
            .is_err()
    );
    assert!(
        "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx"
            .parse::<Ticket>()
            .is_err()
    );
}

#[test]
fn secrets_do_not_show() {
    let ticket = sample();
    let proof = ticket.secret.prove(&[1; 32], MountId([2; 16]));
    let shown = format!("{ticket:?} {ticket:#?} {:?} {proof:?}", ticket.secret);
    for secret in [
        "0123456789abcdef".to_owned(),
        hex(b"0123456789abcdef"),
        format!("{:?}", b"0123456789abcdef"),
        hex(&proof.0),
        format!("{:?}", proof.0),
        ticket.to_string(),
    ] {
        assert!(!shown.contains(&secret), "{shown}");
    }
    assert!(shown.contains(&ticket.host.to_string()));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_proof_holds_for_its_session_mount_and_secret_only() {
    let secret = Secret::from_bytes([1; 16]);
    let (binding, mount) = ([2; 32], MountId([3; 16]));
    let proof = secret.prove(&binding, mount);
    assert!(secret.verify(&binding, mount, &proof));

    for bit in 0..256 {
        let flip = |bytes: &mut [u8]| bytes[(bit / 8) % bytes.len()] ^= 1 << (bit % 8);
        let mut wrong = binding;
        flip(&mut wrong);
        assert!(!secret.verify(&wrong, mount, &proof), "another session");
        let mut wrong = mount;
        flip(&mut wrong.0);
        assert!(!secret.verify(&binding, wrong, &proof), "another mount");
        let mut wrong = *secret.expose();
        flip(&mut wrong);
        assert!(
            !Secret::from_bytes(wrong).verify(&binding, mount, &proof),
            "another secret"
        );
        let mut wrong = proof;
        flip(&mut wrong.0);
        assert!(!secret.verify(&binding, mount, &wrong), "another proof");
    }
    assert!(!secret.verify(&binding, mount, &Proof([0; 32])));
}

#[test]
fn an_id_names_one_secret_and_does_not_contain_it() {
    let ids: BTreeSet<[u8; 8]> = (0..=255)
        .map(|byte| {
            let secret = Secret::from_bytes([byte; 16]);
            assert!(!secret.expose().windows(8).any(|part| part == secret.id().0));
            secret.id().0
        })
        .collect();
    assert_eq!(ids.len(), 256);
}
