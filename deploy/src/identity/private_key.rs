//! Private keys as others write them: PKCS#8, PKCS#1 and SEC 1, of which our library takes the first.

use rcgen::KeyPair;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

/// `AlgorithmIdentifier`s in DER: RSA (RFC 8017), and elliptic curves by what they are called (RFC 5480).
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
const CURVES: [&[u8]; 2] = [
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
    b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22",
];

/// The key in `pem`; else what is wrong with it.
pub(super) fn read(pem: &[u8]) -> Result<KeyPair, String> {
    let key = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| format!("holds no private key that can be read without a password: {error}"))?;
    let candidates = match &key {
        PrivateKeyDer::Pkcs8(key) => vec![key.secret_pkcs8_der().to_vec()],
        PrivateKeyDer::Pkcs1(key) => vec![wrapped(RSA, key.secret_pkcs1_der())],
        // The curve stands in it, if anywhere, and only the right one fits.
        PrivateKeyDer::Sec1(key) => CURVES.map(|curve| wrapped(curve, key.secret_sec1_der())).to_vec(),
        _ => Vec::new(),
    };
    let mut keys = candidates.into_iter().map(|der| KeyPair::try_from(&PrivatePkcs8KeyDer::from(der)));
    keys.find_map(Result::ok).ok_or_else(|| {
        "holds a private key of a kind that cannot be used; take RSA of 2048 to 4096 bits, or a key on the curve P-256 or P-384 with its public half".to_owned()
    })
}

/// `PrivateKeyInfo` (RFC 5208): version 0, the algorithm, the key.
fn wrapped(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let content = [b"\x02\x01\x00", algorithm, &element(0x04, key)].concat();
    element(0x30, &content)
}

/// A DER element: its tag, its length and what is in it.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let bytes = content.len().to_be_bytes();
    let significant: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut element = vec![tag];
    match (significant.as_slice(), u8::try_from(significant.len())) {
        ([], _) => element.push(0),
        ([short], _) if *short < 0x80 => element.push(*short),
        (long, Ok(count)) => {
            element.push(0x80 | count);
            element.extend(long);
        }
        // A length has eight bytes.
        (_, Err(_)) => {}
    }
    element.extend(content);
    element
}
