//! Looks at the memory on a thread of its own.
//!
//! A driver call may hang (a GPU that fell off the bus is known for it), so nothing waits for the thread: the loop asks,
//! goes on, and takes the sample when it is there. One look is under way at a time.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    gpus::{GpuError, Gpus, Snapshot},
    system_memory::{Reading, SystemMemory},
};

/// A look that takes longer is taken for a driver that hangs.
pub(crate) const STALL: Duration = Duration::from_secs(5);
/// Longest pause between tries to reach GPUs that were lost, and between looks for the first one.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What was seen.
#[derive(Debug)]
pub(crate) struct Sample {
    /// None when the GPUs were not asked this time.
    pub(crate) gpus: Option<Result<Snapshot, GpuError>>,
    pub(crate) system: Result<Reading, String>,
}

struct Request {
    ask_gpus: bool,
    pids: Vec<u32>,
    answer: oneshot::Sender<Sample>,
}

/// The thread is gone.
#[derive(Debug, thiserror::Error)]
#[error("the sampler thread has ended")]
pub(crate) struct SamplerEnded;

struct Pending {
    answer: oneshot::Receiver<Sample>,
    since: Instant,
}

/// The handle on the thread; the thread ends when it is dropped.
pub(crate) struct Sampler {
    requests: SyncSender<Request>,
    pending: Option<Pending>,
    /// Number of the newest look that was begun.
    begun: u64,
    retry: Retry,
}

impl Sampler {
    /// Starts the thread. It is not joined: a hanging driver call must not keep the process from ending.
    pub(crate) fn start(gpus: Box<dyn Gpus>, system: SystemMemory, interval: Duration) -> io::Result<Self> {
        let (requests, incoming) = sync_channel(1);
        thread::Builder::new()
            .name("gpu-sampler".to_owned())
            .spawn(move || serve(gpus, &system, &incoming))?;
        Ok(Self { requests, pending: None, begun: 0, retry: Retry::new(interval) })
    }

    /// Begins a look, unless one is under way.
    pub(crate) fn begin(&mut self, pids: Vec<u32>) -> Result<(), SamplerEnded> {
        if self.pending.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        let (sender, answer) = oneshot::channel();
        let request = Request { ask_gpus: self.retry.is_due(now), pids, answer: sender };
        match self.requests.try_send(request) {
            Ok(()) => {
                self.begun += 1;
                self.pending = Some(Pending { answer, since: now });
                Ok(())
            }
            // One is begun only when none is under way.
            Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(SamplerEnded),
        }
    }

    /// Waits for the look that is under way, for ever if there is none. Returns its number too. May be dropped and called
    /// again.
    pub(crate) async fn next(&mut self) -> Result<(u64, Sample), SamplerEnded> {
        let Some(pending) = &mut self.pending else { return std::future::pending().await };
        let sample = (&mut pending.answer).await.map_err(|_| SamplerEnded)?;
        self.pending = None;
        if let Some(gpus) = &sample.gpus {
            self.retry.note(gpus.is_ok(), Instant::now());
        }
        Ok((self.begun, sample))
    }

    /// The number of a look that begins at the earliest now.
    pub(crate) fn fresh(&self) -> u64 {
        self.begun + 1
    }

    /// Whether the look that is under way takes too long.
    pub(crate) fn is_stalled(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.since.elapsed() > STALL)
    }
}

fn serve(mut gpus: Box<dyn Gpus>, system: &SystemMemory, incoming: &Receiver<Request>) {
    while let Ok(Request { ask_gpus, pids, answer }) = incoming.recv() {
        let gpus = ask_gpus.then(|| gpus.snapshot());
        let system = system.read(&pids).map_err(|error| error.to_string());
        // Whoever asked may be gone.
        let _ = answer.send(Sample { gpus, system });
    }
}

/// When to ask for the GPUs again: at once while they answer, else after a pause that doubles up to [`RETRY_MAX`].
#[derive(Debug)]
struct Retry {
    first: Duration,
    pause: Duration,
    due: Option<Instant>,
}

impl Retry {
    fn new(first: Duration) -> Self {
        Self { first, pause: first, due: None }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    fn note(&mut self, answered: bool, now: Instant) {
        if answered {
            *self = Self::new(self.first);
        } else {
            self.due = Some(now + self.pause);
            self.pause = (self.pause * 2).min(RETRY_MAX.max(self.first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_gpus_are_asked_for_less_and_less_often_until_they_answer() {
        let mut now = Instant::now();
        let mut retry = Retry::new(Duration::from_secs(1));
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert!(retry.is_due(now));
            retry.note(false, now);
            assert!(!retry.is_due(now));
            let due = retry.due.unwrap();
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        retry.note(true, now);
        assert!(retry.is_due(now));
        retry.note(false, now);
        assert_eq!(retry.due.unwrap() - now, Duration::from_secs(1));
    }

    /// A driver that hangs until it is let go.
    struct Hanging(Receiver<()>);

    impl Gpus for Hanging {
        fn snapshot(&mut self) -> Result<Snapshot, GpuError> {
            let _ = self.0.recv();
            Err(GpuError::Lost { reason: "hung".to_owned() })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_hangs_is_noticed_and_its_answer_is_taken_when_it_comes() {
        let (release, hanging) = sync_channel(1);
        let interval = Duration::from_millis(100);
        let mut sampler =
            Sampler::start(Box::new(Hanging(hanging)), SystemMemory::default(), interval).unwrap();
        sampler.begin(Vec::new()).unwrap();
        assert!(!sampler.is_stalled());
        assert!(tokio::time::timeout(STALL * 2, sampler.next()).await.is_err());
        assert!(sampler.is_stalled());
        sampler.begin(Vec::new()).unwrap();
        release.send(()).unwrap();
        let (number, sample) = sampler.next().await.unwrap();
        assert_eq!(number, 1);
        assert!(matches!(sample.gpus, Some(Err(GpuError::Lost { .. }))));
        assert!(!sampler.is_stalled());
    }
}
