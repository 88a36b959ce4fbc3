//! NVIDIA's management library. The only file that knows it.
//!
//! Only the memory of a device is needed; a figure that a device does not have is left out. Error numbers and what they
//! mean: <https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceEnumvs.html>.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use domain::{
    units::Bytes,
    vram::{GpuId, ProcessUse},
};
use nvml_wrapper::{
    Device, Nvml, enum_wrappers::device::TemperatureSensor, enums::device::UsedGpuMemory, error::NvmlError,
    struct_wrappers::device::ProcessInfo,
};

use super::{Gpu, GpuError, Gpus, Snapshot};

/// The name that every driver package and the container runtime install; the one without a number comes with developer
/// packages only.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// The GPUs that NVML sees.
pub struct NvmlGpus {
    library: OsString,
    nvml: Option<Nvml>,
    /// Whether a GPU was ever seen: from then on a missing one is lost, not absent.
    seen: bool,
}

impl NvmlGpus {
    /// From `library`, or from the driver's own. Nothing is loaded before the first snapshot.
    #[must_use]
    pub fn new(library: Option<PathBuf>) -> Self {
        let library = library.map_or_else(|| OsString::from(LIBRARY), PathBuf::into_os_string);
        Self { library, nvml: None, seen: false }
    }

    fn read(&mut self) -> Result<Snapshot, GpuError> {
        let nvml = match self.nvml.take() {
            Some(nvml) => nvml,
            None => Nvml::builder().lib_path(&self.library).init().map_err(|error| classify(&error))?,
        };
        let count = nvml.device_count().map_err(|error| classify(&error))?;
        let mut snapshot = Snapshot::default();
        for index in 0..count {
            match nvml.device_by_index(index).and_then(|device| gpu(index, &device)) {
                Ok(gpu) => snapshot.gpus.push(gpu),
                Err(error) => snapshot.unreadable.push((index, error.to_string())),
            }
        }
        match (snapshot.gpus.is_empty(), snapshot.unreadable.first()) {
            (true, None) => Err(GpuError::Absent { reason: "NVML sees no GPU".to_owned() }),
            (true, Some((index, reason))) => Err(GpuError::Lost { reason: format!("GPU {index}: {reason}") }),
            (false, _) => {
                // Kept for the next call only after a success: a library whose GPUs are gone is loaded again.
                self.nvml = Some(nvml);
                Ok(snapshot)
            }
        }
    }
}

impl Gpus for NvmlGpus {
    fn snapshot(&mut self) -> Result<Snapshot, GpuError> {
        match self.read() {
            Ok(snapshot) => {
                self.seen = true;
                Ok(snapshot)
            }
            Err(GpuError::Absent { reason }) if self.seen => Err(GpuError::Lost { reason }),
            Err(error) => Err(error),
        }
    }
}

fn classify(error: &NvmlError) -> GpuError {
    let reason = error.to_string();
    match error {
        // No driver, or one before 510, which can't tell the memory in the way that is read here.
        NvmlError::LibloadingError(_)
        | NvmlError::FailedToLoadSymbol(_)
        | NvmlError::LibraryNotFound
        | NvmlError::FunctionNotFound
        | NvmlError::DriverNotLoaded => GpuError::Absent { reason },
        _ => GpuError::Lost { reason },
    }
}

fn gpu(index: u32, device: &Device<'_>) -> Result<Gpu, NvmlError> {
    let memory = device.memory_info()?;
    let mut processes = BTreeMap::new();
    // A process that computes and draws is in both lists, with the same figure. A list that can't be read is an empty one:
    // its processes then count as foreign, which is the safe side.
    for list in [device.running_compute_processes(), device.running_graphics_processes()] {
        for (pid, used) in list.unwrap_or_default().iter().filter_map(known_use) {
            let known = processes.entry(pid).or_insert(used);
            *known = used.max(*known);
        }
    }
    Ok(Gpu {
        index,
        name: device.name()?,
        id: GpuId::new(device.uuid()?),
        total: Bytes::new(memory.total),
        used: Bytes::new(memory.total.saturating_sub(memory.free)),
        utilization_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        power_milliwatts: device.power_usage().ok(),
        processes: processes.into_iter().map(|(pid, used)| ProcessUse { pid, used }).collect(),
    })
}

fn known_use(process: &ProcessInfo) -> Option<(u32, Bytes)> {
    match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some((process.pid, Bytes::new(bytes))),
        UsedGpuMemory::Unavailable => None,
    }
}
