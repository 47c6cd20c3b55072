//! TLS connections, from the listener to the HTTP/2 server.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{self, Sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::Limits;

/// What a stream knows of the connection that it came by.
#[derive(Clone, Debug, Default)]
pub(super) struct Introduction {
    pub(super) address: Option<SocketAddr>,
    pub(super) certificates: Arc<[Vec<u8>]>,
    accepted: Arc<AtomicBool>,
}

/// A connection after its handshake.
///
/// It fails when it is severed, whatever its peer does or does not do, and when it had no
/// authenticated stream in time.
pub(super) struct Connection {
    tls: TlsStream<TcpStream>,
    introduction: Introduction,
    severed: Pin<Box<WaitForCancellationFutureOwned>>,
    deadline: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

/// Accepts connections and hands them on until `stop`. Handshakes run beside one another, so that a
/// slow one holds up nobody.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    limits: &Limits,
    stop: &CancellationToken,
    severed: &CancellationToken,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(limits.connections));
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    // Dropping the set at the end aborts the handshakes that are not done.
    let mut tasks = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            let handshake = Arc::clone(&handshakes).acquire_owned().await.ok()?;
            Some((place, handshake, listener.accept().await))
        };
        let (place, handshake, socket) = tokio::select! {
            () = stop.cancelled() => return,
            next = next => match next {
                Some(next) => next,
                None => return,
            },
        };
        while tasks.try_join_next().is_some() {}
        let Ok((socket, address)) = socket else {
            // Out of file descriptors, or the peer is gone already. Trying at once would spin.
            time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (acceptor, accepted, severed) = (acceptor.clone(), accepted.clone(), severed.clone());
        let (patience, introduction) = (limits.handshake, limits.introduction);
        tasks.spawn(async move {
            let _handshake = handshake;
            let _ = socket.set_nodelay(true); // a hint: without it a response waits for an ACK
            let Ok(Ok(tls)) = time::timeout(patience, acceptor.accept(socket)).await else {
                return;
            };
            let connection = Connection::new(tls, address, severed, introduction, place);
            // If nobody takes it any more, the server is stopping.
            let _ = accepted.send(Ok(connection)).await;
        });
    }
}

impl Introduction {
    /// The connection has an authenticated stream, and may stay.
    pub(super) fn accept(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }
}

impl Connection {
    fn new(
        tls: TlsStream<TcpStream>,
        address: SocketAddr,
        severed: CancellationToken,
        patience: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let certificates = certificates.iter().map(|certificate| certificate.to_vec()).collect();
        let introduction = Introduction { address: Some(address), certificates, accepted: Arc::default() };
        Self {
            tls,
            introduction,
            severed: Box::pin(severed.cancelled_owned()),
            deadline: Some(Box::pin(time::sleep(patience))),
            _place: place,
        }
    }

    fn check(&mut self, task: &mut Context<'_>) -> io::Result<()> {
        if self.severed.as_mut().poll(task).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server has stopped"));
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(task).is_ready()
        {
            self.deadline = None;
            if !self.introduction.accepted.load(Ordering::Relaxed) {
                let message = "the connection had no authenticated stream in time";
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = Introduction;

    fn connect_info(&self) -> Introduction {
        self.introduction.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(task)?;
        Pin::new(&mut self.tls).poll_read(task, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.check(task)?;
        Pin::new(&mut self.tls).poll_write(task, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(task)?;
        Pin::new(&mut self.tls).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(task)?;
        Pin::new(&mut self.tls).poll_shutdown(task)
    }
}
