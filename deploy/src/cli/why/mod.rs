//! `portolan why`: why a caller may do something, or may not, by a directory of manifests or a cluster as it is now.

mod asked;
mod json;
#[cfg(test)]
mod tests;
mod text;

use std::{
    io::Write,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
use translate::{
    Mesh, Settings,
    why::{Answer, Destination, Port, Question, Request, Sends, Verdict},
};
use watch::Severity;

use self::asked::{Header, Words};
use super::{
    Ending,
    mesh::{MeshArguments, Needed},
    source::{LiveArguments, SourceArguments},
};

/// Say why a caller may do something, or may not: the decision, the policy, the rule and the field that made it.
///
/// The answer is read from what the waypoint would be told: by a directory of manifests, or by a cluster as it
/// is now (--context, --kubeconfig or --current-context instead of DIR). Without METHOD and PATH it is about
/// everything that the port takes; where that has no one answer, it says what to give.
#[derive(Debug, Args)]
#[command(
    override_usage = "portolan why [OPTIONS] --from <CALLER> --to <SERVICE:PORT> [DIR] [METHOD PATH]",
    after_help = "Exit codes: 0 allowed, 1 denied, 2 no answer (wrong arguments or objects, what may not be read, no such service), \
                  3 an extension provider decides (CUSTOM), 4 no waypoint judges it"
)]
pub(super) struct Why {
    /// The directory of manifests if no cluster is named; then the request's method, in capitals, and its path, with its query
    #[arg(value_name = "DIR METHOD PATH", num_args = 0..=3)]
    words: Vec<String>,
    #[command(flatten)]
    live: LiveArguments,
    /// Who asks: a SPIFFE id, or the namespace and the name of a service account of this mesh
    #[arg(long, value_name = "spiffe://…|NAMESPACE/ACCOUNT", value_parser = asked::caller)]
    from: String,
    /// What is asked: name[.namespace[.svc[.cluster.local]]], a host of a ServiceEntry or an address, and the number or the name of a port
    #[arg(long, value_name = "SERVICE:PORT", value_parser = asked::destination)]
    to: (Destination, Port),
    /// A header of the request; may be repeated. Host is the service if it is not given
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = asked::header)]
    headers: Vec<Header>,
    /// What the request's token says, as JSON or in a file, without a signature. A token in a header does as well
    #[arg(long, value_name = "JSON|@FILE")]
    claims: Option<String>,
    /// The address that the caller connects from, for policies that ask
    #[arg(long, value_name = "ADDRESS")]
    from_ip: Option<IpAddr>,
    /// What is sent is no HTTP
    #[arg(long)]
    tcp: bool,
    /// What is sent is no HTTP and TLS, for this server name
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    #[command(flatten)]
    mesh: MeshArguments,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For reading.
    Text,
    /// For programs.
    Json,
}

impl Why {
    /// Prints the answer to `out`; why there is none is told on `err`.
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        let (question, answer) = match self.answer(err) {
            Ok(answered) => answered,
            Err(error) => {
                writeln!(err, "error: {error:#}")?;
                return Ok(Ending::WithoutAnswer);
            }
        };
        match self.output {
            Form::Text => text::print(&question, &answer, out)?,
            Form::Json => {
                writeln!(out, "{}", serde_json::to_string_pretty(&json::view(&question, &answer))?)?;
            }
        }
        Ok(match answer.verdict() {
            Verdict::Allowed => Ending::Well,
            Verdict::Denied => Ending::Denied,
            Verdict::ProviderDecides => Ending::ProviderDecides,
            Verdict::NotJudged => Ending::NotJudged,
        })
    }

    fn answer(&self, err: &mut dyn Write) -> anyhow::Result<(Question, Answer)> {
        let Words { directory, request } = asked::words(&self.words, self.live.is_named())?;
        self.check(request.is_some())?;
        let source = SourceArguments::of(directory, self.live.clone());
        let (settings, changes, complaints) = self.mesh.read(source, Needed::Requests)?;
        let wrong: Vec<_> =
            complaints.iter().filter(|complaint| complaint.severity == Severity::Error).collect();
        for complaint in &wrong {
            writeln!(err, "{complaint}")?;
        }
        // In a cluster one object stops nobody else, and `serve` would go on without these too if it started
        // now. With such manifests it does not start, so any answer would be made up.
        let live = self.live.is_named();
        ensure!(live || wrong.is_empty(), "{} manifests cannot be read; correct them first", wrong.len());
        let question = self.question(request, &settings)?;
        let mut mesh = Mesh::new(settings);
        mesh.commit(changes);
        let answer =
            mesh.inquiry().ask(&question).map_err(|why| anyhow::anyhow!("{why}{}", asked::flag(&why)))?;
        Ok((question, answer))
    }

    /// What says more of a request needs one, and what says that there is none excludes it.
    fn check(&self, request: bool) -> anyhow::Result<()> {
        let of_request = [("--header", !self.headers.is_empty()), ("--claims", self.claims.is_some())];
        let of_bytes = [("--tcp", self.tcp), ("--sni", self.sni.is_some())];
        if let Some((flag, _)) = of_request.into_iter().find(|(_, given)| *given && !request) {
            bail!("{flag} says something of a request; write its METHOD and PATH");
        }
        if let Some((flag, _)) = of_bytes.into_iter().find(|(_, given)| *given && request) {
            bail!("{flag} says that what is sent is no HTTP; leave METHOD and PATH out");
        }
        Ok(())
    }

    fn question(&self, request: Option<(String, String)>, settings: &Settings) -> anyhow::Result<Question> {
        let peer = if self.from.contains("://") {
            self.from.clone()
        } else {
            let (namespace, account) = self.from.split_once('/').unwrap_or((&self.from, ""));
            format!("spiffe://{}/ns/{namespace}/sa/{account}", settings.trust_domain)
        };
        let sends = match (request, self.tcp || self.sni.is_some()) {
            (Some((method, path)), _) => Sends::Request(self.request(method, path)?),
            (None, true) => Sends::Bytes { server_name: self.sni.clone() },
            (None, false) => Sends::Anything,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (to, port) = self.to.clone();
        Ok(Question {
            peer: Some(peer),
            source: self.from_ip,
            to,
            port,
            sends,
            now: i64::try_from(now).unwrap_or(i64::MAX),
        })
    }

    fn request(&self, method: String, path: String) -> anyhow::Result<Request> {
        let (hosts, headers): (Vec<_>, Vec<_>) = self
            .headers
            .iter()
            .cloned()
            .partition(|header| header.name == "host" || header.name == ":authority");
        Ok(Request {
            method,
            host: hosts.into_iter().next_back().map(|header| header.value),
            path,
            headers: headers.into_iter().map(|header| (header.name, header.value.into_bytes())).collect(),
            claims: self.claims.as_deref().map(claims).transpose()?,
        })
    }
}

/// Claims as they stand on the command line, or in a file that it names.
fn claims(text: &str) -> anyhow::Result<Map<String, Value>> {
    let text = match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?,
        None => text.to_owned(),
    };
    let object = serde_json::from_str(&text);
    object.context(
        r#"--claims is no JSON object; write it as in '{"iss": "https://issuer.example", "sub": "alice"}'"#,
    )
}
