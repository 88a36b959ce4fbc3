//! Telling the bus that this process is there.
//!
//! The forwarder needs the bus for nothing else: it scrapes and ships while NATS is away, and is announced once it is
//! back.

use std::sync::Arc;

use bus::executor::Load;
use bus::{Announcement, Announcer};
use bus::{Bus, ConnectError};
use service_runtime::Process;
use wire::subject::service::METRICS_FORWARDER;

/// Announces the process until it ends.
///
/// # Errors
/// The settings or the credentials are wrong. A server that is away is waited for.
pub(crate) async fn run(settings: bus::Settings, process: Process) -> anyhow::Result<()> {
    let stop = process.shutdown.token();
    let health = process.health.component("bus");
    health.set_ready(true, "waiting for the nats server; samples are shipped without it");
    let (instance, machine) = (&process.instance, &process.node.machine);
    let bus = match Bus::connect(&settings, METRICS_FORWARDER, instance, machine, &stop).await {
        Err(ConnectError::Stopped(_)) => return Ok(()),
        result => result?,
    };
    // Only a request to stop ends the wait with an error.
    if let Ok(control) = bus.control_when_ready(&stop).await {
        health.set_ready(true, "announced");
        let clock = process.clock.clone();
        let announcer = Announcer {
            bus: bus.clone(),
            control,
            version: service_runtime::VERSION,
            now_unix_ms: Arc::new(move || clock.now_unix_ms()),
            load: Load::default(),
        };
        let announcement = Announcement::default();
        let tell_readiness = async {
            process.health.ready().await;
            announcement.set_ready(true);
        };
        tokio::join!(announcer.run(announcement.clone(), stop), async {
            tokio::select! {
                () = tell_readiness => {}
                () = process.shutdown.requested() => {}
            }
        });
    }
    bus.close().await;
    Ok(())
}
