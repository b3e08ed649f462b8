//! What a long-lived process sets up for itself before it starts.

use anyhow::Context;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use tokio::runtime::Runtime;

/// Prepares a process that holds secrets and many files.
pub(super) fn prepare() {
    // A core dump would hold the ticket's secret or the host's key; it also keeps other processes of
    // the same user from reading our memory.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("core dumps stay possible: {error}");
    }
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(
            "the limit of open files stays at {:?}: {error}",
            limit.current
        );
    }
}

/// The runtime everything runs on.
///
/// # Errors
/// If the system gives no threads.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .enable_all()
        .build()
        .context("starting threads")
}

/// Tells systemd, if it started us; nobody else listens.
pub(super) fn tell_systemd(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("systemd was not told: {error}");
    }
}

/// Threads of the runtime: half the cores, at most four. One connection is driven by one task, and a
/// second thread costs more in wake-ups than it brings (measured on two cores: a fifth of the CPU time
/// of a bulk read); the other cores are for the programs that read.
fn worker_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, 4)
}
