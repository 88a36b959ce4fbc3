//! The configuration of one system: the repository's `config/hybrid.toml` with what belongs to the test put in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use toml::{Table, Value, toml};
use wire::subject::service;

use super::{CHEAP, EMBEDDING, FRONTIER, Options, PROVIDER_KEY};
use crate::{Nats, port, workspace};

/// The name of the OpenAI-compatible interface among the [`Ports`].
pub(super) const API: &str = "api";
/// Names of the providers, in the order of their prices.
const PROVIDERS: [&str; 2] = ["upstream", "backup"];

/// Where everything listens, and what callers show there.
#[derive(Debug)]
pub(super) struct Ports {
    numbers: BTreeMap<&'static str, u16>,
    pub(super) keys: Vec<String>,
    _block: port::Block,
}

impl Ports {
    pub(super) fn new(block: port::Block, keys: Vec<String>) -> Self {
        let numbers = service::ALL.into_iter().chain([API]).zip(block.all()).collect();
        Self { numbers, keys, _block: block }
    }

    fn listen(&self, name: &str) -> String {
        format!("127.0.0.1:{}", self.numbers.get(name).copied().unwrap_or_default())
    }

    pub(super) fn url(&self, name: &str) -> String {
        format!("http://{}", self.listen(name))
    }
}

/// Writes the file.
pub(super) fn write(
    folder: &Path,
    nats: &Nats,
    providers: &[String],
    ports: &Ports,
    options: &Options,
) -> anyhow::Result<PathBuf> {
    let shipped = workspace::root().join("config/hybrid.toml");
    let text = fs::read_to_string(&shipped).with_context(|| format!("cannot read {}", shipped.display()))?;
    let mut root = Value::Table(text.parse().context("the shipped configuration is no TOML")?);
    // the repository's own keys are none of a test's
    if let Some(bus) = root.get_mut("bus").and_then(Value::as_table_mut) {
        bus.remove("credentials_dir");
    }
    let mut set = |key: &str, value: Value| put(&mut root, key, value);
    set("node.machine", options.machine.into())?;
    set("bus.peers", options.peers.iter().copied().map(Value::from).collect::<Vec<_>>().into())?;
    set("node.data_dir", path(&folder.join("state"))?)?;
    set("bus.url", nats.url().into())?;
    if let Some(credentials) = nats.credentials() {
        set("bus.credentials_dir", path(&credentials)?)?;
    }
    for name in service::ALL {
        set(&format!("{name}.admin_listen"), ports.listen(name).into())?;
    }
    set("request-coordinator.listen", ports.listen(API).into())?;
    let keys = options.api_keys.iter().enumerate();
    let keys = keys.map(|(index, key)| secret(folder, &format!("caller-{index}"), key));
    set("request-coordinator.api_keys", Value::Array(keys.collect::<anyhow::Result<_>>()?))?;
    let key = secret(folder, "provider", PROVIDER_KEY)?;
    let listed = PROVIDERS.into_iter().zip(providers).enumerate();
    let listed = listed.map(|(place, (name, url))| provider(name, url, key.clone(), place, options.audio));
    set("remote-api-adapter.providers", Value::Array(listed.collect()))?;
    set(
        "metrics-forwarder.hub_url",
        format!("{}/api/v1/write", ports.url(service::OBSERVABILITY_HUB)).into(),
    )?;
    // As often as is allowed: a test waits for the first scrapes.
    set("metrics-forwarder.scrape_interval_ms", 500.into())?;
    set("metrics-forwarder.scrape_timeout_ms", 400.into())?;
    let targets = service::ALL.into_iter().map(|name| {
        let mut target = Table::new();
        target.insert("job".to_owned(), name.into());
        target.insert("url".to_owned(), format!("{}/metrics", ports.url(name)).into());
        Value::Table(target)
    });
    set("metrics-forwarder.targets", Value::Array(targets.collect()))?;
    for (index, (key, value)) in options.secrets.iter().enumerate() {
        set(key, secret(folder, &format!("more-{index}"), value)?)?;
    }
    for (key, value) in &options.set {
        set(key, value.clone())?;
    }
    let file = folder.join("hybrid.toml");
    let text = toml::to_string(&root).context("cannot write the configuration as TOML")?;
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// A provider with the models of [`crate::FakeUpstream`], each dearer than at the one before.
fn provider(name: &str, url: &str, key: Value, place: usize, audio: bool) -> Value {
    let dollars = |millionths: i64| {
        let price = millionths * (place as i64 + 1);
        Value::String(format!("{}.{:06}", price / 1_000_000, price % 1_000_000))
    };
    let writes = |model: &str, input, cached, output| {
        let mut deployment = toml! {
            context_length = 128_000
            slots = 64
            capabilities = ["generate", "tools", "vision", "json_schema"]
        };
        deployment.insert("model".to_owned(), model.into());
        let mut price = Table::new();
        price.insert("input_per_million".to_owned(), dollars(input));
        price.insert("cached_input_per_million".to_owned(), dollars(cached));
        price.insert("output_per_million".to_owned(), dollars(output));
        deployment.insert("price".to_owned(), Value::Table(price));
        Value::Table(deployment)
    };
    let mut embeds = toml! {
        context_length = 8_191
        slots = 64
        capabilities = ["embed"]
    };
    embeds.insert("model".to_owned(), EMBEDDING.into());
    let mut price = Table::new();
    price.insert("input_per_million".to_owned(), dollars(20_000));
    embeds.insert("price".to_owned(), Value::Table(price));

    // No probes: tests count what arrives.
    let mut provider = toml! {
        kind = "openai"
        allow_private = true
        health_interval_s = 0
    };
    provider.insert("name".to_owned(), name.into());
    provider.insert("base_url".to_owned(), url.into());
    provider.insert("api_key".to_owned(), key);
    let mut deployments = vec![
        writes(CHEAP, 150_000, 75_000, 600_000),
        writes(FRONTIER, 2_500_000, 1_250_000, 10_000_000),
        Value::Table(embeds),
    ];
    if audio {
        deployments.extend(hears_and_speaks(place));
    }
    provider.insert("deployments".to_owned(), Value::Array(deployments));
    Value::Table(provider)
}

/// The models of [`super::AUDIO`], at OpenAI's prices, each dearer than at the one before.
fn hears_and_speaks(place: usize) -> [Value; 4] {
    let dollars = |cents: usize| format!("{}.{:02}", cents * (place + 1) / 100, cents * (place + 1) % 100);
    let deployment = |model: &str, capability: &str, prices: &[(&str, usize)]| {
        let mut deployment = toml! { context_length = 16_000 };
        deployment.insert("model".to_owned(), model.into());
        deployment.insert("capabilities".to_owned(), Value::Array(vec![capability.into()]));
        let prices = prices.iter().map(|(name, cents)| ((*name).to_owned(), dollars(*cents).into()));
        deployment.insert("price".to_owned(), Value::Table(prices.collect()));
        Value::Table(deployment)
    };
    let [whisper, transcribe, tts, speech] = super::AUDIO;
    let heard = [("input_per_million", 125), ("audio_input_per_million", 300), ("output_per_million", 500)];
    [
        deployment(whisper, "transcribe", &[("audio_per_hour", 36)]),
        deployment(transcribe, "transcribe", &heard),
        deployment(tts, "speak", &[("characters_per_million", 1_500)]),
        deployment(speech, "speak", &[("input_per_million", 60), ("audio_output_per_million", 1_200)]),
    ]
}

/// `{ file = "…" }` of a file that holds `value`.
fn secret(folder: &Path, name: &str, value: &str) -> anyhow::Result<Value> {
    let file = folder.join(format!("{name}.secret"));
    fs::write(&file, value).with_context(|| format!("cannot write {}", file.display()))?;
    let mut table = Table::new();
    table.insert("file".to_owned(), path(&file)?);
    Ok(Value::Table(table))
}

fn path(path: &Path) -> anyhow::Result<Value> {
    Ok(path.to_str().context("the temporary folder's name is no text")?.into())
}

/// Sets `key`, in which tables and places of arrays are separated by dots, creating the tables on the way.
fn put(root: &mut Value, key: &str, value: Value) -> anyhow::Result<()> {
    let mut place = root;
    for step in key.split('.') {
        place = match place {
            Value::Table(table) => table.entry(step).or_insert_with(|| Value::Table(Table::new())),
            Value::Array(array) => {
                let found = step.parse::<usize>().ok().and_then(|index| array.get_mut(index));
                found.with_context(|| format!("{step} of {key} is no place of the array"))?
            }
            _ => bail!("{step} of {key} is inside a value"),
        };
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reaches_into_arrays_and_makes_tables() {
        let mut root: Value = toml! { a = [{ b = 1 }] }.into();
        put(&mut root, "a.0.c.d", 2.into()).unwrap();
        assert_eq!(root, toml! { a = [{ b = 1, c = { d = 2 } }] }.into());
        assert!(put(&mut root, "a.1.b", 2.into()).is_err());
        assert!(put(&mut root, "a.0.b.c", 2.into()).is_err());
    }
}
