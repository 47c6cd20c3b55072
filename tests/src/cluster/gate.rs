//! A gate before an API server: shut, nobody behind it is reached, while the server goes on for others.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// A way to an API server that can be shut. It ends when dropped.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
    passing: JoinHandle<()>,
}

impl Gate {
    /// An open gate to `back`: on another port of the same address, for which its certificate is good too.
    pub(super) async fn start(back: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((back.ip(), 0)).await?;
        let address = listener.local_addr()?;
        let (open, is_open) = watch::channel(true);
        let passing = tokio::spawn(pass(listener, back, is_open));
        Ok(Self { address, open, passing })
    }

    /// What a client has for the URL of the server.
    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Cuts everybody who is connected, and lets nobody in.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Lets everybody in again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

async fn pass(listener: TcpListener, back: SocketAddr, mut open: watch::Receiver<bool>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut front, _)) = accepted else { return };
                if *open.borrow() {
                    connections.spawn(async move {
                        let mut back = TcpStream::connect(back).await?;
                        copy_bidirectional(&mut front, &mut back).await
                    });
                }
            }
            changed = open.changed() => {
                if changed.is_err() {
                    return;
                }
                if !*open.borrow_and_update() {
                    connections.abort_all();
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
