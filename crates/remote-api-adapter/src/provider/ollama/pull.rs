//! Fetching models that a server lacks.
//!
//! A fetch belongs to the server, not to a request: whoever asks for a model that is being fetched watches the same fetch,
//! and it goes on when they leave. The next request then finds the model there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::fault::{Code, Fault, Origin};
use reqwest::Url;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{sync::watch, time::Instant};
use tokio_util::task::TaskTracker;

use super::{client::meaning, side::Side};
use crate::provider::{lines::Lines, openai::error::Words, sse::TooLong};

/// Fetches at once; a server has one connection to the library anyway.
const PULLS_MAX: usize = 4;
/// Silence in the middle of a fetch: checking the sum of a large file takes minutes.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// How far a fetch is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Progress {
    Percent(u32),
    Done,
    Failed(Box<Fault>),
}

/// The fetches of one server.
#[derive(Debug)]
pub(super) struct Pulls {
    side: Arc<Side>,
    address: Url,
    under_way: Arc<Mutex<HashMap<String, watch::Receiver<Progress>>>>,
    tasks: TaskTracker,
}

impl Pulls {
    pub(super) fn new(side: Arc<Side>, address: Url) -> Self {
        Self { side, address, under_way: Arc::default(), tasks: TaskTracker::new() }
    }

    /// Fetches a model, or watches the fetch that is under way.
    ///
    /// # Errors
    /// `Busy`: too many at once.
    pub(super) fn start(&self, model: &str) -> Result<watch::Receiver<Progress>, Fault> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = under_way.get(model) {
            return Ok(progress.clone());
        }
        if under_way.len() >= PULLS_MAX {
            let message = format!("{} fetches {PULLS_MAX} other models, expected fewer", self.side.name);
            return Err(Fault::new(Code::Busy, Origin::Local, true, message));
        }
        let (tell, progress) = watch::channel(Progress::Percent(0));
        under_way.insert(model.to_owned(), progress.clone());
        let (side, address, model) = (Arc::clone(&self.side), self.address.clone(), model.to_owned());
        let list = Arc::clone(&self.under_way);
        self.tasks.spawn(async move {
            tracing::info!(provider = %side.name, %model, "fetching a model");
            let outcome = fetch(&side, address, &model, &tell).await;
            list.lock().unwrap_or_else(PoisonError::into_inner).remove(&model);
            match &outcome {
                Ok(()) => tracing::info!(provider = %side.name, %model, "fetched a model"),
                Err(fault) => {
                    tracing::warn!(provider = %side.name, %model, %fault, "a model could not be fetched")
                }
            }
            tell.send_replace(match outcome {
                Ok(()) => Progress::Done,
                Err(fault) => Progress::Failed(Box::new(fault)),
            });
        });
        Ok(progress)
    }
}

async fn fetch(side: &Side, address: Url, model: &str, tell: &watch::Sender<Progress>) -> Result<(), Fault> {
    let body = serde_json::json!({ "model": model, "stream": true }).to_string();
    let mut body = side.begin(address, body, SILENCE_MAX).await?;
    let mut log = Log::new(&side.name);
    loop {
        let Some(bytes) = body.read(Instant::now() + SILENCE_MAX, "more of the model").await? else {
            log.end()?;
            return Ok(());
        };
        log.feed(&bytes)?;
        if log.succeeded {
            return Ok(());
        }
        let percent = Progress::Percent(log.percent());
        tell.send_if_modified(|told| {
            let changed = *told != percent;
            *told = percent;
            changed
        });
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    status: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    total: u64,
    #[serde(default)]
    completed: u64,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// What the server says of one fetch. Pure.
#[derive(Debug)]
struct Log {
    provider: String,
    lines: Lines,
    /// Bytes of each layer: here, in all.
    layers: BTreeMap<String, (u64, u64)>,
    succeeded: bool,
}

enum Broken {
    TooLong,
    Fault(Fault),
}

impl From<TooLong> for Broken {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

impl Log {
    fn new(provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            lines: Lines::default(),
            layers: BTreeMap::new(),
            succeeded: false,
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Self { provider, lines, layers, succeeded } = self;
        let mut take = |line: &[u8]| take(provider, layers, succeeded, line).map_err(Broken::Fault);
        let fed = lines.feed(bytes, &mut take);
        fed.map_err(|broken| match broken {
            Broken::Fault(fault) => fault,
            Broken::TooLong => {
                Fault::new(Code::Upstream, Origin::Provider, true, format!("{provider}: {TooLong}"))
            }
        })
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.feed(b"\n")?;
        if self.succeeded {
            return Ok(());
        }
        let message = format!("{} broke the fetch of a model off", self.provider);
        Err(Fault::new(Code::Upstream, Origin::Provider, true, message))
    }

    /// Of the layers that are known.
    fn percent(&self) -> u32 {
        let (here, all) = self
            .layers
            .values()
            .fold((0u64, 0u64), |sum, layer| (sum.0.saturating_add(layer.0), sum.1.saturating_add(layer.1)));
        let percent = here.saturating_mul(100).checked_div(all).unwrap_or(0);
        u32::try_from(percent.min(99)).unwrap_or(0)
    }
}

/// Layers of one model; more are some other server's joke.
const LAYERS_MAX: usize = 256;

fn take(
    provider: &str,
    layers: &mut BTreeMap<String, (u64, u64)>,
    succeeded: &mut bool,
    line: &[u8],
) -> Result<(), Fault> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| {
        let message = format!("{provider} sent progress that does not parse ({:?} error)", error.classify());
        Fault::new(Code::Upstream, Origin::Provider, true, message)
    })?;
    if let Some(error) = line.error {
        return Err(meaning(provider, &Words::of_error(error.get()), None, None).fault);
    }
    *succeeded |= line.status == "success";
    if !line.digest.is_empty() && (layers.len() < LAYERS_MAX || layers.contains_key(&line.digest)) {
        layers.insert(line.digest, (line.completed, line.total));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"{\"status\":\"pulling manifest\"}\n\
        {\"status\":\"pulling a\",\"digest\":\"sha256:a\",\"total\":300,\"completed\":100}\n\
        {\"status\":\"pulling b\",\"digest\":\"sha256:b\",\"total\":100,\"completed\":100}\n\
        {\"status\":\"verifying sha256 digest\"}\n{\"status\":\"success\"}\n";

    #[test]
    fn progress_is_that_of_all_layers() {
        let mut log = Log::new("lab");
        let verifying = LOG.windows(9).position(|window| window == b"verifying").unwrap();
        let (start, rest) = LOG.split_at(verifying);
        log.feed(start).unwrap();
        assert_eq!((log.percent(), log.succeeded), (50, false));
        log.feed(rest).unwrap();
        assert!(log.succeeded && log.end().is_ok());
    }

    #[test]
    fn only_success_is_the_end() {
        let end = LOG.len() - b"{\"status\":\"success\"}\n".len();
        for k in 0..=end {
            let mut log = Log::new("lab");
            log.feed(&LOG[..k]).unwrap();
            assert!(!log.succeeded && log.end().is_err(), "cut after {k} bytes");
        }
    }

    #[test]
    fn an_error_of_the_library_is_the_servers() {
        let fault =
            Log::new("lab").feed(b"{\"error\":\"pull model manifest: file does not exist\"}\n").unwrap_err();
        assert_eq!(fault.code, Code::Upstream);
        assert!(fault.message.contains("file does not exist"), "{fault}");
    }
}
