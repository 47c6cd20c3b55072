//! The scenarios of Istio's waypoint guides: who asks what of the example mesh, and what has to come back.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;

use crate::{
    Caller, Lab,
    exchange::{Request, Response, Version},
    lab::Setup,
    until,
};

/// The manifests, in the repository.
pub const MANIFESTS: &str = "deploy/examples/bookinfo";

/// What Envoy says to a request that a policy denies.
const DENIED: &str = "RBAC: access denied";

/// How many requests show the weights of a route.
const REQUESTS: usize = 1000;

/// What a scenario expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// 200, from a backend whose name begins so.
    From(&'static str),
    /// 403, with the body that says so.
    Denied,
    /// [`REQUESTS`] times 200, about nine tenths from the first backend and the rest from the second.
    NineToOne(&'static str, &'static str),
}

/// A request and what has to come back.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    caller: (&'static str, &'static str),
    method: &'static str,
    url: &'static str,
    expected: Expected,
}

const fn scenario(
    caller: (&'static str, &'static str),
    method: &'static str,
    url: &'static str,
    expected: Expected,
) -> Scenario {
    Scenario { caller, method, url, expected }
}

const WEB: &str = "http://web.webapp/";
const ACCOUNTS: &str = "http://accounts.accounts/";
const DASHBOARD: &str = "http://dashboard.default:8000/";
const REVIEWS: &str = "http://reviews.bookinfo:9080/";
const PRODUCTPAGE: &str = "http://productpage.bookinfo:9080/";

const SCENARIOS: &[Scenario] = &[
    scenario(("webapp", "curl"), "GET", WEB, Expected::From("web-")),
    scenario(("webapp", "curl"), "POST", WEB, Expected::Denied),
    scenario(("webapp", "wget"), "GET", WEB, Expected::Denied),
    scenario(("finance", "ledger"), "GET", ACCOUNTS, Expected::From("accounts-")),
    scenario(("finance", "ledger"), "POST", ACCOUNTS, Expected::Denied),
    scenario(("webapp", "curl"), "GET", ACCOUNTS, Expected::Denied),
    scenario(("default", "curl"), "GET", DASHBOARD, Expected::From("dashboard-")),
    scenario(("istio-system", "kiali"), "GET", DASHBOARD, Expected::From("dashboard-")),
    scenario(("default", "curl"), "POST", DASHBOARD, Expected::Denied),
    scenario(("webapp", "curl"), "GET", DASHBOARD, Expected::Denied),
    scenario(("default", "curl"), "GET", REVIEWS, Expected::NineToOne("reviews-v1", "reviews-v2")),
    scenario(("default", "curl"), "GET", PRODUCTPAGE, Expected::From("productpage-")),
    scenario(("default", "curl"), "POST", PRODUCTPAGE, Expected::Denied),
    scenario(("default", "wget"), "GET", PRODUCTPAGE, Expected::Denied),
];

/// The requests as a script would have them, one in a line: who asks, what for, and who answers, or the status.
/// Of the many, who answers most and who the rest.
pub fn requests() -> Vec<String> {
    let line = |scenario: &Scenario| {
        let Scenario { caller: (namespace, account), method, url, expected } = scenario;
        match expected {
            Expected::From(backend) => {
                format!("expect {namespace} {account} {method} {url} {}", backend.trim_end_matches('-'))
            }
            Expected::Denied => format!("expect {namespace} {account} {method} {url} 403"),
            Expected::NineToOne(most, rest) => format!("spread {namespace} {account} {url} {most} {rest}"),
        }
    };
    SCENARIOS.iter().map(line).collect()
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who asked, as `namespace/account`.
    pub caller: String,
    /// What was asked for.
    pub request: String,
    /// What had to come back.
    pub expected: String,
    /// What came back.
    pub got: String,
    /// Whether that is the same.
    pub ok: bool,
}

/// What a change on disk cost.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    /// From the file's change to Envoy's acknowledgement, as the control plane's log shows it.
    pub acknowledged: Duration,
    /// From the file's change to the first request that was judged by it.
    pub in_force: Duration,
}

/// The lab of the example.
pub fn setup() -> Setup {
    Setup::example(MANIFESTS)
}

/// Plays every scenario.
pub async fn play(lab: &Lab) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for scenario in SCENARIOS {
        let Scenario { caller: (namespace, account), method, url, expected } = *scenario;
        let caller = lab.client(namespace, account)?;
        let (got, ok) = match expected {
            Expected::From(_) | Expected::Denied => once(&caller, method, url, expected).await,
            Expected::NineToOne(first, second) => many(&caller, url, first, second).await,
        };
        let (count, expected) = match expected {
            Expected::NineToOne(..) => (format!("{REQUESTS} x "), expected.to_string()),
            Expected::From(_) | Expected::Denied => (String::new(), expected.to_string()),
        };
        rows.push(Row {
            caller: format!("{namespace}/{account}"),
            request: format!("{count}{method} {url}"),
            expected,
            got,
            ok,
        });
    }
    Ok(rows)
}

/// Lets `webapp/curl` POST by editing the policy on disk, measures how long it takes to be so, and takes it back.
pub async fn allow_post(lab: &Lab) -> Result<(Row, Changed)> {
    const FILE: &str = "webapp.yaml";
    const GET: &str = r#"methods: ["GET"]"#;
    const GET_AND_POST: &str = r#"methods: ["GET", "POST"]"#;
    const PATIENCE: Duration = Duration::from_secs(30);
    let caller = lab.client("webapp", "curl")?;
    // A connection that is open before the change and stays open through it.
    let mut session = caller.session("web.webapp:80", Version::Http1).await?;
    let logged = lab.portolan.events()?.len();
    let start = Instant::now();
    lab.edit(FILE, GET, GET_AND_POST)?;
    let (mut acknowledged, mut in_force) = (None, None);
    while acknowledged.is_none() || in_force.is_none() {
        ensure!(start.elapsed() < PATIENCE, "the change did not arrive within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(1)).await;
        if acknowledged.is_none() {
            let events = lab.portolan.events()?;
            let found = events.iter().skip(logged).any(|event| event["message"] == "acknowledged");
            acknowledged = found.then(|| start.elapsed());
        }
        if in_force.is_none() {
            let status = session.send(Request::post("/")).await?.status;
            in_force = (status == 200).then(|| start.elapsed());
        }
    }
    let (got, ok) = once(&caller, "POST", WEB, Expected::From("web-")).await;
    lab.edit(FILE, GET_AND_POST, GET)?;
    until("the edit to be taken back", PATIENCE, async || {
        Ok((caller.post(WEB).status().await? == 403).then_some(()))
    })
    .await?;
    let row = Row {
        caller: "webapp/curl".to_owned(),
        request: format!("POST {WEB} after an edit"),
        expected: Expected::From("web-").to_string(),
        got,
        ok,
    };
    let changed = Changed {
        acknowledged: acknowledged.context("no acknowledgement")?,
        in_force: in_force.context("no effect")?,
    };
    Ok((row, changed))
}

async fn once(caller: &Caller, method: &str, url: &str, expected: Expected) -> (String, bool) {
    let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
    match caller.call(method, url).send().await {
        Ok(response) => {
            let got = backend(&response).map_or_else(
                || format!("{} {}", response.status, response.text()),
                |name| format!("{} from {name}", response.status),
            );
            let ok = match expected {
                Expected::From(prefix) | Expected::NineToOne(prefix, _) => {
                    response.status == 200 && backend(&response).is_some_and(|name| name.starts_with(prefix))
                }
                Expected::Denied => response.status == 403 && response.text() == DENIED,
            };
            (got, ok)
        }
        Err(error) => (format!("{error:#}"), false),
    }
}

async fn many(caller: &Caller, url: &str, first: &str, second: &str) -> (String, bool) {
    let calls = (0..REQUESTS).map(async |_| {
        let response = caller.get(url).send().await?;
        ensure!(response.status == 200, "{} {}", response.status, response.text());
        Ok(backend(&response).unwrap_or_default())
    });
    let names = match stream::iter(calls).buffer_unordered(8).try_collect::<Vec<_>>().await {
        Ok(names) => names,
        Err(error) => return (format!("{error:#}"), false),
    };
    let count = |prefix| names.iter().filter(|name| name.starts_with(prefix)).count();
    let (ones, twos) = (count(first), count(second));
    // Envoy draws lots: five standard deviations are 47, so a right split fails once in a million runs.
    let ok = ones + twos == REQUESTS && ones.abs_diff(REQUESTS * 9 / 10) <= 47;
    (format!("{ones} from {first}, {twos} from {second}"), ok)
}

/// The backend that a response came from.
fn backend(response: &Response) -> Option<String> {
    Some(response.json().ok()?["name"].as_str()?.to_owned())
}

impl fmt::Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(prefix) => write!(out, "200 from {}", prefix.trim_end_matches('-')),
            Self::Denied => write!(out, "403 {DENIED}"),
            Self::NineToOne(first, second) => write!(out, "about 900 from {first}, 100 from {second}"),
        }
    }
}

/// The rows as a table with a heading, every line ended.
pub fn table(rows: &[Row]) -> String {
    let heading = ["caller", "request", "expected", "got", "ok"].map(str::to_owned);
    let cells = |row: &Row| {
        let Row { caller, request, expected, got, ok } = row.clone();
        [caller, request, expected, got, if ok { "yes" } else { "NO" }.to_owned()]
    };
    let lines = [heading].into_iter().chain(rows.iter().map(cells)).collect::<Vec<_>>();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let padded =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
        if index == 0 {
            text.push_str(&widths.map(|width| "-".repeat(width)).join("  "));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_says_which_row_is_wrong() {
        let row = |caller: &str, ok| Row {
            caller: caller.to_owned(),
            request: "GET /".to_owned(),
            expected: "200".to_owned(),
            got: "403".to_owned(),
            ok,
        };
        let expected = "\
caller  request  expected  got  ok
------  -------  --------  ---  ---
a/b     GET /    200       403  yes
a/long  GET /    200       403  NO
";
        assert_eq!(table(&[row("a/b", true), row("a/long", false)]), expected);
    }
}
