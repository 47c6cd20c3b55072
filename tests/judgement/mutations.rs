//! Policies as somebody may get them wrong: every policy of the snapshots, changed at random, through
//! what `tests/fuzz` gives to cargo-fuzz. Seeded, so that what fails fails again.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;
use tests::{case, fuzz};

const ROUNDS: usize = 30;

/// What is put where something else was: texts that mean something somewhere, and values of other types.
const ODD: [&str; 30] = [
    r#""""#,
    r#""*""#,
    r#""**""#,
    r#""a*b""#,
    r#""*a""#,
    r#""a*""#,
    r#""{*}""#,
    r#""/{**}/a""#,
    r#""/a[b""#,
    r#""a\nb""#,
    r#""\u0000""#,
    r#""ü""#,
    r#""(""#,
    r#""\\""#,
    r#""spiffe://x""#,
    r#""10.0.0.0/8""#,
    r#""::1/129""#,
    r#""65536""#,
    r#""-1""#,
    r#""request.headers[a\rb]""#,
    r#""request.auth.claims[a][]""#,
    r#""connection.sni""#,
    r#""DENY""#,
    r#""CUSTOM""#,
    "null",
    "true",
    "17",
    "1e300",
    "[]",
    "{}",
];

/// Numbers that are the same in every run.
struct Chance(u64);

impl Chance {
    /// Xorshift.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

#[test]
fn no_policy_makes_envoy_reject_or_leaves_anything_behind() {
    let cases = case::all(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"))).unwrap();
    let edits = cases.iter().flat_map(|case| case.steps.iter().flat_map(|step| &step.edits));
    let is_policy = |manifest: &&Value| {
        ["AuthorizationPolicy", "RequestAuthentication"].contains(&manifest["kind"].as_str().unwrap_or(""))
    };
    let policies: BTreeSet<String> =
        edits.map(|edit| &edit.manifest).filter(is_policy).map(ToString::to_string).collect();
    assert!(policies.len() > 50, "the policies are not where they are expected");
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut applied = 0;
    for text in &policies {
        assert!(fuzz::policy(text.as_bytes()), "{text} is a policy");
        for _ in 0..ROUNDS {
            let mut manifest: Value = serde_json::from_str(text).unwrap();
            for _ in 0..=chance.below(3) {
                let places = places(&manifest["spec"]);
                let place = &places[chance.below(places.len())];
                let odd = serde_json::from_str(ODD[chance.below(ODD.len())]).unwrap();
                mutate(&mut manifest["spec"], place, odd, &mut chance);
            }
            let text = manifest.to_string();
            let outcome = std::panic::catch_unwind(|| fuzz::policy(text.as_bytes()));
            applied += usize::from(outcome.unwrap_or_else(|_| panic!("fuzz::policy fails for {text}")));
        }
    }
    assert!(applied * 2 > policies.len() * ROUNDS, "only {applied} of the changed policies were applied");
}

/// Every place in the value, as paths of names and positions.
fn places(value: &Value) -> Vec<Vec<String>> {
    let below = |name: String, value: &Value| {
        let mut found = places(value);
        for place in &mut found {
            place.insert(0, name.clone());
        }
        found
    };
    let mut found = vec![Vec::new()];
    match value {
        Value::Object(fields) => {
            found.extend(fields.iter().flat_map(|(name, value)| below(name.clone(), value)));
        }
        Value::Array(items) => {
            found.extend(items.iter().enumerate().flat_map(|(index, value)| below(index.to_string(), value)));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    found
}

/// Replaces what is there, or removes it, or, if it is a list, says it again.
fn mutate(root: &mut Value, place: &[String], odd: Value, chance: &mut Chance) {
    let Some((last, parents)) = place.split_last() else {
        return *root = odd;
    };
    let pointer = parents
        .iter()
        .fold(String::new(), |path, name| path + "/" + &name.replace('~', "~0").replace('/', "~1"));
    match (root.pointer_mut(&pointer), chance.below(4)) {
        (Some(Value::Object(fields)), 0) => drop(fields.remove(last)),
        (Some(Value::Object(fields)), _) => drop(fields.insert(last.clone(), odd)),
        (Some(Value::Array(items)), 0) => items.clear(),
        (Some(Value::Array(items)), 1) => items.push(odd),
        (Some(Value::Array(items)), _) => {
            let index: usize = last.parse().unwrap();
            items[index] = odd;
        }
        (Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None, _) => {}
    }
}
