//! What a Service port speaks, by its `appProtocol`, else by its name.

/// How a port's connections are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    /// HTTP/1.1, HTTP/2 or gRPC: requests are routed and judged one by one.
    Http,
    /// Bytes: connections are judged when the tunnel is opened.
    Tcp,
    /// Not declared: looked at when the first bytes arrive.
    Sniffed,
}

impl Protocol {
    /// Istio's rule: a known `appProtocol` wins, else the part of the port's name before a dash.
    pub(crate) fn lower(app_protocol: Option<&str>, port_name: Option<&str>) -> Self {
        let declared =
            app_protocol.map(str::to_ascii_lowercase).and_then(|word| Self::of_app_protocol(&word));
        declared.unwrap_or_else(|| {
            let name = port_name.unwrap_or_default().to_ascii_lowercase();
            // grpc-web is a name of its own; everything else ends at the dash.
            Self::of_word(&name).or_else(|| Self::of_word(name.split('-').next()?)).unwrap_or(Self::Sniffed)
        })
    }

    fn of_app_protocol(word: &str) -> Option<Self> {
        match word {
            // The standard names of KEP-3726.
            "kubernetes.io/h2c" | "kubernetes.io/ws" => Some(Self::Http),
            "kubernetes.io/wss" => Some(Self::Tcp),
            other => Self::of_word(other),
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        match word {
            "http" | "http2" | "grpc" | "grpc-web" => Some(Self::Http),
            // Encrypted by the application, or not HTTP at all: nothing to see inside.
            "tcp" | "tls" | "https" | "mongo" | "mysql" | "redis" => Some(Self::Tcp),
            _ => None,
        }
    }

    /// Istio's rule: where nobody says what a port speaks, and its number is that of a protocol whose
    /// server speaks first, nothing waits for the client's first bytes. SMTP, DNS, MySQL, MongoDB.
    #[must_use]
    pub(crate) const fn at_port(self, number: u16) -> Self {
        match (self, number) {
            (Self::Sniffed, 25 | 53 | 3306 | 27017) => Self::Tcp,
            (Self::Http | Self::Tcp | Self::Sniffed, _) => self,
        }
    }

    /// Whether requests on it may be HTTP.
    pub(crate) const fn may_be_http(self) -> bool {
        match self {
            Self::Http | Self::Sniffed => true,
            Self::Tcp => false,
        }
    }

    /// The word that logs and metrics use.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Sniffed => "auto",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_wins_over_the_name() {
        let cases = [
            (Some("http"), Some("tcp-web"), Protocol::Http),
            (Some("kubernetes.io/h2c"), None, Protocol::Http),
            (Some("example.com/own"), Some("grpc-api"), Protocol::Http),
            (None, Some("grpc-web"), Protocol::Http),
            (None, Some("HTTP2-x"), Protocol::Http),
            (None, Some("https"), Protocol::Tcp),
            (None, Some("mysql"), Protocol::Tcp),
            (None, Some("web"), Protocol::Sniffed),
            (None, Some("httpbin"), Protocol::Sniffed),
            (None, None, Protocol::Sniffed),
        ];
        for (app_protocol, name, expected) in cases {
            assert_eq!(Protocol::lower(app_protocol, name), expected, "{app_protocol:?} {name:?}");
        }
    }
}
