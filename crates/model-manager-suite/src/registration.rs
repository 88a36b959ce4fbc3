//! What services say of themselves, checked before the registry believes it.
//!
//! A snapshot is taken or refused as a whole by whoever reads it, so that one deployment with a mistake in it would stop all
//! routing: it is left out here, and reported. What passed is handed on in the form it came in, since this service only
//! carries it.

use std::{collections::HashSet, fmt};

use domain::{
    fault::Fault,
    id::{InvalidName, NodeId},
    routing::Deployment,
};
use prost::Message;
use wire::{
    subject::{Prefix, heartbeats, registration_key},
    v1,
};

/// Deployments of one process.
pub const DEPLOYMENTS_MAX: usize = 1_024;

/// One start of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Where it runs.
    pub machine: NodeId,
    /// Which service it is.
    pub service: String,
    /// Unique for each start.
    pub instance: String,
}

impl Instance {
    fn check(machine: String, service: String, instance: String) -> Result<Self, InvalidName> {
        Ok(Self {
            machine: NodeId::new(machine)?,
            service: token("service", service)?,
            instance: token("instance", instance)?,
        })
    }

    /// Its key in the control bucket, which also names it in the registry.
    #[must_use]
    pub fn key(&self) -> String {
        registration_key(&self.machine, &self.service, &self.instance)
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.service, self.machine)
    }
}

fn token(field: &'static str, text: String) -> Result<String, InvalidName> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
        let value = text.chars().take(80).collect();
        return Err(InvalidName { field, value, expected: "1 to 64 letters, digits, `-` or `_`" });
    }
    Ok(text)
}

/// A registration that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// Who.
    pub instance: Instance,
    /// Version of the program.
    pub version: String,
    /// When it started.
    pub started_unix_ms: u64,
    /// What it runs; each converts into the domain's type.
    pub deployments: Vec<v1::Deployment>,
}

/// A heartbeat that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// Who.
    pub instance: Instance,
    /// Version of the program.
    pub version: String,
    /// When it was heard, by this machine's clock.
    pub heard_unix_ms: u64,
    /// Requests in flight.
    pub in_flight: u32,
    /// Whether it takes work.
    pub ready: bool,
    /// What its machine has (vram-optimizer only).
    pub resources: Option<v1::NodeResources>,
}

/// Why a registration or heartbeat is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Not the message that belongs there.
    #[error("does not decode: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A name that cannot stand in a key or subject.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Somebody else's: bus permissions are by key and subject, so that these say who wrote it.
    #[error("says that it is of {0}, expected what the key or subject says")]
    OtherInstance(Instance),
    /// More than a process may have.
    #[error("has {0} deployments, expected at most {DEPLOYMENTS_MAX}")]
    TooMany(usize),
}

/// Reads a registration: what can be used of it, and why the rest cannot.
///
/// # Errors
/// [`Refused`] when nothing can be used.
pub fn registration(key: &str, payload: &[u8]) -> Result<(Registered, Vec<Fault>), Refused> {
    let wire = v1::Registration::decode(payload)?;
    let instance = Instance::check(wire.machine, wire.service, wire.instance)?;
    if instance.key() != key {
        return Err(Refused::OtherInstance(instance));
    }
    if wire.deployments.len() > DEPLOYMENTS_MAX {
        return Err(Refused::TooMany(wire.deployments.len()));
    }
    let mut faults = Vec::new();
    let mut ids = HashSet::new();
    let mut deployments = Vec::with_capacity(wire.deployments.len());
    for deployment in wire.deployments {
        match check_deployment(&instance, &deployment, &mut ids) {
            Ok(()) => deployments.push(deployment),
            Err(fault) => faults.push(fault),
        }
    }
    let registered = Registered {
        instance,
        version: wire.version.chars().take(64).collect(),
        started_unix_ms: wire.started_unix_ms,
        deployments,
    };
    Ok((registered, faults))
}

fn check_deployment(
    instance: &Instance,
    wire: &v1::Deployment,
    ids: &mut HashSet<String>,
) -> Result<(), Fault> {
    let deployment = Deployment::try_from(wire.clone())?;
    let id = &deployment.id;
    if deployment.machine != instance.machine {
        let message = format!(
            "deployment {id}: machine is {:?}, expected {:?} where it was registered",
            deployment.machine.as_str(),
            instance.machine.as_str()
        );
        return Err(Fault::invalid("machine", message));
    }
    if let Err(error) = token("executor", deployment.executor) {
        return Err(Fault::invalid("executor", format!("deployment {id}: {error}")));
    }
    if !ids.insert(wire.id.clone()) {
        return Err(Fault::invalid("id", format!("deployment {id}: registered twice, expected once")));
    }
    Ok(())
}

/// Reads a heartbeat.
///
/// # Errors
/// [`Refused`].
pub fn heartbeat(
    prefix: &Prefix,
    subject: &str,
    payload: &[u8],
    heard_unix_ms: u64,
) -> Result<Beat, Refused> {
    let wire = v1::ServiceHeartbeat::decode(payload)?;
    let instance = Instance::check(wire.machine, wire.service, wire.instance)?;
    let said = subject.strip_prefix(heartbeats(prefix).trim_end_matches('>'));
    if said != Some(&format!("{}.{}.{}", instance.machine, instance.service, instance.instance)) {
        return Err(Refused::OtherInstance(instance));
    }
    Ok(Beat {
        instance,
        version: wire.version.chars().take(64).collect(),
        heard_unix_ms,
        in_flight: wire.in_flight,
        ready: wire.ready,
        resources: wire.resources,
    })
}

#[cfg(test)]
mod tests;
