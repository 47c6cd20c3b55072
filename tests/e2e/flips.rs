//! A thousand changes under load: not one request fails, and no connection is asked to leave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tests::{
    Caller,
    exchange::{Request, Response, Version},
    lab, until,
};

use crate::shop::{PATIENCE, settled, shop, waypoint};

/// How many changes there are: of the backend, of what is matched, of the weight and of a filter, in turn.
const FLIPS: usize = 1000;

/// How many callers ask all the while, each on a connection of HTTP/1.1 and one of HTTP/2.
const CALLERS: usize = 4;

/// What a caller waits between two requests, so that the changes and not the load are what the machine does.
const PAUSE: Duration = Duration::from_millis(8);

/// What is flipped between 1 and 2: the version behind `/backend`, the one that the match of `/match` leads
/// to, the one with all the weight of `/weight`, and the header that the filter of `/filter` sets.
#[derive(Clone, Copy)]
struct State([u8; 4]);

const PATHS: [&str; 4] = ["/backend", "/match", "/weight", "/filter"];

impl State {
    /// The route of `reviews`. Whatever it says, every path leads somewhere.
    fn manifest(self) -> String {
        let State([backend, matched, weight, filter]) = self;
        let other = 3 - matched;
        let (one, two) = if weight == 1 { (1, 0) } else { (0, 1) };
        format!(
            r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: reviews, namespace: shop}}
spec:
  parentRefs: [{{group: "", kind: Service, name: reviews}}]
  rules:
  - matches: [{{path: {{value: /backend}}}}]
    backendRefs: [{{name: reviews-v{backend}, port: 80}}]
  - matches: [{{path: {{value: /match}}, headers: [{{name: flip, value: "{matched}"}}]}}]
    backendRefs: [{{name: reviews-v1, port: 80}}]
  - matches: [{{path: {{value: /match}}, headers: [{{name: flip, value: "{other}"}}]}}]
    backendRefs: [{{name: reviews-v2, port: 80}}]
  - matches: [{{path: {{value: /weight}}}}]
    backendRefs: [{{name: reviews-v1, port: 80, weight: {one}}}, {{name: reviews-v2, port: 80, weight: {two}}}]
  - matches: [{{path: {{value: /filter}}}}]
    filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: flip, value: "{filter}"}}]}}}}]
    backendRefs: [{{name: reviews-v1, port: 80}}]
"#
        )
    }
}

/// Which of the two it was that answered.
fn answered(path: &str, response: &Response) -> Result<u8> {
    ensure!(response.status == 200, "{path}: {} {}", response.status, response.text());
    if path == "/filter" {
        let flip = response.headers.get("flip").context("the filter was not applied")?;
        return Ok(flip.to_str()?.parse()?);
    }
    let report = response.json()?;
    let version = report["name"].as_str().and_then(|name| name.strip_prefix("reviews-v"));
    Ok(version.context("not from reviews")?.parse()?)
}

/// What is asked at a path: the header says which of the two matches is asked for.
fn request(path: &str) -> Result<Request> {
    Request::get(path).header("flip", "1")
}

/// Asks on two connections that stay open until `stop`, and counts. Any other answer than 200 is an error.
async fn load(caller: &Caller, stop: &AtomicBool, count: &AtomicUsize) -> Result<()> {
    let mut sessions = [
        caller.session("reviews.shop:80", Version::Http1).await?,
        caller.session("reviews.shop:80", Version::Http2).await?,
    ];
    while !stop.load(Ordering::Relaxed) {
        for session in &mut sessions {
            for path in PATHS {
                answered(path, &session.send(request(path)?).await?)?;
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}

/// Waits for the route, by what the one before it does not do.
async fn flips_are_there(caller: &Caller) -> Result<()> {
    until("the route to be there", PATIENCE, async || {
        let response = caller.get("reviews.shop/filter").send().await?;
        Ok(response.headers.contains_key("flip").then_some(()))
    })
    .await
}

#[test]
fn a_thousand_flips_under_load_fail_no_request_and_drain_nothing() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let mut state = State([1, 1, 1, 1]);
        lab.write("reviews-route.yaml", &state.manifest())?;
        let prober = lab.client("default", "wget")?;
        flips_are_there(&prober).await?;
        settled(waypoint(lab)?).await?;
        let drains = waypoint(lab)?.drains().await?;

        let callers = (0..CALLERS).map(|number| lab.client("default", &format!("caller-{number}")));
        let callers = callers.collect::<Result<Vec<_>>>()?;
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let loads = callers.into_iter().map(|caller| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            async move { tokio::spawn(async move { load(&caller, &stop, &count).await }).await? }
        });
        let flips = async {
            // Stopped however this ends, or the load would go on for ever.
            let _stop = StopWhenDropped(Arc::clone(&stop));
            let mut probe = prober.session("reviews.shop:80", Version::Http2).await?;
            for flip in 0..FLIPS {
                let which = flip % PATHS.len();
                state.0[which] = 3 - state.0[which];
                lab.write("reviews-route.yaml", &state.manifest())?;
                // The flip is in force before the next one, so none of them is skipped.
                until(&format!("flip {flip} of {}", PATHS[which]), PATIENCE, async || {
                    let response = probe.send(request(PATHS[which])?).await?;
                    Ok((answered(PATHS[which], &response)? == state.0[which]).then_some(()))
                })
                .await?;
            }
            Ok(())
        };
        tokio::try_join!(try_join_all(loads), flips)?;
        let count = count.load(Ordering::Relaxed);
        eprintln!("{FLIPS} flips, and {count} requests beside them");
        ensure!(count > FLIPS, "only {count} requests were sent beside {FLIPS} flips");
        assert_eq!(waypoint(lab)?.drains().await?, drains);
        Ok(())
    })
}

struct StopWhenDropped(Arc<AtomicBool>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_service_that_is_deleted_while_routed_answers_500_for_its_share_and_disturbs_nobody() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let curl = lab.client("default", "curl")?;
        lab.write("reviews-route.yaml", &State([2, 2, 1, 1]).manifest())?;
        flips_are_there(&curl).await?;
        settled(waypoint(lab)?).await?;
        let drains = waypoint(lab)?.drains().await?;
        let mut session = curl.session("reviews.shop:80", Version::Http1).await?;
        let mut other = curl.session("web.shop:80", Version::Http1).await?;

        let service = "metadata: {name: reviews-v2, namespace: shop}\nspec: {clusterIP: 127.10.0.114";
        let gone = service.replace("name: reviews-v2", "name: reviews-v3");
        lab.edit("manifests.yaml", service, &gone)?;
        until("the share of the deleted service to be 500", PATIENCE, async || {
            let status = session.send(Request::get("/backend")).await?.status;
            ensure!(status == 200 || status == 500, "status {status} and not 500");
            Ok((status == 500).then_some(()))
        })
        .await?;
        // The same connection, the other backends; and another service.
        assert_eq!(session.send(Request::get("/weight")).await?.status, 200);
        assert_eq!(other.send(Request::get("/")).await?.status, 200);
        assert_eq!(waypoint(lab)?.drains().await?, drains);

        // It comes back as it went.
        lab.edit("manifests.yaml", &gone, service)?;
        until("the service to be back", PATIENCE, async || {
            Ok((session.send(Request::get("/backend")).await?.status == 200).then_some(()))
        })
        .await
    })
}
