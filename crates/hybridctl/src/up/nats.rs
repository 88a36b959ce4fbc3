//! The machine's nats-server: the one that answers already, or one that is started here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;

use super::Options;
use super::children::Children;
use super::credentials;
use super::keep::Program;
use super::log::Log;
use super::plan::Plan;

/// As it stands in the log.
pub(super) const NAME: &str = "nats-server";
/// 2.9 refuses the configuration, 2.11 is the first with all that the streams use.
const VERSION_MIN: (u64, u64) = (2, 11);
/// Where `make setup` puts it.
const OWN: &str = ".tools/bin/nats-server";
/// A start with a large store recovers it first.
const START_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(20);
/// For a connection and for the server's first line.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Longer than any first line.
const INFO_BYTES_MAX: u64 = 64 * 1024;

/// What a server says first.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Info {
    version: String,
    #[serde(default)]
    jetstream: bool,
    /// JetStream's; each machine's bears its name.
    #[serde(default)]
    domain: String,
}

/// Makes sure that a server answers where the services will look for it.
///
/// # Errors
/// There is no usable nats-server, or something else has its port.
pub(super) async fn start(
    options: &Options,
    plan: &Plan,
    log: &Log,
    children: &mut Children,
) -> anyhow::Result<()> {
    let (host, port) = host_and_port(&plan.nats_url)?;
    if let Some(info) = ask(&host, port).await? {
        check(&info, &plan.nats_url)?;
        log.say(&format!("a nats-server {} answers at {}, using it", info.version, plan.nats_url));
        if info.domain != plan.machine {
            log.say(&format!(
                "its JetStream domain is {:?}, {:?} was expected: other machines will not find it",
                info.domain, plan.machine
            ));
        }
        return Ok(());
    }
    if !is_loopback(&host) {
        bail!("no nats-server answers at {}, and bus.url is not this machine's own", plan.nats_url);
    }
    let program = program(options, plan, log, port).await?;
    log.say(&format!("starting {} on port {port}", program.executable.display()));
    children.start(program);
    let answers = async {
        loop {
            if let Some(info) = ask(&host, port).await? {
                return check(&info, &plan.nats_url);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        answers = tokio::time::timeout(START_MAX, answers) => answers
            .with_context(|| format!("nats-server does not answer after {START_MAX:?}"))?,
        failed = children.failed() => {
            bail!("{failed}; its last lines:\n  {}", failed.last_lines.join("\n  "))
        }
    }
}

/// The server's first line; `None` when nobody listens.
async fn ask(host: &str, port: u16) -> anyhow::Result<Option<Info>> {
    let stream = match tokio::time::timeout(ANSWER_MAX, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) | Err(_) => return Ok(None),
    };
    let mut line = String::new();
    let mut reader = BufReader::new(stream).take(INFO_BYTES_MAX);
    let read = tokio::time::timeout(ANSWER_MAX, reader.read_line(&mut line)).await;
    match read {
        // it may be about to listen, or about to end
        Ok(Err(_) | Ok(0)) => Ok(None),
        Ok(Ok(_)) => {
            parse(&line).map(Some).with_context(|| format!("what listens on {host}:{port} is no nats-server"))
        }
        Err(_) => bail!("what listens on {host}:{port} is no nats-server"),
    }
}

fn parse(line: &str) -> anyhow::Result<Info> {
    let json = line.strip_prefix("INFO ").context("its first line is no INFO")?;
    Ok(serde_json::from_str(json)?)
}

fn check(info: &Info, url: &str) -> anyhow::Result<()> {
    if !recent_enough(&info.version) {
        bail!("the nats-server at {url} is {}, 2.11 or newer is needed", info.version);
    }
    if !info.jetstream {
        bail!("the nats-server at {url} runs without JetStream; start it with docker/nats/local.conf");
    }
    Ok(())
}

fn recent_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split(['.', '-']).map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= VERSION_MIN,
        _ => false,
    }
}

async fn program(options: &Options, plan: &Plan, log: &Log, port: u16) -> anyhow::Result<Program> {
    let executable = executable(options).await?;
    let mut config = options.nats_config.clone();
    if !config.is_file() {
        bail!(
            "there is no {}; run this in the repository's folder or name the file with --nats-config",
            config.display()
        );
    }
    let store = plan.data_dir.join("nats");
    std::fs::create_dir_all(&store).with_context(|| format!("cannot make {}", store.display()))?;
    match &plan.credentials {
        Some(folder) => {
            let accounts = credentials::users(folder, &plan.machine, &plan.prefix)?;
            let shipped = std::path::absolute(&config).context("there is no working directory")?;
            config = plan.data_dir.join("nats.conf");
            let text = credentials::with_users(&shipped, &plan.data_dir, &accounts)?;
            std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        }
        None => {
            log.say("bus.credentials_dir is not set: everybody on this machine may do everything on the bus")
        }
    }
    let arguments = ["-c".into(), config.into_os_string(), "--port".into(), port.to_string().into()];
    Ok(Program {
        name: NAME,
        executable,
        arguments: Vec::<OsString>::from(arguments),
        // Lame duck: it lets its clients go before it ends, so that orphaned services can still finish what they do.
        when_orphaned: Signal::USR2,
        environment: vec![
            ("HYBRID_MACHINE", quoted(&plan.machine)?),
            ("NATS_STORE_DIR", quoted(store.to_str().context("node.data_dir is not UTF-8")?)?),
        ],
    })
}

/// nats-server parses what it takes from the environment as configuration, so a text needs quotes of its own.
fn quoted(text: &str) -> anyhow::Result<String> {
    if text.contains(['"', '\\', '\n']) {
        bail!("{text:?} holds a quote, a backslash or a line break, which nats-server cannot take");
    }
    Ok(format!("\"{text}\""))
}

async fn executable(options: &Options) -> anyhow::Result<PathBuf> {
    let (candidates, wanted) = match &options.nats_server {
        Some(path) => (vec![path.clone()], path.display().to_string()),
        None => (vec![PathBuf::from(OWN), PathBuf::from(NAME)], format!("{OWN} or {NAME} on PATH")),
    };
    let mut seen = Vec::new();
    for candidate in candidates {
        match version_of(&candidate).await {
            Some(version) if recent_enough(&version) => return Ok(candidate),
            Some(version) => seen.push(format!("{} is {version}", candidate.display())),
            None => {}
        }
    }
    if seen.is_empty() {
        bail!("there is no {wanted}; `make setup` fetches it");
    }
    bail!("nats-server 2.11 or newer is needed: {}; `make setup` fetches one", seen.join(", "))
}

async fn version_of(executable: &Path) -> Option<String> {
    let mut command = tokio::process::Command::new(executable);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(10), command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.trim().strip_prefix("nats-server: ")?.to_owned())
}

/// Host and port of `nats://[user@]host[:port]`.
pub(super) fn host_and_port(url: &str) -> anyhow::Result<(String, u16)> {
    let wrong = || format!("bus.url is {url:?}, expected nats://host:port");
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest).trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().with_context(wrong)?),
        None => (rest, 4222),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || port == 0 {
        bail!(wrong());
    }
    Ok((host.to_owned(), port))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_that_of_the_url() {
        for (url, host, port) in [
            ("nats://127.0.0.1:4222", "127.0.0.1", 4222),
            ("nats://[redacted]@localhost:7/", "localhost", 7),
            ("nats://[::1]:8", "::1", 8),
            ("nats://hub", "hub", 4222),
        ] {
            assert_eq!(host_and_port(url).unwrap(), (host.to_owned(), port));
        }
        for bad in ["nats://127.0.0.1:0", "nats://:4222", "nats://a:b"] {
            assert!(host_and_port(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for good in ["2.11.0", "v2.15.1", "2.12.0-RC.1", "3.0.0"] {
            assert!(recent_enough(good), "{good}");
        }
        for bad in ["2.9.24", "v2.10.27", "1.99.0", "", "2", "x.y"] {
            assert!(!recent_enough(bad), "{bad}");
        }
    }

    #[test]
    fn a_first_line_that_is_not_a_servers_is_refused() {
        let info = parse("INFO {\"version\":\"2.15.1\",\"jetstream\":true,\"port\":4222}\r\n").unwrap();
        assert_eq!(info, Info { version: "2.15.1".to_owned(), jetstream: true, domain: String::new() });
        assert!(parse("HTTP/1.1 400 Bad Request\r\n").is_err());
        assert!(parse("INFO nothing").is_err());
    }

    #[test]
    fn a_path_that_nats_server_would_misread_is_refused() {
        assert_eq!(quoted("/a b/store").unwrap(), "\"/a b/store\"");
        assert!(quoted("/a\"b").is_err());
    }
}
