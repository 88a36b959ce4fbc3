use super::*;

fn check(change: impl FnOnce(&mut Raw)) -> Result<Config, Invalid> {
    let mut raw = Raw::default();
    change(&mut raw);
    Config::new(raw, Path::new("state"), "pc2")
}

fn refused_key(change: impl FnOnce(&mut Raw)) -> String {
    check(change).unwrap_err().key
}

fn target(job: &str, url: &str, labels: &[(&str, &str)]) -> RawTarget {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    RawTarget { job: job.to_owned(), url: url.to_owned(), labels }
}

#[test]
fn the_defaults_are_valid() {
    let config = check(|_| {}).unwrap();
    assert_eq!(config.hubs.primary.as_str(), "http://127.0.0.1:7076/api/v1/write");
    assert_eq!(config.queue.dir, Path::new("state/metrics-forwarder"));
}

#[test]
fn every_number_out_of_its_range_is_refused_by_its_name() {
    assert_eq!(refused_key(|raw| raw.scrape_interval_ms = 499), "scrape_interval_ms");
    assert_eq!(refused_key(|raw| raw.scrape_interval_ms = 3_600_001), "scrape_interval_ms");
    assert_eq!(refused_key(|raw| raw.scrape_timeout_ms = raw.scrape_interval_ms + 1), "scrape_timeout_ms");
    assert_eq!(refused_key(|raw| raw.scrape_bytes_max = 0), "scrape_bytes_max");
    assert_eq!(refused_key(|raw| raw.scrape_samples_max = 0), "scrape_samples_max");
    assert_eq!(refused_key(|raw| raw.batch.samples_max = 0), "batch.samples_max");
    assert_eq!(refused_key(|raw| raw.batch.bytes_max = usize::MAX), "batch.bytes_max");
    assert_eq!(refused_key(|raw| raw.queue.max_bytes = (16 << 20) - 1), "queue.max_bytes");
    assert_eq!(refused_key(|raw| raw.send.timeout_ms = 0), "send.timeout_ms");
    assert_eq!(refused_key(|raw| raw.send.backoff_ms_first = 0), "send.backoff_ms_first");
    assert_eq!(refused_key(|raw| raw.send.backoff_ms_max = 1), "send.backoff_ms_max");
    assert_eq!(refused_key(|raw| raw.send.failures_before_standby = 0), "send.failures_before_standby");
    assert_eq!(refused_key(|raw| raw.send.primary_probe_ms = 0), "send.primary_probe_ms");
}

#[test]
fn a_queue_outside_the_data_folder_is_refused() {
    for dir in ["", "/tmp", "../x", "a/../../x"] {
        assert_eq!(refused_key(|raw| raw.queue.dir = dir.into()), "queue.dir", "{dir:?}");
    }
}

#[test]
fn an_address_must_be_one_and_holds_no_password() {
    for text in ["", "hub", "ftp://hub/", "file:///etc/passwd", "http://"] {
        assert_eq!(refused_key(|raw| raw.hub_url = text.to_owned()), "hub_url", "{text:?}");
    }
    let error = check(|raw| raw.standby_hub_url = Some("http://me:hunter2@hub/".to_owned())).unwrap_err();
    assert_eq!(error.key, "standby_hub_url");
    assert!(!error.to_string().contains("hunter2"));
}

#[test]
fn a_target_gets_its_identity_from_job_url_and_machine() {
    let config =
        check(|raw| raw.targets = vec![target("pool", "http://localhost/metrics", &[("zone", "a")])]);
    let labels = config.unwrap().targets[0].labels.clone();
    let expected = [("job", "pool"), ("instance", "localhost:80"), ("zone", "a"), ("machine", "pc2")];
    assert_eq!(labels, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn targets_whose_series_would_mix_are_refused() {
    let twice = |labels: &[(&str, &str)]| {
        let first = target("pool", "http://localhost:1/metrics", &[]);
        let second = target("pool", "http://localhost:1/other", labels);
        check(|raw| raw.targets = vec![first, second])
    };
    assert_eq!(twice(&[]).unwrap_err().key, "targets[1].url");
    assert!(twice(&[("part", "2")]).is_ok());
}

#[test]
fn labels_that_cannot_be_or_are_taken_are_refused() {
    for name in ["", "1a", "a-b", "__x", "job", "instance", "ü"] {
        let result = check(|raw| raw.targets = vec![target("pool", "http://localhost/", &[(name, "v")])]);
        assert_eq!(result.unwrap_err().key, format!("targets[0].labels.{name}"));
    }
    let empty = check(|raw| raw.targets = vec![target("pool", "http://localhost/", &[("a", "")])]);
    assert_eq!(empty.unwrap_err().key, "targets[0].labels.a");
    let nameless = check(|raw| raw.targets = vec![target("", "http://localhost/", &[])]);
    assert_eq!(nameless.unwrap_err().key, "targets[0].job");
}
