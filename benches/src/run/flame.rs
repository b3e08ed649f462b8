//! Flame graphs of running processes: `perf record`, folded and drawn.

use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options};
use inferno::flamegraph;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Samples a second of each thread: enough for a picture, too few to slow anything down.
const FREQUENCY: &str = "99";

/// `perf` at work.
pub(super) struct Recording {
    perf: Child,
    samples: PathBuf,
    title: String,
    image: PathBuf,
}

impl Recording {
    /// Records `processes`, with samples in `scratch`; the picture will be `folder/name.svg`.
    pub(super) fn start(
        folder: &Path,
        scratch: &Path,
        name: &str,
        processes: &[u32],
    ) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let samples = scratch.join(format!("{name}.perf"));
        let ids: Vec<String> = processes.iter().map(u32::to_string).collect();
        let perf = Command::new("perf")
            .args(["record", "--freq", FREQUENCY, "--call-graph", "dwarf,16384"])
            .args(["--quiet", "--pid", &ids.join(","), "--output"])
            .arg(&samples)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(scratch.join(format!("{name}.perf.log")))?)
            .spawn()?;
        Ok(Self {
            perf,
            samples,
            title: format!("wormhole: {name}"),
            image: folder.join(format!("{name}.svg")),
        })
    }

    /// Stops, and draws. What goes wrong is logged: a picture is no result.
    pub(super) fn finish(mut self) {
        if let Err(error) = self.draw() {
            tracing::warn!("no {}: {error}", self.image.display());
        }
        // Gone already unless something failed.
        let _ = self.perf.kill();
        let _ = self.perf.wait();
    }

    fn draw(&mut self) -> io::Result<()> {
        kill_process(Pid::from_child(&self.perf), Signal::INT)?;
        self.perf.wait()?;
        let mut script = Command::new("perf")
            .args(["script", "--no-inline", "--input"])
            .arg(&self.samples)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut folded = Vec::new();
        if let Some(stdout) = script.stdout.take() {
            Folder::from(Options::default()).collapse(BufReader::new(stdout), &mut folded)?;
        }
        let status = script.wait()?;
        if !status.success() {
            return Err(io::Error::other(format!("perf script: {status}")));
        }
        picture(&self.title, &folded, &self.image)
    }
}

/// Draws `folded` stacks into the file `image`.
fn picture(title: &str, folded: &[u8], image: &Path) -> io::Result<()> {
    if folded.is_empty() {
        return Err(io::Error::other(format!(
            "too little processor time was used for a sample at {FREQUENCY} a second"
        )));
    }
    let mut options = flamegraph::Options::default();
    title.clone_into(&mut options.title);
    let image = File::create(image)?;
    flamegraph::from_reader(&mut options, folded, image).map_err(io::Error::other)
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Of no interest once the picture is drawn.
        let _ = fs::remove_file(&self.samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_draw_leaves_no_picture() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("first-byte.svg");
        let error = picture("wormhole: first-byte", b"", &image).unwrap_err();
        assert!(error.to_string().contains("too little"), "{error}");
        assert!(!image.exists());

        picture(
            "wormhole: seq-read",
            b"main;read_at 3\nmain;send 5\n",
            &image,
        )
        .unwrap();
        let drawn = fs::read_to_string(&image).unwrap();
        assert!(drawn.contains("wormhole: seq-read") && drawn.contains("read_at"));
    }
}
