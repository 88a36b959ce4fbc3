//! The snapshot of the moment, as the parts of this service share it.

use std::sync::Arc;

use domain::{fault::Fault, routing::Snapshot};
use tokio::sync::watch;
use wire::v1;

/// One snapshot in both forms.
#[derive(Debug, Clone)]
pub struct View {
    /// As it is written to the bucket.
    pub wire: Arc<v1::RoutingSnapshot>,
    /// As decisions want it.
    pub routing: Arc<Snapshot>,
}

/// The latest view; `None` before the first.
pub type Views = watch::Receiver<Option<View>>;

impl View {
    /// Of a snapshot.
    ///
    /// # Errors
    /// It does not convert: a defect, since everything in it was checked.
    pub fn new(wire: v1::RoutingSnapshot) -> Result<Self, Fault> {
        let routing = Snapshot::try_from(wire.clone())?;
        Ok(Self { wire: Arc::new(wire), routing: Arc::new(routing) })
    }

    /// The flag of that name.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<&v1::Flag> {
        self.wire.flags.iter().find(|flag| flag.name == name)
    }
}
