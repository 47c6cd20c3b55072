//! The server through real sockets and TLS: who gets in, what ends a stream, what one client can do
//! to another.

mod harness;

use std::{collections::HashMap, sync::Arc, time::Duration};

use proto::{Delta, TypeUrl, Version, envoy::discovery::DeltaDiscoveryRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use xds::{Group, Limits, Observation};

use self::harness::{GROUP, Running, SECOND, Stream, built, clusters, resource, soon};

#[tokio::test]
async fn a_client_without_a_valid_token_gets_nothing() {
    let server = Running::start(Limits::default()).await;
    server.publish("a", 1, 10);
    for token in ["", "wrong", "good "] {
        let refused = server.open(token.trim_end(), clusters(GROUP)).await;
        match (token, refused) {
            ("good ", Ok(mut stream)) => assert_eq!(stream.next().await.unwrap().resources.len(), 1),
            (_, Err(status)) => assert_eq!(status.code(), Code::Unauthenticated, "{token:?}: {status}"),
            (_, Ok(_)) => panic!("{token:?} was let in"),
        }
    }
    let refused = |seen: &&Observation| matches!(seen, Observation::Refused { .. });
    assert_eq!(server.observations.lock().iter().filter(refused).count(), 2);
    server.stopped().await;
}

#[tokio::test]
async fn a_client_that_claims_another_gateway_gets_nothing() {
    let server = Running::start(Limits::default()).await;
    server.publish("a", 1, 10);
    let silent = DeltaDiscoveryRequest { node: None, ..clusters(GROUP) };
    for first in [clusters("ns/other"), clusters(""), silent] {
        let mut stream = server.open("good", first).await.unwrap();
        assert_eq!(stream.next().await.unwrap_err().code(), Code::PermissionDenied);
    }
    // A node in a later request is repetition, or a stream that changed hands.
    let mut stream = server.open("good", clusters(GROUP)).await.unwrap();
    stream.take().await;
    stream.send(clusters(GROUP));
    stream.send(clusters("ns/other"));
    assert_eq!(stream.next().await.unwrap_err().code(), Code::InvalidArgument);
    server.stopped().await;
}

/// CVE-2022-21679: what is newer than the data plane is left out by it, and a condition that is left out
/// always holds.
#[tokio::test]
async fn an_envoy_that_is_older_than_what_it_would_be_sent_gets_nothing() {
    let server = Running::start(Limits::default()).await;
    server.publish("a", 1, 10);
    for version in [(1, 39, 9), (1, 37, 0), (0, 0, 0)] {
        let mut stream = server.open("good", built(GROUP, version)).await.unwrap();
        let refused = stream.next().await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{version:?}: {refused}");
    }
    let mut stream = server.open("good", built(GROUP, (1, 41, 0))).await.unwrap();
    assert_eq!(stream.next().await.unwrap().resources.len(), 1);
    server.stopped().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_credential() {
    let server = Running::start(Limits::default()).await;
    server.publish("a", 1, 10);
    let mut stream = server.open("brief", clusters(GROUP)).await.unwrap();
    stream.take().await;
    let ended = stream.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert!(ended.message().contains("expired"), "{ended}");
    server.stopped().await;
}

#[tokio::test]
async fn a_stream_ends_when_its_credential_is_taken_back() {
    let server = Running::start(Limits::default()).await;
    server.publish("a", 1, 10);
    let mut stream = server.open("doubtful", clusters(GROUP)).await.unwrap();
    let mut other = server.open("good", clusters(GROUP)).await.unwrap();
    stream.take().await;
    other.take().await;
    server.take_back.send_replace(true);
    let ended = stream.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert!(ended.message().contains("not good any more"), "{ended}");
    server.publish("a", 2, 10);
    assert_eq!(other.take().await.resources[0].version, Version(2).to_string());
    server.stopped().await;
}

#[tokio::test]
async fn who_may_have_several_gets_the_one_that_it_claims() {
    let server = Running::start(Limits::default()).await;
    server.publish("a", 1, 10);
    let mut second = server.open("good", clusters(SECOND)).await.unwrap();
    let mut first = server.open("good", clusters(GROUP)).await.unwrap();
    assert_eq!(first.take().await.resources.len(), 1);
    // Nothing is published there yet: what comes first is what comes now.
    let delta = Delta { set: vec![Arc::new(resource("b", 1, 1))], removed: Vec::new() };
    server.cache.publish(&Group(SECOND.into()), &delta);
    assert_eq!(second.take().await.resources[0].name, "b");
    server.stopped().await;
}

#[tokio::test]
async fn a_stop_ends_every_stream_and_hangs_on_nothing() {
    let server = Running::start(Limits::default()).await;
    server.publish("huge", 1, 32 << 20);
    // An active stream, one that waits for a group's first publish, one that does not read, a
    // connection without a stream, and one that never finishes its handshake.
    let mut active = server.open("good", clusters(GROUP)).await.unwrap();
    active.take().await;
    let mut idle = server.open("good", DeltaDiscoveryRequest::default()).await.unwrap();
    let unread = server.open("good/slow", clusters(GROUP)).await.unwrap();
    let quiet = server.connect().await;
    let mute = tokio::net::TcpStream::connect(server.address).await.unwrap();

    server.begin_stop();
    let end = active.next().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    assert!(idle.next().await.is_err());
    server.stopped().await;
    drop((unread, quiet, mute));
}

#[tokio::test]
async fn messages_are_larger_than_four_mebibytes_both_ways() {
    let server = Running::start(Limits::default()).await;
    server.publish("big", 1, 12 << 20);
    let claimed: HashMap<_, _> = (0..100_000)
        .map(|n| (format!("a-cluster-with-a-name-of-the-usual-length-{n}"), Version(n).to_string()))
        .collect();
    let first = DeltaDiscoveryRequest { initial_resource_versions: claimed, ..clusters(GROUP) };
    let mut stream = server.open("good", first).await.unwrap();
    let response = stream.take().await;
    assert_eq!(response.resources.len(), 1);
    assert_eq!(response.resources[0].resource.as_ref().unwrap().value.len(), 12 << 20);
    let mut removed = 0;
    while removed < 100_000 {
        removed += stream.take().await.removed_resources.len();
    }
    assert_eq!(removed, 100_000);
    server.stopped().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_little_and_disturbs_nobody() {
    let server = Running::start(Limits::default()).await;
    server.publish("a", 0, 200 << 10);
    let slow = server.open("good/slow", clusters(GROUP)).await.unwrap();
    let mut quick = server.open("good/quick", clusters(GROUP)).await.unwrap();
    for version in 1..=500 {
        server.publish("a", version, 200 << 10);
        if version % 50 == 0 {
            let newest = Version(version).to_string();
            while quick.take().await.resources[0].version != newest {}
        }
    }
    // 100 MB went by. What was made for the slow one is what fits into its window.
    let sent = |client: &str| -> usize {
        let seen = server.observations.lock();
        let to_client = seen.iter().filter_map(|observation| {
            let Observation::Sent { stream, bytes, .. } = observation else { return None };
            (*stream.client == *client).then_some(*bytes)
        });
        to_client.sum()
    };
    assert!(sent("slow") < 2 << 20, "{} bytes were made for a client that does not read", sent("slow"));
    assert!(sent("quick") >= 2 << 20, "{}", sent("quick"));
    drop(slow);
    server.stopped().await;
}

#[tokio::test]
async fn beyond_a_limit_there_is_a_clear_status() {
    let limits =
        Limits { streams: 3, streams_per_client: 2, names: 10, request_bytes: 8 << 10, ..Limits::default() };
    let server = Running::start(limits).await;
    server.publish("a", 1, 10);
    let first = server.open("good/one", clusters(GROUP)).await.unwrap();
    let mut second = server.open("good/one", clusters(GROUP)).await.unwrap();
    let refused = |status: Option<tonic::Status>| {
        let status = status.expect("it was let in");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        status.message().to_owned()
    };
    let message = refused(server.open("good/one", clusters(GROUP)).await.err());
    assert!(message.contains("\"one\" has 2 streams open"), "{message}");
    let mut third = server.open("good/two", clusters(GROUP)).await.unwrap();
    let message = refused(server.open("good/three", clusters(GROUP)).await.err());
    assert!(message.contains("all 3 streams are in use"), "{message}");

    second.take().await;
    second.send(names((0..11).map(|n| n.to_string()).collect()));
    let message = refused(second.next().await.err());
    assert!(message.contains("more than 10 names"), "{message}");

    third.take().await;
    third.send(names(vec!["x".repeat(9 << 10)]));
    refused(third.next().await.err());

    // What has ended gives its place back.
    drop((first, second, third));
    let reopened = async {
        while server.open("good/three", clusters(GROUP)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(reopened).await;
    server.stopped().await;
}

#[tokio::test]
async fn only_delta_is_served() {
    let server = Running::start(Limits::default()).await;
    let requests = tokio_stream::empty::<proto::envoy::discovery::DiscoveryRequest>();
    let refused = server.connect().await.stream_aggregated_resources(requests).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("DELTA_GRPC"), "{refused}");
    server.stopped().await;
}

#[tokio::test]
async fn garbage_and_silence_cost_only_their_own_connection() {
    let limits = Limits {
        handshakes: 2,
        handshake: Duration::from_millis(500),
        introduction: Duration::from_millis(500),
        ..Limits::default()
    };
    let server = Running::start(limits).await;
    server.publish("a", 1, 10);
    let mut garbage = tokio::net::TcpStream::connect(server.address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    // As many as there are handshakes, so that the others wait for their end.
    let mut mute = Vec::new();
    for _ in 0..2 {
        mute.push(tokio::net::TcpStream::connect(server.address).await.unwrap());
    }
    let mut stream = server.open("good", clusters(GROUP)).await.unwrap();
    assert_eq!(stream.take().await.resources.len(), 1);
    for connection in &mut mute {
        // Closed by us: the end of the stream, or a reset.
        assert!(matches!(soon(connection.read(&mut [0; 1])).await, Ok(0) | Err(_)));
    }
    // A stream that says nothing ends; one that was introduced does not.
    let mut silent = Stream::open(&mut server.connect().await, "good", clusters(GROUP)).await.unwrap();
    silent.take().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    server.publish("a", 2, 10);
    assert_eq!(stream.take().await.resources[0].version, Version(2).to_string());
    assert_eq!(silent.take().await.resources[0].version, Version(2).to_string());
    server.stopped().await;
}

#[tokio::test]
async fn a_violation_ends_its_stream_with_the_reason() {
    let server = Running::start(Limits::default()).await;
    let mut stream = server.open("good", clusters(GROUP)).await.unwrap();
    stream.send(DeltaDiscoveryRequest::default());
    let ended = stream.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::InvalidArgument);
    assert!(ended.message().contains("type_url is missing"), "{ended}");

    // A frame whose message is none, one that claims to be compressed, and one that is no frame.
    for garbage in [&[0, 0, 0, 0, 2, 0x08, 0x01][..], &[1, 0, 0, 0, 1, 0][..], &[7, 7, 7, 7, 7, 7][..]] {
        let status = server.send_raw(garbage).await;
        assert_eq!(status, (Code::InvalidArgument as i32).to_string(), "{garbage:?}");
    }
    server.stopped().await;
}

fn names(names: Vec<String>) -> DeltaDiscoveryRequest {
    let type_url = TypeUrl::Endpoint.as_str().to_owned();
    DeltaDiscoveryRequest { type_url, resource_names_subscribe: names, ..Default::default() }
}
