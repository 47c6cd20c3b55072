//! `cargo demo`: the example mesh on this machine, asked by real callers, the results as a table.

#![allow(clippy::print_stdout, reason = "the table is what the demo is for")]

use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use http::Method;
use serde::{Deserialize, Serialize};
use tests::{
    Authority, Caller, Lab, caller,
    catalog::Catalog,
    demo,
    lab::{STRANGER, Setup},
};

/// Portolan, four waypoint Envoys and a few backends on this machine, asked by real callers.
#[derive(Debug, Parser)]
#[command(name = "cargo demo --")]
struct Arguments {
    /// Leave everything running until Ctrl-C, so that you can edit a manifest and send requests
    #[arg(long)]
    keep: bool,
    /// The Envoy 1.40 to use instead of $ENVOY, the one on PATH or the one of the Python package
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send one request through the demo that another `cargo demo -- --keep` runs
    Request(Request),
}

#[derive(Debug, clap::Args)]
struct Request {
    /// Who asks
    #[arg(long, value_name = "NAMESPACE/ACCOUNT")]
    from: String,
    /// The method
    #[arg(short = 'X', long, default_value = "GET")]
    method: Method,
    /// Headers, as in "name: value"
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Speak HTTP/2 inside the tunnel
    #[arg(long)]
    http2: bool,
    /// As in http://web.webapp/
    url: String,
}

/// What a request has to know of a running demo. It is a file, so that another terminal finds it.
#[derive(Debug, Serialize, Deserialize)]
struct Running {
    manifests: PathBuf,
    state: PathBuf,
    /// Where callers call from that are no pod of the manifests.
    elsewhere: IpAddr,
}

impl Running {
    fn file() -> PathBuf {
        env::temp_dir().join("portolan-demo.json")
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo demo -- --keep` and `cargo demo --keep` are the same: the alias ends with a `--` of its own.
    let mut given = env::args_os().collect::<Vec<_>>();
    if given.get(1).is_some_and(|first| first == "--") {
        given.remove(1);
    }
    let arguments = Arguments::parse_from(given);
    let outcome = match &arguments.command {
        Some(Command::Request(request)) => send(request).await.map(|()| true),
        None => play(&arguments).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the demo; whether every row is as expected.
async fn play(arguments: &Arguments) -> Result<bool> {
    let start = Instant::now();
    let setup = Setup { envoy: arguments.envoy.clone(), ..demo::setup() };
    println!(
        "starting Portolan on a copy of {}, a waypoint Envoy per Gateway, and the backends",
        demo::MANIFESTS
    );
    let lab = Lab::start(&setup).await?;
    println!("  manifests   {}", lab.manifests().display());
    println!("  xDS         {}", lab.portolan.address());
    for (gateway, envoy) in &lab.envoys {
        let waypoint = lab.catalog.waypoint(gateway)?;
        println!(
            "  waypoint    {gateway} on {}, admin on http://{}",
            waypoint.address,
            envoy.admin_address()
        );
    }
    for (pod, backends) in &lab.backends {
        let how = if lab.ztunnels.contains_key(pod) { "captured: through HBONE only" } else { "plain" };
        let ports = backends.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        println!("  backend     {pod} on port {ports}, {how}");
    }
    println!("ready after {:.1} s; sending requests through mTLS tunnels\n", start.elapsed().as_secs_f64());

    let mut rows = demo::play(&lab).await?;
    let (row, changed) = demo::allow_post(&lab).await?;
    rows.push(row);
    println!("{}", demo::table(&rows));
    println!(
        "from the edit of a policy's file to Envoy's acknowledgement {:.1} ms, to the first request judged by it {:.1} ms",
        changed.acknowledged.as_secs_f64() * 1e3,
        changed.in_force.as_secs_f64() * 1e3,
    );
    let rejections = lab.rejections().await?;
    if !rejections.is_empty() {
        println!("an Envoy rejected resources: {rejections:?}");
    }
    let ok = rejections.is_empty() && rows.iter().all(|row| row.ok);
    let verdict = if ok { "every row is as expected" } else { "not every row is as expected" };
    println!("{verdict}, after {:.1} s", start.elapsed().as_secs_f64());
    if !ok {
        eprintln!("{}", lab.last_lines());
    }
    if arguments.keep {
        keep(&lab).await?;
    }
    Ok(ok)
}

/// Waits for Ctrl-C, and says what to do meanwhile.
async fn keep(lab: &Lab) -> Result<()> {
    let elsewhere = lab.loopback.address(STRANGER).into();
    let running = Running { manifests: lab.manifests(), state: lab.portolan.state().to_owned(), elsewhere };
    let file = Running::file();
    fs::write(&file, serde_json::to_vec_pretty(&running)?)
        .with_context(|| format!("writing {}", file.display()))?;
    println!(
        "\nrunning until Ctrl-C. In another terminal, send a request, let POST in, and send it again:\n"
    );
    println!("  cargo demo -- request --from webapp/curl -X POST http://web.webapp/");
    println!("  $EDITOR {}", lab.manifests().join("webapp.yaml").display());
    tokio::signal::ctrl_c().await?;
    // Another demo may have replaced it or removed it.
    let _ = fs::remove_file(&file);
    Ok(())
}

/// Sends one request through a running demo and prints the response.
async fn send(request: &Request) -> Result<()> {
    let Request { from, method, headers, http2, url } = request;
    let Running { manifests, state, elsewhere } = running(&Running::file())?;
    let (namespace, account) =
        from.split_once('/').with_context(|| format!("--from {from:?} is not a namespace/account"))?;
    let (catalog, authority) = (Arc::new(Catalog::read(&manifests)?), Arc::new(Authority::of_state(&state)?));
    let caller = Caller::workload(catalog, authority, namespace, account, elsewhere)?;
    let mut call = caller.call(method.clone(), url);
    for header in headers {
        let (name, value) = header.split_once(':').with_context(|| format!("{header:?} has no colon"))?;
        call = call.header(name.trim(), value.trim());
    }
    if *http2 {
        call = call.http2();
    }
    match call.send().await {
        Ok(response) => println!("{}\n{}", response.status, response.text()),
        Err(error) => match caller::refusal(&error) {
            Some(status) => println!("{status}, to the CONNECT: {error:#}"),
            None => return Err(error),
        },
    }
    Ok(())
}

fn running(file: &Path) -> Result<Running> {
    let text = fs::read(file).context("no demo is running; start one with `cargo demo -- --keep`")?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not a demo's file", file.display()))
}
