//! One end of a QUIC connection without sockets: a real `quinn_proto` endpoint under our settings,
//! driven by whatever time it is told.

use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, ServerConfig, StreamId,
};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wormhole::transport::tuning;

/// Datagrams made at once, as the kernel takes them.
const BATCH: usize = 10;
const REQUEST_BYTES: usize = 64;
const ANSWER_BYTES: usize = 4096;

/// What an end does with its connection.
pub(crate) enum Task {
    /// A host: answers requests on every stream, and one that says so without end.
    Host,
    /// Asks for everything, and takes it.
    Fetch(Fetch),
    /// Asks for a little, again and again, with pauses.
    Ask(Ask),
}

/// A bulk read.
#[derive(Default)]
pub(crate) struct Fetch {
    /// When it is asked for.
    pub(crate) begun: Option<Instant>,
    pub(crate) bytes: u64,
    stream: Option<StreamId>,
}

/// Requests and answers.
#[derive(Default)]
pub(crate) struct Ask {
    open: Option<(StreamId, Instant, usize)>,
    next: Option<Instant>,
    pause: Duration,
    pub(crate) took: Vec<Duration>,
}

/// One end.
pub(crate) struct QuicEnd {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    peer: SocketAddr,
    pub(crate) task: Task,
    connected: bool,
    /// Streams of a host that want bytes without end.
    pouring: Vec<StreamId>,
    /// What a host may have written in all, as its disk goes along; and what it has.
    pub(crate) readable: u64,
    written: u64,
    /// When a packet is to follow the last of a question or an answer.
    tail: Option<Instant>,
    piece: Bytes,
}

impl QuicEnd {
    pub(crate) fn host(seed: u64) -> Self {
        Self::new(seed, Some(server_config()), Task::Host)
    }

    pub(crate) fn mount(now: Instant, seed: u64, task: Task) -> Self {
        let mut end = Self::new(seed ^ 0x5555, None, task);
        let connected = end
            .endpoint
            .connect(now, client_config(), end.peer, "wormhole");
        end.connection = Some(connected.expect("a connection"));
        end
    }

    fn new(seed: u64, server: Option<ServerConfig>, task: Task) -> Self {
        let mut config = EndpointConfig::default();
        config
            .max_udp_payload_size(tuning::MTU_BYTES_MAX)
            .expect("a size");
        let mut rng = [0; 32];
        rng[..8].copy_from_slice(&seed.to_le_bytes());
        let endpoint = Endpoint::new(Arc::new(config), server.map(Arc::new), true, Some(rng));
        Self {
            endpoint,
            connection: None,
            peer: "127.0.0.1:7117".parse().expect("an address"),
            task,
            connected: false,
            pouring: Vec::new(),
            readable: 0,
            written: 0,
            tail: None,
            piece: Bytes::from(vec![7; 64 * 1024]),
        }
    }

    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref().map(|(_, connection)| connection)
    }

    /// Takes a datagram; puts what is to be sent into `out`.
    pub(crate) fn receive(&mut self, now: Instant, data: BytesMut, out: &mut Vec<Vec<u8>>) {
        let mut answer = Vec::new();
        match self
            .endpoint
            .handle(now, self.peer, None, None, data, &mut answer)
        {
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, now, &mut answer, None);
                if let Ok(accepted) = accepted {
                    self.connection = Some(accepted);
                }
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(transmit)) => out.push(answer[..transmit.size].to_vec()),
            None => {}
        }
        self.drive(now, out);
    }

    /// Does what time has come for.
    pub(crate) fn drive(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let Some((_, connection)) = &mut self.connection else {
            return;
        };
        if connection.poll_timeout().is_some_and(|at| at <= now) {
            connection.handle_timeout(now);
        }
        self.exchange_events();
        self.act(now);
        self.follow_up(now);
        let Some((_, connection)) = &mut self.connection else {
            return;
        };
        let mut batch = Vec::new();
        while let Some(transmit) = connection.poll_transmit(now, BATCH, &mut batch) {
            let segment = transmit.segment_size.unwrap_or(transmit.size);
            out.extend(batch[..transmit.size].chunks(segment).map(<[u8]>::to_vec));
            batch.clear();
        }
        self.exchange_events();
    }

    /// When it wants to be driven next.
    pub(crate) fn next(&mut self) -> Option<Instant> {
        let (_, connection) = self.connection.as_mut()?;
        let own = match &self.task {
            Task::Ask(ask) => ask.next,
            Task::Host | Task::Fetch(_) => None,
        };
        [connection.poll_timeout(), own, self.tail]
            .into_iter()
            .flatten()
            .min()
    }

    fn exchange_events(&mut self) {
        let Some((handle, connection)) = &mut self.connection else {
            return;
        };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
    }

    /// As `transport::tail` does.
    fn follow_up(&mut self, now: Instant) {
        let Some((_, connection)) = &mut self.connection else {
            return;
        };
        if self.tail.is_some_and(|at| at <= now) {
            self.tail = None;
            let _ = connection.datagrams().send(Bytes::new(), true);
        }
        while connection.datagrams().recv().is_some() {}
    }

    fn act(&mut self, now: Instant) {
        let Some((_, connection)) = &mut self.connection else {
            return;
        };
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => {
                    self.connected = true;
                    if matches!(self.task, Task::Host) {
                        connection.set_max_concurrent_streams(Dir::Bi, tuning::admitted_streams());
                    }
                }
                Event::ConnectionLost { reason } => panic!("the connection is lost: {reason}"),
                _ => {}
            }
        }
        if !self.connected {
            return;
        }
        match &mut self.task {
            Task::Host => {
                let readable = self.readable.saturating_sub(self.written);
                let (written, answered) =
                    serve(connection, &mut self.pouring, &self.piece, readable);
                self.written += written;
                if answered {
                    self.tail = Some(now + tuning::tail_delay(connection.rtt()));
                }
            }
            Task::Fetch(fetch) => {
                if fetch.act(now, connection) {
                    self.tail = Some(now + tuning::tail_delay(connection.rtt()));
                }
            }
            Task::Ask(ask) => {
                if ask.act(now, connection) {
                    self.tail = Some(now + tuning::tail_delay(connection.rtt()));
                }
            }
        }
    }
}

/// A host's answers: small ones, and of the endless ones at most about `readable` bytes. What was written of
/// these, and whether one of the small ones was given.
fn serve(
    connection: &mut Connection,
    pouring: &mut Vec<StreamId>,
    piece: &Bytes,
    readable: u64,
) -> (u64, bool) {
    let mut answered = false;
    while let Some(stream) = connection.streams().accept(Dir::Bi) {
        pouring.push(stream);
    }
    // What was asked is told by the length of the question; questions fit a packet.
    pouring.retain(|stream| {
        let mut recv = connection.recv_stream(*stream);
        let Ok(mut chunks) = recv.read(true) else {
            return true;
        };
        let small = matches!(chunks.next(usize::MAX), Ok(Some(chunk)) if chunk.bytes.len() > 1);
        let _ = chunks.next(usize::MAX);
        let _ = chunks.finalize();
        if small {
            let mut send = connection.send_stream(*stream);
            let _ = send.write(&piece[..ANSWER_BYTES]);
            let _ = send.finish();
            answered = true;
        }
        !small
    });
    let mut written = 0;
    for stream in pouring.iter() {
        let mut send = connection.send_stream(*stream);
        while written < readable {
            match send.write_chunks(&mut [piece.clone()]) {
                Ok(wrote) if wrote.bytes > 0 => written += wrote.bytes as u64,
                _ => break,
            }
        }
    }
    (written, answered)
}

impl Fetch {
    /// Whether it has asked.
    fn act(&mut self, now: Instant, connection: &mut Connection) -> bool {
        let asks = self.stream.is_none();
        let stream = *self.stream.get_or_insert_with(|| {
            self.begun = Some(now);
            let stream = connection.streams().open(Dir::Bi).expect("a stream");
            let mut send = connection.send_stream(stream);
            send.write(b"x").expect("room for a question");
            send.finish().expect("an open stream");
            stream
        });
        self.bytes += read(connection, stream) as u64;
        asks
    }
}

impl Ask {
    pub(crate) fn new(pause: Duration) -> Self {
        Self {
            pause,
            ..Self::default()
        }
    }

    /// Whether it has asked.
    fn act(&mut self, now: Instant, connection: &mut Connection) -> bool {
        if let Some((stream, begun, got)) = &mut self.open {
            *got += read(connection, *stream);
            if *got >= ANSWER_BYTES {
                self.took.push(now - *begun);
                self.next = Some(now + self.pause);
                self.open = None;
            }
        }
        if self.open.is_none() && self.next.is_none_or(|next| next <= now) {
            self.next = None;
            let stream = connection.streams().open(Dir::Bi).expect("a stream");
            let mut send = connection.send_stream(stream);
            send.write(&[1; REQUEST_BYTES])
                .expect("room for a question");
            send.finish().expect("an open stream");
            self.open = Some((stream, now, 0));
            return true;
        }
        false
    }
}

/// Takes what has arrived, in whatever order.
fn read(connection: &mut Connection, stream: StreamId) -> usize {
    let mut recv = connection.recv_stream(stream);
    let Ok(mut chunks) = recv.read(false) else {
        return 0;
    };
    let mut bytes = 0;
    while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
        bytes += chunk.bytes.len();
    }
    let _ = chunks.finalize();
    bytes
}

fn server_config() -> ServerConfig {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
    // What precedes an ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
    let prefix = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    let spki = [&prefix[..], pair.public_key().as_ref()].concat();
    let der = PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec());
    let key = rustls::crypto::ring::sign::any_eddsa_type(&der).expect("a key");
    let certified = CertifiedKey::new(vec![CertificateDer::from(spki)], key);
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(
            certified,
        ))));
    config.alpn_protocols = vec![b"test".to_vec()];
    let crypto = QuicServerConfig::try_from(config).expect("a suite");
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(tuning::host_transport());
    server
}

fn client_config() -> ClientConfig {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyHost))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"test".to_vec()];
    let crypto = QuicClientConfig::try_from(config).expect("a suite");
    let mut client = ClientConfig::new(Arc::new(crypto));
    client.transport_config(tuning::mount_transport());
    client
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[derive(Debug)]
struct AnyHost;

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
