//! The evaluator first has to give the verdicts that are known: those of the cases of conformance.

use std::{collections::BTreeMap, fs, net::SocketAddr, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tests::{
    judgement::{Body, Http, JwtRule, Normalization, Policy, Request, Token, Verdict, judge, normalized},
    lab,
};

/// Cases that the codec answers, before any policy.
const OF_THE_CODEC: [&str; 2] = ["T199", "T200"];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Set {
    #[serde(default)]
    trust_domains: Vec<String>,
    #[serde(default)]
    normalization: String,
    #[serde(default)]
    tcp: bool,
    #[serde(default)]
    tokens: Vec<JwtRule>,
    #[serde(default)]
    policies: Vec<Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    #[serde(default)]
    ask: Ask,
    verdict: String,
}

#[derive(Deserialize)]
#[serde(default)]
struct Ask {
    peer: String,
    from: String,
    to: SocketAddr,
    method: String,
    path: String,
    host: String,
    headers: Vec<(String, String)>,
    token: Option<Value>,
    sni: Option<String>,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            peer: "foo/a".to_owned(),
            from: "127.10.0.65".to_owned(),
            to: SocketAddr::from(([10, 96, 0, 10], 8080)),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: "svc.ns.svc.cluster.local".to_owned(),
            headers: Vec::new(),
            token: None,
            sni: None,
        }
    }
}

#[test]
fn the_evaluator_gives_the_verdict_of_every_case() {
    let mut asked = 0;
    let mut wrong = Vec::new();
    for file in fs::read_dir(lab::repository().join("tests/conformance/authz")).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let sets: Vec<Set> = serde_saphyr::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for set in &sets {
            for case in &set.cases {
                asked += 1;
                let excused = OF_THE_CODEC.contains(&case.id.as_str());
                let found = verdict(set, &case.ask);
                if (found == case.verdict) == excused {
                    wrong.push(format!("{}: {found}, not {}", case.id, case.verdict));
                }
            }
        }
    }
    assert!(asked >= 236, "{asked} cases are too few");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn verdict(set: &Set, ask: &Ask) -> &'static str {
    let bundle = if set.trust_domains.is_empty() {
        vec!["cluster.local".to_owned()]
    } else {
        set.trust_domains.clone()
    };
    let policies = set.policies.iter().enumerate().map(|(nth, policy)| {
        let mut manifest = policy.clone();
        manifest["metadata"]["namespace"] = json!("foo");
        manifest["metadata"]["name"] = json!(format!("policy-{nth}"));
        Policy::read(&manifest, &bundle)
    });
    let policies: Vec<_> = policies.collect();
    let (mut http, signed) = http(set, ask);
    if !set.tcp {
        match Token::of(&http, &set.tokens, &signed, 1_800_000_000) {
            Token::Missing => {}
            Token::Good(claims) => http.claims = Some(claims),
            Token::Bad => return "UNAUTHENTICATED",
            Token::OtherAudience => return "FORBIDDEN",
        }
    }
    let peer = match ask.peer.split_once('/') {
        Some((namespace, name)) if !ask.peer.contains("://") => {
            format!("spiffe://cluster.local/ns/{namespace}/sa/{name}")
        }
        Some(_) | None => ask.peer.clone(),
    };
    let protocol = if set.tcp { "tcp" } else { "http" };
    let names = BTreeMap::from([
        (protocol.to_owned(), 80),
        (format!("{protocol}-8080"), 8080),
        (format!("{protocol}-9090"), 9090),
    ]);
    let request = Request {
        peer: Some(peer),
        source: ask.from.parse().unwrap(),
        address: ask.to.ip(),
        port: ask.to.port(),
        names: Arc::new(names),
        answers: Arc::default(),
        body: if set.tcp { Body::Tcp { sni: ask.sni.clone() } } else { Body::Http(http) },
    };
    match judge(&policies.iter().collect::<Vec<_>>(), &request, None).verdict {
        Verdict::Allow => "ALLOW",
        Verdict::Deny => "DENY",
    }
}

/// The request as policies see it, and what its tokens say.
fn http(set: &Set, ask: &Ask) -> (Http, BTreeMap<String, Map<String, Value>>) {
    let how = match set.normalization.as_str() {
        "NONE" => Normalization::None,
        "" | "BASE" | "DEFAULT" => Normalization::Base,
        "MERGE" | "MERGE_SLASHES" => Normalization::MergeSlashes,
        "DECODE" | "DECODE_AND_MERGE_SLASHES" => Normalization::DecodeAndMergeSlashes,
        other => panic!("{other} is no normalization"),
    };
    let mut headers = ask.headers.clone();
    let mut signed = BTreeMap::new();
    if let Some(claims) = &ask.token {
        headers.push(("authorization".to_owned(), "Bearer token".to_owned()));
        signed.insert("token".to_owned(), claims.as_object().unwrap().clone());
    }
    for (_, value) in &ask.headers {
        if let Some((_, issuer)) = value.split_once("JWT:iss=") {
            let claims = json!({"iss": issuer, "sub": "some"}).as_object().unwrap().clone();
            signed.insert(format!("JWT:iss={issuer}"), claims);
        }
    }
    let http = Http {
        method: ask.method.clone(),
        host: ask.host.clone(),
        path: normalized(&ask.path, how),
        headers: headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
        claims: None,
    };
    (http, signed)
}
