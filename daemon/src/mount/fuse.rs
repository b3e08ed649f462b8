//! The kernel's side: fuser's requests become calls of [`Vfs`], its answers replies.
//!
//! A session thread only translates. Each operation is polled once where it arrived, so that what is
//! known is answered without a change of thread; what must wait moves to the runtime, reply object and
//! all. A waiting operation ends when its caller is killed (fuser does not deliver FUSE_INTERRUPT).
//!
//! Not here: any meaning. The only file besides `fuse/` that knows fuser.

mod attach;
mod convert;
mod replies;

use super::error::FsError;
use super::handles::HandleId;
use super::inodes::Ino;
use super::killed::killed;
use super::stats::{FuseStats, add, sub};
use super::vfs::{Found, Vfs};
pub use convert::Owner;
use convert::{errno, file_attr};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr,
    Request, Session, SessionACL,
};
use replies::answer_xattr;
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;

/// Largest read the kernel sends: 1 MiB, `fs.fuse.max_pages_limit` of 256 pages.
const REQUEST_BYTES_MAX: u32 = 1024 * 1024;
/// Reads ahead the kernel may have under way.
const BACKGROUND_MAX: u16 = 64;
/// The number of no node: in an entry it makes the kernel remember that there is none.
const INODE_NONE: INodeNo = INodeNo(0);

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
    let mut config = Config::default();
    config.acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    config.n_threads = Some(options.threads);
    config.clone_fd = options.threads > 1;
    let skin = Skin {
        vfs,
        stats,
        owner: options.owner,
        runtime,
    };
    if rustix::process::geteuid().is_root() {
        let device = attach::attach(
            mountpoint,
            &options.fs_name,
            config.acl,
            default_permissions,
            options.noexec,
        )?;
        let session = Session::from_fd(skin, device, config.acl, config)?;
        return Ok(Mount(session.spawn()?));
    }
    config.mount_options = vec![
        MountOption::FSName(options.fs_name.clone()),
        MountOption::Subtype("wormhole".into()),
        MountOption::RO,
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
        }
    }
}

impl Filesystem for Skin {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_PARALLEL_DIROPS,
            // Always with attributes: they came with the listing, and spare a lookup each.
            InitFlags::FUSE_DO_READDIRPLUS,
            // A symlink's target changes only with its identity.
            InitFlags::FUSE_CACHE_SYMLINKS,
            // Pages go when attributes say that the file changed.
            InitFlags::FUSE_AUTO_INVAL_DATA,
        ];
        for flag in wanted {
            // An old kernel without one of them is slower, not wrong.
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_write(REQUEST_BYTES_MAX);
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (vfs, skin) = (self.vfs.clone(), self.clone());
        let name = name.as_bytes().to_vec();
        let operation = async move { vfs.lookup(Ino(parent.0), &name).await };
        self.answer(request, &self.stats.lookup, operation, move |result| {
            match result {
                Ok(Ok(found)) => {
                    let (attr, generation) = skin.entry(&found);
                    reply.entry(&found.ttl, &attr, generation);
                }
                // Inode 0 tells the kernel to remember that there is nothing.
                Ok(Err(ttl)) if !ttl.is_zero() => {
                    let mut nothing = skin.nothing();
                    nothing.ino = INODE_NONE;
                    reply.entry(&ttl, &nothing, Generation(0));
                }
                Ok(Err(_)) => reply.error(Errno::ENOENT),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn forget(&self, _request: &Request, ino: INodeNo, lookups: u64) {
        self.vfs.forget(Ino(ino.0), lookups);
    }

    fn getattr(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let (vfs, owner) = (self.vfs.clone(), self.owner);
        let handle = handle.map(|handle| HandleId(handle.0));
        let operation = async move { vfs.getattr(Ino(ino.0), handle).await };
        self.answer(
            request,
            &self.stats.getattr,
            operation,
            move |result| match result {
                Ok((attr, ttl)) => reply.attr(&ttl, &file_attr(Ino(ino.0), &attr, owner)),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        let vfs = self.vfs.clone();
        let operation = async move { vfs.readlink(Ino(ino.0)).await };
        self.answer(
            request,
            &self.stats.readlink,
            operation,
            move |result| match result {
                Ok(target) => reply.data(target.as_bytes()),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let vfs = self.vfs.clone();
        let writing = flags.0 & libc::O_ACCMODE != libc::O_RDONLY || flags.0 & libc::O_TRUNC != 0;
        let operation = async move { vfs.open(Ino(ino.0), writing).await };
        self.answer(
            request,
            &self.stats.open,
            operation,
            move |result| match result {
                Ok(opened) => {
                    let mut flags = FopenFlags::FOPEN_NOFLUSH;
                    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
                    reply.opened(FileHandle(opened.handle.0), flags);
                }
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    fn read(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let vfs = self.vfs.clone();
        let operation = async move { vfs.read(HandleId(handle.0), offset, size.into()).await };
        self.answer(
            request,
            &self.stats.read,
            operation,
            move |result| match result {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.vfs.release(HandleId(handle.0));
        reply.ok();
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        add(&self.stats.opendir, 1);
        match self.vfs.opendir(Ino(ino.0)) {
            Ok(handle) => reply.opened(FileHandle(handle.0), FopenFlags::empty()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let (vfs, skin) = (self.vfs.clone(), self.clone());
        let operation = async move { vfs.readdir(HandleId(handle.0), offset).await };
        self.answer(
            request,
            &self.stats.readdir,
            operation,
            move |result| match result {
                Ok(page) => {
                    skin.fill(&page, &mut reply);
                    reply.ok();
                }
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    fn readdirplus(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let (vfs, skin) = (self.vfs.clone(), self.clone());
        let operation = async move { vfs.readdir(HandleId(handle.0), offset).await };
        self.answer(
            request,
            &self.stats.readdir,
            operation,
            move |result| match result {
                Ok(page) => {
                    skin.fill_plus(&page, &mut reply);
                    reply.ok();
                }
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.vfs.release(HandleId(handle.0));
        reply.ok();
    }

    fn statfs(&self, request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let vfs = self.vfs.clone();
        let operation = async move { vfs.statfs().await };
        self.answer(
            request,
            &self.stats.statfs,
            operation,
            move |result| match result {
                Ok(s) => reply.statfs(
                    s.blocks,
                    s.blocks_free,
                    s.blocks_available,
                    s.files,
                    s.files_free,
                    s.block_bytes,
                    s.name_bytes_max,
                    s.fragment_bytes,
                ),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    fn getxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let vfs = self.vfs.clone();
        let name = name.as_bytes().to_vec();
        let operation = async move { vfs.getxattr(Ino(ino.0), &name).await };
        self.answer(request, &self.stats.xattr, operation, move |result| {
            answer_xattr(result, size, reply);
        });
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let vfs = self.vfs.clone();
        let operation = async move {
            let names = vfs.listxattr(Ino(ino.0)).await?;
            let mut list = Vec::new();
            for name in names {
                list.extend_from_slice(name.as_bytes());
                list.push(0);
            }
            Ok(list)
        };
        self.answer(request, &self.stats.xattr, operation, move |result| {
            answer_xattr(result, size, reply);
        });
    }
}
