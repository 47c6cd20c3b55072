//! The evaluator first has to give the verdicts that are known: those of the cases of conformance.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};
use tests::{
    authorization::{self, Ask, Set, Verdict},
    judgement::{self, Body, Http, JwtRule, Normalization, Policy, Request, Token, judge, normalized},
};

#[test]
fn the_evaluator_gives_the_verdict_of_every_case() {
    let mut asked = 0;
    let mut wrong = Vec::new();
    for set in authorization::read().unwrap() {
        // What the codec refuses gets to no policy.
        for case in set.cases.iter().filter(|case| case.verdict != Verdict::Bad) {
            asked += 1;
            let found = verdict(&set, &case.ask);
            if found != case.verdict {
                wrong.push(format!("{}: {found:?}, not {:?}", case.id, case.verdict));
            }
        }
    }
    assert!(asked >= 234, "{asked} cases are too few");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn verdict(set: &Set, ask: &Ask) -> Verdict {
    let bundle = match set.mesh.trust_domains.as_slice() {
        [] => vec!["cluster.local".to_owned()],
        several => several.to_vec(),
    };
    let policies = set.authorization();
    let policies: Vec<_> = policies.iter().map(|manifest| Policy::read(manifest, &bundle)).collect();
    let (mut http, signed) = http(set, ask);
    if !set.tcp {
        let rules = set.tokens.iter().map(|rule| serde_json::from_value(rule.clone()).unwrap());
        match Token::of(&http, &rules.collect::<Vec<JwtRule>>(), &signed, 1_800_000_000) {
            Token::Missing => {}
            Token::Good(claims) => http.claims = Some(claims),
            Token::Bad => return Verdict::Unauthenticated,
            Token::OtherAudience => return Verdict::Forbidden,
        }
    }
    let request = Request {
        peer: Some(ask.peer_id()),
        source: ask.from.parse().unwrap(),
        address: ask.to.ip(),
        port: ask.to.port(),
        names: Arc::new(set.ports().collect()),
        answers: Arc::default(),
        body: if set.tcp { Body::Tcp { sni: ask.sni.clone() } } else { Body::Http(http) },
    };
    match judge(&policies.iter().collect::<Vec<_>>(), &request, None).verdict {
        judgement::Verdict::Allow => Verdict::Allow,
        judgement::Verdict::Deny => Verdict::Deny,
    }
}

/// The request as policies see it, and what its tokens say.
fn http(set: &Set, ask: &Ask) -> (Http, BTreeMap<String, Map<String, Value>>) {
    let how = match set.mesh.normalization.as_str() {
        "NONE" => Normalization::None,
        "" | "BASE" | "DEFAULT" => Normalization::Base,
        "MERGE" | "MERGE_SLASHES" => Normalization::MergeSlashes,
        "DECODE" | "DECODE_AND_MERGE_SLASHES" => Normalization::DecodeAndMergeSlashes,
        other => panic!("{other} is no normalization"),
    };
    let mut signed = BTreeMap::new();
    let headers = ask.headers(|claims| {
        let token = format!("token-{}", signed.len());
        signed.insert(token.clone(), claims.as_object().unwrap().clone());
        Ok(token)
    });
    let headers = headers.unwrap();
    let http = Http {
        method: ask.method.clone(),
        host: ask.host.clone(),
        path: normalized(&ask.path, how),
        headers: headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
        claims: None,
    };
    (http, signed)
}
