//! Typed publishing, calling and serving.

use std::time::Duration;

use async_nats::{HeaderMap, Subscriber, client::RequestErrorKind};
use bytes::Bytes;
use domain::fault::{Code, Fault, Origin};
use futures::StreamExt;
use prost::Message;
use wire::{
    subject::{Call, Subject},
    v1,
};

use crate::{Bus, ReplyStream};

/// A server that is there answers in well under a millisecond.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Larger than the server takes; refused before it was sent.
    #[error("the message has {bytes} bytes, the bus takes at most {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The server's bound.
        max: usize,
    },
    /// The connection is closed for good.
    #[error("the bus is closed: {0}")]
    Closed(String),
}

impl From<PublishError> for Fault {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooLarge { .. } => {
                Self::new(Code::PayloadTooLarge, Origin::Caller, false, error.to_string())
            }
            PublishError::Closed(_) => Self::internal(error.to_string()),
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The request could not be sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Nobody listens on the subject.
    #[error("nobody answers on {0}")]
    NoResponders(String),
    /// The server did not let the request through.
    #[error("the nats server does not let these credentials publish to {0}")]
    Denied(String),
    /// Nobody answered in time.
    #[error("no answer on {subject} within {timeout:?}")]
    Timeout {
        /// Where.
        subject: String,
        /// How long.
        timeout: Duration,
    },
    /// The answer is not what the subject promises.
    #[error("the answer on {subject} does not decode: {source}")]
    Decode {
        /// Where.
        subject: String,
        /// Why.
        source: prost::DecodeError,
    },
}

/// A message that somebody sent us.
#[derive(Debug)]
pub struct Incoming {
    /// Where it was published.
    pub subject: String,
    /// Where the answer goes, if one is wanted.
    pub reply: Option<String>,
    /// The payload.
    pub payload: Bytes,
    /// Headers; `None` is no header at all.
    pub headers: Option<HeaderMap>,
}

impl From<async_nats::Message> for Incoming {
    fn from(message: async_nats::Message) -> Self {
        Self {
            subject: message.subject.into_string(),
            reply: message.reply.map(async_nats::Subject::into_string),
            payload: message.payload,
            headers: message.headers,
        }
    }
}

impl Bus {
    /// Publishes to a subject's name.
    ///
    /// # Errors
    /// [`PublishError`]; an unreachable server is not an error, the message waits in the client's buffer.
    pub async fn publish<S: Subject>(&self, subject: &S, message: &S::Message) -> Result<(), PublishError> {
        self.publish_bytes(subject.name(&self.0.prefix), message.encode_to_vec().into()).await
    }

    /// Answers an [`Incoming`] on its reply subject.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn reply(&self, reply: &str, message: &impl Message) -> Result<(), PublishError> {
        self.publish_bytes(reply.to_owned(), message.encode_to_vec().into()).await
    }

    pub(crate) async fn publish_bytes(&self, subject: String, payload: Bytes) -> Result<(), PublishError> {
        self.check_size(payload.len())?;
        let sent = self.0.client.publish(subject, payload).await;
        sent.map_err(|error| PublishError::Closed(error.to_string()))
    }

    fn check_size(&self, bytes: usize) -> Result<(), PublishError> {
        let max = self.max_payload();
        if bytes > max { Err(PublishError::TooLarge { bytes, max }) } else { Ok(()) }
    }

    /// Calls and waits for the one answer.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<C: Call>(&self, subject: &C, request: &C::Message) -> Result<C::Reply, CallError> {
        self.call_within(subject, request, self.0.request_timeout).await
    }

    /// [`Bus::call`] with its own time limit.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call_within<C: Call>(
        &self,
        subject: &C,
        request: &C::Message,
        timeout: Duration,
    ) -> Result<C::Reply, CallError> {
        let name = subject.name(&self.0.prefix);
        let payload: Bytes = request.encode_to_vec().into();
        self.check_size(payload.len())?;
        let request = async_nats::Request::new().payload(payload).timeout(Some(timeout));
        let mut denial = self.0.denials.watch(name.clone());
        let answer = tokio::select! {
            biased;
            answer = self.0.client.send_request(name.clone(), request) => answer,
            _ = denial.denied() => return Err(CallError::Denied(name)),
        };
        let reply = match answer {
            Ok(reply) => reply,
            Err(error) => {
                return Err(match error.kind() {
                    RequestErrorKind::NoResponders => CallError::NoResponders(name),
                    RequestErrorKind::TimedOut => CallError::Timeout { subject: name, timeout },
                    _ => CallError::Publish(PublishError::Closed(error.to_string())),
                });
            }
        };
        C::Reply::decode(reply.payload).map_err(|source| CallError::Decode { subject: name, source })
    }

    /// Calls and reads the answer frame by frame.
    ///
    /// # Errors
    /// [`PublishError`]; that nobody listens shows in the stream.
    pub async fn open<C>(&self, subject: &C, request: &C::Message) -> Result<ReplyStream, PublishError>
    where
        C: Call<Reply = v1::ReplyFrame>,
    {
        self.open_with_headers(subject, request, crate::trace::headers()).await
    }

    /// [`Bus::open`] with headers (trace context, key).
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn open_with_headers<C>(
        &self,
        subject: &C,
        request: &C::Message,
        headers: HeaderMap,
    ) -> Result<ReplyStream, PublishError>
    where
        C: Call<Reply = v1::ReplyFrame>,
    {
        let payload: Bytes = request.encode_to_vec().into();
        self.check_size(payload.len())?;
        let name = subject.name(&self.0.prefix);
        let stream = self.0.replies.open(name.clone());
        let reply = stream.subject().to_owned();
        let client = &self.0.client;
        let sent = if headers.is_empty() {
            client.publish_with_reply(name, reply, payload).await
        } else {
            client.publish_with_reply_and_headers(name, reply, headers, payload).await
        };
        sent.map_err(|error| PublishError::Closed(error.to_string()))?;
        Ok(stream)
    }

    /// Subscribes; with a queue, each message goes to one member. Active on the server when this returns.
    ///
    /// # Errors
    /// [`PublishError::Closed`].
    pub async fn subscribe(
        &self,
        pattern: String,
        queue: Option<&str>,
    ) -> Result<impl futures::Stream<Item = Incoming> + Send + Unpin + use<>, PublishError> {
        let closed = |error: &dyn std::fmt::Display| PublishError::Closed(error.to_string());
        let client = &self.0.client;
        let subscriber: Subscriber = match queue {
            Some(queue) => client.queue_subscribe(pattern, queue.to_owned()).await,
            None => client.subscribe(pattern).await,
        }
        .map_err(|error| closed(&error))?;
        self.settle().await?;
        Ok(subscriber.map(Incoming::from))
    }

    /// Waits until the server has done what this connection asked for so far. A flush only empties our own buffer: the server
    /// may still answer somebody else's request with "no responders". Commands of a connection are handled in order, so a
    /// message to ourselves that comes back tells. A server that is away is not waited for: it gets the subscriptions again
    /// before anything else when it is back.
    async fn settle(&self) -> Result<(), PublishError> {
        let mut echo = self.0.replies.open(String::new());
        self.publish_bytes(echo.subject().to_owned(), Bytes::new()).await?;
        drop(echo.next(SETTLE_MAX).await);
        Ok(())
    }

    /// Hands a request on to another subject; its answer goes straight to `reply`.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn forward<C: Call>(
        &self,
        subject: &C,
        request: &C::Message,
        reply: &str,
    ) -> Result<(), PublishError> {
        let payload: Bytes = request.encode_to_vec().into();
        self.check_size(payload.len())?;
        let sent =
            self.0.client.publish_with_reply(subject.name(&self.0.prefix), reply.to_owned(), payload).await;
        sent.map_err(|error| PublishError::Closed(error.to_string()))
    }
}
