//! The requests of a batch: checked as every other request, written as the provider wants them in a file.

use domain::{
    fault::{Code, Fault, Origin},
    id::RequestId,
    inference::{Privacy, Request},
};
use prost::Message;
use wire::v1::{self, batch_item};

use super::intake::ITEMS_MAX;
use crate::{
    provider::{
        Call,
        jobs::{Desk, Place},
    },
    route::Route,
};

/// Where a part begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct First<'a> {
    pub(super) job_id: &'a str,
    pub(super) uid: &'a str,
    /// Of the requests before; empty when this is the first.
    pub(super) endpoint: &'a str,
    /// Of the part's first item in the job.
    pub(super) position: u64,
}

/// A part, ready for the files.
#[derive(Debug)]
pub(super) struct Written {
    /// Items behind their lengths, with their request ids.
    pub(super) items: Vec<u8>,
    /// A line for each, in the provider's words.
    pub(super) requests: Vec<u8>,
    pub(super) endpoint: String,
    pub(super) count: u64,
}

/// Checks and writes the items of a part.
///
/// # Errors
/// The first item that is wrong or that the provider cannot do, by its place and field.
pub(super) fn write(
    first: First<'_>,
    items: Vec<v1::BatchItem>,
    route: &Route,
    desk: Desk<'_>,
) -> Result<Written, Fault> {
    let count = items.len() as u64;
    if first.position + count > ITEMS_MAX {
        let message =
            format!("batch.items has {} requests, expected 1 to {ITEMS_MAX}", first.position + count);
        return Err(Fault::invalid("batch.items", message));
    }
    let mut written =
        Written { items: Vec::new(), requests: Vec::new(), endpoint: first.endpoint.to_owned(), count };
    for (index, item) in items.into_iter().enumerate() {
        let position = first.position + index as u64;
        let within = |fault: Fault| within(&format!("batch.items[{index}]"), fault);
        let item = numbered(item, first.job_id, position).map_err(within)?;
        let request = request(&item).map_err(within)?;
        fits(&request, &item, route).map_err(within)?;
        let call = Call { target: &route.target, request: &request };
        let (prepared, _) = desk.dialect.prepare(call).map_err(within)?;
        let id = desk.jobs.line_id(first.uid, position, &item.custom_id);
        let place = Place { id: &id, position };
        let endpoint = desk.jobs.batch_line(place, &prepared, &mut written.requests).map_err(within)?;
        if written.endpoint.is_empty() {
            written.endpoint = endpoint;
        } else if written.endpoint != endpoint {
            let message =
                format!("goes to {endpoint}, expected {} as the requests before it", written.endpoint);
            return Err(within(Fault::invalid("request", message)));
        }
        item.encode_length_delimited(&mut written.items)
            .map_err(|error| Fault::internal(format!("an item was not written: {error}")))?;
    }
    Ok(written)
}

/// The item with an id that the ledger can count under.
fn numbered(mut item: v1::BatchItem, job_id: &str, position: u64) -> Result<v1::BatchItem, Fault> {
    RequestId::new(item.custom_id.as_str()).map_err(|error| {
        Fault::invalid("custom_id", format!("custom_id is {:?}, expected {}", error.value, error.expected))
    })?;
    let id = match &mut item.request {
        Some(batch_item::Request::Generate(request)) => &mut request.request_id,
        Some(batch_item::Request::Embed(request)) => &mut request.request_id,
        None => return Err(Fault::invalid("request", "request is empty, expected generate or embed")),
    };
    if id.is_empty() {
        *id = format!("{job_id}-{position}");
    }
    Ok(item)
}

/// The request of an item that was numbered.
///
/// # Errors
/// What is wrong with it, by name.
pub(super) fn request(item: &v1::BatchItem) -> Result<Request, Fault> {
    match item.request.clone() {
        Some(batch_item::Request::Generate(request)) => request.try_into().map(Request::Generate),
        Some(batch_item::Request::Embed(request)) => request.try_into().map(Request::Embed),
        None => Err(Fault::invalid("request", "request is empty, expected generate or embed")),
    }
}

/// What a request may not be in a batch.
fn fits(request: &Request, item: &v1::BatchItem, route: &Route) -> Result<(), Fault> {
    let envelope = request.envelope();
    if envelope.profile.privacy == Privacy::LocalOnly {
        let message = "profile.privacy is local-only, but a batch leaves the owner's machines";
        let fault = Fault::new(Code::PermissionDenied, Origin::Policy, false, message);
        return Err(fault.in_field("profile.privacy"));
    }
    if request.streams() {
        return Err(Fault::invalid("stream", "stream is true, expected false: nobody waits for a batch"));
    }
    if envelope.deadline.is_some() {
        let message = "deadline_ms is set, expected 0: a batch has the provider's own 24 hours";
        return Err(Fault::invalid("deadline_ms", message));
    }
    if let Some(model) = &envelope.model
        && *model != route.model
        && model.as_str() != route.id.as_str()
    {
        let message = format!("model is {model}, expected none or the job's, {}", route.model);
        return Err(Fault::invalid("model", message));
    }
    if let Some(missing) = route.capabilities.missing(request.needs()) {
        let message = format!("{} cannot do what {} asks: it lacks {missing}", route.id, item.custom_id);
        return Err(Fault::new(Code::Unsupported, Origin::Caller, true, message).in_field("request"));
    }
    Ok(())
}

fn within(place: &str, mut fault: Fault) -> Fault {
    fault.field = if fault.field.is_empty() { place.to_owned() } else { format!("{place}.{}", fault.field) };
    fault.message = format!("{place}: {}", fault.message);
    fault
}
