//! A caller on the bus that knows nothing but the contract: subjects, messages, frames.

use anyhow::{Context as _, bail, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::{Client, HeaderMap, StatusCode, Subscriber};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use wire::subject::{self, Call, Prefix, Subject};
use wire::v1::{self, reply_frame::Kind};

use super::PATIENCE;

/// Somebody who asks over NATS.
#[derive(Debug, Clone)]
pub struct Caller {
    client: Client,
    /// For what is not a request to a model: flags, budgets, streams.
    operator: Client,
    key: Option<String>,
}

/// An answer that is still coming.
#[derive(Debug)]
pub struct Streaming {
    replies: Subscriber,
    frames: Vec<v1::ReplyFrame>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Every frame, in order.
    pub frames: Vec<v1::ReplyFrame>,
}

/// A question in one message of the user, with greedy sampling.
#[must_use]
pub fn question(text: &str) -> v1::GenerateRequest {
    let part = v1::content_part::Part::Text(text.to_owned());
    v1::GenerateRequest {
        messages: vec![v1::Message {
            role: v1::Role::User.into(),
            content: vec![v1::ContentPart { part: Some(part), extra_json: String::new() }],
            ..v1::Message::default()
        }],
        sampling: Some(v1::Sampling { temperature: Some(0.0), ..v1::Sampling::default() }),
        ..v1::GenerateRequest::default()
    }
}

impl Caller {
    pub(super) fn new(client: Client, operator: Client, key: Option<String>) -> Self {
        Self { client, operator, key }
    }

    /// The same with another key, or with none.
    #[must_use]
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    /// Publishes a request and reads the answer frame by frame.
    ///
    /// # Errors
    /// The bus does not take it.
    pub async fn open<C>(&self, at: &C, request: &C::Message) -> anyhow::Result<Streaming>
    where
        C: Call<Reply = v1::ReplyFrame>,
    {
        self.open_bytes(&at.name(&Prefix::default()), request.encode_to_vec()).await
    }

    /// [`Caller::open`] with any subject and any payload.
    ///
    /// # Errors
    /// The bus does not take it.
    pub async fn open_bytes(&self, subject: &str, payload: impl Into<Bytes>) -> anyhow::Result<Streaming> {
        let inbox = self.client.new_inbox();
        let replies = self.client.subscribe(inbox.clone()).await.context("cannot subscribe")?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.key {
            headers.insert("Authorization", format!("Bearer {key}"));
        }
        let client = &self.client;
        let sent =
            client.publish_with_reply_and_headers(subject.to_owned(), inbox, headers, payload.into()).await;
        sent.with_context(|| format!("cannot publish to {subject}"))?;
        client.flush().await.context("cannot flush")?;
        Ok(Streaming { replies, frames: Vec::new() })
    }

    /// Publishes a request and waits for the whole answer.
    ///
    /// # Errors
    /// The answer does not keep to the contract, or nothing comes.
    pub async fn ask<C>(&self, at: &C, request: &C::Message) -> anyhow::Result<Reply>
    where
        C: Call<Reply = v1::ReplyFrame>,
    {
        self.open(at, request).await?.rest().await
    }

    /// [`Caller::ask`] to generate.
    ///
    /// # Errors
    /// See [`Caller::ask`].
    pub async fn generate(&self, request: &v1::GenerateRequest) -> anyhow::Result<Reply> {
        self.ask(&subject::Generate, request).await
    }

    /// A call with one answer.
    ///
    /// # Errors
    /// Nobody answers, or something that does not decode.
    pub async fn call<C: Call>(&self, at: &C, request: &C::Message) -> anyhow::Result<C::Reply> {
        let name = at.name(&Prefix::default());
        let asked = self.operator.request(name.clone(), request.encode_to_vec().into());
        let reply = asked.await.with_context(|| format!("no answer on {name}"))?;
        C::Reply::decode(reply.payload).with_context(|| format!("the answer on {name} does not decode"))
    }

    /// Publishes a message that nobody answers.
    ///
    /// # Errors
    /// The bus does not take it.
    pub async fn publish<S: Subject>(&self, at: &S, message: &S::Message) -> anyhow::Result<()> {
        let name = at.name(&Prefix::default());
        self.client.publish(name, message.encode_to_vec().into()).await.context("cannot publish")?;
        self.client.flush().await.context("cannot flush")
    }

    /// Every event that the ledger's stream keeps, oldest first.
    ///
    /// # Errors
    /// There is no such stream, or a message in it does not decode.
    pub async fn ledger_stream(&self) -> anyhow::Result<Vec<v1::UsageEvent>> {
        let jetstream = async_nats::jetstream::new(self.operator.clone());
        let mut stream = jetstream.get_stream(subject::USAGE_STREAM).await.context("no usage stream")?;
        let kept = stream.info().await.context("the usage stream does not answer")?.state.messages;
        let config = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
        let consumer = stream.create_consumer(config).await.context("cannot read the usage stream")?;
        let kept = usize::try_from(kept).context("more messages than fit")?;
        let mut messages =
            consumer.fetch().max_messages(kept.max(1)).messages().await.context("cannot fetch")?;
        let mut events = Vec::new();
        while let Some(message) = messages.try_next().await.map_err(|error| anyhow::anyhow!(error))? {
            events.extend(v1::UsageBatch::decode(message.payload.clone())?.events);
        }
        Ok(events)
    }
}

impl Streaming {
    /// The next frame.
    ///
    /// # Errors
    /// Nobody listens, nothing comes for a minute, a number is missing, or something that is no frame.
    pub async fn next(&mut self) -> anyhow::Result<&v1::ReplyFrame> {
        let expected = self.frames.len() as u64;
        let message = tokio::time::timeout(PATIENCE, self.replies.next()).await;
        let message = message.with_context(|| format!("no frame {expected} within {PATIENCE:?}"))?;
        let message = message.context("the bus ended the subscription")?;
        ensure!(message.status != Some(StatusCode::NO_RESPONDERS), "nobody listens on the subject");
        let frame = v1::ReplyFrame::decode(message.payload).context("not a frame")?;
        ensure!(frame.seq == expected, "frame {} came where {expected} was due", frame.seq);
        self.frames.push(frame);
        self.frames.last().context("no frame")
    }

    /// Reads up to the first frame that `select` accepts.
    ///
    /// # Errors
    /// See [`Streaming::next`]; also when the answer ends before.
    pub async fn until<T>(&mut self, mut select: impl FnMut(&Kind) -> Option<T>) -> anyhow::Result<T> {
        loop {
            let frame = self.next().await?;
            let kind = frame.kind.as_ref().context("a frame without a kind")?;
            if let Some(value) = select(kind) {
                return Ok(value);
            }
            if matches!(kind, Kind::End(_) | Kind::Error(_)) {
                bail!("the answer ended before: {kind:?}");
            }
        }
    }

    /// Everything up to the end or the error.
    ///
    /// # Errors
    /// See [`Streaming::next`].
    pub async fn rest(mut self) -> anyhow::Result<Reply> {
        let over = |frame: &v1::ReplyFrame| matches!(frame.kind, Some(Kind::End(_) | Kind::Error(_)));
        while !self.frames.last().is_some_and(over) {
            self.next().await?;
        }
        Ok(Reply { frames: self.frames })
    }

    /// The request's id, as the frames so far repeat it.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.frames.first().map_or("", |frame| frame.request_id.as_str())
    }
}

impl Reply {
    /// The text of all pieces, those in the last frame included.
    #[must_use]
    pub fn text(&self) -> String {
        let pieces = self.frames.iter().filter_map(|frame| match &frame.kind {
            Some(Kind::Delta(delta)) => Some(delta),
            Some(Kind::End(end)) => end.last_delta.as_ref(),
            _ => None,
        });
        pieces.flat_map(|delta| &delta.items).map(|item| item.text.as_str()).collect()
    }

    /// All audio, put together.
    #[must_use]
    pub fn audio(&self) -> Vec<u8> {
        let pieces = self.frames.iter().filter_map(|frame| match &frame.kind {
            Some(Kind::Delta(delta)) => Some(delta),
            Some(Kind::End(end)) => end.last_delta.as_ref(),
            _ => None,
        });
        pieces.flat_map(|delta| &delta.items).flat_map(|item| item.audio.iter().copied()).collect()
    }

    /// The end of a success.
    ///
    /// # Errors
    /// The answer ended with an error, which the message shows.
    pub fn end(&self) -> anyhow::Result<&v1::End> {
        match self.frames.last().and_then(|frame| frame.kind.as_ref()) {
            Some(Kind::End(end)) => Ok(end),
            other => bail!("the answer ended with {other:?}"),
        }
    }

    /// The error at the end.
    ///
    /// # Errors
    /// The answer is a success.
    pub fn error(&self) -> anyhow::Result<&v1::Error> {
        match self.frames.last().and_then(|frame| frame.kind.as_ref()) {
            Some(Kind::Error(error)) => Ok(error),
            other => bail!("the answer ended with {other:?} and text {:?}", self.text()),
        }
    }

    /// What was decided.
    ///
    /// # Errors
    /// There is no such frame.
    pub fn decision(&self) -> anyhow::Result<&v1::Decision> {
        let accepted = self.frames.iter().find_map(|frame| match &frame.kind {
            Some(Kind::Accepted(accepted)) => accepted.decision.as_ref(),
            _ => None,
        });
        accepted.context("no frame says what was decided")
    }

    /// The request's id, as every frame repeats it.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.frames.first().map_or("", |frame| frame.request_id.as_str())
    }
}
