//! Which peers there are, and which of them are meant.

use super::local::Local;
use super::nfs::Nfs;
use super::rclone::Rclone;
use super::sshfs::Sshfs;
use super::wormhole::Wormhole;
use super::{Custom, Peer};

/// A name that is no peer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no peer {name:?}; there are {}", known.join(", "))]
pub struct UnknownPeer {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: Vec<String>,
}

/// Every peer that is built in, in the order of a report.
pub fn all() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(Wormhole),
        Box::new(Sshfs::PLAIN),
        Box::new(Sshfs::TUNED),
        Box::new(Nfs::PLAIN),
        Box::new(Nfs::FOUR),
        Box::new(Rclone),
        Box::new(Local),
    ]
}

/// The peers that `names` stand for, of the ones built in and `custom`, in the order of a report: the
/// name of one, or of a program that several use (`sshfs` is `sshfs` and `sshfs-tuned`).
///
/// # Errors
/// [`UnknownPeer`] for the first name that is no peer's.
pub fn choose(names: &[String], custom: Vec<Custom>) -> Result<Vec<Box<dyn Peer>>, UnknownPeer> {
    let mut peers = all();
    peers.extend(
        custom
            .into_iter()
            .map(|peer| Box::new(peer) as Box<dyn Peer>),
    );
    let known = |name: &&String| peers.iter().any(|peer| means(name, peer.name()));
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(UnknownPeer {
            name: name.clone(),
            known: peers.iter().map(|peer| peer.name().to_owned()).collect(),
        });
    }
    peers.retain(|peer| names.iter().any(|name| means(name, peer.name())));
    Ok(peers)
}

/// Whether a peer that is built in has this name.
pub(super) fn is_taken(name: &str) -> bool {
    all().iter().any(|peer| peer.name() == name)
}

/// Whether `name` stands for `peer`: it is its name, or the program's of a variant that is built in.
fn means(name: &str, peer: &str) -> bool {
    name == peer
        || matches!(
            (name, peer),
            ("sshfs", "sshfs-tuned") | ("nfs", "nfs-nconnect4")
        )
}

#[cfg(test)]
mod tests {
    use super::{all, choose};

    fn chosen(names: &[&str]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let peers = choose(&names, Vec::new()).expect("names of peers");
        peers.iter().map(|peer| peer.name().to_owned()).collect()
    }

    #[test]
    fn a_program_stands_for_its_variants_and_a_variant_for_itself() {
        assert_eq!(chosen(&["sshfs"]), ["sshfs", "sshfs-tuned"]);
        assert_eq!(chosen(&["sshfs-tuned"]), ["sshfs-tuned"]);
        assert_eq!(
            chosen(&["nfs-nconnect4", "wormhole"]),
            ["wormhole", "nfs-nconnect4"]
        );
        assert_eq!(chosen(&["nfs", "nfs"]), ["nfs", "nfs-nconnect4"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_there_are() {
        let Err(error) = choose(&["sshf".to_owned()], Vec::new()) else {
            panic!("there is no such peer");
        };
        assert_eq!(error.known.len(), all().len());
        assert!(error.to_string().contains("sshfs-tuned"), "{error}");
    }
}
