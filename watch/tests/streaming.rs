//! Lists that are streamed, by a server that was told what to say: real ones that have them are too new for
//! the tests of the cluster, and none ends a list in the middle when it is asked to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this target is a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use proto::ObjectRef;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use translate::Change;
use watch::{ClusterSource, Source, Update};

/// What the server says to who asks for namespaces.
enum Answer {
    /// These lines; then it hangs up, or not.
    Lines { lines: Vec<Value>, hang_up: bool },
    /// An error.
    Refusal(u16),
}

/// Answers about namespaces, one after the other, by what is asked; the last one is for whoever asks more.
type Script = fn(query: &str, earlier: usize) -> Answer;

struct Server {
    address: SocketAddr,
    /// Everything that was asked about namespaces, in order.
    asked: Arc<Mutex<Vec<String>>>,
}

async fn serve(script: Script) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream, script, Arc::clone(&hear)));
        }
    });
    Server { address, asked }
}

async fn answer(mut stream: TcpStream, script: Script, asked: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let answer = match path.split_once('?') {
        None if path == "/api/v1" => Answer::Lines {
            lines: vec![json!({
                "kind": "APIResourceList", "groupVersion": "v1",
                "resources": [{
                    "name": "namespaces", "singularName": "", "namespaced": false, "kind": "Namespace", "verbs": [],
                }],
            })],
            hang_up: true,
        },
        None if path == "/readyz" => Answer::Lines { lines: vec![], hang_up: true },
        Some(("/api/v1/namespaces", query)) => {
            let mut asked = asked.lock();
            let answer = script(query, asked.len());
            asked.push(query.to_owned());
            answer
        }
        _ => Answer::Refusal(404),
    };
    let (code, lines, hang_up) = match answer {
        Answer::Lines { lines, hang_up } => (200, lines, hang_up),
        Answer::Refusal(code) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no",
            });
            (code, vec![status], true)
        }
    };
    let mut text =
        format!("HTTP/1.1 {code} -\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n");
    text.extend(lines.iter().map(|line| format!("{line}\n")));
    stream.write_all(text.as_bytes()).await.unwrap();
    if !hang_up {
        // Until the client hangs up.
        while stream.read_u8().await.is_ok() {}
    }
}

fn namespace(name: &str, version: &str) -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name, "resourceVersion": version}})
}

fn event(kind: &str, name: &str, version: &str) -> Value {
    json!({"type": kind, "object": namespace(name, version)})
}

fn bookmark(version: &str, annotations: &Value) -> Value {
    let metadata = json!({"resourceVersion": version, "annotations": annotations});
    json!({"type": "BOOKMARK", "object": {"kind": "Namespace", "apiVersion": "v1", "metadata": metadata}})
}

fn end_of_list(version: &str) -> Value {
    bookmark(version, &json!({"k8s.io/initial-events-end": "true"}))
}

fn list(names: &[&str], next: &str) -> Value {
    let items: Vec<_> = names.iter().map(|name| namespace(name, "1")).collect();
    json!({
        "kind": "NamespaceList", "apiVersion": "v1", "items": items,
        "metadata": {"resourceVersion": "7", "continue": next},
    })
}

/// Follows the server until `enough`, and gives the names of what is there, and what was there once.
async fn follow(
    server: &Server,
    enough: impl Fn(bool, &BTreeSet<String>) -> bool,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let config = kube::Config::new(format!("http://{}", server.address).parse().unwrap());
    let source = ClusterSource::new(kube::Client::try_from(config).unwrap());
    let (tell, mut updates) = mpsc::channel(100);
    let running = tokio::spawn(source.run(tell));
    let mut there = BTreeMap::<ObjectRef, String>::new();
    let (mut ready, mut seen) = (false, BTreeSet::new());
    let names = |there: &BTreeMap<ObjectRef, String>| there.values().cloned().collect::<BTreeSet<_>>();
    while !enough(ready, &names(&there)) {
        let update = timeout(Duration::from_secs(30), updates.recv()).await;
        match update.unwrap_or_else(|_| panic!("it ends with {there:?}, ready: {ready}")).unwrap() {
            Update::Ready => ready = true,
            Update::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Set(object) => {
                            let name = object.reference().name.to_string();
                            seen.insert(name.clone());
                            there.insert(object.reference(), name);
                        }
                        Change::Remove(object) => drop(there.remove(&object)),
                        Change::Keys(..) | Change::Hindered(..) | Change::Missing(..) | Change::Seen(_) => {}
                    }
                }
            }
        }
    }
    running.abort();
    (names(&there), seen)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn what_is_deleted_while_a_streamed_list_is_cut_does_not_stay() {
    let server = serve(|query, earlier| {
        assert!(query.contains("watch=true"), "{query}");
        let lines = match earlier {
            0 => vec![event("ADDED", "deleted", "1"), event("ADDED", "kept", "2")],
            _ => vec![event("ADDED", "kept", "2"), event("ADDED", "new", "4"), end_of_list("5")],
        };
        Answer::Lines { lines, hang_up: earlier == 0 }
    })
    .await;
    let (there, seen) = follow(&server, |ready, _| ready).await;
    assert_eq!(there, set(&["kept", "new"]));
    assert_eq!(seen, set(&["deleted", "kept", "new"]), "the first list was heard of");
    let asked = server.asked.lock();
    assert!(asked.iter().all(|query| query.contains("sendInitialEvents=true")), "{asked:?}");
}

#[tokio::test]
async fn a_streamed_list_goes_on_as_a_watch_from_its_last_bookmark() {
    let server = serve(|_, earlier| match earlier {
        0 => Answer::Lines {
            lines: vec![
                event("ADDED", "a", "1"),
                end_of_list("5"),
                event("ADDED", "b", "6"),
                bookmark("9", &json!({})),
            ],
            hang_up: true,
        },
        _ => Answer::Lines { lines: vec![event("DELETED", "a", "12")], hang_up: false },
    })
    .await;
    let (there, _) = follow(&server, |ready, there| ready && *there == set(&["b"])).await;
    assert_eq!(there, set(&["b"]));
    let asked = server.asked.lock();
    assert!(asked[1].contains("resourceVersion=9") && !asked[1].contains("sendInitialEvents"), "{asked:?}");
}

#[tokio::test]
async fn a_server_without_streamed_lists_is_asked_for_pages() {
    let server = serve(|query, _| {
        if query.contains("sendInitialEvents") {
            return Answer::Refusal(422);
        }
        let lines = if query.contains("watch=true") {
            assert!(query.contains("resourceVersion=7"), "{query}");
            return Answer::Lines { lines: vec![], hang_up: false };
        } else if query.contains("continue=more") {
            vec![list(&["b"], "")]
        } else {
            vec![list(&["a"], "more")]
        };
        Answer::Lines { lines, hang_up: true }
    })
    .await;
    let (there, _) = follow(&server, |ready, _| ready).await;
    assert_eq!(there, set(&["a", "b"]));
    let streamed = server.asked.lock().iter().filter(|query| query.contains("sendInitialEvents")).count();
    assert_eq!(streamed, 1, "it said that it has none");
}

#[tokio::test]
async fn an_expired_watch_is_a_new_list_and_only_its_differences_are_told() {
    let server = serve(|query, earlier| {
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}});
        let lines = match (query.contains("sendInitialEvents"), earlier) {
            (true, 0) => vec![event("ADDED", "a", "1"), event("ADDED", "b", "2"), end_of_list("5"), gone],
            (true, _) => vec![event("ADDED", "b", "2"), event("ADDED", "c", "8"), end_of_list("9")],
            (false, _) => panic!("from where it was, it cannot go on: {query}"),
        };
        Answer::Lines { lines, hang_up: earlier == 0 }
    })
    .await;
    let (there, seen) = follow(&server, |ready, there| ready && there.contains("c")).await;
    assert_eq!((there, seen), (set(&["b", "c"]), set(&["a", "b", "c"])));
}
