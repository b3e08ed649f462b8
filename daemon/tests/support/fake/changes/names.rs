//! Names of a made-up host that are taken and given: unlinked, removed, renamed.

use super::World;
use wormhole_protocol::*;

impl World<'_> {
    /// Takes a file's only name. It stays if it is open, or is to be kept under a number.
    fn orphan(&mut self, path: &[u8], keep: Option<OpenId>) -> Option<Attr> {
        let mut file = self.tree.remove(path)?;
        if let Some(open) = keep
            && file.attr.kind == FileKind::File
        {
            self.held.opens.insert(open, file.attr.id);
        }
        if !self.held.is_open(file.attr.id) {
            return None;
        }
        file.attr.links = 0;
        let attr = file.attr;
        self.held.orphans.insert(attr.id, file);
        Some(attr)
    }

    pub(super) fn unlink(
        &mut self,
        dir: &NodeRef,
        name: &Name,
        keep: Option<OpenId>,
    ) -> Result<Reply, Fault> {
        let path = self.child(dir, name)?;
        match self.tree.get(&path) {
            None => return Err(Fault::NotFound),
            Some(file) if file.attr.kind == FileKind::Directory => return Err(Fault::IsDirectory),
            Some(_) => {}
        }
        let left = self.orphan(&path, keep);
        let dir = self.changed_dir(dir)?;
        Ok(Reply::Removed { dir, left })
    }

    pub(super) fn remove_dir(&mut self, dir: &NodeRef, name: &Name) -> Result<Reply, Fault> {
        let path = self.child(dir, name)?;
        match self.tree.get(&path) {
            None => return Err(Fault::NotFound),
            Some(file) if file.attr.kind != FileKind::Directory => return Err(Fault::NotDirectory),
            Some(_) if !self.is_empty(&path) => return Err(Fault::NotEmpty),
            Some(_) => {}
        }
        self.tree.remove(&path);
        let dir = self.changed_dir(dir)?;
        Ok(Reply::Removed { dir, left: None })
    }

    fn is_empty(&self, dir: &[u8]) -> bool {
        !self.tree.keys().any(|path| is_below(path, dir))
    }

    pub(super) fn rename(
        &mut self,
        (from, from_name): (&NodeRef, &Name),
        (to, to_name): (&NodeRef, &Name),
        how: RenameHow,
        keep: Option<OpenId>,
    ) -> Result<Reply, Fault> {
        let (old, new) = (self.child(from, from_name)?, self.child(to, to_name)?);
        let moved = self.tree.get(&old).ok_or(Fault::NotFound)?.attr;
        if is_below(&new, &old) || is_below(&old, &new) && how == RenameHow::Exchange {
            return Err(Fault::Invalid);
        }
        let there = self.tree.get(&new).map(|file| file.attr);
        let other = match (how, there) {
            (RenameHow::NoReplace, Some(_)) => return Err(Fault::Exists),
            (RenameHow::Exchange, None) => return Err(Fault::NotFound),
            (RenameHow::Exchange, Some(other)) => {
                self.move_tree(&new, b"\0aside");
                Some(other)
            }
            (_, Some(there)) if there.id != moved.id => self.replace(&moved, &there, &new, keep)?,
            _ => None,
        };
        self.move_tree(&old, &new);
        if how == RenameHow::Exchange {
            self.move_tree(b"\0aside", &old);
        }
        let (from, to) = (self.changed_dir(from)?, self.changed_dir(to)?);
        Ok(Reply::Renamed {
            attr: moved,
            from,
            to,
            other,
        })
    }

    /// Makes room for `moved` at `path`.
    fn replace(
        &mut self,
        moved: &Attr,
        there: &Attr,
        path: &[u8],
        keep: Option<OpenId>,
    ) -> Result<Option<Attr>, Fault> {
        let is_dir = |attr: &Attr| attr.kind == FileKind::Directory;
        match (is_dir(moved), is_dir(there)) {
            (true, false) => Err(Fault::NotDirectory),
            (false, true) => Err(Fault::IsDirectory),
            (true, true) if !self.is_empty(path) => Err(Fault::NotEmpty),
            _ => Ok(self.orphan(path, keep)),
        }
    }

    fn move_tree(&mut self, old: &[u8], new: &[u8]) {
        let paths = self.tree.keys();
        let moved: Vec<_> = paths
            .filter(|path| *path == old || is_below(path, old))
            .cloned()
            .collect();
        let files: Vec<_> = moved
            .into_iter()
            .filter_map(|path| self.tree.remove_entry(&path))
            .collect();
        for (path, file) in files {
            self.tree.insert([new, &path[old.len()..]].concat(), file);
        }
    }
}

fn is_below(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.starts_with(b"/") || dir.is_empty() && !rest.is_empty())
}
