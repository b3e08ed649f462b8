//! A path in a mount, and the process behind it, which can be asked to do something.

use super::Failure;
use crate::control::socket::Asked;
use crate::control::{Order, Word};
use crate::mount::mountpoint::{self, table};
use crate::path_text::PathText;
use crate::shutdown::Shutdown;
use crate::status::report::Role;
use crate::status::{RuntimeDir, socket};
use anyhow::{Context, anyhow, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A path in a mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where it is mounted.
    pub(super) mountpoint: PathBuf,
    /// Beneath it.
    pub(super) path: PathBuf,
}

impl Place {
    /// Where a path is. What is at its end need not be there any more.
    pub(super) fn of(path: &Path) -> anyhow::Result<Self> {
        let shown = PathText::from(path);
        let (path, table) = (canonical(path)?, table::mounts()?);
        let above = |entry: &&table::MountEntry| path.starts_with(&entry.mountpoint);
        // Of mounts on top of each other, the last one is seen.
        let entry = table
            .iter()
            .filter(above)
            .max_by_key(|entry| entry.mountpoint.as_os_str().len());
        let entry = entry.filter(|entry| entry.is_wormhole());
        let Some(entry) = entry else {
            bail!("{shown} is in no mount of Wormhole's");
        };
        let beneath = path.strip_prefix(&entry.mountpoint)?;
        Ok(Self {
            mountpoint: entry.mountpoint.clone(),
            path: beneath.to_owned(),
        })
    }

    /// The control socket of the process behind the mount.
    fn socket(&self) -> anyhow::Result<PathBuf> {
        let dirs = RuntimeDir::open_all()?;
        let found = socket::ask_all(&dirs)?;
        let shown = PathText::from(self.mountpoint.as_path());
        let pid = found.reports.iter().find_map(|report| match &report.role {
            Role::Mount(mount) if mount.mountpoint.0 == self.mountpoint => Some(report.pid),
            _ => None,
        });
        let pid = pid.with_context(|| {
            format!("the process behind the mount at {shown} does not answer this user")
        })?;
        let sockets = dirs.iter().map(|dir| dir.control("mount", pid));
        let mut there = sockets.filter(|path| path.exists());
        there
            .next()
            .with_context(|| format!("the mount at {shown} is of a version that cannot do this"))
    }

    /// Gives the mount an order, and `hear`s its words until one of them says that it is done. A signal takes
    /// the order back.
    ///
    /// # Errors
    /// What `hear` says; that the mount ended; [`Failure::Stopped`].
    pub(super) fn ask<T>(
        &self,
        order: &Order,
        mut hear: impl FnMut(Word) -> anyhow::Result<Option<T>>,
    ) -> Result<T, Failure> {
        let socket = self.socket()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting threads")?;
        runtime.block_on(async {
            let shutdown = Shutdown::install(|| ()).context("catching signals")?;
            let listening = async {
                let mut asked = Asked::begin(&socket, order).await?;
                while let Some(word) = asked.next().await? {
                    if let Some(end) = hear(word)? {
                        return Ok(end);
                    }
                }
                bail!("the mount has ended")
            };
            tokio::select! {
                done = listening => done.map_err(Failure::Failed),
                // Dropping what was asked takes it back.
                () = shutdown.requested() => {
                    let code = shutdown.exit_code().unwrap_or(1);
                    Err(Failure::Stopped(code, anyhow!("stopped")))
                }
            }
        })
    }
}

/// The canonical form of a path of which an end may be missing.
fn canonical(path: &Path) -> anyhow::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut missing: Vec<OsString> = Vec::new();
    let mut at = absolute.as_path();
    loop {
        match mountpoint::resolve(at) {
            Ok(found) => return Ok(missing.into_iter().rev().fold(found, |p, n| p.join(n))),
            Err(error) => {
                let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
                    return Err(error).with_context(|| PathText::from(path).to_string());
                };
                if error.kind() != std::io::ErrorKind::NotFound {
                    return Err(error).with_context(|| PathText::from(path).to_string());
                }
                missing.push(name.to_owned());
                at = parent;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_mount_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("not/there")] {
            let error = Place::of(&path).unwrap_err().to_string();
            assert!(error.contains("in no mount"), "{error}");
        }
    }

    #[test]
    fn an_end_that_is_missing_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        let found = canonical(&real.join("link/gone/away")).unwrap();
        assert_eq!(found, real.join("gone/away"));
    }
}
