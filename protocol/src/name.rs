//! Names, paths and link targets: raw bytes that were checked.
//!
//! A host is stateless about names: each request carries a path beneath the share root. These types
//! cannot hold a component that would leave it; what a symlink in the way would do is the kernel's
//! to refuse (`openat2(2)`, `RESOLVE_BENEATH`). Names are bytes, not text: no encoding is assumed.

use crate::codec::validated;
use crate::limits::{LINK_TARGET_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, XATTR_NAME_BYTES_MAX};
use std::fmt;

/// Why bytes are no name, path or link target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty where something is needed.
    #[error("empty")]
    Empty,
    /// Longer than its limit in [`crate::limits`].
    #[error("too long")]
    TooLong,
    /// `.`, `..`, or a slash or NUL byte inside.
    #[error("not a plain name")]
    Forbidden,
}

/// The name of one directory entry: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// Checks `bytes` and takes them as a name.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        check_component(&bytes)?;
        Ok(Self(bytes))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for Name {
    type Error = NameError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, NameError> {
        Self::new(bytes)
    }
}

/// A path beneath the share root: names joined by `/`; empty for the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// The share root.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Checks `bytes` (`a/b/c`, without leading or trailing slash) and takes them as a path.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        if bytes.len() > PATH_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if !bytes.is_empty() {
            bytes.split(|b| *b == b'/').try_for_each(check_component)?;
        }
        Ok(Self(bytes))
    }

    /// The path of `name` in this directory.
    pub fn join(&self, name: &Name) -> Result<Self, NameError> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        if !self.0.is_empty() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(&name.0);
        if bytes.len() > PATH_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        Ok(Self(bytes))
    }

    /// The directory this is in, and its name there; none for the root.
    pub fn split(&self) -> Option<(Self, Name)> {
        let (dir, name) = match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&self.0[..0], self.0.as_slice()),
        };
        let dir = Self(dir.to_vec());
        (!self.is_root()).then(|| (dir, Name(name.to_vec())))
    }

    /// Whether this is the share root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The raw bytes, names joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The names from the root downwards.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }
}

impl TryFrom<Vec<u8>> for RelPath {
    type Error = NameError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, NameError> {
        Self::new(bytes)
    }
}

/// What a symlink says: data that only the reader's kernel interprets. Any bytes but NUL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LinkTarget(Vec<u8>);

impl LinkTarget {
    /// Checks `bytes` and takes them as a link target.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(NameError::Empty),
            n if n > LINK_TARGET_BYTES_MAX => Err(NameError::TooLong),
            _ if bytes.contains(&0) => Err(NameError::Forbidden),
            _ => Ok(Self(bytes)),
        }
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for LinkTarget {
    type Error = NameError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, NameError> {
        Self::new(bytes)
    }
}

/// POSIX access control lists, as Linux keeps them (acl(5)).
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// The name of an extended attribute that travels: any in the `user.` namespace, and the two that hold POSIX
/// ACLs. `security.`, `trusted.` and the rest of `system.` mean something to the host's kernel alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct XattrName(Vec<u8>);

impl XattrName {
    /// Checks `bytes` and takes them as an attribute's name.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        if bytes.len() > XATTR_NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if ACLS.contains(&bytes.as_slice()) {
            return Ok(Self(bytes));
        }
        match bytes.strip_prefix(b"user.") {
            Some([]) => Err(NameError::Empty),
            Some(_) if !bytes.contains(&0) => Ok(Self(bytes)),
            _ => Err(NameError::Forbidden),
        }
    }

    /// Whether it holds an access control list.
    pub fn is_acl(&self) -> bool {
        ACLS.contains(&self.0.as_slice())
    }

    /// The raw bytes, namespace included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for XattrName {
    type Error = NameError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, NameError> {
        Self::new(bytes)
    }
}

fn check_component(bytes: &[u8]) -> Result<(), NameError> {
    match bytes {
        [] => Err(NameError::Empty),
        b"." | b".." => Err(NameError::Forbidden),
        _ if bytes.len() > NAME_BYTES_MAX => Err(NameError::TooLong),
        _ if bytes.iter().any(|b| matches!(b, 0 | b'/')) => Err(NameError::Forbidden),
        _ => Ok(()),
    }
}

validated!(Name, Vec<u8>, |n: &Name| &n.0);
validated!(RelPath, Vec<u8>, |p: &RelPath| &p.0);
validated!(LinkTarget, Vec<u8>, |t: &LinkTarget| &t.0);
validated!(XattrName, Vec<u8>, |x: &XattrName| &x.0);

/// Shows raw bytes with everything but printable ASCII escaped, so that a name can never write
/// control sequences to a terminal or a log.
macro_rules! shown_escaped {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.escape_ascii())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"{}\"", self.0.escape_ascii())
            }
        }
    )*};
}
shown_escaped!(Name, RelPath, LinkTarget, XattrName);
