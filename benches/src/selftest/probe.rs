//! Round trips of small datagrams.

use super::PROBES;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use wormhole_netem::LinkEnd;

/// Beyond the delay that is asked for, an answer may take so long; then it counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Probes that may be lost before the link is called dead.
const LOST_MAX: usize = PROBES * 4;
const STOP: &[u8] = b"stop";

/// The median round trip from `mount` to `host` and back.
pub(super) fn round_trip_ms(asked: Duration, host: &LinkEnd, mount: &LinkEnd) -> io::Result<f64> {
    let bind = |end: &LinkEnd| end.within(|| UdpSocket::bind(SocketAddr::new(end.address(), 0)))?;
    let (far, near) = (bind(host)?, bind(mount)?);
    near.connect(far.local_addr()?)?;
    near.set_read_timeout(Some(asked + PATIENCE))?;
    let stop = far.try_clone()?;
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || echo(&far));
        let times = probes(&near);
        // The echo listens on an address of its own end: a word to itself ends it.
        let stopped = host.within(|| stop.send_to(STOP, stop.local_addr()?))?;
        stopped?;
        let echoed = echo
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        echoed?;
        let mut times = times?;
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    })
}

fn probes(near: &UdpSocket) -> io::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(PROBES);
    let mut lost = 0;
    let mut answer = [0; 16];
    let mut probe = 0u64;
    while times.len() < PROBES {
        probe += 1;
        let began = Instant::now();
        near.send(&probe.to_le_bytes())?;
        // Late answers to earlier probes are passed over.
        let answered = loop {
            match near.recv(&mut answer) {
                Ok(8) if answer[..8] == probe.to_le_bytes() => break true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) => return Err(error),
            }
        };
        if answered {
            times.push(began.elapsed().as_secs_f64() * 1e3);
        } else {
            lost += 1;
            if lost > LOST_MAX {
                return Err(io::Error::other("no answers over the link"));
            }
        }
    }
    Ok(times)
}

fn echo(far: &UdpSocket) -> io::Result<()> {
    let mut packet = [0; 16];
    loop {
        let (length, from) = far.recv_from(&mut packet)?;
        if &packet[..length] == STOP && from == far.local_addr()? {
            return Ok(());
        }
        far.send_to(&packet[..length], from)?;
    }
}
