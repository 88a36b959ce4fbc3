//! Message batches: <https://platform.claude.com/docs/en/api/messages/batches>. Claude is not trained through the API.
//!
//! A batch is created with its requests in the call, and has no metadata. What names a job of ours is the `custom_id` of its
//! requests, which carries the job's uid, but which the provider tells only with the results. So a creation that was not heard
//! of is looked for among the batches of the job's time and size: one that has ended is ours or not by its results, and while
//! one is under way nothing is created beside it: if it is ours, its end has to be waited for anyway. The price of that is a
//! wait of up to a day for somebody else's batch, never a second bill.
//!
//! Results are fetched from the documented address below the configured one, whatever host `results_url` names.

mod shape;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, path::Path};

use domain::fault::{Code, Fault, Origin};
use futures::{FutureExt, future::BoxFuture};
use reqwest::{Method, Url};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::error::Words;
use crate::provider::{
    Failure, Prepared,
    jobs::{Ask, Event, JobDialect, Kind, Line, Look, Order, Outcome, Payload, Place, Side, Work, parse},
    json::{Object, Text},
};
use shape::{Batch, Listed, Named, Row};

/// What all requests of a batch are for.
const ENDPOINT: &str = "/v1/messages";
const NO_TRAINING: &str = "Anthropic trains no models through its API";
/// Batches of a page of the list, its largest.
const PAGE: &str = "1000";
/// Pages that are searched for a batch of ours.
const PAGES_MAX: usize = 10;
/// How far the provider's clock may be behind ours.
const CLOCKS_APART_MAX_MS: u64 = 10 * 60 * 1_000;
/// Longest result that is read to see whose it is.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Where batches of one server are.
#[derive(Debug)]
pub(super) struct JobClient {
    batches: Url,
}

impl JobClient {
    /// `messages` is the address of single calls.
    pub(super) fn new(messages: &Url) -> Self {
        let mut batches = messages.clone();
        if let Ok(mut segments) = batches.path_segments_mut() {
            segments.push("batches");
        }
        Self { batches }
    }

    fn batch(&self, id: &str, more: &[&str]) -> Url {
        let mut url = self.batches.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(id).extend(more);
        }
        url
    }

    async fn search(
        &self,
        side: &dyn Side,
        order: Order<'_>,
        others: &[String],
    ) -> Result<Option<String>, Failure> {
        let Work::Batch { count, requests, .. } = order.work else { return Ok(None) };
        let since = order.since_unix_ms.saturating_sub(CLOCKS_APART_MAX_MS);
        let mut after = String::new();
        for _ in 0..PAGES_MAX {
            let mut url = self.batches.clone();
            url.query_pairs_mut().append_pair("limit", PAGE);
            if !after.is_empty() {
                url.query_pairs_mut().append_pair("after_id", &after);
            }
            let body = side.call(Ask::get(url)).await?;
            let page: Listed<'_> = parse(side, "a list of batches", &body)?;
            for batch in &page.data {
                // newest first
                if batch.created_unix_ms() < since {
                    return Ok(None);
                }
                let id = &*batch.id;
                if batch.request_counts.total() != count || others.iter().any(|other| other == id) {
                    continue;
                }
                if !batch.has_results() {
                    return Err(undecided(side, id));
                }
                if self.is_ours(side, id, order.uid, requests).await? {
                    return Ok(Some(id.to_owned()));
                }
            }
            match page.last_id {
                Some(last) if page.has_more => after = last.into_string(),
                _ => return Ok(None),
            }
        }
        Err(undecided(side, "an older one"))
    }

    /// Whether the results of a batch are of the job `uid`, whose requests lie at `requests`. All requests of a batch are of
    /// one job, so the first result tells.
    async fn is_ours(&self, side: &dyn Side, id: &str, uid: &str, requests: &Path) -> Result<bool, Failure> {
        let file = requests.with_extension("found");
        self.fetch(side, id, &file).await?;
        let line = first_line(&file).await;
        // it is fetched again if it is ours, and of no use if it is not
        drop(tokio::fs::remove_file(&file).await);
        let line = line.map_err(|error| {
            let fault = Fault::internal(format!("results that were fetched cannot be read: {error}"));
            Failure { fault, transient: true }
        })?;
        let row = serde_json::from_slice::<Row<'_>>(&line);
        Ok(row.is_ok_and(|row| row.custom_id.starts_with(&tag(uid))))
    }
}

/// What the `custom_id` of all requests of a job begins with: of the characters and the length (64) that the API takes, and
/// never used twice, since a uid ends with the time and a random number.
fn tag(uid: &str) -> String {
    let stamp = uid.rsplit('.').next().unwrap_or_default();
    format!("{stamp}-{:08x}-", crc32fast::hash(uid.as_bytes()))
}

async fn first_line(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let file = BufReader::new(tokio::fs::File::open(file).await?);
    file.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    Ok(line)
}

fn undecided(side: &dyn Side, id: &str) -> Failure {
    let message = format!(
        "{} has not said whether batch {id} is the one that was asked for: that is known when it ends",
        side.provider()
    );
    Failure { fault: Fault::new(Code::Unavailable, Origin::Provider, true, message), transient: true }
}

impl JobDialect for JobClient {
    fn offers(&self, kind: Kind) -> Result<(), &'static str> {
        match kind {
            Kind::Batch => Ok(()),
            Kind::FineTune => Err(NO_TRAINING),
        }
    }

    fn line_id<'a>(&self, uid: &str, position: u64, _custom_id: &'a str) -> Cow<'a, str> {
        Cow::Owned(format!("{}{position}", tag(uid)))
    }

    fn batch_line(&self, line: Place<'_>, prepared: &Prepared, out: &mut Vec<u8>) -> Result<String, Fault> {
        let body: &RawValue = serde_json::from_slice(&prepared.body)
            .map_err(|error| Fault::internal(format!("a request of ours is no JSON: {error}")))?;
        // the lines become the elements of a list
        if line.position > 0 {
            out.push(b',');
        }
        let mut object = Object::begin(out);
        object.text("custom_id", line.id);
        object.raw("params", body.get());
        object.end();
        out.push(b'\n');
        Ok(ENDPOINT.to_owned())
    }

    fn upload<'a>(
        &'a self,
        _side: &'a dyn Side,
        _order: Order<'a>,
    ) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        // the requests go with the creation
        futures::future::ready(Ok(Vec::new())).boxed()
    }

    fn create<'a>(
        &'a self,
        side: &'a dyn Side,
        order: Order<'a>,
        _files: &'a [String],
    ) -> BoxFuture<'a, Result<String, Failure>> {
        async move {
            let Work::Batch { requests, .. } = order.work else {
                return Err(Failure::permanent(Fault::internal(NO_TRAINING)));
            };
            let payload = Payload::Around { before: "{\"requests\":[", file: requests, after: "]}" };
            let ask = Ask { method: Method::POST, url: self.batches.clone(), payload };
            let body = side.call(ask).await?;
            Ok(parse::<Named<'_>>(side, "a batch", &body)?.id.into_string())
        }
        .boxed()
    }

    fn find<'a>(
        &'a self,
        side: &'a dyn Side,
        order: Order<'a>,
        others: &'a [String],
    ) -> BoxFuture<'a, Result<Option<String>, Failure>> {
        self.search(side, order, others).boxed()
    }

    fn look<'a>(
        &'a self,
        side: &'a dyn Side,
        _kind: Kind,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Look, Failure>> {
        async move {
            let body = side.call(Ask::get(self.batch(id, &[]))).await?;
            Ok(parse::<Batch<'_>>(side, "a batch", &body)?.into_look())
        }
        .boxed()
    }

    fn events<'a>(
        &'a self,
        _side: &'a dyn Side,
        _kind: Kind,
        _id: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Event>, Failure>> {
        futures::future::ready(Ok(Vec::new())).boxed()
    }

    fn cancel<'a>(
        &'a self,
        side: &'a dyn Side,
        _kind: Kind,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let url = self.batch(id, &["cancel"]);
            let ask = Ask { method: Method::POST, url, payload: Payload::Nothing };
            side.call(ask).await.map(drop)
        }
        .boxed()
    }

    fn fetch<'a>(
        &'a self,
        side: &'a dyn Side,
        output: &'a str,
        to: &'a Path,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        side.download(self.batch(output, &["results"]), to)
    }

    fn read<'l>(&self, line: &'l [u8]) -> Result<Line<'l>, String> {
        let row: Row<'l> = serde_json::from_slice(line).map_err(|error| {
            format!("a line does not parse ({:?} error in column {})", error.classify(), error.column())
        })?;
        let outcome = match &*row.result.kind {
            "succeeded" => {
                let message = row.result.message.ok_or("an answer has no message")?;
                Outcome::Answer(message.get().as_bytes())
            }
            "errored" => {
                let body = row.result.error.ok_or("an error says nothing")?.get().as_bytes();
                let status = Words::of_body(body).status().unwrap_or(500);
                Outcome::Refused { status, body }
            }
            "canceled" => Outcome::Cancelled,
            "expired" => Outcome::Expired,
            other => {
                let code: String = other.chars().take(40).collect();
                Outcome::Failed { code, message: "a result of an unknown type".to_owned() }
            }
        };
        let request_id = row.result.error.and_then(shape::request_id).map(Text::into_string);
        Ok(Line {
            custom_id: row.custom_id.into_string(),
            request_id: request_id.unwrap_or_default(),
            outcome,
        })
    }
}
