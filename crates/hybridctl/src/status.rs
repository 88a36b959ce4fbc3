//! `hybridctl status`: services, machines and memory as this machine's routing snapshot has them.

use std::process::ExitCode;

use domain::units::Bytes;
use service_runtime::Clock;
use wire::v1;

use crate::output::Output;
use crate::table::Table;
use crate::target::System;
use crate::view::{NodeView, ServiceView, StatusView};

pub(crate) async fn run(json: bool, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let connection = system.connect().await?;
    let snapshot = connection.snapshot().await?;
    let status = view(snapshot, connection.url.clone(), Clock::system().now_unix_ms());
    connection.close().await;
    let healthy = status.services.iter().all(|service| service.alive && service.ready);
    if json {
        output.json(&status)?;
    } else {
        for line in lines(&status) {
            output.line(&line);
        }
    }
    // A script asks whether everything works.
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn view(snapshot: v1::RoutingSnapshot, nats: String, now_unix_ms: u64) -> StatusView {
    StatusView {
        machine: snapshot.machine,
        nats,
        snapshot_revision: snapshot.revision,
        snapshot_generated_unix_ms: snapshot.generated_unix_ms,
        snapshot_age_ms: now_unix_ms.saturating_sub(snapshot.generated_unix_ms),
        services: snapshot.services.into_iter().map(ServiceView::from).collect(),
        machines: snapshot.nodes.into_iter().map(NodeView::from).collect(),
    }
}

fn lines(status: &StatusView) -> Vec<String> {
    let now = status.snapshot_generated_unix_ms + status.snapshot_age_ms;
    let mut lines = vec![format!(
        "{} at {}, snapshot {} made {} ago",
        status.machine,
        status.nats,
        status.snapshot_revision,
        age(status.snapshot_age_ms)
    )];
    let mut table = Table::new(["service", "machine", "state", "in flight>", "version"]);
    for service in &status.services {
        let state = match (service.alive, service.ready) {
            (true, true) => "ready".to_owned(),
            (true, false) => "not ready".to_owned(),
            (false, _) => format!("gone for {}", age(now.saturating_sub(service.last_seen_unix_ms))),
        };
        table.row([
            service.service.clone(),
            service.machine.clone(),
            state,
            service.in_flight.to_string(),
            service.version.clone(),
        ]);
    }
    lines.push(String::new());
    lines.extend(table.lines());
    lines.push(String::new());
    lines.extend(machines(status).lines());
    lines.extend(gpus(&status.machines));
    lines
}

/// A machine is linked as long as one of its services is heard.
fn machines(status: &StatusView) -> Table<6> {
    let mut names: Vec<&str> = status.machines.iter().map(|node| node.machine.as_str()).collect();
    names.extend(status.services.iter().map(|service| service.machine.as_str()));
    names.sort_unstable();
    names.dedup();
    let mut table = Table::new(["machine", "link", "memory used>", "of>", "leased>", "planned on"]);
    for name in names {
        let heard = status.services.iter().any(|service| service.machine == name && service.alive);
        let link = match (name == status.machine, heard) {
            (true, _) => "here",
            (false, true) => "up",
            (false, false) => "down",
        };
        let bytes = |count: u64| Bytes::new(count).to_string();
        let node = status.machines.iter().find(|node| node.machine == name);
        let [used, total, leased, planned] = node.map_or_else(Default::default, |node| {
            let used = node.memory_total_bytes.saturating_sub(node.memory_available_bytes);
            [bytes(used), bytes(node.memory_total_bytes), bytes(node.leased_bytes), node.planned_on.clone()]
        });
        table.row([name.to_owned(), link.to_owned(), used, total, leased, planned]);
    }
    table
}

fn gpus(machines: &[NodeView]) -> Vec<String> {
    let mut table = Table::new(["gpu", "name", "memory used>", "of>", "busy>", "temperature>", "power>"]);
    let mut any = false;
    for node in machines {
        for gpu in &node.gpus {
            any = true;
            table.row([
                format!("{}/{}", node.machine, gpu.index),
                gpu.name.clone(),
                Bytes::new(gpu.memory_used_bytes).to_string(),
                Bytes::new(gpu.memory_total_bytes).to_string(),
                format!("{} %", gpu.utilization_percent),
                format!("{} °C", gpu.temperature_celsius),
                format!("{} W", gpu.power_milliwatts / 1_000),
            ]);
        }
    }
    if any { std::iter::once(String::new()).chain(table.lines()).collect() } else { Vec::new() }
}

/// `0.4 s`, `12 s`, `3 min`, `5 h`.
fn age(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, machine: &str, alive: bool, ready: bool) -> v1::ServiceStatus {
        v1::ServiceStatus {
            service: name.to_owned(),
            machine: machine.to_owned(),
            alive,
            ready,
            last_seen_unix_ms: 1_000,
            ..v1::ServiceStatus::default()
        }
    }

    fn status() -> StatusView {
        let gpu = v1::GpuState {
            name: "RTX 3090".to_owned(),
            memory_total_bytes: 24 << 30,
            memory_used_bytes: 6 << 30,
            utilization_percent: 40,
            ..v1::GpuState::default()
        };
        let resources = v1::NodeResources {
            memory_total_bytes: 64 << 30,
            memory_available_bytes: 48 << 30,
            planned_on: "nvml".to_owned(),
            gpus: vec![gpu],
            ..v1::NodeResources::default()
        };
        let snapshot = v1::RoutingSnapshot {
            machine: "mainpc".to_owned(),
            revision: 12,
            generated_unix_ms: 2_000,
            services: vec![
                service("local-model-pool", "mainpc", true, true),
                service("local-model-pool", "pc2", false, false),
                service("request-coordinator", "mainpc", true, false),
            ],
            nodes: vec![v1::NodeStatus { machine: "mainpc".to_owned(), resources: Some(resources) }],
            ..v1::RoutingSnapshot::default()
        };
        view(snapshot, "nats://127.0.0.1:4222".to_owned(), 31_000)
    }

    #[test]
    fn the_state_of_each_service_and_machine_is_one_word() {
        let lines = lines(&status());
        let has = |parts: &[&str]| lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(has(&["mainpc at nats://127.0.0.1:4222, snapshot 12 made 29 s ago"]), "{lines:#?}");
        assert!(has(&["local-model-pool", "pc2", "gone for 30 s"]), "{lines:#?}");
        assert!(has(&["request-coordinator", "not ready"]), "{lines:#?}");
        assert!(has(&["mainpc", "here", "16.0 GiB", "64.0 GiB", "nvml"]), "{lines:#?}");
        assert!(has(&["pc2", "down"]), "{lines:#?}");
        assert!(has(&["mainpc/0", "RTX 3090", "6.0 GiB", "24.0 GiB", "40 %"]), "{lines:#?}");
    }

    #[test]
    fn the_snapshots_age_is_in_the_json() {
        let json = serde_json::to_value(status()).unwrap();
        assert_eq!(json["snapshot_age_ms"], 29_000);
        assert_eq!(json["machines"][0]["gpus"][0]["memory_used_bytes"], 6_u64 << 30);
        assert_eq!(json["services"][1]["alive"], false);
    }

    #[test]
    fn ages_grow_coarser() {
        assert_eq!([430, 12_000, 180_000, 10_800_000].map(age), ["0.4 s", "12 s", "3 min", "3 h"]);
    }
}
