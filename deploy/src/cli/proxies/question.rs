//! One question to the debug endpoint of a control plane, over whatever leads there.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::{Request, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// How long an answer may take. It is made at once, and what all proxies of a large mesh were sent are tens of
/// megabytes, through an API server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for `path`, and reads the answer.
pub(super) async fn ask<T: DeserializeOwned>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> anyhow::Result<T> {
    let asked = timeout(PATIENCE, answer(stream, path)).await;
    let body = asked.map_err(|_| anyhow!("no answer within {} s", PATIENCE.as_secs()))??;
    serde_json::from_slice(&body).context("its answer is none of this version; is it as new as this command?")
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> anyhow::Result<Bytes> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(HOST, "localhost").body(Empty::<Bytes>::new())?;
    let asking = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("it answers {status}: {}", String::from_utf8_lossy(&body).trim());
        }
        Ok(body)
    };
    tokio::pin!(asking);
    tokio::pin!(connection);
    tokio::select! {
        answered = &mut asking => answered,
        // With an answer that was whole, the connection may end before it is looked at.
        ended = &mut connection => {
            ended?;
            asking.await
        }
    }
}
