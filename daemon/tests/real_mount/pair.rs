//! Two mounts of one folder that may be written.

use super::*;
use wormhole::host::ShareRules;
use wormhole::mount::fuse::Owner;
use wormhole_protocol::{Access, Ticket};

/// A folder, a host that serves it to be written, and two mounts of it that believe nothing for longer than
/// an `open` takes.
pub(crate) struct Pair {
    dir: TempDir,
    share: PathBuf,
    host: Option<Host>,
    mounts: [Option<Mounted>; 2],
}

/// Two mounts that see each other's changes at the next open.
pub(crate) fn strict() -> Options {
    Options {
        attr_ttl: std::time::Duration::ZERO,
        ..Options::default()
    }
}

/// Files appear to be the mounting user's, as they do unless told otherwise.
pub(crate) fn owned() -> Options {
    Options {
        owner: Owner::Mounter {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        },
        ..strict()
    }
}

/// Everything may be changed, for the host's own user.
pub(crate) fn writable() -> ShareRules {
    ShareRules {
        access: Access::ReadWrite,
        ..ShareRules::default()
    }
}

impl Pair {
    pub(crate) async fn new() -> Self {
        Self::with(&strict(), writable()).await
    }

    pub(crate) async fn with(options: &Options, rules: ShareRules) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let share = dir.path().join("share");
        std::fs::create_dir(&share).unwrap();
        Self::over(dir, share, options, rules).await
    }

    /// Of a folder in `dir`, which is removed at the end.
    pub(crate) async fn over(
        dir: TempDir,
        share: PathBuf,
        options: &Options,
        rules: ShareRules,
    ) -> Self {
        for sub in ["state", "a", "b"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        let state = dir.path().join("state");
        let host = Host::start_with(&share, &state, "127.0.0.1:0", rules).await;
        let mut pair = Self {
            dir,
            share,
            host: Some(host),
            mounts: [None, None],
        };
        pair.mount(0, options).await;
        pair.mount(1, options).await;
        pair
    }

    /// The folder on the host.
    pub(crate) fn share(&self) -> PathBuf {
        self.share.clone()
    }

    /// The first mount.
    pub(crate) fn a(&self) -> PathBuf {
        self.dir.path().join("a")
    }

    /// The second mount.
    pub(crate) fn b(&self) -> PathBuf {
        self.dir.path().join("b")
    }

    pub(crate) fn host(&self) -> &Host {
        self.host.as_ref().unwrap()
    }

    pub(crate) fn mounted(&self, which: usize) -> &Mounted {
        self.mounts[which].as_ref().unwrap()
    }

    pub(crate) async fn mount(&mut self, which: usize, options: &Options) {
        let ticket = self.host().ticket.clone();
        self.mount_with(which, &ticket, options).await;
    }

    pub(crate) async fn mount_with(&mut self, which: usize, ticket: &Ticket, options: &Options) {
        let at = if which == 0 { self.a() } else { self.b() };
        self.mounts[which] = Some(world::mount(ticket, &at, options).await);
    }

    pub(crate) async fn unmount(&mut self, which: usize) {
        self.mounts[which].take().unwrap().unmount().await.unwrap();
    }

    pub(crate) async fn end(mut self) {
        for which in 0..2 {
            if self.mounts[which].is_some() {
                self.unmount(which).await;
            }
        }
        self.host.take().unwrap().stop().await;
    }

    /// Runs `work` with the first mount, the second, and the folder; then ends.
    pub(crate) async fn run(self, work: impl FnOnce(&Path, &Path, &Path) + Send + 'static) {
        let (a, b, share) = (self.a(), self.b(), self.share());
        blocking(move || work(&a, &b, &share)).await;
        self.end().await;
    }
}

/// A test that panics leaves no mount behind.
impl Drop for Pair {
    fn drop(&mut self) {
        for (mounted, at) in self.mounts.iter().zip([self.a(), self.b()]) {
            if mounted.is_some() {
                let _ = std::process::Command::new("umount")
                    .arg("-l")
                    .arg(at)
                    .status();
            }
        }
    }
}

/// The errno of a call that must fail.
pub(crate) fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}
