//! One end of a link: a place on the network where programs run.
//!
//! An end is a network namespace and an address in it, or simply this machine ([`LinkEnd::here`]). It
//! changes nothing but the network a program sees: files, processes and mounts stay the same.
//!
//! A thread enters the namespace, does its work and ends; what it started stays in there.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};

/// A place on the network.
#[derive(Debug)]
pub struct LinkEnd {
    address: IpAddr,
    /// The network namespace; this process's own if `None`.
    namespace: Option<OwnedFd>,
}

impl LinkEnd {
    /// This machine's loopback interface, in the namespace of this process.
    pub fn here() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            namespace: None,
        }
    }

    /// The end of a link that has `address` in `namespace`.
    pub(crate) fn new(address: IpAddr, namespace: OwnedFd) -> Self {
        Self {
            address,
            namespace: Some(namespace),
        }
    }

    /// Another handle of the same place.
    ///
    /// # Errors
    /// If no descriptor is to be had.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            address: self.address,
            namespace: self
                .namespace
                .as_ref()
                .map(OwnedFd::try_clone)
                .transpose()?,
        })
    }

    /// Where others reach what listens here.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Does `work` on a thread that sees this end's network. Sockets opened there stay there, also
    /// when they are used elsewhere later.
    ///
    /// # Errors
    /// If the namespace cannot be entered or no thread be had.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let Some(namespace) = &self.namespace else {
            return Ok(work());
        };
        inside(namespace, work)
    }

    /// Starts `command` on this end.
    ///
    /// # Errors
    /// As [`within`](Self::within) and [`Command::spawn`].
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.within(|| command.spawn())?
    }
}

/// Does `work` on a thread inside `namespace`.
pub(crate) fn inside<T: Send>(
    namespace: &OwnedFd,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        })?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
