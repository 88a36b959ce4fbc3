//! `hybridctl ask`: one request over the bus, its answer as it comes.

mod answer;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use async_nats::HeaderMap;
use bus::{ReplyStream, StreamError};
use domain::fault::{Code, Fault, Origin};
use domain::id::RequestId;
use tokio::time::Instant;
use wire::subject::{self, Call, service};
use wire::v1::{self, reply_frame::Kind};

use crate::output::Output;
use crate::question::Question;
use crate::target::{Connection, System, Target};
use answer::Answer;
use show::Show;

/// A coordinator sends a heartbeat each second: one that is silent for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// As shells report a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    question: Question,
    /// For programs: the answer, its cost and the decision as JSON, at the end
    #[arg(long)]
    pub(crate) json: bool,
    /// Have the whole answer sent at once
    #[arg(long)]
    no_stream: bool,
    /// Also say why it ran where it ran
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// How reading ended.
enum Ended {
    Answered(Box<v1::End>),
    Refused(Fault),
    /// Ctrl-C, or nobody reads the answer any more.
    GivenUp,
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let mut request = options.question.request()?;
    let agent = options.question.agent()?;
    request.stream = !options.no_stream;
    request.deadline_ms =
        system.timeout.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let id = RequestId::new(request.request_id.as_str())?;
    let mut headers = HeaderMap::new();
    if let Some(authorization) = system.authorization() {
        headers.insert("Authorization", authorization);
    }

    let connection = system.connect().await?;
    let mut show = Show::new(output, options.json, options.verbose);
    let mut answer = Answer::default();
    let begun = Instant::now();
    let ended = match agent {
        Some(agent) => {
            let subject = subject::AgentGenerate(agent);
            ask(&connection, &subject, &request, headers, &mut answer, &mut show).await
        }
        None => ask(&connection, &subject::Generate, &request, headers, &mut answer, &mut show).await,
    };
    show.end_of_answer(&answer);
    let outcome = match ended? {
        Ended::Answered(end) => {
            show.summary(id.as_str(), *end, answer, begun.elapsed())?;
            Ok(ExitCode::SUCCESS)
        }
        Ended::Refused(fault) => {
            show.refused(answer);
            Err(fault.into())
        }
        Ended::GivenUp => {
            // Sent before the connection closes, which waits for what is on its way.
            connection.bus.publish(&subject::Cancel(id), &()).await?;
            output.note(&output.err.dim("cancelled"));
            Ok(ExitCode::from(INTERRUPTED))
        }
    };
    connection.close().await;
    outcome
}

async fn ask<C>(
    connection: &Connection,
    subject: &C,
    request: &C::Message,
    headers: HeaderMap,
    answer: &mut Answer,
    show: &mut Show<'_>,
) -> anyhow::Result<Ended>
where
    C: Call<Reply = v1::ReplyFrame>,
{
    let opened = connection.bus.open_with_headers(subject, request, headers).await;
    let mut frames = match opened {
        Ok(frames) => frames,
        Err(error) => return Ok(Ended::Refused(error.into())),
    };
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    tokio::select! {
        ended = read(&mut frames, answer, show) => ended.map_err(|error| match error {
            StreamError::NoResponders => {
                connection.nobody(&subject.name(connection.bus.prefix()), service::REQUEST_COORDINATOR)
            }
            error => broken(&error).into(),
        }),
        _ = &mut interrupted => Ok(Ended::GivenUp),
    }
}

/// Reads frames to the last one.
async fn read(
    frames: &mut ReplyStream,
    answer: &mut Answer,
    show: &mut Show<'_>,
) -> Result<Ended, StreamError> {
    loop {
        match frames.next(SILENCE_MAX).await?.kind {
            Some(Kind::Accepted(accepted)) => answer.decision = accepted.decision,
            Some(Kind::Heartbeat(heartbeat)) => show.phase(&heartbeat),
            Some(Kind::Delta(delta)) => {
                if !show.delta(&delta) {
                    return Ok(Ended::GivenUp);
                }
                answer.add(delta);
            }
            Some(Kind::End(mut end)) => {
                if let Some(last) = end.last_delta.take() {
                    show.delta(&last);
                    answer.add(last);
                }
                return Ok(Ended::Answered(Box::new(end)));
            }
            Some(Kind::Error(error)) => return Ok(Ended::Refused(error.into())),
            None => {}
        }
    }
}

fn broken(error: &StreamError) -> Fault {
    let code = if matches!(error, StreamError::Silent(_)) { Code::Timeout } else { Code::Internal };
    Fault::new(code, Origin::Internal, true, format!("the answer broke off: {error}"))
}
