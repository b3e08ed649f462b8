//! Datagrams at a steady pace from one end to another, and what arrives of them.

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use wormhole_netem::LinkEnd;

/// Headers of IPv4 and UDP.
const HEADER_BYTES: usize = 28;
/// Bursts of the sender: what it owes is sent this often.
const TURN: Duration = Duration::from_millis(1);
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// What to send.
pub(super) struct Flood {
    /// Size of each, IP header included.
    pub(super) packet_bytes: usize,
    pub(super) bits_per_sec: f64,
    pub(super) duration: Duration,
    /// How long after the last one was sent the receiver waits.
    pub(super) patience: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    sent: u64,
    packets: u64,
    bytes: u64,
    /// Between the first and the last.
    took: Duration,
    packet_bytes: usize,
}

impl Arrived {
    pub(super) fn lost_pct(&self) -> f64 {
        (self.sent - self.packets.min(self.sent)) as f64 * 100.0 / self.sent.max(1) as f64
    }

    /// Of whole packets.
    pub(super) fn rate_mbit(&self) -> f64 {
        // The first packet's own time lies before the clock started.
        let bytes = self.bytes.saturating_sub(self.packet_bytes as u64);
        bytes as f64 * 8e-6 / self.took.as_secs_f64().max(1e-9)
    }
}

impl Flood {
    /// Sends from `from` to `to`.
    pub(super) fn run(&self, from: &LinkEnd, to: &LinkEnd) -> io::Result<Arrived> {
        let bind =
            |end: &LinkEnd| end.within(|| UdpSocket::bind(SocketAddr::new(end.address(), 0)))?;
        let (sender, receiver) = (bind(from)?, bind(to)?);
        // Root gets what it asks for, others what the system allows.
        if set_socket_recv_buffer_size_force(&receiver, RECEIVE_BUFFER_BYTES).is_err() {
            set_socket_recv_buffer_size(&receiver, RECEIVE_BUFFER_BYTES)?;
        }
        sender.connect(receiver.local_addr()?)?;
        receiver.set_read_timeout(Some(self.patience))?;
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| self.send(&sender));
            let arrived = self.receive(&receiver, &|| sending.is_finished());
            let sent = sending
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let (sent, mut arrived) = (sent?, arrived?);
            arrived.sent = sent;
            if arrived.packets < 2 {
                return Err(io::Error::other("nothing gets over the link"));
            }
            Ok(arrived)
        })
    }

    fn send(&self, socket: &UdpSocket) -> io::Result<u64> {
        let packet = vec![0; self.packet_bytes - HEADER_BYTES];
        let per_second = self.bits_per_sec / 8.0 / self.packet_bytes as f64;
        let total = whole(self.duration.as_secs_f64() * per_second).max(2);
        let began = Instant::now();
        let mut sent = 0;
        while sent < total {
            let due = whole(began.elapsed().as_secs_f64() * per_second).min(total);
            while sent < due {
                match socket.send(&packet) {
                    Ok(_) => sent += 1,
                    // The interface's own queue is full: the pace is too much for this machine.
                    Err(e)
                        if e.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) =>
                    {
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            std::thread::sleep(TURN);
        }
        Ok(sent)
    }

    fn receive(&self, socket: &UdpSocket, sent: &dyn Fn() -> bool) -> io::Result<Arrived> {
        let mut packet = [0; 2048];
        let (mut packets, mut bytes) = (0, 0);
        let mut span: Option<(Instant, Instant)> = None;
        loop {
            match socket.recv(&mut packet) {
                Ok(length) => {
                    let now = Instant::now();
                    span = Some((span.map_or(now, |(first, _)| first), now));
                    packets += 1;
                    bytes += (length + HEADER_BYTES) as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if sent() {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Arrived {
            sent: 0,
            packets,
            bytes,
            took: span.map_or(Duration::ZERO, |(first, last)| last - first),
            packet_bytes: self.packet_bytes,
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates, and counts are positive"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
