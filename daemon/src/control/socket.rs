//! The socket on which a mount takes orders, and the other end of it.
//!
//! At most [`CONNECTIONS_MAX`] orders are carried out at once. One is dropped when its connection closes,
//! whoever closes it, and all are when the mount ends.

use super::{Order, Word};
use crate::status::RuntimeDir;
use crate::status::socket::peer_may_ask;
use futures_util::future::BoxFuture;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

/// Orders carried out at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;
/// Longest order.
const ORDER_BYTES_MAX: u64 = 64 * 1024;
/// Longest word.
const WORD_BYTES_MAX: u64 = 1024 * 1024;
/// Longest time an order may take to arrive.
const ORDER_TIME_MAX: Duration = Duration::from_secs(2);
/// Words that may wait to be written.
const WORDS_MAX: usize = 64;

/// Where the words about an order go.
pub type Tell = mpsc::Sender<Word>;

/// Carries out an order, and tells how it goes. Dropped when nobody listens any more.
pub type Listener = Arc<dyn Fn(Order, Tell) -> BoxFuture<'static, ()> + Send + Sync>;

/// The control socket of this process; gone when dropped, with everything that was under way.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    serving: JoinHandle<()>,
}

impl ControlSocket {
    /// Takes orders at `ROLE-PID.control` in `dir`.
    ///
    /// # Errors
    /// If the socket cannot be bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(dir: &RuntimeDir, role: &str, listener: Listener) -> io::Result<Self> {
        let path = dir.control(role, std::process::id());
        // Left behind by a dead process of the same id.
        let _ = std::fs::remove_file(&path);
        let socket = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self {
            path,
            serving: tokio::spawn(serve(socket, listener)),
        })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(socket: UnixListener, listener: Listener) {
    let own = rustix::process::geteuid().as_raw();
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Ends with this future: what is under way is dropped with it.
    let mut under_way = JoinSet::new();
    loop {
        while under_way.try_join_next().is_some() {}
        let Ok(place) = free.clone().acquire_owned().await else {
            return;
        };
        let Ok((connection, _)) = socket.accept().await else {
            // Out of descriptors, most likely: not for ever.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !peer_may_ask(&connection, own) {
            continue;
        }
        let listener = listener.clone();
        under_way.spawn(async move {
            attend(connection, listener).await;
            drop(place);
        });
    }
}

async fn attend(connection: UnixStream, listener: Listener) {
    let (reading, writing) = connection.into_split();
    let mut reading = BufReader::new(reading);
    let Ok(Ok(order)) = tokio::time::timeout(ORDER_TIME_MAX, read_order(&mut reading)).await else {
        return;
    };
    let (tell, words) = mpsc::channel(WORDS_MAX);
    let done = async {
        listener(order, tell).await;
    };
    tokio::select! {
        // The words end when the listener has.
        ((), _) = async { tokio::join!(done, write_words(writing, words)) } => {}
        () = hung_up(&mut reading) => {}
    }
}

async fn read_order(reading: &mut BufReader<OwnedReadHalf>) -> io::Result<Order> {
    let mut line = Vec::new();
    reading
        .take(ORDER_BYTES_MAX)
        .read_until(b'\n', &mut line)
        .await?;
    Ok(serde_json::from_slice(&line)?)
}

async fn write_words(
    mut writing: OwnedWriteHalf,
    mut words: mpsc::Receiver<Word>,
) -> io::Result<()> {
    while let Some(word) = words.recv().await {
        let mut line = serde_json::to_vec(&word)?;
        line.push(b'\n');
        writing.write_all(&line).await?;
    }
    writing.shutdown().await
}

/// Resolves when the other side has gone; what it says after its order is not listened to.
async fn hung_up(reading: &mut BufReader<OwnedReadHalf>) {
    let mut nothing = [0; 64];
    while !matches!(reading.read(&mut nothing).await, Ok(0) | Err(_)) {}
}

/// An order that is being carried out by another process; dropping it takes the order back.
pub struct Asked {
    words: BufReader<OwnedReadHalf>,
    // Closing it is what takes the order back.
    _order: OwnedWriteHalf,
}

impl Asked {
    /// Gives `order` to the process behind `socket`.
    ///
    /// # Errors
    /// If nobody listens.
    pub async fn begin(socket: &Path, order: &Order) -> io::Result<Self> {
        let (reading, mut writing) = UnixStream::connect(socket).await?.into_split();
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        writing.write_all(&line).await?;
        Ok(Self {
            words: BufReader::new(reading),
            _order: writing,
        })
    }

    /// The next word about it; `None` if the process has ended without a last one.
    ///
    /// # Errors
    /// If what comes is no word.
    pub async fn next(&mut self) -> io::Result<Option<Word>> {
        let mut line = Vec::new();
        let mut words = (&mut self.words).take(WORD_BYTES_MAX);
        if words.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Warmth;
    use tokio::sync::oneshot;

    fn dir(tmp: &tempfile::TempDir) -> RuntimeDir {
        RuntimeDir::open_at(tmp.path().join("wormhole")).unwrap()
    }

    fn order() -> Order {
        Order::Warm {
            path: "a b/\u{1b}".into(),
            check: true,
        }
    }

    #[tokio::test]
    async fn an_order_is_answered_word_by_word_and_the_socket_goes() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = dir(&tmp);
        let listener: Listener = Arc::new(|order, tell| {
            Box::pin(async move {
                assert_eq!(order, super::tests::order());
                for files in 0..100 {
                    let warmth = Warmth {
                        files,
                        ..Warmth::default()
                    };
                    tell.send(Word::Progress(warmth)).await.unwrap();
                }
            })
        });
        let socket = ControlSocket::bind(&dir, "mount", listener).unwrap();
        let path = dir.control("mount", std::process::id());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut asked = Asked::begin(&path, &order()).await.unwrap();
        for files in 0..100 {
            let Some(Word::Progress(warmth)) = asked.next().await.unwrap() else {
                panic!("no progress");
            };
            assert_eq!(warmth.files, files);
        }
        assert_eq!(asked.next().await.unwrap(), None);
        drop(socket);
        assert!(!path.exists());
        assert!(Asked::begin(&path, &order()).await.is_err());
    }

    #[tokio::test]
    async fn who_hangs_up_takes_the_order_back_and_so_does_the_end_of_the_mount() {
        struct Dropped(Option<oneshot::Sender<()>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.take().unwrap().send(());
            }
        }
        let tmp = tempfile::tempdir().unwrap();
        let dir = dir(&tmp);
        let path = dir.control("mount", std::process::id());
        for by_socket in [false, true] {
            let (dropped, was_dropped) = oneshot::channel();
            let dropped = parking_lot::Mutex::new(Some(dropped));
            let listener: Listener = Arc::new(move |_, tell| {
                let dropped = Dropped(dropped.lock().take());
                Box::pin(async move {
                    let _dropped = dropped;
                    let _ = tell.send(Word::Done(Warmth::default())).await;
                    std::future::pending().await
                })
            });
            let socket = ControlSocket::bind(&dir, "mount", listener).unwrap();
            let mut asked = Asked::begin(&path, &order()).await.unwrap();
            assert!(asked.next().await.unwrap().is_some());
            match by_socket {
                true => drop(socket),
                false => drop(asked),
            }
            was_dropped.await.unwrap();
        }
    }

    #[tokio::test]
    async fn nonsense_and_endless_orders_are_hung_up_on() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = dir(&tmp);
        let listener: Listener = Arc::new(|_, _| panic!("no order was given"));
        let _socket = ControlSocket::bind(&dir, "mount", listener).unwrap();
        let path = dir.control("mount", std::process::id());
        for said in [b"nonsense\n".to_vec(), vec![b' '; 100_000]] {
            let mut connection = UnixStream::connect(&path).await.unwrap();
            // It may hang up before all of it is said.
            let _ = connection.write_all(&said).await;
            let mut answer = Vec::new();
            let _ = connection.read_to_end(&mut answer).await;
            assert!(answer.is_empty());
        }
    }
}
