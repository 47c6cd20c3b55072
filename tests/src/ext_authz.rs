//! What a backend answers when it is asked for a permission by gRPC, as an extension provider is.

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use prost::Message;
use proto::envoy::{
    core::{Address, HeaderValue, HeaderValueOption, address},
    http_status::HttpStatus,
    permission::{
        CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse, Status, check_response::HttpResponse,
    },
};
use serde_json::json;

use crate::grpc;

/// The method that asks.
pub const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";

/// How the name of a provider begins that refuses everything.
pub const STRICT: &str = "strict";

/// How the name of a provider begins that never answers.
pub const SILENT: &str = "silent";

/// As `host`, refuses callers that show the certificate of an account `wget`, and requests with the header
/// `x-refuse`, with 418 and a JSON of what it was asked; permits all others, with a header `x-permit` for
/// the backend.
pub fn answer(host: &str, mut call: Bytes) -> Result<Bytes> {
    call.advance(5.min(call.len()));
    let asked = CheckRequest::decode(call)?.attributes.context("nothing is asked for")?;
    let source = asked.source.unwrap_or_default();
    let destination = asked.destination.unwrap_or_default();
    let request = asked.request.and_then(|request| request.http).unwrap_or_default();
    let refused = host.starts_with(STRICT)
        || source.principal.ends_with("/sa/wget")
        || request.headers.contains_key("x-refuse");
    let question = json!({
        "by": host,
        "principal": source.principal,
        "from": address(source.address),
        "to": address(destination.address),
        "method": request.method,
        "host": request.host,
        "path": request.path,
        "headers": request.headers,
        "body": request.body.len(),
        "raw_body": request.raw_body.len(),
    });
    let answer = if refused {
        HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: 418 }),
            body: question.to_string(),
            ..DeniedHttpResponse::default()
        })
    } else {
        let permit =
            HeaderValue { key: "x-permit".to_owned(), value: host.to_owned(), ..HeaderValue::default() };
        HttpResponse::OkResponse(OkHttpResponse {
            headers: vec![HeaderValueOption { header: Some(permit), ..HeaderValueOption::default() }],
            ..OkHttpResponse::default()
        })
    };
    let response = CheckResponse {
        status: Some(Status { code: if refused { 7 } else { 0 }, ..Status::default() }),
        http_response: Some(answer),
        ..CheckResponse::default()
    };
    Ok(grpc::frame(&response.encode_to_vec()))
}

/// The address, without its port.
fn address(address: Option<Address>) -> String {
    match address.and_then(|address| address.address) {
        Some(address::Address::SocketAddress(socket)) => socket.address,
        other => format!("{other:?}"),
    }
}
