//! Where log lines go: stderr, or the file of a daemon.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// A log file that reaches this is put aside as `.old`, in place of the one before.
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Logs to stderr from now on; nothing if somebody did so before.
pub(super) fn to_stderr(verbose: u8) {
    let colours = rustix::termios::isatty(io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(verbose))
        .with_writer(io::stderr)
        .with_ansi(colours)
        .with_target(verbose > 0);
    // Times are of use where the lines are kept.
    let _ = if colours && verbose == 0 {
        builder.without_time().try_init()
    } else {
        builder.with_timer(SystemTime).try_init()
    };
}

/// Logs to a file from now on.
///
/// # Errors
/// If it cannot be written.
pub(super) fn to_file(path: &Path, verbose: u8) -> io::Result<()> {
    let file = Mutex::new(LogFile::create(path, LOG_BYTES_MAX)?);
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter(verbose))
        .with_writer(file)
        .with_ansi(false)
        .try_init();
    Ok(())
}

fn filter(verbose: u8) -> EnvFilter {
    let default = match verbose {
        0 => "warn,wormhole=info",
        1 => "info,wormhole=debug",
        _ => "debug,wormhole=trace",
    };
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default))
}

/// A file that cannot grow without end.
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl LogFile {
    fn create(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let _ = std::fs::remove_file(path);
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes: 0,
            bytes_max,
        })
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes >= self.bytes_max {
            let mut old = self.path.clone().into_os_string();
            old.push(".old");
            std::fs::rename(&self.path, old)?;
            *self = Self::create(&self.path, self.bytes_max)?;
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_end_and_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mount-1.log");
        let mut log = LogFile::create(&path, 10).unwrap();
        for i in 0..9 {
            log.write_all(format!("line {i}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("mount-1.log.old"), "line 6\nline 7\n");
        assert_eq!(read("mount-1.log"), "line 8\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
