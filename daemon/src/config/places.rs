//! Where things are kept by default (XDG Base Directory Specification).

use anyhow::Context;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The disk cache: `$XDG_CACHE_HOME/wormhole`, else `~/.cache/wormhole`, else (a system service has
/// no home) `/var/cache/wormhole`.
///
/// # Errors
/// If the user has no home.
pub fn cache_dir() -> anyhow::Result<PathBuf> {
    place("XDG_CACHE_HOME", ".cache", "/var/cache/wormhole").context("pass --cache-dir")
}

/// A host's identity and tickets: `$XDG_STATE_HOME/wormhole`, else `~/.local/state/wormhole`, else
/// `/var/lib/wormhole`.
///
/// # Errors
/// If the user has no home.
pub fn state_dir() -> anyhow::Result<PathBuf> {
    place("XDG_STATE_HOME", ".local/state", "/var/lib/wormhole").context("pass --state-dir")
}

fn place(variable: &str, beneath_home: &str, of_system: &str) -> anyhow::Result<PathBuf> {
    choose(
        std::env::var_os(variable).as_deref(),
        std::env::var_os("HOME").as_deref(),
        rustix::process::geteuid().is_root(),
        beneath_home,
        of_system,
    )
    .with_context(|| format!("neither {variable} nor HOME is set to an absolute path"))
}

fn choose(
    xdg: Option<&OsStr>,
    home: Option<&OsStr>,
    is_root: bool,
    beneath_home: &str,
    of_system: &str,
) -> Option<PathBuf> {
    // The specification has relative paths ignored.
    let absolute = |path: Option<&OsStr>| {
        path.map(Path::new)
            .filter(|path| path.is_absolute())
            .map(Path::to_owned)
    };
    absolute(xdg)
        .or_else(|| absolute(home).map(|home| home.join(beneath_home)))
        .map(|base| base.join("wormhole"))
        .or_else(|| is_root.then(|| PathBuf::from(of_system)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_absolute_place_wins() {
        let pick = |xdg: &str, home: &str, root| {
            let set = |text| Some(OsStr::new(text));
            choose(set(xdg), set(home), root, ".cache", "/var/cache/wormhole")
        };
        assert_eq!(pick("/x", "/h", false), Some("/x/wormhole".into()));
        assert_eq!(pick("x", "/h", false), Some("/h/.cache/wormhole".into()));
        assert_eq!(pick("", "", true), Some("/var/cache/wormhole".into()));
        assert_eq!(pick("", "", false), None);
    }
}
