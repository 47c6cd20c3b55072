//! The answers of `portolan why` to questions about the mesh in `shop/`, as they are printed.

use std::{fmt::Write, path::Path};

use clap::Parser;

use crate::cli::{Arguments, Ending};

/// The questions without the directory and the word `why`.
const QUESTIONS: &[&[&str]] = &[
    // By a rule, and by the field of an alternative.
    &["--from", "front/web", "--to", "web.shop:80", "GET", "/items/7", "-H", "x-user: alice"],
    // The trust domain was renamed, and the policy means both of its names.
    &["--from", "spiffe://old.example/ns/shop/sa/admin", "--to", "web.shop:http", "GET", "/anything"],
    // None of the rules allows it; the header is missing.
    &["--from", "front/web", "--to", "web.shop:80", "GET", "/items/7"],
    &["--from", "back/job", "--to", "web.shop:80", "PUT", "/items/7/8"],
    // Denied by a path that is normalized first, whoever is allowed.
    &["--from", "partner/web", "--to", "web.shop:80", "GET", "/items/../admin/x?y=z"],
    // Reported, and nothing else.
    &["--from", "shop/admin", "--to", "web.shop:80", "POST", "/items"],
    // A provider decides what is not denied anyway.
    &["--from", "shop/admin", "--to", "web.shop:80", "GET", "/checkout"],
    &["--from", "front/web", "--to", "web.shop:80", "GET", "/checkout"],
    // Routed by a header.
    &["--from", "shop/admin", "--to", "web.shop:80", "GET", "/items/1", "-H", "x-canary: 1"],
    // On a TCP port, rules about requests deny more and allow less.
    &["--from", "shop/admin", "--to", "web.shop:9000"],
    &["--from", "front/web", "--to", "web.shop:9000", "GET", "/items"],
    // Nothing but HTTP, where policies ask about requests.
    &["--from", "shop/admin", "--to", "web.shop:7000", "--tcp"],
    &["--from", "shop/admin", "--to", "web.shop:7000"],
    &["--from", "shop/admin", "--to", "web.shop:80", "--tcp"],
    // Nobody says anything.
    &["--from", "front/web", "--to", "free.shop"],
    &["--from", "front/web", "--to", "free.shop:80"],
    &["--from", "front/web", "--to", "free.shop:7000", "--sni", "a.example"],
    // Routes of a consumer are for its callers.
    &["--from", "partner/web", "--to", "free.shop:80", "GET", "/one"],
    &["--from", "partner/web", "--to", "free.shop:80", "GET", "/two"],
    // It depends on the address.
    &["--from", "front/web", "--to", "db.shop:5432"],
    &["--from", "front/web", "--to", "db.shop:tcp-postgres", "--from-ip", "10.1.2.3"],
    &["--from", "front/web", "--to", "10.96.0.14:5432", "--from-ip", "10.2.2.3"],
    // Tokens.
    &["--from", "front/web", "--to", "api.shop:80", "GET", "/"],
    &[
        "--from",
        "front/web",
        "--to",
        "api.shop:80",
        "GET",
        "/",
        "--claims",
        r#"{"iss": "https://issuer.example", "sub": "alice", "groups": ["members"]}"#,
    ],
    &[
        "--from",
        "front/web",
        "--to",
        "api.shop:80",
        "GET",
        "/",
        "--claims",
        r#"{"iss": "https://issuer.example", "sub": "alice", "groups": "guests"}"#,
    ],
    &[
        "--from",
        "front/web",
        "--to",
        "api.shop:80",
        "GET",
        "/",
        "--claims",
        r#"{"iss": "https://else.example", "sub": "alice"}"#,
    ],
    &[
        "--from",
        "front/web",
        "--to",
        "free.shop:80",
        "GET",
        "/",
        "--claims",
        r#"{"iss": "https://issuer.example"}"#,
    ],
    // A rule with a mistake allows nothing.
    &["--from", "shop/admin", "--to", "api.example.com:443", "--sni", "api.example.com"],
    // Strangers.
    &["--from", "spiffe://elsewhere/ns/shop/sa/admin", "--to", "web.shop:80", "GET", "/"],
    // Not ours to judge.
    &["--from", "front/web", "--to", "plain.other:80", "GET", "/"],
    &["--from", "front/web", "--to", "lost.other:80", "GET", "/"],
    // What is not there.
    &["--from", "front/web", "--to", "web:80", "GET", "/"],
    &["--from", "shop/web", "--to", "web:81", "GET", "/"],
    &["--from", "shop/web", "--to", "10.9.9.9:80", "GET", "/"],
    &["--from", "shop/web", "--to", "web:80", "GET", "/", "--claims", "alice"],
];

/// Those of them that show every part of the form for programs.
const AS_JSON: &[usize] = &[0, 2, 4, 5, 6, 10, 25, 28, 30];

fn ask(directory: &Path, question: &[&str], more: &[&str]) -> String {
    let mut told = String::from("$ portolan why");
    for word in question.iter().chain(more) {
        let quoted = word.contains([' ', '"', '?']);
        write!(told, " {}", if quoted { format!("'{word}'") } else { (*word).to_owned() }).unwrap();
    }
    let directory = directory.to_str().unwrap();
    let arguments = ["portolan", "why", directory]
        .into_iter()
        .chain(question.iter().copied())
        .chain(more.iter().copied());
    match Arguments::try_parse_from(arguments) {
        Err(error) => write!(told, "\n{}[2]\n\n", error.render()).unwrap(),
        Ok(arguments) => {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let ending = arguments.run(&mut out, &mut err).unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            write!(told, "\n{}{}[{}]\n\n", text(out), text(err), ending.code()).unwrap();
        }
    }
    told
}

fn shop() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/why/shop"))
}

#[test]
fn answers_are_these() {
    let told: String = QUESTIONS.iter().map(|question| ask(shop(), question, &[])).collect();
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("text", told);
    });
}

#[test]
fn answers_for_programs_are_these() {
    let told: String = AS_JSON.iter().map(|nth| ask(shop(), QUESTIONS[*nth], &["-o", "json"])).collect();
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("json", told);
    });
}

#[test]
fn a_manifest_that_cannot_be_read_leaves_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let bad = "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: eighty}]}}";
    std::fs::write(directory.path().join("bad.yaml"), bad).unwrap();
    let told = ask(directory.path(), &["--from", "a/b", "--to", "web.default:80"], &[]);
    assert!(told.contains("spec.ports[0].port"), "{told}");
    assert!(told.contains("correct") && told.ends_with("[2]\n\n"), "{told}");
}

#[test]
fn claims_may_be_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("claims.json");
    std::fs::write(&file, r#"{"iss": "https://issuer.example", "sub": "a", "groups": "members"}"#).unwrap();
    let claims = format!("@{}", file.display());
    let question = ["--from", "front/web", "--to", "api.shop:80", "GET", "/", "--claims", &claims];
    assert!(ask(shop(), &question, &[]).contains("\nALLOWED"));
    let gone = ["--from", "front/web", "--to", "api.shop:80", "GET", "/", "--claims", "@nowhere"];
    assert!(ask(shop(), &gone, &[]).contains("reading nowhere"));
}

#[test]
fn codes_are_what_the_help_says() {
    let endings =
        [Ending::Well, Ending::Denied, Ending::WithoutAnswer, Ending::ProviderDecides, Ending::NotJudged];
    assert_eq!(endings.map(Ending::code), [0, 1, 2, 3, 4]);
}
