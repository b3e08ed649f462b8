//! What is being done that programs were told is done: to names, by directory, and to the nodes beneath them.
//!
//! Lock: that of `Early`'s state, under which this lies.

use super::Making;
use crate::mount::inodes::Node;
use crate::mount::inodes::late::Late;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use wormhole_protocol::{FileId, Name};

/// What is being done to a name.
#[derive(Clone)]
pub(super) enum Work {
    /// It becomes that of a new file.
    Making(Arc<Making>),
    /// It is given to what has another, or taken away; says when that is over.
    Moving {
        /// To which file it leads then; none if to nothing.
        leads: Option<FileId>,
        /// Whether it is over.
        over: watch::Receiver<bool>,
    },
    /// Something was put off of what has it.
    Late(Late),
}

impl Work {
    /// Somebody waits.
    pub(super) fn hurry(&self) {
        if let Self::Making(making) = self {
            making.wake.notify_one();
        }
    }

    /// Waits until it is over.
    pub(super) async fn over(self) {
        match self {
            Self::Making(making) => making.finish().await,
            // An error means that whoever did it is gone, which is the end as well.
            Self::Late(late) => late.await,
            Self::Moving { mut over, .. } => drop(over.wait_for(|over| *over).await),
        }
    }
}

struct Busy {
    dir: Arc<Node>,
    names: HashMap<Name, Work>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Names {
    by_dir: HashMap<FileId, Busy>,
    /// Nodes of which something was put off, and how often.
    late: HashMap<FileId, (Arc<Node>, usize)>,
}

impl Names {
    /// Takes note of work on a name, in place of the making of `made`; false if there is other work already.
    pub(super) fn put(
        &mut self,
        dir: &Arc<Node>,
        name: &Name,
        work: Work,
        made: Option<FileId>,
    ) -> bool {
        let is_in_the_way =
            self.is_busy(dir.id, name) && (made.is_none() || self.making(dir.id, name) != made);
        if !is_in_the_way {
            let busy = self.by_dir.entry(dir.id).or_insert_with(|| Busy {
                dir: dir.clone(),
                names: HashMap::new(),
            });
            busy.names.insert(name.clone(), work);
        }
        !is_in_the_way
    }

    /// Where a name leads once what is being done to it is over.
    pub(super) fn leads(&self, dir: FileId, name: &Name) -> Option<Option<FileId>> {
        Some(match self.by_dir.get(&dir)?.names.get(name)? {
            Work::Making(making) => Some(making.file),
            Work::Moving { leads, .. } => *leads,
            Work::Late(_) => return None,
        })
    }

    /// The file that is being made under a name.
    pub(super) fn making(&self, dir: FileId, name: &Name) -> Option<FileId> {
        match self.by_dir.get(&dir)?.names.get(name)? {
            Work::Making(making) => Some(making.file),
            Work::Moving { .. } | Work::Late(_) => None,
        }
    }

    /// A file was made, or was not.
    pub(super) fn made(&mut self, making: &Making) {
        if self.making(making.dir.id, &making.name) == Some(making.file) {
            self.remove(making.dir.id, &making.name);
        }
    }

    /// It is over.
    pub(super) fn remove(&mut self, dir: FileId, name: &Name) {
        if let Some(busy) = self.by_dir.get_mut(&dir) {
            busy.names.remove(name);
            if busy.names.is_empty() {
                self.by_dir.remove(&dir);
            }
        }
    }

    /// Whether something is being done to a name.
    pub(super) fn is_busy(&self, dir: FileId, name: &Name) -> bool {
        let busy = self.by_dir.get(&dir);
        busy.is_some_and(|busy| busy.names.contains_key(name))
    }

    /// What is being done to a name.
    pub(super) fn of_name(&self, dir: FileId, name: &Name) -> Vec<Work> {
        let work = self.by_dir.get(&dir).and_then(|busy| busy.names.get(name));
        work.cloned().into_iter().collect()
    }

    /// To names in a directory, and what has them.
    pub(super) fn within(&self, dir: FileId) -> Vec<Work> {
        let busy = self.by_dir.get(&dir).into_iter();
        let busy = busy.flat_map(|busy| busy.names.values().cloned());
        let is_there = |node: &Arc<Node>| node.place().is_some_and(|(parent, _)| parent.id == dir);
        busy.chain(self.late(is_there)).collect()
    }

    /// To a name and what has it, and to all beneath it.
    pub(super) fn beneath(&self, dir: &Arc<Node>, name: &Name) -> Vec<Work> {
        let beneath = self.by_dir.values().filter(|b| b.dir.is_beneath(dir, name));
        let beneath = beneath.flat_map(|busy| busy.names.values().cloned());
        let late = self.late(|node| node.is_beneath(dir, name));
        beneath
            .chain(self.of_name(dir.id, name))
            .chain(late)
            .collect()
    }

    /// All.
    pub(super) fn all(&self) -> Vec<Work> {
        let busy = self.by_dir.values();
        let busy = busy.flat_map(|busy| busy.names.values().cloned());
        busy.chain(self.late(|_| true)).collect()
    }

    fn late(&self, concerns: impl Fn(&Arc<Node>) -> bool) -> impl Iterator<Item = Work> {
        let late = self.late.values().map(|(node, _)| node);
        let late = late.filter(move |node| concerns(node));
        late.filter_map(|node| node.late().map(Work::Late))
    }

    /// Something was put off of a node.
    pub(super) fn put_late(&mut self, node: &Arc<Node>) {
        self.late
            .entry(node.id)
            .or_insert_with(|| (node.clone(), 0))
            .1 += 1;
    }

    /// It is done.
    pub(super) fn end_late(&mut self, id: FileId) {
        if let Some((_, count)) = self.late.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.late.remove(&id);
            }
        }
    }
}
