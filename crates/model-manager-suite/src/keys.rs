//! Virtual keys: made, changed and revoked on the bus, kept in the control bucket, known of all machines.
//!
//! One task owns the table and takes one call after the other. The secret of a new key is in its answer and nowhere else: the
//! bucket has its SHA-256. A key is never deleted, so that its name in the ledger means one key for ever; a revoked one has no
//! secret any more, and the one revoked longest ago makes room when there are too many.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bus::{
    Bus, Incoming,
    control::{Change, Control, UpdateError},
};
use bytes::Bytes;
use domain::{
    fault::{Code, Fault, Origin},
    id::KeyId,
    key::{Key, PREFIX},
};
use futures::{Stream, StreamExt};
use prost::Message;
use ring::rand::SecureRandom;
use service_runtime::{
    Clock,
    secret::{ExposeSecret, Secret},
};
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wire::{subject::virtual_key, v1};

/// Keys of all machines together, revoked ones included.
const KEYS_MAX: usize = 256;
/// Random bytes in a key.
const SECRET_BYTES: usize = 32;
/// A bucket that is there takes a key within this.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

/// The keys that are known, by id. An id that two machines have made while they did not hear each other is the first one's.
#[derive(Debug, Default)]
pub(crate) struct KeyTable(BTreeMap<String, (v1::VirtualKey, Key)>);

impl KeyTable {
    /// What the bucket had at the start. One that cannot be read is reported and not used.
    pub(crate) fn read(stored: Vec<(String, Bytes)>) -> Self {
        let mut table = Self::default();
        for (kept_under, value) in stored {
            if let Err(error) = decode(value).and_then(|wire| table.insert(wire)) {
                tracing::error!(key = kept_under, %error, "a stored virtual key is not used");
            }
        }
        table
    }

    /// Whether there is such a key, of use or not.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// All that are not revoked.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &Key> {
        self.0.values().map(|(_, key)| key).filter(|key| key.sha256.is_some())
    }

    fn insert(&mut self, wire: v1::VirtualKey) -> Result<(), Fault> {
        let key = Key::try_from(wire.clone())?;
        let older = |(known, _): &(v1::VirtualKey, Key)| {
            known.machine != wire.machine && known.created_unix_ms <= wire.created_unix_ms
        };
        if !self.0.get(wire.id.as_str()).is_some_and(older) {
            self.0.insert(wire.id.clone(), (wire, key));
        }
        Ok(())
    }

    /// As everybody may see them.
    fn shown(&self) -> Vec<v1::VirtualKey> {
        self.0.values().map(|(wire, _)| v1::VirtualKey { sha256: Vec::new(), ..wire.clone() }).collect()
    }
}

/// Keeps the keys.
pub(crate) struct Keys {
    pub(crate) bus: Bus,
    pub(crate) control: Control,
    pub(crate) clock: Clock,
    pub(crate) master: Option<Secret>,
    pub(crate) table: watch::Sender<Arc<KeyTable>>,
}

impl Keys {
    /// Answers until `stop` fires.
    pub(crate) async fn run(
        self,
        mut changes: mpsc::Receiver<Change>,
        mut calls: impl Stream<Item = Incoming> + Send + Unpin,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                // what was kept comes before what is asked of it
                biased;
                () = stop.cancelled() => return,
                Some(change) = changes.recv() => self.changed(change),
                call = calls.next() => match call {
                    Some(call) => self.answer(call).await,
                    None => return,
                },
            }
        }
    }

    fn changed(&self, change: Change) {
        let Some(value) = change.value else {
            return self.forgotten(&change.key);
        };
        if let Err(error) = decode(value).and_then(|wire| self.know(wire)) {
            tracing::error!(key = change.key, %error, "a stored virtual key is not used");
        }
    }

    fn forgotten(&self, kept_under: &str) {
        self.table.send_modify(|table| {
            let still = |wire: &v1::VirtualKey| kept_under != format!("{}.key.{}", wire.machine, wire.id);
            let left = table.0.iter().filter(|(_, (wire, _))| still(wire));
            *table = Arc::new(KeyTable(left.map(|(id, both)| (id.clone(), both.clone())).collect()));
        });
    }

    fn know(&self, wire: v1::VirtualKey) -> Result<(), Fault> {
        let mut next = KeyTable(self.table.borrow().0.clone());
        next.insert(wire)?;
        self.table.send_replace(Arc::new(next));
        Ok(())
    }

    async fn answer(&self, call: Incoming) {
        let Some(reply_to) = call.reply else { return };
        let outcome = self.act(&call.payload).await;
        let reply = match outcome {
            Ok(secret) => v1::KeyReply { keys: self.table.borrow().shown(), secret, error: None },
            Err(fault) => {
                tracing::info!(%fault, "key call refused");
                v1::KeyReply { error: Some(fault.into()), ..Default::default() }
            }
        };
        if let Err(error) = self.bus.reply(&reply_to, &reply).await {
            tracing::warn!(%error, "key call not answered");
        }
    }

    /// The secret of a new key, else nothing.
    async fn act(&self, payload: &[u8]) -> Result<String, Fault> {
        let request = v1::KeyRequest::decode(payload).map_err(|error| {
            Fault::invalid("payload", format!("the payload is no llm.v1.KeyRequest: {error}"))
        })?;
        self.authorize(&request.master_key)?;
        match (request.create, request.change, request.revoke.as_str()) {
            (None, None, "") => Ok(String::new()),
            (Some(wanted), None, "") => self.create(wanted).await,
            (None, Some(wanted), "") => self.change(wanted).await,
            (None, None, id) => self.revoke(id).await,
            _ => Err(Fault::invalid("create", "expected one of create, change and revoke")),
        }
    }

    fn authorize(&self, given: &str) -> Result<(), Fault> {
        let Some(master) = &self.master else { return Ok(()) };
        let master = master.resolve().map_err(|error| Fault::internal(error.to_string()))?;
        if bool::from(master.expose_secret().as_bytes().ct_eq(given.as_bytes())) {
            return Ok(());
        }
        let message = "master_key is missing or another, expected that of model-manager-suite.master_key";
        Err(Fault::new(Code::Unauthenticated, Origin::Caller, false, message).in_field("master_key"))
    }

    async fn create(&self, wanted: v1::VirtualKey) -> Result<String, Fault> {
        let id = KeyId::new(wanted.id.clone())?;
        if self.table.borrow().has(id.as_str()) {
            let message = format!("id is {:?}, expected one that no key has or had", id.as_str());
            return Err(Fault::invalid("id", message));
        }
        self.make_room().await?;
        let secret = secret(&id)?;
        let wire = v1::VirtualKey {
            machine: self.bus.machine().to_string(),
            sha256: ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()).as_ref().to_vec(),
            created_unix_ms: self.clock.now_unix_ms(),
            disabled: false,
            revoked_unix_ms: 0,
            ..wanted
        };
        self.write(wire, 0).await?;
        tracing::info!(key = %id, "virtual key made");
        Ok(secret)
    }

    async fn change(&self, wanted: v1::VirtualKey) -> Result<String, Fault> {
        let (kept, revision) = self.kept(&wanted.id).await?;
        if kept.revoked_unix_ms > 0 {
            let message = format!("id is {:?}, expected a key that is not revoked", wanted.id);
            return Err(Fault::invalid("id", message));
        }
        let wire = v1::VirtualKey {
            machine: kept.machine,
            sha256: kept.sha256,
            created_unix_ms: kept.created_unix_ms,
            revoked_unix_ms: 0,
            ..wanted
        };
        tracing::info!(key = wire.id, disabled = wire.disabled, "virtual key changed");
        self.write(wire, revision).await.map(|()| String::new())
    }

    async fn revoke(&self, id: &str) -> Result<String, Fault> {
        let (kept, revision) = self.kept(id).await?;
        if kept.revoked_unix_ms > 0 {
            return Ok(String::new());
        }
        let revoked_unix_ms = self.clock.now_unix_ms();
        tracing::info!(key = id, "virtual key revoked");
        let wire = v1::VirtualKey { sha256: Vec::new(), revoked_unix_ms, ..kept };
        self.write(wire, revision).await.map(|()| String::new())
    }

    /// A key of this machine as it is in the bucket, and its revision there.
    async fn kept(&self, id: &str) -> Result<(v1::VirtualKey, u64), Fault> {
        let id = KeyId::new(id)?;
        let key = virtual_key(self.bus.machine(), &id);
        let entry = self.control.entry(&key).await.map_err(|error| Fault::internal(error.to_string()))?;
        let Some((value, revision)) = entry else {
            let message =
                format!("id is {:?}, expected that of a key of machine {}", id.as_str(), self.bus.machine());
            return Err(Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("id"));
        };
        Ok((decode(value)?, revision))
    }

    async fn write(&self, wire: v1::VirtualKey, revision: u64) -> Result<(), Fault> {
        let checked = Key::try_from(wire.clone())?;
        let key = virtual_key(self.bus.machine(), &checked.id);
        let writing = self.control.update(&key, &wire, revision);
        match tokio::time::timeout(WRITTEN_WITHIN, writing).await {
            Ok(Ok(_)) => self.know(wire),
            Ok(Err(UpdateError::Overtaken)) => {
                let message = format!("key {} was changed by somebody else at the same time", checked.id);
                Err(Fault::new(Code::Unavailable, Origin::Internal, true, message))
            }
            Ok(Err(error @ UpdateError::Failed(_))) => Err(Fault::internal(error.to_string())),
            Err(_) => {
                Err(Fault::internal(format!("the control bucket did not answer within {WRITTEN_WITHIN:?}")))
            }
        }
    }

    async fn make_room(&self) -> Result<(), Fault> {
        let oldest = {
            let table = self.table.borrow();
            if table.0.len() < KEYS_MAX {
                return Ok(());
            }
            let own = self.bus.machine().as_str();
            let revoked =
                table.0.values().filter(|(wire, _)| wire.revoked_unix_ms > 0 && wire.machine == own);
            revoked
                .min_by_key(|(wire, _)| wire.revoked_unix_ms)
                .map(|(_, key)| virtual_key(&key.machine, &key.id))
        };
        let Some(oldest) = oldest else {
            let message = format!("there are {KEYS_MAX} keys, expected one to be revoked first");
            return Err(Fault::invalid("create", message));
        };
        self.control.delete(&oldest).await.map_err(|error| Fault::internal(error.to_string()))?;
        self.forgotten(&oldest);
        Ok(())
    }
}

fn decode(value: Bytes) -> Result<v1::VirtualKey, Fault> {
    v1::VirtualKey::decode(value).map_err(|error| Fault::internal(error.to_string()))
}

/// `hk_<id>_<64 hexadecimal digits>`.
fn secret(id: &KeyId) -> Result<String, Fault> {
    let mut bytes = [0_u8; SECRET_BYTES];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Fault::internal("the system gives no random numbers"))?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{PREFIX}{id}_{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(id: &str, machine: &str, created_unix_ms: u64) -> v1::VirtualKey {
        v1::VirtualKey {
            id: id.to_owned(),
            machine: machine.to_owned(),
            sha256: vec![1; 32],
            created_unix_ms,
            ..Default::default()
        }
    }

    #[test]
    fn an_id_of_two_machines_is_the_first_ones() {
        for order in [[0, 1], [1, 0]] {
            let both = [wire("ci", "mainpc", 1), wire("ci", "pc2", 2)];
            let mut table = KeyTable::default();
            for at in order {
                table.insert(both[at].clone()).unwrap();
            }
            assert_eq!(table.usable().next().unwrap().machine.as_str(), "mainpc");
        }
    }

    #[test]
    fn what_is_shown_has_no_hash() {
        let mut table = KeyTable::default();
        table.insert(wire("ci", "mainpc", 1)).unwrap();
        assert!(table.shown().iter().all(|key| key.sha256.is_empty()) && table.has("ci"));
    }

    #[test]
    fn no_two_secrets_are_alike() {
        let id = KeyId::new("c_i").unwrap();
        let (one, other) = (secret(&id).unwrap(), secret(&id).unwrap());
        assert!(one.starts_with("hk_c_i_") && one.len() == 7 + 64 && one != other, "{one}");
    }
}
