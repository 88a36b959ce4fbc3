//! A model that is declared on a GPU, and what else is on that GPU: leases, a game, and the energy of a request. The card is
//! NVML's stand-in; the engine computes on the processor, since no build here has CUDA, and everybody else is none the wiser.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use e2e::nvml::{Card, IDLE};
use e2e::system::{LOCAL, Options, PATIENCE, question};
use e2e::{System, wait, workspace};
use serde_json::Value;
use wire::subject::{LeaseCall, service};
use wire::v1::{self, lease_reply, lease_request::Action};

/// A machine with this card and the bundled model declared on it.
struct Machine {
    system: System,
    card: Card,
    _folder: tempfile::TempDir,
}

/// The engine's program: the pool's own, told to leave the layers on the processor.
fn engine(folder: &Path) -> anyhow::Result<PathBuf> {
    let file = folder.join("engine");
    let program = workspace::binary(service::LOCAL_MODEL_POOL)?;
    let model = r#"{name = "demo", file = "demo.gguf", slots = 4, temperature = 0.0}"#;
    let script =
        format!("#!/bin/sh\nexec '{}' \"$@\" --set 'local-model-pool.models=[{model}]'\n", program.display());
    fs::write(&file, script)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

impl Machine {
    async fn start() -> anyhow::Result<Self> {
        let (card, folder) = (Card::new(IDLE), tempfile::tempdir()?);
        let text = |path: PathBuf| path.to_str().map(str::to_owned).context("a path that is no text");
        let options = Options::default()
            .set("vram-optimizer.nvml_library", text(card.library())?)
            .set("vram-optimizer.sample_interval_ms", 100)
            .set("vram-optimizer.return_after_s", 1)
            .set("local-model-pool.engine_program", text(engine(folder.path())?)?)
            .set("local-model-pool.restart_delay_max_s", 1)
            .set("local-model-pool.models.0.gpu_layers", 99);
        Ok(Self { system: System::start(options).await?, card, _folder: folder })
    }

    /// The card with the engine on it and a game of so many MiB, drawing 250 W.
    fn describe(&self, engine: u32, game_mib: u64) {
        let used = 576 + 100 + game_mib;
        self.card
            .describe(&format!("Card A;GPU-aaaa;24576;{used};50;20;60;250000;{engine}=100;4711={game_mib}"));
    }

    async fn leases(&self) -> anyhow::Result<Vec<v1::Lease>> {
        let machine = domain::id::NodeId::new(e2e::system::MACHINE)?;
        let request = v1::LeaseRequest { action: Some(Action::List(true)) };
        match self.system.caller().await?.call(&LeaseCall(machine), &request).await?.result {
            Some(lease_reply::Result::List(list)) => Ok(list.leases),
            other => anyhow::bail!("no list of leases: {other:?}"),
        }
    }

    /// Waits until a request that any model may answer is answered by one of this provider.
    async fn answered_by(&self, provider: &str) -> anyhow::Result<v1::End> {
        let caller = self.system.caller().await?;
        wait::until(&format!("an answer of {provider}"), PATIENCE, async || {
            let reply = caller.generate(&question("What is 2 + 3?")).await.ok()?;
            reply.end().ok().filter(|end| end.provider == provider).cloned()
        })
        .await
    }
}

#[tokio::test]
async fn a_model_on_a_gpu_makes_way_for_a_game_and_comes_back() -> anyhow::Result<()> {
    let machine = Machine::start().await?;
    let [before] = machine.system.engines(1).await?.try_into().ok().context("one engine")?;
    let leases = machine.leases().await?;
    let [lease] = leases.as_slice() else { anyhow::bail!("one lease, found {leases:?}") };
    assert_eq!((lease.gpu_index, lease.priority()), (Some(0), v1::LeasePriority::Inference));
    machine.describe(before.pid(), 0);
    let local = machine.answered_by("llama.cpp").await?;
    assert_eq!((local.tier(), local.model.as_str()), (v1::Tier::LocalGpu, LOCAL));

    // The game takes what is left but for a part of the reserve.
    machine.describe(before.pid(), 23_800);
    wait::until("the engine to leave", PATIENCE, async || (!before.lives()).then_some(())).await?;
    wait::until("the lease to end", PATIENCE, async || {
        machine.leases().await.ok().filter(Vec::is_empty).map(drop)
    })
    .await?;
    machine.card.describe("Card A;GPU-aaaa;24576;24376;99;50;70;300000;;4711=23800");
    assert_eq!(machine.answered_by("upstream").await?.tier(), v1::Tier::RemoteApi);
    let models = machine.system.client().get(&format!("{}/v1/models", machine.system.url())).await?.json()?;
    let entry = models["data"].as_array().and_then(|all| all.iter().find(|it| it["id"] == LOCAL)).cloned();
    assert_ne!(
        entry.unwrap_or(Value::Null).pointer("/hybrid/available"),
        Some(&Value::Bool(true)),
        "{models}"
    );

    machine.card.describe(IDLE);
    machine.answered_by("llama.cpp").await?;
    let [after] = machine.system.engines(1).await?.try_into().ok().context("one engine")?;
    assert_ne!(after.pid(), before.pid());
    Ok(())
}

#[tokio::test]
async fn the_energy_of_a_request_is_measured_on_a_gpu_and_estimated_elsewhere() -> anyhow::Result<()> {
    let machine = Machine::start().await?;
    let elsewhere = machine.answered_by("llama.cpp").await?;
    assert!(elsewhere.energy_estimated && elsewhere.energy_millijoules > 0, "{elsewhere:?}");

    // Now NVML names the engine's process, and what the card draws.
    let [engine] = machine.system.engines(1).await?.try_into().ok().context("one engine")?;
    machine.describe(engine.pid(), 0);
    let caller = machine.system.caller().await?;
    let reply = wait::until("a measured request", PATIENCE, async || {
        let reply = caller.generate(&question("What is 2 + 3?")).await.ok()?;
        reply.end().is_ok_and(|end| !end.energy_estimated && end.energy_millijoules > 0).then_some(reply)
    })
    .await?;
    // All that is drawn during a request is its own: more than its time on the engine cannot be.
    let end = reply.end()?;
    assert!(end.energy_millijoules <= 250 * (end.total_ms + 1_000), "{end:?}");
    let event = wait::until("the usage event", PATIENCE, async || {
        let events = caller.ledger_stream().await.ok()?;
        events.into_iter().find(|event| event.request_id == reply.request_id())
    })
    .await?;
    assert_eq!((event.energy_millijoules, event.energy_estimated), (end.energy_millijoules, false));
    Ok(())
}
