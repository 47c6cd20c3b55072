//! As much of gRPC as a unary call needs: one framed message each way, and a status after it.

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::exchange::{Request, Response};

/// The content type of our calls: the messages are JSON, which no proxy looks at.
pub const CONTENT_TYPE: &str = "application/grpc+json";

/// Whether a content type is gRPC's.
pub fn is_content_type(value: &HeaderValue) -> bool {
    value.as_bytes().starts_with(b"application/grpc")
}

/// A message as it travels: not compressed, its length, and it.
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    // No message of a test has four gigabytes.
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// The trailers of a call that went well.
pub fn ok() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))])
}

/// A call of the method `path`, as in `/package.Service/Method`, with an empty object as its message.
pub fn call(path: &str) -> Result<Request> {
    let request = Request::new(Method::POST, path).body(frame(b"{}"));
    request.header("content-type", CONTENT_TYPE)?.header("te", "trailers")
}

/// The code of a response, as in 0 for OK: from the trailers, or from the headers if there is no message.
pub fn status(response: &Response) -> Result<u16> {
    let of = |headers: &HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    let status = of(&response.trailers).or_else(|| of(&response.headers));
    status.with_context(|| format!("HTTP status {} and no grpc-status", response.status))
}

/// The message of a response that is OK.
pub fn message(response: &Response) -> Result<Value> {
    let status = status(response)?;
    ensure!(status == 0, "the call ended with grpc-status {status}");
    let mut body = response.body.clone();
    ensure!(body.len() >= 5 && body[0] == 0, "not a message that is not compressed: {body:?}");
    body.advance(1);
    let length = body.get_u32() as usize;
    ensure!(length == body.len(), "a message of {length} bytes in {} bytes", body.len());
    Ok(serde_json::from_slice(&body)?)
}
