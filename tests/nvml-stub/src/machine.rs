//! The machine that the text file describes.

const MIB: u64 = 1 << 20;
const UNKNOWN: i32 = 999;
const IDLE_CARD: &str =
    "NVIDIA GeForce RTX 4090 (stub);GPU-00000000-0000-0000-0000-000000000000;24564;512;0;0;35;20000;;";

pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Bytes; none where the driver doesn't tell.
    pub(crate) used: Option<u64>,
}

pub(crate) struct Gpu {
    pub(crate) name: String,
    pub(crate) uuid: String,
    /// Total and used, bytes.
    pub(crate) memory: Option<(u64, u64)>,
    /// Percent.
    pub(crate) utilization: Option<u32>,
    /// Percent.
    pub(crate) memory_utilization: Option<u32>,
    /// Degrees Celsius.
    pub(crate) temperature: Option<u32>,
    /// Milliwatts.
    pub(crate) power: Option<u32>,
    pub(crate) compute: Vec<Process>,
    pub(crate) graphics: Vec<Process>,
}

pub(crate) struct Machine {
    pub(crate) gpus: Vec<Gpu>,
    pub(crate) init_fails: Option<i32>,
    pub(crate) fails: Option<i32>,
    lost: Vec<(usize, i32)>,
}

impl Default for Machine {
    fn default() -> Self {
        Self::parse(IDLE_CARD)
    }
}

impl Machine {
    pub(crate) fn parse(text: &str) -> Self {
        let mut machine = Self { gpus: Vec::new(), init_fails: None, fails: None, lost: Vec::new() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["!init", code] => machine.init_fails = Some(code.parse().unwrap_or(UNKNOWN)),
                ["!fail", code] => machine.fails = Some(code.parse().unwrap_or(UNKNOWN)),
                ["!lost", index, code] => {
                    let index = index.parse().unwrap_or(usize::MAX);
                    machine.lost.push((index, code.parse().unwrap_or(UNKNOWN)));
                }
                _ => machine.gpus.push(Gpu::parse(line)),
            }
        }
        machine
    }

    /// What a device answers that has fallen off the bus.
    pub(crate) fn lost(&self, index: usize) -> Option<i32> {
        self.lost.iter().find(|(lost, _)| *lost == index).map(|(_, code)| *code)
    }
}

impl Gpu {
    fn parse(line: &str) -> Self {
        let fields: Vec<&str> = line.split(';').map(str::trim).collect();
        let text = |nth: usize| fields.get(nth).copied().unwrap_or_default();
        let figure = |nth: usize| text(nth).parse::<u32>().ok();
        let mib = |nth: usize| text(nth).parse::<u64>().ok().map(|count| count.saturating_mul(MIB));
        Self {
            name: text(0).to_owned(),
            uuid: text(1).to_owned(),
            memory: mib(2).zip(mib(3)),
            utilization: figure(4),
            memory_utilization: figure(5),
            temperature: figure(6),
            power: figure(7),
            compute: processes(text(8)),
            graphics: processes(text(9)),
        }
    }
}

fn processes(text: &str) -> Vec<Process> {
    let process = |entry: &str| {
        let (pid, used) = entry.split_once('=')?;
        let used = used.trim().parse::<u64>().ok().map(|mib| mib.saturating_mul(MIB));
        Some(Process { pid: pid.trim().parse().ok()?, used })
    };
    text.split(',').filter_map(process).collect()
}
