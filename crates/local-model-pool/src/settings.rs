//! The configuration of the pool: what stands in the file ([`Raw`]), and what it means once checked ([`Config`]).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use domain::id::ModelName;
use domain::lifecycle::Policy;
use domain::routing::Tier;

use crate::models_dir::ModelFile;

/// Everything this service reads of a machine's configuration file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The connection to the machine's NATS server.
    pub bus: bus::Settings,
    /// This service's own section.
    #[serde(rename = "local-model-pool")]
    pub own: Raw,
}

/// The section `[local-model-pool]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// Address of health, readiness and metrics.
    pub admin_listen: SocketAddr,
    /// The folder with the model files. Nothing outside it is ever loaded.
    pub models_dir: PathBuf,
    /// How this machine's CPU counts for placement: `local-cpu` on the main machine, `fallback` on the second, `edge` on others.
    /// Models with `gpu_layers` on the main machine count as `local-gpu`.
    pub tier: TierName,
    /// Threads each model computes with; 0 = by its size: one for models of a few megabytes, else one less than there are cores.
    pub threads: u32,
    /// Seconds a model may take to load, 1 to 3,600.
    pub load_timeout_s: u64,
    /// Longest wait before a model that failed is tried again, seconds, 1 to 600.
    pub restart_delay_max_s: u64,
    /// Whether memory is leased from vram-optimizer before a model is loaded.
    pub vram_lease: bool,
    /// Disk for what unloaded models have read already, so that conversations go on where they were, MiB; 0 = nothing is kept.
    pub slots_on_disk_mib: u64,
    /// The program that runs models; none = this one. A build with the feature `cuda` or `vulkan` computes on GPUs.
    pub engine_program: Option<PathBuf>,
    /// What a busy core of this machine draws, watts, above 0 and up to 1,000: for the energy of requests that no GPU computes.
    /// Thermal design power by cores, as in 65 W / 8.
    pub core_watts: f64,
    /// Models that are loaded at once; 0 = as many as there is memory for.
    pub models_loaded_max: usize,
    /// Longest time that a request waits for its model while another one, which has to go for it, is busy. Seconds, 1 to
    /// 3,600.
    pub wait_max_s: u64,
    /// A preloaded model that had to go comes back when the others have been idle for so long. Seconds, 1 to 86,400.
    pub return_after_s: u64,
    /// The models of this machine.
    pub models: Vec<RawModel>,
    /// Set by the pool for the processes it starts: run this model and nothing else.
    pub engine: Option<String>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 7074)),
            models_dir: PathBuf::from("models"),
            tier: TierName::LocalCpu,
            threads: 0,
            load_timeout_s: 120,
            restart_delay_max_s: 30,
            vram_lease: true,
            slots_on_disk_mib: 1_024,
            engine_program: None,
            core_watts: 8.0,
            models_loaded_max: 0,
            wait_max_s: 30,
            return_after_s: 300,
            models: vec![],
            engine: None,
        }
    }
}

/// The names of tiers in the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TierName {
    /// The main machine.
    #[default]
    LocalCpu,
    /// The main machine, all models on its GPU.
    LocalGpu,
    /// The second machine.
    Fallback,
    /// Another machine on the network.
    Edge,
}

/// One entry of `[[local-model-pool.models]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawModel {
    /// The name callers use.
    pub name: String,
    /// The GGUF file, relative to `models_dir`.
    pub file: String,
    /// Tokens of prompt and answer, for each slot; 0 = what the model was trained for, at most 8,192.
    pub context_length: u32,
    /// Requests at once, 1 to 64. Memory grows with it.
    pub slots: u32,
    /// Layers on the GPU; 0 = none, more than the model has = all.
    pub gpu_layers: u32,
    /// Whether it answers with text.
    pub generate: bool,
    /// Whether it answers with vectors.
    pub embed: bool,
    /// Whether it is asked to translate. Sensible for models that know languages.
    pub translate: bool,
    /// Whether it is loaded at the start; otherwise with its first request.
    pub preload: bool,
    /// Whether it is loaded at the start and never unloaded, whatever needs the room.
    pub pin: bool,
    /// Seconds without a request after which it is unloaded; 0 = never.
    pub keep_alive_s: u64,
    /// Temperature where the caller gives none, 0 to 2.
    pub temperature: f32,
}

impl Default for RawModel {
    fn default() -> Self {
        Self {
            name: String::new(),
            file: String::new(),
            context_length: 0,
            slots: 4,
            gpu_layers: 0,
            generate: true,
            embed: false,
            translate: false,
            preload: true,
            pin: false,
            keep_alive_s: 0,
            temperature: 0.8,
        }
    }
}

/// A key whose value cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("local-model-pool.{key} is {value}, expected {expected}")]
pub struct SettingsError {
    /// The key within the section.
    pub key: String,
    /// What was found.
    pub value: String,
    /// What may stand there.
    pub expected: String,
}

fn wrong(key: impl Into<String>, value: impl std::fmt::Debug, expected: impl Into<String>) -> SettingsError {
    SettingsError { key: key.into(), value: format!("{value:?}"), expected: expected.into() }
}

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of health, readiness and metrics.
    pub admin_listen: SocketAddr,
    /// The folder with the model files.
    pub models_dir: PathBuf,
    /// Threads each model computes with; `None` = by its size.
    pub threads: Option<u32>,
    /// How long a model may take to load.
    pub load_timeout: Duration,
    /// Longest wait before a model that failed is tried again.
    pub restart_delay_max: Duration,
    /// Whether memory is leased before a model is loaded.
    pub vram_lease: bool,
    /// Disk for the slots of models that are not loaded; 0 = none are kept.
    pub slots_on_disk_bytes: u64,
    /// The program that runs models; `None` = this one.
    pub engine_program: Option<PathBuf>,
    /// What a busy core draws, milliwatts.
    pub core_milliwatts: u64,
    /// When models come and go.
    pub lifecycle: Policy,
    /// What models offered at run time are like where nothing else is said.
    pub tier: TierName,
    /// The models, with distinct names and executors.
    pub models: Vec<ModelConfig>,
}

/// The checked configuration of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The name callers use.
    pub name: ModelName,
    /// Last token of the subject its engine listens on.
    pub executor: String,
    /// Its file.
    pub file: ModelFile,
    /// Tokens for each slot; `None` = by the model.
    pub context_length: Option<u32>,
    /// Requests at once.
    pub slots: u32,
    /// Layers on the GPU.
    pub gpu_layers: u32,
    /// Whether it answers with text.
    pub generate: bool,
    /// Whether it answers with vectors.
    pub embed: bool,
    /// Whether it is asked to translate.
    pub translate: bool,
    /// Whether it is loaded at the start.
    pub preload: bool,
    /// Whether it is never unloaded.
    pub pinned: bool,
    /// It is not in the configuration: it was installed while the pool was running.
    pub installed: bool,
    /// The entry that all this was read from.
    pub entry: RawModel,
    /// Time without a request after which it is unloaded; `None` = never.
    pub keep_alive: Option<Duration>,
    /// Temperature where the caller gives none.
    pub temperature: f32,
    /// Where it stands in placement.
    pub tier: Tier,
}

impl TryFrom<Raw> for Config {
    type Error = SettingsError;

    fn try_from(raw: Raw) -> Result<Self, SettingsError> {
        let range = |key, value: u64, max: u64| {
            let seconds = (1..=max).contains(&value).then(|| Duration::from_secs(value));
            seconds.ok_or_else(|| wrong(key, value, format!("1 to {max} seconds")))
        };
        let mut models = vec![];
        let (mut names, mut executors) = (BTreeSet::new(), BTreeSet::new());
        for (index, model) in raw.models.iter().enumerate() {
            let key = |field: &str| format!("models[{index}].{field}");
            let model = ModelConfig::new(model, raw.tier, &key)?;
            if !names.insert(model.name.clone()) || !executors.insert(model.executor.clone()) {
                let expected =
                    "a name whose letters, digits, `-` and `_` differ from those of the other models";
                return Err(wrong(key("name"), model.name.as_str(), expected));
            }
            models.push(model);
        }
        if raw.threads > 1024 {
            return Err(wrong("threads", raw.threads, "0 to 1,024"));
        }
        let core_milliwatts = milliwatts(raw.core_watts)
            .ok_or_else(|| wrong("core_watts", raw.core_watts, "above 0, up to 1000 watts"))?;
        let lifecycle = Policy {
            resident_max: (raw.models_loaded_max > 0).then_some(raw.models_loaded_max),
            wait_max: range("wait_max_s", raw.wait_max_s, 3_600)?,
            return_after: range("return_after_s", raw.return_after_s, 86_400)?,
            ..Policy::default()
        };
        let pinned = raw.models.iter().filter(|model| model.pin).count();
        if lifecycle.resident_max.is_some_and(|max| pinned > max) {
            let expected = format!("at least {pinned}, the number of models with pin = true, or 0");
            return Err(wrong("models_loaded_max", raw.models_loaded_max, expected));
        }
        Ok(Self {
            core_milliwatts,
            admin_listen: raw.admin_listen,
            models_dir: raw.models_dir,
            threads: (raw.threads > 0).then_some(raw.threads),
            load_timeout: range("load_timeout_s", raw.load_timeout_s, 3_600)?,
            restart_delay_max: range("restart_delay_max_s", raw.restart_delay_max_s, 600)?,
            vram_lease: raw.vram_lease,
            slots_on_disk_bytes: raw.slots_on_disk_mib.saturating_mul(1 << 20),
            engine_program: raw.engine_program,
            lifecycle,
            tier: raw.tier,
            models,
        })
    }
}

impl ModelConfig {
    /// Checks an entry; `key` makes the name of a field in an error.
    ///
    /// # Errors
    /// [`SettingsError`] with the first field that cannot be used.
    pub fn new(raw: &RawModel, tier: TierName, key: &dyn Fn(&str) -> String) -> Result<Self, SettingsError> {
        let name = ModelName::new(&raw.name).map_err(|e| wrong(key("name"), &raw.name, e.expected))?;
        let file = ModelFile::new(&raw.file).ok_or_else(|| {
            wrong(key("file"), &raw.file, "a path like `folder/model.gguf` inside models_dir, without `..`")
        })?;
        if !(1..=64).contains(&raw.slots) {
            return Err(wrong(key("slots"), raw.slots, "1 to 64"));
        }
        if !(0.0..=2.0).contains(&raw.temperature) {
            return Err(wrong(key("temperature"), raw.temperature, "0 to 2"));
        }
        if !raw.generate && !raw.embed {
            return Err(wrong(key("generate"), false, "true, or embed = true"));
        }
        if raw.translate && !raw.generate {
            return Err(wrong(key("translate"), true, "false, or generate = true"));
        }
        Ok(Self {
            executor: executor(&name),
            name,
            file,
            context_length: (raw.context_length > 0).then_some(raw.context_length),
            slots: raw.slots,
            gpu_layers: raw.gpu_layers,
            generate: raw.generate,
            embed: raw.embed,
            translate: raw.translate,
            preload: raw.preload || raw.pin,
            pinned: raw.pin,
            installed: false,
            entry: raw.clone(),
            keep_alive: (raw.keep_alive_s > 0).then(|| Duration::from_secs(raw.keep_alive_s)),
            temperature: raw.temperature,
            tier: match tier {
                TierName::LocalCpu if raw.gpu_layers > 0 => Tier::LocalGpu,
                TierName::LocalCpu => Tier::LocalCpu,
                TierName::LocalGpu => Tier::LocalGpu,
                TierName::Fallback => Tier::Fallback,
                TierName::Edge => Tier::Edge,
            },
        })
    }
}

/// None for what no core draws.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
fn milliwatts(watts: f64) -> Option<u64> {
    (watts > 0.0 && watts <= 1_000.0).then_some((watts * 1_000.0) as u64)
}

/// The subject token of a model's engine: its name with everything else replaced by `-`, so that it can stand in a subject.
fn executor(name: &ModelName) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    format!("llama-{}", name.as_str().chars().map(safe).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(model: RawModel) -> Raw {
        Raw { models: vec![model], ..Raw::default() }
    }

    fn model(name: &str) -> RawModel {
        RawModel { name: name.to_owned(), file: "demo.gguf".to_owned(), ..RawModel::default() }
    }

    #[test]
    fn a_model_gets_a_token_that_can_stand_in_a_subject() {
        let config = Config::try_from(with(model("qwen/qwen2.5:7b"))).unwrap();
        assert_eq!(config.models[0].executor, "llama-qwen-qwen2-5-7b");
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_key() {
        let cases = [
            (RawModel { name: String::new(), ..model("a") }, "models[0].name"),
            (RawModel { name: "a b".to_owned(), ..model("a") }, "models[0].name"),
            (RawModel { file: "../demo.gguf".to_owned(), ..model("a") }, "models[0].file"),
            (RawModel { slots: 0, ..model("a") }, "models[0].slots"),
            (RawModel { slots: 65, ..model("a") }, "models[0].slots"),
            (RawModel { temperature: 2.1, ..model("a") }, "models[0].temperature"),
            (RawModel { temperature: f32::NAN, ..model("a") }, "models[0].temperature"),
            (RawModel { generate: false, ..model("a") }, "models[0].generate"),
            (RawModel { generate: false, embed: true, translate: true, ..model("a") }, "models[0].translate"),
        ];
        for (raw, key) in cases {
            let error = Config::try_from(with(raw)).unwrap_err();
            assert_eq!(error.key, key, "{error}");
        }
        assert_eq!(
            Config::try_from(Raw { load_timeout_s: 0, ..Raw::default() }).unwrap_err().key,
            "load_timeout_s"
        );
    }

    #[test]
    fn two_models_cannot_share_a_subject() {
        let raw = Raw { models: vec![model("a.b"), model("a:b")], ..Raw::default() };
        assert_eq!(Config::try_from(raw).unwrap_err().key, "models[1].name");
    }

    #[test]
    fn layers_on_the_gpu_make_it_the_gpu_tier_of_the_main_machine_only() {
        let on_gpu = RawModel { gpu_layers: 99, ..model("a") };
        let tier = |raw| Config::try_from(raw).unwrap().models[0].tier;
        assert_eq!(tier(with(model("a"))), Tier::LocalCpu);
        assert_eq!(tier(with(on_gpu.clone())), Tier::LocalGpu);
        assert_eq!(tier(Raw { tier: TierName::Fallback, ..with(on_gpu) }), Tier::Fallback);
    }
}
