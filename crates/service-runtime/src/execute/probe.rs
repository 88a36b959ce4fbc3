//! `--health-check`: what a container's health check runs, so that the image needs no HTTP client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// Longest time for each of connecting, asking, and waiting for the next part of the answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// More than any readiness report; the rest of a longer answer is not read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Asks `/readyz` of the service that listens on `listen`.
///
/// # Errors
/// Nobody answers, or the answer is not 200: the error names what is not ready.
pub(super) fn ready(listen: SocketAddr) -> anyhow::Result<()> {
    let addr = SocketAddr::new(reachable(listen.ip()), listen.port());
    let answer = ask(addr).with_context(|| format!("not ready: no answer from {addr}"))?;
    let status = answer.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(());
    }
    bail!(
        "not ready: {}",
        reason(&answer).unwrap_or_else(|| format!("{addr} answered with status {status:?}"))
    )
}

/// A service that listens everywhere is asked on the loopback.
fn reachable(listen: IpAddr) -> IpAddr {
    match listen {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn ask(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The components that are not ready, from the report in the answer.
fn reason(answer: &str) -> Option<String> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let report: serde_json::Value = serde_json::from_str(body).ok()?;
    let waiting: Vec<String> = report
        .get("components")?
        .as_array()?
        .iter()
        .filter(|component| component.get("ready").and_then(serde_json::Value::as_bool) != Some(true))
        .map(|component| {
            let text = |key| component.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
            format!("{}: {}", text("name"), text("detail"))
        })
        .collect();
    (!waiting.is_empty()).then(|| waiting.join(", "))
}

#[cfg(test)]
mod tests;
