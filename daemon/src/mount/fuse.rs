//! The kernel's side: fuser's requests become calls of [`Vfs`], its answers replies.
//!
//! A session thread only translates. Each operation is polled once where it arrived, so that what is
//! known is answered without a change of thread; what must wait moves to the runtime, reply object and
//! all. A waiting operation ends when its caller is killed (fuser does not deliver FUSE_INTERRUPT).
//!
//! Not here: any meaning. The only file besides `fuse/` that knows fuser.

mod attach;
mod backing;
mod capabilities;
mod changes;
mod convert;
mod filesystem;
mod looks;
mod nested;
mod notifier;
mod replies;
mod xattrs;

use super::error::FsError;
use super::killed::killed;
use super::stats::{FuseStats, add, sub};
use super::vfs::{Found, Vfs};
use backing::Backings;
pub use convert::Owner;
use convert::file_attr;
use fuser::{
    BackgroundSession, Config, FileAttr, Generation, MountOption, Request, Session, SessionACL,
};
use nested::Nested;
use notifier::KernelNotify;
use rustix::mount::MountFlags;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;

/// How the file system is shown to the kernel.
#[derive(Debug, Clone)]
pub struct FuseOptions {
    /// Shown as the source in the mount table.
    pub fs_name: String,
    /// Whose the files appear to be.
    pub owner: Owner,
    /// Whether other users may enter.
    pub allow_other: bool,
    /// Whether programs in it cannot be started.
    pub noexec: bool,
    /// Session threads.
    pub threads: usize,
}

/// Mounts `vfs` and serves it on threads of its own.
///
/// # Errors
/// Whatever mount(2) or fusermount3 said.
pub fn mount(
    vfs: Arc<Vfs>,
    stats: Arc<FuseStats>,
    mountpoint: &Path,
    options: &FuseOptions,
    runtime: Handle,
) -> io::Result<Mount> {
    // Where users other than the mounting one come in, or owners are the host's, the kernel must check
    // modes; else the host's own user decides what can be read.
    let default_permissions = options.allow_other || matches!(options.owner, Owner::Host);
    let writable = vfs.access().writes();
    let mut config = Config::default();
    config.acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    config.n_threads = Some(options.threads);
    config.clone_fd = options.threads > 1;
    let served = vfs.clone();
    let skin = Skin {
        vfs,
        stats,
        owner: options.owner,
        runtime,
        backings: Arc::default(),
    };
    if rustix::process::geteuid().is_root() {
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::RDONLY, !writable);
        flags.set(MountFlags::NOEXEC, options.noexec);
        let device = attach::attach(
            mountpoint,
            &options.fs_name,
            config.acl,
            default_permissions,
            flags,
        )?;
        let session = Session::from_fd(skin, device, config.acl, config)?;
        return serve(session, mountpoint, &served);
    }
    config.mount_options = vec![
        MountOption::FSName(options.fs_name.clone()),
        MountOption::Subtype("wormhole".into()),
        if writable {
            MountOption::RW
        } else {
            MountOption::RO
        },
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoAtime,
    ];
    if options.noexec {
        config.mount_options.push(MountOption::NoExec);
    }
    if default_permissions {
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    let session = Session::new(skin, mountpoint, &config)?;
    serve(session, mountpoint, &served)
}

fn serve(session: Session<Skin>, mountpoint: &Path, vfs: &Vfs) -> io::Result<Mount> {
    let device = session.as_fd().try_clone_to_owned()?;
    let notify = KernelNotify::start(session.notifier(), device, Nested::watch(mountpoint)?)?;
    vfs.notify_by(Arc::new(notify));
    Ok(Mount(session.spawn()?))
}

/// A mounted file system. Dropping it does not unmount: [`super::mountpoint::unmount`] does.
pub struct Mount(BackgroundSession);

impl Mount {
    /// Waits until the kernel has let go, be it that [`super::mountpoint::unmount`] or somebody else
    /// unmounted it.
    ///
    /// # Errors
    /// Whatever ended the session threads.
    pub fn join(self) -> io::Result<()> {
        self.0.join()
    }
}

struct Skin {
    vfs: Arc<Vfs>,
    stats: Arc<FuseStats>,
    owner: Owner,
    runtime: Handle,
    backings: Arc<Backings>,
}

impl Skin {
    /// Answers now if that needs no waiting, else from the runtime.
    fn answer<T: Send + 'static>(
        &self,
        request: &Request,
        counter: &AtomicU64,
        operation: impl Future<Output = Result<T, FsError>> + Send + 'static,
        finish: impl FnOnce(Result<T, FsError>) + Send + 'static,
    ) {
        add(counter, 1);
        let mut operation: Pin<Box<_>> = Box::pin(operation);
        let _entered = self.runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = operation.as_mut().poll(&mut context) {
            return finish(result);
        }
        let caller = request.pid();
        let stats = self.stats.clone();
        self.runtime.spawn(async move {
            let in_flight = InFlight::new(stats);
            let result = tokio::select! {
                biased;
                result = operation => result,
                () = killed(caller) => {
                    add(&in_flight.0.killed, 1);
                    Err(FsError::Killed)
                }
            };
            finish(result);
        });
    }

    fn entry(&self, found: &Found) -> (FileAttr, Generation) {
        let attr = file_attr(found.node.ino, &found.attr, self.owner);
        (attr, Generation(found.node.generation()))
    }
}

/// An operation that left its session thread.
struct InFlight(Arc<FuseStats>);

impl InFlight {
    fn new(stats: Arc<FuseStats>) -> Self {
        add(&stats.in_flight, 1);
        Self(stats)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        sub(&self.0.in_flight, 1);
    }
}

impl Clone for Skin {
    fn clone(&self) -> Self {
        Self {
            vfs: self.vfs.clone(),
            stats: self.stats.clone(),
            owner: self.owner,
            runtime: self.runtime.clone(),
            backings: self.backings.clone(),
        }
    }
}
