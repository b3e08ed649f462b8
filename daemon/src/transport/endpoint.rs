//! UDP sockets with QUIC on them.

use super::identity::Identity;
use super::socket::QuietSocket;
use super::tuning;
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// Connections that may wait to be looked at; more are dropped, and mounts try again.
const INCOMING_MAX: usize = 256;
/// Bytes each of these may bring along.
const INCOMING_BYTES: u64 = 16 * 1024;
const INCOMING_BYTES_TOTAL: u64 = 2 * 1024 * 1024;

/// Where mounts knock.
pub struct ServerEndpoint {
    endpoint: Endpoint,
}

impl ServerEndpoint {
    /// Binds `address`. `[::]` takes IPv4 as well, and falls back to IPv4 alone where there is no
    /// IPv6.
    ///
    /// # Errors
    /// Whatever the system said, e.g. that the address is in use.
    pub fn bind(address: SocketAddr, identity: &Identity) -> io::Result<Self> {
        let socket = match bind(address) {
            Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && no_ipv6(&error) => {
                bind(SocketAddr::new(
                    Ipv4Addr::UNSPECIFIED.into(),
                    address.port(),
                ))?
            }
            other => other?,
        };
        let crypto = identity.server_crypto().map_err(io::Error::other)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(tuning::host_transport())
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
        let mut config = EndpointConfig::new(Arc::new(identity.reset_key()));
        // Connection ids are made so that a later life of this host knows them for its own; it resets
        // only those.
        let key = identity.connection_id_key();
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
        let endpoint = endpoint(config, Some(server), socket)?;
        Ok(Self { endpoint })
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// Whatever the system said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    pub(super) fn quinn(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// From where a mount calls; one socket for each family.
pub struct ClientEndpoint {
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
}

impl ClientEndpoint {
    /// Binds what families there are.
    ///
    /// # Errors
    /// If there is none.
    pub fn bind() -> io::Result<Self> {
        let open = |ip: IpAddr| {
            let socket = bind(SocketAddr::new(ip, 0))?;
            endpoint(EndpointConfig::default(), None, socket)
        };
        let v4 = open(Ipv4Addr::UNSPECIFIED.into());
        let v6 = open(Ipv6Addr::UNSPECIFIED.into());
        match (v4, v6) {
            (Err(error), Err(_)) => Err(error),
            (v4, v6) => Ok(Self {
                v4: v4.ok(),
                v6: v6.ok(),
            }),
        }
    }

    /// Resolves when the last goodbye is sent.
    pub(super) async fn wait_idle(&self) {
        for endpoint in self.v4.iter().chain(&self.v6) {
            endpoint.wait_idle().await;
        }
    }

    pub(super) fn quinn(&self, address: &SocketAddr) -> Option<&Endpoint> {
        match address {
            SocketAddr::V4(_) => self.v4.as_ref(),
            SocketAddr::V6(_) => self.v6.as_ref(),
        }
    }
}

fn endpoint(
    mut config: EndpointConfig,
    server: Option<ServerConfig>,
    socket: UdpSocket,
) -> io::Result<Endpoint> {
    config
        .max_udp_payload_size(tuning::MTU_BYTES_MAX)
        .map_err(io::Error::other)?;
    let socket = Arc::new(QuietSocket::new(socket)?);
    Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // Whatever the system's default: one socket takes both families.
        socket.set_only_v6(false)?;
    }
    enlarge(&socket);
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Asks for large buffers. Root gets them whatever the system's bound; others what it allows.
fn enlarge(socket: &Socket) {
    let bytes = tuning::SOCKET_BUFFER_BYTES;
    let socket = SockRef::from(socket);
    // Smaller buffers cost speed, not correctness.
    let _ = socket.set_recv_buffer_size(bytes);
    let _ = socket.set_send_buffer_size(bytes);
    #[cfg(target_os = "linux")]
    {
        let force = |option| {
            let forced = set_forced(&socket, option, bytes);
            if let Err(error) = forced {
                tracing::trace!("socket buffer stays at the system's bound: {error}");
            }
        };
        force(libc::SO_RCVBUFFORCE);
        force(libc::SO_SNDBUFFORCE);
    }
}

#[cfg(target_os = "linux")]
fn set_forced(socket: &SockRef<'_>, option: libc::c_int, bytes: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let value = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call, and the value a c_int whose size is given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT)
    )
}
