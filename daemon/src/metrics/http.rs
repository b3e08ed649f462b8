//! The page behind `--metrics ADDR`: `GET /metrics`, and nothing else.
//!
//! By hand, because what it must do is small and what it must not do is not: a library that gives each
//! connection a thread and waits for its request for ever would let anyone who reaches the port fill
//! the process. Here at most [`CONNECTIONS_MAX`] are served at once, each for one request of at most
//! [`REQUEST_BYTES_MAX`] within [`EXCHANGE_TIME_MAX`].

use super::{collect, text};
use crate::status::socket::Reporter;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections served at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 8;
/// Longest request that is read.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Longest time from the first byte of a request to the last of its answer.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(5);

/// The endpoint; closed when dropped.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl MetricsServer {
    /// Serves what `reporter` says at `address`.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(address: SocketAddr, reporter: Reporter) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            address: listener.local_addr()?,
            serving: tokio::spawn(serve(listener, reporter)),
        })
    }

    /// Where it listens; the port is the one bound if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, reporter: Reporter) {
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
        let reporter = reporter.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(EXCHANGE_TIME_MAX, exchange(connection, reporter)).await;
            drop(place);
        });
    }
}

async fn exchange(mut connection: TcpStream, reporter: Reporter) -> io::Result<()> {
    let answer = match read_head(&mut connection).await? {
        Some(head) => answer(&head, reporter).await?,
        None => response("431 Request Header Fields Too Large", "", true),
    };
    connection.write_all(&answer).await?;
    connection.shutdown().await
}

/// The request up to the empty line; `None` if that does not come within the limit.
async fn read_head(connection: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= REQUEST_BYTES_MAX {
            return Ok(None);
        }
        if connection.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(head))
}

async fn answer(head: &[u8], reporter: Reporter) -> io::Result<Vec<u8>> {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let path = target.split(|b| *b == b'?').next();
    Ok(match (method, path) {
        (Some(method @ (b"GET" | b"HEAD")), Some(b"/metrics")) => {
            // Counting through the rooms takes their locks: not on a worker of the runtime.
            let page =
                tokio::task::spawn_blocking(move || text::page(&collect::samples(&reporter())));
            response("200 OK", &page.await?, method == b"GET")
        }
        (Some(b"GET" | b"HEAD"), _) => response("404 Not Found", "see /metrics\n", true),
        _ => response("405 Method Not Allowed", "only GET\n", true),
    })
}

fn response(status: &str, body: &str, with_body: bool) -> Vec<u8> {
    let length = body.len();
    let body = if with_body { body } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::report::{MountReport, Report, Role};
    use std::time::SystemTime;

    async fn server() -> MetricsServer {
        let role = Role::Mount(MountReport {
            read_bytes: 42,
            ..Default::default()
        });
        let reporter: Reporter =
            Arc::new(move || Report::own(SystemTime::UNIX_EPOCH, role.clone()));
        let any = "127.0.0.1:0".parse().unwrap();
        MetricsServer::bind(any, reporter).await.unwrap()
    }

    async fn ask(server: &MetricsServer, request: &str) -> String {
        let mut connection = TcpStream::connect(server.address()).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_page_is_served() {
        let server = server().await;
        let answer = ask(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(body.contains("\nwormhole_mount_read_bytes_total 42\n"));
        let head = ask(&server, "HEAD /metrics?x HTTP/1.0\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"));
    }

    #[tokio::test]
    async fn nothing_else_is() {
        let server = server().await;
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("GET /metrics/../etc HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("\r\n\r\n", "405"),
        ] {
            let answer = ask(&server, request).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{answer}"
            );
        }
        let endless = "x".repeat(REQUEST_BYTES_MAX);
        assert!(ask(&server, &endless).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test]
    async fn connections_that_come_and_go_leave_their_places() {
        let server = server().await;
        for _ in 0..CONNECTIONS_MAX * 4 {
            drop(TcpStream::connect(server.address()).await.unwrap());
        }
        let answer = ask(&server, "GET /metrics HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"));
    }
}
