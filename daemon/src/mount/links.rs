//! Targets of symlinks, as far as they were asked for: those asked for longest ago go first.
//!
//! A target is kept under the identity and the version of its link, so whoever believes the attributes of a link
//! may believe its target.
//!
//! Lock: `state`, a leaf.

use lru::LruCache;
use parking_lot::Mutex;
use wormhole_protocol::{ContentVersion, FileId, LinkTarget};

/// Bytes of all together; a million are some 10,000 links.
const BYTES_MAX: usize = 4 << 20;
/// What one takes beside its own.
const PLACE_BYTES: usize = 160;

struct State {
    recent: LruCache<FileId, (ContentVersion, LinkTarget)>,
    bytes: usize,
}

/// The targets there are.
pub(super) struct LinkTargets {
    state: Mutex<State>,
}

impl Default for LinkTargets {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                recent: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }
}

impl LinkTargets {
    /// Where the link leads, if that is known of this version.
    pub(super) fn get(&self, link: FileId, version: ContentVersion) -> Option<LinkTarget> {
        let mut state = self.state.lock();
        let (known, target) = state.recent.get(&link)?;
        (*known == version).then(|| target.clone())
    }

    /// Keeps where it leads.
    pub(super) fn put(&self, link: FileId, version: ContentVersion, target: LinkTarget) {
        let mut state = self.state.lock();
        state.bytes += taken(&target);
        if let Some((_, (_, out))) = state.recent.push(link, (version, target)) {
            state.bytes -= taken(&out);
        }
        while state.bytes > BYTES_MAX
            && let Some((_, (_, out))) = state.recent.pop_lru()
        {
            state.bytes -= taken(&out);
        }
    }
}

fn taken(target: &LinkTarget) -> usize {
    target.as_bytes().len() + PLACE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(inode: u64) -> FileId {
        FileId {
            device: 1,
            inode,
            birth: 0,
        }
    }

    #[test]
    fn another_version_is_another_link_and_memory_is_bounded() {
        let links = LinkTargets::default();
        let version = |n| ContentVersion([n; 16]);
        let target = |n: u64| LinkTarget::new(n.to_string().repeat(100).into_bytes()).unwrap();
        links.put(link(1), version(1), target(1));
        assert_eq!(links.get(link(1), version(1)), Some(target(1)));
        assert_eq!(links.get(link(1), version(2)), None);
        links.put(link(1), version(2), target(2));
        assert_eq!(links.get(link(1), version(2)), Some(target(2)));
        for n in 2..40_000 {
            links.put(link(n), version(1), target(n));
        }
        assert_eq!(links.get(link(1), version(2)), None);
        assert_eq!(links.get(link(39_999), version(1)), Some(target(39_999)));
        let state = links.state.lock();
        let taken = state.recent.iter().map(|(_, (_, target))| taken(target));
        assert_eq!(state.bytes, taken.sum::<usize>());
        assert!(state.bytes <= BYTES_MAX);
    }
}
