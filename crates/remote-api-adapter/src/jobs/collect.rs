//! From what a provider wrote to what callers get: each item of a batch with its answer and cost, or with a fault, in the
//! order of the items. Blocks; the same outputs give the same results, however often it is done.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use domain::{
    fault::{Code, Fault, Origin},
    id::NodeId,
    inference::Request,
    pricing::{Price, TokenUsage},
    routing::Tier,
    tokens::Counter,
    units::Money,
};
use prost::Message;
use reqwest::header::HeaderMap;
use wire::v1::{self, batch_result};

use super::{
    batch,
    frames::Frames,
    record::{Ending, Job, Usage},
    store,
};
use crate::{
    provider::{
        Call, Completion, Refused,
        jobs::{Desk, Line, Outcome},
        refusal::Refusal,
    },
    route::Route,
};

/// Longest line: an answer as large as one that comes by itself may be.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// What a batch came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) usage: TokenUsage,
    pub(super) cost: Money,
}

impl Total {
    fn add(&mut self, usage: &TokenUsage, cost: Money) {
        self.usage += *usage;
        self.cost = self.cost + cost;
        self.succeeded += 1;
    }

    /// As it stands in the record.
    pub(super) fn usage(&self) -> Usage {
        self.usage.into()
    }
}

/// A batch whose outputs are on the disk.
pub(super) struct Batch<'a> {
    pub(super) folder: &'a Path,
    pub(super) job: &'a Job,
    pub(super) ending: Ending,
    /// In the order in which they count: where two name a request, the first does.
    pub(super) outputs: &'a [PathBuf],
    pub(super) route: &'a Route,
    pub(super) desk: Desk<'a>,
    pub(super) machine: &'a NodeId,
}

/// Where the line of an item is.
#[derive(Clone, Copy)]
struct Place {
    output: usize,
    at: u64,
    length: usize,
}

impl Batch<'_> {
    /// Writes the results.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn collect(&self) -> io::Result<Total> {
        let mut files = Vec::new();
        let mut places = HashMap::new();
        for (output, file) in self.outputs.iter().enumerate() {
            self.index(output, file, &mut places)?;
            files.push(File::open(file)?);
        }
        let mut items = Frames::<v1::BatchItem>::open(&self.folder.join(store::ITEMS), 0)?;
        let unfinished = self.folder.join(store::RESULTS).with_extension("new");
        let mut out = BufWriter::new(File::create(&unfinished)?);
        let mut total = Total::default();
        for position in 0.. {
            let Some(item) = items.next()? else { break };
            let line_id = self.desk.jobs.line_id(&self.job.uid, position, &item.custom_id);
            let line = match places.remove(&*line_id) {
                Some(place) => Some(read(&mut files, place)?),
                None => None,
            };
            let result = self.result(item, line.as_deref(), &mut total);
            out.write_all(&result.encode_length_delimited_to_vec())?;
        }
        for custom_id in places.keys() {
            tracing::warn!(job = %self.job.id, custom_id, "the provider answered a request that was not asked");
        }
        let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        out.sync_all()?;
        store::publish(&unfinished, &self.folder.join(store::RESULTS))?;
        Ok(total)
    }

    fn index(&self, output: usize, file: &Path, places: &mut HashMap<String, Place>) -> io::Result<()> {
        let mut reader = BufReader::new(File::open(file)?);
        let (mut at, mut line) = (0, Vec::new());
        loop {
            line.clear();
            let length = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if length == 0 {
                return Ok(());
            }
            if !line.trim_ascii().is_empty() {
                match self.desk.jobs.read(&line) {
                    Ok(read) => {
                        places.entry(read.custom_id).or_insert(Place { output, at, length });
                    }
                    Err(problem) => {
                        tracing::warn!(job = %self.job.id, at, problem, "an output of the provider is broken");
                    }
                }
            }
            at += length as u64;
        }
    }

    fn result(&self, item: v1::BatchItem, line: Option<&[u8]>, total: &mut Total) -> v1::BatchResult {
        let outcome = batch::request(&item).and_then(|request| {
            let line = line.map(|line| self.desk.jobs.read(line)).transpose();
            let line = line.map_err(|problem| {
                Fault::new(
                    Code::Upstream,
                    Origin::Provider,
                    true,
                    format!("{}: {problem}", self.job.provider),
                )
            })?;
            self.answer(&request, line)
        });
        let outcome = match outcome {
            Ok((end, usage, cost)) => {
                total.add(&usage, cost);
                batch_result::Outcome::End(end)
            }
            Err(fault) => {
                total.failed += 1;
                batch_result::Outcome::Error(fault.into())
            }
        };
        v1::BatchResult {
            request_id: request_id(&item).to_owned(),
            custom_id: item.custom_id,
            outcome: Some(outcome),
        }
    }

    fn answer(
        &self,
        request: &Request,
        line: Option<Line<'_>>,
    ) -> Result<(v1::End, TokenUsage, Money), Fault> {
        let provider = &self.job.provider;
        let Some(line) = line else { return Err(self.unanswered()) };
        let completion = match line.outcome {
            Outcome::Answer(body) => {
                let call = Call { target: &self.route.target, request };
                let (_, mut reader) = self.desk.dialect.prepare(call)?;
                let completion = reader.whole(body)?;
                Completion {
                    provider_request_id: match completion.provider_request_id {
                        id if id.is_empty() => line.request_id,
                        id => id,
                    },
                    ..completion
                }
            }
            Outcome::Refused { status, body } => {
                let refused = Refused { status, headers: &HeaderMap::new(), body };
                return Err(self.desk.dialect.refusal(provider, refused, None).fault);
            }
            Outcome::Failed { code, message } => {
                let refusal = Refusal { code: &code, message: &message, ..Refusal::default() };
                return Err(refusal.into_failure(provider, None).fault);
            }
            Outcome::Cancelled => return Err(cancelled()),
            Outcome::Expired => return Err(self.expired()),
        };
        let usage = completion.usage.unwrap_or_else(|| estimate(request, &completion));
        let cost = self.route.batch_price.as_ref().map_or(Money::ZERO, |price: &Price| price.cost(&usage));
        Ok((self.end(completion, usage, cost), usage, cost))
    }

    fn end(&self, completion: Completion, usage: TokenUsage, cost: Money) -> v1::End {
        let last = (!completion.items.is_empty()).then_some(v1::Delta { items: completion.items });
        v1::End {
            finish_reason: completion.finish_reason.into(),
            usage: Some(usage.into()),
            cost_picodollars: cost.as_picodollars(),
            deployment: self.job.deployment.clone(),
            provider: self.job.provider.clone(),
            model: match completion.model {
                model if model.is_empty() => self.job.model.clone(),
                model => model,
            },
            tier: v1::Tier::from(Tier::RemoteApi).into(),
            machine: self.machine.to_string(),
            time_to_first_token_ms: 0,
            total_ms: self.job.done_unix_ms.saturating_sub(self.job.submitted_unix_ms),
            attempt: 1,
            last_delta: last,
            embeddings: completion.embeddings,
            request_cost_picodollars: cost.as_picodollars(),
            provider_request_id: completion.provider_request_id,
            extra_json: completion.extra_json,
            transcript: None,
            // Computed elsewhere.
            energy_millijoules: 0,
            energy_estimated: false,
        }
    }

    /// Why a request has no line.
    fn unanswered(&self) -> Fault {
        match (self.ending, &self.job.problem) {
            (Ending::Cancelled, _) => cancelled(),
            (Ending::Expired, _) => self.expired(),
            (Ending::Failed, Some(problem)) => Fault::from(v1::Error::from(problem.clone())),
            (Ending::Failed | Ending::Succeeded, _) => {
                let message = format!("{} gave no answer to this request of the batch", self.job.provider);
                Fault::new(Code::Upstream, Origin::Provider, true, message)
            }
        }
    }

    fn expired(&self) -> Fault {
        let message = format!("{} did not get to it in the time of the batch", self.job.provider);
        Fault::new(Code::Timeout, Origin::Provider, true, message)
    }
}

fn cancelled() -> Fault {
    Fault::new(Code::Cancelled, Origin::Caller, false, "the batch was cancelled before this request was run")
}

pub(super) fn request_id(item: &v1::BatchItem) -> &str {
    match &item.request {
        Some(v1::batch_item::Request::Generate(request)) => &request.request_id,
        Some(v1::batch_item::Request::Embed(request)) => &request.request_id,
        None => "",
    }
}

fn read(files: &mut [File], place: Place) -> io::Result<Vec<u8>> {
    let file = files.get_mut(place.output).ok_or_else(|| io::Error::other("an output is gone"))?;
    file.seek(SeekFrom::Start(place.at))?;
    let mut line = vec![0; place.length];
    file.read_exact(&mut line)?;
    Ok(line)
}

/// What the tokens come to when the provider does not say.
fn estimate(request: &Request, completion: &Completion) -> TokenUsage {
    let mut output = Counter::default();
    for item in &completion.items {
        output.add(&item.text);
        output.add(&item.reasoning);
        for call in &item.tool_calls {
            output.add(&call.name);
            output.add(&call.arguments_json);
        }
    }
    TokenUsage {
        input: request.input_tokens(),
        output: output.tokens(),
        estimated: true,
        ..TokenUsage::default()
    }
}

#[cfg(test)]
mod tests;
