//! What random policies and requests are made of: few values, close to each other, so that they meet.

use super::field::Kind;

/// Keys of conditions.
pub(crate) const KEYS: &[(&str, Kind)] = &[
    ("source.ip", Kind::SourceIp),
    ("source.namespace", Kind::Namespace),
    ("source.principal", Kind::Principal),
    ("source.serviceAccount", Kind::ServiceAccount),
    ("source.trustDomain", Kind::TrustDomain),
    ("remote.ip", Kind::RemoteIp),
    ("destination.ip", Kind::DestinationIp),
    ("destination.port", Kind::Port),
    ("connection.sni", Kind::Sni),
    ("request.headers[x-a]", Kind::Header),
    ("request.headers[X-A]", Kind::Header),
    ("request.headers[x-b]", Kind::Header),
    ("request.headers[x-b]", Kind::Header),
    ("request.headers[:authority]", Kind::Host),
    ("request.headers[Host]", Kind::Host),
    ("request.headers[:method]", Kind::Method),
    ("request.headers[:path]", Kind::Path),
    ("request.auth.principal", Kind::RequestPrincipal),
    ("request.auth.audiences", Kind::Claim),
    ("request.auth.presenter", Kind::Claim),
    ("request.auth.claims[groups]", Kind::Claim),
    ("request.auth.claims[a][b]", Kind::Claim),
    ("request.auth.claims[scope]", Kind::Claim),
    ("request.auth.claims[https://x.io/roles]", Kind::Claim),
    ("experimental.envoy.filters.http.lua[k]", Kind::Experimental),
    ("experimental.envoy.filters.http.lua[k]", Kind::Experimental),
    ("experimental.envoy.filters.network.other[k]", Kind::Experimental),
];

/// Keys that are none.
pub(crate) const BAD_KEYS: &[&str] = &[
    "bogus.attr",
    "",
    "request.headers",
    "request.headers[]",
    "request.headers[x y]",
    "request.headersX[a]",
    "request.auth.claims[]",
    "request.auth.claims[a][]",
    "destination.labels[app]",
    "Source.ip",
];

/// Values of a field.
pub(crate) fn values(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Principal => &[
            "spiffe://cluster.local/ns/foo/sa/a",
            "spiffe://*",
            "*",
            "**",
            "*a*",
            "*/sa/a",
            "*/ns/foo/sa/a",
            "cluster.local/ns/foo/sa/a",
            "cluster.local/ns/foo/sa/a*",
            "cluster.local/ns/foo/*",
            "cluster.local/ns/app/sa/web",
            "td2/ns/foo/sa/a",
            "*.corp/ns/foo/sa/a",
            "*d2/ns/foo/sa/a",
            "cluster.*/ns/foo/sa/a",
            "a.corp/ns/foo/sa/b",
        ],
        Kind::Namespace => &["*", "foo", "foo*", "*oo", "f*o", "fo.o", "app", "FOO", "f**"],
        Kind::ServiceAccount => &["foo/a", "a", "web", "app/web", "fo.o/a", "foo/b"],
        Kind::TrustDomain => {
            &["*", "a.corp", "cluster.local", "cluster*", "*local", "td2", "td*", "*.corp", "t*2"]
        }
        Kind::SourceIp | Kind::RemoteIp => {
            &["10.1.0.0/16", "10.1.2.3", "10.1.2.2/31", "10.1.2.3/8", "0.0.0.0/0", "2001:db8::/32", "::/0"]
        }
        Kind::DestinationIp => &["10.0.0.1", "10.0.0.0/30", "10.0.0.2", "::/0", "0.0.0.0/0"],
        Kind::Host => &[
            "*",
            "web",
            "example.com",
            "example.com:*",
            "*.example.com",
            "Example.COM",
            "*:80",
            "b\u{fc}cher.example.com",
        ],
        Kind::Method => &["*", "GET", "POST", "get", "P*", "*T", "DELETE"],
        Kind::Path => &[
            "*",
            "/",
            "/a",
            "/A",
            "/a*",
            "*/b",
            "/a/b",
            "*a*",
            "/a.b",
            "/a/{*}",
            "/a/{**}",
            "/s/{**}/b",
            "/{*}/b",
            "/a/{*}/",
            "{**}",
            "/{*}/b/{**}",
            "//{*}",
            "/{*}//",
            "/\u{fc}*",
        ],
        Kind::Port => &["80", "9000", "7000", "080", "0", "65535"],
        Kind::Header => &["*", "1", "a*", "*z", "a,1", "A", "**", "\u{fc}*"],
        Kind::RequestPrincipal => &[
            "*",
            "https://iss/alice",
            "https://iss/*",
            "https://iss/al*",
            "*/alice",
            "*iss/alice",
            "*ice",
            "https*",
            "plain/x/y",
            "plain",
            "*/*",
        ],
        Kind::Claim => &["*", "v", "v*", "*v", "5", "read", "read write", "w"],
        Kind::Sni => &["*", "a.example.com", "*.example.com", "a*"],
        Kind::Experimental => &["*", "v", "[v]"],
    }
}

/// Values that no field of the kind takes.
pub(crate) fn bad_values(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::ServiceAccount => &["a/b/c", "/x", "x/", "a*", ""],
        Kind::TrustDomain => &["t**", "*d*", ""],
        Kind::SourceIp | Kind::RemoteIp | Kind::DestinationIp => {
            &["10.0.0.0/33", "a.b.c.d", "010.0.0.1", "10.0.0.0/08", "10.0.0.0/+8", "fe80::1%eth0", ""]
        }
        Kind::Path => &["/a/{x}", "/{**}/{*}", "/{*}.txt", "/a{", "}", "/a//{*}", "/{*}/a/*"],
        Kind::Port => &["http", "tcp", "none", "65536", "-1", "+80", " 80", ""],
        Kind::Principal
        | Kind::Namespace
        | Kind::Host
        | Kind::Method
        | Kind::Header
        | Kind::RequestPrincipal
        | Kind::Claim
        | Kind::Sni
        | Kind::Experimental => &[""],
    }
}

pub(crate) const PEERS: &[&str] = &[
    "spiffe://cluster.local/ns/foo/sa/a",
    "spiffe://cluster.local/ns/foo/sa/b",
    "spiffe://cluster.local/ns/foo/sa/ab",
    "spiffe://cluster.local/ns/foo-bar/sa/a",
    "spiffe://cluster.local/ns/fxo/sa/a",
    "spiffe://cluster.local/ns/fo.o/sa/a",
    "spiffe://cluster.local/ns/xfoo/sa/a",
    "spiffe://cluster.local/ns/app/sa/web",
    "spiffe://cluster.local/ns/foo/sa/A",
    "spiffe://cluster.local/ns/foo/x/y/sa/a",
    "spiffe://cluster.local/ns/foo/sa/a/z",
    "spiffe://td2/ns/foo/sa/a",
    "spiffe://a.corp/ns/foo/sa/a",
    "spiffe://td/x2/ns/foo/sa/a",
    "spiffe://cluster.local/vm/foo",
];

pub(crate) const SOURCES: &[&str] =
    &["10.1.2.3", "10.1.2.2", "10.1.2.4", "10.2.0.1", "11.0.0.1", "2001:db8::5"];
pub(crate) const HOSTS: &[&str] = &[
    "web",
    "example.com",
    "EXAMPLE.com",
    "example.com:80",
    "www.example.com",
    "xexample.com",
    "b\u{fc}cher.example.com",
    "",
];
pub(crate) const METHODS: &[&str] = &["GET", "POST", "post", "PUT", "HEAD", "DELETE", "Get"];
pub(crate) const PATHS: &[&str] = &[
    "/", "/a", "/A", "/ab", "/a/", "/a/b", "/a/x", "/a/x/", "/a/x/y", "/a//b", "/s/b", "/s//b", "/s/x/b",
    "/a.b", "/axb", "/a?q=/b", "/x?/a", "/a*", "/a[b", "/a/a|b", "/\u{fc}", "/a;x=1", "/xa*",
];
/// What tokens say, as JSON.
pub(crate) const CLAIMS: &[(&str, &[&str])] = &[
    ("iss", &["\"https://iss\"", "\"https://iss2\"", "\"plain\""]),
    ("sub", &["\"alice\"", "\"malice\"", "\"bob\"", "\"x/y\"", "\"*\"", "\"\""]),
    ("aud", &["\"v\"", "[\"w\",\"v\"]", "[]", "5"]),
    ("azp", &["\"v\"", "\"vv\"", "\"\""]),
    (
        "groups",
        &["\"v\"", "\"\"", "[]", "[\"\"]", "[\"w\",\"xv\"]", "5", "\"5\"", "{\"v\":\"v\"}", "[5,\"v\"]"],
    ),
    ("a", &["{\"b\":\"v\"}", "{\"b\":[\"u\",\"v\"]}", "[{\"b\":\"v\"}]", "\"v\"", "{\"b\":{}}"]),
    ("a.b", &["\"v\""]),
    ("scope", &["[\"read\",\"write\"]", "[\"readx\"]", "[]"]),
    ("https://x.io/roles", &["[\"v\",\"read write\"]", "\"w\""]),
];

/// Aliases of the trust domain.
pub(crate) const ALIASES: &[&[&str]] = &[&[], &[], &["td2"], &["td2", "a.corp"]];

/// Bytes, as header values may be anything above the controls.
pub(crate) const LINES: &[&[u8]] =
    &[b"", b"1", b"11", b"a", b"A", b"az", b"z", b"a,1", b"*", b"\xc3\xbc1", b"\xff", b"a\xff"];
pub(crate) const NAMES: &[&str] = &["a.example.com", "b.example.com", "example.com", "a"];
