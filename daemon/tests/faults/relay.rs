//! A link that can be cut: UDP packets are passed on, or, while it is dark, lost.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// How often a thread that waits for packets looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Default)]
struct State {
    dark: AtomicBool,
    over: AtomicBool,
}

pub(crate) struct Relay {
    front: SocketAddr,
    state: Arc<State>,
}

impl Relay {
    /// A way to `host`.
    pub(crate) fn to(host: SocketAddr) -> Self {
        let socket = Arc::new(open());
        let relay = Self {
            front: socket.local_addr().unwrap(),
            state: Arc::default(),
        };
        let state = relay.state.clone();
        std::thread::spawn(move || forward(&socket, host, &state));
        relay
    }

    /// Where mounts are to send to.
    pub(crate) fn front(&self) -> SocketAddr {
        self.front
    }

    /// Loses everything from now on, or nothing.
    pub(crate) fn dark(&self, dark: bool) {
        self.state.dark.store(dark, SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.over.store(true, SeqCst);
    }
}

fn open() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LOOK)).unwrap();
    socket
}

/// Passes on what mounts send; each has a socket of its own towards the host, and a thread for the answers.
fn forward(front: &Arc<UdpSocket>, host: SocketAddr, state: &Arc<State>) {
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut packet = [0; 65536];
    while !state.over.load(SeqCst) {
        let Ok((len, from)) = front.recv_from(&mut packet) else {
            continue;
        };
        let way = ways.entry(from).or_insert_with(|| {
            let way = Arc::new(open());
            let (front, back, state) = (front.clone(), way.clone(), state.clone());
            std::thread::spawn(move || answer(&back, &front, from, &state));
            way
        });
        if !state.dark.load(SeqCst) {
            let _ = way.send_to(&packet[..len], host);
        }
    }
}

fn answer(way: &UdpSocket, front: &UdpSocket, mount: SocketAddr, state: &State) {
    let mut packet = [0; 65536];
    while !state.over.load(SeqCst) {
        if let Ok((len, _)) = way.recv_from(&mut packet)
            && !state.dark.load(SeqCst)
        {
            let _ = front.send_to(&packet[..len], mount);
        }
    }
}
