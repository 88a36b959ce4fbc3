//! One connection to the machine's server, shared by everything in a process.

use std::{io, sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, Event, jetstream};
use domain::id::{InvalidName, NodeId};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use wire::{
    permission::inbox,
    subject::{InvalidPrefix, Prefix},
};

use crate::{
    Settings,
    credentials::{Credentials, CredentialsError},
    denial::Denials,
    replies::ReplyMux,
};

/// Messages a subscription may hold before the server's are dropped. Frames are small; the reply demultiplexer empties its
/// subscription at once, so this bounds only a burst.
const SUBSCRIPTION_CAPACITY: usize = 65_536;
/// A server that is starting answers within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between tries of the first connection.
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between tries of a lost connection.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Longest that each half of a close waits for the server.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Why the bus cannot be used at all. An unreachable server is none of these: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The prefix cannot stand in a subject.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    /// The machine's name cannot stand in a subject.
    #[error(transparent)]
    Machine(#[from] InvalidName),
    /// The address is none.
    #[error("bus.url is {url:?}, expected nats://host:port: {reason}")]
    Url {
        /// What was configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration names credentials that are not there.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The server knows no such key.
    #[error("the server at {url} refused the credentials: {reason}")]
    Refused {
        /// The server.
        url: String,
        /// Its words.
        reason: String,
    },
    /// The process is to stop before the server was reached.
    #[error("stopped while waiting for the server at {0}")]
    Stopped(String),
}

/// A connection with its process's identity. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) prefix: Prefix,
    pub(crate) machine: NodeId,
    pub(crate) service: &'static str,
    pub(crate) instance: String,
    pub(crate) peers: Vec<NodeId>,
    pub(crate) request_timeout: Duration,
    pub(crate) replies: ReplyMux,
    pub(crate) denials: Denials,
    pub(crate) tasks: TaskTracker,
    pub(crate) closing: CancellationToken,
}

impl Bus {
    /// Connects, waiting for the server as long as `stop` allows; services start in any order. `service` is the name of the
    /// user whose credentials are shown (see `wire::permission::User`) and under whose inbox answers arrive.
    ///
    /// # Errors
    /// [`ConnectError`]: wrong settings, refused credentials, or stopped.
    pub async fn connect(
        settings: &Settings,
        service: &'static str,
        instance: &str,
        machine: &str,
        stop: &CancellationToken,
    ) -> Result<Self, ConnectError> {
        let prefix = Prefix::new(&settings.prefix)?;
        let machine = NodeId::new(machine)?;
        let peers: Result<Vec<_>, _> = settings.peers.iter().map(NodeId::new).collect();
        let server: async_nats::ServerAddr = settings.url.parse().map_err(|error: io::Error| {
            ConnectError::Url { url: settings.url.clone(), reason: error.to_string() }
        })?;
        let credentials = Credentials::of(settings, service);
        credentials.as_ref().map_or(Ok(()), Credentials::check)?;
        let denials = Denials::new();

        let mut told = false;
        let client = loop {
            match options(credentials.clone(), &denials, service, instance).connect(server.clone()).await {
                Ok(client) => break client,
                Err(error)
                    if matches!(
                        error.kind(),
                        async_nats::ConnectErrorKind::Authentication
                            | async_nats::ConnectErrorKind::AuthorizationViolation
                    ) =>
                {
                    return Err(ConnectError::Refused {
                        url: settings.url.clone(),
                        reason: error.to_string(),
                    });
                }
                Err(error) if !told => {
                    told = true;
                    info!(url = %settings.url, %error, "waiting for the nats server");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(CONNECT_PAUSE) => {}
                () = stop.cancelled() => return Err(ConnectError::Stopped(settings.url.clone())),
            }
        };
        let tasks = TaskTracker::new();
        let closing = CancellationToken::new();
        let replies = ReplyMux::start(&client, &denials, &tasks, &closing)
            .await
            .map_err(|error| ConnectError::Url { url: settings.url.clone(), reason: error.to_string() })?;
        info!(url = %settings.url, %machine, "connected to the bus");
        Ok(Self(Arc::new(Inner {
            client,
            prefix,
            machine,
            service,
            instance: instance.to_owned(),
            peers: peers?,
            request_timeout: Duration::from_millis(settings.request_timeout_ms),
            replies,
            denials,
            tasks,
            closing,
        })))
    }

    /// The machine this process runs on.
    #[must_use]
    pub fn machine(&self) -> &NodeId {
        &self.0.machine
    }

    /// The service this process is.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.0.service
    }

    /// Unique for each process start.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// First token of the product's subjects.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.0.prefix
    }

    /// Whether the server is there now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.client.connection_state() == async_nats::connection::State::Connected
    }

    /// The largest payload the server takes, bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.0.client.max_payload()
    }

    /// JetStream of the machine's own server.
    #[must_use]
    pub fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.0.client.clone())
    }

    /// Sends what is buffered and closes; called last. With the server away that takes [`CLOSE_MAX`].
    pub async fn close(&self) {
        match tokio::time::timeout(CLOSE_MAX, self.0.client.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "flush on close failed"),
            Err(_) => warn!("the server is away: what was not sent is lost"),
        }
        self.0.closing.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        match tokio::time::timeout(CLOSE_MAX, self.0.client.drain()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => warn!(%error, "drain on close failed"),
        }
    }
}

fn options(
    credentials: Option<Credentials>,
    denials: &Denials,
    service: &'static str,
    instance: &str,
) -> ConnectOptions {
    let denials = denials.clone();
    let options = credentials.map_or_else(ConnectOptions::new, |credentials| {
        ConnectOptions::with_auth_callback(move |nonce| {
            let signed = credentials.sign(&nonce);
            async move { signed }
        })
    });
    options
        .name(format!("{service}-{instance}"))
        .connection_timeout(CONNECT_TIMEOUT)
        .custom_inbox_prefix(inbox(service))
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .ignore_discovered_servers()
        .reconnect_delay_callback(|attempt| {
            let pause = Duration::from_millis(25).saturating_mul(u32::try_from(attempt).unwrap_or(u32::MAX));
            pause.min(RECONNECT_PAUSE_MAX)
        })
        .event_callback(move |event| {
            tell(&denials, service, &event);
            async {}
        })
}

fn tell(denials: &Denials, service: &'static str, event: &Event) {
    match event {
        Event::SlowConsumer(subscription) => {
            warn!(subscription, "messages dropped: a subscription is full");
        }
        Event::ServerError(error) if denials.heard(service, &error.to_string()) => {}
        Event::ServerError(error) => warn!(%error, "the nats server refused something"),
        Event::ClientError(error) => warn!(%error, "nats client error"),
        other => info!(event = %other, "bus"),
    }
}
