//! A path as text, without losing a byte and without moving a terminal's cursor.
//!
//! Paths are bytes; JSON, logs and terminals want text. Valid UTF-8 stays as it is; control
//! characters, backslashes and bytes that are no UTF-8 become `\xNN`, which is undone when read back.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::ops::Deref;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A path that shows and serializes itself as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PathText(pub PathBuf);

impl Deref for PathText {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for PathText {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl<T: Into<PathBuf>> From<T> for PathText {
    fn from(path: T) -> Self {
        Self(path.into())
    }
}

impl fmt::Display for PathText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\x5c")?,
                    // Also the C1 controls, which some terminals obey: byte by byte.
                    c if c.is_control() => {
                        let mut utf8 = [0; 4];
                        for byte in c.encode_utf8(&mut utf8).bytes() {
                            write!(f, "\\x{byte:02x}")?;
                        }
                    }
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for PathText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PathText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes =
            unescape(&text).ok_or_else(|| D::Error::custom("malformed escape in a path"))?;
        Ok(Self(PathBuf::from(OsString::from_vec(bytes))))
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('\\');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.strip_prefix('x')?.get(..2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[3..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_paths_stay_as_they_are() {
        let path = PathText::from("/home/jürgen/my files, and \"more\"");
        assert_eq!(path.to_string(), path.0.to_str().unwrap());
    }

    #[test]
    fn controls_and_invalid_bytes_are_escaped() {
        let path = PathText(PathBuf::from(OsString::from_vec(
            b"a\nb\x1b[2J\xff\\x\xc2\x9b".to_vec(),
        )));
        assert_eq!(path.to_string(), r"a\x0ab\x1b[2J\xff\x5cx\xc2\x9b");
    }

    #[test]
    fn a_malformed_escape_is_refused() {
        for text in [
            r#""\\""#,
            r#""\\x""#,
            r#""\\x1""#,
            r#""\\xg0""#,
            r#""\\n""#,
            r#""\\x1é""#,
        ] {
            assert!(serde_json::from_str::<PathText>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive_json(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let path = PathText(PathBuf::from(OsString::from_vec(bytes)));
            let json = serde_json::to_string(&path).unwrap();
            prop_assert!(!json.bytes().any(|b| b.is_ascii_control()));
            prop_assert_eq!(serde_json::from_str::<PathText>(&json).unwrap(), path);
        }
    }
}
