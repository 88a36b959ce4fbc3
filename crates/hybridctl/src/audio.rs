//! `hybridctl transcribe` and `hybridctl speak`: one request with or for audio over the bus.

mod speak;
mod transcribe;

use std::time::Duration;

use async_nats::HeaderMap;
use bus::{ReplyStream, StreamError};
use domain::fault::{Code, Fault, Origin};
use domain::id::{AgentName, RequestId};
use domain::units::Money;
use tokio::signal::unix::{SignalKind, signal};
use wire::subject::{self, Call, service};
use wire::v1::{self, DeltaItem, reply_frame::Kind};

use crate::output::Output;
use crate::target::{Connection, System, Target};

pub(crate) use speak::{Options as Speak, run as speak};
pub(crate) use transcribe::{Options as Transcribe, run as transcribe};

/// A coordinator sends a heartbeat each second: one that is silent for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// As shells report a program that a signal ended: 128 and its number.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Who asks, and of whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Asker {
    /// Agent that asks: decides where it may run
    #[arg(short, long, value_name = "NAME")]
    agent: Option<String>,
    /// Model, alias or deployment; without it placement decides
    #[arg(short, long, value_name = "NAME")]
    model: Option<String>,
    /// Never leave the owner's machines
    #[arg(long)]
    private: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

impl Asker {
    fn agent(&self) -> Result<Option<AgentName>, Fault> {
        self.agent.as_deref().map(AgentName::new).transpose().map_err(Fault::from)
    }

    fn profile(&self) -> Option<v1::TaskProfile> {
        let privacy = v1::Privacy::LocalOnly.into();
        self.private.then(|| v1::TaskProfile { privacy, ..v1::TaskProfile::default() })
    }
}

/// Milliseconds of the caller's own limit; 0 = the coordinator's.
fn deadline_ms(system: &System) -> u64 {
    system.timeout.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// How a request ended.
enum Ended {
    Answered(Box<v1::End>),
    /// By a signal, with the exit code.
    GivenUp(u8),
}

/// Asks, and hands the pieces on in order. What is given up is cancelled.
async fn ask<C>(
    connection: &Connection,
    system: &System,
    subject: &C,
    request: (&str, &C::Message),
    mut pieces: impl FnMut(Vec<DeltaItem>) -> anyhow::Result<()>,
) -> anyhow::Result<Ended>
where
    C: Call<Reply = v1::ReplyFrame>,
{
    let (id, message) = request;
    let mut headers = HeaderMap::new();
    if let Some(authorization) = system.authorization() {
        headers.insert("Authorization", authorization);
    }
    let bus = &connection.bus;
    let mut frames = bus.open_with_headers(subject, message, headers).await.map_err(Fault::from)?;
    let mut terminated = signal(SignalKind::terminate())?;
    let ended = tokio::select! {
        read = read(&mut frames, &mut pieces) => read,
        _ = tokio::signal::ctrl_c() => Ok(Ended::GivenUp(INTERRUPTED)),
        _ = terminated.recv() => Ok(Ended::GivenUp(TERMINATED)),
    };
    if matches!(&ended, Err(Stop::Bus(StreamError::NoResponders))) {
        return Err(connection.nobody(&subject.name(bus.prefix()), service::REQUEST_COORDINATOR));
    }
    if !matches!(&ended, Ok(Ended::Answered(_)) | Err(Stop::Refused(_))) {
        bus.publish(&subject::Cancel(RequestId::new(id)?), &()).await?;
    }
    ended.map_err(Stop::into_error)
}

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Refused(Fault),
    #[error("the answer broke off: {0}")]
    Bus(StreamError),
    #[error(transparent)]
    Own(anyhow::Error),
}

impl Stop {
    fn into_error(self) -> anyhow::Error {
        match self {
            Self::Refused(fault) => fault.into(),
            Self::Own(error) => error,
            Self::Bus(error) => {
                let code =
                    if matches!(error, StreamError::Silent(_)) { Code::Timeout } else { Code::Internal };
                Fault::new(code, Origin::Internal, true, format!("the answer broke off: {error}")).into()
            }
        }
    }
}

async fn read(
    frames: &mut ReplyStream,
    pieces: &mut impl FnMut(Vec<DeltaItem>) -> anyhow::Result<()>,
) -> Result<Ended, Stop> {
    loop {
        match frames.next(SILENCE_MAX).await.map_err(Stop::Bus)?.kind {
            Some(Kind::Delta(delta)) => pieces(delta.items).map_err(Stop::Own)?,
            Some(Kind::End(mut end)) => {
                pieces(end.last_delta.take().unwrap_or_default().items).map_err(Stop::Own)?;
                return Ok(Ended::Answered(Box::new(end)));
            }
            Some(Kind::Error(error)) => return Err(Stop::Refused(error.into())),
            Some(Kind::Accepted(_) | Kind::Heartbeat(_)) | None => {}
        }
    }
}

/// Who answered, what it cost, how long it took.
fn summary(output: &Output, end: &v1::End, used: &str) {
    let cost = Money::picodollars(end.request_cost_picodollars);
    let tier = wire::convert::tier(end.tier).map_or("unknown", domain::routing::Tier::as_str);
    let line = format!("{tier} · {} · {cost} · {} ms · {used}", end.deployment, end.total_ms);
    output.note(&output.err.dim(&line));
}
