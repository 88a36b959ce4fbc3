//! The world the cases are decided in: the owner's machines with the models of the documents, and the providers.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use domain::{
    budget::Scope,
    complexity::Complexity,
    fault::Fault,
    id::{AgentName, DeploymentId, FlagName, ModelName, NodeId, RequestId, TaskName},
    inference::{
        Embed, Envelope, Generate, Level, Message, Part, PartContent, Privacy, Request, Role, Sampling,
        TaskProfile, Translate,
    },
    pricing::Price,
    routing::{
        BudgetLeft, Capabilities, Decision, Deployment, DeploymentState, Facts, Flag, Live, NodeLoad,
        Snapshot, Tier, decide,
    },
    units::{Bytes, Money, Tokens},
};
use model_manager_suite::catalog::Catalog;
use serde::Deserialize;

/// A request, as a case writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ask {
    method: Option<String>,
    agent: Option<String>,
    model: Option<String>,
    task: Option<String>,
    text: Option<String>,
    tokens: Option<u64>,
    max_output: Option<u64>,
    complexity: Option<String>,
    latency: Option<String>,
    criticality: Option<String>,
    budget_sensitivity: Option<String>,
    mode: Option<String>,
    private: bool,
    training: bool,
    vram_gb: f64,
    tools: bool,
    tool_use: bool,
    tool_turns: u32,
    vision: bool,
}

/// id, model, tier, context, $ a million tokens in and out, GB of VRAM, abilities (g e t = generate, embed, translate; + tools,
/// v pictures).
type Row = (&'static str, &'static str, Tier, u64, f64, f64, u64, &'static str);

const DEPLOYMENTS: [Row; 28] = [
    (
        "mainpc/llama.cpp/llama-3.1-8b-instruct",
        "llama-3.1-8b-instruct",
        Tier::LocalGpu,
        32_768,
        0.0,
        0.0,
        7,
        "g",
    ),
    (
        "mainpc/llama.cpp/qwen2.5-coder-32b",
        "qwen2.5-coder-32b-instruct",
        Tier::LocalGpu,
        32_768,
        0.0,
        0.0,
        20,
        "g",
    ),
    ("mainpc/ollama/llama3-8b-instruct", "llama3-8b-instruct", Tier::LocalGpu, 8_192, 0.0, 0.0, 5, "g"),
    ("mainpc/llama.cpp/tinyllama-1.1b-chat", "tinyllama-1.1b-chat", Tier::LocalGpu, 32_768, 0.0, 0.0, 1, "g"),
    ("mainpc/llama.cpp/demo", "demo", Tier::LocalCpu, 32_768, 0.0, 0.0, 0, "g"),
    ("mainpc/llama.cpp/nomic-embed-text", "nomic-embed-text", Tier::LocalCpu, 8_192, 0.0, 0.0, 0, "e"),
    (
        "pc2/llama.cpp/tinyllama-1.1b-chat-q4",
        "tinyllama-1.1b-chat-q4",
        Tier::Fallback,
        32_768,
        0.0,
        0.0,
        0,
        "g",
    ),
    ("pc2/llama.cpp/demo", "demo", Tier::Fallback, 32_768, 0.0, 0.0, 0, "g"),
    ("laptop/llama.cpp/llama-3.1-8b-instruct", "llama-3.1-8b-instruct", Tier::Edge, 32_768, 0.0, 0.0, 7, "g"),
    ("laptop/llama.cpp/qwen2.5-14b-instruct", "qwen2.5-14b-instruct", Tier::Edge, 32_768, 0.0, 0.0, 10, "g"),
    ("mainpc/openai/gpt-4", "gpt-4", Tier::RemoteApi, 128_000, 30.0, 60.0, 0, "g+"),
    ("mainpc/openai/gpt-4o", "gpt-4o", Tier::RemoteApi, 128_000, 2.5, 10.0, 0, "g+v"),
    ("mainpc/openai/gpt-4o-mini", "gpt-4o-mini", Tier::RemoteApi, 128_000, 0.15, 0.6, 0, "g+v"),
    ("mainpc/openai/gpt-3.5-turbo", "gpt-3.5-turbo", Tier::RemoteApi, 16_385, 0.5, 1.5, 0, "g+"),
    ("mainpc/openai/embedding", "text-embedding-3-small", Tier::RemoteApi, 8_191, 0.02, 0.0, 0, "e"),
    (
        "mainpc/anthropic/claude-sonnet-4-5",
        "claude-sonnet-4-5",
        Tier::RemoteApi,
        200_000,
        3.0,
        15.0,
        0,
        "g+v",
    ),
    ("mainpc/anthropic/claude-opus-4-6", "claude-opus-4-6", Tier::RemoteApi, 200_000, 5.0, 25.0, 0, "g+v"),
    ("mainpc/google/gemini-2.5-pro", "gemini-2.5-pro", Tier::RemoteApi, 1_048_576, 1.25, 10.0, 0, "g+v"),
    ("mainpc/google/gemini-2.5-flash", "gemini-2.5-flash", Tier::RemoteApi, 1_048_576, 0.3, 2.5, 0, "g+v"),
    (
        "mainpc/groq/llama-3.1-8b-instant",
        "llama-3.1-8b-instant",
        Tier::RemoteApi,
        131_072,
        0.05,
        0.08,
        0,
        "g+",
    ),
    ("mainpc/bedrock/nllb-200-3.3b", "nllb-200-3.3b", Tier::RemoteApi, 8_192, 1.0, 1.0, 0, "t"),
    ("mainpc/openrouter/llama-3.1-8b", "llama-3.1-8b-instruct", Tier::RemoteApi, 131_072, 0.02, 0.03, 0, "g"),
    ("mainpc/deepinfra/llama-3.1-8b", "llama-3.1-8b-instruct", Tier::RemoteApi, 131_072, 0.06, 0.06, 0, "g"),
    (
        "mainpc/openrouter/qwen2.5-coder-32b",
        "qwen2.5-coder-32b-instruct",
        Tier::RemoteApi,
        32_768,
        0.06,
        0.2,
        0,
        "g",
    ),
    ("mainpc/openrouter/qwen2.5-14b", "qwen2.5-14b-instruct", Tier::RemoteApi, 32_768, 0.05, 0.1, 0, "g"),
    ("mainpc/openrouter/tinyllama", "tinyllama-1.1b-chat", Tier::RemoteApi, 8_192, 0.01, 0.01, 0, "g"),
    ("mainpc/azure/llama-3.3-70b", "llama-3.3-70b-instruct", Tier::RemoteApi, 131_072, 0.7, 0.7, 0, "g"),
    ("mainpc/openrouter/llama-3.3-70b", "llama-3.3-70b-instruct", Tier::RemoteApi, 131_072, 0.1, 0.3, 0, "g"),
];

/// Snapshot and live state of a case.
pub(crate) struct World {
    pub(crate) snapshot: Snapshot,
    live: Live,
}

fn deployment((id, model, tier, context, input, output, vram_gb, can): &Row) -> Arc<Deployment> {
    let mut parts = id.split('/');
    let (machine, provider) = (parts.next().unwrap(), parts.next().unwrap());
    // pico-dollars a token are micro-dollars a million tokens
    let money = |dollars: f64| Money::picodollars((dollars * 1e6) as i64);
    Arc::new(Deployment {
        id: DeploymentId::new(*id).unwrap(),
        model: ModelName::new(*model).unwrap(),
        provider: provider.to_owned(),
        tier: *tier,
        machine: NodeId::new(machine).unwrap(),
        executor: "any".to_owned(),
        capabilities: Capabilities {
            generate: can.contains('g'),
            embed: can.contains('e'),
            translate: can.contains('t'),
            tools: can.contains('+'),
            vision: can.contains('v'),
            ..Capabilities::default()
        },
        context_length: Tokens::new(*context),
        slots: 4,
        price: Some(Price { input: money(*input), output: money(*output), ..Price::FREE }),
        state: DeploymentState::Warm,
        degraded: false,
        vram: Bytes::new(vram_gb * 1_000_000_000),
        embedding_dimensions: 0,
        load: std::time::Duration::ZERO,
    })
}

impl World {
    /// Everything is up, loaded and idle, and the configuration is the shipped one.
    pub(crate) fn of_the_owner() -> Self {
        let file = |name: &str| {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config").join(name);
            (std::fs::read_to_string(&path).unwrap(), path)
        };
        let ((agents, agents_path), (policies, policies_path)) = (file("agents.toml"), file("policies.toml"));
        let catalog = Catalog::parse(&agents_path, &agents, &policies_path, &policies).unwrap();
        let snapshot = Snapshot {
            machine: NodeId::new("mainpc").unwrap(),
            revision: 1,
            deployments: DEPLOYMENTS.iter().map(deployment).collect(),
            aliases: catalog.aliases.into_iter().map(|alias| (alias.name.clone(), alias)).collect(),
            agents: catalog.agents.into_iter().map(|row| (row.name.clone(), row)).collect(),
            thresholds: catalog.thresholds,
            flags: HashMap::new(),
            tier_defaults: catalog.tier_defaults.into_iter().collect(),
            has_budgets: false,
            budgets: Vec::new(),
            nodes: HashMap::new(),
            policy: catalog.policy,
        };
        Self { snapshot, live: Live::default() }
    }

    /// One entry of `world`: `what` or `what:which`.
    pub(crate) fn change(&mut self, change: &str) {
        let (what, which) = change.split_once(':').unwrap_or((change, ""));
        match what {
            "mode" => which.clone_into(&mut self.snapshot.policy.default_mode),
            "gpu-busy" => {
                let gpu_utilization_percent = which.parse().unwrap();
                let load = NodeLoad { gpu_utilization_percent, gpu_memory_free: None };
                self.snapshot.nodes.insert(NodeId::new("mainpc").unwrap(), load);
            }
            "spent" => self.spent(Scope::All, true),
            "spent-queue" => self.spent(Scope::All, false),
            "spent-provider" => self.spent(Scope::Provider(which.to_owned()), true),
            "flag-off" => {
                let name = FlagName::new(which).unwrap();
                let flag = Flag { name: name.clone(), enabled: false, rollout_percent: 100 };
                self.snapshot.flags.insert(name, flag);
            }
            "no-model" => self.snapshot.deployments.retain(|deployment| deployment.model.as_str() != which),
            "machine-down" => self.down(|one| one.machine.as_str() == which && one.tier != Tier::RemoteApi),
            "provider-down" => {
                self.down(|one| one.tier == Tier::RemoteApi && (which == "*" || one.provider == which));
            }
            "cooling" => {
                let cooling = self.snapshot.deployments.iter().filter(|one| one.provider == which);
                self.live.cooling = cooling.map(|one| (one.id.clone(), "429".to_owned())).collect();
            }
            "cold" => {
                let (model, machine) = which.split_once('@').unwrap();
                self.set(&DeploymentState::Cold, |one| {
                    one.model.as_str() == model
                        && one.machine.as_str() == machine
                        && one.tier != Tier::RemoteApi
                });
            }
            "loading" => {
                let local = |one: &Deployment| one.model.as_str() == which && one.tier == Tier::LocalGpu;
                self.set(&DeploymentState::Loading, local);
            }
            other => panic!("world: {other:?} is not known"),
        }
    }

    fn spent(&mut self, scope: Scope, degrades: bool) {
        let allowed = Money::picodollars(10 * Money::PICODOLLARS_PER_DOLLAR);
        self.snapshot.has_budgets = true;
        let left = Money::ZERO;
        self.snapshot.budgets.push(BudgetLeft {
            name: "cloud-day".to_owned(),
            scope,
            allowed,
            left,
            degrades,
        });
    }

    fn down(&mut self, which: impl Fn(&Deployment) -> bool) {
        self.set(&DeploymentState::Down("gone".to_owned()), which);
    }

    fn set(&mut self, state: &DeploymentState, which: impl Fn(&Deployment) -> bool) {
        let mut found = false;
        for deployment in &mut self.snapshot.deployments {
            if which(deployment) {
                found = true;
                *deployment = Arc::new(Deployment { state: state.clone(), ..(**deployment).clone() });
            }
        }
        assert!(found, "a change of the world that changes nothing");
    }

    pub(crate) fn decide(&self, ask: &Ask) -> Result<Decision, Fault> {
        let request = ask.request();
        let mut facts = Facts::counted(&request, Tokens::new(ask.tokens.unwrap_or(200)));
        facts.tool_turns = ask.tool_turns;
        facts.needs.tools |= ask.tools;
        facts.max_output = ask.max_output.map(Tokens::new).or(facts.max_output);
        decide(&facts, &self.snapshot, &self.live)
    }
}

fn level(text: Option<&String>) -> Option<Level> {
    text.map(|text| match text.as_str() {
        "low" => Level::Low,
        "medium" => Level::Medium,
        "high" => Level::High,
        other => panic!("level {other:?}"),
    })
}

impl Ask {
    fn request(&self) -> Request {
        let complexity = self
            .complexity
            .as_ref()
            .map(|text| Complexity::ALL.into_iter().find(|complexity| complexity.as_str() == text).unwrap());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few gigabytes")]
        let vram = Bytes::new((self.vram_gb * 1e9) as u64);
        let envelope = Envelope {
            id: RequestId::new("case").unwrap(),
            model: self.model.as_ref().map(|name| ModelName::new(name).unwrap()),
            agent: self.agent.as_ref().map(|name| AgentName::new(name).unwrap()),
            profile: TaskProfile {
                task: self.task.as_ref().map(|name| TaskName::new(name).unwrap()),
                criticality: level(self.criticality.as_ref()),
                latency_sensitivity: level(self.latency.as_ref()),
                budget_sensitivity: level(self.budget_sensitivity.as_ref()),
                privacy: if self.private { Privacy::LocalOnly } else { Privacy::Public },
                vram,
                training: self.training,
                complexity,
                tool_use: self.tool_use,
                mode: self.mode.clone(),
                dry_run: false,
            },
            deadline: None,
            extra_json: String::new(),
        };
        let text = self.text.clone().unwrap_or_else(|| "What is 2+2?".to_owned());
        let part = |content| Part { content, extra_json: String::new() };
        let mut content = vec![part(PartContent::Text(text.clone()))];
        if self.vision {
            let url = "https://example.org/a.png".to_owned();
            content.push(part(PartContent::ImageUrl { url, detail: String::new() }));
        }
        match self.method.as_deref() {
            Some("embed") => Request::Embed(Embed { envelope, inputs: vec![text], dimensions: None }),
            Some("translate") => Request::Translate(Translate {
                envelope,
                text,
                source_language: None,
                target_language: "de".to_owned(),
                stream: false,
            }),
            None => Request::Generate(Generate {
                envelope,
                messages: vec![Message {
                    role: Role::User,
                    content,
                    tool_calls: Vec::new(),
                    tool_call_id: String::new(),
                    name: String::new(),
                    extra_json: String::new(),
                }],
                sampling: Sampling::default(),
                tools: Vec::new(),
                tool_choice: None,
                response_format: None,
                stream: false,
            }),
            Some(other) => panic!("method {other:?}"),
        }
    }
}
