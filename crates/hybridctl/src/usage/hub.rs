//! The hub's HTTP interface.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::de::DeserializeOwned;

use super::ledger;
use crate::output::Output;
use crate::target::System;

/// A hub that is there takes a connection within this.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A summary of a year takes well under a second.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longest row of an export, bytes: its texts are bounded by the hub.
const LINE_BYTES_MAX: usize = 1 << 20;

/// The hub's HTTP interface.
pub(crate) struct Hub {
    client: reqwest::Client,
    base: reqwest::Url,
    token: Option<String>,
}

impl Hub {
    pub(crate) fn new(system: &System) -> anyhow::Result<Self> {
        let (listen, token) = system.hub()?;
        let address = crate::up::reachable(listen);
        Ok(Self {
            client: reqwest::Client::builder()
                .connect_timeout(CONNECT_MAX)
                .read_timeout(system.timeout.unwrap_or(ANSWER_MAX))
                .no_proxy()
                .build()?,
            base: reqwest::Url::parse(&format!("http://{address}"))?,
            token,
        })
    }

    async fn send(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<reqwest::Response> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| anyhow!("{} has no path", self.base))?.extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| {
            if error.is_connect() {
                anyhow!("observability-hub does not answer at {}; `make up` starts everything", self.base)
            } else {
                anyhow!("observability-hub at {}: {error}", self.base)
            }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let refusal: Result<ledger::Refusal, _> = response.json().await;
        match refusal {
            Ok(refusal) => bail!("{}: {}", refusal.error.code, refusal.error.message),
            Err(_) => bail!("observability-hub at {} answered with status {status}", self.base),
        }
    }

    /// An answer as JSON.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        Ok(self.send(path, query).await?.json().await?)
    }

    /// Copies the body to stdout as it comes.
    pub(crate) async fn copy(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        let mut response = self.send(path, query).await?;
        while let Some(chunk) = response.chunk().await.context("the export broke off, it is not whole")? {
            if !output.bytes(&chunk) {
                return Ok(ExitCode::FAILURE);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Tells each line of the body as it comes, so that a ledger of any size takes the same memory.
    pub(crate) async fn lines(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        mut tell: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut response = self.send(path, query).await?;
        let mut rest = Vec::new();
        while let Some(chunk) = response.chunk().await.context("the export broke off, it is not whole")? {
            rest.extend_from_slice(&chunk);
            let mut begin = 0;
            while let Some(length) =
                rest.get(begin..).and_then(|left| left.iter().position(|byte| *byte == b'\n'))
            {
                tell(rest.get(begin..begin + length).unwrap_or_default())?;
                begin += length + 1;
            }
            rest.drain(..begin);
            ensure!(
                rest.len() <= LINE_BYTES_MAX,
                "a line of the export is longer than {LINE_BYTES_MAX} bytes"
            );
        }
        ensure!(rest.is_empty(), "the export broke off, it is not whole");
        Ok(())
    }
}
