//! Waits until every service says that it takes work, and shows what is missing until then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::children::Children;
use super::log::Log;
use super::plan::{Plan, Service};
use crate::output::{Output, Style};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(50);
/// For one answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// For a connection to an address that should be free.
const CONNECT_MAX: Duration = Duration::from_millis(300);

/// What `/readyz` answers.
#[derive(Debug, Deserialize)]
struct Report {
    ready: bool,
    components: Vec<Component>,
}

#[derive(Debug, Deserialize)]
struct Component {
    name: String,
    ready: bool,
    detail: String,
}

/// How far a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Ready,
    /// What is missing, for people.
    Waiting(String),
}

/// Refuses to start over something that runs already.
///
/// # Errors
/// An address that a service would listen on answers.
pub(super) async fn check_free(plan: &Plan) -> anyhow::Result<()> {
    for service in &plan.services {
        let admin = reachable(service.admin);
        let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(admin)).await;
        if matches!(connected, Ok(Ok(_))) {
            bail!(
                "{}.admin_listen is {admin}, where something listens already; is the system running?",
                service.name
            );
        }
    }
    Ok(())
}

/// Waits for all of them.
///
/// # Errors
/// Some are not ready at the deadline, or one was given up; the message says for each what is missing and what it wrote
/// last.
pub(super) async fn wait(
    plan: &Plan,
    children: &mut Children,
    log: &Log,
    output: &Output,
    deadline: Instant,
) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(ANSWER_MAX).no_proxy().build()?;
    let mut states: Vec<State> = vec![State::Waiting("starting".to_owned()); plan.services.len()];
    loop {
        let looks = plan.services.iter().map(|service| look(&client, service));
        let found = tokio::select! {
            found = futures::future::join_all(looks) => found,
            failed = children.failed() => {
                bail!("{failed}; its last lines:\n  {}", failed.last_lines.join("\n  "))
            }
        };
        if found != states {
            report(plan, &states, &found, log, output);
            states = found;
        }
        if states.iter().all(|state| *state == State::Ready) {
            log.board(Vec::new());
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!(summary(plan, &states, children));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// A terminal has a board of all; elsewhere each change is a line.
fn report(plan: &Plan, before: &[State], now: &[State], log: &Log, output: &Output) {
    if output.out_is_terminal {
        log.board(board(plan, now, output.out));
        return;
    }
    for ((service, before), now) in plan.services.iter().zip(before).zip(now) {
        match now {
            State::Ready if before != now => log.say(&format!("{} is ready", service.name)),
            State::Waiting(what) if before != now => log.say(&format!("{} waits: {what}", service.name)),
            State::Ready | State::Waiting(_) => {}
        }
    }
}

fn board(plan: &Plan, states: &[State], style: Style) -> Vec<String> {
    let width = plan.services.iter().map(|service| service.name.len()).max().unwrap_or(0);
    let line = |(service, state): (&Service, &State)| match state {
        State::Ready => format!("{} {:<width$}", style.green("✓"), service.name),
        State::Waiting(what) => format!("… {:<width$}  {what}", service.name),
    };
    plan.services.iter().zip(states).map(line).collect()
}

fn summary(plan: &Plan, states: &[State], children: &Children) -> String {
    let mut text = "not everything got ready in time:".to_owned();
    for (service, state) in plan.services.iter().zip(states) {
        let State::Waiting(what) = state else { continue };
        text.push_str(&format!("\n{}: {what}", service.name));
        for line in children.last_lines(service.name) {
            text.push_str(&format!("\n  {line}"));
        }
    }
    text
}

async fn look(client: &reqwest::Client, service: &Service) -> State {
    let url = format!("http://{}/readyz", reachable(service.admin));
    let report = async { client.get(url).send().await?.json::<Report>().await };
    match report.await {
        Ok(report) if report.ready => State::Ready,
        Ok(report) => State::Waiting(missing(&report)),
        Err(error) if error.is_connect() => State::Waiting("starting".to_owned()),
        Err(error) => State::Waiting(format!("/readyz: {error}")),
    }
}

fn missing(report: &Report) -> String {
    let waiting = report.components.iter().filter(|component| !component.ready);
    waiting
        .map(|component| format!("{}: {}", component.name, component.detail))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A service that listens everywhere is asked on the loopback.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let report: Report = serde_json::from_str(
            r#"{"ready":false,"components":[{"name":"bus","ready":true,"detail":""},
               {"name":"model","ready":false,"detail":"loading"}]}"#,
        )
        .unwrap();
        assert_eq!(missing(&report), "model: loading");
    }

    #[test]
    fn a_service_that_listens_everywhere_is_asked_on_the_loopback() {
        assert_eq!(reachable(([0, 0, 0, 0], 7071).into()), ([127, 0, 0, 1], 7071).into());
        assert_eq!(reachable(([192, 168, 1, 2], 7071).into()), ([192, 168, 1, 2], 7071).into());
    }
}
