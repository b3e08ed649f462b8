//! The links a user has named in a file, beside the built-in ones.
//!
//! ```toml
//! [link.office]
//! rtt = "80ms"
//! rate = "50mbit"
//! loss = "0.5%"            # or burst = "1%,20%,50%"
//! jitter = "5ms"
//! queue = "256k"
//! ```
//!
//! Every value is a text with its unit, as on the command line; what is left out is not emulated. A key
//! that is not known is refused: a typing error must not silently measure another link.
//!
//! Reading the file is the caller's; a catalog knows only its text.

use crate::overrides::{CUSTOM, OverrideError, Overrides};
use crate::profile::Profile;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The longest text that is read.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// The longest name of a link.
pub const NAME_BYTES_MAX: usize = 40;

/// Links by name: those of a file and the built-in ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    links: BTreeMap<String, Profile>,
}

/// Why a text is no catalog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// It is too long.
    #[error("the file has {0} bytes: profiles need at most {TEXT_BYTES_MAX}")]
    TooLong(usize),
    /// It is not TOML, or has something beside links.
    #[error("{0}")]
    Form(String),
    /// A link is not as it should be.
    #[error("[link.{}]: {fault}", .name.escape_debug())]
    Link {
        /// Its name.
        name: String,
        /// What is wrong.
        fault: LinkFault,
    },
}

/// What is wrong with a link of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// The name cannot be typed easily.
    #[error(
        "a name has 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -, and begins with a letter or digit"
    )]
    Name,
    /// The name already means something.
    #[error("this name is built in: choose another")]
    BuiltIn,
    /// A key or its value cannot be read.
    #[error("{0}")]
    Entry(String),
    /// There is nothing to emulate.
    #[error("says nothing: give at least one of rtt, rate, loss, jitter, queue, burst")]
    Empty,
    /// The link cannot be.
    #[error(transparent)]
    Override(#[from] OverrideError),
}

/// No link has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no network profile is called \"{}\"; there are: {}", .name.escape_debug(), .known.join(", "))]
pub struct UnknownLink {
    name: String,
    known: Vec<String>,
}

/// The file as it stands. Each link is read by itself, so that an error can name it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    link: BTreeMap<String, toml::Table>,
}

impl Catalog {
    /// Reads the text of a file of links.
    ///
    /// # Errors
    /// The first thing that is wrong, and in which link.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(CatalogError::TooLong(text.len()));
        }
        let file: File = toml::from_str(text)
            .map_err(|error| CatalogError::Form(error.to_string().trim_end().to_owned()))?;
        let mut links = BTreeMap::new();
        for (name, entry) in file.link {
            match link(&name, entry) {
                Ok(profile) => links.insert(name, profile),
                Err(fault) => return Err(CatalogError::Link { name, fault }),
            };
        }
        Ok(Self { links })
    }

    /// The link of this name, of the file or built in. Takes exactly a name.
    ///
    /// # Errors
    /// If there is none; the error lists all there are.
    pub fn find(&self, name: &str) -> Result<Profile, UnknownLink> {
        let own = self.links.get(name).cloned();
        own.or_else(|| name.parse().ok())
            .ok_or_else(|| UnknownLink {
                name: name.to_owned(),
                known: self.names().map(str::to_owned).collect(),
            })
    }

    /// All names: the built-in ones, then those of the file in the order of the alphabet.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        BUILT_IN
            .iter()
            .map(|profile| profile.name.as_ref())
            .chain(self.links.keys().map(String::as_str))
    }
}

static BUILT_IN: [Profile; 5] = Profile::ALL;

fn link(name: &str, entry: toml::Table) -> Result<Profile, LinkFault> {
    check_name(name)?;
    let overrides = Overrides::deserialize(entry)
        .map_err(|error| LinkFault::Entry(error.to_string().trim_end().to_owned()))?;
    if overrides.is_empty() {
        return Err(LinkFault::Empty);
    }
    let profile = overrides.apply(None)?;
    Ok(Profile {
        name: Cow::Owned(name.to_owned()),
        ..profile
    })
}

fn check_name(name: &str) -> Result<(), LinkFault> {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    // A name that begins with a hyphen would be taken for an option.
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.starts_with('-')
        || !name.chars().all(known)
    {
        return Err(LinkFault::Name);
    }
    if name == CUSTOM || name.parse::<Profile>().is_ok() {
        return Err(LinkFault::BuiltIn);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;
    use crate::profile::Loss;
    use std::time::Duration;

    fn error(text: &str) -> String {
        Catalog::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn links_are_read_beside_the_built_in_ones() {
        let catalog = Catalog::parse(
            "# Ours.\n\
             [link.office]\nrtt = \"80ms\"\nrate = \"50mbit\"\nloss = \"0.5%\"\n\
             jitter = \"5ms\"\nqueue = \"256k\"\n\
             [link.5g-train]\nburst = \"1%,20%,50%,0.1%\"\n",
        )
        .unwrap();
        assert_eq!(
            catalog.find("office"),
            Ok(Profile {
                name: "office".into(),
                rtt: Duration::from_millis(80),
                rate_bits_per_sec: Some(50_000_000),
                loss: Loss::Random { ppm: 5_000 },
                jitter: Duration::from_millis(5),
                queue_bytes: Some(256 << 10),
            })
        );
        let bursts = Loss::Bursts {
            enter_ppm: 10_000,
            leave_ppm: 200_000,
            bad_loss_ppm: 500_000,
            good_loss_ppm: 1_000,
        };
        assert_eq!(catalog.find("5g-train").unwrap().loss, bursts);
        assert_eq!(catalog.find("lan"), Ok(Profile::LAN));
        assert_eq!(
            catalog.find("Office").unwrap_err().to_string(),
            "no network profile is called \"Office\"; there are: none, lan, wan-good, wan-poor, \
             wan-bad, 5g-train, office"
        );
    }

    #[test]
    fn nothing_in_a_file_is_no_error() {
        assert_eq!(Catalog::parse(""), Ok(Catalog::default()));
        assert_eq!(Catalog::parse("[link]\n"), Ok(Catalog::default()));
        assert_eq!(Catalog::default().names().count(), Profile::ALL.len());
    }

    #[test]
    fn errors_say_which_link_and_why() {
        let rows = [
            (
                "[link.a]\nrtt = \"80 ms\"",
                "[link.a]: \"80 ms\" cannot be read: expected a span of time in us, ms or s, such as 80ms or 1.5s\nin `rtt`",
            ),
            (
                "[link.a]\nspeed = \"1mbit\"",
                "[link.a]: unknown field `speed`, expected one of `rtt`, `rate`, `loss`, `jitter`, `queue`, `burst`",
            ),
            (
                "[link.a]\nqueue = 65536",
                "[link.a]: invalid type: integer `65536`, expected a string\nin `queue`",
            ),
            (
                "[link.a]\nrtt = \"61s\"",
                "[link.a]: a round trip of 61s is too long: choose at most 60s",
            ),
            (
                "[link.a]\nloss = \"1%\"\nburst = \"1%,2%,3%\"",
                "[link.a]: loss and burst exclude each other: a burst has its own loss",
            ),
            (
                "[link.a]",
                "[link.a]: says nothing: give at least one of rtt, rate, loss, jitter, queue, burst",
            ),
            (
                "[link.lan]\nrtt = \"1ms\"",
                "[link.lan]: this name is built in: choose another",
            ),
            (
                "[link.custom]\nrtt = \"1ms\"",
                "[link.custom]: this name is built in: choose another",
            ),
        ];
        for (text, message) in rows {
            assert_eq!(error(text), message);
        }
    }

    #[test]
    fn names_are_easy_to_type() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for name in ["", "A", "a b", "a_b", "-a", "ä", long.as_str()] {
            let text = format!("[link.\"{name}\"]\nrtt = \"1ms\"");
            assert!(error(&text).contains(" a name has 1 to 40 "), "{name}");
        }
        let text = format!("[link.{}]\nrtt = \"1ms\"", &long[1..]);
        assert!(Catalog::parse(&text).is_ok());
    }

    #[test]
    fn what_is_no_catalog_is_refused() {
        assert!(error("[lnk.a]\nrtt = \"1ms\"").contains("unknown field `lnk`"));
        assert!(error("link = 3").contains("line 1"));
        assert!(error("[link.a").contains("line 1"));
        assert!(error("[link.a]\nrtt = \"1ms\"\n[link.a]\n").contains("duplicate key"));
        let long = "#".repeat(TEXT_BYTES_MAX + 1);
        assert_eq!(
            Catalog::parse(&long),
            Err(CatalogError::TooLong(TEXT_BYTES_MAX + 1))
        );
    }
}
