//! What is known of the machine's GPUs.

pub mod nvml;

use domain::{
    units::Bytes,
    vram::{GpuId, ProcessUse},
};

/// One GPU at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// The driver's number; in the order of the PCI bus.
    pub index: u32,
    /// As sold.
    pub name: String,
    /// Which one, also after the numbers have changed.
    pub id: GpuId,
    /// Installed memory.
    pub total: Bytes,
    /// Memory that is not free, what the driver keeps for itself included.
    pub used: Bytes,
    /// 0 to 100; none where the GPU doesn't tell.
    pub utilization_percent: Option<u32>,
    /// None where the GPU doesn't tell.
    pub temperature_celsius: Option<u32>,
    /// Milliwatts; none where the GPU doesn't tell.
    pub power_milliwatts: Option<u32>,
    /// Processes on it whose use the driver tells, by their ids in the driver's eyes (the host's).
    pub processes: Vec<ProcessUse>,
}

/// All GPUs at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Those that could be read; not none.
    pub gpus: Vec<Gpu>,
    /// Those that could not, by number, and why.
    pub unreadable: Vec<(u32, String)>,
}

/// Why there is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// The machine has no GPU that this program can see, and had none since the program started.
    #[error("{reason}")]
    Absent {
        /// What says so.
        reason: String,
    },
    /// There are GPUs, or should be, and they can't be read.
    #[error("{reason}")]
    Lost {
        /// What the driver said.
        reason: String,
    },
}

/// A way to see the GPUs. A call may take long: it goes to a driver.
pub trait Gpus: Send {
    /// Reads all GPUs.
    ///
    /// # Errors
    /// [`GpuError`]; the next call starts from scratch.
    fn snapshot(&mut self) -> Result<Snapshot, GpuError>;
}
