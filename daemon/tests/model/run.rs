//! Does each step in a mount and in the model, and compares.
//!
//! Programs of one mount see each other's writes at once. Programs of different mounts do when the file has
//! been flushed and is opened or looked at afterwards: so before a mount touches a file, what the other has
//! written to it is flushed.

use super::compare::{Check, agree, same, same_bytes};
use super::mount::{Mount, Open};
use super::op::{At, Cut, DIRS, NAMES, Op, SLOTS, Step};
use super::tree::{Id, Node, Place, ROOT, Tree};
use super::world::World;
use std::fs;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use wormhole::mount::durability::Durability;
use wormhole::mount::error::FsError;
use wormhole_protocol::{Attr, Fault, FileKind, RenameHow};

/// Something arrives within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a slot of a mount has open.
#[derive(Clone, Copy)]
struct Slot {
    open: Open,
    id: Id,
    appends: bool,
    is_dirty: bool,
}

struct Run {
    world: World,
    mounts: [Mount; 2],
    slots: [[Option<Slot>; SLOTS]; 2],
    tree: Tree,
    /// Who looks at what was closed.
    reader: Option<usize>,
}

/// Runs the steps in one mount, which holds what it looks into alone, and looks at everything in both afterwards.
pub(crate) async fn run_alone(steps: &[Step], durability: Durability) -> Check {
    let world = World::new();
    let mounts = [
        Mount::new(world.mount(1, true, durability).await),
        Mount::new(world.mount(2, true, Durability::Strict).await),
    ];
    // Two files, and further ones are made early.
    mounts[0].list("").await.map_err(|e| format!("{e:?}"))?;
    for _ in 0..2 {
        let open = mounts[0].create("", "warm", true, false).await;
        let open = open.map_err(|e| format!("{e:?}"))?;
        let closed = mounts[0].close(open).await;
        closed.map_err(|e| format!("{e:?}"))?;
        let gone = mounts[0].unlink("", "warm").await;
        gone.map_err(|e| format!("{e:?}"))?;
    }
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    let mut run = Run {
        world,
        mounts,
        slots: [[None; SLOTS]; 2],
        tree: Tree::new(),
        reader: Some(0),
    };
    for (number, step) in steps.iter().enumerate() {
        let step = Step {
            mount: 0,
            ..step.clone()
        };
        let done = run.step(&step).await;
        done.map_err(|error| format!("step {number}, {step:?}: {error}"))?;
    }
    run.finish().await
}

/// Runs the steps, in mounts that believe what is leased or nothing, and looks at everything afterwards.
pub(crate) async fn run(steps: &[Step], leases: bool) -> Check {
    let world = World::new();
    let mounts = [
        Mount::new(world.mount(1, leases, Durability::Strict).await),
        Mount::new(world.mount(2, leases, Durability::Strict).await),
    ];
    let mut run = Run {
        world,
        mounts,
        slots: [[None; SLOTS]; 2],
        tree: Tree::new(),
        reader: None,
    };
    for (number, step) in steps.iter().enumerate() {
        let done = run.step(step).await;
        done.map_err(|error| format!("step {number}, {step:?}: {error}"))?;
    }
    run.finish().await
}

fn bytes_of(seed: u8, offset: usize, len: usize) -> Vec<u8> {
    let byte = |at: usize| (at / 251) as u8 ^ (at as u8).wrapping_mul(31) ^ seed | 1;
    (offset..offset + len).map(byte).collect()
}

fn text((dir, name): At) -> (&'static str, &'static str) {
    (DIRS[dir], NAMES[name])
}

/// Has an operation done, its connection being cut as told.
async fn with_cut<T>(mount: &Mount, cut: Cut, operation: impl Future<Output = T>) -> T {
    match cut {
        Cut::Not => operation.await,
        Cut::Before => {
            mount.door.cut();
            operation.await
        }
        Cut::During(turns) => {
            let cutting = async {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                mount.door.cut();
            };
            tokio::join!(operation, cutting).0
        }
    }
}

impl Run {
    /// The directory, if it is there and is one.
    fn dir(&self, dir: usize) -> Option<Id> {
        if dir == 0 {
            return Some(ROOT);
        }
        let id = self.tree.find((ROOT, DIRS[dir]))?;
        self.tree.is_dir(id).then_some(id)
    }

    /// The place in the model; `None` if its directory is not there.
    fn place(&self, (dir, name): At) -> Option<Place> {
        Some((self.dir(dir)?, NAMES[name]))
    }

    fn find(&self, at: At) -> Option<Id> {
        self.tree.find(self.place(at)?)
    }

    /// What the other mount has written to a file is flushed, so that this one sees it.
    async fn flush_elsewhere(&mut self, mount: usize, id: Id) -> Check {
        let other = 1 - mount;
        for slot in self.slots[other].iter_mut().flatten() {
            if slot.id == id && std::mem::take(&mut slot.is_dirty) {
                let flushed = self.mounts[other].flush(slot.open).await;
                flushed.map_err(|error| format!("the other mount's flush: {error:?}"))?;
            }
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Check {
        let touched = match step.op {
            Op::Create { at, .. }
            | Op::Open { at, .. }
            | Op::Truncate { at, .. }
            | Op::Stat { at } => self.find(at),
            Op::Link { from, .. } => self.find(from),
            Op::Write { slot, .. }
            | Op::Read { slot, .. }
            | Op::TruncateOpen { slot, .. }
            | Op::StatOpen { slot } => self.slots[step.mount][slot].map(|slot| slot.id),
            _ => None,
        };
        if let Some(id) = touched {
            self.flush_elsewhere(step.mount, id).await?;
        }
        match step.op {
            Op::Create { slot, .. } | Op::Open { slot, .. } | Op::Close { slot } => {
                self.close(step.mount, slot, step.cut).await?;
            }
            _ => {}
        }
        match step.op {
            Op::Create { .. } | Op::Open { .. } => self.open(step).await,
            Op::Close { .. } => Ok(()),
            Op::Write { .. } | Op::Read { .. } | Op::Sync { .. } => self.content(step).await,
            Op::TruncateOpen { .. } | Op::StatOpen { .. } => self.content(step).await,
            Op::Truncate { .. } | Op::Stat { .. } | Op::List { .. } => self.look(step).await,
            _ => self.names(step).await,
        }
    }

    /// Closes a slot; the other mount sees what was written.
    async fn close(&mut self, mount: usize, slot: usize, cut: Cut) -> Check {
        let Some(slot) = self.slots[mount][slot].take() else {
            return Ok(());
        };
        let here = &self.mounts[mount];
        let closed = with_cut(here, cut, here.close(slot.open)).await;
        closed.map_err(|error| format!("close: {error:?}"))?;
        self.flush_elsewhere(mount, slot.id).await?;
        for (dir, dir_name) in DIRS.iter().enumerate() {
            let Some(dir) = self.dir(dir) else { continue };
            let entries = self.tree.entries(dir).iter();
            for (name, _) in entries.filter(|(_, id)| **id == slot.id) {
                let read = self.mounts[self.reader.unwrap_or(1 - mount)]
                    .read_all(dir_name, name)
                    .await;
                let read = read.map_err(|error| format!("read after close: {error:?}"))?;
                same_bytes("what was closed", &read, self.tree.bytes(slot.id))?;
            }
        }
        Ok(())
    }

    async fn open(&mut self, step: &Step) -> Check {
        let here = &self.mounts[step.mount];
        let (got, expected, slot, appends) = match step.op {
            Op::Create {
                at,
                slot,
                exclusive,
                truncate,
            } => {
                let Some(place) = self.place(at) else {
                    return Ok(());
                };
                let (dir, name) = text(at);
                let create = here.create(dir, name, exclusive, truncate);
                let got = with_cut(here, step.cut, create).await;
                let expected = self.tree.create(place, exclusive, truncate);
                (got, expected, slot, false)
            }
            Op::Open {
                at,
                slot,
                appends,
                truncates,
            } => {
                let Some(place) = self.place(at) else {
                    return Ok(());
                };
                let (dir, name) = text(at);
                let got =
                    with_cut(here, step.cut, here.open(dir, name, (appends, truncates))).await;
                let expected = match self.tree.find(place) {
                    None => Err(Fault::NotFound),
                    Some(id) if self.tree.is_dir(id) => Err(Fault::IsDirectory),
                    Some(id) => {
                        if truncates {
                            self.tree.bytes_mut(id).clear();
                        }
                        Ok(id)
                    }
                };
                (got, expected, slot, appends)
            }
            _ => return Ok(()),
        };
        if let Some((open, id)) = agree(got, expected)? {
            self.slots[step.mount][slot] = Some(Slot {
                open,
                id,
                appends,
                is_dirty: false,
            });
        }
        Ok(())
    }

    async fn content(&mut self, step: &Step) -> Check {
        let (Op::Write { slot, .. }
        | Op::Read { slot, .. }
        | Op::Sync { slot }
        | Op::TruncateOpen { slot, .. }
        | Op::StatOpen { slot }) = step.op
        else {
            return Ok(());
        };
        let here = &self.mounts[step.mount];
        let Some(open) = &mut self.slots[step.mount][slot] else {
            return Ok(());
        };
        let failed = |error: FsError| format!("{error:?}");
        match step.op {
            Op::Write {
                offset, len, seed, ..
            } => {
                let end = self.tree.bytes(open.id).len();
                let offset = if open.appends { end } else { offset };
                let data = bytes_of(seed, offset, len);
                let written = here.write(open.open, offset, &data);
                with_cut(here, step.cut, written).await.map_err(failed)?;
                self.tree.write(open.id, offset, &data);
                open.is_dirty |= !open.appends;
                Ok(())
            }
            Op::Read { offset, len, .. } => {
                let read = here.read(open.open, offset, len);
                let read = with_cut(here, step.cut, read).await.map_err(failed)?;
                let bytes = self.tree.bytes(open.id);
                let range = offset.min(bytes.len())..(offset + len).min(bytes.len());
                same_bytes("what was read", &read, &bytes[range])
            }
            Op::Sync { .. } => {
                let synced = with_cut(here, step.cut, here.sync(open.open)).await;
                open.is_dirty = false;
                synced.map_err(failed)
            }
            Op::TruncateOpen { size, .. } => {
                let cut = here.truncate_open(open.open, size);
                let attr = with_cut(here, step.cut, cut).await.map_err(failed)?;
                self.tree.bytes_mut(open.id).resize(size, 0);
                same("size", attr.size, size as u64)
            }
            _ => {
                let stat = here.stat_open(open.open);
                let attr = with_cut(here, step.cut, stat).await.map_err(failed)?;
                let (id, links) = (open.id, self.tree.links(open.id));
                same("size", attr.size, self.tree.bytes(id).len() as u64)?;
                same("links", attr.links, links as u32)
            }
        }
    }

    fn is_as_it_should(&self, attr: &Attr, id: Id) -> Check {
        match self.tree.node(id) {
            Node::Dir(_) => same("kind", attr.kind, FileKind::Directory),
            Node::File(bytes) => {
                same("kind", attr.kind, FileKind::File)?;
                same("size", attr.size, bytes.len() as u64)?;
                same("links", attr.links as usize, self.tree.links(id))
            }
        }
    }

    async fn look(&mut self, step: &Step) -> Check {
        let here = &self.mounts[step.mount];
        match step.op {
            Op::List { dir } => {
                let Some(id) = self.dir(dir) else {
                    return Ok(());
                };
                let listed = with_cut(here, step.cut, here.list(DIRS[dir])).await;
                let listed = listed.map_err(|error| format!("{error:?}"))?;
                let expected: Vec<_> = self.tree.entries(id).keys().map(|n| (*n).into()).collect();
                same("listing", listed, expected)
            }
            Op::Stat { at } => {
                let Some(place) = self.place(at) else {
                    return Ok(());
                };
                let (dir, name) = text(at);
                let got = with_cut(here, step.cut, here.stat(dir, name)).await;
                let expected = self.tree.find(place).ok_or(Fault::NotFound);
                match agree(got, expected)? {
                    Some((attr, id)) => self.is_as_it_should(&attr, id),
                    None => Ok(()),
                }
            }
            Op::Truncate { at, size } => {
                let Some(place) = self.place(at) else {
                    return Ok(());
                };
                let (dir, name) = text(at);
                let got = with_cut(here, step.cut, here.truncate(dir, name, size)).await;
                let expected = match self.tree.find(place) {
                    None => Err(Fault::NotFound),
                    Some(id) if self.tree.is_dir(id) => Err(Fault::IsDirectory),
                    Some(id) => {
                        self.tree.bytes_mut(id).resize(size, 0);
                        Ok(id)
                    }
                };
                match agree(got, expected)? {
                    Some((attr, id)) => self.is_as_it_should(&attr, id),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    async fn names(&mut self, step: &Step) -> Check {
        let here = &self.mounts[step.mount];
        match step.op {
            Op::Rename { from, to, how } => {
                let (Some(from_place), Some(to_place)) = (self.place(from), self.place(to)) else {
                    return Ok(());
                };
                if from.0 != to.0 && self.moves_a_directory(from_place, to_place, how) {
                    return Ok(());
                }
                let rename = here.rename(text(from), text(to), how);
                let got = with_cut(here, step.cut, rename).await;
                agree(got, self.tree.rename(from_place, to_place, how)).map(drop)
            }
            Op::Unlink { at } => {
                let Some(place) = self.place(at) else {
                    return Ok(());
                };
                let (dir, name) = text(at);
                let got = with_cut(here, step.cut, here.unlink(dir, name)).await;
                agree(got, self.tree.unlink(place)).map(drop)
            }
            Op::RemoveDir { at } => {
                let Some(place) = self.place(at) else {
                    return Ok(());
                };
                let (dir, name) = text(at);
                let got = with_cut(here, step.cut, here.remove_dir(dir, name)).await;
                agree(got, self.tree.remove_dir(place)).map(drop)
            }
            Op::MakeDir { at } => {
                let Some(place) = self.place(at) else {
                    return Ok(());
                };
                let (dir, name) = text(at);
                let got = with_cut(here, step.cut, here.make_dir(dir, name)).await;
                agree(got, self.tree.make_dir(place)).map(drop)
            }
            Op::Link { from, to } => {
                let (Some(from_place), Some(to_place)) = (self.place(from), self.place(to)) else {
                    return Ok(());
                };
                let got = with_cut(here, step.cut, here.link(text(from), text(to))).await;
                let expected = match self.tree.find(from_place) {
                    None => Err(Fault::NotFound),
                    Some(id) if self.tree.is_dir(id) => Err(Fault::NotPermitted),
                    Some(id) => self.tree.link(id, to_place),
                };
                agree(got, expected).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Directories stay in the root, so that paths stay short.
    fn moves_a_directory(&self, from: Place, to: Place, how: RenameHow) -> bool {
        let is_dir = |place| self.tree.find(place).is_some_and(|id| self.tree.is_dir(id));
        is_dir(from) || how == RenameHow::Exchange && is_dir(to)
    }

    /// Closes everything; then the host's folder, and both mounts' view of it, are the model.
    async fn finish(mut self) -> Check {
        for mount in 0..2 {
            for slot in 0..SLOTS {
                self.close(mount, slot, Cut::Not).await?;
            }
            let vfs = &self.mounts[mount].vfs;
            same("drained", vfs.drain(PATIENCE).await, true)?;
            same("losses", vfs.pending().snapshot().losses, Vec::new())?;
        }
        for (number, dir_name) in DIRS.iter().enumerate() {
            let Some(dir) = self.dir(number) else {
                continue;
            };
            let expected: Vec<String> =
                self.tree.entries(dir).keys().map(|n| (*n).into()).collect();
            for mount in &self.mounts {
                let listed = mount.list(dir_name).await;
                same("listing", listed, Ok(expected.clone()))?;
            }
            let folder = self.world.folder().join(dir_name);
            same("folder", names(&folder), expected)?;
            for (name, id) in self.tree.entries(dir) {
                let Node::File(bytes) = self.tree.node(*id) else {
                    continue;
                };
                let path = folder.join(name);
                same_bytes(name, &fs::read(&path).unwrap(), bytes)?;
                let links = fs::metadata(&path).unwrap().nlink();
                same("links", links as usize, self.tree.links(*id))?;
                for mount in &self.mounts {
                    let read = mount.read_all(dir_name, name).await;
                    let read = read.map_err(|error| format!("{name}: {error:?}"))?;
                    same_bytes(name, &read, bytes)?;
                    let attr = mount.stat(dir_name, name).await;
                    let attr = attr.map_err(|error| format!("{name}: {error:?}"))?;
                    self.is_as_it_should(&attr, *id)?;
                }
            }
        }
        for mount in &self.mounts {
            mount.link.close().await;
        }
        Ok(())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
