//! A bulk transfer over TCP, and what the kernel says about it (`TCP_INFO`, tcp(7)).

use super::Flow;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use wormhole_netem::LinkEnd;

const PIECE_BYTES: usize = 256 * 1024;
/// How long nothing may arrive before the transfer counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Sends as much as it can from `from` to `to` for `duration`.
///
/// # Errors
/// If there is no connection, or it dies.
pub fn tcp(from: &LinkEnd, to: &LinkEnd, duration: Duration) -> io::Result<Flow> {
    let listener = from.within(|| TcpListener::bind(SocketAddr::new(from.address(), 0)))??;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || send(&listener));
        let receiver = to.within(|| TcpStream::connect_timeout(&address, SILENCE_MAX))??;
        let received = receive(receiver, duration);
        let sent = sending
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (mut flow, info) = (received?, sent?);
        flow.retransmitted_pct = info.retransmitted_pct;
        flow.loaded_rtt_ms = info.rtt_ms;
        Ok(flow)
    })
}

struct Info {
    retransmitted_pct: Option<f64>,
    rtt_ms: Option<f64>,
}

/// Sends to the first who connects, until that one hangs up.
fn send(listener: &TcpListener) -> io::Result<Info> {
    let (mut stream, _) = listener.accept()?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let piece = vec![0x5a; PIECE_BYTES];
    let mut info = None;
    // The receiver ends it by hanging up, so the error of that is no error.
    while stream.write_all(&piece).is_ok() {
        info = tcp_info(&stream).ok().or(info);
    }
    Ok(Info {
        retransmitted_pct: info.and_then(|info| {
            let sent = info.tcpi_bytes_sent;
            (sent > 0).then(|| info.tcpi_bytes_retrans as f64 * 100.0 / sent as f64)
        }),
        rtt_ms: info.map(|info| f64::from(info.tcpi_rtt) / 1e3),
    })
}

fn receive(mut stream: TcpStream, duration: Duration) -> io::Result<Flow> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = stream.read(&mut piece)? as u64;
    let began = Instant::now();
    let mut seconds = 0.0;
    // Where the second half begins.
    let mut half = None;
    while began.elapsed() < duration {
        match stream.read(&mut piece)? {
            0 => break,
            length => bytes += length as u64,
        }
        seconds = began.elapsed().as_secs_f64();
        if began.elapsed() >= duration / 2 {
            half.get_or_insert((seconds, bytes));
        }
    }
    let steady_mbit = half
        .filter(|(since, _)| seconds > *since)
        .map(|(since, before)| {
            let took: f64 = seconds - since;
            (bytes - before) as f64 * 8e-6 / took.max(1e-9)
        });
    Ok(Flow {
        bytes,
        seconds,
        steady_mbit,
        retransmitted_pct: None,
        loaded_rtt_ms: None,
    })
}

fn tcp_info(stream: &TcpStream) -> io::Result<libc::tcp_info> {
    // SAFETY: all zeros is a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes into `info`.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    match done {
        0 => Ok(info),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_over_loopback_is_counted_where_it_arrives() {
        let here = LinkEnd::here();
        let flow = tcp(&here, &here, Duration::from_millis(100)).expect("a transfer");
        assert!(flow.bytes > 0 && flow.seconds > 0.0);
        assert!(flow.mbit() > 0.0);
        // Headers come on top of the payload.
        let steady = flow.steady_mbit.expect("a second half");
        assert!(flow.on_the_wire_mbit() > steady && steady > 0.0);
        assert!(flow.loaded_rtt_ms.is_some());
        let summary = crate::raw::summary("tcp", &[flow]).expect("a row");
        assert_eq!(summary.samples_mbit.len(), 1);
        assert_eq!(crate::raw::summary("tcp", &[]), None);
    }
}
