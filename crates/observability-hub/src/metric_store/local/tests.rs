use prost::Message as _;
use tempfile::TempDir;

use super::*;
use crate::{metric_store::MatchOp, remote_write::proto};

const NOW: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const OPTIONS: Options = Options {
    heads: HeadLimits { series_max: 1_000, samples_per_series_max: 1_000, age_ms_max: 2 * HOUR_MS },
    request: Limits { age_ms_max: 24 * HOUR_MS },
    retention_ms: 24 * HOUR_MS,
    log_bytes_max: 128 << 20,
};

fn write(metric: &str, times: &[i64], now: i64) -> Write {
    let series = proto::TimeSeries {
        labels: vec![proto::Label { name: "__name__".to_owned(), value: metric.to_owned() }],
        samples: times
            .iter()
            .map(|timestamp| proto::Sample { value: *timestamp as f64, timestamp: *timestamp })
            .collect(),
        histograms: Vec::new(),
    };
    let plain = proto::WriteRequest { timeseries: vec![series] }.encode_to_vec();
    let body = Bytes::from(snap::raw::Encoder::new().compress_vec(&plain).unwrap());
    let decoded = decode(&body, OPTIONS.request, now).unwrap();
    Write { body, decoded, received_unix_ms: now }
}

async fn times(store: &LocalStore, metric: &str) -> Vec<i64> {
    let name =
        Matcher { name: super::super::NAME_LABEL.to_owned(), op: MatchOp::Equal, value: metric.to_owned() };
    let found = store.select(vec![name], TimeRange::ALL).await.unwrap();
    found.iter().flat_map(|series| &series.samples).map(|sample| sample.unix_ms).collect()
}

/// What a kill leaves: the files as they are on the disk now.
fn copy_of(folder: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = TempDir::new().unwrap();
    let (store, _) = LocalStore::open(folder.path(), OPTIONS, NOW).unwrap();
    let writes = (0..50).map(|number| store.write(write(&format!("m{number}"), &[NOW - 1, NOW], NOW)));
    for written in futures::future::join_all(writes).await {
        assert_eq!(written.unwrap().samples, 2);
    }
    let crashed = copy_of(folder.path());
    let (reopened, replay) = LocalStore::open(crashed.path(), OPTIONS, NOW).unwrap();
    assert_eq!(replay, Replay { bodies: 50, unreadable: 0, cut_bytes: 0 });
    assert_eq!(reopened.size(), store.size());
    assert_eq!(times(&reopened, "m49").await, [NOW - 1, NOW]);
}

#[tokio::test]
async fn a_torn_last_write_costs_only_itself() {
    let folder = TempDir::new().unwrap();
    let (store, _) = LocalStore::open(folder.path(), OPTIONS, NOW).unwrap();
    store.write(write("whole", &[NOW], NOW)).await.unwrap();
    store.write(write("torn", &[NOW], NOW)).await.unwrap();
    let crashed = copy_of(folder.path());
    let segment = std::fs::read_dir(crashed.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let length = segment.metadata().unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(length - 1).unwrap();
    let (reopened, replay) = LocalStore::open(crashed.path(), OPTIONS, NOW).unwrap();
    assert_eq!(replay.bodies, 1);
    assert!(replay.cut_bytes > 0);
    assert_eq!(times(&reopened, "whole").await, [NOW]);
    assert_eq!(times(&reopened, "torn").await, Vec::<i64>::new());
}

#[tokio::test]
async fn a_start_shows_what_memory_would_have_held() {
    let folder = TempDir::new().unwrap();
    let (store, _) = LocalStore::open(folder.path(), OPTIONS, NOW).unwrap();
    store.write(write("old", &[NOW], NOW)).await.unwrap();
    let later = NOW + 3 * HOUR_MS;
    store.write(write("new", &[later], later)).await.unwrap();
    drop(store);
    let copy = copy_of(folder.path());
    let (reopened, _) = LocalStore::open(copy.path(), OPTIONS, later).unwrap();
    assert_eq!(times(&reopened, "old").await, Vec::<i64>::new());
    assert_eq!(times(&reopened, "new").await, [later]);
}

#[tokio::test]
async fn a_full_log_gives_up_its_oldest_part_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let (store, _) = LocalStore::open(folder.path(), OPTIONS, NOW).unwrap();
    // Bodies that do not compress, far over the log's size together.
    for number in 0..12 {
        let mut write = write(&format!("m{number}"), &[NOW], NOW);
        write.body = vec![number; 20 << 20].into();
        store.write(write).await.unwrap();
    }
    let used: u64 =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(used <= OPTIONS.log_bytes_max + 4096, "{used} bytes on disk");
    assert_eq!(times(&store, "m11").await, [NOW]);
}
