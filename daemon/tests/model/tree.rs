//! The model: a tree of files and directories, as POSIX has it.

use std::collections::BTreeMap;
use wormhole_protocol::{Fault, RenameHow};

pub(crate) type Id = usize;

/// The root's number.
pub(crate) const ROOT: Id = 0;

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    File(Vec<u8>),
    Dir(BTreeMap<&'static str, Id>),
}

/// A name in a directory.
pub(crate) type Place = (Id, &'static str);

/// All nodes there ever were; those without names may still be open.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::Dir(BTreeMap::new())],
        }
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    pub(crate) fn is_dir(&self, id: Id) -> bool {
        matches!(self.nodes[id], Node::Dir(_))
    }

    pub(crate) fn entries(&self, dir: Id) -> &BTreeMap<&'static str, Id> {
        match &self.nodes[dir] {
            Node::Dir(entries) => entries,
            Node::File(_) => panic!("{dir} is no directory"),
        }
    }

    fn entries_mut(&mut self, dir: Id) -> &mut BTreeMap<&'static str, Id> {
        match &mut self.nodes[dir] {
            Node::Dir(entries) => entries,
            Node::File(_) => panic!("{dir} is no directory"),
        }
    }

    pub(crate) fn bytes(&self, file: Id) -> &Vec<u8> {
        match &self.nodes[file] {
            Node::File(bytes) => bytes,
            Node::Dir(_) => panic!("{file} is a directory"),
        }
    }

    pub(crate) fn bytes_mut(&mut self, file: Id) -> &mut Vec<u8> {
        match &mut self.nodes[file] {
            Node::File(bytes) => bytes,
            Node::Dir(_) => panic!("{file} is a directory"),
        }
    }

    pub(crate) fn find(&self, (dir, name): Place) -> Option<Id> {
        self.entries(dir).get(name).copied()
    }

    /// Names of a file.
    pub(crate) fn links(&self, id: Id) -> usize {
        let dirs = self.nodes.iter().filter_map(|node| match node {
            Node::Dir(entries) => Some(entries),
            Node::File(_) => None,
        });
        dirs.flat_map(|entries| entries.values())
            .filter(|entry| **entry == id)
            .count()
    }

    fn add(&mut self, (dir, name): Place, node: Node) -> Id {
        let id = self.nodes.len();
        self.nodes.push(node);
        self.entries_mut(dir).insert(name, id);
        id
    }

    pub(crate) fn create(
        &mut self,
        place: Place,
        exclusive: bool,
        truncate: bool,
    ) -> Result<Id, Fault> {
        let Some(id) = self.find(place) else {
            return Ok(self.add(place, Node::File(Vec::new())));
        };
        if exclusive {
            return Err(Fault::Exists);
        }
        if self.is_dir(id) {
            return Err(Fault::IsDirectory);
        }
        if truncate {
            self.bytes_mut(id).clear();
        }
        Ok(id)
    }

    pub(crate) fn make_dir(&mut self, place: Place) -> Result<Id, Fault> {
        match self.find(place) {
            Some(_) => Err(Fault::Exists),
            None => Ok(self.add(place, Node::Dir(BTreeMap::new()))),
        }
    }

    pub(crate) fn unlink(&mut self, place: Place) -> Result<(), Fault> {
        match self.find(place) {
            None => Err(Fault::NotFound),
            Some(id) if self.is_dir(id) => Err(Fault::IsDirectory),
            Some(_) => {
                self.entries_mut(place.0).remove(place.1);
                Ok(())
            }
        }
    }

    pub(crate) fn remove_dir(&mut self, place: Place) -> Result<(), Fault> {
        match self.find(place) {
            None => Err(Fault::NotFound),
            Some(id) if !self.is_dir(id) => Err(Fault::NotDirectory),
            Some(id) if !self.entries(id).is_empty() => Err(Fault::NotEmpty),
            Some(_) => {
                self.entries_mut(place.0).remove(place.1);
                Ok(())
            }
        }
    }

    pub(crate) fn link(&mut self, id: Id, to: Place) -> Result<(), Fault> {
        if self.find(to).is_some() {
            return Err(Fault::Exists);
        }
        self.entries_mut(to.0).insert(to.1, id);
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: Place, to: Place, how: RenameHow) -> Result<(), Fault> {
        let moved = self.find(from).ok_or(Fault::NotFound)?;
        let there = self.find(to);
        match (how, there) {
            (RenameHow::NoReplace, Some(_)) => return Err(Fault::Exists),
            (RenameHow::Exchange, None) => return Err(Fault::NotFound),
            (RenameHow::Exchange, Some(other)) => {
                self.entries_mut(from.0).insert(from.1, other);
                self.entries_mut(to.0).insert(to.1, moved);
                return Ok(());
            }
            (RenameHow::Replace, Some(other)) if other == moved => return Ok(()),
            // The directory it is in is not empty, before anything else is looked at.
            (RenameHow::Replace, Some(other)) if other == from.0 => return Err(Fault::NotEmpty),
            (RenameHow::Replace, Some(other)) => match (self.is_dir(moved), self.is_dir(other)) {
                (false, true) => return Err(Fault::IsDirectory),
                (true, false) => return Err(Fault::NotDirectory),
                (true, true) if !self.entries(other).is_empty() => return Err(Fault::NotEmpty),
                _ => {}
            },
            _ => {}
        }
        self.entries_mut(from.0).remove(from.1);
        self.entries_mut(to.0).insert(to.1, moved);
        Ok(())
    }

    /// As `pwrite(2)`.
    pub(crate) fn write(&mut self, file: Id, offset: usize, data: &[u8]) {
        let bytes = self.bytes_mut(file);
        let end = offset + data.len();
        if data.is_empty() {
            return;
        }
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(data);
    }
}
