//! What may be told of a secret: everything but what is in it, and of certificates what everybody may know.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use x509_parser::{pem::Pem, prelude::X509Certificate};

use super::view::{Certificate, moment};
use crate::identity::{time, uris_of};

/// Takes everything out of a secret in Envoy's JSON that was put into it as text or as bytes, and gives the
/// certificates that were there. All that is secret in a `Secret` is such a `DataSource`
/// (`config.core.v3.DataSource`); one that is nothing but certificates is replaced by how many they are.
pub(super) fn redact(secret: &mut Value) -> Vec<Certificate> {
    let mut found = Vec::new();
    walk(secret, &mut found);
    found
}

fn walk(value: &mut Value, found: &mut Vec<Certificate>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                match name.as_str() {
                    "inline_string" | "inlineString" => *field = replaced(field.as_str(), found),
                    "inline_bytes" | "inlineBytes" => {
                        let bytes = field.as_str().and_then(|text| STANDARD.decode(text).ok());
                        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                        *field = replaced(text.as_deref(), found);
                    }
                    _ => walk(field, found),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn replaced(text: Option<&str>, found: &mut Vec<Certificate>) -> Value {
    match text.and_then(certificates) {
        Some(certificates) => {
            let count = certificates.len();
            found.extend(certificates);
            json!(if count == 1 { "1 certificate".to_owned() } else { format!("{count} certificates") })
        }
        None => json!("redacted"),
    }
}

/// The certificates of a text that holds nothing else.
fn certificates(text: &str) -> Option<Vec<Certificate>> {
    let blocks: Vec<Pem> = Pem::iter_from_buffer(text.as_bytes()).collect::<Result<_, _>>().ok()?;
    if blocks.is_empty() || blocks.iter().any(|block| block.label != "CERTIFICATE") {
        return None;
    }
    blocks.iter().map(|block| block.parse_x509().ok().and_then(|parsed| certificate(&parsed))).collect()
}

fn certificate(parsed: &X509Certificate<'_>) -> Option<Certificate> {
    let validity = parsed.validity();
    Some(Certificate {
        uris: uris_of(parsed).ok()?,
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        serial: parsed.raw_serial_as_string(),
        not_before: moment(time(validity.not_before.timestamp())),
        not_after: moment(time(validity.not_after.timestamp())),
        authority: parsed.is_ca(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_secret_nothing_is_left_that_was_put_into_it() {
        let leaf = rcgen::generate_simple_self_signed(["web.example".to_owned()]).unwrap();
        let (certificate, key) = (leaf.cert.pem(), leaf.signing_key.serialize_pem());
        let both = format!("{certificate}{key}");
        let mut secret = json!({
            "name": "default",
            "tls_certificate": {
                "certificate_chain": {"inline_string": certificate},
                "private_key": {"inline_string": key},
                "password": {"inline_bytes": STANDARD.encode("s3cret")},
            },
            "validation_context": {"trusted_ca": {"inline_bytes": STANDARD.encode(format!("{certificate}{certificate}"))}},
            "others": [{"inlineString": both}, {"inline_string": 7}],
        });
        let found = redact(&mut secret);
        let expected = json!({
            "name": "default",
            "tls_certificate": {
                "certificate_chain": {"inline_string": "1 certificate"},
                "private_key": {"inline_string": "redacted"},
                "password": {"inline_bytes": "redacted"},
            },
            "validation_context": {"trusted_ca": {"inline_bytes": "2 certificates"}},
            "others": [{"inlineString": "redacted"}, {"inline_string": "redacted"}],
        });
        assert_eq!(secret, expected);
        assert_eq!(found.len(), 3);
        assert!(!found[0].serial.is_empty() && found[0].not_after > found[0].not_before, "{found:?}");
    }
}
