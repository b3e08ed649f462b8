//! Leases as a mount uses them: what is believed while the host speaks, what is no longer when it has spoken, and
//! what happens between sessions. The host is made up and far away; time is virtual.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod ends;
mod holds;
#[path = "../support/mod.rs"]
mod support;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::distant::Distant;
use support::door::Door;
use support::fake::{FakeHost, attr};
use tokio::time::{Instant, sleep};
use wormhole::mount::handles::OpenHow;
use wormhole::mount::inodes::Ino;
use wormhole::mount::link::Link;
use wormhole::mount::notify::{Forget, Notify};
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole::rpc::Remote;
use wormhole_protocol::*;

const CALLER: Caller = Caller { uid: 0, gid: 0 };
const RTT: Duration = Duration::from_millis(150);
const TTL: Duration = Duration::from_secs(1);
const TERM: Duration = Duration::from_secs(10);
/// Longer than a term, and shorter than a mount counts as idle.
const LONG: Duration = Duration::from_secs(30);

/// Takes note of what the kernel would be told.
#[derive(Default)]
struct Kernel(Mutex<Vec<Forget>>);

impl Kernel {
    fn take(&self) -> Forget {
        let mut all = Forget::default();
        for told in self.0.lock().unwrap().drain(..) {
            all.names |= told.names;
            all.attributes.extend(told.attributes);
            all.pages.extend(told.pages);
        }
        all
    }
}

impl Notify for Kernel {
    fn forget(&self, what: Forget) -> BoxFuture<'_, ()> {
        self.0.lock().unwrap().push(what);
        std::future::ready(()).boxed()
    }

    fn forget_pages(&self, _: Ino) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn forgets_names(&self) -> bool {
        true
    }
}

struct World {
    host: Arc<FakeHost>,
    vfs: Vfs,
    kernel: Arc<Kernel>,
}

impl World {
    /// A mount that listens, of a host with a directory `d` and three files in it.
    async fn new() -> Self {
        let host = leasing_host();
        let remote = Arc::new(Distant::new(&host, RTT));
        Self::over(host, remote, TTL).await
    }

    async fn over(host: Arc<FakeHost>, remote: Arc<dyn Remote>, attr_ttl: Duration) -> Self {
        let config = VfsConfig {
            attr_ttl,
            timeout: Duration::from_secs(30),
            l1_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            durability: Default::default(),
            access: Access::ReadWrite,
        };
        let vfs = Vfs::new(config, ShareId([1; 16]), host.root(), remote, None);
        let kernel: Arc<Kernel> = Arc::default();
        vfs.notify_by(kernel.clone());
        vfs.listen();
        sleep(RTT * 2).await;
        kernel.take();
        Self { host, vfs, kernel }
    }

    async fn find(&self, dir: Ino, name: &str) -> Option<Ino> {
        let found = self.vfs.lookup(dir, name.as_bytes()).await.unwrap();
        found.ok().map(|found| found.node.ino)
    }

    async fn size(&self, ino: Ino) -> u64 {
        self.vfs.getattr(ino, None).await.unwrap().0.size
    }

    async fn list(&self, dir: Ino) -> Vec<String> {
        let handle = self.vfs.opendir(dir).unwrap();
        let mut names = Vec::new();
        let mut offset = 0;
        loop {
            let page = self.vfs.readdir(handle, offset).await.unwrap();
            let Some((last, _)) = page.entries.last() else {
                break;
            };
            offset = *last;
            let listed = page.entries.iter().map(|(_, listed)| &listed.entry.name);
            names.extend(listed.map(|name| name.to_string()));
        }
        self.vfs.release(handle);
        names.sort();
        names
    }

    /// The numbers of `d` and its file `a`, after `d` was listed.
    async fn listed(&self) -> (Ino, Ino) {
        let dir = self.find(Ino::ROOT, "d").await.unwrap();
        self.list(dir).await;
        let file = self.find(dir, "a").await.unwrap();
        // Leases that began with these answers are renewed with the next question.
        sleep(RTT * 2).await;
        self.kernel.take();
        (dir, file)
    }

    /// Questions about names and attributes so far.
    fn asked(&self) -> usize {
        self.host.count(|request| {
            matches!(
                request,
                Request::Lookup { .. } | Request::Getattr { .. } | Request::List { .. }
            )
        })
    }
}

/// A host with a directory `d` and three files in it.
fn leasing_host() -> Arc<FakeHost> {
    let host = FakeHost::new();
    host.give_leases();
    host.put("d", attr(2, FileKind::Directory, 0, 1), 0);
    for (name, inode) in [("d/a", 3), ("d/b", 4), ("d/c", 5)] {
        host.put(name, attr(inode, FileKind::File, 10, 1), inode);
    }
    host
}

async fn took<T>(work: impl Future<Output = T>) -> Duration {
    let begun = Instant::now();
    work.await;
    begun.elapsed()
}
