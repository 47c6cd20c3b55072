//! What `portolan why` says, held against the two others who judge: the evaluator of the API's meaning, and
//! (by it) the filters that Envoy is sent.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tests::{
    authorization::{self, NAMESPACE, Verdict},
    identity::Authority,
    judgement::{self, Body, Decision},
    token::Issuer,
};
use translate::{
    Change, Mesh, Settings,
    why::{
        self, Answer, Because, Destination, Field, Inquiry, Matched, Place, Port, Question, Refusal, Request,
        Sends,
    },
};

/// In seconds since 1970: tokens are signed for an hour from now.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs().try_into().unwrap()
}

#[test]
fn why_gives_the_verdict_of_every_case_and_names_the_fields_that_made_it() {
    let mut asked = 0;
    let mut named = 0;
    let mut wrong = Vec::new();
    let issuer = Issuer::new("key").unwrap();
    let foreign = Authority::stranger("the root of other meshes").unwrap();
    for set in authorization::read().unwrap() {
        let sets = std::slice::from_ref(&set);
        let manifests = authorization::manifests(&set.mesh, sets, &issuer.jwks(), foreign.root_pem(), true);
        let objects: Vec<_> = manifests
            .iter()
            .map(|manifest| proto::Object::decode(manifest.clone()).unwrap().object)
            .collect();
        let mut mesh = Mesh::new(Settings::default().adopting(&objects));
        mesh.commit(objects.into_iter().map(Change::Set));
        let inquiry = mesh.inquiry();
        // What the codec refuses gets to no policy.
        for case in set.cases.iter().filter(|case| case.verdict != Verdict::Bad) {
            asked += 1;
            let ask = &case.ask;
            let sends = if set.tcp {
                Sends::Bytes { server_name: ask.sni.clone() }
            } else {
                let headers = ask.headers(|claims| issuer.sign(claims)).unwrap();
                let headers = headers.into_iter().map(|(name, value)| (name, value.into_bytes()));
                Sends::Request(Request {
                    method: ask.method.clone(),
                    host: Some(ask.host.clone()),
                    path: ask.path.clone(),
                    headers: headers.collect(),
                    claims: None,
                })
            };
            let answer = inquiry.ask(&Question {
                peer: Some(ask.peer_id()),
                source: Some(ask.from.parse().unwrap()),
                to: Destination::Address(ask.to.ip()),
                port: Port::Number(ask.to.port()),
                sends,
                now: now(),
            });
            let answer = answer.unwrap_or_else(|why| panic!("{}: {why}", case.id));
            if verdict(&answer) != case.verdict {
                wrong.push(format!("{}: {answer:#?}, not {:?}", case.id, case.verdict));
            }
            for (policy, fields) in looked_at(&answer) {
                let is = |manifest: &&Value| {
                    let metadata = &manifest["metadata"];
                    manifest["kind"] == "AuthorizationPolicy"
                        && metadata["namespace"] == NAMESPACE
                        && metadata["name"] == policy
                };
                let manifest = manifests.iter().find(is).unwrap_or_else(|| panic!("{}: {policy}", case.id));
                named += fields.len();
                wrong.extend(fields.into_iter().filter_map(|field| misplaced(field, manifest)));
            }
        }
    }
    assert!(asked >= 234, "{asked} cases are too few");
    assert!(named >= 150, "{named} fields are too few");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn verdict(answer: &Answer) -> Verdict {
    match (&answer.because, answer.verdict()) {
        (Because::Token(Refusal { status: 401, .. }), _) => Verdict::Unauthenticated,
        (Because::Token(_), _) => Verdict::Forbidden,
        (_, why::Verdict::Allowed) => Verdict::Allow,
        (_, why::Verdict::Denied) => Verdict::Deny,
        (_, other) => panic!("{other:?} is no verdict of a case"),
    }
}

/// The policies that the answer names, each with the fields of theirs.
fn looked_at(answer: &Answer) -> Vec<(&str, Vec<&Field>)> {
    match &answer.because {
        Because::Denied(matched) | Because::Allowed(matched) => {
            vec![(&*matched.policy.name, matched.fields.iter().collect())]
        }
        Because::NoneAllows(all) => {
            all.iter().map(|one| (&*one.policy.name, one.missed.iter().collect())).collect()
        }
        Because::Unbound { .. }
        | Because::Token(_)
        | Because::NotHttp
        | Because::InnerConnect
        | Because::NothingAsked => Vec::new(),
    }
}

/// The field, if the manifest has not these values there.
fn misplaced(field: &Field, manifest: &Value) -> Option<String> {
    let path = field.at.to_string();
    let steps = path
        .split('.')
        .flat_map(|step| step.split_inclusive('['))
        .map(|step| step.trim_end_matches(['[', ']']).to_owned());
    let found = steps.filter(|step| !step.is_empty()).try_fold(manifest, |found, step| {
        step.parse::<usize>().map_or_else(|_| found.get(&step), |index| found.get(index))
    });
    let right = match found {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).eq(field.wanted.iter()),
        Some(Value::String(value)) => field.wanted == [value.as_str()],
        Some(_) | None => false,
    };
    (!right).then(|| format!("{field:?} is not in {manifest}"))
}

/// What `why` says of a request, if it is something else.
pub(crate) fn disagreement(
    inquiry: &Inquiry<'_>,
    request: &judgement::Request,
    expected: &Decision,
) -> Option<String> {
    let sends = match &request.body {
        Body::Http(http) => Sends::Request(Request {
            method: http.method.clone(),
            host: Some(http.host.clone()),
            path: http.path.clone(),
            headers: http.headers.clone(),
            claims: http.claims.clone(),
        }),
        Body::Tcp { sni } => Sends::Bytes { server_name: sni.clone() },
    };
    let answer = inquiry.ask(&Question {
        peer: request.peer.clone(),
        source: Some(request.source),
        to: Destination::Address(request.address),
        port: Port::Number(request.port),
        sends,
        now: now(),
    });
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => return Some(format!("no answer: {why}")),
    };
    // The evaluator and the filters are told of claims that were accepted.
    if matches!(answer.because, Because::Token(_)) {
        return None;
    }
    let name = |matched: &Matched| {
        let policy = &matched.policy;
        format!("ns[{}]-policy[{}]-rule[{}]", policy.namespace, policy.name, matched.rule)
    };
    let refused = answer.asked.iter().find(|asked| !request.answers[&*asked.provider].allows);
    let agreed = match (&expected.because, refused, &answer.because) {
        (judgement::Because::Refused(provider), Some(asked), _) => **provider == *asked.provider,
        (judgement::Because::NothingAsked, None, Because::NothingAsked)
        | (judgement::Because::NoneAllowed, None, Because::NoneAllows(_))
        // Denied with those that deny anyway.
        | (judgement::Because::NoProvider(_), None, Because::Denied(_)) => true,
        // Before its name is known, a connection is refused that nothing can allow.
        (judgement::Because::Denied(_) | judgement::Because::NoProvider(_), None, Because::NoneAllows(_)) => {
            matches!(request.body, Body::Tcp { .. }) && answer.judged == Place::Tunnel
        }
        (judgement::Because::Denied(rules), None, Because::Denied(matched))
        | (judgement::Because::Allowed(rules), None, Because::Allowed(matched)) => {
            rules.contains(&name(matched))
        }
        _ => false,
    };
    (!agreed).then(|| format!("expected {expected:?}\nwhy      {answer:?}"))
}
