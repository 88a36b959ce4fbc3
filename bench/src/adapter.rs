//! The adapter as it is measured: alone on the measured cores. Its bus runs beside the load generator, which speaks to it
//! over that bus as the coordinator does.

use bus::Bus;
use tokio_util::sync::CancellationToken;

use crate::cores::Cores;
use crate::services::{Services, Started};
use crate::target::{Held, MACHINE, Running, Surroundings, Way, start_nats};

const ADAPTER: Services = Services {
    names: &["remote-api-adapter"],
    template: include_str!("../adapter.toml"),
    ports: &["ADAPTER_PORT"],
};

/// Starts the adapter on the measured cores.
///
/// # Errors
/// It is not built or does not start.
pub async fn start(surroundings: &Surroundings) -> anyhow::Result<Running> {
    // The calling thread is bound to the load's cores.
    let nats = start_nats(&Cores::available()?).await?;
    let Started { children, folder, .. } = ADAPTER.start(surroundings, &nats.url())?;
    let settings = bus::Settings { url: nats.url(), ..bus::Settings::default() };
    let bus = Bus::connect(&settings, "bench", "load", MACHINE, &CancellationToken::new()).await?;
    let held = Held { children, aside: Some(nats), folder: Some(folder), ..Held::default() };
    let deployment = format!("{MACHINE}/upstream/{}", surroundings.model);
    Ok(Running::new(Way::Bus(bus), &deployment, held))
}
