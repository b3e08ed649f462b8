//! From the start of a mount command to the first successful `stat`.

use crate::peer::{self, Mounted, PeerError, Served, Site};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Mounts at `folder/mnt`, with its caches in `folder/cache`; both are made. Returns the mount and how
/// long it took.
///
/// # Errors
/// If it failed, or did not answer within `limit`.
pub(super) fn mount(
    served: &mut dyn Served,
    site: &Site,
    folder: &Path,
    limit: Duration,
) -> Result<(Box<dyn Mounted>, Duration), PeerError> {
    let (path, cache) = (folder.join("mnt"), folder.join("cache"));
    fs::create_dir_all(&path)?;
    fs::create_dir(&cache)?;
    let began = Instant::now();
    let mut mounted = served.mount(site, &path, &cache)?;
    peer::wait(mounted.as_mut(), limit)?;
    Ok((mounted, began.elapsed()))
}
