//! A UDP socket for quinn, awake for what arrives and not for what has left.
//!
//! Why not the one that quinn brings: that asks to be told of room for sending at all times, and a kernel that was
//! asked so tells of it after each packet that has left. A reader of small pieces is then woken twice as often as
//! packets come. Here only a socket that was found full asks, and until it has room. One look also tells that
//! nothing more has come: a batch that was not filled is the last.
//!
//! Not here: what is in the packets, or how the system is asked (quinn-udp).
//!
//! Invariants
//! - Whoever is told that the socket is full is woken when it has room again.
//! - What arrives after the last look wakes whoever waits for it.

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A bound socket.
#[derive(Debug)]
pub(super) struct QuietSocket {
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    /// Whether there was no room for the last packet.
    full: AtomicBool,
}

impl QuietSocket {
    /// Takes a socket that does not block. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Whatever the system said.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self {
            state: UdpSocketState::new((&socket).into())?,
            // SAFETY: a `UdpSocket` owns its descriptor and keeps it open as long as it lives.
            io: unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE)? },
            full: AtomicBool::new(false),
        })
    }
}

impl AsyncUdpSocket for QuietSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        if matches!(&sent, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            self.full.store(true, Relaxed);
        }
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.io.poll_read_ready(context))?;
            let most = buffers.len().min(meta.len());
            match self.state.recv(self.io.get_ref().into(), buffers, meta) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => guard.clear_ready(),
                Ok(count) => {
                    if count < most {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// One connection's wait for room in the socket.
#[derive(Debug)]
struct Room {
    socket: Arc<QuietSocket>,
    /// A descriptor of its own, so that it can ask for something else than the socket's.
    waiting: Option<AsyncFd<OwnedFd>>,
}

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let waiting = match &this.waiting {
            Some(waiting) => waiting,
            None if !this.socket.full.load(Relaxed) => return Poll::Ready(Ok(())),
            None => {
                let own = this.socket.io.get_ref().as_fd().try_clone_to_owned()?;
                // SAFETY: an `OwnedFd` keeps its descriptor open as long as it lives.
                let own = unsafe { AsyncFd::register_with_interest(own, Interest::WRITABLE)? };
                this.waiting.insert(own)
            }
        };
        let room = ready!(waiting.poll_write_ready(context)).map(drop);
        this.waiting = None;
        this.socket.full.store(false, Relaxed);
        Poll::Ready(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::poll_fn;
    use std::net::Ipv4Addr;

    fn socket() -> Arc<QuietSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Arc::new(QuietSocket::new(socket).unwrap())
    }

    fn send(from: &QuietSocket, to: &QuietSocket, byte: u8) {
        let sent = from.try_send(&Transmit {
            destination: to.local_addr().unwrap(),
            ecn: None,
            contents: &[byte; 100],
            segment_size: None,
            src_ip: None,
        });
        sent.unwrap();
    }

    /// The first bytes of what came, at most as many datagrams as there are buffers.
    async fn receive(socket: &QuietSocket, buffers: usize) -> Vec<u8> {
        let mut memory = vec![[0; 2048]; buffers];
        let mut slices: Vec<_> = memory.iter_mut().map(|m| IoSliceMut::new(m)).collect();
        let mut meta = vec![RecvMeta::default(); buffers];
        let got = poll_fn(|context| socket.poll_recv(context, &mut slices, &mut meta)).await;
        let got = got.unwrap();
        assert!(meta[..got].iter().all(|m| m.len % 100 == 0 && m.len > 0));
        memory[..got].iter().map(|bytes| bytes[0]).collect()
    }

    #[tokio::test]
    async fn what_comes_after_a_batch_that_was_not_filled_is_not_missed() {
        let (from, to) = (socket(), socket());
        for byte in 0..200 {
            send(&from, &to, byte);
            assert_eq!(receive(&to, 4).await, [byte]);
            // Sometimes one more is there before anybody waits for it, sometimes nobody looks before.
            if byte % 2 == 0 {
                assert!(receive(&to, 4).now_or_never().is_none());
            }
        }
    }

    #[tokio::test]
    async fn what_a_full_batch_left_behind_is_read_at_once() {
        let (from, to) = (socket(), socket());
        for byte in 0..5 {
            send(&from, &to, byte);
        }
        let mut got = Vec::new();
        while got.len() < 5 {
            got.extend(receive(&to, 2).await);
        }
        assert_eq!(got, [0, 1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn a_socket_that_was_full_is_waited_for_until_it_has_room() {
        let socket = socket();
        let mut first = socket.clone().create_io_poller();
        let mut second = socket.clone().create_io_poller();
        let room = poll_fn(|context| first.as_mut().poll_writable(context));
        assert!(room.now_or_never().unwrap().is_ok(), "not full: no wait");
        // As `try_send` leaves it, if the system says that it would block.
        socket.full.store(true, Relaxed);
        for poller in [&mut first, &mut second] {
            let room = poll_fn(|context| poller.as_mut().poll_writable(context));
            assert!(room.now_or_never().is_none(), "it did not ask the system");
        }
        // Which has room for it all the time: each is told, whoever was first.
        for poller in [&mut first, &mut second] {
            let room = poll_fn(|context| poller.as_mut().poll_writable(context));
            room.await.unwrap();
            assert!(!socket.full.load(Relaxed));
        }
    }
}
