//! What is to be started, as the services themselves read the configuration (`--dump-config`): defaults, file,
//! environment and flags then mean here what they mean there, and a mistake shows before anything runs.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use wire::subject::service;

use super::Options;
use super::keep::Program;
use crate::target;

/// Longest time for a service to say what it would run with.
const DUMP_TIMEOUT: Duration = Duration::from_secs(20);

/// Everything that `up` needs to know.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order in which they are started.
    pub(super) services: Vec<Service>,
    pub(super) machine: String,
    pub(super) data_dir: PathBuf,
    pub(super) nats_url: String,
    pub(super) prefix: String,
    /// Folder of the users' seeds; none = the bus is open to everybody on this machine.
    pub(super) credentials: Option<PathBuf>,
    /// Time a service takes at most for its own shutdown.
    pub(super) stop_deadline: Duration,
    /// Where the OpenAI-compatible interface listens; none when its service is left out.
    pub(super) api: Option<SocketAddr>,
    /// Whether callers have to show a key.
    pub(super) keys: bool,
    /// Where the hub's page is.
    pub(super) page: Option<SocketAddr>,
}

/// One service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) executable: PathBuf,
    /// Where `/readyz` is.
    pub(super) admin: SocketAddr,
    arguments: Vec<OsString>,
    settings: toml::Table,
}

impl Plan {
    pub(super) async fn read(options: &Options, config: Option<&PathBuf>) -> anyhow::Result<Self> {
        let names = names(&options.no_services)?;
        let folder = match &options.bin_dir {
            Some(folder) => folder.clone(),
            None => own_folder()?,
        };
        let missing: Vec<&str> = names.iter().copied().filter(|name| !folder.join(name).is_file()).collect();
        if !missing.is_empty() {
            bail!("not built in {}: {}; `make up` builds everything", folder.display(), missing.join(", "));
        }
        let arguments = arguments(options, config)?;
        let read = names.iter().map(|name| Service::read(name, folder.join(name), arguments.clone()));
        let services = futures::future::try_join_all(read).await?;
        let Some(first) = services.first() else { bail!("--no-services leaves nothing to start") };
        let deadline_ms = first.number(&["telemetry", "shutdown_deadline_ms"])?;
        let find = |name| services.iter().find(|service| service.name == name);
        let api = find(service::REQUEST_COORDINATOR)
            .map(|coordinator| coordinator.address(&[service::REQUEST_COORDINATOR, "listen"]))
            .transpose()?;
        let keys = find(service::REQUEST_COORDINATOR)
            .and_then(|coordinator| coordinator.value(&[service::REQUEST_COORDINATOR, "api_keys"]).ok())
            .and_then(toml::Value::as_array)
            .is_some_and(|keys| !keys.is_empty());
        Ok(Self {
            keys,
            machine: first.text(&["node", "machine"])?.to_owned(),
            data_dir: std::path::absolute(first.text(&["node", "data_dir"])?)
                .context("there is no working directory")?,
            nats_url: first.text(&["bus", "url"])?.to_owned(),
            prefix: first.text(&["bus", "prefix"])?.to_owned(),
            credentials: first.text(&["bus", "credentials_dir"]).ok().map(PathBuf::from),
            stop_deadline: Duration::from_millis(deadline_ms),
            api,
            page: find(service::OBSERVABILITY_HUB).map(|hub| hub.admin),
            services,
        })
    }

    /// Of everything that may write to the log.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.services.iter().map(|service| service.name)
    }
}

impl Service {
    async fn read(name: &'static str, executable: PathBuf, arguments: Vec<OsString>) -> anyhow::Result<Self> {
        let mut dump = tokio::process::Command::new(&executable);
        dump.args(&arguments).arg("--dump-config").kill_on_drop(true);
        super::keep::clean_environment(&mut dump);
        let output = tokio::time::timeout(DUMP_TIMEOUT, dump.output())
            .await
            .with_context(|| format!("{} --dump-config does not end", executable.display()))?
            .with_context(|| format!("cannot start {}", executable.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}", said.trim());
        }
        let settings: toml::Table = toml::from_str(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("{} --dump-config wrote no TOML", executable.display()))?;
        let mut service =
            Self { name, executable, admin: SocketAddr::from(([0, 0, 0, 0], 0)), arguments, settings };
        service.admin = service.address(&[name, "admin_listen"])?;
        if service.admin.port() == 0 {
            bail!("{name}.admin_listen is {}, expected a port other than 0", service.admin);
        }
        Ok(service)
    }

    pub(super) fn program(&self) -> Program {
        Program {
            name: self.name,
            executable: self.executable.clone(),
            arguments: self.arguments.clone(),
            environment: Vec::new(),
            when_orphaned: Signal::TERM,
        }
    }

    fn value(&self, path: &[&str]) -> anyhow::Result<&toml::Value> {
        let (last, sections) = path.split_last().context("an empty path")?;
        let mut table = Some(&self.settings);
        for section in sections {
            table = table.and_then(|table| table.get(*section)).and_then(toml::Value::as_table);
        }
        table.and_then(|table| table.get(*last)).with_context(|| {
            format!("{} --dump-config does not say {}", self.executable.display(), path.join("."))
        })
    }

    fn text(&self, path: &[&str]) -> anyhow::Result<&str> {
        self.value(path)?.as_str().with_context(|| format!("{} is no text", path.join(".")))
    }

    fn number(&self, path: &[&str]) -> anyhow::Result<u64> {
        let number = self.value(path)?.as_integer().and_then(|number| u64::try_from(number).ok());
        number.with_context(|| format!("{} is no count", path.join(".")))
    }

    fn address(&self, path: &[&str]) -> anyhow::Result<SocketAddr> {
        let text = self.text(path)?;
        text.parse().with_context(|| format!("{} is {text:?}, expected address:port", path.join(".")))
    }
}

fn names(without: &[String]) -> anyhow::Result<Vec<&'static str>> {
    if let Some(unknown) = without.iter().find(|name| !service::ALL.contains(&name.as_str())) {
        bail!("--no-services names {unknown:?}, expected some of {}", service::ALL.join(", "));
    }
    Ok(service::ALL.into_iter().filter(|name| !without.iter().any(|other| other == name)).collect())
}

fn own_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the running program")?;
    Ok(own.parent().unwrap_or(Path::new(".")).to_owned())
}

fn arguments(options: &Options, config: Option<&PathBuf>) -> anyhow::Result<Vec<OsString>> {
    let mut arguments = Vec::new();
    match target::config_file(config) {
        Some(file) if !file.is_file() => bail!("there is no configuration file {}", file.display()),
        Some(file) => arguments.extend([OsString::from("--config"), file.into_os_string()]),
        None => {}
    }
    // One log for people; a later --set still covers it.
    arguments.extend([OsString::from("--set"), OsString::from("telemetry.log_format=text")]);
    for set in &options.set {
        arguments.extend([OsString::from("--set"), OsString::from(set)]);
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_are_left_out_are_checked_and_keep_the_order_of_the_others() {
        let without = ["metrics-forwarder".to_owned(), "vram-optimizer".to_owned()];
        let left = names(&without).unwrap();
        assert_eq!(left.len(), service::ALL.len() - 2);
        assert_eq!(left.first(), Some(&service::OBSERVABILITY_HUB));
        let error = names(&["hub".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("\"hub\"") && error.contains("observability-hub"), "{error}");
    }
}
