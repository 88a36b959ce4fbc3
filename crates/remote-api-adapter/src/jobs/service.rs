//! Calls from the bus: one message in, one message out.

use std::sync::Arc;

use bus::{Bus, Incoming, PublishError};
use domain::{
    fault::{Code, Fault, Origin},
    id::JobId,
};
use prost::Message;
use wire::{
    subject::ProviderJobMethod as Method,
    v1::{self, provider_job_reply},
};

use super::{
    Jobs, blocking,
    frames::Frames,
    intake::{Submission, disk},
    record::{Kind, Stage},
    store, unknown,
};

/// Jobs of a list that says nothing else.
const LIST_DEFAULT: usize = 100;
/// Results that travel together, bytes; also half of what the bus takes where that is less.
const PAGE_BYTES: usize = 2 << 20;

pub(super) async fn answer(bus: &Bus, jobs: &Arc<Jobs>, call: Incoming) {
    let Some(reply) = call.reply.clone() else {
        tracing::warn!(subject = %call.subject, "a call without a reply subject was dropped");
        return;
    };
    let token = call.subject.rsplit('.').next().unwrap_or_default();
    let Some(method) = Method::from_token(token) else {
        let start: String = token.chars().take(40).collect();
        let message =
            format!("the subject's method is {start:?}, expected submit, get, list, cancel or results");
        let fault = Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("subject");
        return told(bus.reply(&reply, &one(Err(fault))).await);
    };
    let sent = match method {
        Method::Submit => bus.reply(&reply, &one(submit(jobs, &call).await)).await,
        Method::Get => bus.reply(&reply, &one(get(jobs, &call))).await,
        Method::Cancel => bus.reply(&reply, &one(cancel(jobs, &call).await)).await,
        Method::List => bus.reply(&reply, &list(jobs, &call)).await,
        Method::Results => {
            let page_max = PAGE_BYTES.min(bus.max_payload() / 2);
            let page = results(jobs, &call, page_max, bus.max_payload()).await;
            let page = page.unwrap_or_else(|fault| v1::ProviderJobResultsReply {
                error: Some(fault.into()),
                ..v1::ProviderJobResultsReply::default()
            });
            bus.reply(&reply, &page).await
        }
    };
    told(sent);
}

fn told(sent: Result<(), PublishError>) {
    if let Err(error) = sent {
        tracing::warn!(%error, "an answer about jobs was not sent");
    }
}

fn one(outcome: Result<v1::ProviderJob, Fault>) -> v1::ProviderJobReply {
    let result = match outcome {
        Ok(job) => provider_job_reply::Result::Job(job),
        Err(fault) => provider_job_reply::Result::Error(fault.into()),
    };
    v1::ProviderJobReply { result: Some(result) }
}

fn decode<M: Message + Default>(call: &Incoming, expected: &str) -> Result<M, Fault> {
    M::decode(call.payload.clone()).map_err(|error| {
        let message = format!("the payload has {} bytes that are no {expected}: {error}", call.payload.len());
        Fault::invalid("payload", message)
    })
}

async fn submit(jobs: &Arc<Jobs>, call: &Incoming) -> Result<v1::ProviderJob, Fault> {
    let request: v1::SubmitProviderJobRequest = decode(call, "llm.v1.SubmitProviderJobRequest")?;
    let submission = Submission {
        request,
        crc: crc32fast::hash(&call.payload),
        now_unix_ms: jobs.clock.now_unix_ms(),
        salt: fastrand::u64(..0x1_0000),
    };
    let job = jobs.submit(submission).await?;
    let cancelling = jobs.get(&job.id).is_some_and(|watched| watched.is_cancelled());
    Ok(job.view(cancelling, false))
}

/// The job that a call names.
fn named(call: &Incoming) -> Result<JobId, Fault> {
    Ok(JobId::new(decode::<v1::ProviderJobRequest>(call, "llm.v1.ProviderJobRequest")?.job_id)?)
}

fn get(jobs: &Jobs, call: &Incoming) -> Result<v1::ProviderJob, Fault> {
    let id = named(call)?;
    let watched = jobs.get(id.as_str()).ok_or_else(|| unknown(id.as_str()))?;
    Ok(watched.job().view(watched.is_cancelled(), true))
}

async fn cancel(jobs: &Arc<Jobs>, call: &Incoming) -> Result<v1::ProviderJob, Fault> {
    let (job, cancelling) = jobs.cancel(named(call)?.as_str()).await?;
    Ok(job.view(cancelling, false))
}

fn list(jobs: &Jobs, call: &Incoming) -> v1::ListProviderJobsReply {
    let request: v1::ListProviderJobsRequest = match decode(call, "llm.v1.ListProviderJobsRequest") {
        Ok(request) => request,
        Err(fault) => {
            return v1::ListProviderJobsReply { error: Some(fault.into()), ..Default::default() };
        }
    };
    let limit = if request.limit == 0 { LIST_DEFAULT } else { request.limit as usize };
    let mut listed: Vec<v1::ProviderJob> = jobs
        .table()
        .values()
        .map(|watched| watched.job.borrow().view(watched.is_cancelled(), false))
        .collect();
    listed
        .sort_by(|a, b| b.submitted_unix_ms.cmp(&a.submitted_unix_ms).then_with(|| a.job_id.cmp(&b.job_id)));
    listed.truncate(limit);
    v1::ListProviderJobsReply { jobs: listed, error: None }
}

async fn results(
    jobs: &Arc<Jobs>,
    call: &Incoming,
    page_max: usize,
    message_max: usize,
) -> Result<v1::ProviderJobResultsReply, Fault> {
    let request: v1::ProviderJobResultsRequest = decode(call, "llm.v1.ProviderJobResultsRequest")?;
    let id = JobId::new(request.job_id)?;
    let job = jobs.get(id.as_str()).ok_or_else(|| unknown(id.as_str()))?.job();
    if matches!(job.kind, Kind::FineTune { .. }) {
        let message = format!("job {id} is a training, which has no results; expected a batch");
        return Err(Fault::invalid("job_id", message));
    }
    let file = jobs.store.folder(id.as_str()).join(store::RESULTS);
    match job.stage {
        Stage::Ended { .. } if !file.exists() => return Ok(v1::ProviderJobResultsReply::default()),
        Stage::Accounting { .. } | Stage::Ended { .. } => {}
        _ => {
            let message = format!("job {id} has not ended: its results come with its end");
            return Err(Fault::new(Code::Unavailable, Origin::Provider, true, message).in_field("job_id"));
        }
    }
    blocking(move || page(&file, request.cursor, page_max, message_max)).await
}

/// As many results as fit from a position on; at least one.
fn page(
    file: &std::path::Path,
    cursor: u64,
    page_max: usize,
    message_max: usize,
) -> Result<v1::ProviderJobResultsReply, Fault> {
    let wrong = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
            let message = format!("cursor is {cursor}, expected 0 or the next_cursor of a reply");
            Fault::invalid("cursor", message)
        }
        _ => disk(error),
    };
    let mut frames = Frames::<v1::BatchResult>::open(file, cursor).map_err(|error| wrong(&error))?;
    let mut reply = v1::ProviderJobResultsReply::default();
    let mut bytes = 0;
    loop {
        let before = frames.position();
        let Some(result) = frames.next().map_err(|error| wrong(&error))? else { return Ok(reply) };
        let size = result.encoded_len();
        if bytes > 0 && bytes + size > page_max {
            reply.next_cursor = before;
            return Ok(reply);
        }
        bytes += size;
        // room for the reply around it
        reply.results.push(if size + 1_024 > message_max {
            too_large(result, size, message_max)
        } else {
            result
        });
    }
}

fn too_large(result: v1::BatchResult, size: usize, message_max: usize) -> v1::BatchResult {
    let message = format!("the result has {size} bytes, the bus takes at most {message_max}");
    let fault = Fault::new(Code::PayloadTooLarge, Origin::Internal, false, message);
    v1::BatchResult { outcome: Some(v1::batch_result::Outcome::Error(fault.into())), ..result }
}
