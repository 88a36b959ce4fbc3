//! A service that does nothing but what every service does. The tests of signals and flags start it.

use std::net::SocketAddr;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use service_runtime::{Process, Secret};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    idle: Idle,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Idle {
    /// Address of the admin listener.
    admin_listen: SocketAddr,
    /// How the service ends.
    ending: Ending,
    /// A key that is never used.
    api_key: Option<Secret>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ending {
    /// When asked to.
    #[default]
    WhenAsked,
    /// Never by itself.
    Never,
    /// One of its tasks fails.
    TaskFails,
    /// One of its tasks panics.
    TaskPanics,
    /// The service itself panics.
    Panics,
}

impl Default for Idle {
    fn default() -> Self {
        Self { admin_listen: SocketAddr::from(([127, 0, 0, 1], 0)), ending: Ending::default(), api_key: None }
    }
}

fn main() -> ExitCode {
    service_runtime::execute::<Settings, _, _>("idle", &["idle", "another-service"], run)
}

#[expect(clippy::panic, reason = "the tests want to see what becomes of a panic")]
async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let idle = process.health.component("idle");
    process.serve_admin(settings.idle.admin_listen, axum::Router::new()).await?;
    tracing::info_span!("start").in_scope(|| idle.set_ready(true, "idling"));
    match settings.idle.ending {
        Ending::WhenAsked => {}
        Ending::Never => std::future::pending().await,
        Ending::TaskFails => process.tasks.spawn("doomed", async { anyhow::bail!("nothing left to do") }),
        Ending::TaskPanics => process.tasks.spawn("doomed", async { panic!("nothing left to do") }),
        Ending::Panics => panic!("nothing left to do"),
    }
    process.shutdown.requested().await;
    Ok(())
}
