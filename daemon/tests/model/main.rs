//! Two mounts of one share against a model in memory: random sequences of operations, each of which must
//! answer as the model does; what is closed in one mount is what the other reads. Real host, real folder; no
//! kernel and no socket. Also with connections that are cut under the operations.
//!
//! Parts: [`tree`] (the model), [`op`] (what is done), [`mount`] (a mount as a program sees it), [`world`]
//! (host and connections), [`run`] (does both), [`compare`] (what came of it).

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod compare;
mod mount;
mod op;
mod run;
mod tree;
mod world;

use op::Step;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::time::Duration;
use wormhole::mount::durability::Durability;

/// Sequences that failed once are tried first for ever after.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/regressions.txt");
const STEPS_MAX: usize = 60;
/// What takes so long does not come to an end.
const HANGS: Duration = Duration::from_secs(60);

fn config(cases: u32) -> ProptestConfig {
    let persistence = FileFailurePersistence::Direct(REGRESSIONS);
    ProptestConfig {
        failure_persistence: Some(Box::new(persistence)),
        max_shrink_iters: 2000,
        ..ProptestConfig::with_cases(cases)
    }
}

/// Which mounts do it.
#[derive(Clone, Copy)]
enum Mounts {
    /// Two, which believe nothing.
    Doubting,
    /// Two, which believe what is leased.
    Leased,
    /// One, which makes its files early, and tells programs that changes are done when that is so.
    Alone(Durability),
}

fn check(cases: u32, cuts: bool, mounts: Mounts) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let steps = vec(op::step(cuts), 1..STEPS_MAX);
    proptest!(config(cases), |(steps in steps)| {
        let done = async {
            match mounts {
                Mounts::Doubting => run::run(&steps, false).await,
                Mounts::Leased => run::run(&steps, true).await,
                Mounts::Alone(durability) => run::run_alone(&steps, durability).await,
            }
        };
        let done = runtime.block_on(async { tokio::time::timeout(HANGS, done).await });
        let done = done.unwrap_or_else(|_| Err("it hangs".to_owned()));
        prop_assert!(done.is_ok(), "{}", done.unwrap_err());
    });
}

#[test]
fn two_mounts_do_what_the_model_does() {
    check(150, false, Mounts::Doubting);
}

#[test]
fn connections_that_are_cut_lose_nothing_and_repeat_nothing() {
    check(100, true, Mounts::Doubting);
}

#[test]
fn two_mounts_that_hold_leases_do_what_the_model_does() {
    check(150, false, Mounts::Leased);
}

#[test]
fn mounts_that_hold_leases_and_are_cut_off_do_what_the_model_does() {
    check(50, true, Mounts::Leased);
}

#[test]
fn a_mount_that_makes_files_early_does_what_the_model_does() {
    check(150, false, Mounts::Alone(Durability::Strict));
}

#[test]
fn a_mount_that_makes_files_early_and_is_cut_off_does_what_the_model_does() {
    check(50, true, Mounts::Alone(Durability::Strict));
}

#[test]
fn a_mount_whose_changes_are_done_later_does_what_the_model_does() {
    check(200, false, Mounts::Alone(Durability::Memory));
}

#[test]
fn a_mount_whose_changes_are_done_later_and_is_cut_off_does_what_the_model_does() {
    check(100, true, Mounts::Alone(Durability::Memory));
}

/// For a night: `cargo test --test model -- --ignored`.
#[test]
#[ignore = "takes hours"]
fn two_mounts_do_what_the_model_does_for_long() {
    check(10_000, true, Mounts::Doubting);
    check(10_000, true, Mounts::Leased);
    check(10_000, true, Mounts::Alone(Durability::Strict));
    check(10_000, true, Mounts::Alone(Durability::Memory));
}

/// The shapes of sequences that are worth doing every time.
#[tokio::test(flavor = "multi_thread")]
async fn the_seeds() {
    for steps in op::seeds() {
        let steps: Vec<Step> = steps;
        run::run(&steps, false).await.unwrap();
        run::run(&steps, true).await.unwrap();
        run::run_alone(&steps, Durability::Strict).await.unwrap();
        run::run_alone(&steps, Durability::Memory).await.unwrap();
    }
}
