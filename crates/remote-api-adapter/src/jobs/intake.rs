//! Takes a job in, part by part: checks it whole, writes what the provider will get, and keeps it on the disk before it
//! answers. Blocks.

use std::{collections::HashSet, io, sync::Arc};

use domain::{
    fault::{Code, Fault, Origin},
    id::JobId,
};
use wire::v1::{self, submit_provider_job_request::Kind as Asked};

use super::{
    batch,
    frames::Frames,
    record::{Job, Kind, Part, Stage},
    store::{self, Store},
    training,
};
use crate::{
    provider::jobs::Desk,
    route::{Route, Routes},
};

/// Requests of a batch; the smaller of the providers' bounds.
pub(super) const ITEMS_MAX: u64 = 50_000;
/// What a batch may come to as the provider gets it, bytes.
const REQUESTS_BYTES_MAX: u64 = 200 << 20;
/// Training and validation data, bytes.
const TRAINING_BYTES_MAX: u64 = 512 << 20;

/// A part as it came.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) request: v1::SubmitProviderJobRequest,
    /// CRC-32 of the message.
    pub(super) crc: u32,
    pub(super) now_unix_ms: u64,
    /// Makes the job's uid unique.
    pub(super) salt: u64,
}

/// The route of a job.
///
/// # Errors
/// No deployment has this name, or none of them can do it; with the reason.
fn route<'r>(routes: &'r Routes, model: &str, asked: &Asked) -> Result<(&'r Arc<Route>, Desk<'r>), Fault> {
    let candidates = match routes.configured(model) {
        Some(route) => vec![route],
        None => routes.of_model(model),
    };
    let mut why = None;
    for route in candidates {
        match able(route, asked) {
            Ok(desk) => return Ok((route, desk)),
            Err(fault) => why = why.or(Some(fault)),
        }
    }
    Err(why.unwrap_or_else(|| {
        let start: String = model.chars().take(80).collect();
        let message = format!(
            "model is {start:?}, expected a deployment of this adapter or a model that one of them has"
        );
        Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("model")
    }))
}

fn able<'r>(route: &'r Route, asked: &Asked) -> Result<Desk<'r>, Fault> {
    let unsupported = |message: String| Fault::new(Code::Unsupported, Origin::Caller, true, message);
    let name = &route.upstream.name;
    let desk = route
        .upstream
        .provider
        .jobs()
        .map_err(|reason| unsupported(format!("{name} runs no jobs: {reason}")).in_field("model"))?;
    let (kind, field) = match asked {
        Asked::Batch(_) => (crate::provider::jobs::Kind::Batch, "batch"),
        Asked::FineTune(_) => (crate::provider::jobs::Kind::FineTune, "fine_tune"),
    };
    desk.jobs.offers(kind).map_err(|reason| unsupported(format!("{name}: {reason}")).in_field(field))?;
    if matches!(asked, Asked::Batch(_)) && route.batch_price.is_none() {
        let message = format!(
            "{} has no batch price, expected batch_input_per_million in its price or in the price file",
            route.id
        );
        return Err(unsupported(message).in_field("model"));
    }
    Ok(desk)
}

/// Takes a part in; `known` is the job of this id, where there is one.
///
/// # Errors
/// What is wrong with it, by name; nothing of the part is kept then.
pub(super) fn accept(
    store: &Store,
    routes: &Routes,
    known: Option<Job>,
    submission: Submission,
) -> Result<Job, Fault> {
    let Submission { request, crc, now_unix_ms, salt } = submission;
    let v1::SubmitProviderJobRequest { job_id, model, part, last, kind } = request;
    let id = JobId::new(job_id)?;
    let Some(asked) = kind else {
        return Err(Fault::invalid("kind", "kind is empty, expected batch or fine_tune"));
    };
    if let Some(job) = &known
        && let Some(answer) = repeated(job, &model, &asked, part, crc)?
    {
        return Ok(answer);
    }
    if known.is_none() && part != 0 {
        let message = format!("part is {part}, expected 0: nothing of job {id} has come yet");
        return Err(Fault::invalid("part", message));
    }
    let (route, desk) = route(routes, &model, &asked)?;
    let is_new = known.is_none();
    let mut job = match known {
        Some(job) => job,
        None => begin(id, &model, &asked, route, Origins { now_unix_ms, salt })?,
    };
    let target = Target { store, route, desk };
    let taken = target
        .take(&mut job, asked, crc)
        .and_then(|()| if last { target.whole(&mut job) } else { Ok(()) })
        .and_then(|()| store.save(&job).map_err(|error| disk(&error)));
    match taken {
        Ok(()) => Ok(job),
        Err(fault) => {
            if is_new {
                // without a record there is no job: the next try begins anew
                drop(std::fs::remove_dir_all(store.folder(&job.id)));
            }
            Err(fault)
        }
    }
}

/// The answer to a part that came before.
///
/// # Errors
/// The job is another one, or this is not the part that is expected.
fn repeated(job: &Job, model: &str, asked: &Asked, part: u32, crc: u32) -> Result<Option<Job>, Fault> {
    let id = &job.id;
    let same_kind = matches!(
        (&job.kind, asked),
        (Kind::Batch { .. }, Asked::Batch(_)) | (Kind::FineTune { .. }, Asked::FineTune(_))
    );
    let known = usize::try_from(part).ok().and_then(|part| job.parts.get(part));
    if job.requested_model != model || !same_kind || known.is_some_and(|known| known.crc != crc) {
        let message = format!("job_id is {id:?}, which another job has; expected a new one");
        return Err(Fault::invalid("job_id", message));
    }
    if known.is_some() {
        return Ok(Some(job.clone()));
    }
    if job.stage != Stage::Receiving {
        let message = format!("part is {part}, but job {id} was whole or over after {}", job.parts.len());
        return Err(Fault::invalid("part", message));
    }
    if part as usize != job.parts.len() {
        let message = format!("part is {part}, expected {} of job {id}", job.parts.len());
        return Err(Fault::invalid("part", message));
    }
    Ok(None)
}

#[derive(Clone, Copy)]
struct Origins {
    now_unix_ms: u64,
    salt: u64,
}

fn begin(
    id: JobId,
    model: &str,
    asked: &Asked,
    route: &Route,
    Origins { now_unix_ms, salt }: Origins,
) -> Result<Job, Fault> {
    let kind = match asked {
        Asked::Batch(_) => Kind::Batch { endpoint: String::new(), items: 0 },
        Asked::FineTune(part) => training::kind(part.options.as_ref(), route)?,
    };
    Ok(Job {
        uid: format!("{id}.{now_unix_ms:x}{salt:04x}"),
        id: id.into_string(),
        kind,
        deployment: route.id.to_string(),
        provider: route.upstream.name.clone(),
        model: route.target.upstream_model.clone(),
        requested_model: model.to_owned(),
        parts: Vec::new(),
        stage: Stage::Receiving,
        submitted_unix_ms: now_unix_ms,
        done_unix_ms: 0,
        finished_unix_ms: 0,
        provider_job_id: String::new(),
        provider_state: String::new(),
        expires_unix_ms: 0,
        cancel_sent: false,
        succeeded: 0,
        failed: 0,
        accounted: 0,
        usage: None,
        cost_picodollars: None,
        fine_tuned_model: String::new(),
        trained_tokens: None,
        events: Vec::new(),
        problem: None,
    })
}

/// Where a part goes.
struct Target<'a> {
    store: &'a Store,
    route: &'a Route,
    desk: Desk<'a>,
}

impl Target<'_> {
    fn take(&self, job: &mut Job, asked: Asked, crc: u32) -> Result<(), Fault> {
        let mut part = Part { crc, ..job.lengths() };
        let grown = |name, length: &mut u64, bytes: &[u8]| {
            *length = self.store.append(&job.id, name, *length, bytes).map_err(|error| disk(&error))?;
            Ok::<(), Fault>(())
        };
        match (asked, &job.kind) {
            (Asked::Batch(batch), Kind::Batch { endpoint, items }) => {
                let first = batch::First { job_id: &job.id, uid: &job.uid, endpoint, position: *items };
                let written = batch::write(first, batch.items, self.route, self.desk)?;
                let requests = part.requests_bytes + written.requests.len() as u64;
                if requests > REQUESTS_BYTES_MAX {
                    return Err(too_large("batch", requests, REQUESTS_BYTES_MAX));
                }
                grown(store::ITEMS, &mut part.items_bytes, &written.items)?;
                grown(store::REQUESTS, &mut part.requests_bytes, &written.requests)?;
                job.kind = Kind::Batch { endpoint: written.endpoint, items: items + written.count };
            }
            (Asked::FineTune(data), Kind::FineTune { .. }) => {
                let new = (data.training_jsonl.len() + data.validation_jsonl.len()) as u64;
                let whole = part.training_bytes + part.validation_bytes + new;
                if whole > TRAINING_BYTES_MAX {
                    return Err(too_large("fine_tune", whole, TRAINING_BYTES_MAX));
                }
                grown(store::TRAINING, &mut part.training_bytes, &data.training_jsonl)?;
                grown(store::VALIDATION, &mut part.validation_bytes, &data.validation_jsonl)?;
            }
            (Asked::Batch(_), Kind::FineTune { .. }) | (Asked::FineTune(_), Kind::Batch { .. }) => {
                return Err(Fault::internal("a part of one kind was taken for a job of another"));
            }
        }
        job.parts.push(part);
        Ok(())
    }

    /// What can only be seen of the whole.
    fn whole(&self, job: &mut Job) -> Result<(), Fault> {
        let folder = self.store.folder(&job.id);
        match &job.kind {
            Kind::Batch { items: 0, .. } => {
                return Err(Fault::invalid("batch.items", "batch.items is empty, expected 1 to 50000"));
            }
            Kind::Batch { .. } => unique(&folder.join(store::ITEMS))?,
            Kind::FineTune { .. } => {
                training::check(&folder.join(store::TRAINING), "fine_tune.training_jsonl")?;
                if job.lengths().validation_bytes > 0 {
                    training::check(&folder.join(store::VALIDATION), "fine_tune.validation_jsonl")?;
                }
            }
        }
        job.stage = Stage::Uploading;
        Ok(())
    }
}

fn unique(items: &std::path::Path) -> Result<(), Fault> {
    let mut frames = Frames::<v1::BatchItem>::open(items, 0).map_err(|error| disk(&error))?;
    let mut seen = HashSet::new();
    while let Some(item) = frames.next().map_err(|error| disk(&error))? {
        if let Some(twice) = seen.replace(item.custom_id) {
            let message = format!("custom_id is {twice:?} twice, expected a different one for each request");
            return Err(Fault::invalid("batch.items.custom_id", message));
        }
    }
    Ok(())
}

fn too_large(field: &str, bytes: u64, max: u64) -> Fault {
    let message = format!("{field} has {bytes} bytes in all parts together, expected at most {max}");
    Fault::new(Code::PayloadTooLarge, Origin::Caller, false, message).in_field(field)
}

pub(super) fn disk(error: &io::Error) -> Fault {
    Fault::internal(format!("the job could not be kept: {error}"))
}
