//! A client that says whatever it likes: bare QUIC streams under a valid TLS session.

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::sync::Arc;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::ticket::EXPORTER_LABEL;
use wormhole_protocol::version::ALPN;
use wormhole_protocol::*;

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

/// A connection that was not let in yet, or was.
pub(crate) struct Raw {
    pub(crate) connection: Connection,
    /// Kept alive with the connection.
    pub(crate) endpoint: Endpoint,
    ticket: Ticket,
}

pub(crate) fn endpoint(alpn: &[u8], receive_window: u32) -> Endpoint {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyHost))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = TransportConfig::default();
    transport
        .receive_window(VarInt::from_u32(receive_window))
        .stream_receive_window(VarInt::from_u32(receive_window));
    config.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(config);
    endpoint
}

impl Raw {
    pub(crate) async fn connect(ticket: &Ticket) -> Self {
        Self::with_window(ticket, 1 << 20).await
    }

    pub(crate) async fn with_window(ticket: &Ticket, receive_window: u32) -> Self {
        let endpoint = endpoint(ALPN, receive_window);
        let connecting = endpoint.connect(ticket.addresses[0], "x").unwrap();
        Self {
            connection: connecting.await.unwrap(),
            endpoint,
            ticket: ticket.clone(),
        }
    }

    pub(crate) fn hello(&self) -> Hello {
        let mut binding = [0; 32];
        self.connection
            .export_keying_material(&mut binding, EXPORTER_LABEL, &[])
            .unwrap();
        let mount = MountId([9; 16]);
        Hello {
            oldest: WireVersion::OLDEST.number(),
            newest: WireVersion::NEWEST.number(),
            features: Features(0),
            ticket: self.ticket.secret.id(),
            proof: self.ticket.secret.prove(&binding, mount),
            mount,
        }
    }

    /// Opens a stream, sends bytes, ends it; `None` if the host hung up.
    pub(crate) async fn say(&self, bytes: &[u8]) -> Option<RecvStream> {
        let (mut send, recv) = self.connection.open_bi().await.ok()?;
        send.write_all(bytes).await.ok()?;
        let _ = send.finish();
        Some(recv)
    }

    pub(crate) async fn open(&self) -> Option<(SendStream, RecvStream)> {
        self.connection.open_bi().await.ok()
    }

    /// Says a hello and gives back whether it was welcome; `None` if the host hung up.
    pub(crate) async fn greet(&self, hello: &Hello) -> Option<HelloReply> {
        let mut recv = self.say(&hello.to_frame().unwrap()).await?;
        let reply = recv.read_to_end(4096).await.ok()?;
        HelloReply::from_body(reply.get(4..)?).ok()
    }

    /// Lets itself in.
    pub(crate) async fn enter(self) -> Self {
        let reply = self.greet(&self.hello()).await;
        assert!(matches!(reply, Some(HelloReply::Welcome(_))), "{reply:?}");
        self
    }
}

pub(crate) fn read_request(path: &str, len: u64) -> Request {
    Request::Read {
        node: NodeRef {
            path: RelPath::new(path).unwrap(),
            expect: None,
        },
        range: ByteRange::new(0, len).unwrap(),
        urgency: ReadUrgency::Demand,
    }
}

/// One request of every kind.
pub(crate) fn every_request() -> Vec<Request> {
    let node = NodeRef {
        path: RelPath::root(),
        expect: None,
    };
    vec![
        Request::Lookup {
            dir: node.clone(),
            name: Name::new("small").unwrap(),
        },
        Request::Getattr { node: node.clone() },
        Request::Readlink { node: node.clone() },
        Request::List {
            dir: node.clone(),
            known: None,
        },
        Request::List {
            dir: node.clone(),
            known: Some(ListingDigest([7; 32])),
        },
        read_request("small", 4096),
        Request::StatFs,
        Request::GetXattr {
            node: node.clone(),
            name: XattrName::new("user.x").unwrap(),
        },
        Request::ReadMany {
            dir: node.clone(),
            files: Vec::new(),
        },
        Request::ListXattr { node },
    ]
}
