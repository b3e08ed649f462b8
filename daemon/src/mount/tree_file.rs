//! The tree on disk: what a mount knows of its host's directories, for the next mount of the share.
//!
//! It lies beside the disk cache, which checks that it is whole and of this share; what the listings in it are worth,
//! the host says (`beliefs/former`). It is read once, when mounting, in the background. It is written when the mount
//! ends, and now and then while something changes, slowly, so that what is lost with a crash is little: what is
//! outdated in it costs the next mount a question and does no harm.

use super::beliefs::Beliefs;
use super::inodes::Inodes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};
use wormhole_cache::{Disk, TREE_SECTION_BYTES_MAX, TreeFile as End};

/// Between two times it is written while the mount goes on, at the least.
const EVERY: Duration = Duration::from_secs(60);
/// And in what writing it took: a twentieth of a core at the most.
const EVERY_WORK: u32 = 20;
/// Of the time between two sections, this part is work.
const SHARE_OF_TIME: u32 = 10;
/// A section is full with so many bytes.
const SECTION_BYTES: usize = 256 * 1024;
/// How long the end of a mount waits for it.
const END_MAX: Duration = Duration::from_secs(10);

/// The file of one mount.
pub struct TreeFile {
    disk: Arc<Disk>,
    beliefs: Arc<Beliefs>,
    inodes: Arc<Inodes>,
    /// What was known when it was written last.
    saved: AtomicU64,
    /// The mount ends: no time to be slow.
    hurry: AtomicBool,
}

/// Reads and writes it until it is dropped.
pub struct Keeping {
    file: Arc<TreeFile>,
    task: AbortHandle,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TreeFile {
    /// The file beside `disk`, of what `beliefs` know of the directories of `inodes`. Begins to read it. Must be called within the
    /// runtime.
    pub fn keep(disk: Arc<Disk>, beliefs: Arc<Beliefs>, inodes: Arc<Inodes>) -> Keeping {
        let file = Arc::new(Self {
            saved: AtomicU64::new(beliefs.listings_number()),
            disk,
            beliefs,
            inodes,
            hurry: AtomicBool::new(false),
        });
        file.beliefs.begin_reading();
        let task = tokio::spawn(file.clone().run()).abort_handle();
        Keeping { file, task }
    }

    async fn run(self: Arc<Self>) {
        let file = self.clone();
        let _ = spawn_blocking(move || file.read()).await;
        loop {
            sleep(EVERY).await;
            if self.is_current() {
                continue;
            }
            let (file, began) = (self.clone(), Instant::now());
            let _ = spawn_blocking(move || file.write()).await;
            sleep(began.elapsed() * EVERY_WORK / SHARE_OF_TIME).await;
        }
    }

    fn read(&self) {
        let mut take = |section: &[u8]| self.beliefs.take_saved(section);
        match self.disk.read_tree(&mut take) {
            Ok(End::Damaged) => {
                tracing::info!("the tree on disk is damaged, or of another version")
            }
            Ok(End::Absent | End::Whole | End::Enough) => {}
            Err(error) => tracing::warn!("the tree on disk cannot be read: {error}"),
        }
        self.beliefs.end_reading();
    }

    fn is_current(&self) -> bool {
        self.saved.load(Relaxed) == self.beliefs.listings_number()
    }

    /// Writes what is known now. Blocks the thread.
    fn write(&self) {
        let number = self.beliefs.listings_number();
        let mut left = self.beliefs.to_save(&self.inodes);
        if left.is_empty() {
            return;
        }
        let mut began = std::time::Instant::now();
        let mut next = |section: &mut Vec<u8>| {
            if !self.hurry.load(Relaxed) {
                std::thread::sleep(
                    began.elapsed().min(Duration::from_millis(100)) * (SHARE_OF_TIME - 1),
                );
            }
            began = std::time::Instant::now();
            while section.len() < SECTION_BYTES
                && let Some(saved) = left.pop_front()
            {
                let before = section.len();
                saved.save(section);
                // One long directory keeps none of the others out.
                if section.len() > TREE_SECTION_BYTES_MAX {
                    section.truncate(before);
                }
            }
        };
        match self.disk.write_tree(&mut next) {
            Ok(_) => self.saved.store(number, Relaxed),
            Err(error) => tracing::warn!("the tree on disk cannot be written: {error}"),
        }
    }
}

impl Keeping {
    /// Writes what is known at the end, if that is not what was written last.
    pub async fn end(self) {
        self.task.abort();
        self.file.hurry.store(true, Relaxed);
        if self.file.is_current() {
            return;
        }
        let file = self.file.clone();
        let written = spawn_blocking(move || file.write());
        if timeout(END_MAX, written).await.is_err() {
            tracing::warn!("the tree on disk takes long to write and is left as it was");
        }
    }
}
