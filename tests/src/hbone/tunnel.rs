//! The two halves of an HTTP/2 stream as one stream of bytes.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

/// How long a tunnel that nobody has any more waits for the other side to end too.
const PARTING: Duration = Duration::from_secs(5);

/// An established tunnel. Shutting it down ends our direction only.
///
/// A client that drops it ends its direction and waits for the other side to end as well, as a ztunnel does
/// whose application is gone. A reset would do for one; but of those Envoy takes a thousand on a connection
/// and 33 more a second (nghttp2's limit), and then closes it, with everything that is on it.
#[derive(Debug)]
pub struct Tunnel {
    send: SendStream<Bytes>,
    /// Taken when it is dropped.
    receive: Option<RecvStream>,
    unread: Bytes,
    /// The task that moves the connection's bytes. On the server's side it has another owner.
    connection: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Tunnel {
    pub(super) fn new(
        send: SendStream<Bytes>,
        receive: RecvStream,
        connection: Option<Arc<AbortOnDropHandle<()>>>,
    ) -> Self {
        Self { send, receive: Some(receive), unread: Bytes::new(), connection }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let (Some(connection), Some(mut receive)) = (self.connection.take(), self.receive.take()) else {
            return;
        };
        let ended = self.send.send_data(Bytes::new(), true).is_ok();
        if let (true, Ok(runtime)) = (ended && !receive.is_end_stream(), Handle::try_current()) {
            runtime.spawn(async move {
                let rest = async {
                    while let Some(Ok(data)) = poll_fn(|cx| receive.poll_data(cx)).await {
                        let _ = receive.flow_control().release_capacity(data.len());
                    }
                };
                // Whoever does not end in time is reset.
                let _ = timeout(PARTING, rest).await;
                drop(connection);
            });
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            let Some(receive) = &mut self.receive else { return Poll::Ready(Ok(())) };
            match ready!(receive.poll_data(cx)) {
                Some(Ok(data)) => self.unread = data,
                Some(Err(error)) => return Poll::Ready(ended(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.unread.len().min(into.remaining());
        into.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        // The window opens by what was read, not by what arrived, so a slow reader slows the sender.
        let Some(receive) = &mut self.receive else { return Poll::Ready(Ok(())) };
        Poll::Ready(receive.flow_control().release_capacity(length).map_err(io::Error::other))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if from.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(from.len());
        // `poll_capacity` reports changes only: capacity left over from an earlier write has to be seen first.
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let length = self.send.capacity().min(from.len());
        let sent = self.send.send_data(Bytes::copy_from_slice(&from[..length]), false);
        Poll::Ready(sent.map(|()| length).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A stream that the other side has already reset needs no end from us.
        let _ = self.send.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}

/// A reset without an error is how Envoy ends a tunnel whose other side closed.
fn ended(error: h2::Error) -> io::Result<()> {
    match error.reason() {
        Some(Reason::NO_ERROR) => Ok(()),
        _ => Err(io::Error::other(error)),
    }
}
