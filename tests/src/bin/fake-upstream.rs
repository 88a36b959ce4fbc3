//! A provider to test against, see `e2e::upstream`. Prints `{"listening":"<address>"}` when it accepts requests.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use e2e::upstream::{Options, Script, serve};
use tokio::net::TcpListener;

/// A server that speaks the HTTP wire formats of the providers and misbehaves as told.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Key that callers must show; without it everybody is served.
    #[arg(long)]
    key: Option<String>,
    /// Key file of the service account that may have tokens.
    #[arg(long)]
    service_account: Option<PathBuf>,
    /// Model to offer; repeat for several.
    #[arg(long = "model")]
    models: Vec<String>,
    /// Requests to remember for `GET /control/requests`.
    #[arg(long)]
    record: Option<usize>,
    /// JSON file with what it does unless `PUT /control` says otherwise.
    #[arg(long)]
    script: Option<PathBuf>,
}

impl Arguments {
    fn options(&self) -> anyhow::Result<Options> {
        let mut options = Options {
            key: self.key.clone(),
            service_account: self.service_account.clone(),
            ..Options::default()
        };
        if !self.models.is_empty() {
            options.models.clone_from(&self.models);
        }
        if let Some(max) = self.record {
            options.record_max = max;
        }
        if let Some(file) = &self.script {
            let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let script: Script = serde_json::from_slice(&text)
                .with_context(|| format!("invalid script {}", file.display()))?;
            options.script =
                script.validated().with_context(|| format!("invalid script {}", file.display()))?;
        }
        Ok(options)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let options = arguments.options()?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    writeln!(std::io::stdout(), "{}", serde_json::json!({"listening": listener.local_addr()?.to_string()}))?;
    serve(listener, options).await.context("the listener broke")
}
