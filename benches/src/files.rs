//! Files to read: the ground on which workloads stand.
//!
//! A [`Ground`] lies beneath the folder that is shared, one for each round, made on the host's disk
//! before anything is measured and gone after the round. So every round has files that no mount was
//! ever asked for. Peers that run on the same ground each have a mount and caches of their own.
//!
//! ```text
//! r0/first-byte/f00000 ..        r0/readdir/names-00000/e0000 ..   r0/small-files/serial/000/f00000 ..
//! r0/seq-read/large              r0/readdir/attrs-00000/e0000 ..   r0/small-files/many/000/f00000 ..
//! r0/scrub/large                 r0/walk/d00/d00/f00 ..            r0/parallel/large
//! r0/random/qd1, qd16            r0/stat/d00000/f0 ..              r0/concurrent/large-0 ..
//! r0/fresh/f00000 ..
//! ```
//!
//! Names follow from sizes, so a worker knows them without having been told ([`layout`]). Content
//! follows from the seed, the name and what files are to be made of ([`content`]).

pub(crate) mod content;
pub(crate) mod layout;

use crate::record::Data;
use crate::sizes::Sizes;
use crate::workload::Family;
use content::{Writer, seed_of};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The files of one round.
#[derive(Debug)]
pub struct Ground {
    folder: PathBuf,
}

impl Ground {
    /// Makes the files that `families` need in `round`, beneath `share`, and waits until they are on
    /// disk, so that writing them is not measured with the rest. Families that write need none.
    ///
    /// # Errors
    /// Whatever the file system says, for instance that the round has its files already.
    pub fn make(
        share: &Path,
        round: u32,
        families: &[Family],
        sizes: &Sizes,
        data: Data,
        seed: u64,
    ) -> io::Result<Self> {
        let ground = Self {
            folder: share.join(format!("r{round}")),
        };
        fs::create_dir(&ground.folder)?;
        let mut writer = Writer::new(data);
        for family in families {
            let folder = Self::folder(share, round, *family);
            let seed = seed_of(seed, &format!("r{round}/{}", family.name()));
            lay_out(&folder, *family, sizes, seed, &mut writer)?;
        }
        rustix::fs::syncfs(File::open(share)?)?;
        Ok(ground)
    }

    /// Where the files of `family` are in `round`, beneath the shared folder or a mount of it.
    pub fn folder(root: &Path, round: u32, family: Family) -> PathBuf {
        root.join(format!("r{round}")).join(family.name())
    }

    /// Bytes of content that a round of `families` has, to see whether there is room.
    pub fn bytes(families: &[Family], sizes: &Sizes) -> u64 {
        families
            .iter()
            .flat_map(|family| layout::files(*family, sizes))
            .map(|file| file.bytes)
            .sum()
    }

    /// Removes the files.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(self.folder)
    }
}

fn lay_out(
    folder: &Path,
    family: Family,
    sizes: &Sizes,
    seed: u64,
    writer: &mut Writer,
) -> io::Result<()> {
    fs::create_dir(folder)?;
    let mut made = HashSet::new();
    for file in layout::files(family, sizes) {
        let path = folder.join(&file.name);
        if let Some(parent) = path.parent()
            && made.insert(parent.to_path_buf())
        {
            fs::create_dir_all(parent)?;
        }
        writer.create(&path, file.bytes, seed_of(seed, &file.name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
