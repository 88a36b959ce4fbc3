use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use domain::{
    classification::WorkloadClass,
    complexity::Signals,
    fault::Code,
    id::{AgentName, DeploymentId, NodeId, RequestId},
    inference::{Needs, Privacy, TaskProfile},
    pricing::Price,
    routing::{
        AgentPlacement, Capabilities, Deployment, DeploymentState, Facts, Live, Plane, Snapshot, Tier, decide,
    },
    units::{Bytes, Money, Tokens},
};

use super::*;

mod mistakes;

/// The names of the owner's document (phase 1.2, phase 2.1, "Redundant/Consolidated"), in its order.
const AGENTS_OF_THE_DOCUMENT: [&str; 52] = [
    "ServiceRegistry",
    "SystemDigitalTwin",
    "RequestCoordinator",
    "UnifiedSystemAgent",
    "ObservabilityHub",
    "MetricsForwarder",
    "ModelManagerSuite",
    "MemoryClient",
    "SessionMemoryAgent",
    "KnowledgeBase",
    "CodeGenerator",
    "SelfTrainingOrchestrator",
    "PredictiveHealthMonitor",
    "FixedStreamingTranslation",
    "Executor",
    "TinyLlamaServiceEnhanced",
    "LocalFineTunerAgent",
    "NLLBAdapter",
    "VRAMOptimizerAgent",
    "ChainOfThoughtAgent",
    "GoTToTAgent",
    "CognitiveModelAgent",
    "FaceRecognitionAgent",
    "LearningOrchestrationService",
    "LearningOpportunityDetector",
    "LearningManager",
    "ActiveLearningMonitor",
    "LearningAdjusterAgent",
    "ModelOrchestrator",
    "GoalManager",
    "IntentionValidatorAgent",
    "NLUAgent",
    "AdvancedCommandHandler",
    "ChitchatAgent",
    "FeedbackHandler",
    "Responder",
    "TranslationService",
    "DynamicIdentityAgent",
    "EmotionSynthesisAgent",
    "STTService",
    "TTSService",
    "AudioCapture",
    "WakeWordDetector",
    "ProactiveAgent",
    "EmotionEngine",
    "MoodTrackerAgent",
    "HumanAwarenessAgent",
    "ToneDetector",
    "VoiceProfilingAgent",
    "EmpathyAgent",
    "DreamWorldAgent",
    "DreamingModeAgent",
];

/// Phase 2.1, "Remote API".
const REMOTE: [&str; 14] = [
    "CodeGenerator",
    "SelfTrainingOrchestrator",
    "ChainOfThoughtAgent",
    "GoTToTAgent",
    "CognitiveModelAgent",
    "LearningOrchestrationService",
    "LearningAdjusterAgent",
    "ModelOrchestrator",
    "GoalManager",
    "NLUAgent",
    "ChitchatAgent",
    "TranslationService",
    "ProactiveAgent",
    "NLLBAdapter",
];

/// Phase 2.1, "Local GPU (MainPC, RTX-4090)".
const LOCAL_GPU: [&str; 6] = [
    "TinyLlamaServiceEnhanced",
    "LocalFineTunerAgent",
    "FaceRecognitionAgent",
    "STTService",
    "TTSService",
    "VRAMOptimizerAgent",
];

const REMOVED: [&str; 2] = ["DreamWorldAgent", "DreamingModeAgent"];

fn shipped() -> Catalog {
    let file = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config").join(name);
        (std::fs::read_to_string(&path).unwrap(), path)
    };
    let ((agents, agents_path), (policies, policies_path)) = (file("agents.toml"), file("policies.toml"));
    Catalog::parse(&agents_path, &agents, &policies_path, &policies).unwrap()
}

fn row<'a>(catalog: &'a Catalog, name: &str) -> &'a AgentPlacement {
    catalog.agents.iter().find(|row| row.name.as_str() == name).unwrap()
}

#[test]
fn every_agent_of_the_owners_document_has_a_row_and_there_are_no_others() {
    let rows: BTreeSet<_> = shipped().agents.iter().map(|row| row.name.to_string()).collect();
    let named: BTreeSet<_> = AGENTS_OF_THE_DOCUMENT.map(str::to_owned).into();
    assert_eq!(rows, named);
}

#[test]
fn every_row_has_the_class_of_the_document() {
    let catalog = shipped();
    for name in AGENTS_OF_THE_DOCUMENT {
        let expected = if REMOTE.contains(&name) || REMOVED.contains(&name) {
            WorkloadClass::Heavy
        } else if LOCAL_GPU.contains(&name) {
            WorkloadClass::ComputeHeavyLocal
        } else {
            WorkloadClass::Light
        };
        assert_eq!(row(&catalog, name).class, expected, "{name}");
    }
}

#[test]
fn every_model_of_a_row_and_of_a_tier_is_an_alias_that_exists() {
    let catalog = shipped();
    let aliases: BTreeSet<_> = catalog.aliases.iter().map(|alias| &alias.name).collect();
    let models = catalog.agents.iter().filter_map(|row| row.model.as_ref());
    for model in models.chain(catalog.tier_defaults.iter().map(|(_, model)| model)) {
        assert!(aliases.contains(model), "{model} is no alias");
    }
    for name in ["local/fast", "local/quality", "cloud/cheap", "cloud/mid", "cloud/frontier", "embed/local"] {
        assert!(aliases.iter().any(|alias| alias.as_str() == name), "{name} is missing");
    }
    assert_eq!(catalog.thresholds, Thresholds::default());
    assert_eq!(catalog.tier_defaults.len(), Tier::ALL.len());
}

#[test]
fn what_the_document_names_as_model_is_the_first_choice() {
    let catalog = shipped();
    for (agent, model) in
        [("CodeGenerator", "gpt-4"), ("ChitchatAgent", "gpt-3.5-turbo"), ("NLUAgent", "gpt-3.5-turbo")]
    {
        let alias = row(&catalog, agent).model.clone().unwrap();
        let targets = &catalog.aliases.iter().find(|one| one.name == alias).unwrap().targets;
        assert_eq!(targets[0].model.as_str(), model, "{agent}");
    }
}

fn deployment(machine: &str, model: &str, tier: Tier) -> Arc<Deployment> {
    let cloud = tier.plane() == Plane::Cloud;
    let provider = if cloud { "openai" } else { "llama.cpp" };
    let paid =
        Price { input: Money::picodollars(2_500_000), output: Money::picodollars(10_000_000), ..Price::FREE };
    Arc::new(Deployment {
        id: DeploymentId::new(format!("{machine}/{provider}/{model}-{}", tier.as_str())).unwrap(),
        model: ModelName::new(model).unwrap(),
        provider: provider.to_owned(),
        tier,
        machine: NodeId::new(machine).unwrap(),
        executor: "any".to_owned(),
        capabilities: Capabilities { generate: true, ..Capabilities::default() },
        context_length: Tokens::new(32_768),
        slots: 4,
        price: Some(if cloud { paid } else { Price::FREE }),
        state: DeploymentState::Warm,
        degraded: false,
        vram: Bytes::ZERO,
        embedding_dimensions: 0,
        load: std::time::Duration::ZERO,
    })
}

/// The shipped catalog on two machines that have one model on every tier.
fn world(tiers: &[Tier]) -> Snapshot {
    let catalog = shipped();
    let everywhere = tiers.iter().flat_map(|tier| match tier {
        Tier::RemoteApi => vec![
            deployment("mainpc", "gpt-4o", *tier),
            deployment("mainpc", "gpt-4", *tier),
            deployment("mainpc", "gpt-3.5-turbo", *tier),
        ],
        Tier::Fallback => vec![deployment("pc2", "demo", *tier)],
        Tier::Edge => vec![deployment("laptop", "demo", *tier)],
        Tier::LocalGpu | Tier::LocalCpu => vec![deployment("mainpc", "demo", *tier)],
    });
    Snapshot {
        machine: NodeId::new("mainpc").unwrap(),
        revision: 1,
        deployments: everywhere.collect(),
        aliases: catalog.aliases.into_iter().map(|alias| (alias.name.clone(), alias)).collect(),
        agents: catalog.agents.into_iter().map(|row| (row.name.clone(), row)).collect(),
        thresholds: catalog.thresholds,
        flags: Default::default(),
        tier_defaults: catalog.tier_defaults.into_iter().collect(),
        has_budgets: !catalog.budgets.is_empty(),
        budgets: Vec::new(),
        nodes: Default::default(),
        policy: catalog.policy,
    }
}

fn candidates(agent: &str, privacy: Privacy, snapshot: &Snapshot) -> Result<Vec<(Tier, String)>, Code> {
    let (id, agent) = (RequestId::new("r1").unwrap(), AgentName::new(agent).unwrap());
    let profile = TaskProfile { privacy, ..TaskProfile::default() };
    let facts = Facts {
        id: &id,
        needs: Needs::GENERATE,
        input: Tokens::new(5_000),
        max_output: Some(Tokens::new(100)),
        audio: std::time::Duration::ZERO,
        characters: 0,
        model: None,
        agent: Some(&agent),
        profile: &profile,
        signals: Signals::default(),
        tool_turns: 0,
    };
    let decision = decide(&facts, snapshot, &Live::default()).map_err(|fault| fault.code)?;
    let name = |deployment: &Deployment| (deployment.tier, deployment.model.to_string());
    Ok(decision.candidates.iter().map(|candidate| name(&candidate.deployment)).collect())
}

fn first_tier(agent: &str, snapshot: &Snapshot) -> Option<Tier> {
    candidates(agent, Privacy::Public, snapshot).ok()?.first().map(|(tier, _)| *tier)
}

#[test]
fn every_agent_is_placed_first_where_the_document_puts_it() {
    let everything = world(&Tier::ALL);
    for name in AGENTS_OF_THE_DOCUMENT {
        let expected = if REMOTE.contains(&name) || REMOVED.contains(&name) {
            Tier::RemoteApi
        } else if LOCAL_GPU.contains(&name) {
            Tier::LocalGpu
        } else if name == "MetricsForwarder" {
            Tier::Fallback
        } else {
            Tier::LocalCpu
        };
        assert_eq!(first_tier(name, &everything), Some(expected), "{name}");
    }
}

#[test]
fn heavy_agents_have_an_answer_without_the_cloud_and_light_ones_without_the_owners_machines() {
    let at_home = world(&[Tier::LocalCpu, Tier::Fallback]);
    for name in REMOTE.into_iter().chain(REMOVED) {
        assert_eq!(first_tier(name, &at_home), Some(Tier::LocalCpu), "{name}");
    }
    let cloud_only = world(&[Tier::RemoteApi]);
    for name in AGENTS_OF_THE_DOCUMENT.iter().filter(|name| !LOCAL_GPU.contains(name)) {
        assert_eq!(first_tier(name, &cloud_only), Some(Tier::RemoteApi), "{name}");
    }
}

#[test]
fn compute_heavy_agents_never_leave_the_owners_machines() {
    let cloud_only = world(&[Tier::RemoteApi]);
    for name in LOCAL_GPU {
        assert_eq!(candidates(name, Privacy::Public, &cloud_only), Err(Code::Unavailable), "{name}");
    }
}

#[test]
fn the_hub_stays_off_pc2_and_the_gpu_manager_on_its_machine() {
    let away = world(&[Tier::Fallback, Tier::Edge]);
    for name in ["ObservabilityHub", "VRAMOptimizerAgent"] {
        assert_eq!(candidates(name, Privacy::Public, &away), Err(Code::Unavailable), "{name}");
    }
    assert_eq!(first_tier("TinyLlamaServiceEnhanced", &away), Some(Tier::Fallback));
    assert_eq!(first_tier("Responder", &away), Some(Tier::Fallback));
}

#[test]
fn a_private_request_of_a_heavy_agent_stays_at_home() {
    let tiers = candidates("CodeGenerator", Privacy::LocalOnly, &world(&Tier::ALL)).unwrap();
    assert!(tiers.iter().all(|(tier, _)| *tier != Tier::RemoteApi), "{tiers:?}");
}

#[test]
fn code_goes_to_gpt_4_and_small_talk_to_gpt_3_5() {
    let everything = world(&Tier::ALL);
    for (agent, model) in
        [("CodeGenerator", "gpt-4"), ("ChitchatAgent", "gpt-3.5-turbo"), ("GoalManager", "gpt-4o")]
    {
        assert_eq!(candidates(agent, Privacy::Public, &everything).unwrap()[0].1, model, "{agent}");
    }
}

#[test]
fn the_removed_agents_are_answered_by_remote_gpt() {
    let catalog = shipped();
    for name in REMOVED {
        let replaced_by = row(&catalog, name).replaced_by.clone().unwrap();
        assert_eq!(row(&catalog, replaced_by.as_str()).tiers[0], Tier::RemoteApi);
    }
    for name in AGENTS_OF_THE_DOCUMENT.iter().filter(|name| !REMOVED.contains(name)) {
        assert_eq!(row(&catalog, name).replaced_by, None, "{name}");
    }
}
