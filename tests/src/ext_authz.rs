//! What a backend answers when it is asked for a permission by gRPC, as an extension provider is.

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use prost::Message;
use proto::envoy::{
    http_status::HttpStatus,
    permission::{CheckRequest, CheckResponse, DeniedHttpResponse, Status, check_response::HttpResponse},
};

use crate::grpc;

/// The method that asks.
pub const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Refuses callers that show the certificate of an account `wget`, and requests with the header
/// `x-refuse`, with 418 and what it refuses; permits all others.
pub fn answer(mut call: Bytes) -> Result<Bytes> {
    call.advance(5.min(call.len()));
    let asked = CheckRequest::decode(call)?.attributes.context("nothing is asked for")?;
    let principal = asked.source.map(|source| source.principal).unwrap_or_default();
    let request = asked.request.and_then(|request| request.http).unwrap_or_default();
    let refused = principal.ends_with("/sa/wget") || request.headers.contains_key("x-refuse");
    let denial = HttpResponse::DeniedResponse(DeniedHttpResponse {
        status: Some(HttpStatus { code: 418 }),
        body: format!("{} of {} by {principal}", request.method, request.path),
        ..DeniedHttpResponse::default()
    });
    let response = CheckResponse {
        status: Some(Status { code: if refused { 7 } else { 0 }, ..Status::default() }),
        http_response: refused.then_some(denial),
        ..CheckResponse::default()
    };
    Ok(grpc::frame(&response.encode_to_vec()))
}
