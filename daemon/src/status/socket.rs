//! Serving and reading reports over a Unix socket.
//!
//! A connection is answered with one JSON object and closed; nothing is ever read from it. At most
//! [`CONNECTIONS_MAX`] are answered at once, each within [`ANSWER_TIME_MAX`].

use super::directory::RuntimeDir;
use super::report::Report;
use std::fs::Permissions;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections answered at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 8;
/// Longest time one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Longest report that is read.
const REPORT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Makes a report, whenever asked.
pub type Reporter = Arc<dyn Fn() -> Report + Send + Sync>;

/// The status socket of this process; gone when dropped.
#[derive(Debug)]
pub struct StatusSocket {
    path: PathBuf,
    serving: JoinHandle<()>,
}

impl StatusSocket {
    /// Answers at `ROLE-PID.sock` in `dir` with what `reporter` says.
    ///
    /// # Errors
    /// If the socket cannot be bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(dir: &RuntimeDir, role: &str, reporter: Reporter) -> io::Result<Self> {
        let path = dir.socket(role, std::process::id());
        // Left behind by a dead process of the same id.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self {
            path,
            serving: tokio::spawn(serve(listener, reporter)),
        })
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, reporter: Reporter) {
    let own = rustix::process::geteuid().as_raw();
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = free.clone().acquire_owned().await else {
            return;
        };
        let Ok((connection, _)) = listener.accept().await else {
            // Out of descriptors, most likely: not for ever.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !peer_may_ask(&connection, own) {
            continue;
        }
        let reporter = reporter.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(ANSWER_TIME_MAX, answer(connection, reporter)).await;
            drop(place);
        });
    }
}

/// Whether a process may be answered: of the same user, or root.
pub(crate) fn peer_may_ask(connection: &UnixStream, own_uid: u32) -> bool {
    connection
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own_uid || peer.uid() == 0)
}

async fn answer(mut connection: UnixStream, reporter: Reporter) -> io::Result<()> {
    // Counting through the rooms takes their locks: not on a worker of the runtime.
    let json = tokio::task::spawn_blocking(move || serde_json::to_vec(&reporter())).await??;
    connection.write_all(&json).await?;
    connection.write_all(b"\n").await?;
    connection.shutdown().await
}

/// Asks the process behind `socket` for its report. Blocks, for a few seconds at most.
///
/// # Errors
/// If nobody answers, in time and with a report.
pub fn ask(socket: &Path) -> io::Result<Report> {
    let mut connection = StdUnixStream::connect(socket)?;
    let deadline = Instant::now() + ANSWER_TIME_MAX;
    let mut json = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        // A process that drips its answer must not hold us: the deadline is for the whole.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || json.len() > REPORT_BYTES_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
        connection.set_read_timeout(Some(left))?;
        match connection.read(&mut piece) {
            Ok(0) => return Ok(serde_json::from_slice(&json)?),
            Ok(n) => json.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
}

/// What [`ask_all`] found.
#[derive(Debug, Default)]
pub struct Found {
    /// Reports, by process id.
    pub reports: Vec<Report>,
    /// Processes that live but did not answer.
    pub silent: Vec<(u32, io::Error)>,
}

/// Processes asked at the same time: one that is stopped must not hold up the others.
const ASKED_MAX: usize = 16;

/// The reports of all processes in `dirs`.
///
/// # Errors
/// If a runtime directory cannot be read.
pub fn ask_all(dirs: &[RuntimeDir]) -> io::Result<Found> {
    let mut sockets = Vec::new();
    for dir in dirs {
        let living = dir.sockets()?;
        sockets.extend(living.into_iter().map(|(pid, path)| (dir, pid, path)));
    }
    let mut found = Found::default();
    for some in sockets.chunks(ASKED_MAX) {
        let answers: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> = some
                .iter()
                .map(|(_, _, path)| scope.spawn(|| ask(path)))
                .collect();
            let lost = |_| Err(io::Error::other("asking it failed"));
            asking
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(lost))
                .collect()
        });
        for ((dir, pid, path), answer) in some.iter().zip(answers) {
            match answer {
                Ok(report) => found.reports.push(report),
                // The process id was given to somebody else; nobody listens here any more.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => dir.sweep(path),
                // It ended between the two looks.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => found.silent.push((*pid, error)),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::report::{HostReport, Role};
    use std::time::SystemTime;

    fn reporter() -> Reporter {
        let role = Role::Host(HostReport {
            listening: vec!["[::]:7117".into()],
            ..Default::default()
        });
        Arc::new(move || Report::own(SystemTime::UNIX_EPOCH, role.clone()))
    }

    fn dir(tmp: &tempfile::TempDir) -> RuntimeDir {
        RuntimeDir::open_at(tmp.path().join("wormhole")).unwrap()
    }

    async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(f).await.unwrap()
    }

    #[tokio::test]
    async fn a_report_makes_the_round_trip_and_the_socket_goes() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = dir(&tmp);
        let socket = StatusSocket::bind(&dir, "host", reporter()).unwrap();
        let path = dir.socket("host", std::process::id());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let asked = dir.clone();
        let found = blocking(move || ask_all(&[asked]).unwrap()).await;
        assert_eq!(found.reports, [reporter()()]);
        assert!(found.silent.is_empty());
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_nobody_listens_on_is_removed_though_its_number_lives() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = dir(&tmp);
        let path = dir.socket("mount", std::process::id());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let found = blocking(move || ask_all(&[dir]).unwrap()).await;
        assert!(found.reports.is_empty() && found.silent.is_empty());
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_process_that_answers_nonsense_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = dir(&tmp);
        let listener =
            std::os::unix::net::UnixListener::bind(dir.socket("mount", std::process::id()))
                .unwrap();
        let answering = std::thread::spawn(move || {
            use std::io::Write;
            listener.accept().unwrap().0.write_all(b"nonsense").unwrap();
        });
        let found = blocking(move || ask_all(&[dir]).unwrap()).await;
        assert_eq!(found.silent[0].0, std::process::id());
        answering.join().unwrap();
    }

    #[tokio::test]
    async fn silent_connections_beyond_the_limit_do_not_end_the_service() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = dir(&tmp);
        let _socket = StatusSocket::bind(&dir, "host", reporter()).unwrap();
        let path = dir.socket("host", std::process::id());
        let idle: Vec<_> = (0..CONNECTIONS_MAX * 4)
            .map(|_| StdUnixStream::connect(&path).unwrap())
            .collect();
        let report = blocking(move || ask(&path).unwrap()).await;
        assert_eq!(report, reporter()());
        drop(idle);
    }
}
