//! A counter-example without what does not matter to it.

use serde_json::Value;
use tests::judgement::{Body, Request};

use crate::comparison::Set;

/// Ends the test with the smallest counter-example that leaving things out leads to.
pub(crate) fn report(seed: u64, set: &Set, request: &Request, found: &str) -> ! {
    let mut set = set.clone();
    let mut request = request.clone();
    let Some(mut found) = set.disagreement(&request) else {
        panic!("seed {seed}: only after other policies: {found}\n{set:#?}\n{request:#?}");
    };
    let mut at = 0;
    while let Some(path) = places(&set.manifests).get(at).cloned() {
        let mut smaller = set.clone();
        // An empty list is another mistake than what is looked for.
        if remove(&mut smaller.manifests, &path)
            && let Some(still) = smaller.disagreement(&request)
        {
            (set, found) = (smaller, still);
        } else {
            at += 1;
        }
    }
    let fewer = Set { aliases: Vec::new(), ..set.clone() };
    if fewer.disagreement(&request).is_some() {
        set = fewer;
    }
    while let Some(smaller) = lighter(&request).into_iter().find(|it| set.disagreement(it).is_some()) {
        request = smaller;
    }
    let Set { trust_domain, aliases, manifests } = set;
    panic!("seed {seed}, {trust_domain} {aliases:?}: {found}\n{manifests:#}\n{request:#?}");
}

/// Where something can be left out: whole policies first, then what is inside.
fn places(manifests: &Value) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut next = vec![(Vec::new(), manifests)];
    while !next.is_empty() {
        let mut below = Vec::new();
        for (path, value) in next {
            let children: Vec<(String, &Value)> = match value {
                Value::Array(list) => {
                    list.iter().enumerate().map(|(nth, value)| (nth.to_string(), value)).collect()
                }
                Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), value)).collect(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
            };
            for (name, value) in children {
                let path: Vec<String> = path.iter().cloned().chain([name]).collect();
                let whole = path.len() == 1;
                // What makes it a policy of that name stays.
                if whole || path.get(1).is_some_and(|part| part == "spec") {
                    if path.len() != 2 {
                        found.push(path.clone());
                    }
                    below.push((path, value));
                }
            }
        }
        next = below;
    }
    found
}

/// Not the only item of a list.
fn remove(value: &mut Value, path: &[String]) -> bool {
    let Some((name, rest)) = path.split_first() else { return false };
    match (value, rest.is_empty()) {
        (Value::Array(list), true) => {
            let several = list.len() > 1;
            if several {
                list.remove(name.parse().unwrap());
            }
            several
        }
        (Value::Object(object), true) => object.remove(name).is_some(),
        (Value::Array(list), false) => remove(&mut list[name.parse::<usize>().unwrap()], rest),
        (Value::Object(object), false) => remove(object.get_mut(name).unwrap(), rest),
        (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => false,
    }
}

/// The request with one thing less.
fn lighter(request: &Request) -> Vec<Request> {
    let mut all = Vec::new();
    if let Body::Http(http) = &request.body {
        for nth in 0..http.headers.len() {
            let mut http = http.clone();
            http.headers.remove(nth);
            all.push(Request { body: Body::Http(http), ..request.clone() });
        }
        for (method, path, host) in [("GET", &*http.path, &*http.host), (&http.method, "/", &http.host)] {
            let mut http = http.clone();
            (http.method, http.path, http.host) = (method.to_owned(), path.to_owned(), host.to_owned());
            all.push(Request { body: Body::Http(http), ..request.clone() });
        }
    }
    all.retain(|lighter| lighter != request);
    all
}
