//! Requests from the bus: by method (`llm.v1.req.<method>`) and by agent (`llm.v1.agent.<Agent>.<method>`).

use std::sync::Arc;

use bus::{Incoming, PublishError};
use domain::fault::{Code, Fault, Origin};
use futures::{Stream, StreamExt, stream};
use prost::Message;
use service_runtime::Tasks;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{self, Method, service},
    v1::{self, execute_request::Method as Asking, reply_frame::Kind},
};

use super::{new_request_id, one_agent};
use crate::{
    admission::Shown,
    dispatch::{Asked, Coordinator, Event},
};

/// Subscribes, as one of the queue of coordinators; when this returns requests arrive.
pub(crate) async fn start(
    coordinator: &Arc<Coordinator>,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> Result<(), PublishError> {
    let bus = &coordinator.bus;
    let mut patterns: Vec<String> =
        Method::ALL.iter().map(|method| subject::ingress(bus.prefix(), *method)).collect();
    patterns.push(subject::agent_ingress(bus.prefix()));
    let mut sources = Vec::with_capacity(patterns.len());
    for pattern in patterns {
        sources.push(bus.subscribe(pattern, Some(service::REQUEST_COORDINATOR)).await?);
    }
    let requests = stream::select_all(sources);
    tasks.spawn("nats-ingress", listen(Arc::clone(coordinator), requests, stop.clone()));
    Ok(())
}

async fn listen(
    coordinator: Arc<Coordinator>,
    mut requests: impl Stream<Item = Incoming> + Unpin + Send,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            request = requests.next() => {
                let Some(request) = request else { anyhow::bail!("the bus ended the subscriptions") };
                let this = Arc::clone(&coordinator);
                coordinator.requests.spawn(async move { serve(&this, request).await });
            }
        }
    }
}

async fn serve(coordinator: &Arc<Coordinator>, incoming: Incoming) {
    let Some(reply) = incoming.reply.clone() else {
        tracing::warn!(subject = %incoming.subject, "a request without a reply subject was dropped");
        return;
    };
    let mut answer = Answer { coordinator, reply, id: String::new(), seq: 0 };
    match read(coordinator, incoming, &mut answer.id).and_then(|asked| {
        let names = Names::of(&asked);
        coordinator.submit(asked).map(|events| (events, names))
    }) {
        Ok((mut events, names)) => {
            while let Some(event) = events.recv().await {
                answer.tell(event, &names).await;
            }
        }
        Err(fault) => answer.send(Kind::Error(fault.into())).await,
    }
}

/// What the decision in the first frame repeats of the request.
struct Names {
    agent: String,
    model: String,
}

impl Names {
    fn of(asked: &Asked) -> Self {
        let envelope = asked.request.envelope();
        Self {
            agent: envelope.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
            model: envelope.model.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

fn read(coordinator: &Coordinator, incoming: Incoming, id: &mut String) -> Result<Asked, Fault> {
    let at = Instant::now();
    let header = |name| {
        let headers = incoming.headers.as_ref()?;
        headers.get(name).map(async_nats::HeaderValue::as_str)
    };
    let shown = Shown { authorization: header("Authorization"), x_api_key: header("x-api-key") };
    let visitor = coordinator.gate.visitor(shown)?;

    let prefix = coordinator.bus.prefix();
    let (agent, token) = match subject::parse_agent_ingress(prefix, &incoming.subject) {
        Some((agent, method)) => (agent, method),
        None => ("", incoming.subject.rsplit('.').next().unwrap_or_default()),
    };
    let Some(method) = Method::from_token(token) else {
        let message = format!(
            "the subject's method is {token:?}, expected generate, embed, translate, transcribe or speak"
        );
        return Err(Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("subject"));
    };
    let mut asking = match method {
        Method::Generate => Asking::Generate(decode(&incoming, "llm.v1.GenerateRequest")?),
        Method::Embed => Asking::Embed(decode(&incoming, "llm.v1.EmbedRequest")?),
        Method::Translate => Asking::Translate(decode(&incoming, "llm.v1.TranslateRequest")?),
        Method::Transcribe => Asking::Transcribe(decode(&incoming, "llm.v1.TranscribeRequest")?),
        Method::Speak => Asking::Speak(decode(&incoming, "llm.v1.SpeakRequest")?),
    };
    if let Asking::Transcribe(request) = &mut asking
        && let Some(v1::transcribe_request::Audio::Stored(stored)) = &mut request.audio
        && stored.machine.is_empty()
    {
        // the executor may be another machine's
        coordinator.bus.machine().as_str().clone_into(&mut stored.machine);
    }
    let (request_id, named) = match &mut asking {
        Asking::Generate(request) => (&mut request.request_id, &mut request.agent),
        Asking::Embed(request) => (&mut request.request_id, &mut request.agent),
        Asking::Translate(request) => (&mut request.request_id, &mut request.agent),
        Asking::Transcribe(request) => (&mut request.request_id, &mut request.agent),
        Asking::Speak(request) => (&mut request.request_id, &mut request.agent),
    };
    if request_id.is_empty() {
        *request_id = new_request_id();
    }
    id.clone_from(request_id);
    *named = one_agent(agent, named)?;
    Ok(Asked { headers: incoming.headers, ..Asked::new(asking, "nats", at, visitor)? })
}

fn decode<M: Message + Default>(incoming: &Incoming, expected: &str) -> Result<M, Fault> {
    M::decode(incoming.payload.clone()).map_err(|error| {
        let message =
            format!("the payload has {} bytes that are no {expected}: {error}", incoming.payload.len());
        Fault::invalid("payload", message)
    })
}

/// The frames of one answer, numbered.
struct Answer<'a> {
    coordinator: &'a Coordinator,
    reply: String,
    id: String,
    seq: u64,
}

impl Answer<'_> {
    async fn tell(&mut self, event: Event, names: &Names) {
        let kind = match event {
            Event::Accepted(decision) => {
                let deployment = decision
                    .candidates
                    .first()
                    .map(|first| first.deployment.id.to_string())
                    .unwrap_or_default();
                let mut decision = v1::Decision::from(&*decision);
                decision.agent.clone_from(&names.agent);
                decision.requested_model.clone_from(&names.model);
                Kind::Accepted(v1::Accepted { decision: Some(decision), deployment })
            }
            Event::Delta(delta) => Kind::Delta(delta),
            Event::Heartbeat(heartbeat) => Kind::Heartbeat(heartbeat),
            Event::End(end) => Kind::End(*end),
            Event::Error(fault) => Kind::Error(fault.into()),
        };
        self.send(kind).await;
    }

    async fn send(&mut self, kind: Kind) {
        let frame = v1::ReplyFrame { request_id: self.id.clone(), seq: self.seq, kind: Some(kind) };
        let mut sent = self.coordinator.bus.reply(&self.reply, &frame).await;
        if let Err(error @ PublishError::TooLarge { .. }) = sent {
            let kind = Some(Kind::Error(Fault::from(error).into()));
            let frame = v1::ReplyFrame { request_id: self.id.clone(), seq: self.seq, kind };
            sent = self.coordinator.bus.reply(&self.reply, &frame).await;
        }
        match sent {
            Ok(()) => self.seq += 1,
            Err(error) => tracing::warn!(%error, request_id = %self.id, "frame not sent"),
        }
    }
}
