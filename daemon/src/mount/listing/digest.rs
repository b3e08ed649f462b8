//! The digest of a listing, by which the host is asked whether it still holds.
//!
//! It is made once and kept until the listing changes. A long one is made in steps, between which others may look into
//! the listing; if it changes meanwhile, from the beginning.

use super::entries::Present;
use super::{Inner, Listing, Standing};
use wormhole_protocol::limits::LIST_DIGEST_ENTRIES_MAX;
use wormhole_protocol::{Entry, ListingDigest, ListingDigester};

/// Entries in a step: some milliseconds.
const STEP: usize = 4096;
/// How often one is begun that others may disturb.
const TRIES: usize = 2;

/// The digest of a listing as it is, once it was asked for.
#[derive(Default)]
pub(super) struct Kept {
    /// Behind a pointer, because most listings are never asked about.
    made: Option<Box<ListingDigest>>,
    /// How often the listing has changed.
    changes: u64,
}

impl Kept {
    /// The listing is another one now.
    pub(super) fn forget(&mut self) {
        self.made = None;
        self.changes += 1;
    }
}

/// The listing changed while its digest was made.
struct Disturbed;

impl Inner {
    /// Whether there is a digest of it: it is complete, not too long, and as far as is known it holds.
    fn has_digest(&self) -> bool {
        self.is_complete()
            && self.standing != Standing::Outdated
            && self.entries.live() <= LIST_DIGEST_ENTRIES_MAX
            && self.entries.is_known()
    }
}

impl Listing {
    /// Whether there is a digest of it; making it takes longer.
    pub fn has_digest(&self) -> bool {
        self.inner.lock().has_digest()
    }

    /// The digest of a complete listing that is not too long for one. Takes up to some 100 ms where it is long.
    pub fn digest(&self) -> Option<ListingDigest> {
        let steps = std::iter::repeat_n(STEP, TRIES).chain([usize::MAX]);
        let mut made = steps.map(|step| self.make_digest(step));
        made.find_map(Result::ok).flatten()
    }

    fn make_digest(&self, step: usize) -> Result<Option<ListingDigest>, Disturbed> {
        let mut digester = ListingDigester::default();
        let (mut at, mut begun_with) = (0_usize, None);
        loop {
            let mut inner = self.inner.lock();
            if !inner.has_digest() {
                return Ok(None);
            }
            if let Some(made) = &inner.digest.made {
                return Ok(Some(**made));
            }
            if *begun_with.get_or_insert(inner.digest.changes) != inner.digest.changes {
                return Err(Disturbed);
            }
            let end = inner.entries.len().min(at.saturating_add(step));
            for number in at..end {
                if let Some((
                    name,
                    Present {
                        attr: Some(attr), ..
                    },
                )) = inner.entries.get(number)
                {
                    digester.add(&Entry { name, attr });
                }
            }
            at = end;
            if at == inner.entries.len() {
                let digest = digester.finish();
                inner.digest.made = digest.map(Box::new);
                return Ok(digest);
            }
        }
    }
}
