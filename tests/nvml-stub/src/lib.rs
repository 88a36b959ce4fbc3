//! A stand-in for `libnvidia-ml.so.1`: as much of NVML's ABI as nvml-wrapper 0.13 needs to read GPUs that a text file
//! describes. It lets tests run the real NVML code on a machine without an NVIDIA driver: fill a card, start a game on it,
//! lose it, get it back.
//!
//! The file lies beside the library and is called as the library plus `.devices`, so that each test copies the library into
//! a folder of its own and has a machine of its own. It is read again at every call. One device a line:
//!
//! ```text
//! name;uuid;total_mib;used_mib;gpu_percent;memory_percent;celsius;milliwatts;pid=mib,pid=mib;pid=mib
//! ```
//!
//! The last two fields are the compute and the graphics processes; `pid=?` is a process whose memory the driver doesn't
//! tell. `-` in a field makes its call answer "not supported". Lines that begin with `#` are skipped. Commands:
//!
//! - `!init N`: initialisation answers NVML error N (9 = driver not loaded);
//! - `!fail N`: every call on devices answers NVML error N (15 = GPU is lost, 999 = unknown);
//! - `!lost I N`: device I answers NVML error N, the others work.
//!
//! Without the file there is one idle card of 24,564 MiB. Error numbers and layouts: `nvml.h`,
//! <https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceEnumvs.html>.

mod machine;

use std::{
    ffi::{CStr, OsStr, c_char, c_int, c_uint, c_ulonglong, c_void},
    mem::size_of,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use machine::{Gpu, Machine, Process};

const SUCCESS: c_int = 0;
const UNINITIALIZED: c_int = 1;
const INVALID_ARGUMENT: c_int = 2;
const NOT_SUPPORTED: c_int = 3;
const INSUFFICIENT_SIZE: c_int = 7;
const ARGUMENT_VERSION_MISMATCH: c_int = 25;
/// `NVML_VALUE_NOT_AVAILABLE`.
const NOT_AVAILABLE: c_ulonglong = c_ulonglong::MAX;

/// NVML counts initialisations; calls without one are refused.
static INITIALISED: AtomicUsize = AtomicUsize::new(0);

/// `nvmlMemory_v2_t`.
#[repr(C)]
pub struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlUtilization_t`.
#[repr(C)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// `nvmlProcessInfo_t`.
#[repr(C)]
pub struct ProcessInfo {
    pid: c_uint,
    used: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// The folder entry that this library was loaded from, plus `.devices`.
fn description() -> Option<PathBuf> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let inside: *const AtomicUsize = &raw const INITIALISED;
    // SAFETY: any address may be asked about, and `info` outlives the call.
    let found = unsafe { libc::dladdr(inside.cast(), &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr filled in a C string that lives as long as the library.
    let library = unsafe { CStr::from_ptr(info.dli_fname) };
    let mut path = OsStr::from_bytes(library.to_bytes()).to_owned();
    path.push(".devices");
    Some(PathBuf::from(path))
}

fn machine() -> Machine {
    let text = description().and_then(|path| std::fs::read_to_string(path).ok());
    text.map_or_else(Machine::default, |text| Machine::parse(&text))
}

/// The devices, for the calls that need an initialised library.
fn devices() -> Result<Machine, c_int> {
    if INITIALISED.load(Ordering::Acquire) == 0 {
        return Err(UNINITIALIZED);
    }
    let machine = machine();
    machine.fails.map_or(Ok(machine), Err)
}

/// Handles are the index plus one, so that a null handle is never valid.
fn with(device: *mut c_void, act: impl FnOnce(&Gpu) -> c_int) -> c_int {
    let machine = match devices() {
        Ok(machine) => machine,
        Err(code) => return code,
    };
    let index = device.addr().wrapping_sub(1);
    match (machine.lost(index), machine.gpus.get(index)) {
        (Some(code), _) => code,
        (None, Some(gpu)) => act(gpu),
        (None, None) => INVALID_ARGUMENT,
    }
}

/// `out` is null or may be written.
unsafe fn put<T>(value: T, out: *mut T) -> c_int {
    if out.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, and the caller says that it may be written.
    unsafe { out.write(value) };
    SUCCESS
}

/// `out` is null or has room for `len` bytes.
unsafe fn put_text(text: &str, out: *mut c_char, len: c_uint) -> c_int {
    if out.is_null() {
        return INVALID_ARGUMENT;
    }
    if text.len() >= len as usize {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: the text and its final zero fit into `len` bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), out, text.len());
        out.add(text.len()).write(0);
    }
    SUCCESS
}

/// `count` may be read and written, `out` is null or has room for `count` entries.
unsafe fn put_processes(processes: &[Process], count: *mut c_uint, out: *mut ProcessInfo) -> c_int {
    if count.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, and the caller says that it may be read.
    let room = unsafe { count.read() } as usize;
    // SAFETY: as above, to write.
    unsafe { count.write(c_uint::try_from(processes.len()).unwrap_or(c_uint::MAX)) };
    if processes.len() > room || (out.is_null() && !processes.is_empty()) {
        return INSUFFICIENT_SIZE;
    }
    for (nth, process) in processes.iter().enumerate() {
        let info = ProcessInfo {
            pid: process.pid,
            used: process.used.unwrap_or(NOT_AVAILABLE),
            gpu_instance: c_uint::MAX,
            compute_instance: c_uint::MAX,
        };
        // SAFETY: `nth` is below `room`.
        unsafe { out.add(nth).write(info) };
    }
    SUCCESS
}

macro_rules! nvml {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $body:block)*) => { $(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> c_int $body
    )* };
}

/// A figure that a device may not have.
macro_rules! figures {
    ($(fn $name:ident($($unused:ident: $type:ty),*) -> $field:ident;)*) => { nvml! { $(
        fn $name(device: *mut c_void, $($unused: $type,)* out: *mut c_uint) {
            $(let _ = $unused;)*
            // SAFETY: NVML's contract for `out`.
            with(device, |gpu| gpu.$field.map_or(NOT_SUPPORTED, |figure| unsafe { put(figure, out) }))
        }
    )* } };
}

nvml! {
    fn nvmlInit_v2() {
        match machine().init_fails {
            Some(code) => code,
            None => {
                INITIALISED.fetch_add(1, Ordering::AcqRel);
                SUCCESS
            }
        }
    }
    fn nvmlShutdown() {
        let ended = INITIALISED.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
        if ended.is_ok() { SUCCESS } else { UNINITIALIZED }
    }
    fn nvmlSystemGetDriverVersion(out: *mut c_char, len: c_uint) {
        // SAFETY: NVML's contract for `out`.
        unsafe { put_text("575.57.08", out, len) }
    }
    fn nvmlDeviceGetCount_v2(out: *mut c_uint) {
        match devices() {
            // SAFETY: NVML's contract for `out`.
            Ok(machine) => unsafe { put(c_uint::try_from(machine.gpus.len()).unwrap_or(c_uint::MAX), out) },
            Err(code) => code,
        }
    }
    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, out: *mut *mut c_void) {
        let handle = std::ptr::without_provenance_mut(index as usize + 1);
        // SAFETY: NVML's contract for `out`.
        with(handle, |_| unsafe { put(handle, out) })
    }
    fn nvmlDeviceGetName(device: *mut c_void, out: *mut c_char, len: c_uint) {
        // SAFETY: NVML's contract for `out`.
        with(device, |gpu| unsafe { put_text(&gpu.name, out, len) })
    }
    fn nvmlDeviceGetUUID(device: *mut c_void, out: *mut c_char, len: c_uint) {
        // SAFETY: NVML's contract for `out`.
        with(device, |gpu| unsafe { put_text(&gpu.uuid, out, len) })
    }
    fn nvmlDeviceGetMemoryInfo_v2(device: *mut c_void, out: *mut Memory) {
        with(device, |gpu| {
            let Some((total, used)) = gpu.memory else { return NOT_SUPPORTED };
            if out.is_null() {
                return INVALID_ARGUMENT;
            }
            // SAFETY: not null, and the caller has filled in the version.
            let version = unsafe { (*out).version };
            if version as usize != size_of::<Memory>() | (2 << 24) {
                return ARGUMENT_VERSION_MISMATCH;
            }
            let memory = Memory { version, total, reserved: 0, free: total.saturating_sub(used), used };
            // SAFETY: NVML's contract for `out`.
            unsafe { put(memory, out) }
        })
    }
    fn nvmlDeviceGetUtilizationRates(device: *mut c_void, out: *mut Utilization) {
        with(device, |gpu| match (gpu.utilization, gpu.memory_utilization) {
            // SAFETY: NVML's contract for `out`.
            (Some(gpu), Some(memory)) => unsafe { put(Utilization { gpu, memory }, out) },
            _ => NOT_SUPPORTED,
        })
    }
    fn nvmlDeviceGetComputeRunningProcesses_v3(device: *mut c_void, count: *mut c_uint, out: *mut ProcessInfo) {
        // SAFETY: NVML's contract for `count` and `out`.
        with(device, |gpu| unsafe { put_processes(&gpu.compute, count, out) })
    }
    fn nvmlDeviceGetGraphicsRunningProcesses_v3(device: *mut c_void, count: *mut c_uint, out: *mut ProcessInfo) {
        // SAFETY: NVML's contract for `count` and `out`.
        with(device, |gpu| unsafe { put_processes(&gpu.graphics, count, out) })
    }
}

figures! {
    fn nvmlDeviceGetTemperature(sensor: c_uint) -> temperature;
    fn nvmlDeviceGetPowerUsage() -> power;
}
