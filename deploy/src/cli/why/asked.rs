//! The parts of a question as they stand on the command line.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Error, bail};
use translate::why::{Destination, Fact, Port, Unanswered};

/// A header of a request, its name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) value: String,
}

/// The arguments without a flag.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// Where the manifests are, unless a cluster was named.
    pub(super) directory: Option<PathBuf>,
    /// The method and the path of the request, if it is about one.
    pub(super) request: Option<(String, String)>,
}

/// Tells the directory from the request.
pub(super) fn words(words: &[String], cluster: bool) -> anyhow::Result<Words> {
    let (directory, request) = match (cluster, words) {
        (false, [directory, request @ ..]) => (Some(directory.into()), request),
        (true, request) => (None, request),
        (false, []) => bail!(
            "say where the objects are: DIR, a directory of manifests, or --context NAME, --kubeconfig FILE or \
             --current-context for a cluster"
        ),
    };
    let request = match request {
        [] => None,
        [one, path] => Some((method(one).map_err(Error::msg)?, self::path(path).map_err(Error::msg)?)),
        [one] if cluster => bail!("a cluster is named, and {one:?} is no METHOD and PATH; leave it out"),
        [_] => bail!("a method without a path; write METHOD PATH, as in GET /reviews/1"),
        [..] => bail!("a cluster is named, and a directory too; leave one of them out"),
    };
    Ok(Words { directory, request })
}

/// `spiffe://…` or `NAMESPACE/ACCOUNT`.
pub(super) fn caller(text: &str) -> Result<String, String> {
    let named = text
        .strip_prefix("spiffe://")
        .map(|id| id.split_once('/').is_some_and(|(domain, path)| !domain.is_empty() && !path.is_empty()));
    let account = || {
        let mut parts = text.split('/');
        let two =
            [parts.next(), parts.next()].into_iter().flatten().filter(|part| !part.is_empty()).count() == 2;
        two && parts.next().is_none() && !text.contains(':')
    };
    if named.unwrap_or_else(account) {
        return Ok(text.to_owned());
    }
    Err("write a SPIFFE id, as in spiffe://cluster.local/ns/default/sa/web, or NAMESPACE/ACCOUNT".to_owned())
}

/// `SERVICE:PORT`, where the service is a name or an address, IPv6 in brackets.
pub(super) fn destination(text: &str) -> Result<(Destination, Port), String> {
    let how = "write SERVICE:PORT, as in reviews.bookinfo:9080, reviews.bookinfo:http, 10.96.0.10:80 or [fd00::1]:80";
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((Destination::Address(address.ip()), Port::Number(address.port())));
    }
    let (service, port) = text.rsplit_once(':').ok_or(how)?;
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'*');
    if service.is_empty() || !service.bytes().all(name) {
        return Err(how.to_owned());
    }
    if port.is_empty() {
        return Err(how.to_owned());
    }
    let port = match port.parse::<u16>() {
        Ok(0) => return Err("no port has the number 0".to_owned()),
        Ok(number) => Port::Number(number),
        Err(_) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            return Err(format!(
                "{port:?} is no port: a number from 1 to 65535, or the name that the service has for it"
            ));
        }
        Err(_) => Port::Named(port.into()),
    };
    let to = service
        .parse::<IpAddr>()
        .map_or_else(|_| Destination::Host(service.to_owned()), Destination::Address);
    Ok((to, port))
}

/// `NAME: VALUE`, as curl has it.
pub(super) fn header(text: &str) -> Result<Header, String> {
    let how = "write NAME: VALUE, as in 'x-role: admin'";
    // Pseudo headers begin with a colon.
    let colon = text.get(1..).and_then(|rest| rest.find(':')).ok_or(how)? + 1;
    let (name, value) = (text[..colon].trim(), text[colon + 1..].trim());
    let plain = name.strip_prefix(':').unwrap_or(name);
    if plain.is_empty() || !plain.bytes().all(is_token) || value.chars().any(char::is_control) {
        return Err(how.to_owned());
    }
    if name.starts_with(':') && name != ":authority" {
        return Err(format!("{name} is part of the request already; write METHOD and PATH"));
    }
    Ok(Header { name: name.to_ascii_lowercase(), value: value.to_owned() })
}

/// A method. Case matters.
fn method(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err("write a method, as in GET, and then the path: GET /reviews/1".to_owned());
    }
    Ok(text.to_owned())
}

/// A path with its query.
fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') || text.chars().any(|letter| letter.is_control() || letter == ' ') {
        return Err(
            "write a path that starts with a slash and holds no spaces, as in /reviews/1?lang=en".to_owned()
        );
    }
    Ok(text.to_owned())
}

/// A byte of a token (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The arguments that would have given an answer.
pub(super) fn flag(why: &Unanswered) -> &'static str {
    match why {
        Unanswered::Depends(doubts) => match doubts.first().and_then(|(_, field)| field.needs) {
            Some(Fact::Source) => " (--from-ip ADDRESS)",
            Some(Fact::Address) => " (--to ADDRESS:PORT)",
            Some(Fact::Request) => " (METHOD PATH)",
            Some(Fact::ServerName) => " (--sni NAME, or --tcp)",
            Some(Fact::Metadata) | None => "",
        },
        Unanswered::SayWhat(_) => " (METHOD PATH, or --tcp)",
        Unanswered::SpeaksHttp(_) => " (METHOD PATH)",
        Unanswered::NoSuchService { .. }
        | Unanswered::NotExported { .. }
        | Unanswered::NothingAt(_)
        | Unanswered::NoSuchPort { .. }
        | Unanswered::Unknown(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_told_from_a_request() {
        let asked = |list: &[&str], cluster| {
            words(&list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), cluster)
        };
        let request = || Some(("GET".to_owned(), "/".to_owned()));
        let is =
            |directory: Option<&str>, request| Words { directory: directory.map(PathBuf::from), request };
        assert_eq!(asked(&["d"], false).unwrap(), is(Some("d"), None));
        assert_eq!(asked(&["d", "GET", "/"], false).unwrap(), is(Some("d"), request()));
        assert_eq!(asked(&[], true).unwrap(), is(None, None));
        assert_eq!(asked(&["GET", "/"], true).unwrap(), is(None, request()));
        for (wrong, cluster) in [
            (&[][..], false),
            (&["d", "GET"], false),
            (&["d", "GET", "path"], false),
            (&["d", "G T", "/"], false),
            (&["d"], true),
            (&["d", "GET", "/"], true),
        ] {
            assert!(asked(wrong, cluster).is_err(), "{wrong:?} {cluster}");
        }
    }

    #[test]
    fn what_is_dialled_is_a_name_or_an_address_and_a_port() {
        let host = |host: &str, port| Ok((Destination::Host(host.to_owned()), port));
        assert_eq!(destination("reviews:9080"), host("reviews", Port::Number(9080)));
        assert_eq!(
            destination("reviews.bookinfo.svc:http"),
            host("reviews.bookinfo.svc", Port::Named("http".into()))
        );
        let six = Destination::Address("fd00::1".parse().unwrap());
        assert_eq!(destination("[fd00::1]:80"), Ok((six, Port::Number(80))));
        let four = Destination::Address("10.0.0.1".parse().unwrap());
        assert_eq!(destination("10.0.0.1:http"), Ok((four, Port::Named("http".into()))));
        for wrong in [
            "",
            "reviews",
            "reviews:",
            ":80",
            "reviews:0",
            "reviews:65536",
            "http://reviews:80",
            "fd00::1:80",
        ] {
            assert!(destination(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_is_split_at_its_colon() {
        let parsed = |name: &str, value: &str| Ok(Header { name: name.to_owned(), value: value.to_owned() });
        assert_eq!(header("X-Role: admin:x"), parsed("x-role", "admin:x"));
        assert_eq!(header("x-empty:"), parsed("x-empty", ""));
        assert_eq!(header(":authority: web"), parsed(":authority", "web"));
        for wrong in ["", "x", ": y", "x y: z", ":method: GET"] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_caller_is_an_identity_or_an_account() {
        for right in ["spiffe://td/ns/a/sa/b", "spiffe://td/vm", "a/b"] {
            assert_eq!(caller(right).as_deref(), Ok(right));
        }
        for wrong in ["", "a", "a/", "/b", "a/b/c", "spiffe://", "spiffe://td/", "https://td/a"] {
            assert!(caller(wrong).is_err(), "{wrong}");
        }
    }
}
