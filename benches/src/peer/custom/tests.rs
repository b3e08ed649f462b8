//! What is understood of a description and what is refused. That such a peer works is tested in
//! `peer/tests.rs`.

use super::{Custom, CustomError};
use crate::peer::Peer;

fn refused(text: &str) -> String {
    match Custom::parse(text) {
        Ok(peers) => panic!("understood as {peers:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_description_needs_no_more_than_a_mount() {
    let peers =
        Custom::parse("[peer.a]\nmount = ['x']\n[peer.b-2]\nmount = ['y']\nwrites = true\n");
    let peers = peers.expect("two peers");
    let names: Vec<&str> = peers.iter().map(Peer::name).collect();
    assert_eq!(names, ["a", "b-2"]);
    assert_eq!((peers[0].writes(), peers[1].writes()), (false, true));
}

#[test]
fn unknown_keys_and_wrong_values_are_named() {
    let error = refused("[peer.a]\nmount = ['x']\nmuont = ['x']\n");
    assert!(error.contains("muont"), "{error}");
    let error = refused("[peer.a]\nserve = ['x']\n");
    assert!(error.contains("mount"), "{error}");
    let error = refused("[peer.a]\nmount = 'x y'\n");
    assert!(error.contains("expected a sequence"), "{error}");
    let error = refused("[peers.a]\nmount = ['x']\n");
    assert!(error.contains("peers"), "{error}");
}

#[test]
fn a_name_is_new_and_plain() {
    for name in ["sshfs", "local", "A", "'a b'", "9p", "'a,b'"] {
        let error = Custom::parse(&format!("[peer.{name}]\nmount = ['x']\n"));
        assert!(matches!(error, Err(CustomError::Name(_))), "{name}");
    }
}

#[test]
fn a_wrong_placeholder_is_named_with_its_command() {
    let error = refused("[peer.a]\nmount = ['x', '{mount}']\n");
    assert!(error.starts_with("peer a: mount: there is no placeholder {mount}"));
    let error = refused("[peer.a]\nmount = ['x']\nversion = ['x', '{host}']\n");
    assert!(error.starts_with("peer a: version: "), "{error}");
}
