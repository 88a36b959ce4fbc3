//! `plan`: what would become of a request, without making it.
//!
//! The same pure function decides as in a coordinator, on the same snapshot. What a coordinator knows beyond it (requests of
//! its own in flight, deployments it leaves alone for a while) is not seen here.

use bus::{Bus, Incoming};
use domain::{
    fault::{Code, Fault, Origin},
    inference::Request,
    routing::{Facts, Live, decide},
};
use futures::{Stream, StreamExt};
use prost::Message;
use tokio_util::sync::CancellationToken;
use wire::v1::{self, plan_request::Method};

use crate::view::{View, Views};

/// Plans under way at once; more wait their turn.
const CONCURRENT: usize = 64;

/// Answers plan calls until `stop` fires.
pub(crate) async fn serve(
    bus: Bus,
    views: Views,
    calls: impl Stream<Item = Incoming>,
    stop: CancellationToken,
) {
    let answering = calls.for_each_concurrent(CONCURRENT, |call| {
        let view = views.borrow().clone();
        let bus = &bus;
        async move {
            let Some(reply_to) = call.reply else { return };
            let reply = answer(&call.payload, view.as_ref());
            if let Err(error) = bus.reply(&reply_to, &reply).await {
                tracing::warn!(%error, "plan not answered");
            }
        }
    });
    tokio::select! {
        () = stop.cancelled() => {}
        () = answering => {}
    }
}

fn answer(payload: &[u8], view: Option<&View>) -> v1::PlanReply {
    let result = match plan(payload, view) {
        Ok(decision) => v1::plan_reply::Result::Decision(decision),
        Err(fault) => v1::plan_reply::Result::Error(fault.into()),
    };
    v1::PlanReply { result: Some(result) }
}

fn plan(payload: &[u8], view: Option<&View>) -> Result<v1::Decision, Fault> {
    let wire = v1::PlanRequest::decode(payload).map_err(|error| {
        Fault::invalid("payload", format!("the payload is no llm.v1.PlanRequest: {error}"))
    })?;
    let Some(mut method) = wire.method else {
        return Err(Fault::invalid("method", "method is empty, expected generate, embed or translate"));
    };
    let Some(view) = view else {
        return Err(Fault::new(Code::Unavailable, Origin::Internal, true, "no routing snapshot yet"));
    };
    name_request(&mut method);
    let request = Request::try_from(method)?;
    let decision = decide(&Facts::of(&request), &view.routing, &Live::default())?;
    let envelope = request.envelope();
    let text = |name: Option<&str>| name.unwrap_or_default().to_owned();
    Ok(v1::Decision {
        agent: text(envelope.agent.as_ref().map(AsRef::as_ref)),
        requested_model: text(envelope.model.as_ref().map(AsRef::as_ref)),
        ..v1::Decision::from(&decision)
    })
}

/// Gives a request an id where the caller gave none. Gradual roll-out goes by the id: a caller who wants to know about one
/// request in particular names it.
fn name_request(method: &mut Method) {
    let id = match method {
        Method::Generate(request) => &mut request.request_id,
        Method::Embed(request) => &mut request.request_id,
        Method::Translate(request) => &mut request.request_id,
        Method::Transcribe(request) => &mut request.request_id,
        Method::Speak(request) => &mut request.request_id,
    };
    if id.is_empty() {
        *id = uuid::Uuid::now_v7().simple().to_string();
    }
}
