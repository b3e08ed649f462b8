//! The program under test: which executable is measured.
//!
//! `WORMHOLE_BIN` names one. Otherwise it is built from this workspace, in the profile the benchmark
//! itself was built in, so that a stale executable is never measured by accident.

use crate::pair::PairError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The executable to measure.
///
/// # Errors
/// [`PairError::Program`] if `WORMHOLE_BIN` names no file or the program cannot be built.
pub fn find() -> Result<PathBuf, PairError> {
    if let Some(named) = std::env::var_os("WORMHOLE_BIN") {
        let named = PathBuf::from(named);
        let problem = || PairError::Program(format!("WORMHOLE_BIN: no file {}", named.display()));
        return named.canonicalize().map_err(|_| problem());
    }
    let this = std::env::current_exe().map_err(|e| PairError::Program(e.to_string()))?;
    let folder = profile_folder(&this)
        .ok_or_else(|| PairError::Program("set WORMHOLE_BIN to the executable".to_owned()))?;
    build(folder)?;
    Ok(folder.join("wormhole"))
}

/// `target/release` for `target/release/deps/latency-0123456789abcdef`.
fn profile_folder(bench: &Path) -> Option<&Path> {
    let deps = bench.parent()?;
    deps.ends_with("deps").then(|| deps.parent()).flatten()
}

/// Brings `wormhole` in `folder` up to date; takes no time if it is.
fn build(folder: &Path) -> Result<(), PairError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--quiet",
            "--package",
            "wormhole",
            "--bin",
            "wormhole",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.ends_with("release") {
        command.arg("--release");
    }
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(PairError::Program(format!("cargo build: {status}"))),
        Err(e) => Err(PairError::Program(format!("cargo build: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::profile_folder;
    use std::path::Path;

    #[test]
    fn the_program_stands_beside_the_benchmark() {
        let folder = |path| profile_folder(Path::new(path));
        assert_eq!(
            folder("/x/target/release/deps/latency-0123"),
            Some(Path::new("/x/target/release"))
        );
        assert_eq!(folder("/usr/local/bin/latency"), None);
    }
}
