//! The snapshot of the moment, as the parts of this service share it.

use std::{sync::Arc, time::Duration};

use domain::{
    fault::{Code, Fault, Origin},
    routing::Snapshot,
};
use tokio::sync::watch;
use wire::v1;

/// How long whoever changes something waits for the snapshot that shows it.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(3);

/// One snapshot in both forms.
#[derive(Debug, Clone)]
pub struct View {
    /// As it is written to the bucket.
    pub wire: Arc<v1::RoutingSnapshot>,
    /// As decisions want it.
    pub routing: Arc<Snapshot>,
    /// Names of the aliases that stand for something else than the policies say.
    pub switched: Arc<[String]>,
}

/// The latest view; `None` before the first.
pub type Views = watch::Receiver<Option<View>>;

impl View {
    /// Of a snapshot.
    ///
    /// # Errors
    /// It does not convert: a defect, since everything in it was checked.
    pub fn new(wire: v1::RoutingSnapshot, switched: Vec<String>) -> Result<Self, Fault> {
        let routing = Snapshot::try_from(wire.clone())?;
        Ok(Self { wire: Arc::new(wire), routing: Arc::new(routing), switched: switched.into() })
    }

    /// The flag of that name.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<&v1::Flag> {
        self.wire.flags.iter().find(|flag| flag.name == name)
    }
}

/// Waits for the snapshot that shows a change, in the bucket: whoever asks next is answered by it.
///
/// # Errors
/// `Timeout`: it is kept, but not in force yet.
pub(crate) async fn in_force(
    views: &mut Views,
    written: &mut watch::Receiver<u64>,
    shows: impl Fn(&View) -> bool,
) -> Result<(), Fault> {
    let waiting = async {
        let revision = {
            let view = views.wait_for(|view| view.as_ref().is_some_and(&shows)).await.ok()?;
            view.as_ref().map(|view| view.wire.revision)?
        };
        written.wait_for(|written| *written >= revision).await.ok().map(drop)
    };
    match tokio::time::timeout(IN_FORCE_WITHIN, waiting).await {
        Ok(Some(())) => Ok(()),
        _ => Err(Fault::new(
            Code::Timeout,
            Origin::Internal,
            true,
            format!("the change is kept, but no snapshot showed it within {IN_FORCE_WITHIN:?}"),
        )),
    }
}
